"""Looking for what an earlier supervisord has left running, begun before the takeover's step that needs the answer.

An orphan comes into being with the end of a supervisord alone, so the answer of a look stays true for as long as the same
supervisord lives. Ends orphans and nothing that the present supervisord has started, so nobody has to wait for a look of no
use any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from ha_agent.core.kinship import Life, Marked
from ha_agent.daemon.programs.supervised import Supervised
from ha_agent.daemon.programs.sweep import Sweeper

FRESH_S = 1.0
"""For so long supervisord counts as one that answers. One that has come to hang since is found when it is to load."""


@dataclass(frozen=True, slots=True)
class Caught:
    """What came of it. ``is_up``: supervisord answers; ``left``: orphans that cannot be ended."""

    is_up: bool
    left: list[Marked]


@dataclass(frozen=True, slots=True)
class _Look:
    task: asyncio.Future[Caught]
    life: Life | None
    at_mono: float


class OrphanHunt:
    """For one registry. ``clock``: the loop's monotonic clock."""

    def __init__(self, supervised: Supervised, sweeper: Sweeper, clock: Callable[[], float]) -> None:
        self._supervised, self._sweeper, self._clock = supervised, sweeper, clock
        self._look: _Look | None = None

    def begin(self) -> None:
        """Begins to look, unless a look is under way."""
        if self._look is None or self._look.task.done():
            self._look = self._start()

    async def finish(self) -> Caught:
        """What came of the look that was begun, or of a new one where that cannot be said of now any more."""
        look, self._look = self._look, None
        if look is not None:
            caught = await asyncio.shield(look.task)
            self._supervised.note_process()
            is_same = look.life is not None and look.life == self._supervised.life
            if is_same and self._clock() - look.at_mono < FRESH_S:
                return caught
        return await self._start().task

    def _start(self) -> _Look:
        self._supervised.note_process()
        task = asyncio.ensure_future(self._hunt())
        # Nobody asks what came of it where the takeover is abandoned.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return _Look(task, self._supervised.life, self._clock())

    async def _hunt(self) -> Caught:
        is_up, left = await asyncio.gather(self._supervised.is_up(), self._sweeper.end_orphans())
        return Caught(is_up, left)
