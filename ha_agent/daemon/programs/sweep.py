"""The sweep: finding and ending processes of the registry that supervisord does not end, or no longer owns.

Looks at processes themselves; its word that nothing is left is the one that the peer waits for.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from ha_agent.adapters.procs import ProcessTable, now_ticks
from ha_agent.adapters.supervisord import ProcessInfo, SupervisordDown
from ha_agent.core.kinship import UNKNOWN_GROUP, Found, Kin, Marked, select_orphans
from ha_agent.core.settings import ReleaseSettings
from ha_agent.core.supervisor_words import LIVE_STATES
from ha_agent.daemon.programs.loaded_groups import LoadedGroups
from ha_agent.daemon.programs.local_groups import LocalGroups
from ha_agent.daemon.programs.supervised import Lane, Supervised

KILL_WAIT_S = 1.0
FREEZE_ROUNDS = 20

FORK_ROUNDS, FORK_PAUSE_S = 20, 0.005
"""A fork of supervisord's becomes a program within a few milliseconds; after these it counts as one."""

ASK_S = 0.3
"""A look without supervisord's word finds less, and must not take long."""

Find = Callable[[], Awaitable[list[Marked]]]


class Sweeper:
    """For one registry. Returns what could not be ended, never raises for it."""

    def __init__(
        self,
        release: ReleaseSettings,
        table: ProcessTable,
        supervised: Supervised,
        loaded: LoadedGroups,
        local: LocalGroups,
    ) -> None:
        self._release, self._table = release, table
        self._supervised, self._loaded, self._local = supervised, loaded, local

    # ---- looking ------------------------------------------------------------------------------------------

    def _kin(self, told: Mapping[int, tuple[str, str]] | None = None) -> Kin:
        """What is known besides the processes. ``told``: process ids that supervisord has named since it was last asked."""
        supervised, local = self._supervised, self._local.apart_from(self._loaded)
        answer, identity = supervised.seen, supervised.process.identity
        seen = [info for info in answer.infos if info.pid]
        return Kin(
            supervisord=identity[0] if identity else None,
            leaders={**{i.pid: (i.group, i.name) for i in seen if i.group not in local}, **(told or {})},
            spared=frozenset(i.pid for i in seen if i.group in local),
            seen_ticks=now_ticks() if told else answer.at_ticks,
            local=local,
        )

    def look(self, told: Mapping[int, tuple[str, str]] | None = None) -> Found:
        """The registry's processes: all that came from supervisord and is not of a local program.

        Depends on no note: what is not known to be local is the registry's. Blocks for a pass over /proc.
        """
        kin = self._kin(told)
        found = self._table.find(kin)
        for _ in range(FORK_ROUNDS):
            if not found.pending:
                break
            time.sleep(FORK_PAUSE_S)
            found = self._table.find(kin)
        return Found(found.ours + found.pending)

    async def find_left(self) -> list[Marked]:
        """Every process of the registry."""
        return list((await asyncio.to_thread(self.look)).ours)

    async def find_orphans(self) -> list[Marked]:
        """Those that an earlier life of supervisord has started, and what came from these."""
        self._supervised.note_process()
        if self._supervised.process.identity is None:
            return await self.find_left()
        return select_orphans(await self.find_adrift(), self._supervised.began_ticks)

    async def find_adrift(self) -> list[Marked]:
        """Those that belong to no program any more: no living supervisord is above them."""
        return await asyncio.to_thread(lambda: self._table.find_adrift(self._kin()))

    async def find_strays(self) -> list[Marked]:
        """Those that run beside their program, or of which none can be told."""
        return await asyncio.to_thread(lambda: self._table.find_strays(self._kin()))

    async def find_evidence(self) -> list[Marked]:
        """Signs that the registry runs on a node that is not to run it: processes, and programs about to be started.

        What no program can be told of is a sign only where no living supervisord is above it and it is older than that one:
        else it may be a local program's. supervisord is asked meanwhile. Where the look, which went by what supervisord had
        said before, or supervisord tells of anything, the processes are looked at once more by what it says now.
        """
        self._supervised.note_process()
        infos, (local, found) = await asyncio.gather(self._ask(), asyncio.to_thread(self._look_apart))
        live = [i for i in infos if i.group not in local and i.state in LIVE_STATES]
        if found or live:
            local, found = await asyncio.to_thread(self._look_apart)
        adrift = await self.find_adrift() if any(p.group == UNKNOWN_GROUP for p in found) else []
        began = self._supervised.began_ticks
        signs = [p for p in found if p.group != UNKNOWN_GROUP]
        signs += [p for p in adrift if p.group == UNKNOWN_GROUP and (began is None or p.started_ticks < began)]
        return signs + [Marked(0, 0, 0, i.group, i.name) for i in live if not i.pid]

    async def _ask(self) -> Sequence[ProcessInfo]:
        """What supervisord says of its processes; nothing where it does not answer at once."""
        with contextlib.suppress(SupervisordDown):
            return await self._supervised.read_all(Lane.GLANCE, ASK_S)
        return ()

    def _look_apart(self) -> tuple[frozenset[str], tuple[Marked, ...]]:
        """The groups that are local, and the registry's processes. Blocks for a pass over /proc."""
        return self._local.apart_from(self._loaded), self.look().ours

    # ---- ending -------------------------------------------------------------------------------------------

    async def sweep(self, *, at_once: bool = False) -> list[Marked]:
        """Ends every process of the registry, with KILL ``at_once`` where there is no time. Returns what could not be
        ended."""
        return await self._end_all(self.find_left, at_once=at_once)

    async def end_orphans(self) -> list[Marked]:
        """Ends what a supervisord that is no more has left running. Returns what could not be ended."""
        return await self._end_all(self.find_orphans)

    async def end_named(self, chosen: Collection[tuple[str, str]], live: Sequence[ProcessInfo]) -> list[Marked]:
        """Ends what is left of the processes ``chosen``, as (group, process). Returns what could not be ended.

        ``live``: what supervisord said of them before they were told to stop. What no program can be told of is ended where
        no other program of the registry runs.
        """
        told = {i.pid: (i.group, i.name) for i in live if i.pid}

        async def find() -> list[Marked]:
            found = (await asyncio.to_thread(self.look, told)).ours
            alone = all((p.group, p.process) in chosen for p in found if p.group != UNKNOWN_GROUP)
            return [p for p in found if (p.group, p.process) in chosen or (p.group == UNKNOWN_GROUP and alone)]

        return await self._end_all(find)

    async def hurry_shutdown(self) -> None:
        """Waits until a supervisord that is shutting down has ended or begun again, ``stop_timeout_s`` at most.

        It stops one group after the other, about one a second (supervisor's ``ordered_stop_groups_phase_1``), and starts
        nothing any more: so its programs are all told at once.
        """
        for process in await self.find_left():
            self._table.send(process, signal.SIGTERM)
        await self._supervised.wait_shutdown(self._release.stop_timeout_s)

    async def _end_all(self, find: Find, *, at_once: bool = False) -> list[Marked]:
        """TERM, a grace, KILL; several rounds, as a process may have just forked."""
        left = await find()
        if not left:
            return []
        if not at_once:
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
