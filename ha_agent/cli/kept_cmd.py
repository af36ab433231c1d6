"""``ha-agent kept``: what replication replaced or deleted, on both nodes, and how to get it back."""

from __future__ import annotations

import argparse
import base64
import difflib
import json
import sys
import time
from collections.abc import Mapping
from typing import Any

from ha_agent.adapters.control import CommandFailed
from ha_agent.adapters.terminal import complain, is_yes, paint
from ha_agent.cli.nodes import Nodes, PeerUnreachable
from ha_agent.cli.options import Commands, duration, settings_of
from ha_agent.core.visible import visible
from ha_agent.core.words import Exit, Outcome

SCHEMA = 1
RESTORE_EXITS: Mapping[str, Exit] = {Outcome.IN_SYNC: Exit.DONE, Outcome.REFUSED: Exit.REFUSED}
"""Of any other outcome the copy is back here, and the peer lacks it."""

NAME_HELP = "NODE:GENERATION/PATH as `kept list` shows it; NODE: may be left out, @DIGEST tells two of one name apart"


class NoSuchCopy(CommandFailed):
    """No kept copy has this name; the text says what to do."""


def add_parser(commands: Commands) -> None:
    """Adds the command's grammar."""
    parts = commands.add_group(
        "kept",
        "show and restore what replication replaced",
        "ha-agent kept list --divergences",
        "list|show|diff|restore|prune",
    )
    listing = parts.add(
        "list", "list the kept copies of both nodes, oldest first", "ha-agent kept list redis.conf", run_list
    )
    listing.add_argument("path", nargs="?", help="only copies of this conf")
    listing.add_argument("--divergences", action="store_true", help="only contents that the nodes had never agreed on")
    listing.add_argument("--json", action="store_true", help="as JSON (docs/json.md)")
    show = parts.add("show", "print a kept copy", "ha-agent kept show 3.17/redis.conf", run_show)
    show.add_argument("name", help=NAME_HELP)
    show.add_argument("--json", action="store_true", help="as JSON (docs/json.md)")
    diff = parts.add("diff", "compare a kept copy with the registry", "ha-agent kept diff 3.17/redis.conf", run_diff)
    diff.add_argument("name", help=NAME_HELP)
    diff.add_argument("--json", action="store_true", help="as JSON (docs/json.md)")
    summary = "put a kept copy back into the registry; on the active node; what stands there is kept"
    restore = parts.add("restore", summary, "ha-agent kept restore node-b:3.17/redis.conf", run_restore)
    restore.add_argument("name", help=NAME_HELP)
    restore.add_argument(
        "--as", dest="target", metavar="PATH", help="another path of the registry, such as redis.conf.parked"
    )
    restore.add_argument("--json", action="store_true", help="as JSON (docs/json.md)")
    prune = parts.add("prune", "remove old kept copies on both nodes", "ha-agent kept prune --older 90d", run_prune)
    prune.add_argument("--older", type=duration, required=True, metavar="TIME", help="generations older than this: 90d ...")
    prune.add_argument("--divergences", action="store_true", help="also contents that the nodes had never agreed on")
    prune.add_argument("--yes", action="store_true", help="do not ask")
    prune.add_argument("--json", action="store_true", help="as JSON (docs/json.md); asks nothing, so needs --yes")


def _list_both(nodes: Nodes) -> tuple[list[dict[str, Any]], str | None]:
    rows: list[dict[str, Any]] = []
    problem = None
    for node in (nodes.own_name, nodes.peer_name):
        try:
            rows += [{"node": node, **row} for row in nodes.ask(node, {"op": "kept-list"}, 30.0)["kept"]]
        except (PeerUnreachable, CommandFailed) as error:
            problem = str(error)
    return sorted(rows, key=lambda r: float(r["at"])), problem


def name_copies(rows: list[dict[str, Any]]) -> None:
    """Gives every row its ``name``; the digest's beginning is part of it where two copies would have the same."""
    taken: dict[str, int] = {}
    for row in rows:
        plain = f"{row['node']}:{row['generation']}/{row['path']}"
        taken[plain] = taken.get(plain, 0) + 1
    for row in rows:
        plain = f"{row['node']}:{row['generation']}/{row['path']}"
        row["name"] = plain if taken[plain] == 1 else f"{plain}@{row['sha256'][:12]}"


def find_copy(rows: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """The row that ``name`` means. Raises ``NoSuchCopy`` where there is none, or more than one."""
    found = [r for r in rows if name in (r["name"], r["name"].split(":", 1)[1])]
    if not found:
        found = [r for r in rows if name in (plain := f"{r['generation']}/{r['path']}", f"{r['node']}:{plain}")]
    if not found:
        raise NoSuchCopy(f"there is no kept copy {name}; see ha-agent kept list")
    if len({r["sha256"] for r in found}) > 1:
        raise NoSuchCopy(f"{name} means {' and '.join(r['name'] for r in found)}: write one of these")
    return found[0]


def run_list(options: argparse.Namespace) -> int:
    """Runs ``kept list``."""
    rows, problem = _list_both(Nodes(settings_of(options)))
    name_copies(rows)
    shown = [r for r in rows if (options.path in (None, r["path"])) and (r["divergence"] or not options.divergences)]
    if options.json:
        print(json.dumps({"schema": SCHEMA, "complete": problem is None, "kept": shown}, indent=2))
    else:
        for row in shown:
            at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row["at"]))
            mark = paint("  DIVERGENCE: the nodes had never agreed on it", "yellow") if row["divergence"] else ""
            print(f"{at}  {visible(row['name'])}  {row['size']} bytes, {visible(row['reason'])}{mark}")
        if not shown:
            print("no kept copies")
    if problem:
        complain(f"{problem}; its kept copies are missing here")
    return Exit.PEER_UNREACHABLE if problem else Exit.DONE


def _find(nodes: Nodes, name: str) -> dict[str, Any]:
    rows, problem = _list_both(nodes)
    name_copies(rows)
    try:
        return find_copy(rows, name)
    except NoSuchCopy as error:
        raise NoSuchCopy(f"{error} ({problem})" if problem else str(error)) from None


def _fetch(nodes: Nodes, name: str) -> tuple[dict[str, Any], bytes]:
    row = _find(nodes, name)
    message = {"op": "kept-read", **{k: row[k] for k in ("generation", "path", "sha256")}}
    content = nodes.ask(row["node"], message)["content"]
    if content is None:
        raise NoSuchCopy(f"{name} was removed meanwhile, or is damaged")
    return row, base64.b64decode(content)


def run_show(options: argparse.Namespace) -> int:
    """Runs ``kept show``."""
    row, content = _fetch(Nodes(settings_of(options)), options.name)
    if options.json:
        try:
            text: str | None = content.decode("utf-8")
        except UnicodeDecodeError:
            text = None
        exact = base64.b64encode(content).decode("ascii")
        print(json.dumps({"schema": SCHEMA, **row, "content": text, "base64": exact}, indent=2))
        return Exit.DONE
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()
    return Exit.DONE


def run_diff(options: argparse.Namespace) -> int:
    """Runs ``kept diff``; returns 0 where both are equal, 1 where they differ."""
    nodes = Nodes(settings_of(options))
    row, content = _fetch(nodes, options.name)
    answer = nodes.ask_own({"op": "contents", "paths": [row["path"]]})
    if answer.get("withheld"):
        complain(f"{row['path']} is for root alone to read, as its mode says; run this as root")
        return Exit.REFUSED
    present = answer["contents"][row["path"]]
    text = base64.b64decode(present or "").decode("utf-8", "replace")
    lines = list(
        difflib.unified_diff(
            content.decode("utf-8", "replace").splitlines(),
            text.splitlines(),
            row["name"],
            f"{nodes.own_name}/{row['path']}" if present is not None else "/dev/null",
            lineterm="",
        )
    )
    if options.json:
        document = {"name": row["name"], "path": row["path"], "equal": not lines, "diff": "".join(f"{x}\n" for x in lines)}
        print(json.dumps({"schema": SCHEMA, **document}, indent=2))
    else:
        print("\n".join(visible(line, "\t") for line in lines) if lines else "equal")
    return Exit.FAILED if lines else Exit.DONE


def run_restore(options: argparse.Namespace) -> int:
    """Runs ``kept restore``."""
    nodes = Nodes(settings_of(options))
    row = _find(nodes, options.name)
    path = options.target or row["path"]
    copy = {key: row[key] for key in ("generation", "path", "sha256")}
    there = row["node"] != nodes.own_name
    answer = nodes.ask_own({"op": "restore", **copy, "there": there, "target": options.target or ""}, 40.0)
    outcome = str(answer["outcome"])
    if options.json:
        document = {"outcome": outcome, "path": path, "replaced": answer.get("replaced"), "reason": answer.get("reason")}
        print(json.dumps({"schema": SCHEMA, **document}, indent=2))
        return RESTORE_EXITS.get(outcome, Exit.INCOMPLETE)
    if outcome == Outcome.REFUSED:
        complain(f"nothing was restored: {answer['reason']}")
        return Exit.REFUSED
    kept = f"; what stood there is {nodes.own_name}:{answer['replaced']}/{path}" if answer.get("replaced") else ""
    if outcome == Outcome.IN_SYNC:
        print(f"{visible(path)} is restored on both nodes{kept}; `supzcli update` loads it")
        return Exit.DONE
    complain(
        f"{path} is restored here{kept}, but {nodes.peer_name} does not have it ({outcome}): {answer.get('reason', '')}"
    )
    return Exit.INCOMPLETE


def run_prune(options: argparse.Namespace) -> int:
    """Runs ``kept prune``."""
    if options.json and not options.yes:
        complain("--json asks nothing: add --yes")
        return Exit.USAGE
    nodes = Nodes(settings_of(options))
    what = f"kept copies older than {options.older / 86400:g} days on both nodes"
    if not options.yes and not is_yes(f"Remove all {what}{', divergences too' if options.divergences else ''}?"):
        complain("nothing was removed; --yes removes without asking")
        return Exit.REFUSED
    code = Exit.DONE
    rows: list[dict[str, Any]] = []
    for node in (nodes.own_name, nodes.peer_name):
        message = {"op": "kept-prune", "older_s": options.older, "divergences": options.divergences}
        row: dict[str, Any] = {"name": node, "removed": None, "spared_s": None, "problem": None}
        rows.append(row)
        try:
            answer = nodes.ask(node, message, 60.0)
            row["removed"], row["spared_s"] = answer["removed"], answer.get("spared_s")
            if not options.json:
                print(f"{node}: {answer['removed']} generations removed")
            if spared_s := answer.get("spared_s"):
                complain(f"{node}: copies of the last {spared_s / 86400:g} days stay; root of {node} can remove them there")
                code = Exit.INCOMPLETE
        except (PeerUnreachable, CommandFailed) as error:
            row["problem"] = str(error)
            complain(f"{error}: nothing was removed there")
            code = Exit.INCOMPLETE
    if options.json:
        print(json.dumps({"schema": SCHEMA, "complete": code == Exit.DONE, "nodes": rows}, indent=2))
    return code
