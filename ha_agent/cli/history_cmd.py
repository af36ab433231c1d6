"""``ha-agent history``: every transition and decision of both nodes, with cause, durations and outcome, in one list."""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from ha_agent.adapters.control import CommandFailed, NoDaemon
from ha_agent.adapters.store import History
from ha_agent.adapters.terminal import complain, fit, paint
from ha_agent.cli.nodes import Nodes, PeerUnreachable
from ha_agent.cli.options import Commands, duration, positive_count, settings_of
from ha_agent.core.frames import Message
from ha_agent.core.history import Choice, Event, merge_events
from ha_agent.core.history_codes import EVENTS
from ha_agent.core.nearest import did_you_mean
from ha_agent.core.visible import visible_data
from ha_agent.core.width import pad
from ha_agent.core.words import Exit

SCHEMA = 1
MOST_EVENTS = 10_000
"""As many as the agent gives out at once."""

FOLLOW_COUNT = 1000
FOLLOW_S = 0.5
LATE_S = 10.0
"""Longest time between an event of the peer and the moment when it becomes known here; it is shown nevertheless."""

INDENT = " " * 25

EARLY_S = 5.0
"""An event that is further in the future than this comes from a clock that is wrong: it is shown at once."""


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
    parser.add_argument("--code", action="append", default=[], metavar="CODE", help="only this code; several, or takeover-*")
    parser.add_argument("--program", action="append", default=[], metavar="NAME", help="only what is about NAME; several")
    parser.add_argument("--node", action="append", default=[], metavar="NODE", help="only what happened on NODE")
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
        if hooks := step.get("hooks"):
            text += f" ({', '.join(_hook_text(hook) for hook in hooks)})"
        words.append(text)
    return ", ".join(words)


def _hook_text(hook: Mapping[str, Any]) -> str:
    return f"{hook['hook']} {ms_text(hook['took_s'])}" + (" failed" if "failed" in hook else "")


def ms_text(seconds: float) -> str:
    """A short duration: "12 ms", "1.32 s"."""
    return f"{seconds * 1e3:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def event_line(event: Event) -> str:
    """One event as a line."""
    at = float(event["at"])
    clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) + f".{int(at % 1 * 1000):03d}"
    change = f"{event['from']} -> {event['to']}: " if "from" in event and "to" in event else ""
    steps = steps_text(event)
    by = f" (by {event['by']})" if event.get("by") else ""
    begin = f"{clock}  {pad(str(event['node']), 10)} "
    lines = fit(f"{event['code']}  {change}{event['text']}{'' if steps else by}", INDENT, begin)
    lines[0] = lines[0].replace(f" {event['code']} ", f" {paint(str(event['code']), 'bold')} ", 1)
    if steps:
        took = f"{event.get('plan', 'plan')} took {ms_text(event['took_s'])}: " if "took_s" in event else ""
        lines += fit(f"{took}{steps}{by}", INDENT, INDENT)
    return "\n".join(lines)


@dataclass(slots=True)
class Reading:
    """What was read of both nodes at once. ``problem``: why the peer's events are missing; ``own_problem``: why this node's
    come from its disk, without its agent. ``at``: when the reading began, by this node's clock.
    """

    events: list[Event]
    at: float
    problem: str | None = None
    own_problem: str | None = None

    @property
    def exit_status(self) -> Exit:
        """With what a command ends that shows this."""
        if self.own_problem is not None:
            return Exit.NO_DAEMON
        return Exit.DONE if self.problem is None else Exit.PEER_UNREACHABLE


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    nodes = Nodes(settings_of(options))
    choice = Choice(tuple(options.code), tuple(options.program), tuple(options.node))
    if complaint := find_unknown(nodes, choice):
        complain(complaint)
        return Exit.USAGE
    is_bounded = options.since is None and choice.is_all
    # Whoever follows must know what was there before: what is read again is not new.
    count = MOST_EVENTS if not is_bounded else max(options.count, FOLLOW_COUNT if options.follow else 0)
    reading = read_all(nodes, count, options.since or 0.0)
    wanted = [e for e in reading.events if choice.takes(e)]
    shown = wanted if options.since is not None else wanted[-options.count :]
    if options.json and not options.follow:
        document = {
            "schema": SCHEMA,
            "complete": reading.exit_status == Exit.DONE,
            "source": "agent" if reading.own_problem is None else "disk",
            "events": shown,
        }
        print(json.dumps(document, indent=2))
    else:
        _show(shown, as_json=options.json)
    _say_what_is_missing(nodes, reading)
    if options.follow:
        Follower(nodes, choice, reading, as_json=options.json).run()
    return reading.exit_status


def find_unknown(nodes: Nodes, choice: Choice) -> str | None:
    """What is wrong with ``choice``: a node or a code that there is not; None where nothing is."""
    both = (nodes.own_name, nodes.peer_name)
    for node in choice.nodes:
        if node not in both:
            return f"--node {node}: there is no such node; there are {' and '.join(both)}"
    known = {word for code in EVENTS.values() for word in (code.code, code.former, code.former_of_role) if word}
    for code in choice.codes:
        if not any(fnmatch.fnmatchcase(word, code) for word in known):
            return f"--code {code}: no event is called so; {did_you_mean(code, known, 'ha-agent explain lists all codes')}"
    return None


def read_both(nodes: Nodes, count: int, since: float) -> tuple[list[Event], str | None]:
    """The events of both nodes, and why the peer's are missing where they are. Raises ``NoDaemon``."""
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


def read_all(nodes: Nodes, count: int, since: float) -> Reading:
    """As ``read_both``, and without an agent what this node's disk has. Raises ``NoDaemon`` where that cannot be read."""
    at = time.time()
    try:
        events, problem = read_both(nodes, count, since)
        return Reading(events, at, problem)
    except NoDaemon as error:
        return Reading(read_disk(nodes, count, since, error), at, own_problem=str(error))


def read_disk(nodes: Nodes, count: int, since: float, reason: NoDaemon) -> list[Event]:
    """The events on this node's disk. Raises ``reason`` where there are none, or where they are not for this user."""
    paths = nodes.settings.paths
    if not os.access(paths.state_dir, os.R_OK | os.X_OK):
        if os.path.isdir(paths.state_dir):
            raise NoDaemon(f"{reason}; the history on this disk is for root to read: run this as root") from None
        raise reason
    found = History(paths.state_dir, nodes.own_name, paths.history_max_bytes).read(count, since)
    return merge_events(visible_data({"events": found})["events"])


def _say_what_is_missing(nodes: Nodes, reading: Reading) -> None:
    if reading.own_problem is not None:
        complain(f"{reading.own_problem}; this is what the disk has, without the events of {nodes.peer_name}")
    elif reading.problem is not None:
        complain(f"{reading.problem}; its events are missing here")


def _show(events: Iterable[Event], *, as_json: bool) -> None:
    for event in events:
        print(json.dumps(event) if as_json else event_line(event), flush=True)


class Follower:
    """Shows events as they come, each once and in the order in which they happened.

    What happened on a node while that could not be asked is shown when it answers again, and is announced then: it is older
    than what was shown meanwhile.
    """

    def __init__(self, nodes: Nodes, choice: Choice, seen: Reading, *, as_json: bool) -> None:
        self._nodes, self._choice, self._as_json = nodes, choice, as_json
        self._known = {_key(event) for event in seen.events}
        self._shown_until = seen.at
        self._missing_since: float | None = seen.at if seen.exit_status != Exit.DONE else None
        self._problems = (seen.own_problem, seen.problem)

    def run(self) -> NoReturn:
        """Goes on until Ctrl-C."""
        while True:
            time.sleep(FOLLOW_S)
            _show(self.take(self.read()), as_json=self._as_json)

    def read(self) -> Reading:
        """One look at both nodes, far enough back for what has not been seen yet."""
        since = min(self._shown_until, self._missing_since or self._shown_until) - LATE_S
        return read_all(self._nodes, MOST_EVENTS, since)

    def take(self, reading: Reading) -> list[Event]:
        """What of ``reading`` is to be shown now, and says which node went away or came back.

        Both nodes were asked one after the other: what is newer than the beginning of that waits for the next look, so that
        nothing older comes behind it.
        """
        self._tell(reading)
        fresh = [e for e in reading.events if _key(e) not in self._known]
        ripe = [e for e in fresh if not reading.at < float(e["at"]) <= reading.at + EARLY_S]
        self._known |= {_key(e) for e in ripe}
        self._shown_until = reading.at
        if reading.exit_status == Exit.DONE:
            self._missing_since = None
        elif self._missing_since is None:
            self._missing_since = reading.at
        self._forget()
        return [e for e in ripe if self._choice.takes(e)]

    def _tell(self, reading: Reading) -> None:
        (own_before, peer_before), (own, peer) = self._problems, (reading.own_problem, reading.problem)
        self._problems = own, peer
        there, here = self._nodes.peer_name, self._nodes.own_name
        if own is not None and own_before is None:
            complain(f"{own}; events of {here} come from its disk now, those of {there} are missing")
        elif own is None and own_before is not None:
            complain(f"the agent of {here} answers again")
        if own is None and peer is not None and (peer_before is None or own_before is not None):
            complain(f"{peer}; its events are missing from now on")
        elif own is None and peer is None and (peer_before is not None or own_before is not None):
            complain(f"{there} answers again; what happened there meanwhile follows")

    def _forget(self) -> None:
        """What is too old to be read again need not be known any more."""
        oldest = min(self._shown_until, self._missing_since or self._shown_until) - 2 * LATE_S
        if len(self._known) > 2 * MOST_EVENTS:
            self._known = {key for key in self._known if key[0] >= oldest}


def _key(event: Event) -> tuple[float, str]:
    return float(event["at"]), json.dumps(event, sort_keys=True)
