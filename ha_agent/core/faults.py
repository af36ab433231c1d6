"""The one catalogue of faults: what each code means on every face that utters it, and what it was called before. Pure.

The screen, the checks before a switchover, ``doctor``, ``lint``, alerts and the history have the same code for a fault.
A new fault gets its row here first; a test looks that no face utters a code that is missing. What the history tells besides
faults is in ``core/history_codes.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from ha_agent.core.supervisor_words import State
from ha_agent.core.words import OWNING_ROLES


class Urgency(StrEnum):
    """How urgently somebody must act; ``severity`` of an alert."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


NO_ACTION = "no action needed"
"""The remedy of what calls for none."""

RANK = {Urgency.INFO: 0, Urgency.WARNING: 1, Urgency.CRITICAL: 2}


class Face(StrEnum):
    """Where codes are uttered."""

    SCREEN = "screen"
    PRECHECK = "precheck"
    DOCTOR = "doctor"
    LINT = "lint"
    HISTORY = "history"


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of fault. ``urgency``: as an alert, None where it is none.

    ``former``: what faces called it up to version 0.1. Some of those words stood for several faults.
    """

    code: str
    title: str
    remedy: str
    urgency: Urgency | None = None
    former: tuple[tuple[Face, str], ...] = ()


_ALERTS: tuple[Fault, ...] = (
    Fault(
        "program-exited",
        "a program ended unexpectedly and was not started again",
        "read its log; then: supzcli start NAME",
        Urgency.CRITICAL,
        ((Face.SCREEN, "program-failed"),),
    ),
    Fault(
        "program-restarted",
        "a program ended unexpectedly and was started again",
        "read its log; a program that should end by itself names its exit status in exitcodes",
        Urgency.WARNING,
    ),
    Fault(
        "program-fatal",
        "a program cannot be started any more: supervisord has given it up",
        "read its log and `supzcli status`; fix it, then: supzcli start NAME",
        Urgency.CRITICAL,
        ((Face.SCREEN, "program-failed"),),
    ),
    Fault(
        "program-looping",
        "a program ends and is started again and again",
        "read its log; stop it with: supzcli stop NAME",
        Urgency.CRITICAL,
    ),
    Fault(
        "program-memory",
        "a program uses more memory than alerts.memory_limits allows",
        "look for a leak; restart it at a quiet time: supzcli restart NAME",
        Urgency.WARNING,
    ),
    Fault(
        "events-lost",
        "supervisord threw events away before they were taken; every program was looked at instead",
        "raise buffer_size of [eventlistener:ha-agent-listener]; look why the machine was starved",
        Urgency.WARNING,
    ),
    Fault(
        "listener-silent",
        "the event listener does not report: ends of programs that were started again are not seen",
        "supervisorctl status ha-agent-listener; its conf belongs to /etc/supervisor/local.d/",
        Urgency.WARNING,
        ((Face.DOCTOR, "listener"),),
    ),
    Fault(
        "role-active",
        "this node has taken over",
        "ha-agent history shows the steps; after a failover find out what happened to the other node",
        Urgency.WARNING,
    ),
    Fault(
        "check-failed",
        "a health check of the active node fails",
        "look at the service; ha-agent checks says what was seen, and why nothing was done where nothing was",
        Urgency.CRITICAL,
    ),
    Fault(
        "check-restart",
        "a program was restarted because a health check fails",
        "read the program's log; ha-agent checks",
        Urgency.WARNING,
    ),
    Fault(
        "check-moves",
        "the active node hands over because a health check fails there",
        "look at the service on the node that gave it up, before it is needed there; ha-agent history",
        Urgency.CRITICAL,
    ),
    Fault(
        "vote-missing",
        "a node with a witness lacks one of the three votes: the loss of another one stops the programs",
        "bring the witness, or the other node, back; ha-agent witness test says what it answers",
        Urgency.WARNING,
    ),
    Fault(
        "keeper-down",
        "the keeper of the votes' deadline cannot be had: with witness.required nothing is started",
        "systemctl enable --now ha-agent-keeper; journalctl -u ha-agent-keeper",
        Urgency.CRITICAL,
    ),
    Fault("role-standby", "this node has released and is standby", NO_ACTION, Urgency.INFO),
    Fault(
        "no-active-node",
        "neither node is active: no program of the registry runs",
        "ha-agent status on both nodes; systemctl status keepalived",
        Urgency.CRITICAL,
        ((Face.SCREEN, "no-active"), (Face.PRECHECK, "role")),
    ),
    Fault(
        "split-brain",
        "both nodes are active: programs may run twice",
        "stop keepalived on one of them; then look at the network between the two",
        Urgency.CRITICAL,
        ((Face.PRECHECK, "role"),),
    ),
    Fault(
        "no-service",
        "the VIP is on one node and the programs on the other: no client is served",
        "ha-agent status on both nodes; maintenance off where it is on; ha-agent switchover",
        Urgency.CRITICAL,
    ),
    Fault(
        "may-run-twice",
        "the nodes cannot reach each other, and both may run the programs",
        "bring the network between them back: one of them then stops its programs by itself; ha-agent status there",
    ),
    Fault(
        "ran-twice",
        "both nodes ran the programs at the same time, while they could not reach each other",
        "compare what the programs did; ha-agent kept list --divergences; ha-agent history",
        Urgency.CRITICAL,
    ),
    Fault(
        "standby-unfit",
        "the standby could not take over: a failover would fail",
        "ha-agent doctor on the standby; the reasons name what to do",
        Urgency.CRITICAL,
    ),
    Fault(
        "config-differs",
        "settings differ that must be the same on both nodes: no failover works",
        "make agent.toml the same there; ha-agent keepalived write; reload keepalived, restart ha-agent",
        Urgency.CRITICAL,
    ),
    Fault(
        "config-uneven",
        "settings differ that should be the same on both nodes",
        "make agent.toml the same on both nodes, and restart ha-agent there",
        Urgency.WARNING,
    ),
    Fault(
        "vip-on-both",
        "the VIP is on both nodes: clients may reach the wrong one",
        "take it off the standby: ip addr del; the agent there does so after 5 s, unless maintenance is on",
        Urgency.CRITICAL,
    ),
    Fault(
        "vip-on-neither",
        "the VIP is on neither node: no client reaches the pair",
        "journalctl -u keepalived on both nodes; ha-agent status",
        Urgency.CRITICAL,
    ),
    Fault(
        "vip-partly",
        "the active node lacks one of several VIPs: no client reaches the pair there",
        "journalctl -u keepalived says why; ha-agent switchover moves all of them, where the other node can have it",
        Urgency.CRITICAL,
    ),
    Fault(
        "path-down",
        "one of several paths between the nodes is cut: one more parts them",
        "look at the cable, the switch and the interface of that network; ha-agent doctor tries each path",
        Urgency.WARNING,
    ),
    Fault(
        "fenced",
        "processes of the registry cannot be ended here, so the other node must not start them",
        "end them by hand (they are named in ha-agent status), or reboot this node",
        Urgency.CRITICAL,
        ((Face.PRECHECK, "role"), (Face.HISTORY, "left-running")),
    ),
    Fault(
        "peer-lost",
        "the other node does not answer: a failover now would find nobody, or run twice",
        "look at the other machine and at the network; ha-agent doctor --peer",
        Urgency.CRITICAL,
        ((Face.SCREEN, "unreachable"), (Face.PRECHECK, "unreachable"), (Face.DOCTOR, "peer-unreachable")),
    ),
    Fault(
        "replication-lag",
        "changes of the registry have been waiting for the other node",
        "ha-agent status; ha-agent doctor",
        Urgency.WARNING,
        ((Face.PRECHECK, "not-in-sync"),),
    ),
    Fault(
        "replication-refused",
        "the other node refuses changes of the registry",
        "the reason says which; ha-agent status and ha-agent doctor on both nodes",
        Urgency.CRITICAL,
        ((Face.SCREEN, "replication"), (Face.PRECHECK, "not-in-sync"), (Face.HISTORY, "push-refused")),
    ),
    Fault(
        "registry-held",
        "deletions of most of the registry are held back",
        "put the confs back, or confirm: ha-agent sync --accept-deletes",
        Urgency.CRITICAL,
        ((Face.SCREEN, "replication"), (Face.PRECHECK, "not-in-sync")),
    ),
    Fault(
        "payload-lag",
        "files of programs have been waiting for the other node: a failover would start what it has of them",
        "ha-agent payload says how far it is; supzcli push DIR copies now",
        Urgency.WARNING,
    ),
    Fault(
        "payload-held",
        "files of programs are not copied to the other node",
        "the reason says why; ha-agent payload on both nodes (docs/payload.md)",
        Urgency.WARNING,
    ),
    Fault(
        "registry-unavailable",
        "the registry cannot be read",
        "look at the directory: is it mounted, readable, the one that it was?",
        Urgency.CRITICAL,
        ((Face.SCREEN, "registry"), (Face.DOCTOR, "registry")),
    ),
    Fault(
        "divergence-kept",
        "contents that the nodes had never agreed on were replaced; they are kept",
        "ha-agent kept list --divergences, then ha-agent kept diff or restore",
        Urgency.WARNING,
    ),
    Fault(
        "standby-edit",
        "the registry was changed on the standby: that does not travel",
        "make the change on the active node; ha-agent diff shows it",
        Urgency.WARNING,
        ((Face.SCREEN, "local-changes"), (Face.PRECHECK, "local-changes")),
    ),
    Fault(
        "conf-not-loadable",
        "a conf cannot be loaded on the active node; its last good content runs, or nothing",
        "ha-agent lint --registry; fix the conf",
        Urgency.CRITICAL,
        (
            (Face.SCREEN, "not-loadable"),
            (Face.PRECHECK, "not-loadable"),
            (Face.DOCTOR, "conf-not-ready"),
            (Face.LINT, "not-loadable"),
        ),
    ),
    Fault(
        "standby-not-ready",
        "the standby could not run a conf after a failover",
        "ha-agent status names what is missing on the standby",
        Urgency.WARNING,
        (
            (Face.SCREEN, "not-ready"),
            (Face.SCREEN, "not-loadable"),
            (Face.PRECHECK, "not-ready"),
            (Face.DOCTOR, "conf-not-ready"),
        ),
    ),
    Fault(
        "supervisord-down",
        "supervisord does not run on this node",
        "systemctl status supervisor; its log is /var/log/supervisor/supervisord.log",
        Urgency.CRITICAL,
        ((Face.SCREEN, "part-down"), (Face.PRECHECK, "supervisord"), (Face.HISTORY, "supervisord-gone")),
    ),
    Fault(
        "keepalived-down",
        "keepalived does not run on this node: it cannot become active",
        "systemctl status keepalived",
        Urgency.CRITICAL,
        ((Face.SCREEN, "part-down"), (Face.PRECHECK, "keepalived"), (Face.HISTORY, "keepalived-gone")),
    ),
    Fault(
        "registry-found",
        "something of the registry ran on the standby; the node ends it",
        "ha-agent history says what, and on both nodes whether it ran twice",
        Urgency.CRITICAL,
    ),
    Fault(
        "program-adrift",
        "processes run that belong to no program any more: a restart of the program does not end them",
        "supzcli restart NAME ends what is left of NAME; what no program is named of: kill it by its pid",
        Urgency.WARNING,
    ),
    Fault(
        "takeover-held",
        "nothing is started: the other node has not given its word, and takeover.on_interlock_timeout says to hold",
        "bring the other node or the link to it back, it gives its word by itself; where its machine is off and stays so: "
        "ha-agent takeover --peer-is-off; a fence_command in [takeover] makes a start safe without either",
        Urgency.CRITICAL,
    ),
    Fault(
        "plan-failed",
        "a takeover or release could not be finished and is tried again",
        "ha-agent history says which step, and why",
        Urgency.CRITICAL,
    ),
    Fault(
        "order-unmet",
        "a program is not started, because what it waits for did not come",
        "see why that did not come (its log, ha-agent history); then: supzcli start NAME",
        Urgency.CRITICAL,
    ),
    Fault(
        "payload-differs",
        "the standby would not start the programs that run here: a file or user that they need is not the same there",
        "make them the same on both nodes; payload.ignore names what differs on purpose (docs/payload.md)",
        Urgency.WARNING,
    ),
    Fault(
        "wait-timed-out",
        "what a program waits for did not come in time",
        "see why it did not come; docs/order.md says what is done then, and how long is waited",
        Urgency.WARNING,
    ),
    Fault(
        "start-refused",
        "supervisord refused a program when its turn in the order came",
        "see supervisord's log for the reason; then: supzcli start NAME",
        Urgency.CRITICAL,
    ),
    Fault(
        "notes-failing",
        "the agent cannot keep its notes below its run directory: this node could not take over",
        "the text names the file and the reason; make room on /run, or put away what is in its place",
        Urgency.CRITICAL,
    ),
    Fault(
        "run-full",
        "the file system of the run directory has hardly any room left: no takeover could be finished without",
        "find out with du -x /run what fills it, and remove that",
        Urgency.WARNING,
    ),
    Fault(
        "stalled",
        "the agent did nothing for a while: the machine was frozen or starved",
        "look at the host of a virtual machine, at memory and at disks",
        Urgency.WARNING,
    ),
    Fault("drill-report", "a failover-test has ended", "ha-agent failover-test --list", Urgency.INFO),
    Fault("switchover", "an operator has asked for a switchover", NO_ACTION, Urgency.INFO),
    Fault(
        "standby-ordered",
        "a node is to stay standby by an operator's order: it takes over nothing, also when the other one fails",
        "ha-agent unstandby NODE when the reason for it is gone",
        Urgency.WARNING,
    ),
    Fault("standby-lifted", "a node may take over again", NO_ACTION, Urgency.INFO),
    Fault(
        "maintenance-on",
        "maintenance: nothing is decided, started or stopped until its end",
        "ha-agent maintenance off ends it early",
        Urgency.INFO,
        ((Face.SCREEN, "maintenance"), (Face.PRECHECK, "maintenance"), (Face.DOCTOR, "maintenance")),
    ),
    Fault("maintenance-off", "maintenance is over", NO_ACTION, Urgency.INFO),
    Fault(
        "sink-failing",
        "alerts cannot be delivered to a sink",
        "ha-agent alert test; the reason is in ha-agent alert list",
        Urgency.WARNING,
    ),
    Fault("alert-test", "a test of the way that alerts take", NO_ACTION, Urgency.INFO),
)
"""What is an alert, faults and news alike. ``core/alert_codes.py`` says when each is told."""

_FINDINGS: tuple[Fault, ...] = (
    Fault(
        "program-failed",
        "a program does not come up, or supervisord has lost sight of it",
        "read its log and `supzcli status`",
    ),
    Fault(
        "program-stopped",
        "a program is stopped but registered: the next failover would start it",
        "supzcli stop NAME keeps it stopped",
    ),
    Fault("unfit", "keepalived is told that this node must not be MASTER", "the reason says why; ha-agent history"),
    Fault(
        "vip-lost",
        "keepalived says MASTER, and the VIP is not on the node",
        "journalctl -u keepalived; who takes the address off?",
        former=((Face.HISTORY, "vip-gone"),),
    ),
    Fault("drill", "a failover-test is under way", "ha-agent failover-test --list shows its report"),
    Fault("vrrp-state", "keepalived's word does not fit the role", "journalctl -u keepalived"),
    Fault(
        "role-changing",
        "a takeover or release is under way",
        "wait until it has settled: ha-agent status --watch",
        former=((Face.PRECHECK, "role"),),
    ),
    Fault(
        "preempt", "the standby's higher priority would take the VIP back at once", "set vrrp.nopreempt = true on both nodes"
    ),
    Fault(
        "conf-not-startable",
        "a program of the active node could not be started again: something that it needs is missing",
        "install what is missing, or park the conf",
        former=((Face.SCREEN, "not-ready"), (Face.DOCTOR, "conf-not-ready")),
    ),
    Fault(
        "conf-refused",
        "a file of the registry is not replicated",
        "replace it by a plain file of root's that nobody else may write",
        former=((Face.SCREEN, "not-replicated"),),
    ),
    Fault("not-checked", "confs could not be checked by supervisord's parser", "ha-agent doctor"),
    Fault("agent-down", "the agent of this node does not answer", "systemctl start ha-agent"),
    Fault("supervisord-hung", "supervisord runs and does not answer", "systemctl restart supervisor"),
    Fault(
        "check-broken",
        "a check of doctor could not be made",
        "this is a defect of ha-agent; please report it",
    ),
    Fault("check-missing", "the command of a health check cannot be run", "install it, with the right to be executed"),
    Fault("check-unsafe", "the command of a health check can be changed by others than root", "chown root:, chmod go-w"),
    Fault("check-program", "a health check looks at a program that the registry does not have", "correct its name"),
    Fault(
        "cut-off",
        "not all of the addresses of takeover.require_any answer: without the peer's word a node may start nothing",
        "look at the network of this node; or correct takeover.require_any",
    ),
    Fault("hook-missing", "the command of a hook cannot be run", "install it, with the right to be executed"),
    Fault("hook-unsafe", "the command of a hook can be changed by others than root", "chown root:, chmod go-w"),
    Fault("hook-unready", "a hook says that it could not do its work", "put right what it names"),
    Fault(
        "hook-slow",
        "the hooks of a release may take longer than a takeover of the other node waits",
        "lower timeout_s of the hooks, or raise takeover.interlock_timeout_s on both nodes",
    ),
    Fault("config", "the configuration cannot be used", "ha-agent config check"),
    Fault("peer-not-examined", "the peer could not be examined", "run ha-agent doctor there"),
    Fault("witness-on-node", "the witness is on a machine of the pair", "put it on a third machine"),
    Fault("witness-silent", "the witness does not answer this node", "ha-agent witness test"),
    Fault("witness-slow", "the witness answers hardly in time", "a faster witness, or a longer answer_s and ttl_s"),
    Fault(
        "witness-same-way",
        "the witness and the peer are reached over one gateway: with it go two votes at once",
        "another way to the witness",
    ),
    Fault("keeper-unarmed", "programs run by votes, and the keeper is not armed", "journalctl -u ha-agent-keeper"),
    Fault(
        "keeper-soft",
        "the keeper of the votes' deadline is not locked in memory, or not real-time",
        "install the unit of the package",
    ),
    Fault("clock-rate", "the nodes' clocks do not run at one rate", "look at chronyc tracking and the clock source"),
    Fault(
        "votes-kill",
        "programs would be killed sooner than their stopwaitsecs says where two votes are lost at once",
        "raise witness.ttl_s on both nodes",
    ),
    Fault("keeper-optional", "programs may run without the keeper of their votes' deadline", "set witness.required"),
    Fault("program-missing", "an outer program that the agent needs is not installed", "install its package"),
    Fault(
        "directory-missing",
        "a directory of the agent or the registry is not there",
        "start the agent, which makes its own; or check [paths]",
    ),
    Fault("disk-inodes", "a file system has hardly an inode left", "remove files on it"),
    Fault("disk-space", "a file system has hardly any room left", "make room on it"),
    Fault("state-mode", "the agent's state can be read by others than root", "chmod 700"),
    Fault("secret-mode", "a secret can be read by others than root", "url_file and secret_file, chmod 600"),
    Fault(
        "sink-login",
        "a mail server would get the password without TLS, so it gets none",
        "starttls, port 465, or plain_login",
    ),
    Fault("config-mode", "the configuration can be changed by others than root", "chown root, chmod go-w"),
    Fault("inotify", "the kernel's limits on inotify are too low", "raise them in /etc/sysctl.d"),
    Fault("clock-sync", "this node's clock is not synchronised", "install systemd-timesyncd or chrony"),
    Fault("clock-offset", "the two nodes' clocks differ", "look at timedatectl on both"),
    Fault("version-running", "another version runs than is installed", "systemctl restart ha-agent"),
    Fault("version-differs", "the two nodes run different versions of ha-agent", "finish the upgrade on the older one"),
    Fault("priority-equal", "both nodes have the same VRRP priority", "give them different ones"),
    Fault("unit-disabled", "a unit is not started at boot", "systemctl enable"),
    Fault("unit-fence", "an agent that cannot be started would leave the node active", "install the units of the package"),
    Fault(
        "keepalived-conf",
        "keepalived's configuration cannot be read, or keepalived refuses it",
        "ha-agent keepalived write",
    ),
    Fault("keepalived-missing", "keepalived is not installed", "apt install keepalived"),
    Fault("keepalived-instance", "keepalived's configuration lacks the pair's instance", "ha-agent keepalived write"),
    Fault("keepalived-differs", "keepalived's configuration does not fit agent.toml", "ha-agent keepalived write"),
    Fault(
        "vip-prefix",
        "the removal of the VIP may take the node's own address along",
        "ha-agent keepalived write, on each node while it is the standby",
    ),
    Fault(
        "path-adverts",
        "keepalived sends adverts over one path alone: when that is cut, the standby's says MASTER, too",
        "ha-agent keepalived write, on each node",
    ),
    Fault(
        "path-end",
        "this node's end of a path is not where agent.toml says",
        "correct node.addresses and vrrp.path_interfaces",
    ),
    Fault(
        "vip-unnamed",
        "keepalived's instance has addresses that agent.toml does not name: nobody says when one of them is missing",
        "name all of them in vrrp.vips",
    ),
    Fault(
        "vip-copy",
        "the VIP is here with another prefix length, too, which keepalived does not take off at a role change",
        "take it out of the system's network configuration; then ha-agent switchover, behind which the agent takes it off",
    ),
    Fault("advert-int", "the two nodes' advert_int differ, or a short one is cut off", "ha-agent keepalived write"),
    Fault("nopreempt-state", "nopreempt needs state BACKUP", "ha-agent keepalived write"),
    Fault("nopreempt-weight", "a weight makes nopreempt void", "ha-agent keepalived write"),
    Fault("hook-not-wired", "keepalived does not call the agent's hook", "ha-agent keepalived write"),
    Fault("hook-unsafe", "the hook can be changed by others than root", "chown root, chmod go-w"),
    Fault("hook-differs", "the hook is not the one of this package", "install the package again"),
    Fault("script-user", "keepalived runs the hook as a user that cannot write the spool", "ha-agent keepalived write"),
    Fault("track-file", "keepalived does not track the agent's file", "ha-agent keepalived write"),
    Fault("supervisor-conf", "supervisord's main conf cannot be read", "set supervisor.config, or run doctor as root"),
    Fault("include-active", "supervisord does not include the active set", "the finding says the line"),
    Fault("include-registry", "supervisord includes the registry itself", "the finding says the line"),
    Fault(
        "inline-programs",
        "programs in supervisord's main conf itself run whatever the node's role, and no failover takes them along",
        "move them to a conf of the registry, or to /etc/supervisor/local.d if they are meant to run on both nodes",
    ),
    Fault("xmlrpc-open", "supervisord can be controlled over the network", "remove [inet_http_server], or protect it"),
    Fault(
        "supervisor-socket",
        "supervisord's socket is open to others, or agent.toml names another",
        "chmod=0700 in [unix_http_server]",
    ),
    Fault("supervisor-unit", "supervisord's unit is not known to systemd", "install supervisor"),
    Fault(
        "supervisor-killmode",
        "systemd would end the programs with supervisord, or leave them",
        "install the drop-in of the package",
    ),
    Fault("supervisor-restart", "systemd does not start supervisord again", "install the drop-in of the package"),
    Fault("ssh-key", "this node's private key is missing, or cannot be read", "ha-agent setup"),
    Fault("ssh-key-mode", "this node's private key can be read by others", "chmod 600"),
    Fault("host-key", "the peer's host key is missing, or another one", "ha-agent setup"),
    Fault("shell-noise", "the peer's shell prints something at login", "remove it for non-interactive logins"),
    Fault("peer-config", "the peer's configuration cannot be used", "ha-agent config check there"),
    Fault("ssh-unrestricted", "this node's key gives a shell on the peer", "ha-agent setup"),
    Fault("ssh-denied", "the peer's sshd refuses this node's key", "ha-agent setup"),
    Fault("ssh-failed", "the peer's sshd cannot be reached", "look at the network and at sshd there"),
    Fault(
        "sshd-root",
        "sshd keeps the peer's agent out, or lets root in with a password",
        "PermitRootLogin forced-commands-only",
    ),
    Fault("duplicate-program", "two confs define one program", "rename one of them"),
    Fault("copied", "a copied conf still has the other's section", "rename the section"),
    Fault(
        "foreign-section",
        "a section does not belong in a conf of the registry",
        "move it to supervisord's main conf or to local.d",
    ),
    Fault("unknown-section", "a section means nothing to supervisord", "remove it"),
    Fault("unknown-option", "an option means nothing to supervisord", "remove it"),
    Fault("wrong-type", "an option's value is not of its type", "the finding says what is allowed"),
    Fault("name-differs", "a file is not called as its program", "rename one of them"),
    Fault("no-command", "a program has no command", "add one"),
    Fault("bad-command", "a command cannot be read", "fix the quotes"),
    Fault("daemonises", "a program leaves the foreground", "run it in the foreground"),
    Fault("pidproxy-restarts", "pidproxy may start a second daemon", "drop pidproxy, or autorestart=false"),
    Fault("pidproxy-autostart", "pidproxy may start a daemon beside one of before", "drop pidproxy"),
    Fault("pidproxy-file", "pidproxy is not told a pid file and a program", "pidproxy /path/of/pid-file /path/of/program"),
    Fault("shell-wrapper", "a stop would end the shell alone", "stopasgroup=true and killasgroup=true"),
    Fault(
        "no-process-num",
        "several processes of a program would have one name",
        "process_name=%(program_name)s_%(process_num)02d",
    ),
    Fault("shared-log", "several processes write one log", "put %(process_num)d into its name"),
    Fault("log-unlimited", "a log grows without a limit", "name a size"),
    Fault("log-device", "a log is a device that cannot be opened under systemd", "name a file, or syslog"),
    Fault("ignored-log", "stderr_logfile is ignored beside redirect_stderr=true", "remove one of the two"),
    Fault(
        "one-log-for-both",
        "standard output and errors of a program rotate one file under each other",
        "redirect_stderr=true in place of stderr_logfile",
    ),
    Fault("relative-path", "a path depends on where supervisord was started", "write the whole path"),
    Fault("option-twice", "an option stands twice in a section, and the last one counts", "remove one of them"),
    Fault("shell-syntax", "a command has words that only a shell understands", "bash -c 'exec ...'"),
    Fault("killasgroup-alone", "a stop is told to the program alone, not to what it started", "stopasgroup=true"),
    Fault("stop-kills", "a program is killed at every stop, and cannot end cleanly", "stopsignal=TERM"),
    Fault(
        "stop-too-long",
        "a program may take longer to stop than a release or the other node's takeover waits",
        "lower stopwaitsecs, or raise release.stop_timeout_s and takeover.interlock_timeout_s on both nodes",
    ),
    Fault("not-started", "a program says autostart=false: no failover starts it", "autostart=true, where that is not meant"),
    Fault("unknown-member", "a group has a program that no conf defines", "correct the name"),
    Fault(
        "bad-order-key",
        "a line of ha-agent: in a conf says nothing that it understands",
        "; ha-agent: after=NAME, wait_s= or on_timeout=, in a program's or a group's section (docs/order.md); files= "
        "(docs/payload.md)",
    ),
    Fault(
        "bad-files",
        "files= in a conf names what cannot be a file of a program",
        "; ha-agent: files=/absolute/path, in a program's section (docs/payload.md)",
    ),
    Fault("bad-order-address", "an address in after= cannot be waited for", "tcp://ADDRESS:PORT, without a name"),
    Fault("unknown-in-order", "after= has a name that no conf defines", "correct the name, or add the conf"),
    Fault("order-circle", "programs would wait for each other", "take one after= of the circle away"),
    Fault("no-node", "confs were checked as those of other machines: there is no agent.toml", "ha-agent lint on a node"),
    Fault("missing-user", "the user of a program does not exist", "create the user"),
    Fault("missing-log-directory", "the directory of a log does not exist", "create the directory"),
    Fault("missing-directory", "the directory of a program does not exist", "create the directory"),
    Fault("missing-binary", "the command of a program does not exist", "install it"),
    Fault("payload-path", "a path of the payload cannot be replicated as it is", "correct [payload], or what lies there"),
)
"""What is found and shown, and no alert."""

FAULTS: Mapping[str, Fault] = {fault.code: fault for fault in (*_ALERTS, *_FINDINGS)}

WELL: frozenset[str] = frozenset(
    {
        "agreement",
        "pair",
        "clock-offset",
        "confs",
        "health-checks",
        "disk",
        "hooks",
        "include",
        "inline-programs",
        "inotify",
        "keepalived-conf",
        "keepalived-running",
        "link",
        "listener",
        "notes",
        "permissions",
        "sinks",
        "program-names",
        "programs",
        "require-any",
        "role-hooks",
        "ssh-files",
        "ssh-forced",
        "sshd",
        "stop-times",
        "supervisor-socket",
        "paths",
        "payload-paths",
        "payload",
        "supervisor-unit",
        "supervisord-up",
        "takeover-policy",
        "track-file",
        "units",
        "versions",
        "vip",
        "vrrp-options",
        "witness",
        "witness-answers",
        "witness-way",
        "keeper",
        "clock-rate",
        "votes-kill",
        "xmlrpc-closed",
    }
)
"""What ``doctor`` calls its checks where nothing is wrong, or where nothing could be found out."""


PROGRAM_FAULTS: Mapping[str, str] = {State.FATAL: "program-fatal", State.EXITED: "program-exited"}
"""By the state of a program that should run; in any other it is ``program-failed``."""

REPLICATION_FAULTS: Mapping[str, str] = {"held": "registry-held", "refused": "replication-refused"}
"""By the state of an active node's replication."""


def code_of_conf(role: str, *, is_loadable: bool) -> str:
    """The fault of a conf that a node in ``role`` cannot load, or whose programs it cannot start."""
    if role not in OWNING_ROLES:
        return "standby-not-ready"
    return "conf-not-startable" if is_loadable else "conf-not-loadable"


def former_code(code: str, face: Face) -> str | None:
    """What ``face`` called ``code`` before all faces had one word for it; None where it is still that word.

    Documents carry it as ``alias`` until the next minor version.
    """
    fault = FAULTS.get(code)
    return next((word for where, word in fault.former if where is face), None) if fault is not None else None
