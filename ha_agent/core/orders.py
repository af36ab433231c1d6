"""What operators have said of a node and that is in force there: its maintenance, and that it is to stay standby. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Orders:
    """What the other node must know of: a switchover to a node that must not take over would be an outage."""

    in_maintenance: bool = False
    stays_standby: bool = False


@dataclass(frozen=True, slots=True)
class StandbyOrder:
    """The order that a node takes over nothing until told otherwise: since when (wall clock seconds), by whom, and why."""

    since: float
    by: str
    reason: str
