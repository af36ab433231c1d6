"""supervisord's vocabulary: the states of a process, groups of them, its fault numbers. Imports nothing of the project.

The words are those of ``supervisor.states`` and ``supervisor.xmlrpc.Faults`` (a test compares them), which a client that
does not run under supervisord's interpreter must not need. Where two groups have different borders, each says why.
"""

from __future__ import annotations

import re
from enum import IntEnum, StrEnum


class State(StrEnum):
    """What supervisord says of one process (``statename``)."""

    STOPPED = "STOPPED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    BACKOFF = "BACKOFF"
    """It ended too early and is started again."""
    STOPPING = "STOPPING"
    EXITED = "EXITED"
    FATAL = "FATAL"
    """It could not be started, and supervisord has given it up."""
    UNKNOWN = "UNKNOWN"
    """supervisord's own error: it has lost sight of the process."""


PARKED_STATE = "PARKED"
"""Not supervisord's word: what our lists show as the state of a parked program."""

WAITING_STATE = "WAITING"
"""Nor this: a program that is started after others, which are not up yet (docs/order.md)."""

STOPPED_STATES = frozenset({State.STOPPED, State.EXITED, State.FATAL, State.UNKNOWN})
"""No process, and none comes by itself: supervisorctl's status exits with 3 (``supervisor.states.STOPPED_STATES``)."""

LIVE_STATES = frozenset(State) - STOPPED_STATES
"""There is a process, or one comes by itself: what a stop must signal and wait for, and a start leaves alone."""

UP_STATES = LIVE_STATES - {State.STOPPING}
"""It is meant to run (``supervisor.states.RUNNING_STATES``). An end is unexpected here, and asked for in STOPPING."""

SETTLED_STATES = STOPPED_STATES | {State.RUNNING}
"""It stays so: a start or stop has come to its end, well or not."""

UNSETTLED_STATES = frozenset(State) - SETTLED_STATES
"""On the way to another state: one who waits for a start or stop looks again."""

FALLEN_STATES = frozenset({State.EXITED, State.FATAL, State.BACKOFF})
"""Reached by an end that nobody asked for. Not UNKNOWN, which tells nothing of the process."""

EXPLAINED_STATES = FALLEN_STATES | {State.UNKNOWN}
"""The exit status that supervisord holds belongs to this state, and is shown with it."""

TROUBLED_STATES = EXPLAINED_STATES - {State.EXITED}
"""Never right for a program that should run. An EXITED one may have done its work: its exit status decides."""


class FaultCode(IntEnum):
    """Numbers of supervisord's faults, and of the results of its batches (``supervisor.xmlrpc.Faults``)."""

    SHUTDOWN_STATE = 6
    """The answer to every call while supervisord is shutting down."""
    BAD_NAME = 10
    FAILED = 30
    ABNORMAL_TERMINATION = 40
    SPAWN_ERROR = 50
    ALREADY_STARTED = 60
    NOT_RUNNING = 70
    SUCCESS = 80
    ALREADY_ADDED = 90


_DEAF = "its socket is gone"


def deaf_text(pid: int, socket: str) -> str:
    """How a supervisord does not answer that is alive and has lost its socket."""
    return f"{_DEAF}: {socket} is not there, supervisord (pid {pid}) runs on"


def is_deaf(said: str) -> bool:
    """Whether a supervisord that does not answer as ``said`` is alive and has lost its socket."""
    return said.startswith(_DEAF)


def remedy_for(said: str) -> str:
    """What helps against a supervisord that does not answer as ``said``: nothing makes a lost socket anew but a new one."""
    return "systemctl restart supervisor" if is_deaf(said) else "systemctl start supervisor"


def full_name(group: str, name: str) -> str:
    """A process's name as supervisorctl shows it."""
    return name if group == name else f"{group}:{name}"


_TELLING = (
    (
        r"Format string .* for '([^']*)' contains names \('?([^']*?)'?\) which cannot be expanded\..*?(?= in section |$)",
        r"\1: there is nothing that %(\2)s could stand for",
    ),
    (r"Format string .* for '([^']*)' is badly formatted:", r"\1 is badly formatted:"),
    (r"Unexpected end of key/value pairs in value '.*'", 'environment is not KEY="value",KEY="value"'),
    (r"(\[line +\d+\]): ('[^'\n]*'|\"[^\"\n]*\")", r"\1"),
    (r"file: ('[^'\n]*', line: \d+)\n.*", r"file: \1"),
    (r"://[^/@\s]*@", "://...@"),
)
"""How supervisord's parser repeats a value in its messages, and what is left of such a message."""


def without_values(message: str) -> str:
    """A message of supervisord's about its configuration, without the values that it repeats: they may be passwords."""
    for pattern, rest in _TELLING:
        message = re.sub(pattern, rest, message, flags=re.DOTALL)
    return message
