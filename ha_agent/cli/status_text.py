"""``ha-agent status`` as text: both nodes on one screen, what is wrong first. Pure: data in, lines out."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ha_agent.cli.terminal import paint

Node = Mapping[str, Any]


def age_text(seconds: float) -> str:
    """A duration for people: "3 s", "12 min", "5 h"."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def list_problems(nodes: Sequence[Node], now: float) -> list[str]:
    """What an operator must know first, each with what to do, worst first."""
    reachable = [n for n in nodes if n.get("reachable")]
    found: list[str] = []
    active = [n["name"] for n in reachable if n["role"] == "active"]
    if len(active) > 1:
        found.append("SPLIT-BRAIN: both nodes are active; stop keepalived on the one that must not be")
    if not active and not any(n["role"] in ("taking_over", "releasing") for n in reachable):
        found.append("no node is active: look at keepalived on both nodes (systemctl status keepalived)")
    for node in nodes:
        found += _node_problems(node, now)
    return found


def _node_problems(node: Node, now: float) -> list[str]:
    name = node["name"]
    if not node.get("reachable"):
        since = f" for {age_text(now - node['since'])}" if node.get("since") else ""
        problem = node.get("problem") or "no answer"
        return [
            f"{name} can not be reached{since}: {problem}; is it up, and its agent? (ha-agent doctor tells the faults apart)"
        ]
    found = []
    if maintenance := node.get("maintenance"):
        reason = f" ({maintenance['reason']})" if maintenance["reason"] else ""
        found.append(
            f"{name} is in maintenance for {age_text(maintenance['until'] - now)} more{reason}, by {maintenance['by']}: "
            "no role is changed, nothing is started or stopped; ha-agent maintenance off ends it"
        )
    if drill := node.get("drill"):
        found.append(f"{name}: a failover-test by {drill['by']} is under way ({drill['mode'] or 'switchover'})")
    if node["role"] == "fenced":
        found.append(f"{name} is fenced: {node['left_running']} processes of the registry can not be ended; see the history")
    if node.get("unfit") and node["role"] != "fenced":
        found.append(f"{name} must not be MASTER (FAULT by the track file): {node['unfit']}")
    for part in ("keepalived", "supervisord"):
        if node[part] != "up":
            why = f" ({node[part]})" if node[part] != "down" else ""
            unit = "supervisor" if part == "supervisord" else part
            found.append(f"{name}: {part} is down{why}: systemctl start {unit}, and journalctl -u {unit} for the reason")
    if node["registry"]["problem"]:
        found.append(f"{name}: registry: {node['registry']['problem']}")
    found += [f"{name}: {path} is not replicated: {why}" for path, why in node["registry"]["refused"].items()]
    found += _replication_problems(node)
    found += [f"{name}: {p['name']} is {p['state']}: {p.get('problem') or 'see its log'}" for p in failed_programs(node)]
    found += [
        f"{name}: {p['name']} is stopped but registered: the next failover would start it; supzcli stop "
        f"{p['name']} keeps it stopped"
        for p in stopped_programs(node)
    ]
    readiness = node["readiness"]
    found += [f"{name} can not load {path}: {why}" for path, why in sorted(readiness["problems"].items())]
    found += [f"{name}: {path}: {why}" for path, why in sorted(readiness["warnings"].items())]
    return found


def failed_programs(node: Node) -> list[Mapping[str, Any]]:
    """Programs that should run and can not."""
    return [
        p
        for p in node["programs"]
        if p["state"] in ("FATAL", "BACKOFF", "UNKNOWN") or (p["state"] == "EXITED" and p.get("problem") != "exit status 0")
    ]


def stopped_programs(node: Node) -> list[Mapping[str, Any]]:
    """Programs that somebody stopped on the active node, and that a takeover would start."""
    return [p for p in node["programs"] if node["role"] == "active" and p["state"] == "STOPPED" and p.get("starts")]


def _replication_problems(node: Node) -> list[str]:
    replication = node["replication"]
    found = []
    if replication["state"] in ("held", "refused"):
        found.append(f"{node['name']}: replication is {replication['state']}: {replication['reason']}")
    local = replication.get("local_changes") or []
    if local:
        found.append(
            f"{node['name']} is the standby and was changed locally ({', '.join(local[:3])}): "
            "such changes do not travel; make them on the active node"
        )
    return found


def _programs_text(node: Node) -> str:
    states = Counter(p["state"] for p in node["programs"])
    words = [f"{count} {state}" for state, count in sorted(states.items())]
    parked = node["registry"]["parked"]
    return ", ".join(words or ["none"]) + (f", {len(parked)} parked" if parked else "")


def _replication_text(node: Node, now: float) -> str:
    replication = node["replication"]
    state = replication["state"]
    words = {"in_sync": "in sync", "receiving": "receives from the active node", "unreachable": "peer unreachable"}
    text = str(words.get(state, state))
    if replication.get("pending"):
        since = replication.get("pending_since")
        text += f", {replication['pending']} changes pending" + (f" for {age_text(now - since)}" if since else "")
    return text


def _column(node: Node, now: float) -> list[str]:
    if not node.get("reachable"):
        heard = f"{age_text(now - node['heard_at'])} ago" if node.get("heard_at") else "never"
        known = f"{node.get('role', '?')} when last heard" if node.get("role") else "?"
        return ["unreachable", known, f"heard {heard}", "?", "?", "?", "?", "?"]
    registry = node["registry"]
    role = f"{node['role']}: {node['step']}" if node.get("step") else node["role"]
    return [
        role,
        node["vrrp_state"],
        {True: "here", False: "-"}.get(node["vip"], "?"),
        f"{node['epoch']}.{node['generation']} claimed by {node['claimed_by'] or 'nobody'}",
        f"{registry['confs']} confs {registry['hash'][:12]}",
        _replication_text(node, now),
        _readiness_text(node),
        _programs_text(node),
    ]


def _readiness_text(node: Node) -> str:
    readiness = node["readiness"]
    text = f"{readiness['loadable']} confs loadable"
    lacking = len(readiness["problems"]) + len(readiness["warnings"])
    return text + (f", {lacking} not" if lacking else "")


def _last_changes(nodes: Sequence[Node], now: float) -> list[str]:
    """The last change of role that is known of, and why."""
    known = [n["last_transition"] for n in nodes if n.get("reachable") and n.get("last_transition")]
    if not known:
        return []
    last = max(known, key=lambda e: e["at"])
    return [
        "",
        f"last change: {last['node']} became {last['to']} {age_text(max(0.0, now - last['at']))} ago: {last['text']} "
        f"[{last['code']}]",
    ]


LABELS = ("role", "VRRP", "VIP", "epoch", "registry", "replication", "readiness", "programs")


def render_status(nodes: Sequence[Node], now: float | None = None) -> str:
    """The screen as text. ``now`` is a wall clock time."""
    now = time.time() if now is None else now
    lines = [paint(f"! {text}", "red") for text in list_problems(nodes, now)]
    if lines:
        lines.append("")
    columns = [[str(n["name"]), *_column(n, now)] for n in nodes]
    widths = [max(map(len, column)) for column in columns]
    for number, label in enumerate(("", *LABELS)):
        cells = [column[number].ljust(width) for column, width in zip(columns, widths, strict=True)]
        lines.append(f"{label:<12} {'   '.join(cells)}".rstrip())
    return "\n".join(lines + _last_changes(nodes, now))
