"""The sweep: finding and ending processes of the registry that supervisord does not end, or no longer owns.

Looks at processes themselves; its word that nothing is left is the one that the peer waits for.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Collection, Sequence

from ha_agent.adapters.procs import Lineage, Marked, ProcessTable, select_orphans
from ha_agent.adapters.supervisord import ProcessInfo
from ha_agent.core.settings import ReleaseSettings
from ha_agent.daemon.programs.loaded_groups import LoadedGroups
from ha_agent.daemon.programs.supervised import Supervised

KILL_WAIT_S = 1.0
FREEZE_ROUNDS = 20

Find = Callable[[], Awaitable[list[Marked]]]


class Sweeper:
    """For one registry. Returns what could not be ended, never raises for it."""

    def __init__(self, release: ReleaseSettings, table: ProcessTable, supervised: Supervised, loaded: LoadedGroups) -> None:
        self._release, self._table = release, table
        self._supervised, self._loaded = supervised, loaded

    @property
    def lineage(self) -> Lineage:
        """What is known of supervisord's descendants: its sessions, and what it last said of its processes."""
        seen, own = self._supervised.last_seen, self._loaded.names
        leaders = {i.pid: (i.group, i.name) for i in seen if i.pid and i.group in own}
        spared = frozenset(i.pid for i in seen if i.pid and i.group not in own)
        return Lineage(self._supervised.sessions, leaders, spared)

    async def find_left(self) -> list[Marked]:
        """Processes that carry the marks of our supervisord and of a group of the registry, or came from it without marks.

        Nothing where nothing of the registry was loaded.
        """
        lineage = self.lineage if self._loaded.names else Lineage()
        return await asyncio.to_thread(self._table.find_marked, self._loaded.names, lineage)

    async def find_orphans(self) -> list[Marked]:
        """Those of them that an earlier supervisord started, and what came from these."""
        self._supervised.note_process()
        identity = self._supervised.process.identity
        return select_orphans(await self.find_left(), identity[1] if identity else None)

    async def sweep(self) -> list[Marked]:
        """Ends every process of the registry. Returns what could not be ended."""
        return await self._end_all(self.find_left)

    async def end_orphans(self) -> list[Marked]:
        """Ends what a supervisord that is no more has left running. Returns what could not be ended."""
        return await self._end_all(self.find_orphans)

    async def end_named(self, chosen: Collection[tuple[str, str]], live: Sequence[ProcessInfo]) -> list[Marked]:
        """Ends what is left of the processes ``chosen``, as (group, process). Returns what could not be ended.

        ``live``: what supervisord said of them before they were told to stop.
        """
        groups = frozenset(group for group, _ in chosen)
        lineage = Lineage(self._supervised.sessions, {i.pid: (i.group, i.name) for i in live if i.pid})

        async def find() -> list[Marked]:
            marked = await asyncio.to_thread(self._table.find_marked, groups, lineage)
            return [p for p in marked if (p.group, p.process) in chosen]

        return await self._end_all(find)

    async def hurry_shutdown(self) -> None:
        """Waits for the end of a supervisord that is shutting down, ``stop_timeout_s`` at most.

        It stops one group after the other, about one a second (supervisor's ``ordered_stop_groups_phase_1``), and starts
        nothing any more: so its programs are all told at once.
        """
        for process in await self.find_left():
            self._table.send(process, signal.SIGTERM)
        await self._supervised.wait_end(self._release.stop_timeout_s)

    async def _end_all(self, find: Find) -> list[Marked]:
        """TERM, a grace, KILL; several rounds, as a process may have just forked."""
        left = await find()
        if not left:
            return []
        for process in left:
            self._table.send(process, signal.SIGTERM)
        await self._table.wait_ended([p.pid for p in left], self._release.sweep_grace_s)
        for _ in range(2):
            left = await self._freeze_all(find)
            if not left:
                return []
            for process in left:
                self._table.send(process, signal.SIGKILL)
            await self._table.wait_ended([p.pid for p in left], KILL_WAIT_S)
        return await find()

    async def _freeze_all(self, find: Find) -> list[Marked]:
        """Stops (SIGSTOP) what ``find`` finds until it finds nothing new: none can fork while the others are killed."""
        frozen: set[tuple[int, int]] = set()
        found: list[Marked] = []
        for _ in range(FREEZE_ROUNDS):
            found = await find()
            fresh = [p for p in found if (p.pid, p.started_ticks) not in frozen]
            if not fresh:
                break
            for process in fresh:
                self._table.send(process, signal.SIGSTOP)
            frozen |= {(p.pid, p.started_ticks) for p in fresh}
        return found
