"""All of the registry's groups at once, through supervisord: loading and starting, stopping, unloading.

Only groups of the registry are ever touched; local programs and event listeners are not.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ha_agent.adapters.procs import ProcessTable
from ha_agent.adapters.supervisord import Fault, ProcessInfo, RereadRefused, SupervisordDown
from ha_agent.core.settings import ReleaseSettings, SupervisorSettings
from ha_agent.core.start_plan import NOBODY, StartPlan
from ha_agent.core.start_run import next_stops
from ha_agent.core.supervisor_words import LIVE_STATES, SETTLED_STATES, FaultCode, State
from ha_agent.daemon.programs.loaded_groups import LoadedGroups
from ha_agent.daemon.programs.local_groups import LocalGroups
from ha_agent.daemon.programs.supervised import SPAWN_S, Lane, Supervised

_CULPRIT = re.compile(r"file: '([^']+)'")

FIRST_GROUPS = 8
"""This many groups are added first, so that the first program does not wait for the last group."""

UNLOAD_ATTEMPTS = 40


@dataclass(frozen=True, slots=True)
class Verified:
    """What a look at supervisord found: processes running, and the failed ones with their reasons."""

    running: int
    failed: dict[str, str]
    waiting: int
    not_started: int


@dataclass(frozen=True, slots=True)
class StopOrder:
    """In which order groups are stopped: the reverse of ``plan``, for ``limit_s`` seconds while ``may_wait`` says so."""

    plan: StartPlan = NOBODY
    limit_s: float = 0.0
    may_wait: Callable[[], bool] = lambda: False


AT_ONCE = StopOrder()

LOOK_S = 0.25
"""How often it is looked, while stops wait for each other, whether they still may."""


def culprit_of(message: str) -> str | None:
    """The file name that supervisord's parser blames in ``message``, if it blames one."""
    match = _CULPRIT.search(message)
    return os.path.basename(match[1]) if match else None


class Loader:
    """For one registry. No call blocks the loop."""

    def __init__(
        self,
        supervisor: SupervisorSettings,
        release: ReleaseSettings,
        supervised: Supervised,
        loaded: LoadedGroups,
        local: LocalGroups,
        table: ProcessTable,
    ) -> None:
        self._supervisor, self._release = supervisor, release
        self._supervised, self._loaded, self._local, self._table = supervised, loaded, local, table

    async def read_registry(self, lane: Lane = Lane.WORK) -> list[ProcessInfo]:
        """The registry's processes. Raises ``SupervisordDown``."""
        return [info for info in await self._supervised.read_all(lane) if info.group in self._loaded.names]

    # ---- loading ------------------------------------------------------------------------------------------

    async def load(self, order: Sequence[str], start_all: bool, held: frozenset[str] = frozenset()) -> list[str]:
        """Has supervisord load and start what is new or changed among the registry's groups; what runs unchanged goes on.

        ``order`` is that of the starts; the conf of ``held`` is read, and they are not loaded. Returns what supervisord
        refused, one text each. Raises ``RereadRefused`` and ``SupervisordDown``.
        """
        return await asyncio.to_thread(self._load, [group for group in order if group not in held], start_all, held)

    def _load(self, order: Sequence[str], start_all: bool, held: frozenset[str]) -> list[str]:
        """Adds a few groups with the reread and the others after them.

        supervisord spawns what was added only when it has answered, and then all of it before it answers again: so the
        first programs start while the others are still being added.
        """
        groups = [group for group in order if group in self._loaded.names]
        reread, *results = self._add(groups[:FIRST_GROUPS], reread=True)
        if isinstance(reread, Fault):
            raise RereadRefused(reread.text)
        results += self._add(groups[FIRST_GROUPS:])
        added, changed, _ = reread[0]
        fresh = frozenset(added) - held
        refused = [r.text for g, r in zip(groups, results, strict=True) if isinstance(r, Fault) and g in fresh]
        refused += self._replace([group for group in changed if group in self._loaded.names])
        if start_all or len(fresh & self._loaded.names) < len(groups):
            refused += self._start_stopped(fresh, start_all)
        return refused

    def _add(self, groups: Sequence[str], *, reread: bool = False) -> list[Any]:
        calls: list[tuple[str, list[object]]] = [("reloadConfig", [])] if reread else []
        calls += [("addProcessGroup", [group]) for group in groups]
        limit_s = self._supervisor.rpc_timeout_s + SPAWN_S * len(self._loaded.names)
        return self._supervised.client.batch(calls, limit_s)

    def _replace(self, groups: list[str]) -> list[str]:
        """Stops and loads again groups whose conf changed while they were loaded (a takeover that was cut off)."""
        calls: list[tuple[str, list[object]]] = []
        for group in groups:
            calls += [("stopProcessGroup", [group]), ("removeProcessGroup", [group]), ("addProcessGroup", [group])]
        return [f.text for f in self._supervised.client.batch(calls) if isinstance(f, Fault)]

    def _start_stopped(self, fresh: frozenset[str], start_all: bool) -> list[str]:
        """Starts what supervisord does not start by itself: programs with autostart=false, and those loaded before."""
        idle = [
            info
            for info in self._supervised.client.read_processes()
            if info.group in self._loaded.names and info.state not in LIVE_STATES and (start_all or info.group not in fresh)
        ]
        calls = [("startProcess", [f"{i.group}:{i.name}", False]) for i in idle]
        return [f.text for f in self._supervised.client.batch(calls) if isinstance(f, Fault)]

    async def verify(self, not_started: frozenset[str]) -> Verified:
        """One look at the registry's processes. Raises ``SupervisordDown``."""
        running = waiting = idle = 0
        failed: dict[str, str] = {}
        for info in await self.read_registry():
            if info.state == State.RUNNING:
                running += 1
            elif info.state not in SETTLED_STATES:
                waiting += 1
            elif info.started == 0 and (info.group in not_started or info.state == State.STOPPED):
                idle += 1
            else:
                failed[info.full_name] = info.spawn_error or f"{info.state}, exit status {info.exit_status}"
        return Verified(running, failed, waiting, idle)

    # ---- stopping -----------------------------------------------------------------------------------------

    async def stop(self, order: StopOrder = AT_ONCE) -> None:
        """Signals every process of the registry and waits until all have ended, ``stop_timeout_s`` at most, order or not.

        What ``order`` says nothing of is signalled at once, and the rest as soon as it need not or may not wait any longer.
        Raises ``SupervisordDown``. supervisord itself kills a program after its ``stopwaitsecs``.
        """
        clock = asyncio.get_running_loop().time
        began = clock()
        if not await self._supervised.is_up():
            raise SupervisordDown(f"no answer within {self._supervisor.hung_s:g} s")
        live = [info for info in await self._adopt() if info.state in LIVE_STATES]
        if not live:
            return
        until = began + min(order.limit_s, self._release.stop_timeout_s)
        left = live
        while left:
            chosen = next_stops(order.plan, {info.group for info in left}) if order.may_wait() and clock() < until else None
            told = [info for info in left if chosen is None or info.group in chosen]
            # Not stopProcessGroup: supervisord answers that one deferred, one group every 50 ms within a multicall.
            calls = [("stopProcess", [f"{info.group}:{info.name}", False]) for info in told]
            await asyncio.to_thread(self._supervised.client.batch, calls)
            left = [info for info in left if info not in told]
            await self._wait_users(order, told, left, until)
        await self.wait_stopped([i.pid for i in live if i.pid], self._release.stop_timeout_s - (clock() - began))

    async def _wait_users(
        self, order: StopOrder, told: Sequence[ProcessInfo], left: Sequence[ProcessInfo], until: float
    ) -> None:
        """Waits for the ends of those that were ``told`` to stop and that need something of ``left``."""
        clock = asyncio.get_running_loop().time
        needing = order.plan.find_users({info.group for info in left})
        pids = [info.pid for info in told if info.pid and info.group in needing]
        while pids and order.may_wait() and (left_s := until - clock()) > 0:
            if await self._table.wait_ended(pids, min(left_s, LOOK_S)):
                return

    async def _adopt(self) -> list[ProcessInfo]:
        """Has every group that supervisord has and that is not local be the registry's, whatever the notes say.

        Returns the registry's processes. Raises ``SupervisordDown``.
        """
        infos = await self._supervised.read_all(Lane.WORK)
        local = await asyncio.to_thread(self._local.apart_from, self._loaded)
        self._loaded.adopt({info.group for info in infos} - local)
        return [info for info in infos if info.group in self._loaded.names]

    async def wait_stopped(self, pids: list[int], limit_s: float | None = None) -> None:
        """Waits for the ends of ``pids``, ``limit_s`` at most, else ``stop_timeout_s``.

        Looks meanwhile whether supervisord is still there to kill the stubborn ones. Raises ``SupervisordDown``.
        """
        clock = asyncio.get_running_loop().time
        limit = clock() + (self._release.stop_timeout_s if limit_s is None else limit_s)
        while (left_s := limit - clock()) > 0:
            if await self._table.wait_ended(pids, min(left_s, self._supervisor.hung_s)):
                return
            if not await self._supervised.is_up():
                raise SupervisordDown("it has been hanging since it was told to stop its programs")

    async def unload(self) -> None:
        """Has supervisord forget the registry's groups. The active set must be empty by now.

        Raises ``SupervisordDown``; where supervisord is gone there is nothing to unload.
        """
        await asyncio.to_thread(self._unload)

    def _unload(self) -> None:
        todo = sorted(self._loaded.names)
        # Where it refuses to read its configuration again that is what it had, and the groups go all the same.
        ahead: list[tuple[str, list[object]]] = [("reloadConfig", [])]
        for attempt in range(UNLOAD_ATTEMPTS):
            # All in one: supervisord needs a third of a millisecond to describe each process, and nobody needs that here.
            results = self._supervised.client.batch([*ahead, *(("removeProcessGroup", [group]) for group in todo)])
            todo = [g for g, r in zip(todo, results[len(ahead) :], strict=True) if _is_kept(r)]
            if not todo:
                return
            ahead = []
            time.sleep(0.005 * (attempt + 1))
        raise SupervisordDown(f"supervisord keeps {', '.join(todo)} though nothing of it is running")


def _is_kept(result: object) -> bool:
    """Whether supervisord still has the group of which it was told to forget. One that it does not know is gone."""
    return isinstance(result, Fault) and result.code != FaultCode.BAD_NAME
