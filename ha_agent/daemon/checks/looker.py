"""When checks are made: each at its interval, those of one slot in one wake of the loop, none while they are off."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ha_agent.adapters.check_probes import Probe
from ha_agent.core.check_state import Result
from ha_agent.core.checks import CheckSettings

SLOT_S = 0.25
"""What is due within it is begun together: a wake of an idle loop costs more than a look."""

IDLE_S = 1.0
"""How often it is asked at least whether checks are made at all."""


@dataclass(frozen=True, slots=True)
class Looks:
    """What there is to look at, and who says whether. ``is_on``: whether checks are made at all just now.

    ``judge``: whether one is to be looked at; or what it comes to, where that is known without.
    """

    probes: Mapping[str, tuple[CheckSettings, Probe]]
    is_on: Callable[[], bool]
    judge: Callable[[str], Result | bool]


class Looker:
    """``begun`` is called when checks begin to be made, ``take`` with each result. ``clock``: the loop's, monotonic."""

    def __init__(
        self, looks: Looks, begun: Callable[[], None], take: Callable[[str, Result], None], clock: Callable[[], float]
    ) -> None:
        self._looks, self._begun, self._take, self._clock = looks, begun, take, clock
        self._due: dict[str, float] = {}
        self._under_way: dict[str, Callable[[], None]] = {}
        """What breaks off the look at each."""
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Has it asked soon whether checks are made."""
        self._woken.set()

    def stop(self) -> None:
        """Breaks off every look at once. They begin again where ``is_on`` says so."""
        looks, self._due, self._under_way = self._under_way, {}, {}
        for break_off in looks.values():
            break_off()

    async def run(self) -> None:
        """Works until cancelled."""
        try:
            while True:
                if self._looks.is_on():
                    await self._wait(min(self._begin_due(), IDLE_S))
                else:
                    self.stop()
                    await self._wait(IDLE_S)
        finally:
            self.stop()

    async def _wait(self, limit_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._woken.wait()
        self._woken.clear()

    def _begin_due(self) -> float:
        """Begins the looks that are due; returns the seconds until the next slot in which there is one."""
        now = self._clock()
        if not self._due:
            self._begun()
            self._due = self._spread(now)
        for name, due in self._due.items():
            if due > now:
                continue
            every = self._looks.probes[name][0].interval_s
            # A loop that was held up makes up for nothing.
            self._due[name] = due + every * max(1, math.ceil((now - due) / every))
            if name not in self._under_way and not self._begin(name):
                self._due[name] = now + min(every, IDLE_S)
        following = math.ceil(min(self._due.values()) / SLOT_S) * SLOT_S
        return max(0.0, following - now)

    def _spread(self, now: float) -> dict[str, float]:
        """When each is due first: not all at once."""
        count = len(self._looks.probes)
        return {
            name: now + check.interval_s * number / count
            for number, (name, (check, _)) in enumerate(self._looks.probes.items())
        }

    def _begin(self, name: str) -> bool:
        """Has ``name`` looked at, unless it has to wait; says whether."""
        judged = self._looks.judge(name)
        if isinstance(judged, Result):
            self._take(name, judged)
        elif judged:
            # A look may come to its end before it is noted.
            self._under_way[name] = lambda: None
            break_off = self._looks.probes[name][1].begin(lambda result: self._ended(name, result))
            if name in self._under_way:
                self._under_way[name] = break_off
        return judged is not False

    def _ended(self, name: str, result: Result) -> None:
        self._under_way.pop(name, None)
        # What has happened meanwhile may be why it failed.
        if self._looks.is_on() and (result.is_good or self._looks.judge(name) is True):
            self._take(name, result)
