"""``ha-agent alert``: active alerts, those sent recently, whether sinks work, and what every alert means."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from typing import Any

from ha_agent.adapters.control import CommandFailed
from ha_agent.adapters.terminal import complain, paint
from ha_agent.cli.nodes import Nodes, PeerUnreachable
from ha_agent.cli.options import Commands, positive_count, settings_of
from ha_agent.core.alert_codes import CODES
from ha_agent.core.words import Exit, Outcome

SCHEMA = 1
TEST_S = 330.0
COLOURS = {"critical": "red", "warning": "yellow", "info": "dim"}


def add_parser(commands: Commands) -> None:
    """Adds the command's grammar."""
    parts = commands.add_group(
        "alert", "what the agents raise the alarm about, and where it goes", "ha-agent alert test", "list|test|codes"
    )
    listing = parts.add("list", "active alerts, those sent recently, how the sinks are", "ha-agent alert list", _run_list)
    listing.add_argument("-n", type=positive_count, default=10, metavar="N", dest="count", help="recent alerts (default 10)")
    listing.add_argument("--json", action="store_true", help="as JSON (docs/json.md)")
    test = parts.add("test", "deliver a test to every sink of this node, now", "ha-agent alert test --sink ops", _run_test)
    test.add_argument("--sink", default="", metavar="NAME", help="only the one of section [sinks.NAME]")
    test.add_argument("--json", action="store_true", help="as JSON (docs/json.md)")
    codes = parts.add("codes", "every alert that there is, and what to do about it", "ha-agent alert codes", _run_codes)
    codes.add_argument("--json", action="store_true", help="as JSON (docs/json.md)")


def _run_list(options: argparse.Namespace) -> int:
    nodes = Nodes(settings_of(options))
    message = {"op": "alert-list", "count": options.count}
    answers = [nodes.ask_own(message)]
    code = Exit.DONE
    try:
        answers.append(nodes.ask_peer(message))
    except (PeerUnreachable, CommandFailed) as error:
        complain(str(error))
        code = Exit.PEER_UNREACHABLE if isinstance(error, PeerUnreachable) else Exit.INCOMPLETE
    for answer in answers:
        answer.pop("id", None)
    if options.json:
        print(json.dumps({"schema": SCHEMA, "nodes": answers}, indent=2))
        return code
    for number, answer in enumerate(answers):
        print(("\n" if number else "") + "\n".join(describe_alerts(answer)))
    return code


def describe_alerts(answer: Mapping[str, Any]) -> list[str]:
    """The lines about one node."""
    lines = [paint(str(answer["node"]), "bold")]
    lasting = [row for row in answer["lasting"] if row["told"] or row["silenced"]]
    lines += [f"  {line}" for row in lasting for line in _lasting_lines(row)] or ["  no active alerts"]
    if answer["recent"]:
        lines.append("  recent:")
        lines += [f"    {_recent_line(row)}" for row in answer["recent"]]
    if not answer["sinks"]:
        lines.append("  no sink is configured: alerts are listed here and go nowhere else (see: ha-agent config sample)")
    for name, sink in answer["sinks"].items():
        word = paint("works", "green") if not sink["failures"] else paint(f"fails: {sink['problem']}", "red")
        counts = f"{sink['delivered']} delivered, {sink['waiting']} waiting, {sink['dropped']} dropped"
        lines.append(f"  sink {name} ({sink['kind']}): {word}; {counts}")
    return lines


def _lasting_lines(row: Mapping[str, Any]) -> list[str]:
    severity = str(row["severity"])
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(row["since"])))
    silenced = " (silenced by maintenance)" if row["silenced"] else ""
    head = f"{paint(severity.upper(), COLOURS[severity])}  {row['text']}  [{row['code']}] since {since}{silenced}"
    return [head, f"         -> {row['remedy']}"]


def _recent_line(row: Mapping[str, Any]) -> str:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(row["at"])))
    kind = {"moment": "", "begin": "", "repeat": "still: ", "end": "over: "}[row["kind"]]
    return f"{when}  {paint(row['severity'].ljust(8), COLOURS[row['severity']])}  {kind}{row['text']}  [{row['code']}]"


def _run_test(options: argparse.Namespace) -> int:
    nodes = Nodes(settings_of(options))
    answer = nodes.ask_own({"op": "alert-test", "sink": options.sink}, TEST_S)
    if options.json:
        known = {"outcome": answer["outcome"], "reason": answer.get("reason")}
        print(json.dumps({"schema": SCHEMA, **known, "results": answer.get("results", [])}, indent=2))
    if answer["outcome"] != Outcome.DONE:
        if not options.json:
            complain(str(answer["reason"]))
        return Exit.REFUSED
    for row in () if options.json else answer["results"]:
        word = paint("delivered", "green") if row["delivered"] else paint("FAILED", "red")
        print(f"{row['sink']} ({row['kind']}): {word}: {row['said']}")
    return Exit.DONE if all(row["delivered"] for row in answer["results"]) else Exit.FAILED


def _run_codes(options: argparse.Namespace) -> int:
    if options.json:
        rows = [
            {"code": c.code, "severity": c.severity.value, "lasting": c.lasting, "title": c.title, "remedy": c.remedy}
            for c in CODES.values()
        ]
        print(json.dumps({"schema": SCHEMA, "codes": rows}, indent=2))
        return Exit.DONE
    for code in CODES.values():
        lasts = "lasts" if code.lasting else "once"
        print(f"{paint(code.code.ljust(22), 'bold')} {code.severity.value:<9} {lasts:<6} {code.title}")
        print(f"{'':22} -> {code.remedy}")
    return Exit.DONE
