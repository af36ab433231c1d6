"""What is wrong with a pair, judged from the two nodes' own accounts (``status --json``). Pure.

A problem has its code of ``core/faults.py``, and the key of its sentence in ``TEXTS``, which are translated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ha_agent.core.faults import PROGRAM_FAULTS, REPLICATION_FAULTS, code_of_conf
from ha_agent.core.node_json import NodeAccountJson, NodeJson, ProgramJson
from ha_agent.core.orders import describe_order
from ha_agent.core.supervisor_words import TROUBLED_STATES, State, is_deaf

TEXTS: Mapping[str, str] = {
    "split-brain": "SPLIT-BRAIN: both nodes are active; stop keepalived on the one that must not be",
    "no-active": "no node is active: look at keepalived on both nodes (systemctl status keepalived)",
    "unreachable": "{node} cannot be reached{age}: {why}; is it up, and its agent? (ha-agent doctor tells the faults apart)",
    "maintenance": "{node} is in maintenance for {age} more{why}, by {by}: no role is changed, nothing is started or "
    "stopped; ha-agent maintenance off ends it",
    "standby-ordered": "{node} is to stay standby{why}, by order of {by} for {age} now: it takes over nothing, "
    "also when the other node fails; ha-agent unstandby {node} ends that",
    "drill": "{node}: a failover-test by {by} is under way ({why})",
    "fenced": "{node} is fenced: {count} processes of the registry cannot be ended; see the history",
    "takeover-held": "{node} has taken over and starts nothing: {why}; bring {peer} or the link to it back, "
    "it gives its word by itself; where {peer} is off and stays so, say that on {node}: ha-agent takeover --peer-is-off; "
    "a fence_command in [takeover] makes a start safe without either",
    "vip-on-both": "the VIP is on both nodes: clients may reach the wrong one; take it off the standby (ip addr del)",
    "vip-on-neither": "the VIP is on neither node: no client reaches the pair; see journalctl -u keepalived",
    "unfit": "{node} must not be MASTER (FAULT by the track file): {why}",
    "notes-failing": "{node} cannot keep its notes, so that it could not take over: {why}",
    "run-full": "{node}: {why}: a takeover needs room there",
    "part-deaf": "{node}: {part} cannot be asked ({why}): systemctl restart supervisor, which restarts its programs, too",
    "part-down": "{node}: {part} is down{why}: systemctl start {unit}, and journalctl -u {unit} for the reason",
    "registry": "{node}: registry: {why}",
    "not-replicated": "{node}: {path} is not replicated: {why}",
    "replication": "{node}: replication is {state}: {why}",
    "local-changes": "{node} is the standby and was changed locally ({path}): such changes do not travel; make them on the "
    "active node",
    "program-failed": "{node}: {name} is {state}: {why}",
    "program-stopped": "{node}: {name} is stopped but registered: the next failover would start it; "
    "supzcli stop {name} keeps it stopped",
    "not-loadable": "{node} cannot load {path}: {why}",
    "not-ready": "{node}: {path}: {why}",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that an operator must know: its fault, a key of ``TEXTS``, and what to fill in."""

    code: str
    key: str
    words: Mapping[str, object]

    @property
    def text(self) -> str:
        """It in English."""
        return TEXTS[self.key].format_map(self.words)


def age_text(seconds: float) -> str:
    """A duration for people: "3 s", "12 min", "5 h"."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def find_problems(nodes: Sequence[NodeJson], now: float) -> list[Problem]:
    """Everything that is wrong, worst first. ``now``: wall clock seconds."""
    reachable = [n for n in nodes if n["reachable"]]
    found: list[Problem] = []
    active = [n["name"] for n in reachable if n["role"] == "active"]
    if len(active) > 1:
        found.append(Problem("split-brain", "split-brain", {}))
    if not active and not any(n["role"] in ("taking_over", "releasing") for n in reachable):
        found.append(Problem("no-active-node", "no-active", {}))
    for holding in reachable:
        if held := holding.get("held"):
            peer = next((n["name"] for n in nodes if n is not holding), "the peer")
            found.append(Problem("takeover-held", "takeover-held", {"node": holding["name"], "peer": peer, "why": held}))
    found += _of_vip(reachable)
    for node in nodes:
        found += _of_node(node, now)
    return found


def _of_vip(reachable: Sequence[NodeAccountJson]) -> Iterator[Problem]:
    """While a role changes the VIP is away, or on its way."""
    if len(reachable) < 2 or any(n["role"] in ("taking_over", "releasing") for n in reachable):
        return
    if all(n["vip"] is True for n in reachable):
        yield Problem("vip-on-both", "vip-on-both", {})
    elif all(n["vip"] is False for n in reachable):
        yield Problem("vip-on-neither", "vip-on-neither", {})


def list_problems(nodes: Sequence[NodeJson], now: float) -> list[str]:
    """``find_problems`` as English lines."""
    return [problem.text for problem in find_problems(nodes, now)]


def _of_node(node: NodeJson, now: float) -> Iterator[Problem]:
    name = node["name"]
    if not node["reachable"]:
        since = node.get("since")
        age = f" for {age_text(now - since)}" if since else ""
        yield Problem("peer-lost", "unreachable", {"node": name, "age": age, "why": node.get("problem") or "no answer"})
        return
    if maintenance := node.get("maintenance"):
        why = f" ({maintenance['reason']})" if maintenance["reason"] else ""
        age = age_text(maintenance["until"] - now)
        yield Problem("maintenance-on", "maintenance", {"node": name, "age": age, "why": why, "by": maintenance["by"]})
    if order := node.get("standby_order"):
        why = f" ({order['reason']})" if order["reason"] else ""
        words = {"node": name, "why": why, "by": order["by"], "age": age_text(max(0.0, now - order["since"]))}
        yield Problem("standby-ordered", "standby-ordered", words)
    if drill := node.get("drill"):
        yield Problem("drill", "drill", {"node": name, "by": drill["by"], "why": drill["mode"] or "switchover"})
    if node["role"] == "fenced":
        yield Problem("fenced", "fenced", {"node": name, "count": node["left_running"]})
    if node.get("unfit") and node["role"] != "fenced" and not is_unfit_by_order(node):
        yield Problem("unfit", "unfit", {"node": name, "why": node["unfit"]})
    if failing := node.get("notes_problem"):
        yield Problem("notes-failing", "notes-failing", {"node": name, "why": failing})
    elif low := node.get("notes_low"):
        yield Problem("run-full", "run-full", {"node": name, "why": low})
    for part in ("keepalived", "supervisord"):
        if node[part] != "up":
            why = f" ({node[part]})" if node[part] != "down" else ""
            unit = "supervisor" if part == "supervisord" else part
            if is_deaf(node[part]):
                yield Problem(f"{part}-down", "part-deaf", {"node": name, "part": part, "why": node[part]})
                continue
            yield Problem(f"{part}-down", "part-down", {"node": name, "part": part, "why": why, "unit": unit})
    yield from _of_registry(node)
    for program in failed_programs(node):
        why = program.get("problem") or "see its log"
        words = {"node": name, "name": program["name"], "state": program["state"], "why": why}
        yield Problem(PROGRAM_FAULTS.get(program["state"], "program-failed"), "program-failed", words)
    for program in stopped_programs(node):
        yield Problem("program-stopped", "program-stopped", {"node": name, "name": program["name"]})
    readiness = node["readiness"]
    for key, paths in (("not-loadable", readiness["problems"]), ("not-ready", readiness["warnings"])):
        for path, why in sorted(paths.items()):
            code = code_of_conf(node["role"], is_loadable=path not in readiness["problems"])
            yield Problem(code, key, {"node": name, "path": path, "why": why})


def is_unfit_by_order(node: NodeAccountJson) -> bool:
    """Whether an operator's order is all that keeps ``node`` from being MASTER: that is said for itself."""
    order = node.get("standby_order")
    return order is not None and node["unfit"] == describe_order(order["by"], order["reason"])


def _of_registry(node: NodeAccountJson) -> Iterator[Problem]:
    name = node["name"]
    if node["registry"]["problem"]:
        yield Problem("registry-unavailable", "registry", {"node": name, "why": node["registry"]["problem"]})
    for path, why in node["registry"]["refused"].items():
        yield Problem("conf-refused", "not-replicated", {"node": name, "path": path, "why": why})
    replication = node["replication"]
    if code := REPLICATION_FAULTS.get(replication["state"]):
        yield Problem(code, "replication", {"node": name, "state": replication["state"], "why": replication["reason"]})
    if local := replication.get("local_changes") or []:
        yield Problem("standby-edit", "local-changes", {"node": name, "path": ", ".join(local[:3])})


def failed_programs(node: NodeAccountJson) -> list[ProgramJson]:
    """Programs that should run and cannot."""
    return [
        p
        for p in node["programs"]
        if p["state"] in TROUBLED_STATES or (p["state"] == State.EXITED and p.get("problem") != "exit status 0")
    ]


def stopped_programs(node: NodeAccountJson) -> list[ProgramJson]:
    """Programs that somebody stopped on the active node, and that a takeover would start."""
    return [p for p in node["programs"] if node["role"] == "active" and p["state"] == State.STOPPED and p.get("starts")]
