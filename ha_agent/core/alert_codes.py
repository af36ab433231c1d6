"""What alerts are called, how bad each is, when it is told, and what to do about it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Severity(str, Enum):
    """How much of it somebody must do at once."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


RANK = {Severity.INFO: 0, Severity.WARNING: 1, Severity.CRITICAL: 2}


@dataclass(frozen=True, slots=True)
class Code:
    """One kind of alert. ``hold_s``: a condition must last so long before it is told, ``settle_s``: and be gone so long.

    An agent that was started again must have found out within ``settle_s`` whether what it knew of still holds.
    """

    code: str
    severity: Severity
    title: str
    remedy: str
    lasting: bool = True
    hold_s: float = 0.0
    settle_s: float = 5.0


def _codes() -> tuple[Code, ...]:
    info, warning, critical = Severity.INFO, Severity.WARNING, Severity.CRITICAL
    return (
        Code(
            "program-exited",
            critical,
            "a program ended unexpectedly and was not started again",
            "read its log; then: supzcli start NAME",
            settle_s=0.0,
        ),
        Code(
            "program-restarted",
            warning,
            "a program ended unexpectedly and was started again",
            "read its log; a program that should end by itself names its exit status in exitcodes",
            lasting=False,
        ),
        Code(
            "program-fatal",
            critical,
            "a program cannot be started any more: supervisord has given it up",
            "read its log and `supzcli status`; mend it, then: supzcli start NAME",
            settle_s=0.0,
        ),
        Code(
            "program-looping",
            critical,
            "a program ends and is started again and again",
            "read its log; stop it with: supzcli stop NAME",
            settle_s=0.0,
        ),
        Code(
            "program-memory",
            warning,
            "a program uses more memory than alerts.memory_limits allows",
            "look for a leak; restart it at a quiet time: supzcli restart NAME",
            hold_s=5.0,
        ),
        Code(
            "events-lost",
            warning,
            "supervisord threw events away before they were taken; every program was looked at instead",
            "raise buffer_size of [eventlistener:ha-agent-listener]; look why the machine was starved",
            lasting=False,
        ),
        Code(
            "listener-silent",
            warning,
            "the event listener does not report: ends of programs that were started again are not seen",
            "supervisorctl status ha-agent-listener; its conf belongs to /etc/supervisor/local.d/",
            hold_s=30.0,
            settle_s=150.0,
        ),
        Code(
            "role-active",
            warning,
            "this node has taken over",
            "ha-agent history shows the steps; after a failover find out what happened to the other node",
            lasting=False,
        ),
        Code("role-standby", info, "this node has released and is standby", "nothing", lasting=False),
        Code(
            "no-active-node",
            critical,
            "neither node is active: no program of the registry runs",
            "ha-agent status on both nodes; systemctl status keepalived",
            hold_s=15.0,
            settle_s=30.0,
        ),
        Code(
            "split-brain",
            critical,
            "both nodes are active: programs may run twice",
            "stop keepalived on one of them; then look at the network between the two",
            hold_s=2.0,
            settle_s=15.0,
        ),
        Code(
            "fenced",
            critical,
            "processes of the registry cannot be ended here, so the other node must not start them",
            "end them by hand (they are named in ha-agent status), or reboot this node",
            settle_s=15.0,
        ),
        Code(
            "peer-lost",
            critical,
            "the other node does not answer: a failover now would find nobody, or run twice",
            "look at the other machine and at the network; ha-agent doctor --peer",
            hold_s=10.0,
        ),
        Code(
            "replication-lag",
            warning,
            "changes of the registry have been waiting for the other node",
            "ha-agent status; ha-agent doctor",
            settle_s=60.0,
        ),
        Code(
            "replication-refused",
            critical,
            "the other node refuses changes of the registry",
            "the reason says which; ha-agent status and ha-agent doctor on both nodes",
            hold_s=5.0,
        ),
        Code(
            "registry-held",
            critical,
            "deletions of most of the registry are held back",
            "put the confs back, or confirm: ha-agent sync --accept-deletes",
        ),
        Code(
            "registry-unavailable",
            critical,
            "the registry cannot be read",
            "look at the directory: is it mounted, readable, the one that it was?",
            hold_s=5.0,
        ),
        Code(
            "divergence-kept",
            warning,
            "contents that the nodes had never agreed on were replaced; they are kept",
            "ha-agent kept list --divergences, then ha-agent kept diff or restore",
            lasting=False,
        ),
        Code(
            "standby-edit",
            warning,
            "the registry was changed on the standby: that does not travel",
            "make the change on the active node; ha-agent diff shows it",
            hold_s=5.0,
        ),
        Code(
            "conf-not-loadable",
            critical,
            "a conf cannot be loaded on the active node; its last good content runs, or nothing",
            "ha-agent lint --registry; mend the conf",
            hold_s=5.0,
        ),
        Code(
            "standby-not-ready",
            warning,
            "the standby could not run a conf after a failover",
            "ha-agent status names what is missing on the standby",
            hold_s=5.0,
        ),
        Code(
            "supervisord-down",
            critical,
            "supervisord does not run on this node",
            "systemctl status supervisor; its log is /var/log/supervisor/supervisord.log",
            hold_s=5.0,
        ),
        Code(
            "keepalived-down",
            critical,
            "keepalived does not run on this node: it cannot become active",
            "systemctl status keepalived",
            hold_s=10.0,
        ),
        Code(
            "plan-failed",
            critical,
            "a takeover or release could not be finished and is tried again",
            "ha-agent history says which step, and why",
            hold_s=3.0,
            settle_s=10.0,
        ),
        Code(
            "stalled",
            warning,
            "the agent did nothing for a while: the machine was frozen or starved",
            "look at the host of a virtual machine, at memory and at disks",
            lasting=False,
        ),
        Code("drill-report", info, "a failover-test has ended", "ha-agent failover-test --list", lasting=False),
        Code("switchover", info, "an operator has asked for a switchover", "nothing", lasting=False),
        Code(
            "maintenance-on",
            info,
            "maintenance: nothing is decided, started or stopped until its end",
            "ha-agent maintenance off ends it early",
            lasting=False,
        ),
        Code("maintenance-off", info, "maintenance is over", "nothing", lasting=False),
        Code(
            "sink-failing",
            warning,
            "alerts cannot be delivered to a sink",
            "ha-agent alert test; the reason is in ha-agent alert list",
            hold_s=60.0,
        ),
        Code("alert-test", info, "somebody tries whether alerts arrive", "nothing", lasting=False),
    )


CODES: Mapping[str, Code] = {code.code: code for code in _codes()}
