"""``ha-agent history``: every transition and decision of both nodes, with cause, durations and outcome, in one list."""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import time
from collections.abc import Callable, Iterable

from ha_agent.adapters.control import CommandFailed
from ha_agent.adapters.terminal import complain, paint
from ha_agent.cli.nodes import Nodes, PeerUnreachable
from ha_agent.cli.options import Commands, duration, positive_count, settings_of
from ha_agent.core.frames import Message
from ha_agent.core.history import Event, merge_events
from ha_agent.core.words import Exit

SCHEMA = 1
FOLLOW_S = 0.5
LATE_S = 10.0
"""Longest time between an event of the peer and the moment when it becomes known here; it is shown nevertheless."""


def add_parser(commands: Commands) -> None:
    """Adds the command's grammar."""
    parser = commands.add("history", "show what happened on both nodes, and why", "ha-agent history --since 2h", run)
    parser.add_argument("-n", type=positive_count, default=30, metavar="N", dest="count", help="newest events (default 30)")
    parser.add_argument(
        "--since",
        type=moment,
        metavar="WHEN",
        help="events since then, all of them: 2h, 15min, or a local time such as 2026-11-21T14:00 or 14:00",
    )
    parser.add_argument("--follow", "-f", action="store_true", help="continue as events come, until Ctrl-C")
    parser.add_argument("--json", action="store_true", help="as JSON (docs/json.md); with --follow one event a line")


def moment(text: str) -> float:
    """A wall clock time of "2h" (ago), "14:00" (today) or "2026-11-21T14:00"; for argparse."""
    with contextlib.suppress(argparse.ArgumentTypeError):
        return time.time() - duration(text)
    full = f"{time.strftime('%Y-%m-%d')}T{text}" if re.fullmatch(r"\d{1,2}:\d\d(:\d\d)?", text) else text
    for pattern in ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d"):
        with contextlib.suppress(ValueError):
            return time.mktime(time.strptime(full, pattern))
    raise argparse.ArgumentTypeError(f"{text!r} is not a time; write 2h, 15min, 14:00 or 2026-11-21T14:00")


def steps_text(event: Event) -> str:
    """The durations of a plan's steps: "claim 2 ms, interlock 310 ms (released)"."""
    words = []
    for step in event.get("steps") or ():
        text = f"{step['step']} {ms_text(step.get('took_s', 0.0))}"
        if step.get("interlock"):
            text += f" ({step['interlock']})"
        words.append(text)
    return ", ".join(words)


def ms_text(seconds: float) -> str:
    """A short duration: "12 ms", "1.32 s"."""
    return f"{seconds * 1e3:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def event_line(event: Event) -> str:
    """One event as a line."""
    at = float(event["at"])
    clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) + f".{int(at % 1 * 1000):03d}"
    change = f"{event['from']} -> {event['to']}: " if "from" in event and "to" in event else ""
    line = f"{clock}  {event['node']:<10} {paint(str(event['code']), 'bold')}  {change}{event['text']}"
    if steps := steps_text(event):
        took = f"{event.get('plan', 'plan')} took {ms_text(event['took_s'])}: " if "took_s" in event else ""
        line += f"\n{'':25}{took}{steps}"
    if event.get("by"):
        line += f" (by {event['by']})"
    return line


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    nodes = Nodes(settings_of(options))
    count = 10_000 if options.since is not None else options.count
    events, problem = read_both(nodes, count, options.since or 0.0)
    shown = events if options.since is not None else events[-options.count :]
    if options.json and not options.follow:
        print(json.dumps({"schema": SCHEMA, "complete": problem is None, "events": shown}, indent=2))
    else:
        _show(shown, as_json=options.json)
    if problem:
        complain(f"{problem}; its events are missing here")
    if options.follow:
        _follow(nodes, shown, as_json=options.json)
    return Exit.PEER_UNREACHABLE if problem else Exit.DONE


def read_both(nodes: Nodes, count: int, since: float) -> tuple[list[Event], str | None]:
    """The events of both nodes, and why the peer's are missing where they are."""
    own = _read_pages(nodes.ask_own, count, since)
    try:
        return merge_events(own, _read_pages(lambda message: nodes.ask_peer(message, 3.0), count, since)), None
    except (PeerUnreachable, CommandFailed) as error:
        return merge_events(own), str(error)


def _read_pages(ask: Callable[[Message], Message], count: int, since: float) -> list[Event]:
    """The newest ``count`` events of one node, answer by answer."""
    events: list[Event] = []
    before = ""
    while True:
        answer = ask({"op": "history", "count": count - len(events), "since": since, "before": before})
        events = [*answer["events"], *events]
        # An older agent says of none that there are more.
        before = answer.get("older") or ""
        if not before or len(events) >= count:
            return events


def _show(events: Iterable[Event], *, as_json: bool) -> None:
    for event in events:
        print(json.dumps(event) if as_json else event_line(event), flush=True)


def _follow(nodes: Nodes, shown: list[Event], *, as_json: bool) -> None:
    known = {json.dumps(event, sort_keys=True) for event in shown}
    newest = max((float(e["at"]) for e in shown), default=time.time())
    while True:
        time.sleep(FOLLOW_S)
        events, _ = read_both(nodes, 1000, newest - LATE_S)
        fresh = [e for e in events if json.dumps(e, sort_keys=True) not in known]
        _show(fresh, as_json=as_json)
        known |= {json.dumps(e, sort_keys=True) for e in fresh}
        newest = max([newest, *(float(e["at"]) for e in events)])
