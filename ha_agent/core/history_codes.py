"""Every code of the history: what it tells in one line, and whether somebody should look at it. Pure.

An event that tells a fault has that fault's code (``core/faults.py``). A row here is due before the first
``history.add`` with its code; a test looks for both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class EventCode:
    """One kind of event. ``is_alarming``: it goes to the journal as a warning.

    ``former``: what it was called up to version 0.1; ``former_of_role``: what a change of role for that reason was called.
    """

    code: str
    meaning: str
    is_alarming: bool = False
    former: str | None = None
    former_of_role: str | None = None


_EVENTS: tuple[EventCode, ...] = (
    # Why a role changed: the codes of core/rules.py, some of which are events of their own as well.
    EventCode("vrrp-master", "keepalived reports MASTER: a takeover begins"),
    EventCode("votes-lost", "the votes end by which programs run here: they are killed", True),
    EventCode("superseded", "the peer has taken over with a newer epoch"),
    EventCode("interlock-refused", "the peer is active and stays so", True),
    EventCode("hand-over", "an operator asked for a switchover"),
    EventCode("hook-failed", "a hook did not do its work", True),
    EventCode("wait-failed", "a program did not come that another one may not be without, and a standby is fit", True),
    EventCode("check-hand-over", "a health check fails, and this node gives the VIP to a standby that is fit", True),
    EventCode("stays-standby", "an operator ordered this node to stay standby"),
    EventCode("keepalived-down", "keepalived does not run", True, former_of_role="keepalived-gone"),
    EventCode("vrrp-left-master", "keepalived no longer reports MASTER"),
    EventCode("ran-twice", "both nodes were active at the same time, while they could not reach each other", True),
    EventCode("vip-removed", "a VIP that was on the standby beside the active node's was taken off", True),
    EventCode("vip-lost", "keepalived reports MASTER without the VIP", True, former_of_role="vip-gone"),
    EventCode("supervisord-down", "supervisord does not run, or does not answer", True, former_of_role="supervisord-gone"),
    EventCode("registry-runs", "something of the registry runs on a standby, which releases", True),
    EventCode("takeover-done", "every loadable conf is loaded and its programs were started"),
    EventCode("takeover-retry", "a takeover is tried again"),
    EventCode("supervisord-replaced", "supervisord ended: what it left is ended, and all is started again"),
    EventCode("released", "nothing of the registry is running here any more"),
    EventCode("fenced", "processes of the registry could not be ended", True, former_of_role="left-running"),
    EventCode("release-retry", "a release is tried again"),
    EventCode("fenced-retry", "what could not be ended is tried again"),
    # The agent's own life.
    EventCode("agent-started", "the agent was started, by a boot or anew"),
    EventCode("agent-resumed", "an agent that was started again has found the programs of its role"),
    EventCode("state-damaged", "a state file was damaged and was put aside", True),
    EventCode("notes-remade", "notes in /run were gone or changed, and were made again", True),
    EventCode("notes-failing", "notes in /run cannot be kept", True),
    EventCode("look-failed", "a look at the role failed, and is tried again", True),
    EventCode("vrrp-asked", "keepalived's report was missing or did not fit: it was asked", True),
    EventCode("keepalived-reloaded", "keepalived watched another directory than the track file's: it looks anew", True),
    EventCode("keepalived-stopped", "keepalived did not give up MASTER when told to, and was stopped", True),
    EventCode("keepalived-started", "a keepalived that was stopped for that was started again"),
    EventCode("role-damaged", "the file of the role was damaged: the node releases, to be sure", True),
    EventCode("role-lost", "the role in /run was lost while the registry ran here: the node releases, to be sure", True),
    EventCode("part-failed", "a part of the agent on which no role depends failed, and is started again", True),
    EventCode("path-down", "one of several paths to the peer does not answer", True),
    EventCode("path-up", "one of several paths to the peer answers again"),
    EventCode("stalled", "the agent did nothing for a while", True),
    EventCode("vrrp", "keepalived reported another VRRP state"),
    # Takeover and release.
    EventCode("takeover-failed", "a takeover could not be finished", True),
    EventCode("release-failed", "a release could not be finished", True),
    EventCode("takeover-verified", "every program of a takeover runs or has failed"),
    EventCode("order-begun", "programs are started after others: who waits for what"),
    EventCode("wait-timed-out", "what a program waits for did not come in time", True),
    EventCode("start-refused", "supervisord refused a program when its turn in the order came", True),
    EventCode("order-done", "nothing waits any more: how long it took, and by which chain"),
    EventCode("order-broken-off", "programs that waited were not started any more, because the role changed"),
    EventCode("payload-differs", "files that programs need are not the same on both nodes: which, and of which programs"),
    EventCode("payload-equal", "the files that programs need are the same on both nodes again"),
    EventCode("peer-silent", "a takeover waits: the peer's machine answers, its agent does not", True),
    EventCode("interlock-settled", "a takeover had no word of the peer, and what was decided without it"),
    EventCode("reread-refused", "supervisord refused its configuration", True),
    EventCode("supervisord-ended", "a release ended supervisord, which did not answer", True),
    EventCode("epoch-raised", "the peer had claimed the same epoch: this active node has raised its own"),
    EventCode("split-brain", "both nodes are active", True),
    EventCode("peer-declared-off", "an operator said that the other machine is off, for the takeover that waits", True),
    EventCode("peer-not-off", "that word no longer counts: the other node gave a sign of life", True),
    EventCode("hold-notice", 'what "hold" of takeover.on_interlock_timeout means, told once', True),
    EventCode("switchover", "an operator had this node hand over"),
    EventCode("standby-ordered", "an operator ordered the node to take over nothing until told otherwise", True),
    EventCode("standby-lifted", "an operator let the node take over again"),
    EventCode("maintenance-on", "maintenance has begun"),
    EventCode("maintenance-off", "maintenance is over"),
    # The registry and its replication.
    EventCode("registry-held", "deletions are held back until an operator confirms them", True),
    EventCode("deletes-accepted", "an operator confirmed them"),
    EventCode("replication-refused", "the peer refused a change", True, former="push-refused"),
    EventCode("transaction-refused", "this node refused a change of the peer"),
    EventCode("rolled-forward", "a commit that a crash had cut off was finished"),
    EventCode("epoch-doubted", "an epoch that came with the peer's key cannot be and was not believed", True),
    EventCode("divergence-kept", "contents that were never agreed on were replaced, and kept"),
    EventCode("standby-edit", "the registry was changed on the standby", True),
    EventCode("standby-restored", "the registry was changed on the standby: it gets the active node's content again", True),
    EventCode("conf-not-loadable", "a conf cannot be loaded", True),
    EventCode("parked", "a conf was parked"),
    EventCode("unparked", "a parked conf was registered again"),
    EventCode("registered", "a conf was written"),
    EventCode("deregistered", "a conf was removed"),
    EventCode("restored", "a kept copy was put back"),
    EventCode("registry-restored", "an operator had the whole registry become what it was at another time"),
    EventCode("kept-pruned", "kept copies were removed"),
    EventCode("settings-applied", "an operator had agent.toml say what the other node's does, and the agent began again"),
    # Operators' commands on programs.
    EventCode("program-started", "an operator started programs"),
    EventCode("program-stopped", "an operator stopped programs and left them registered"),
    EventCode("program-restarted", "an operator restarted programs"),
    EventCode("updated", "an operator had changed confs loaded"),
    EventCode("supervisor-call", "an operator made a call of supervisord through the guard"),
    EventCode("registry-found", "a look at the processes of a standby has found something of the registry", True),
    EventCode("program-adrift", "processes were found that belong to no program any more", True),
    # Health checks.
    EventCode("check-failed", "a health check fails", True),
    EventCode("check-recovered", "a health check passes again"),
    EventCode("check-restart", "a program is restarted because a health check fails", True),
    EventCode("check-moves", "this node hands over because a health check fails", True),
    EventCode("check-held-back", "a health check fails, and what is to be done about it is not", True),
    # Payload.
    EventCode("payload-sent", "the peer has the files of the payload"),
    EventCode("payload-received", "files of the payload came from the active node"),
    EventCode(
        "payload-held", "files of the payload are not copied: the peer refuses them, or somebody must say a word", True
    ),
    EventCode("payload-refused", "this node did not take files of the payload"),
    EventCode("payload-diverged", "files of the payload that were changed on the standby were replaced, and kept", True),
    EventCode("payload-swept", "unfinished files of a copy of payload were taken away"),
    EventCode("payload-confirmed", "an operator had payload copied in spite of what held it"),
    # failover-test.
    EventCode("drill-fault", "a failover-test made its fault"),
    EventCode("drill-undone", "its fault is over"),
    EventCode("drill-failed", "its fault could not be made, or not be ended"),
    EventCode("drill-abandoned", "its command did not come back"),
    EventCode("drill-report", "its report was stored"),
)

EVENTS: Mapping[str, EventCode] = {event.code: event for event in _EVENTS}

ALARMING = frozenset(event.code for event in _EVENTS if event.is_alarming)
"""Codes of events that somebody should look at."""


def former_event_code(event: Mapping[str, Any]) -> str | None:
    """What ``event`` was called before its fault had one code everywhere; None where it is still called so.

    Documents carry it as ``alias`` until the next minor version.
    """
    known = EVENTS.get(str(event.get("code")))
    if known is None:
        return None
    return known.former_of_role if "from" in event and "to" in event else known.former
