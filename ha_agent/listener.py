"""``ha-agent-listener``: supervisord's event listener, which hands every change of a program's state to the agent.

Answers supervisord at once, so that its buffer of events stays empty, and waits for nobody: what the agent does not take in
time is held, and merged per program when it becomes too much. What may have been lost (supervisord's buffer ran over, this
process or the agent was started again) is told; the agent then reads every program. Does nothing else: it never alerts.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from typing import Any

from ha_agent.adapters.control import CommandFailed, NoDaemon, ask_daemon
from ha_agent.adapters.settings_paths import DEFAULT_PATH, read_places
from ha_agent.core.events import (
    EventDecoder,
    ProtocolError,
    StateEvent,
    lost_between,
    merge_state_events,
    says_stopping,
    state_event,
)
from ha_agent.core.places import DEFAULT_RUN_DIR
from ha_agent.core.reasons import reason_of
from ha_agent.core.words import Outcome

HELD = 2000
"""Up to this number events are held as they came; above it they are merged per program."""

BATCH = 1000
"""Largest number of events in one request to the agent."""

GATHER_S = 0.02
RETRY_S = 0.5
ANSWER_S = 10.0
LAST_WORD_S = 8.0
"""How long supervisord's reload may wait for an agent that does not answer. supervisord kills a listener 10 s after it was
told to end (stopwaitsecs), and reads its configuration again when all have ended."""

LAST_EVENT_S = 0.1
"""supervisord sends the event that it stops, and some ms later the signal to the listener."""

BEAT_S = 30.0
"""How often the agent hears from the listener when there are no events."""

READY = b"READY\n"
RESULT_OK = b"RESULT 2\nOK"


class Backlog:
    """Events on their way to the agent. Safe to use from two threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._events: list[StateEvent] = []
        self._lost = 0
        self._began = True
        self._stopping = False
        self._most = HELD
        self.ended = False

    def add(self, event: StateEvent | None, lost: int) -> None:
        """Takes in an event, and how many were lost before it."""
        with self._changed:
            self._lost += lost
            if event is not None:
                self._events.append(event)
                self._merge()
            self._changed.notify()

    def note_stopping(self) -> None:
        """supervisord stops everything, in order to end or to begin again."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def _merge(self) -> None:
        if len(self._events) > self._most:
            self._events = merge_state_events(self._events)
            # Of very many processes each has an event: merging at every one of them would be in vain.
            self._most = max(HELD, 2 * len(self._events))

    def end(self) -> None:
        """There will be no more."""
        with self._changed:
            self.ended = True
            self._changed.notify()

    def take(self, wait_s: float) -> dict[str, Any] | None:
        """The next report to the agent, after ``wait_s`` at most; None when all was reported and no more will come."""
        with self._changed:
            if not (self._events or self._lost or self._began or self._stopping or self.ended):
                self._changed.wait(wait_s)
            if self.ended and not (self._events or self._lost or self._stopping):
                return None
            events, self._events = self._events[:BATCH], self._events[BATCH:]
            told = {"events": [e.to_dict() for e in events], "lost": self._lost, "began": self._began}
            told["stopping"] = self._stopping
            self._lost, self._began, self._stopping = 0, False, False
            return told

    def put_back(self, told: dict[str, Any]) -> None:
        """Reports once more what ``take`` returned and the agent did not accept, before what came since."""
        with self._changed:
            self._events = [StateEvent.from_dict(raw) for raw in told["events"]] + self._events
            self._merge()
            self._lost += told["lost"]
            self._began |= told["began"]
            self._stopping |= told["stopping"]


def say(text: str) -> None:
    """Tells supervisord's log of this listener."""
    print(f"ha-agent-listener: {text}", file=sys.stderr, flush=True)


def tell_agent(backlog: Backlog, run_dir: str) -> None:
    """Hands over what is in ``backlog`` until its end. An agent that is away gets it when it is back."""
    silent = False
    while (told := backlog.take(BEAT_S)) is not None:
        try:
            answer = ask_daemon(run_dir, {"op": "program-events", **told}, ANSWER_S)
            if answer.get("outcome") != Outcome.TAKEN:
                raise CommandFailed(str(answer.get("reason", answer)))
        except (NoDaemon, CommandFailed, TimeoutError, OSError) as error:
            backlog.put_back(told)
            if not silent:
                print(
                    f"ha-agent-listener: the agent does not take events, they are held: {reason_of(error)}",
                    file=sys.stderr,
                    flush=True,
                )
            silent = True
            if backlog.ended:
                return
            time.sleep(RETRY_S)
            continue
        if silent:
            say("the agent takes events again")
        silent = False
        # A burst becomes a few messages instead of many.
        time.sleep(GATHER_S)


def serve(read_fd: int, write_fd: int, backlog: Backlog) -> None:
    """Speaks with supervisord until it closes its end. Raises ``ProtocolError``, and ``OSError`` where it is gone."""
    decoder = EventDecoder()
    last: int | None = None
    os.write(write_fd, READY)
    while data := os.read(read_fd, 65536):
        for raw in decoder.feed(data):
            lost, last = lost_between(last, raw.pool_serial), raw.pool_serial
            backlog.add(state_event(raw, round(time.time(), 3)), lost)
            if says_stopping(raw):
                backlog.note_stopping()
            os.write(write_fd, RESULT_OK + READY)


def build_parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    parser = argparse.ArgumentParser(
        prog="ha-agent-listener",
        description="Hands the changes of state of supervisord's programs to ha-agent. For supervisord to start, as the "
        "command of an [eventlistener:ha-agent-listener] with "
        "events=PROCESS_STATE,SUPERVISOR_STATE_CHANGE.",
    )
    parser.add_argument("--config", default=DEFAULT_PATH, help="the agent's configuration (default %(default)s)")
    return parser


class Terminated(Exception):
    """SIGTERM: supervisord ends its listeners with everything else, also where it begins again."""


def _terminate(number: int, _frame: object) -> None:
    """At SIGTERM supervisord's last event may be on its way: it is waited for a moment, until SIGALRM."""
    if number == signal.SIGALRM:
        raise Terminated
    signal.setitimer(signal.ITIMER_REAL, LAST_EVENT_S)


def main() -> int:
    """Command line: ``ha-agent-listener``, as the command of an ``[eventlistener:...]`` of supervisord."""
    options = build_parser().parse_args()
    if "SUPERVISOR_SERVER_URL" not in os.environ:
        say("it is started by supervisord, in an [eventlistener:...] section")
        return 2
    backlog = Backlog()
    try:
        run_dir = read_places(options.config)[0]
    except (OSError, ValueError):
        # The agent says what is wrong with it; events are held until it runs.
        run_dir = DEFAULT_RUN_DIR
    teller = threading.Thread(target=tell_agent, args=(backlog, run_dir), daemon=True)
    teller.start()
    code = 0
    for number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, _terminate)
    try:
        serve(0, 1, backlog)
    except Terminated:
        # What was heard last, that supervisord stops, has still to be told.
        code = 0
    except ProtocolError as error:
        say(f"{error}; supervisord starts it again")
        code = 1
    except OSError as error:
        say(f"supervisord is gone: {reason_of(error)}")
    except KeyboardInterrupt:
        code = 130
    for number in (signal.SIGTERM, signal.SIGALRM):
        # It ends already.
        signal.signal(number, signal.SIG_IGN)
    backlog.end()
    teller.join(LAST_WORD_S)
    return code
