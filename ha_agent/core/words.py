"""The vocabulary that every other module shares. Imports nothing of the project."""

from __future__ import annotations

from enum import IntEnum, StrEnum

PROTOCOL_VERSION = 1
"""Version of the frames that two agents exchange; a peer with another one is told so and refused."""


class VrrpState(StrEnum):
    """What keepalived reports of its VRRP instance, and nothing else."""

    MASTER = "MASTER"
    BACKUP = "BACKUP"
    FAULT = "FAULT"
    STOP = "STOP"
    DELETED = "DELETED"
    UNKNOWN = "UNKNOWN"
    """No report yet in this life of keepalived."""


class Role(StrEnum):
    """What the agent has made of the VRRP state."""

    STANDBY = "standby"
    TAKING_OVER = "taking_over"
    ACTIVE = "active"
    RELEASING = "releasing"
    FENCED = "fenced"
    """Something of the registry could not be ended here: the peer must not be told that it may start."""


OWNING_ROLES = frozenset({Role.TAKING_OVER, Role.ACTIVE})
"""Roles in which this node's registry is the truth."""


class Answer(StrEnum):
    """A receiver's answer to a transaction (design: replication)."""

    COMMITTED = "COMMITTED"
    STALE = "STALE"
    ACTIVE = "ACTIVE"
    NEED_FULL = "NEED_FULL"
    HELD = "HELD"
    NO_SPACE = "NO_SPACE"
    BAD = "BAD"


class Action(StrEnum):
    """What a decision asks the executor to do."""

    TAKE_OVER = "take_over"
    RELEASE = "release"
    NOTHING = "nothing"


class Step(StrEnum):
    """Names of the steps of a takeover and of a release, as the history shows them."""

    CLAIM = "claim"
    INTERLOCK = "interlock"
    ORPHANS = "orphans"
    ACTIVATE = "activate"
    LOAD = "load"
    DISARM = "disarm"
    STOP = "stop"
    SWEEP = "sweep"
    UNLOAD = "unload"
    BEFORE_START = "before-start"
    AFTER_START = "after-start"
    BEFORE_STOP = "before-stop"
    AFTER_STOP = "after-stop"


class Refused(Exception):
    """A command is refused and nothing has changed; the text says why and what to do instead."""


class Exit(IntEnum):
    """Exit codes of the command line."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    PEER_UNREACHABLE = 4
    NO_DAEMON = 5
    TIMED_OUT = 6
    INCOMPLETE = 7


class CommandOutcome(StrEnum):
    """What became of an operator's command, as its ``--json``, the page and the HTTP interface say it."""

    DONE = "done"
    WOULD_DO = "would-do"
    """A dry run found nothing against it."""
    REFUSED = "refused"
    DECLINED = "declined"
    """The operator was asked, and said no."""
    INCOMPLETE = "incomplete"
    """Done, but not everything: programs failed, or the peer lacks the change."""
    TIMED_OUT = "timeout"
    FAILED = "failed"
    UNREACHABLE = "unreachable"
    PASSED = "passed"
    """Of a failover-test, which else has ``FAILED``."""
    NOT_NEEDED = "not-needed"


class Outcome(StrEnum):
    """What became of a request, under ``outcome`` in the daemon's answer, and of the question to a peer at a takeover."""

    DONE = "done"
    FAILED = "failed"
    REFUSED = "refused"
    """Nothing has changed; ``reason`` says why and what to do instead."""
    TIMED_OUT = "timeout"
    UNREACHABLE = "unreachable"
    """The peer does not answer. Whether it did what was asked is not known where ``reason`` says so."""
    ANSWERED = "answered"
    """The peer was asked; ``answer`` is its own answer."""

    BEGUN = "begun"
    """What was asked for runs on by itself; the history tells its end."""
    ON = "on"
    OFF = "off"
    SAVED = "saved"
    TAKEN = "taken"

    UP = "up"
    DOWN = "down"
    """supervisord does not answer."""
    FAULT = "fault"
    """supervisord refused; ``code`` and ``text`` are its own."""

    IN_SYNC = "in-sync"
    HELD = "held"
    """Deletions wait for an operator's word."""
    REFUSED_BY_PEER = "refused-by-peer"

    RELEASED = "released"
    """The peer's word that nothing of the registry is left running there."""
    MAINTENANCE = "maintenance"
    LEFT_RUNNING = "left-running"
    DEAD = "dead"
    """No sign of life from the peer, on a link that was up."""
    SILENT = "silent"
    """The peer's machine answers, its agent does not."""
    LINK_DOWN = "link-down"
