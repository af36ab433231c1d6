"""``ha-agent logs``: what both agents wrote into their journals, in one list, once or as it comes."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from collections.abc import Iterable
from typing import Any, NoReturn

from ha_agent.adapters.control import CommandFailed, NoDaemon
from ha_agent.adapters.program_path import SAFE_PATH, ProgramMissing, find_program
from ha_agent.adapters.terminal import complain, paint
from ha_agent.cli.history_cmd import moment
from ha_agent.cli.nodes import Nodes, PeerUnreachable
from ha_agent.cli.options import Commands, positive_count, settings_of
from ha_agent.core.journal_lines import Line, journal_words, merge_lines, read_lines
from ha_agent.core.reasons import reason_of
from ha_agent.core.visible import visible_data
from ha_agent.core.words import Exit

SCHEMA = 1
FOLLOW_S = 1.0
LATE_S = 5.0
READ_S = 15.0
COLOURS = {0: "red", 1: "red", 2: "red", 3: "red", 4: "yellow", 7: "dim"}


def add_parser(commands: Commands) -> None:
    """Adds the command's grammar."""
    parser = commands.add("logs", "show what both agents wrote into their logs, merged by time", "ha-agent logs -f", run)
    parser.add_argument("node", nargs="?", metavar="NODE", help="only that node's")
    parser.add_argument("-n", type=positive_count, default=50, metavar="N", dest="count", help="newest lines (default 50)")
    parser.add_argument("--since", type=moment, default=0.0, metavar="WHEN", help="lines since then: 2h, 15min, 14:00 ...")
    parser.add_argument(
        "--unit", choices=("ha-agent", "keepalived", "supervisor"), default="ha-agent", help="whose log (root)"
    )
    parser.add_argument("-f", "--follow", action="store_true", help="continue as lines come, until Ctrl-C")
    parser.add_argument("--json", action="store_true", help="as JSON (docs/json.md); with --follow one line a line")


class JournalUnread(Exception):
    """The journal of a node could not be read; the text says why."""


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    nodes = Nodes(settings_of(options))
    wanted = (nodes.own_name, nodes.peer_name) if options.node is None else (options.node,)
    if not set(wanted) <= {nodes.own_name, nodes.peer_name}:
        complain(f"{options.node}: there is no such node; there are {nodes.own_name} and {nodes.peer_name}")
        return Exit.USAGE
    lines, problems = read_journals(nodes, wanted, options.unit, options.count, options.since)
    shown = lines if options.since else lines[-options.count :]
    if options.json and not options.follow:
        rows = [{key: row[key] for key in ("node", "at", "priority", "text")} for row in shown]
        print(json.dumps({"schema": SCHEMA, "complete": not problems, "lines": rows}, indent=2))
    else:
        _show(shown, as_json=options.json)
    for problem in problems.values():
        complain(problem)
    if options.follow:
        _follow(nodes, wanted, options, lines, problems)
    if not problems:
        return Exit.DONE
    return Exit.PEER_UNREACHABLE if nodes.peer_name in problems else Exit.FAILED


def read_journals(
    nodes: Nodes, wanted: Iterable[str], unit: str, count: int, since: float
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The newest lines of the nodes ``wanted``, and why those of a node are missing. Raises what asking this node raises."""
    found: dict[str, list[Line]] = {}
    problems = {}
    for node in wanted:
        try:
            found[node] = read_journal(nodes, node, unit, count, since)
        except (PeerUnreachable, JournalUnread) as error:
            problems[node] = f"{error}; its lines are missing"
    return merge_lines(found), problems


def read_journal(nodes: Nodes, node: str, unit: str, count: int, since: float) -> list[Line]:
    """The newest lines of ``unit`` on ``node``; those of this node also without its agent, for root.

    Raises ``PeerUnreachable``, ``JournalUnread``, ``NotAllowed``, and ``NoDaemon`` where only the agent could have read it.
    """
    message = {"op": "journal", "unit": unit, "count": count, "since": since}
    try:
        answer = nodes.ask(node, message, READ_S)
    except NoDaemon:
        if node != nodes.own_name or os.geteuid() != 0:
            raise
        return _read_directly(unit, count, since)
    except CommandFailed as error:
        if node == nodes.peer_name and "unknown operation" in str(error):
            raise JournalUnread(f"{node} runs a version that cannot be asked for its log") from None
        raise
    if answer.get("failure"):
        raise JournalUnread(f"{node}: {answer['failure']}")
    return list(answer["lines"])


def _read_directly(unit: str, count: int, since: float) -> list[Line]:
    try:
        words = journal_words(find_program("journalctl"), unit, count, since)
        env = {"PATH": SAFE_PATH, "LC_ALL": "C.UTF-8"}
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=READ_S, env=env)
    except (ProgramMissing, OSError, subprocess.TimeoutExpired) as error:
        raise JournalUnread(f"the journal cannot be read: {reason_of(error)}") from None
    if done.returncode != 0:
        raise JournalUnread(
            f"journalctl ended with {done.returncode}: {done.stderr.decode('utf-8', 'replace').strip()[:300]}"
        )
    return [dict(visible_data(dict(line))) for line in read_lines(done.stdout.decode("utf-8", "replace"))]


def _show(rows: Iterable[dict[str, Any]], *, as_json: bool) -> None:
    for row in rows:
        if as_json:
            print(json.dumps({key: row[key] for key in ("node", "at", "priority", "text")}), flush=True)
        else:
            print(line_text(row), flush=True)


def line_text(row: dict[str, Any]) -> str:
    """One line as it is shown."""
    at = float(row["at"])
    clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) + f".{int(at % 1 * 1000):03d}"
    colour = COLOURS.get(int(row["priority"]))
    return f"{clock}  {row['node']:<10} {paint(row['text'], colour) if colour else row['text']}"


def _follow(
    nodes: Nodes, wanted: Iterable[str], options: argparse.Namespace, seen: list[dict[str, Any]], problems: dict[str, str]
) -> NoReturn:
    """Shows what comes. A node that goes away is said once, and what it wrote meanwhile follows when it is back."""
    known = {(row["node"], row["cursor"], row["at"]) for row in seen}
    read_until = dict.fromkeys(wanted, time.time())
    while True:
        time.sleep(FOLLOW_S)
        for node in read_until:
            began = time.time()
            try:
                fresh = read_journal(nodes, node, options.unit, 2000, read_until[node] - LATE_S)
            except (PeerUnreachable, JournalUnread, NoDaemon, TimeoutError) as error:
                if node not in problems:
                    problems[node] = str(error)
                    complain(f"{error or 'no answer in time'}; lines of {node} are missing from now on")
                continue
            if problems.pop(node, None) is not None:
                complain(f"{node} can be read again; what it wrote meanwhile follows")
            rows = [row for row in merge_lines({node: fresh}) if (node, row["cursor"], row["at"]) not in known]
            known |= {(node, row["cursor"], row["at"]) for row in rows}
            read_until[node] = began
            _show(rows, as_json=options.json)
