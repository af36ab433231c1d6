"""``ha-agent checks``: the health checks of the active node, what each has seen last, and what is done about it."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence

from ha_agent.adapters.terminal import complain, paint
from ha_agent.cli.nodes import Nodes
from ha_agent.cli.options import Commands, settings_of
from ha_agent.core.node_json import CheckJson, NodeJson
from ha_agent.core.problems import age_text
from ha_agent.core.words import Exit

SCHEMA = 1

COLOURS = {"passing": "green", "failing": "red"}


def add_parser(commands: Commands) -> None:
    """Adds the command's grammar."""
    summary = "list the health checks of the active node: what each has seen last, how long that took, what is done about it"
    parser = commands.add("checks", summary, "ha-agent checks", run)
    parser.add_argument("--json", action="store_true", help="as JSON (docs/json.md)")


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit status: 1 where a check fails."""
    seen = Nodes(settings_of(options)).status()
    active = find_active(seen)
    checks = active.get("checks", []) if active is not None and active["reachable"] else []
    if options.json:
        print(json.dumps({"schema": SCHEMA, "node": active["name"] if active else None, "checks": checks}, indent=2))
    elif active is None:
        complain("no node is known to be active, and only an active node is looked at; see ha-agent status")
    else:
        print("\n".join(list_checks(active["name"], checks, time.time())))
    if active is None:
        return Exit.PEER_UNREACHABLE if not all(n["reachable"] for n in seen) else Exit.FAILED
    return Exit.FAILED if any(check["health"] == "failing" for check in checks) else Exit.DONE


def find_active(seen: Sequence[NodeJson]) -> NodeJson | None:
    """The one active node among those that answer; None where there is none or two."""
    active = [n for n in seen if n["reachable"] and n["role"] == "active"]
    return active[0] if len(active) == 1 else None


def list_checks(node: str, checks: Sequence[CheckJson], now: float) -> list[str]:
    """The lines of the list. ``now``: wall clock seconds."""
    if not checks:
        return [f"there are no health checks on {node}: [checks.NAME] in agent.toml (docs/checks.md)"]
    rows = [("", "state", "for", "looks at", "on failure", "seen last"), *(_row(check, now) for check in checks)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [f"on {node}:"]
    for row, check in zip(rows, [None, *checks], strict=True):
        line = "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        colour = COLOURS.get(check["health"]) if check is not None else None
        lines.append(paint(line, colour) if colour else line)
        if check is not None and check["held"]:
            lines.append(f"  -> {check['held']}")
    return lines


def _row(check: CheckJson, now: float) -> tuple[str, ...]:
    since = age_text(max(0.0, now - check["since"])) if check["since"] else "-"
    seen = check["last"] or "-"
    if check["took_s"] and check["last"]:
        seen += f" ({check['took_s'] * 1e3:.1f} ms)"
    if check["waits"]:
        seen = check["waits"]
    what = check["kind"] + (f" of {check['program']}" if check["program"] else "")
    done = check["on_failure"] + (f", {check['restarts']} restarts" if check["restarts"] else "")
    return check["name"], check["health"], since, what, done, seen
