"""What the role loop tells those who listen to it: a change of role, and what became of a takeover's programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ha_agent.core.words import Role


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of role. ``event`` is its line of the history; times are seconds."""

    before: Role
    after: Role
    reason: str
    at_wall: float
    took_s: float | None = None
    """How long the plan took that led to it; None where none did."""
    steps: Sequence[Mapping[str, Any]] = ()
    event: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_event(cls, event: Mapping[str, Any]) -> Transition | None:
        """The transition in a line of the history; None where it holds none."""
        try:
            before, after = Role(event["from"]), Role(event["to"])
            took = event.get("took_s")
            times = [float(event["at"]), *([] if took is None else [float(took)])]
            steps = tuple(step for step in event.get("steps", ()) if isinstance(step, Mapping))
        except (KeyError, TypeError, ValueError, OverflowError):
            return None
        if not all(abs(seconds) < float("inf") for seconds in times):
            return None
        return cls(before, after, str(event.get("text", "")), times[0], None if took is None else times[1], steps, event)


@dataclass(frozen=True, slots=True)
class Verification:
    """What became of the programs of a takeover, or of those that an agent found when it was started again."""

    running: int
    failed: Mapping[str, str]
    took_s: float
    resumed: bool = False
    """Whether an agent that was started again has looked, and not the one that took over."""
