"""``ha-agent maintenance`` (``pause``, ``resume``): has both agents watch and do nothing for a stated time."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ha_agent.adapters.control import CommandFailed
from ha_agent.adapters.terminal import complain
from ha_agent.cli.nodes import Nodes, PeerUnreachable
from ha_agent.cli.options import Commands, duration, settings_of
from ha_agent.core.node_json import NodeJson
from ha_agent.core.words import Exit, Outcome

SCHEMA = 1

WHAT = "no role is changed, and nothing is started or stopped except by you"


def add_parser(commands: Commands) -> None:
    """Adds the grammar of ``maintenance``, and of ``pause`` and ``resume``, which do the same."""
    parts = commands.add_group(
        "maintenance",
        "have both agents watch and do nothing, for a stated time",
        "ha-agent maintenance on --for 2h --reason 'kernel update'",
        "show|on|off",
    )
    show = parts.add("show", "say of both nodes whether it is on, until when and why", "ha-agent maintenance", _run_show)
    summary = "begin, or change the end of what is under way; no role is changed, nothing is started or stopped"
    on = parts.add("on", summary, "ha-agent maintenance on --for 30min --reason 'new switch'", _run_on)
    off = parts.add("off", "end it now", "ha-agent maintenance off", _run_off)
    pause = commands.add("pause", "the same as maintenance on", "ha-agent pause --for 30min --reason 'new switch'", _run_on)
    resume = commands.add("resume", "the same as maintenance off", "ha-agent resume", _run_off)
    for parser in (on, pause):
        parser.add_argument(
            "--for", type=duration, default=3600.0, dest="for_s", metavar="TIME", help="2h, 30min ... (default 1h)"
        )
        parser.add_argument("--reason", default="", metavar="TEXT", help="shown wherever it is visible")
    for parser in (show, on, off, pause, resume):
        parser.add_argument("--json", action="store_true", help="as JSON (docs/json.md)")


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _print_json(rows: Sequence[Mapping[str, Any]], **more: Any) -> None:
    print(json.dumps({"schema": SCHEMA, **more, "nodes": rows}, indent=2))


def _run_show(options: argparse.Namespace) -> int:
    nodes = Nodes(settings_of(options)).status()
    rows = [_row(node) for node in nodes]
    if options.json:
        _print_json(rows)
    for row, node in zip(rows, nodes, strict=True):
        if row["on"] is None:
            complain(f"{row['name']} cannot be reached: {node.get('problem') or 'no link'}")
        elif not options.json:
            print(_describe(row))
    return Exit.DONE if all(row["on"] is not None for row in rows) else Exit.PEER_UNREACHABLE


def _row(node: NodeJson) -> dict[str, Any]:
    """What a node's account says of it; ``on`` is None where it was not reached."""
    present = node["maintenance"] if node["reachable"] else None
    known = {"since": None, "until": None, "reason": None, "by": None, **(present or {})}
    return {"name": node["name"], "on": present is not None if node["reachable"] else None, **known}


def _describe(row: Mapping[str, Any]) -> str:
    if not row["on"]:
        return f"{row['name']}: not in maintenance"
    reason = f" ({row['reason']})" if row["reason"] else ""
    return f"{row['name']}: in maintenance until {_when(row['until'])}, by {row['by']}{reason}"


def _run_on(options: argparse.Namespace) -> int:
    if not 1 <= options.for_s <= 7 * 86400:
        complain("--for: between 1s and 7d")
        return Exit.USAGE
    nodes = Nodes(settings_of(options))
    message = {"op": "maintenance", "on": True, "for_s": options.for_s, "reason": options.reason}
    code = Exit.DONE
    rows: list[dict[str, Any]] = []
    for name in (nodes.own_name, nodes.peer_name):
        row: dict[str, Any] = {"name": name, "on": False, "until": None, "problem": None}
        rows.append(row)
        try:
            answer = nodes.ask(name, message)
        except (PeerUnreachable, CommandFailed) as error:
            if name == nodes.own_name:
                raise
            row["problem"] = str(error)
            complain(
                f"{error}: maintenance is on for {nodes.own_name}; {nodes.peer_name} may still take over: ha-agent status"
            )
            code = Exit.INCOMPLETE
            continue
        if answer["outcome"] != Outcome.ON:
            row["problem"] = str(answer.get("reason", answer["outcome"]))
            complain(row["problem"])
            if name == nodes.own_name:
                code = Exit.REFUSED
                break
            complain(f"maintenance is on for {nodes.own_name} alone")
            code = Exit.INCOMPLETE
            continue
        row["on"], row["until"] = True, float(answer["until"])
    if options.json:
        _print_json(rows, complete=code == Exit.DONE)
        return code
    begun = [row for row in rows if row["on"]]
    # Both end within the same second, or nearly so: one line says it.
    if begun:
        print(f"{' and '.join(row['name'] for row in begun)}: maintenance until {_when(begun[0]['until'])}; {WHAT}")
    return code


def _run_off(options: argparse.Namespace) -> int:
    nodes = Nodes(settings_of(options))
    code = Exit.DONE
    rows: list[dict[str, Any]] = []
    for name in (nodes.own_name, nodes.peer_name):
        try:
            nodes.ask(name, {"op": "maintenance", "on": False})
            rows.append({"name": name, "on": False, "until": None, "problem": None})
        except (PeerUnreachable, CommandFailed) as error:
            if name == nodes.own_name:
                raise
            rows.append({"name": name, "on": None, "until": None, "problem": str(error)})
            complain(f"{error}: it may last there until its time is over")
            code = Exit.INCOMPLETE
    if options.json:
        _print_json(rows, complete=code == Exit.DONE)
    else:
        print(f"{' and '.join(row['name'] for row in rows if row['on'] is False)}: maintenance is off")
    return code
