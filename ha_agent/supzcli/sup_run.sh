#!/bin/sh
# sup_run.sh: runs the program of this folder on the pair. Its name is the folder's, how it runs stands in program.ini.
# Made by: supzcli new. The same in every folder; there is nothing to edit here.

usage() {
    cat <<EOF
usage: ./sup_run.sh start|stop|restart|update|status|help

  start    register the program on both nodes if it is not, and start it on this one, the active
  stop     stop it and park its conf: no failover starts it again
  restart  stop and start it, as after a new release: ln -sfn v2 current && ./sup_run.sh restart
  update   read program.ini again; restarts the program only if that changed something
  status   what it does

The program of this folder is called $name.
EOF
}

here=$(CDPATH='' cd -P -- "$(dirname -- "$0")" && pwd) || exit 1
name=${here##*/}

if [ $# -ne 1 ]; then
    usage >&2
    exit 2
fi
case $1 in
start) exec supzcli register "$here" ;;
stop) exec supzcli stop "$name" ;;
restart) exec supzcli restart "$name" ;;
update) exec supzcli register --update "$here" ;;
status) exec supzcli status "$name" ;;
help | -h | --help) usage ;;
*)
    usage >&2
    exit 2
    ;;
esac
