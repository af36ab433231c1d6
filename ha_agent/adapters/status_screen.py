"""``ha-agent status`` as text: both nodes on one screen, what is wrong first. Pure: data in, lines out."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence

from ha_agent.adapters.terminal import fit, paint
from ha_agent.core.findings import NAGIOS, Severity
from ha_agent.core.glimpse import Glimpse, find_severity, list_remedies, list_rows, say_verdict, say_why
from ha_agent.core.node_json import NodeAccountJson, NodeJson
from ha_agent.core.payload_text import say_payload
from ha_agent.core.problems import age_text, find_problems, verdict
from ha_agent.core.supervisor_words import State
from ha_agent.core.vip import find_missing
from ha_agent.core.votes_text import say_votes_of
from ha_agent.core.wait_texts import say_wait
from ha_agent.core.width import count_text

OLD_S = 2.0
"""A look that is older is said to be so."""


def _look_text(node: NodeAccountJson, now: float) -> str:
    """Of when the programs' states are, where supervisord was not asked for this."""
    looked = node.get("programs_at")
    if looked is None or node.get("programs_by") != "events" or now - looked < OLD_S:
        return ""
    return f" (by events since {age_text(now - looked)} ago)"


def _programs_text(node: NodeAccountJson) -> str:
    states = Counter(p["state"] for p in node["programs"])
    words = [f"{count} {state}" for state, count in sorted(states.items())]
    parked = node["registry"]["parked"]
    if node.get("verifying"):
        count = sum(states.values())
        words = [f"starting {count - states[State.RUNNING]} of {count}"]
    nothing = "none" if node["supervisord"] == "up" else "unknown: supervisord cannot be asked"
    return ", ".join(words or [nothing]) + (f", {len(parked)} parked" if parked else "")


def _replication_text(node: NodeAccountJson, now: float) -> str:
    replication = node["replication"]
    state = replication["state"]
    words = {"in_sync": "in sync", "receiving": "receives from the active node", "unreachable": "peer unreachable"}
    text = str(words.get(state, state))
    if paths := node.get("paths"):
        text += f", {sum(path['up'] is True for path in paths)} of {len(paths)} paths"
    if replication.get("pending"):
        since = replication.get("pending_since")
        text += f", {replication['pending']} changes pending" + (f" for {age_text(now - since)}" if since else "")
    return text


def _column(node: NodeJson, now: float) -> list[str]:
    if not node["reachable"]:
        heard_at = node.get("heard_at")
        heard = f"{age_text(now - heard_at)} ago" if heard_at else "never"
        known = f"{node.get('role', '?')} when last heard" if node.get("role") else "?"
        return ["unreachable", known, f"heard {heard}", "?", "?", "?", "?", "?"]
    registry = node["registry"]
    role = f"{node['role']}: {node['step']}" if node.get("step") else node["role"]
    return [
        role,
        node["vrrp_state"],
        _vip_text(node),
        f"{node['epoch']} by {node['claimed_by'] or 'nobody'}, revision {node['generation']}",
        f"{registry['confs']} confs {registry['hash'][:12]}",
        _replication_text(node, now),
        _readiness_text(node),
        _programs_text(node) + _look_text(node, now),
    ]


def _vip_text(node: NodeAccountJson) -> str:
    vips = node.get("vips", {})
    if find_missing(vips):
        return f"{sum(here is True for here in vips.values())} of {len(vips)} here"
    return {True: "here", False: "-", None: "?"}[node["vip"]]


def _readiness_text(node: NodeAccountJson) -> str:
    """Counts that add up: of all confs so many can be loaded, and of those so many lack something."""
    readiness = node["readiness"]
    all_confs = readiness["loadable"] + len(readiness["problems"])
    text = f"{readiness['loadable']} of {all_confs} confs loadable"
    text += f", {len(readiness['warnings'])} incomplete" if readiness["warnings"] else ""
    payload = node.get("payload")
    if not payload or payload["starter"] != node["name"]:
        return text
    differing = {program for drift in payload["drifts"] for program in drift["programs"]}
    return text + (f", files of {count_text(len(differing), 'program')} differ" if differing else "")


def _votes_text(node: NodeJson) -> str:
    if not node["reachable"]:
        return "?"
    votes = node.get("votes")
    return say_votes_of(votes, node["name"]).removeprefix("votes ") if votes else "no witness"


def _checks_text(node: NodeJson) -> str:
    """Of the active node; a standby makes none."""
    if not node["reachable"]:
        return "?"
    checks = node.get("checks", [])
    if node["role"] != "active":
        return "-"
    counts = Counter(check["health"] for check in checks)
    words = (("passing", "pass"), ("failing", "fail"), ("unknown", "not known yet"))
    return ", ".join(f"{counts[health]} {word}" for health, word in words if counts[health]) or "none"


def _payload_sync_text(node: NodeJson) -> str:
    payload = node.get("payload_sync") if node["reachable"] else None
    if not payload:
        return "?" if not node["reachable"] else "-"
    return say_payload(payload)


def _last_changes(nodes: Sequence[NodeJson], now: float) -> list[str]:
    """The last change of role that is known of, and why."""
    changes = [n.get("last_transition") for n in nodes if n["reachable"]]
    known = [change for change in changes if change]
    if not known:
        return []
    last = max(known, key=lambda e: e["at"])
    age = age_text(max(0.0, now - last["at"]))
    return [
        "",
        *fit(f"{last['node']} became {last['to']} {age} ago: {last['text']} [{last['code']}]", "  ", "last change: "),
    ]


def _waits(nodes: Sequence[NodeJson], now: float) -> list[str]:
    """Who is started after others, and what has not come yet; who was not started is among the problems."""
    rows = [(n["name"], w) for n in nodes if n["reachable"] for w in n.get("waits", []) if w["given_up"] is None]
    said = [f"{name}: {wait['group']} {say_wait(wait['waits_for'], now - wait['since'])}" for name, wait in rows]
    more = [f"and {len(said) - MOST_WAITS} more"] if len(said) > MOST_WAITS else []
    return ["", *said[:MOST_WAITS], *more] if said else []


MOST_WAITS = 20

COLOURS = {Severity.OK: "green", Severity.WARNING: "yellow", Severity.ERROR: "red", Severity.UNKNOWN: "yellow"}

LABELS = ("role", "VRRP", "VIP", "takeover", "registry", "replication", "readiness", "programs")


def render_status(nodes: Sequence[NodeJson], now: float | None = None) -> str:
    """The screen as text. ``now`` is a wall clock time."""
    now = time.time() if now is None else now
    problems = find_problems(nodes, now)
    severity, said = verdict(nodes, problems)
    lines = [paint(line, COLOURS[severity]) for line in fit(said, "  ", f"{NAGIOS[severity]}: ")]
    for problem in problems:
        lines += [paint(line, COLOURS[problem.severity]) for line in fit(problem.text, "  ", "! ")]
        lines += fit(problem.remedy, "     ", "  -> ")
    lines.append("")
    has_votes = any(n["reachable"] and n.get("votes") for n in nodes)
    has_checks = any(n["reachable"] and n.get("checks") for n in nodes)
    more: list[tuple[str, Callable[[NodeJson], str]]] = []
    more += [("votes", _votes_text)] if has_votes else []
    more += [("checks", _checks_text)] if has_checks else []
    more += [("payload", _payload_sync_text)] if any(n["reachable"] and n.get("payload_sync") for n in nodes) else []
    columns = [[str(n["name"]), *_column(n, now), *(say(n) for _, say in more)] for n in nodes]
    widths = [max(map(len, column)) for column in columns]
    for number, label in enumerate(("", *LABELS, *(label for label, _ in more))):
        cells = [column[number].ljust(width) for column, width in zip(columns, widths, strict=True)]
        lines.append(f"{label:<12} {'   '.join(cells)}".rstrip())
    return "\n".join(lines + _waits(nodes, now) + _last_changes(nodes, now))


def render_glimpse(seen: Glimpse, now: float | None = None) -> str:
    """The screen of a node whose agent cannot be asked. ``now`` is a wall clock time."""
    now = time.time() if now is None else now
    severity = find_severity(seen)
    lines = fit(say_verdict(seen), "  ", f"{NAGIOS[severity]}: ")
    lines += fit(say_why(seen), "  ", "! ")
    lines = [paint(line, COLOURS[severity]) for line in lines]
    lines += [f"  -> {remedy}" for remedy in list_remedies(seen)]
    lines += ["", "What is seen without the agent:"]
    for label, text in list_rows(seen, now):
        lines += fit(text, " " * 14, f"{label:<14}")
    return "\n".join(lines)
