"""One alert for a whole takeover, with what became of its programs, and one for a release."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ha_agent.core.alerts import Moment
from ha_agent.core.transitions import Transition, Verification
from ha_agent.core.words import Role

SUMMARY_S = 15.0
"""A takeover whose programs are not all settled by then is summed up without them."""

OLD_S = 86400.0
"""A takeover that is older is not told of any more."""


class TakeoverSummary:
    """Hears the role loop and makes moments of it. ``clock``: monotonic seconds."""

    def __init__(self, node: str, clock: Callable[[], float]) -> None:
        self._node, self._clock = node, clock
        self._pending: Transition | None = None
        self._due_mono = 0.0
        self._cause = ""
        """Why the last takeover was begun."""
        self._moments: list[Moment] = []

    @property
    def is_due(self) -> bool:
        """Whether a takeover has waited long enough for its programs."""
        return self._pending is not None and self._clock() >= self._due_mono

    def take_moments(self) -> list[Moment]:
        """What is to be told since this was asked last."""
        found, self._moments = self._moments, []
        return found

    def hear_transition(self, told: Transition) -> None:
        """Takes in a change of role."""
        if told.after is Role.TAKING_OVER:
            self._cause = told.reason
        elif told.after is Role.ACTIVE:
            self._pending, self._due_mono = told, self._clock() + SUMMARY_S
        elif told.before in (Role.RELEASING, Role.FENCED):
            self._pending = None
            if told.after is Role.STANDBY:
                text = f"{self._node} is standby after {told.took_s or 0:.2f} s: {told.reason}"
                self._moments.append(Moment("role-standby", self._node, text, {"report": dict(told.event)}))

    def hear_verification(self, seen: Verification) -> None:
        """Takes in what became of the programs."""
        self._sum_up(seen)

    def sum_up_late(self) -> None:
        """Tells of a takeover whose programs have not settled."""
        self._sum_up(None)

    def make_up_for(self, last: Transition | None, seen: Verification, now_wall: float, *, told: bool) -> None:
        """Sums up the takeover ``last`` where an agent before this one did not live to tell of it (``told``: it did)."""
        if last is not None and last.after is Role.ACTIVE and not told and now_wall - last.at_wall < OLD_S:
            self._pending = last
            self._sum_up(seen)

    def _sum_up(self, seen: Verification | None) -> None:
        """Tells of a takeover once, with what became of its programs as far as that is known."""
        told, self._pending = self._pending, None
        if told is None:
            return
        how = next((str(s["interlock"]) for s in told.steps if "interlock" in s), "none")
        because = f"{self._cause}; " if self._cause else ""
        text = f"{self._node} is active after {told.took_s or 0:.2f} s ({because}the peer's word: {how})"
        report: dict[str, Any] = dict(told.event)
        if seen is None:
            text += ", programs are still starting"
        else:
            text += f": {seen.running} programs running, {len(seen.failed)} failed"
            text += "".join(f"; {name}: {why}" for name, why in list(seen.failed.items())[:10])
            report["programs"] = {"running": seen.running, "failed": dict(seen.failed), "took_s": seen.took_s}
        self._moments.append(Moment("role-active", self._node, text, {"report": report}))
