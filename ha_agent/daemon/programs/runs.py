"""Stops, loads and starts chosen programs of the registry on an active node, for operators' commands.

The registry itself is changed by the caller. Everything that starts something holds ``Supervised.loading`` and looks at the
role once more, so that a release which begins meanwhile finds it done, or not begun.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from ha_agent.adapters.supervisord import Fault, ProcessInfo, SupervisordDown
from ha_agent.core.supervisor_words import LIVE_STATES, FaultCode, State
from ha_agent.core.targets import Catalogue
from ha_agent.core.words import Role
from ha_agent.daemon.programs.loaded_groups import LoadedGroups
from ha_agent.daemon.programs.loader import Loader
from ha_agent.daemon.programs.partial_groups import PartialGroups
from ha_agent.daemon.programs.supervised import Supervised
from ha_agent.daemon.programs.sweep import Sweeper
from ha_agent.daemon.standing import Standing

START_LIMIT_S = 300.0
"""A start waits this long for programs that are STARTING; supervisorctl waits for ever."""

REAP_LIMIT_S = 3.0
"""supervisord notices a child's end within a second of its own time at the latest."""

UNLOAD_ATTEMPTS = 10
"""supervisord needs a moment to notice the end of a process."""

Chosen = frozenset[tuple[str, str]]


class NotActiveAnyMore(Exception):
    """The node lost its role between the command's first look and its start of something."""


class LoadRefused(Exception):
    """supervisord refused its configuration, or a group; the text is its own."""


@dataclass(slots=True)
class Stopped:
    """The outcome of a stop."""

    running: Chosen = frozenset()
    """What was running before."""
    left: list[str] = field(default_factory=list)
    """Processes that could not be ended, as text."""


class ProgramRuns:
    """For one registry. Not for several commands at once: the caller has a lock for that."""

    def __init__(
        self,
        standing: Standing,
        supervised: Supervised,
        loaded: LoadedGroups,
        loader: Loader,
        sweeper: Sweeper,
        partial: PartialGroups,
        clock: Callable[[], float],
    ) -> None:
        self._standing, self._supervised, self._loaded = standing, supervised, loaded
        self._loader, self._sweeper, self._partial = loader, sweeper, partial
        self._clock = clock

    async def choose(
        self, catalogue: Catalogue, programs: Collection[str], processes: Collection[tuple[str, str]] = ()
    ) -> list[ProcessInfo]:
        """The processes that supervisord has of ``programs``, and those named in ``processes`` as (program, process)."""
        wanted = {(g, n) for p in programs for g in {catalogue.group_of(p), p} for n in catalogue.processes(p)}
        wanted |= {(g, n) for p, n in processes for g in {catalogue.group_of(p), p}}
        own = self._loaded.names
        found = await self._supervised.read_named({(g, n) for g, n in wanted if g in own})
        seen = {name for info in found for name in (info.group, info.name)}
        missing = {p for p in programs if p in own and not {p, *catalogue.processes(p)} & seen}
        if missing:
            # Its conf is not what was loaded.
            found += [i for i in await self._supervised.read_all() if i.group in missing]
        return found

    async def stop(self, chosen: Sequence[ProcessInfo], *, seen_to_end: bool = True) -> Stopped:
        """Stops ``chosen``, verified by looking at processes. Raises ``SupervisordDown``.

        What supervisord does not end, or no longer owns, is swept. ``seen_to_end``: and waits until supervisord itself has
        noticed; an ``unload`` that follows does that.
        """
        live = [info for info in chosen if info.state in LIVE_STATES]
        running = frozenset((i.group, i.name) for i in live)
        if live:
            await self._supervised.batch([("stopProcess", [f"{i.group}:{i.name}", False]) for i in live])
            await self._loader.wait_stopped([i.pid for i in live if i.pid])
        left = await self._sweeper.end_named({(i.group, i.name) for i in chosen}, live)
        if not left and seen_to_end:
            await self._await_reaped(running)
        return Stopped(running, [f"{p.process} (pid {p.pid})" for p in left])

    async def _await_reaped(self, chosen: Collection[tuple[str, str]]) -> None:
        """Waits until supervisord itself has seen the ends of ``chosen``, ``REAP_LIMIT_S`` at most."""
        until = self._clock() + REAP_LIMIT_S
        pause = 0.002
        while any(i.state in LIVE_STATES for i in await self._supervised.read_named(chosen)):
            if self._clock() >= until:
                raise SupervisordDown("it does not notice that its programs have ended")
            await asyncio.sleep(pause)
            pause = min(2 * pause, 0.1)

    async def unload(self, groups: Collection[str]) -> None:
        """Has supervisord forget ``groups``; what is still running of them is stopped. Raises ``SupervisordDown``."""
        if not groups:
            return
        kept = await self._remove(groups)
        for attempt in range(UNLOAD_ATTEMPTS):
            if not kept:
                return
            await asyncio.sleep(0.002 * (attempt + 1))
            kept = await self._remove(kept)
        if kept:
            # A conf that was changed and not loaded since names other processes than supervisord has.
            left = (await self.stop([i for i in await self._supervised.read_all() if i.group in kept])).left
            kept = await self._remove(kept)
            if kept:
                raise SupervisordDown(f"supervisord keeps {', '.join(kept)}" + (f": {', '.join(left)}" if left else ""))

    async def _remove(self, groups: Collection[str]) -> list[str]:
        """Has supervisord forget ``groups``; returns those that it still has, because something of them runs."""
        names = sorted(groups)
        results = await self._supervised.batch([("removeProcessGroup", [g]) for g in names])
        return [g for g, r in zip(names, results, strict=True) if isinstance(r, Fault) and r.code != FaultCode.BAD_NAME]

    async def reread(self) -> None:
        """Has supervisord read its configuration again, so that its `avail` and `add` know of what was unloaded.

        That takes it a while with many confs and nothing depends on it, so nobody waits for it.
        """
        with contextlib.suppress(SupervisordDown):
            await self._supervised.call("reloadConfig", [])

    def _require_right(self) -> None:
        if not self._standing.may_start:
            raise NotActiveAnyMore(f"{self._standing.node} is {self._standing.role.value} now")

    async def load_and_start(
        self,
        programs: Collection[str],
        processes: Collection[tuple[str, str]],
        catalogue: Catalogue,
        again: Collection[str] = (),
    ) -> list[dict[str, Any]]:
        """Loads the groups of ``programs`` that are not loaded, and starts these and ``processes``.

        The groups ``again`` were loaded just now, which has started their members already. Returns a result a process as
        supervisorctl has it: ``group``, ``name``, ``status`` (a fault code). Raises ``SupervisordDown``, ``LoadRefused``
        and ``NotActiveAnyMore``; in the last case nothing was started.
        """
        async with self._supervised.loading:
            self._require_right()
            starts = {(catalogue.group_of(p), n) for p in programs for n in catalogue.processes(p)}
            known = {i.group for i in await self._supervised.read_named(starts)}
            fresh = {group for group, _ in starts} - known
            starts |= {(catalogue.group_of(p), n) for p, n in processes}
            self._loaded.remember(fresh)
            results = await self._load(sorted(fresh), sorted(starts))
        for result in results:
            if result["status"] == FaultCode.ALREADY_STARTED and result["group"] in again:
                result["status"] = FaultCode.SUCCESS
        return await self._await_started(results)

    async def _load(self, fresh: list[str], starts: list[tuple[str, str]]) -> list[dict[str, Any]]:
        calls: list[tuple[str, Sequence[Any]]] = [("reloadConfig", [])] if fresh else []
        calls += [("addProcessGroup", [group]) for group in fresh]
        ahead = len(calls)
        calls += [("startProcess", [f"{group}:{name}", False]) for group, name in starts]
        answers = await self._supervised.batch(calls)
        refused = [a.text for a in answers[:ahead] if isinstance(a, Fault)]
        if refused:
            raise LoadRefused("; ".join(refused))
        return [
            {"group": g, "name": n, "status": answer.code if isinstance(answer, Fault) else FaultCode.SUCCESS}
            for (g, n), answer in zip(starts, answers[ahead:], strict=True)
        ]

    async def _await_started(self, results: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Waits until each started process is RUNNING or has failed, and puts that into its result."""
        until, pause = self._clock() + START_LIMIT_S, 0.005
        waiting = {(r["group"], r["name"]): r for r in results if r["status"] == FaultCode.SUCCESS}
        while waiting and self._standing.role is Role.ACTIVE and self._clock() < until:
            for info in await self._supervised.read_named(waiting):
                if info.state == State.STARTING:
                    continue
                result = waiting[info.group, info.name]
                del waiting[info.group, info.name]
                if info.state not in (State.RUNNING, State.EXITED):
                    # EXITED comes after RUNNING only.
                    result["status"] = FaultCode.SPAWN_ERROR if info.spawn_error else FaultCode.ABNORMAL_TERMINATION
            if waiting:
                await asyncio.sleep(pause)
                pause = min(2 * pause, 0.1)
        for result in waiting.values():
            result["status"] = FaultCode.FAILED
        return results

    async def add(self, group: str, *, is_registry: bool) -> Any:
        """Has supervisord load ``group``; returns its own answer, a ``Fault`` where it refuses.

        ``is_registry``: the group is the registry's, so that a release must find it. Raises ``SupervisordDown`` and
        ``NotActiveAnyMore``.
        """
        async with self._supervised.loading:
            self._require_right()
            if is_registry:
                self._loaded.remember([group])
            return await self._supervised.call("addProcessGroup", [group])

    async def replace(self, groups: Collection[str]) -> list[dict[str, Any]]:
        """Stops ``groups`` and loads them as they are configured now; one result a group.

        Raises ``SupervisordDown``, ``LoadRefused`` and ``NotActiveAnyMore``; what was stopped then stays so.
        """
        infos = [i for i in await self._supervised.read_all() if i.group in groups]
        stopped = await self.stop(infos)
        if stopped.left:
            raise LoadRefused(f"not loaded again, still running: {', '.join(stopped.left)}")
        async with self._supervised.loading:
            self._require_right()
            self._loaded.remember(groups)
            calls: list[tuple[str, Sequence[Any]]] = []
            for group in sorted(groups):
                calls += [("removeProcessGroup", [group]), ("addProcessGroup", [group])]
            answers = await self._supervised.batch(calls)
        refused = [a.text for a in answers[1::2] if isinstance(a, Fault)]
        if refused:
            raise LoadRefused("; ".join(refused))
        for group in groups:
            self._partial.forget(group)
        return [{"group": group, "was_running": any(i.group == group for i in infos)} for group in sorted(groups)]
