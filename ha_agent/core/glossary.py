"""Every word that the program prints, explained: for ``ha-agent explain``, and for the glossary of docs/operations.md.

Faults and events are explained by their own catalogues (``core/faults.py``, ``core/history_codes.py``); everything else is
here. A test looks that no role, state, outcome or step is missing. Pure.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from ha_agent.core.alert_codes import CODES
from ha_agent.core.faults import FAULTS, NO_ACTION, WELL, Fault
from ha_agent.core.history_codes import EVENTS
from ha_agent.core.settings import NAMED_SECTIONS, SECTIONS
from ha_agent.core.supervisor_words import PARKED_STATE, WAITING_STATE, State
from ha_agent.core.words import Answer, CommandOutcome, Exit, Outcome, Role, Step, VrrpState


class Kind(StrEnum):
    """What a word is."""

    TERM = "term"
    ROLE = "role of a node"
    VRRP = "VRRP state of keepalived"
    REPLICATION = "state of replication"
    PROGRAM = "state of a program"
    STEP = "step of a takeover or release"
    OUTCOME = "outcome"
    ANSWER = "answer of a peer to a change"
    FAULT = "fault"
    EVENT = "event of the history"
    CHECK = "check of doctor"
    SETTING = "key of agent.toml"
    STATUS = "exit status"


@dataclass(frozen=True, slots=True)
class Explanation:
    """What one word means. ``remedy``: what to do, where there is something; ``former``: what it was called before."""

    word: str
    kind: Kind
    text: str
    remedy: str | None = None
    former: tuple[str, ...] = ()


TERMS: Mapping[str, str] = {
    "active set": "what supervisord includes of the registry: for each loadable conf its last content that was checked on "
    "this node (/run/ha-agent/active). It is empty on a standby, and after a boot",
    "conf": "a file of the registry that defines programs: NAME.conf or NAME.ini",
    "divergence": "a content of a conf that was replaced and that the two nodes had never agreed on: an edit on a standby, "
    "or one that a crash cut off. It is kept: ha-agent kept list --divergences",
    "drill": "a failover-test: a fault made on purpose, watched, and reported against the objectives",
    "epoch": "a number that every takeover raises. Of two nodes the one with the newer epoch has the pair's confs; the "
    "generation counts changes within an epoch",
    "claimed by": "which node took over last, and so gave the epoch its number",
    "fence": "making sure that the other machine is off, or can do nothing: takeover.fence_command",
    "generation": "the revision of the registry within an epoch; also the name of a set of kept copies, as in 3.17",
    "group": "supervisord's word for programs that are named together; a program without one is a group of its own",
    "health check": "a look at a service of the active node, again and again; a section [checks.NAME] (docs/checks.md)",
    "hook": "the script that keepalived calls at every change of its state (ha-agent-notify): it leaves a note",
    "interlock": "the question to the peer before a takeover: is anything of the registry left running there?",
    "kept copy": "what replication replaced or deleted, with the reason: ha-agent kept list",
    "listener": "ha-agent-listener, which tells the agent what supervisord's programs do; alerts on programs need it",
    "maintenance": "both agents watch and replicate, and decide nothing: no role is changed, nothing is started or stopped",
    "notes": "small files below /run/ha-agent by which the agent knows its role after a restart; it makes lost ones again",
    "orphan": "a process that an earlier supervisord left running",
    "parked": "registered and not started by anybody: its conf is called NAME.conf.parked. supzcli start brings it back",
    "payload": "files that programs need besides their confs, copied to the other node; [payload] in agent.toml",
    "peer": "the other node",
    "probe": "a service behind the VIP that a failover-test asks again and again",
    "readiness": "whether a node could load and start every conf: the standby looks at it all the time",
    "registry": "the directory of confs that both nodes have alike (/etc/supervisor/conf.d)",
    "sink": "where alerts go: mail, webhook, command, syslog, journal; a section [sinks.NAME]",
    "split-brain": "both nodes are active, because they could not reach each other",
    "superseded": "the peer has taken over with a newer epoch: this node releases",
    "switchover": "a planned change of the active node: ha-agent switchover",
    "track file": "/run/ha-agent/track: by it the agent tells keepalived FAULT, so that this node cannot be MASTER",
    "unfit": "a node that must not be MASTER now; its track file says FAULT, and status says why",
    "vote": "a promise of this node, its peer or the witness that one node may have programs running; it takes two of the "
    "three (docs/votes.md)",
    "keeper": "the process that kills what supervisord runs when the votes end, whatever the agent does then",
    "VIP": "the virtual address, which clients use and keepalived gives to one of the nodes",
    "VRRP": "the protocol by which the two keepalived agree who has the VIP (IP protocol 112)",
}
"""Words of the field and of this project."""

ROLES: Mapping[Role, str] = {
    Role.STANDBY: "runs nothing of the registry, gets every change, and is ready to take over",
    Role.TAKING_OVER: "keepalived says MASTER: the node asks its peer to let go, then loads and starts the registry",
    Role.ACTIVE: "has the VIP and runs the registry's programs; its confs are the truth",
    Role.RELEASING: "stops everything of the registry, and verifies that nothing of it is left",
    Role.FENCED: "something of the registry could not be ended here: the peer is told, and this node cannot be MASTER. End "
    "those processes, or reboot the node",
}

VRRP_STATES: Mapping[VrrpState, str] = {
    VrrpState.MASTER: "keepalived has the VIP",
    VrrpState.BACKUP: "keepalived hears the other one, and waits",
    VrrpState.FAULT: "keepalived cannot be MASTER: its interface is down, or the agent's track file says so",
    VrrpState.STOP: "keepalived has ended",
    VrrpState.DELETED: "keepalived's instance was removed from its configuration",
    VrrpState.UNKNOWN: "keepalived has reported nothing in this life of it",
}

REPLICATION: Mapping[str, str] = {
    "in_sync": "the peer has every change on its disk",
    "pending": "the peer lacks changes; they are on the way",
    "held": "most confs are gone from the active node at once, and the peer keeps them until somebody confirms: ha-agent "
    "sync --accept-deletes",
    "refused": "the peer does not take a change; status says why",
    "unreachable": "there is no connection between the agents; changes wait",
    "receiving": "a standby that gets the active node's changes",
}

PROGRAM_STATES: Mapping[str, str] = {
    State.STOPPED: "it was stopped, or never started",
    State.STARTING: "it was started a moment ago: less than startsecs",
    State.RUNNING: "it runs",
    State.BACKOFF: "it ended too early and is started again",
    State.STOPPING: "it was told to stop",
    State.EXITED: "it ended by itself",
    State.FATAL: "it could not be started, and supervisord has given it up: read its log, then supzcli start NAME",
    State.UNKNOWN: "supervisord has lost sight of it",
    WAITING_STATE: "it is started after others, which are not up yet (docs/order.md): supzcli start NAME does not wait",
    PARKED_STATE: "it is registered on both nodes, and nobody starts it: supzcli start NAME",
}

STEPS: Mapping[Step, str] = {
    Step.CLAIM: "a takeover raises the epoch and puts it on the disk",
    Step.INTERLOCK: "a takeover waits for the peer's word that nothing of the registry is left running there",
    Step.ORPHANS: "a takeover ends what an earlier supervisord left running",
    Step.ACTIVATE: "a takeover writes the active set: the confs that can be loaded here",
    Step.LOAD: "a takeover has supervisord load the active set and start its programs",
    Step.DISARM: "a release empties the active set, so that a supervisord that restarts now starts nothing",
    Step.STOP: "a release stops all programs of the registry at once",
    Step.SWEEP: "a release finds and ends what is left of them",
    Step.UNLOAD: "a release has supervisord forget the registry's groups",
    Step.BEFORE_START: "a takeover runs hooks before any program starts",
    Step.AFTER_START: "a takeover runs hooks after supervisord was told to start everything",
    Step.BEFORE_STOP: "a release runs hooks before any program is stopped",
    Step.AFTER_STOP: "a release runs hooks after everything has ended, before the peer gets its word",
}

OUTCOMES: Mapping[str, str] = {
    Outcome.DONE: "it was done",
    Outcome.FAILED: "it was tried and did not work",
    Outcome.REFUSED: "nothing was changed; the reason says what to do instead",
    Outcome.TIMED_OUT: "no end came in time; it may still come",
    Outcome.UNREACHABLE: "the peer does not answer; the reason says whether it may have done it",
    Outcome.ANSWERED: "the peer was asked, and this is its answer",
    Outcome.BEGUN: "it has begun and goes on by itself; the history tells its end",
    Outcome.ON: "maintenance is on",
    Outcome.OFF: "maintenance is off",
    Outcome.SAVED: "a report was stored",
    Outcome.TAKEN: "what was sent was taken",
    Outcome.UP: "supervisord answers",
    Outcome.DOWN: "supervisord does not answer",
    Outcome.FAULT: "supervisord refused a call; its own words are there",
    Outcome.IN_SYNC: "both nodes have the same registry on their disks",
    Outcome.HELD: "deletions wait for an operator's word: ha-agent sync --accept-deletes",
    Outcome.REFUSED_BY_PEER: "the peer does not take the change",
    Outcome.RELEASED: "the peer's word at a takeover: nothing of the registry is left running there",
    Outcome.MAINTENANCE: "the peer does not answer the interlock, because it is in maintenance",
    Outcome.LEFT_RUNNING: "the peer could not end all processes of the registry",
    Outcome.DEAD: "the peer gives no sign of life, on a link that was up",
    Outcome.SILENT: "the peer's machine answers, its agent does not",
    Outcome.LINK_DOWN: "there was no connection to the peer at the takeover",
    CommandOutcome.WOULD_DO: "a dry run found nothing against it",
    CommandOutcome.DECLINED: "you were asked, and said no",
    CommandOutcome.INCOMPLETE: "it was done, but not everything: programs failed, or the peer lacks the change",
    CommandOutcome.PASSED: "a failover-test met all its objectives",
    CommandOutcome.NOT_NEEDED: "there was nothing to do",
}

ANSWERS: Mapping[Answer, str] = {
    Answer.COMMITTED: "the change is on the peer's disk",
    Answer.STALE: "the peer knows a newer epoch: this node is not the active one any more",
    Answer.ACTIVE: "the peer is active itself and takes nothing",
    Answer.NEED_FULL: "the peer has something else than was thought: everything is compared and sent",
    Answer.HELD: "the change deletes most confs: it waits for an operator's word",
    Answer.NO_SPACE: "the peer's disk has no room",
    Answer.BAD: "the change is damaged, or names what does not belong in a registry",
}

CHECKS: Mapping[str, str] = {
    "agreement": "that the two nodes have different VRRP priorities",
    "clock-offset": "the clocks of the two nodes",
    "confs": "whether every conf could be loaded here",
    "disk": "the room on the disk of the state directory",
    "payload": "whether the files and users that programs need are the same on both nodes (docs/payload.md)",
    "health-checks": "the commands of [checks.NAME], and that the registry has the programs that they look at",
    "hooks": "that keepalived calls the agent's hook, and that nobody else can change it",
    "include": "that supervisord includes the active set, and nothing else of the registry",
    "inline-programs": "that supervisord's main conf has no programs of its own",
    "inotify": "the kernel's limits for watching the registry",
    "keepalived-conf": "that keepalived takes its configuration",
    "keepalived-running": "that keepalived runs",
    "link": "the ssh connection to the peer",
    "listener": "that the event listener reports",
    "notes": "what the agent keeps below /run",
    "permissions": "who may read and change the agent's files",
    "sinks": "that alerts can be delivered",
    "program-names": "that no two confs define one program",
    "paths": "that this node has its end of each path, and that the other one answers there",
    "pair": "what both nodes' own accounts show to be wrong, as status does",
    "programs": "that the programs run that should",
    "ssh-files": "the keys of the link",
    "ssh-forced": "that the key of this node can do nothing but its one command on the peer",
    "sshd": "that sshd lets the peer's agent in, and nobody else as root by password",
    "require-any": "the addresses of which one must answer before a start without the peer's word",
    "payload-paths": "what [payload] names: that it is there, lies where its name says, and can be replicated",
    "role-hooks": "the commands of [hooks.NAME]: that they can be run, and that only root decides what they do",
    "stop-times": "that a release waits as long as each program may take to stop",
    "supervisor-socket": "who can reach supervisord's socket",
    "supervisor-unit": "how systemd stops and starts supervisord",
    "supervisord-up": "that supervisord answers",
    "takeover-policy": "what a takeover does without the peer's word",
    "track-file": "that keepalived obeys the track file",
    "units": "that the units are started at boot",
    "versions": "that both nodes run the same version",
    "vip": "that the VIP is where it should be",
    "vrrp-options": "priority, preemption and timing of VRRP",
    "witness": "that the witness is a third machine, and the keeper required",
    "witness-answers": "that the witness answers this node, and well within answer_s",
    "witness-way": "that no one gateway leads to both the witness and the peer",
    "keeper": "that the keeper of the votes' deadline is ready, and armed where programs run by votes",
    "clock-rate": "the rates of both nodes' clocks, by which promises are counted",
    "votes-kill": "which programs would be killed sooner than their stopwaitsecs says",
    "xmlrpc-closed": "that supervisord cannot be controlled over the network",
}

STATUSES: Mapping[Exit, str] = {
    Exit.DONE: "done",
    Exit.FAILED: "failed; or there is a difference (diff), an error (lint), no active node here (is-active)",
    Exit.USAGE: "the command line, or the configuration, cannot be used",
    Exit.REFUSED: "refused: nothing was changed",
    Exit.PEER_UNREACHABLE: "the peer cannot be reached",
    Exit.NO_DAEMON: "the agent of this node does not run: systemctl start ha-agent",
    Exit.TIMED_OUT: "no end came in time",
    Exit.INCOMPLETE: "done, but not completely: the peer lacks it, or programs failed",
}


def _of_fault(fault: Fault) -> Explanation:
    alert = CODES.get(fault.code)
    text = fault.title
    if alert is not None:
        lasts = f"after {alert.hold_s:g} s" if alert.lasting and alert.hold_s else "at once"
        text += f" (alert, {alert.severity.value}, told {lasts})"
    remedy = None if fault.remedy == NO_ACTION else fault.remedy
    return Explanation(fault.code, Kind.FAULT, text, remedy, tuple(word for _, word in fault.former))


def _of_settings() -> Iterable[Explanation]:
    for section, cls in {**SECTIONS, **{f"{kind}.NAME": named for kind, named in NAMED_SECTIONS.items()}}.items():
        for item in dataclasses.fields(cls):
            yield Explanation(f"{section}.{item.name}", Kind.SETTING, str(item.metadata["doc"]))


def all_explanations() -> list[Explanation]:
    """Everything that can be explained, kind by kind."""
    tables: tuple[tuple[Kind, Mapping[str, str]], ...] = (
        (Kind.TERM, TERMS),
        (Kind.ROLE, {str(role): text for role, text in ROLES.items()}),
        (Kind.VRRP, {str(state): text for state, text in VRRP_STATES.items()}),
        (Kind.REPLICATION, REPLICATION),
        (Kind.PROGRAM, {str(state): text for state, text in PROGRAM_STATES.items()}),
        (Kind.STEP, {str(step): text for step, text in STEPS.items()}),
        (Kind.OUTCOME, {str(outcome): text for outcome, text in OUTCOMES.items()}),
        (Kind.ANSWER, {str(answer): text for answer, text in ANSWERS.items()}),
        (Kind.STATUS, {str(int(status)): text for status, text in STATUSES.items()}),
    )
    found = [Explanation(word, kind, text) for kind, table in tables for word, text in table.items()]
    found += [_of_fault(fault) for fault in FAULTS.values()]
    for event in EVENTS.values():
        former = tuple(word for word in (event.former, event.former_of_role) if word is not None)
        found.append(Explanation(event.code, Kind.EVENT, event.meaning, former=former))
    found += [Explanation(name, Kind.CHECK, f"looks at {CHECKS[name]}") for name in sorted(WELL)]
    return [*found, *_of_settings()]


def plain(word: str) -> str:
    """``word`` as it is compared: however it was written."""
    return word.strip().strip("[]!:,.").lower().replace("_", "-").replace(" ", "-")


def _without_name(word: str) -> str:
    """A key of a section with a name of its own as it is explained: ``hooks.data.at`` is ``hooks.name.at``."""
    kind, _, rest = word.partition(".")
    name, dot, last = rest.rpartition(".")
    return f"{kind}.name.{last}" if kind in NAMED_SECTIONS and name and dot else word


def explain(word: str) -> list[Explanation]:
    """Every meaning of ``word``; of former words those that it has now."""
    wanted = _without_name(plain(word))
    everything = all_explanations()
    exact = [one for one in everything if plain(one.word) == wanted]
    return exact or [one for one in everything if wanted in map(plain, one.former)]


def glossary_as_markdown() -> str:
    """The terms, roles and states as a table."""
    rows = [
        *((word, text) for word, text in TERMS.items()),
        *((f"`{role}`", text) for role, text in ROLES.items()),
        *((f"`{state}`", text) for state, text in VRRP_STATES.items() if state is not VrrpState.UNKNOWN),
    ]
    return "| word | meaning |\n| --- | --- |\n" + "".join(f"| {word} | {text} |\n" for word, text in rows)
