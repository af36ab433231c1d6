"""What supervisord says of the programs that checks look at: by the events that the listener brings, else by asking it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from ha_agent.adapters.supervisord import SupervisordDown
from ha_agent.core.supervisor_words import TROUBLED_STATES, State
from ha_agent.daemon.programs.catalogue import CatalogueReader
from ha_agent.daemon.programs.supervised import Supervised

NAMES_S = 1.0
"""How often the registry is asked which processes a program has."""

ASK_S = 2.0
"""How often supervisord is asked while the listener does not report."""

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class ProgramState:
    """The worst state of a program's processes, and since when, wall clock seconds; "" where it is not loaded."""

    state: str = ""
    since: float = 0.0


class ProgramStates:
    """``programs``: those that are asked for. ``clock``: monotonic.

    ``find_life``: the state of a process by the listener's events, and since when; None where the listener does not report.
    """

    def __init__(
        self,
        programs: Collection[str],
        catalogue: CatalogueReader,
        supervised: Supervised,
        find_life: Callable[[Key], ProgramState | None],
        clock: Callable[[], float],
    ) -> None:
        self._programs, self._catalogue, self._supervised = frozenset(programs), catalogue, supervised
        self._find_life, self._clock = find_life, clock
        self._keys: dict[str, tuple[Key, ...]] = {}
        self._asked: dict[Key, ProgramState] = {}
        self._asked_mono = float("-inf")

    def find(self, program: str) -> ProgramState | None:
        """The state of ``program`` as it is known; None before the registry was read for the first time."""
        keys = self._keys.get(program)
        if keys is None:
            return None
        return worst_of(self._find_life(key) or self._asked.get(key, ProgramState()) for key in keys)

    async def run(self) -> None:
        """Looks after it until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(NAMES_S)

    async def refresh(self, *, at_once: bool = False) -> None:
        """Asks anew which processes the programs have, and supervisord what it says of them where no event does.

        ``at_once``: however short a time ago that was. A supervisord that does not answer changes nothing.
        """
        catalogue = await self._catalogue.read()
        self._keys = {
            program: tuple((catalogue.group_of(program), name) for name in catalogue.processes(program))
            for program in self._programs
        }
        silent = {key for keys in self._keys.values() for key in keys if self._find_life(key) is None}
        now = self._clock()
        if not silent or (now - self._asked_mono < ASK_S and not at_once):
            return
        self._asked_mono = now
        try:
            infos = await self._supervised.read_named(silent)
        except SupervisordDown:
            return
        self._asked = {(info.group, info.name): ProgramState(info.state, float(info.started)) for info in infos}


def worst_of(states: Iterable[ProgramState]) -> ProgramState:
    """The one state of several processes: one that failed comes first, then one that is starting, then a stopped one."""
    found = list(states)
    for wanted in (TROUBLED_STATES | {State.EXITED}, {State.STARTING}, {State.STOPPING, State.STOPPED}, {""}):
        if chosen := [one for one in found if one.state in wanted]:
            return chosen[0]
    return max(found, key=lambda one: one.since, default=ProgramState())
