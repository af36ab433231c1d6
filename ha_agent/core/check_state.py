"""What the looks of one check come to: when it counts as failing, and when as well again. Pure.

Neither a single bad answer nor a single good one says anything, unless ``fall`` or ``rise`` is 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class Health(StrEnum):
    """What is known of what a check looks at."""

    UNKNOWN = "unknown"
    """It has not been looked at often enough since this node is active."""
    PASSING = "passing"
    FAILING = "failing"


@dataclass(frozen=True, slots=True)
class Limits:
    """``fall`` failures in a row make it failing, ``rise`` good answers in a row make it well again."""

    fall: int
    rise: int


@dataclass(frozen=True, slots=True)
class Result:
    """One look: whether it was good, what was seen in a line, and how long that took, in seconds."""

    is_good: bool
    text: str
    took_s: float


@dataclass(frozen=True, slots=True)
class CheckState:
    """Everything that was seen. ``good``, ``bad``: results in a row; ``bad`` counts again after something was done about it.

    ``since``: when ``health`` became what it is, wall clock seconds; None where it has never been anything.
    """

    health: Health = Health.UNKNOWN
    good: int = 0
    bad: int = 0
    since: float | None = None
    last: Result | None = None
    at: float | None = None
    """When ``last`` was."""


def take(state: CheckState, result: Result, limits: Limits, at: float) -> CheckState:
    """``state`` after one more look at wall clock time ``at``.

    What is not known yet is well with the first good answer: nobody waits for that.
    """
    good, bad = (state.good + 1, 0) if result.is_good else (0, state.bad + 1)
    health = state.health
    if bad >= limits.fall:
        health = Health.FAILING
    elif good >= limits.rise or (good and health is Health.UNKNOWN):
        health = Health.PASSING
    return CheckState(health, good, bad, state.since if health is state.health else at, result, at)


def is_due(state: CheckState, limits: Limits) -> bool:
    """Whether something is to be done: it fails, and has failed ``fall`` times since something was done last."""
    return state.health is Health.FAILING and state.bad >= limits.fall


def note_done(state: CheckState) -> CheckState:
    """``state`` after something was done about it: it still counts as failing, and must fail again for more to be done."""
    return replace(state, good=0, bad=0)
