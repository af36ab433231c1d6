"""What supervisord's events have told of its processes since a look at all of them, for those who show it.

supervisord needs a third of a millisecond to describe a process, during which it does nothing else. Most have not changed
since the last look: these are looked for in /proc, and supervisord is asked about the others. Must not decide anything.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from ha_agent.adapters.procs import find_living_children, now_ticks
from ha_agent.adapters.supervisord import ProcessInfo
from ha_agent.core.events import StateEvent
from ha_agent.core.supervisor_words import State
from ha_agent.daemon.operations.looking import Looking
from ha_agent.daemon.programs.loaded_groups import LoadedGroups
from ha_agent.daemon.programs.supervised import GLANCE_S, Lane, Supervised
from ha_agent.daemon.standing import Standing

Key = tuple[str, str]

MOST_ASKED = 60
"""Where more have changed all are asked for: that is one call."""

LOOK_S = 300.0
"""So old a look is not built on any more."""

HEARD_S = 45.0
"""Nor is one where the listener, which gives a sign of life every 30 s, has been silent for this long."""


@dataclass(frozen=True, slots=True)
class Known:
    """All of supervisord's processes. ``looked_wall``: when it described all of them, by the wall clock.

    ``by_events``: that was before this was asked for; since then its events have told what changed.
    """

    infos: Sequence[ProcessInfo]
    looked_wall: float
    by_events: bool


@dataclass(frozen=True, slots=True)
class _Base:
    """A look, as it was corrected since. ``mark``: what it is good for; ``at_ticks``: no process of it is younger."""

    infos: Mapping[Key, ProcessInfo]
    mark: object
    at_ticks: int
    at_mono: float
    at_wall: float


def find_doubtful(infos: Mapping[Key, ProcessInfo], changed: Collection[Key], living: Collection[int]) -> list[Key]:
    """Which processes must be asked about: all but those that are RUNNING, of which no event has told, and that live."""
    doubtful = {key for key, info in infos.items() if info.state != State.RUNNING or info.pid not in living}
    return sorted(doubtful | set(changed))


class KnownPrograms:
    """``clock``: monotonic, ``wall``: wall clock seconds. ``find_living``: which of some pids are children of another one,
    not younger than a moment in ticks since boot."""

    def __init__(
        self,
        standing: Standing,
        supervised: Supervised,
        loaded: LoadedGroups,
        clock: Callable[[], float],
        wall: Callable[[], float],
        find_living: Callable[[int, Collection[int], int], frozenset[int]] = find_living_children,
    ) -> None:
        self._standing, self._supervised, self._loaded = standing, supervised, loaded
        self._clock, self._wall, self._find_living = clock, wall, find_living
        self._looking = Looking()
        self._base: _Base | None = None
        self._changed: dict[Key, float] = {}
        self._heard_mono = float("-inf")

    def hear(self, events: Sequence[StateEvent], is_whole: bool) -> None:
        """Takes what the listener brings. ``is_whole``: nothing was lost before it."""
        self._heard_mono = self._clock()
        for event in events:
            self._changed[event.group, event.name] = self._heard_mono
        if not is_whole:
            self._base = None

    async def read(self, *, fresh: bool = False) -> Known:
        """All processes; ``fresh``: as supervisord describes them now. It is asked something in any case.

        Raises ``SupervisordDown`` where it does not answer.
        """
        base = self._base
        if fresh or base is None or not self._is_good(base):
            return await self._look()
        identity = self._supervised.process.identity
        pids = [info.pid for info in base.infos.values() if info.state == State.RUNNING]
        living = await self._looking.do(self._find_living, identity[0] if identity else 0, pids, base.at_ticks)
        doubtful = find_doubtful(base.infos, self._changed, living)
        if len(doubtful) > MOST_ASKED:
            return await self._look()
        return await self._correct(base, doubtful)

    def _mark(self) -> object:
        standing = self._standing
        groups = frozenset(self._loaded.names)
        return standing.role, standing.plan is None, self._supervised.process.identity, groups

    def _is_good(self, base: _Base) -> bool:
        now = self._clock()
        is_young = now - base.at_mono < LOOK_S and now - self._heard_mono < HEARD_S
        return is_young and self._standing.plan is None and base.mark == self._mark()

    async def _look(self) -> Known:
        began, mark, wall = self._clock(), self._mark(), self._wall()
        infos = await self._supervised.read_all(Lane.GLANCE, GLANCE_S)
        found = {(info.group, info.name): info for info in infos}
        self._changed = {key: heard for key, heard in self._changed.items() if heard >= began}
        self._base = _Base(found, mark, now_ticks(), began, wall)
        return Known(list(infos), wall, by_events=False)

    async def _correct(self, base: _Base, doubtful: list[Key]) -> Known:
        """Asks about some, and puts what is said in the place of what was known of them."""
        began = self._clock()
        said = {(info.group, info.name): info for info in await self._supervised.glance_at(doubtful, GLANCE_S)}
        at_ticks = now_ticks()
        infos = {**base.infos, **dict.fromkeys(doubtful), **said}
        found = {key: info for key, info in infos.items() if info is not None}
        if self._base is base:
            told, asked = self._changed.items(), set(doubtful)
            # What was told before the question is in its answer.
            self._changed = {key: heard for key, heard in told if heard >= began or key not in asked}
            self._base = _Base(found, base.mark, at_ticks, base.at_mono, base.at_wall)
        return Known(list(found.values()), base.at_wall, by_events=True)
