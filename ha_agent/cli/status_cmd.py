"""``ha-agent status``: both nodes on one screen, once or live."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ha_agent.adapters.control import NoDaemon
from ha_agent.adapters.status_screen import render_glimpse, render_status
from ha_agent.adapters.terminal import is_terminal, redraw
from ha_agent.cli.nodes import Nodes
from ha_agent.cli.options import Commands, settings_of
from ha_agent.core.glimpse import Glimpse, find_severity, list_remedies, say_verdict, say_why
from ha_agent.core.node_json import NodeJson
from ha_agent.core.problems import find_problems, verdict
from ha_agent.core.settings import Settings
from ha_agent.core.words import Exit

SCHEMA = 1
WATCH_S = 1.0


def add_parser(commands: Commands) -> None:
    """Adds the command's grammar."""
    parser = commands.add("status", "show both nodes", "ha-agent status --json | jq '.nodes[].role'", run)
    parser.add_argument("--json", action="store_true", help="as JSON (docs/json.md); with --watch one line a change")
    parser.add_argument("--check", action="store_true", help="exit status: 0 all is well, 1 warnings, 2 critical, 3 unknown")
    parser.add_argument("--fresh", action="store_true", help="ask supervisord for every program, whatever its events told")
    parser.add_argument("--watch", action="store_true", help="continue until Ctrl-C; on a terminal the screen is redrawn")


def status_document(nodes: list[NodeJson]) -> dict[str, Any]:
    """The document of ``--json``."""
    problems = find_problems(nodes, time.time())
    severity, said = verdict(nodes, problems)
    return {
        "schema": SCHEMA,
        "severity": severity.name.lower(),
        "verdict": said,
        "problems": [problem.to_dict() for problem in problems],
        "nodes": nodes,
    }


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    settings = settings_of(options)
    nodes = Nodes(settings)
    if options.watch:
        return _watch(settings, nodes, as_json=options.json, fresh=options.fresh)
    try:
        seen = nodes.status(known=not options.fresh)
    except NoDaemon as error:
        return _show_glimpse(_glimpse(settings, error), options)
    print(json.dumps(status_document(seen), indent=2) if options.json else render_status(seen))
    if options.check:
        return int(verdict(seen, find_problems(seen, time.time()))[0])
    return Exit.DONE if all(n["reachable"] for n in seen) else Exit.PEER_UNREACHABLE


def _glimpse(settings: Settings, error: NoDaemon) -> Glimpse:
    """What is seen of this node without its agent. The looks are imported here alone: mostly the agent answers."""
    from ha_agent.adapters.glimpse import glimpse_node

    return glimpse_node(settings, str(error))


def _show_glimpse(seen: Glimpse, options: argparse.Namespace) -> int:
    print(json.dumps(glimpse_document(seen), indent=2) if options.json else render_glimpse(seen))
    return int(find_severity(seen)) if options.check else Exit.NO_DAEMON


def glimpse_document(seen: Glimpse) -> dict[str, Any]:
    """The document of ``--json`` where this node's agent cannot be asked: no account of either node."""
    severity = find_severity(seen)
    problem = {"code": "agent-down", "severity": severity.name.lower(), "node": seen.node, "since": None}
    return {
        "schema": SCHEMA,
        "severity": severity.name.lower(),
        "verdict": say_verdict(seen),
        "problems": [{**problem, "text": say_why(seen), "remedy": list_remedies(seen)[0]}],
        "nodes": [],
        "without_agent": seen.to_dict(),
    }


@dataclass(frozen=True, slots=True)
class _Look:
    """What one look of ``--watch`` saw. ``key``: what is compared with the look before."""

    key: object
    text: str
    document: dict[str, Any]


def _look(settings: Settings, nodes: Nodes, *, fresh: bool) -> _Look:
    """A look at both nodes; at this one alone where its agent cannot be asked."""
    try:
        seen = nodes.status(known=not fresh)
    except NoDaemon as error:
        glimpse = _glimpse(settings, error)
        return _Look(_without_times([glimpse.to_dict()]), render_glimpse(glimpse), glimpse_document(glimpse))
    except TimeoutError as error:
        said = str(error) or "the agent does not answer"
        unknown = {"schema": SCHEMA, "severity": "unknown", "verdict": said, "problems": [], "nodes": []}
        return _Look(said, f"! {said}", unknown)
    return _Look(_without_times(seen), render_status(seen), status_document(seen))


def _watch(settings: Settings, nodes: Nodes, *, as_json: bool, fresh: bool) -> int:
    """Shows what changes. A daemon that goes away is shown and waited for."""
    before: object = None
    if is_terminal() and not as_json:
        print("\033[2J", end="")
    while True:
        began = time.monotonic()
        seen = _look(settings, nodes, fresh=fresh)
        if as_json:
            if seen.key != before:
                print(json.dumps(seen.document), flush=True)
        elif is_terminal():
            redraw(f"{time.strftime('%H:%M:%S')}  Ctrl-C ends\n\n{seen.text}")
        elif seen.key != before:
            print(f"{time.strftime('%H:%M:%S')}\n{seen.text}\n", flush=True)
        before = seen.key
        time.sleep(max(0.0, WATCH_S - (time.monotonic() - began)))


def _without_times(nodes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    times = ("at", "heard_at", "programs_at", "programs_by")
    return [{k: v for k, v in node.items() if k not in times} for node in nodes]
