# Completion of supzcli for fish: actions, options, and the names that the agent knows.
function __supzcli_names
    supzcli status 2>/dev/null | string replace -r ' .*' ''
end

set -l actions add avail clear deregister fg help maintail new open pid push quit exit register reload remove reread restart \
    shutdown signal start status stop tail update version
complete -c supzcli -f
complete -c supzcli -n __fish_use_subcommand -a "$actions"
complete -c supzcli -n "__fish_seen_subcommand_from help" -a "$actions"
complete -c supzcli -n "__fish_seen_subcommand_from add clear deregister fg pid remove restart signal start status stop tail update" \
    -a "(__supzcli_names)"
complete -c supzcli -n "__fish_seen_subcommand_from start stop" -a all
complete -c supzcli -n "__fish_seen_subcommand_from stop" -l keep -d "do not park"
complete -c supzcli -n "__fish_seen_subcommand_from stop" -l yes -d "do not ask"
complete -c supzcli -n "__fish_seen_subcommand_from start stop deregister" -l file -d "everything in the same conf"
complete -c supzcli -n "__fish_seen_subcommand_from start" -l regroup -d "restart its group if that is needed"
complete -c supzcli -n "__fish_seen_subcommand_from status" -l pair -d "of both nodes"
complete -c supzcli -n "__fish_seen_subcommand_from status" -l json -d "as JSON"
complete -c supzcli -n "__fish_seen_subcommand_from register new push" -a "(__fish_complete_directories)"
complete -c supzcli -n "__fish_seen_subcommand_from register" -l update -d "also where it is registered already"
complete -c supzcli -n "__fish_seen_subcommand_from register" -l no-start -d "register alone"
complete -c supzcli -n "__fish_seen_subcommand_from register new" -l user -x -a "(__fish_complete_users)"
complete -c supzcli -n "__fish_seen_subcommand_from new" -l command -x -d "what starts the program"
complete -c supzcli -n "__fish_seen_subcommand_from new" -l numprocs -x -d "how many of it"
complete -c supzcli -n "__fish_seen_subcommand_from new" -l workdir -x -a "(__fish_complete_directories)"
