"""What is wrong with a pair: the one judgement, from the two nodes' own accounts (``status --json``). Pure.

Every face renders these: the screen, doctor and its line for Nagios, the dashboard. A problem has its code of
``core/faults.py``, how bad it is, and the keys of its sentences in ``TEXTS`` and ``REMEDIES``, which are translated. What
the agents tell as alerts is judged in ``core/conditions.py`` from the same facts, and a test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from ha_agent.core.agreement import find_differences
from ha_agent.core.faults import FAULTS, PROGRAM_FAULTS, REPLICATION_FAULTS, Urgency, code_of_conf
from ha_agent.core.findings import Finding, Severity
from ha_agent.core.link_causes import find_cause
from ha_agent.core.node_json import NodeAccountJson, NodeJson, ProgramJson, SilentNodeJson
from ha_agent.core.obstacles import find_faults, is_unfit_by_order
from ha_agent.core.payload_status import STUCK
from ha_agent.core.supervisor_words import TROUBLED_STATES, State, is_deaf
from ha_agent.core.vip import Presence, find_common, find_missing, join
from ha_agent.core.votes_text import say_votes_of
from ha_agent.core.width import count_text
from ha_agent.core.words import Answer

TEXTS: Mapping[str, str] = {
    "split-brain": "SPLIT-BRAIN: both nodes are active",
    "no-active": "no node is active: no program of the registry runs",
    "no-service": "no service: the VIP is on {other}, the programs run on {node}",
    "may-run-twice": "unless {peer} is off it may run the same programs as {node}: it was {role} when it was heard last, "
    "{age} ago",
    "ran-twice": "programs ran on both nodes for {took}, until {age} ago (groups: {groups})",
    "standby-unfit": "{node} could not take over: {why}",
    "unreachable": "{node} does not answer{age}: {why}",
    "unreachable-active": "{node} does not answer{age}: {why}; it was {role} when it was heard last",
    "maintenance": "{node} is in maintenance for {age} more{why}, by {by}: no role is changed, nothing is started or "
    "stopped",
    "maintenance-pair": "both nodes are in maintenance for {age} more{why}, by {by}: no role is changed, nothing is started "
    "or stopped but by you",
    "standby-ordered": "{node} is to stay standby{why}, by order of {by} for {age} now: it takes over nothing, "
    "also when the other node fails",
    "drill": "{node}: a failover-test by {by} is under way ({why})",
    "fenced": "{node} is fenced: processes of the registry that cannot be ended: {count}",
    "takeover-held": "{node} has taken over and starts nothing: {why}",
    "vote-missing": "{node}: {votes}",
    "keeper-down": "{node}: the keeper of the votes' deadline cannot be had ({why}): nothing is started without it",
    "votes-adopted": "{node}: programs run that were started before there was a witness: they are not held by votes yet",
    "check-failed": "{node}: check {check} fails: {why}",
    "check-held": "{node}: check {check} fails: {why}; {held}",
    "payload-held": "{node}: files of programs are not copied: {why}",
    "payload-late": "{node}: {count} files of programs have been waiting for {peer} for {age}",
    "vip-on-both": "the VIP is on both nodes: clients may reach the wrong one",
    "vips-on-both": "{vips} is on both nodes: clients may reach the wrong one",
    "vip-on-neither": "the VIP is on neither node: no client reaches the pair",
    "vip-partly": "{node} is active and lacks {vips}, of {count} VIPs: no client reaches the pair there",
    "path-down": "{other} does not answer {node} at {address}, one of {count} paths: one more that is cut parts the nodes",
    "unfit": "{node} must not be MASTER (FAULT by the track file): {why}",
    "notes-failing": "{node} cannot keep its notes, so that it could not take over: {why}",
    "run-full": "{node}: {why}: a takeover needs room there",
    "part-deaf": "{node}: {part} cannot be asked ({why})",
    "part-down": "{node}: {part} is down{why}",
    "config-differs": "{key} must be the same on both nodes: {own} on {node}, {theirs} on {other}",
    "version-differs": "the nodes run different versions of ha-agent: {own} on {node}, {theirs} on {other}",
    "registry": "{node}: registry: {why}",
    "not-replicated": "{node}: {path} is not replicated: {why}",
    "replication": "{node}: replication is {state}: {why}",
    "replication-late": "{node}: changes of the registry have been waiting for {peer} for {age}: a failover now would start "
    "without them",
    "local-changes": "{node} is the standby and was changed locally ({path}): such changes do not travel",
    "program-failed": "{node}: {name} is {state}: {why}",
    "order-unmet": "{node}: {name} was not started: {words} did not come in time",
    "payload-build": "{node} would start another build of {programs}: {why}{when}",
    "payload-differs": "{node} would start {programs} otherwise than {other}: {why}{when}",
    "program-stopped": "{node}: {name} is stopped but registered: the next failover would start it",
    "not-loadable": "{node} cannot load {path}: {why}",
    "not-ready": "{node}: {path}: {why}",
}

REMEDIES: Mapping[str, str] = {
    "split-brain": "stop keepalived on the one that must not be: systemctl stop keepalived",
    "no-active": "look at keepalived on both nodes: systemctl status keepalived",
    "no-service": "ha-agent maintenance off, where it is on; then ha-agent switchover",
    "may-run-twice": "bring the network between the nodes back; or stop keepalived on the one that must not run them",
    "ran-twice": "compare what the programs did; ha-agent kept list --divergences",
    "standby-unfit": "ha-agent doctor at {node}",
    "unreachable": "{cause}",
    "unreachable-active": "{cause}",
    "maintenance": "ha-agent maintenance off ends it",
    "maintenance-pair": "ha-agent maintenance off ends it",
    "drill": "wait for its end; ha-agent failover-test --list shows its report",
    "fenced": "end them by hand (ha-agent history names them), or reboot {node}",
    "takeover-held": "bring {peer} or the link to it back, it gives its word by itself; where {peer} is off and stays so, "
    "say that on {node}: ha-agent takeover --peer-is-off; a fence_command in [takeover] makes a start safe without either",
    "votes-held": "bring the witness or {peer} back: it takes two of the three votes; ha-agent witness status",
    "standby-ordered": "ha-agent unstandby {node} ends that",
    "vote-missing": "bring the witness, or the other node, back: one more loss stops the programs; ha-agent witness test",
    "keeper-down": "systemctl enable --now ha-agent-keeper on {node}; journalctl -u ha-agent-keeper",
    "votes-adopted": "wait some seconds; then see that the witness and the other node can be reached: ha-agent witness test",
    "check-failed": "look at the service; ha-agent checks on {node}",
    "check-held": "look at the service; ha-agent checks on {node}",
    "payload-held": "ha-agent payload on {node} says all; what the reason names is done there, or on the other node",
    "payload-late": "ha-agent payload sync on {node} copies them now, and says what keeps them back",
    "vip-on-both": "take it off the standby: ip addr del",
    "vips-on-both": "take it off the standby: ip addr del",
    "vip-on-neither": "journalctl -u keepalived",
    "vip-partly": "journalctl -u keepalived on {node} says why; ha-agent switchover moves all of them",
    "path-down": "look at the cable, the switch and the interface of that network; ip route get {address} on {node}",
    "unfit": "the reason says why; ha-agent history",
    "notes-failing": "make room, or put away what is in the place",
    "run-full": "find out with du -x /run what fills it",
    "part-deaf": "systemctl restart supervisor, which restarts its programs, too",
    "part-down": "systemctl start {unit}; journalctl -u {unit} for the reason",
    "config-differs": "ha-agent config apply --peer on the node that is right; then on the other one ha-agent keepalived "
    "write, and reload keepalived",
    "version-differs": "finish the upgrade: install {newest} on {older}, too",
    "registry": "bring the registry back",
    "not-replicated": "replace it by a plain file of root's that nobody else may write",
    "replication": "ha-agent diff; ha-agent sync",
    "replication-late": "ha-agent diff shows them; ha-agent doctor says what keeps them back",
    "no-room": "make room on the standby; then ha-agent sync",
    "held": "ha-agent diff shows what; ha-agent sync --accept-deletes sends the deletions",
    "local-changes": "make them on the active node",
    "program-failed": "read its log; fix it, then: supzcli start {name}",
    "order-unmet": "see why {words} did not come; then: supzcli start {name}",
    "payload-build": "install the same on both nodes; docs/payload.md",
    "payload-differs": "make it the same on both nodes, or name it in payload.ignore where it differs on purpose",
    "program-stopped": "supzcli stop {name} keeps it stopped, supzcli start {name} starts it",
    "not-loadable": "fix {path}, or park it",
    "not-ready": "fix {path}, or park it",
}


class Rank(IntEnum):
    """In which order problems are said, whichever node they are of."""

    SERVICE = 0
    TWICE = 1
    STANDBY = 2
    DATA = 3
    NODE = 4
    PROGRAM = 5


RANKED: Mapping[str, Rank] = {
    "no-active": Rank.SERVICE,
    "no-service": Rank.SERVICE,
    "vip-on-neither": Rank.SERVICE,
    "vip-partly": Rank.SERVICE,
    "takeover-held": Rank.SERVICE,
    "unreachable-active": Rank.SERVICE,
    "split-brain": Rank.TWICE,
    "may-run-twice": Rank.TWICE,
    "ran-twice": Rank.TWICE,
    "vip-on-both": Rank.TWICE,
    "vips-on-both": Rank.TWICE,
    "fenced": Rank.TWICE,
    "standby-unfit": Rank.STANDBY,
    "unreachable": Rank.STANDBY,
    "config-differs": Rank.STANDBY,
    "version-differs": Rank.STANDBY,
    "path-down": Rank.STANDBY,
    "standby-ordered": Rank.STANDBY,
    "replication": Rank.DATA,
    "replication-late": Rank.DATA,
    "payload-held": Rank.DATA,
    "payload-late": Rank.DATA,
    "registry": Rank.DATA,
    "not-replicated": Rank.DATA,
    "local-changes": Rank.DATA,
    "program-failed": Rank.PROGRAM,
    "order-unmet": Rank.PROGRAM,
    "program-stopped": Rank.PROGRAM,
    "payload-build": Rank.PROGRAM,
    "payload-differs": Rank.PROGRAM,
    "not-loadable": Rank.PROGRAM,
    "not-ready": Rank.PROGRAM,
}
"""By the key of the sentence; what is missing concerns a node."""

_SEVERITIES = {Urgency.CRITICAL: Severity.ERROR, Urgency.WARNING: Severity.WARNING, Urgency.INFO: Severity.WARNING}

MAX_DRIFTS = 20

SETTLING_S = 5.0
"""After a change of roles what is not in its place yet is no fault."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that an operator must know: its fault, the key of its sentences, and what to fill in.

    ``since``: wall clock seconds, None where that is not known. ``node``: whose, empty where it is the pair's.
    """

    code: str
    key: str
    words: Mapping[str, object]
    node: str = ""
    since: float | None = None
    remedy_key: str = ""

    @property
    def text(self) -> str:
        """What is wrong, in English."""
        return TEXTS[self.key].format_map(self.words)

    @property
    def remedy(self) -> str:
        """What to do about it, in English."""
        return REMEDIES[self.remedy_key or self.key].format_map(self.words)

    @property
    def rank(self) -> Rank:
        """Where it stands among the others."""
        if self.code == "standby-not-ready":
            # What the standby lacks is asked for with its fitness.
            return Rank.STANDBY
        return RANKED.get(self.key, Rank.NODE)

    @property
    def severity(self) -> Severity:
        """How bad it is: that of its alert; what is no alert is worth a warning."""
        if self.code == "may-run-twice":
            # The alert peer-lost tells it.
            return Severity.ERROR
        return _SEVERITIES[FAULTS[self.code].urgency or Urgency.WARNING]

    def to_dict(self) -> dict[str, object]:
        """As it stands in ``status --json``."""
        return {
            "code": self.code,
            "severity": self.severity.name.lower(),
            "node": self.node or None,
            "since": self.since,
            "text": self.text,
            "remedy": self.remedy,
        }

    def to_finding(self) -> Finding:
        """The problem as checks give it."""
        return Finding(self.code, self.severity, self.text, self.remedy, self.node)


def age_text(seconds: float) -> str:
    """A duration for people: "3 s", "12 min", "5 h"."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def find_problems(nodes: Sequence[NodeJson], now: float) -> list[Problem]:
    """Everything that is wrong, worst first. ``now``: wall clock seconds."""
    found = [*_of_pair(nodes, now)]
    for node in nodes:
        found += _of_node(node, _other(nodes, node), now) if node["reachable"] else ()
    found = _join_maintenance(found)
    # Why a node is unfit is among the reasons for which it could not take over.
    unfit = {p.node for p in found if p.key == "standby-unfit"}
    found = [p for p in found if p.key != "unfit" or p.node not in unfit]
    return sorted(found, key=lambda p: (p.rank, -p.severity))


def _join_maintenance(found: list[Problem]) -> list[Problem]:
    """One maintenance is said once: it is on at both nodes as a rule."""
    both = [p for p in found if p.key == "maintenance"]
    if len(both) < 2 or any({**p.words, "node": ""} != {**both[0].words, "node": ""} for p in both):
        return found
    pair = Problem("maintenance-on", "maintenance-pair", both[0].words)
    return [pair if p is both[0] else p for p in found if p not in both[1:]]


def list_problems(nodes: Sequence[NodeJson], now: float) -> list[str]:
    """``find_problems`` as English lines."""
    return [problem.text for problem in find_problems(nodes, now)]


# ---- the pair ---------------------------------------------------------------------------------------------------


def _of_pair(nodes: Sequence[NodeJson], now: float) -> Iterator[Problem]:
    reachable = [n for n in nodes if n["reachable"]]
    silent = [n for n in nodes if not n["reachable"]]
    active = [n for n in reachable if n["role"] == "active"]
    if len(active) > 1:
        yield Problem("split-brain", "split-brain", {})
    if not silent and not active and not _is_changing(reachable):
        yield Problem("no-active-node", "no-active", {})
    for node in silent:
        yield from _of_silent(node, active, now)
    for holding in reachable:
        if held := holding.get("held"):
            words = {"node": holding["name"], "peer": _other(nodes, holding), "why": held}
            remedy = "votes-held" if holding.get("votes") else ""
            yield Problem("takeover-held", "takeover-held", words, holding["name"], remedy_key=remedy)
    for own in reachable:
        yield from _of_paths(own, _other(nodes, own))
    yield from _of_vip(reachable)
    yield from _of_standby(reachable, now)
    yield from _of_agreement(reachable)
    yield from _of_payload(active, now)
    told = max((t for n in reachable if (t := n.get("ran_twice"))), key=lambda t: float(t["ended"]), default=None)
    if told is not None:
        words = {
            "groups": told["groups"],
            "took": age_text(told["ended"] - told["began"]),
            "age": age_text(now - told["ended"]),
        }
        yield Problem("ran-twice", "ran-twice", words, since=told["began"])


def _is_changing(reachable: Sequence[NodeAccountJson]) -> bool:
    return any(n["role"] in ("taking_over", "releasing") for n in reachable)


def _other(nodes: Sequence[NodeJson], node: NodeJson) -> str:
    return next((n["name"] for n in nodes if n is not node), "the peer")


def _of_silent(node: SilentNodeJson, active: Sequence[NodeAccountJson], now: float) -> Iterator[Problem]:
    """What is not known is said to be unknown: nothing follows from silence but what was heard last."""
    heard, role, why = node.get("heard_at"), node.get("role"), node.get("problem") or "no answer"
    since = heard or node.get("since")
    age = f", heard last {age_text(max(0.0, now - heard))} ago" if heard else ""
    words = {"node": node["name"], "age": age, "why": why, "role": role}
    words["cause"] = find_cause(why).remedy.format(node=node["name"])
    key = "unreachable-active" if role in ("active", "taking_over", "releasing") and not active else "unreachable"
    yield Problem("peer-lost", key, words, node["name"], since)
    votes = active[0].get("votes") if active else None
    if active and role in ("active", "taking_over") and heard and not (votes and votes["used"]):
        said = {"peer": node["name"], "node": active[0]["name"], "role": role, "age": age_text(max(0.0, now - heard))}
        yield Problem("may-run-twice", "may-run-twice", said, since=heard)


def _of_paths(own: NodeAccountJson, other: str) -> Iterator[Problem]:
    """While one path answers; where none does the link is down, which is said already."""
    paths = own.get("paths", [])
    if any(path["up"] or path["link"] for path in paths):
        for path in paths:
            if path["up"] is False:
                words = {"node": own["name"], "other": other, "address": path["address"], "count": len(paths)}
                yield Problem("path-down", "path-down", words, own["name"], path["since"])


def _of_vip(reachable: Sequence[NodeAccountJson]) -> Iterator[Problem]:
    """While a role changes the VIP is away, or on its way."""
    if _is_changing(reachable):
        return
    active = [n for n in reachable if n["role"] == "active"]
    for node in active:
        if missing := find_missing(node.get("vips", {})):
            words = {"node": node["name"], "vips": join(missing), "count": len(node["vips"])}
            yield Problem("vip-partly", "vip-partly", words, node["name"])
    if len(reachable) < 2:
        return
    if all(n["vip"] is True for n in reachable):
        yield from _of_common(*(n.get("vips", {}) for n in reachable[:2]))
    elif all(n["vip"] is False for n in reachable):
        yield Problem("vip-on-neither", "vip-on-neither", {})
    elif len(active) == 1 and active[0]["vip"] is False and any(n["vip"] is True for n in reachable):
        yield Problem("no-service", "no-service", {"node": active[0]["name"], "other": _other(reachable, active[0])})


def _of_common(own: Presence, peer: Presence) -> Iterator[Problem]:
    """A VIP that is on both nodes; each node may have others than the other one."""
    both = find_common(own, peer)
    if not own or not peer or (both and len(own) == 1):
        yield Problem("vip-on-both", "vip-on-both", {})
    elif both:
        yield Problem("vip-on-both", "vips-on-both", {"vips": join(both)})


def _of_standby(reachable: Sequence[NodeAccountJson], now: float) -> Iterator[Problem]:
    """Whether the standby could take over: the list of a switchover's checks, as far as it is the standby's own."""
    active = [n for n in reachable if n["role"] == "active"]
    standby = [n for n in reachable if n["role"] in ("standby", "fenced")]
    if len(active) != 1 or len(standby) != 1 or _has_just_changed(reachable, now):
        return
    node = standby[0]
    if obstacles := [f.text for f in find_faults(node)]:
        yield Problem("standby-unfit", "standby-unfit", {"node": node["name"], "why": "; ".join(obstacles)}, node["name"])


def _has_just_changed(reachable: Sequence[NodeAccountJson], now: float) -> bool:
    changes = [n.get("last_transition") for n in reachable]
    return any(0 <= now - float(change["at"]) < SETTLING_S for change in changes if change)


def _of_agreement(reachable: Sequence[NodeAccountJson]) -> Iterator[Problem]:
    if len(reachable) < 2:
        return
    own, peer = reachable[0], reachable[1]
    for one in find_differences(own.get("agreement", {}), peer.get("agreement", {})):
        words = {"key": one.key, "own": one.own, "node": own["name"], "theirs": one.peer, "other": peer["name"]}
        yield Problem("config-differs" if one.is_vital else "config-uneven", "config-differs", words)
    if (mine := own.get("version")) and (theirs := peer.get("version")) and mine != theirs:
        older, newer = sorted((own, peer), key=lambda n: _version_key(n["version"]))
        said = {"own": mine, "node": own["name"], "theirs": theirs, "other": peer["name"]}
        yield Problem("version-differs", "version-differs", {**said, "older": older["name"], "newest": newer["version"]})


def _of_payload(active: Sequence[NodeAccountJson], now: float) -> Iterator[Problem]:
    """Of the active node's account: the other node knows the same, and both would be twice."""
    payload = active[0].get("payload") if len(active) == 1 else None
    if not payload:
        return
    for drift in payload["drifts"][:MAX_DRIFTS]:
        changes = [reason for reason in drift["reasons"] if reason["changed_at"] is not None]
        last = max(changes, key=lambda reason: reason["changed_at"] or 0.0, default=None)
        when = ""
        if last is not None:
            when = f" (changed on {last['changed_on']} {age_text(max(0.0, now - (last['changed_at'] or now)))} ago)"
        words = {
            "node": payload["starter"],
            "other": payload["other"],
            "programs": drift["subject"],
            "why": drift["why"],
            "when": when,
        }
        yield Problem("payload-differs", "payload-build" if drift["build"] else "payload-differs", words)


def _version_key(version: str) -> list[tuple[int, str]]:
    """Orders versions by their numbers; a part without one comes before them ("1.0rc1" before "1.0.1")."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in version.split(".")]


# ---- a node -----------------------------------------------------------------------------------------------------


def _of_node(node: NodeAccountJson, peer: str, now: float) -> Iterator[Problem]:
    name = node["name"]

    def problem(code: str, key: str, **words: object) -> Problem:
        return Problem(code, key, {"node": name, **words}, name)

    if maintenance := node.get("maintenance"):
        why = f" ({maintenance['reason']})" if maintenance["reason"] else ""
        age = age_text(maintenance["until"] - now)
        yield problem("maintenance-on", "maintenance", age=age, why=why, by=maintenance["by"])
    if order := node.get("standby_order"):
        why = f" ({order['reason']})" if order["reason"] else ""
        age = age_text(max(0.0, now - order["since"]))
        yield problem("standby-ordered", "standby-ordered", why=why, by=order["by"], age=age)
    if drill := node.get("drill"):
        yield problem("drill", "drill", by=drill["by"], why=drill["mode"] or "switchover")
    if node["role"] == "fenced":
        yield problem("fenced", "fenced", count=node["left_running"])
    if node.get("unfit") and node["role"] != "fenced" and not is_unfit_by_order(node):
        yield problem("unfit", "unfit", why=node["unfit"])
    if failing := node.get("notes_problem"):
        yield problem("notes-failing", "notes-failing", why=failing)
    elif low := node.get("notes_low"):
        yield problem("run-full", "run-full", why=low)
    for part in ("keepalived", "supervisord"):
        if node[part] != "up":
            why = f" ({node[part]})" if node[part] != "down" else ""
            unit = "supervisor" if part == "supervisord" else part
            if is_deaf(node[part]):
                yield problem(f"{part}-down", "part-deaf", part=part, why=node[part])
                continue
            yield problem(f"{part}-down", "part-down", part=part, why=why, unit=unit)
    yield from _of_votes(node, peer)
    for check in node.get("checks", []):
        if check["health"] == "failing":
            key = "check-held" if check["held"] else "check-failed"
            words = {"check": check["name"], "why": check["last"], "held": check["held"]}
            yield Problem("check-failed", key, {"node": name, **words}, name, check["since"])
    yield from _of_payload_sync(node, peer, now)
    yield from _of_registry(node, peer, now)
    for program in failed_programs(node):
        words = {"name": program["name"], "state": program["state"], "why": program.get("problem") or "see its log"}
        yield problem(PROGRAM_FAULTS.get(program["state"], "program-failed"), "program-failed", **words)
    for wait in node.get("waits", []):
        if wait["given_up"] is not None:
            yield problem("order-unmet", "order-unmet", name=wait["group"], words=", ".join(wait["waits_for"]))
    for program in stopped_programs(node):
        yield problem("program-stopped", "program-stopped", name=program["name"])
    readiness = node["readiness"]
    for key, paths in (("not-loadable", readiness["problems"]), ("not-ready", readiness["warnings"])):
        for path, why in sorted(paths.items()):
            code = code_of_conf(node["role"], is_loadable=path not in readiness["problems"])
            yield problem(code, key, path=path, why=why)


def _of_votes(node: NodeAccountJson, peer: str) -> Iterator[Problem]:
    votes, name = node.get("votes"), node["name"]
    if not votes:
        return
    if votes["adopts"]:
        yield Problem("vote-missing", "votes-adopted", {"node": name}, name)
    elif votes["witness_silent_s"] is not None or (votes["used"] and peer not in votes["promised"]):
        yield Problem("vote-missing", "vote-missing", {"node": name, "votes": say_votes_of(votes, name)}, name)
    if votes["keeper_problem"] is not None:
        yield Problem("keeper-down", "keeper-down", {"node": name, "why": votes["keeper_problem"]}, name)


def _of_payload_sync(node: NodeAccountJson, peer: str, now: float) -> Iterator[Problem]:
    payload, name = node.get("payload_sync"), node["name"]
    if not payload or node["role"] != "active":
        return
    if payload["state"] in STUCK:
        yield Problem("payload-held", "payload-held", {"node": name, "why": payload["reason"]}, name)
    elif payload["late"] and (since := payload["pending_since"]):
        words = {"node": name, "peer": peer, "age": age_text(max(0.0, now - since)), "count": payload["pending"] or "some"}
        yield Problem("payload-lag", "payload-late", words, name, since)


def _of_registry(node: NodeAccountJson, peer: str, now: float) -> Iterator[Problem]:
    name = node["name"]
    if node["registry"]["problem"]:
        yield Problem("registry-unavailable", "registry", {"node": name, "why": node["registry"]["problem"]}, name)
    for path, why in node["registry"]["refused"].items():
        yield Problem("conf-refused", "not-replicated", {"node": name, "path": path, "why": why}, name)
    replication = node["replication"]
    if code := REPLICATION_FAULTS.get(replication["state"]):
        words = {"node": name, "state": replication["state"], "why": replication["reason"]}
        full = str(replication["reason"]).startswith(Answer.NO_SPACE)
        remedy = "held" if replication["state"] == "held" else "no-room" if full else ""
        yield Problem(code, "replication", words, name, replication.get("pending_since"), remedy)
    elif replication.get("late") and (since := replication.get("pending_since")):
        late = {"node": name, "peer": peer, "age": age_text(max(0.0, now - since))}
        yield Problem("replication-lag", "replication-late", late, name, since)
    if local := replication.get("local_changes") or []:
        yield Problem("standby-edit", "local-changes", {"node": name, "path": ", ".join(local[:3])}, name)


def failed_programs(node: NodeAccountJson) -> list[ProgramJson]:
    """Programs that should run and cannot."""
    return [
        p
        for p in node["programs"]
        if p["state"] in TROUBLED_STATES or (p["state"] == State.EXITED and p.get("problem") != "exit status 0")
    ]


def stopped_programs(node: NodeAccountJson) -> list[ProgramJson]:
    """Programs that somebody stopped on the active node, and that a takeover would start.

    Those that a takeover under way has still to start are none of them.
    """
    if node["role"] != "active" or node.get("verifying"):
        return []
    return [p for p in node["programs"] if p["state"] == State.STOPPED and p.get("starts")]


# ---- in one line ------------------------------------------------------------------------------------------------


def verdict(nodes: Sequence[NodeJson], problems: Sequence[Problem]) -> tuple[Severity, str]:
    """The first line of every face: how bad it is, and the worst problem, or that all is well."""
    if problems:
        severity = max(p.severity for p in problems)
        worst = min((p for p in problems if p.severity is severity), key=lambda p: p.rank)
        return severity, worst.text + (f" (and {len(problems) - 1} more)" if len(problems) > 1 else "")
    reachable = [n for n in nodes if n["reachable"]]
    if _is_changing(reachable):
        return Severity.OK, "the roles are changing: " + ", ".join(f"{n['name']} is {n['role']}" for n in reachable)
    active = next((n for n in reachable if n["role"] == "active"), None)
    standby = next((n for n in reachable if n is not active), None)
    if active is None or standby is None:
        return Severity.UNKNOWN, "what the nodes do is not known"
    synced = "in sync" if active["replication"]["state"] == "in_sync" else "changes are on their way"
    starting = [p for p in active["programs"] if p["state"] != State.RUNNING] if active.get("verifying") else []
    more = f", starting {len(starting)} of {len(active['programs'])}" if starting else ""
    waits = active.get("waits", [])
    more += f", {count_text(len(waits), 'program')} after others" if waits else ""
    return Severity.OK, f"{active['name']} active, {standby['name']} ready, {synced}{more}"
