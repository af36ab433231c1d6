"""The vocabulary that every other module shares. Imports nothing of the project."""

from __future__ import annotations

from enum import Enum, IntEnum

PROTOCOL_VERSION = 1
"""Version of the frames that two agents exchange; a peer with another one is told so and refused."""


class VrrpState(str, Enum):
    """What keepalived reports of its VRRP instance, and nothing else."""

    MASTER = "MASTER"
    BACKUP = "BACKUP"
    FAULT = "FAULT"
    STOP = "STOP"
    DELETED = "DELETED"
    UNKNOWN = "UNKNOWN"
    """No report yet in this life of keepalived."""


class Role(str, Enum):
    """What the agent has made of the VRRP state."""

    STANDBY = "standby"
    TAKING_OVER = "taking_over"
    ACTIVE = "active"
    RELEASING = "releasing"
    FENCED = "fenced"
    """Something of the registry could not be ended here: the peer must not be told that it may start."""


OWNING_ROLES = frozenset({Role.TAKING_OVER, Role.ACTIVE})
"""Roles in which this node's registry is the truth."""


class Answer(str, Enum):
    """A receiver's answer to a transaction (design: replication)."""

    COMMITTED = "COMMITTED"
    STALE = "STALE"
    ACTIVE = "ACTIVE"
    NEED_FULL = "NEED_FULL"
    HELD = "HELD"
    NO_SPACE = "NO_SPACE"
    BAD = "BAD"


class Action(str, Enum):
    """What a decision asks the executor to do."""

    TAKE_OVER = "take_over"
    RELEASE = "release"
    NOTHING = "nothing"


class Step(str, Enum):
    """Names of the steps of a takeover and of a release, as the history shows them."""

    CLAIM = "claim"
    INTERLOCK = "interlock"
    ORPHANS = "orphans"
    ACTIVATE = "activate"
    LOAD = "load"
    VERIFY = "verify"
    DISARM = "disarm"
    STOP = "stop"
    SWEEP = "sweep"
    UNLOAD = "unload"


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
