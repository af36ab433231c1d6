"""Looks at the paths to the peer where there are several, and moves the link off one that is cut.

Must not decide that the peer is gone: it takes the link from a silent path alone while another one answers.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from ha_agent.adapters.ssh import PeerLink
from ha_agent.daemon.events import Events

EVERY_S = 1.0
LOOK_S = 0.5
"""A path that brings no answer to the hundred pings of this time, while another one does, is cut or is losing nearly all."""


class PathWatch:
    """``answers`` says whether an address answers a ping within some seconds; ``wall``: the wall clock, in seconds."""

    def __init__(
        self,
        link: PeerLink,
        answers: Callable[[str, float], Awaitable[bool]],
        events: Events,
        wall: Callable[[], float],
    ) -> None:
        self._link, self._answers = link, answers
        self._events, self._wall = events, wall
        self._asked = asyncio.Event()
        self._told: set[str] = set()
        """The paths of which the history says that they are cut."""

    def look_now(self) -> None:
        """Has the paths looked at at once: something does not come through."""
        self._asked.set()

    async def run(self) -> None:
        """Looks until cancelled; with one path there is nothing to look at."""
        while self._link.paths.are_several:
            await self.look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S):
                    await self._asked.wait()
            self._asked.clear()

    async def look(self) -> None:
        """One look at all paths at once, and what follows from it."""
        addresses = [path.address for path in self._link.paths.all]
        answers = await asyncio.gather(*(self._answers(address, LOOK_S) for address in addresses))
        self._link.paths.note_look(dict(zip(addresses, answers, strict=True)), self._wall())
        self._tell()
        better = self._link.paths.find_better(self._link.path)
        if better is not None:
            self._link.give_up(f"silent at {self._link.path}, while it answers at {better}")
        elif any(answers):
            self._link.end_pause()

    def _tell(self) -> None:
        """Tells of a path that is cut while another one is there: of a machine that is off the link says all."""
        for path in self._link.paths.all:
            if path.is_up and path.address in self._told:
                self._told.remove(path.address)
                self._events.add("path-up", f"the peer answers at {path.address} again", address=path.address)
            elif path.is_up is False and path.address not in self._told and self._link.paths.is_any_up:
                self._told.add(path.address)
                self._events.add("path-down", f"the peer does not answer at {path.address}", address=path.address)
