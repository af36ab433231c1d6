"""``ha-agent sync`` and ``ha-agent diff``: the registry here against the peer's."""

from __future__ import annotations

import argparse
import base64
import difflib
import json
from collections.abc import Mapping
from typing import Any

from ha_agent.adapters.terminal import complain, paint
from ha_agent.cli.nodes import Nodes
from ha_agent.cli.options import Commands, duration, settings_of
from ha_agent.core.manifest import Entry, Manifest
from ha_agent.core.visible import visible
from ha_agent.core.width import count_text
from ha_agent.core.words import Exit, Outcome

SCHEMA = 1

SYNC_EXITS: Mapping[str, Exit] = {
    Outcome.IN_SYNC: Exit.DONE,
    Outcome.REFUSED: Exit.REFUSED,
    Outcome.UNREACHABLE: Exit.PEER_UNREACHABLE,
    Outcome.HELD: Exit.REFUSED,
    Outcome.REFUSED_BY_PEER: Exit.INCOMPLETE,
    Outcome.TIMED_OUT: Exit.TIMED_OUT,
}


def add_parser(commands: Commands) -> None:
    """Adds the grammar of both commands."""
    sync = commands.add(
        "sync", "compare everything with the peer and push; on the active node", "ha-agent sync --accept-deletes", run_sync
    )
    sync.add_argument("--full", action="store_true", help="read every file again on this node, whatever its time stamps say")
    sync.add_argument("--accept-deletes", action="store_true", help="the deletions that are held are meant")
    sync.add_argument("--timeout", type=duration, default=30.0, metavar="S", help="seconds to wait (default 30)")
    sync.add_argument("--json", action="store_true", help="as JSON (docs/json.md)")
    diff = commands.add("diff", "show how the registry here differs from the peer's", "ha-agent diff", run_diff)
    diff.add_argument("--json", action="store_true", help="as JSON (docs/json.md)")
    diff.add_argument("--names", action="store_true", help="the names alone")


def run_sync(options: argparse.Namespace) -> int:
    """Runs ``sync``; returns the exit status."""
    nodes = Nodes(settings_of(options))
    message = {
        "op": "sync",
        "full": options.full,
        "accept_deletes": options.accept_deletes,
        "timeout_s": options.timeout,
    }
    answer = nodes.ask_own(message, options.timeout + 40.0)
    outcome = str(answer["outcome"])
    if options.json:
        answer.pop("id", None)
        print(json.dumps({"schema": SCHEMA, "confs": None, "reason": None, **answer}, indent=2))
    elif outcome == Outcome.IN_SYNC:
        print(f"in sync: {count_text(answer['confs'], 'conf')} on both nodes")
    else:
        complain(f"not in sync with {nodes.peer_name} ({outcome}): {answer.get('reason', '')}")
    return SYNC_EXITS.get(outcome, Exit.FAILED)


def run_diff(options: argparse.Namespace) -> int:
    """Runs ``diff``; returns 0 where both are equal, 1 where they differ (as diff(1) does)."""
    nodes = Nodes(settings_of(options))
    rows = compare_registries(nodes)
    if options.json:
        print(
            json.dumps({"schema": SCHEMA, "here": nodes.own_name, "there": nodes.peer_name, "differences": rows}, indent=2)
        )
    elif options.names:
        for row in rows:
            print(f"{row['change']}\t{visible(row['path'])}")
    else:
        for row in rows:
            _show(row, nodes)
    if not rows and not options.json:
        print("both registries are equal")
    return Exit.FAILED if rows else Exit.DONE


def compare_registries(nodes: Nodes) -> list[dict[str, Any]]:
    """What differs, by path: ``change`` is ``only-here``, ``only-there``, ``content`` or ``mode``, seen from here."""
    here = Manifest.from_rows(nodes.ask_own({"op": "manifest"}, 30.0)["rows"])
    there = Manifest.from_rows(nodes.ask_peer({"op": "manifest", "look": True}, 30.0)["rows"])
    paths = sorted({e.path for e in here if there.find(e.path) != e} | {e.path for e in there if here.find(e.path) != e})
    texts_here = _read_texts(nodes, nodes.own_name, [p for p in paths if p in here])
    texts_there = _read_texts(nodes, nodes.peer_name, [p for p in paths if p in there])
    return [
        _row(path, here.find(path), there.find(path), texts_here.get(path), texts_there.get(path), nodes) for path in paths
    ]


def _row(
    path: str, here: Entry | None, there: Entry | None, text: str | None, other: str | None, nodes: Nodes
) -> dict[str, Any]:
    if here is None or there is None:
        change = "only-there" if here is None else "only-here"
    else:
        change = "content" if here.sha256 != there.sha256 else "mode"
    lines = difflib.unified_diff(
        (other or "").splitlines(keepends=True),
        (text or "").splitlines(keepends=True),
        f"{nodes.peer_name}/{path}" if there else "/dev/null",
        f"{nodes.own_name}/{path}" if here else "/dev/null",
    )
    return {
        "path": path,
        "change": change,
        "mode_here": f"{here.mode:04o}" if here else None,
        "mode_there": f"{there.mode:04o}" if there else None,
        "diff": "".join(line if line.endswith("\n") else line + "\n\\ No newline at end of file\n" for line in lines),
    }


def _read_texts(nodes: Nodes, node: str, paths: list[str]) -> dict[str, str]:
    texts: dict[str, str] = {}
    left = list(paths)
    while left:
        answer = nodes.ask(node, {"op": "contents", "paths": left[:2000]}, 30.0)
        found = answer["contents"]
        if not found:
            break
        for path, content in found.items():
            if content is not None:
                texts[path] = base64.b64decode(content).decode("utf-8", "replace")
        for path in answer.get("withheld", ()):
            texts[path] = f"(on {node}: for root alone to read, as its mode says)\n"
        left = [p for p in left if p not in found]
    return texts


def _show(row: dict[str, Any], nodes: Nodes) -> None:
    if row["change"] == "mode":
        what = f"{visible(row['path'])}: mode {row['mode_there']} at {nodes.peer_name}, {row['mode_here']} here"
        print(paint(what, "bold"))
        return
    for line in row["diff"].splitlines():
        colour = {"+": "green", "-": "red", "@": "dim"}.get(line[:1])
        shown = visible(line, "\t")
        print(paint(shown, colour) if colour else shown)
