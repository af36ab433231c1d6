"""Stops, loads and starts chosen programs of the registry on an active node, for operators' commands.

The registry itself is changed by the caller. Everything that starts something holds ``Programs.loading`` and looks at the
role once more, so that a release which begins meanwhile finds it done, or not begun.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ha_agent.adapters.files import read_or_none, write_atomic
from ha_agent.adapters.supervisord import RUNNING_STATES, Fault, ProcessInfo, SupervisordDown
from ha_agent.core.targets import Catalogue
from ha_agent.core.words import Role

if TYPE_CHECKING:
    from ha_agent.daemon.agent import Agent

START_LIMIT_S = 300.0
"""So long a start waits for programs that are STARTING; supervisorctl waits for ever."""

UNLOAD_ATTEMPTS = 10
"""supervisord needs a moment to notice the end of a process."""

Chosen = frozenset[tuple[str, str]]

SUCCESS, BAD_NAME, FAILED, ABNORMAL_TERMINATION, SPAWN_ERROR, ALREADY_STARTED = 80, 10, 30, 40, 50, 60
"""Codes of results (supervisor.xmlrpc.Faults): what supervisorctl says follows from them."""


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
    """For one agent. Not for several commands at once: the caller has a lock for that."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._partial_path = os.path.join(agent.settings.paths.run_dir, "partial-groups.json")

    async def choose(
        self, catalogue: Catalogue, programs: Collection[str], processes: Collection[tuple[str, str]] = ()
    ) -> list[ProcessInfo]:
        """The processes that supervisord has of ``programs``, and those named in ``processes`` as (program, process)."""
        wanted = {(g, n) for p in programs for g in {catalogue.group_of(p), p} for n in catalogue.processes(p)}
        wanted |= {(g, n) for p, n in processes for g in {catalogue.group_of(p), p}}
        own = self._agent.programs.groups
        found = await self._agent.programs.read_some({(g, n) for g, n in wanted if g in own})
        seen = {name for info in found for name in (info.group, info.name)}
        missing = {p for p in programs if p in own and not {p, *catalogue.processes(p)} & seen}
        if missing:
            # Its conf says something else than what was loaded of it.
            found += [i for i in await self._agent.programs.read_all() if i.group in missing]
        return found

    async def stop(self, chosen: Sequence[ProcessInfo], *, seen_to_end: bool = True) -> Stopped:
        """Stops ``chosen``, verified by looking at processes. Raises ``SupervisordDown``.

        ``seen_to_end``: and waits until supervisord itself has noticed; an ``unload`` that follows does that.
        """
        programs = self._agent.programs
        live = [info for info in chosen if info.state in RUNNING_STATES]
        running = frozenset((i.group, i.name) for i in live)
        left = await programs.stop_some(live, {(i.group, i.name) for i in chosen})
        if not left and seen_to_end:
            await programs.await_reaped(running)
        return Stopped(running, [f"{p.process} (pid {p.pid})" for p in left])

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
            left = (await self.stop([i for i in await self._agent.programs.read_all() if i.group in kept])).left
            kept = await self._remove(kept)
            if kept:
                raise SupervisordDown(f"supervisord keeps {', '.join(kept)}" + (f": {', '.join(left)}" if left else ""))

    async def _remove(self, groups: Collection[str]) -> list[str]:
        """Has supervisord forget ``groups``; returns those that it still has, because something of them runs."""
        names = sorted(groups)
        results = await self._agent.programs.batch([("removeProcessGroup", [g]) for g in names])
        return [g for g, r in zip(names, results, strict=True) if isinstance(r, Fault) and r.code != BAD_NAME]

    async def reread(self) -> None:
        """Has supervisord read its configuration again, so that its `avail` and `add` know of what was unloaded.

        That takes it a while with many confs and nothing depends on it, so nobody waits for it.
        """
        with contextlib.suppress(SupervisordDown):
            await self._agent.programs.call("reloadConfig", [])

    async def load_and_start(
        self,
        programs: Collection[str],
        processes: Collection[tuple[str, str]],
        catalogue: Catalogue,
        anew: Collection[str] = (),
    ) -> list[dict[str, Any]]:
        """Loads the groups of ``programs`` that are not loaded, and starts these and ``processes``.

        The groups ``anew`` were loaded just now, which has started their members already. Returns a result a process as
        supervisorctl has it: ``group``, ``name``, ``status`` (a fault code). Raises ``SupervisordDown``, ``LoadRefused``
        and ``NotActiveAnyMore``; in the last case nothing was started.
        """
        agent = self._agent
        async with agent.programs.loading:
            if agent.standing.role is not Role.ACTIVE or agent.standing.plan is not None:
                raise NotActiveAnyMore(f"{agent.node} is {agent.standing.role.value} now")
            starts = {(catalogue.group_of(p), n) for p in programs for n in catalogue.processes(p)}
            known = {i.group for i in await agent.programs.read_some(starts)}
            fresh = {group for group, _ in starts} - known
            starts |= {(catalogue.group_of(p), n) for p, n in processes}
            agent.programs.remember_groups(fresh)
            results = await self._load(sorted(fresh), sorted(starts))
        for result in results:
            if result["status"] == ALREADY_STARTED and result["group"] in anew:
                result["status"] = SUCCESS
        return await self._await_started(results)

    async def _load(self, fresh: list[str], starts: list[tuple[str, str]]) -> list[dict[str, Any]]:
        calls: list[tuple[str, Sequence[Any]]] = [("reloadConfig", [])] if fresh else []
        calls += [("addProcessGroup", [group]) for group in fresh]
        ahead = len(calls)
        calls += [("startProcess", [f"{group}:{name}", False]) for group, name in starts]
        answers = await self._agent.programs.batch(calls)
        refused = [a.text for a in answers[:ahead] if isinstance(a, Fault)]
        if refused:
            raise LoadRefused("; ".join(refused))
        return [
            {"group": g, "name": n, "status": answer.code if isinstance(answer, Fault) else SUCCESS}
            for (g, n), answer in zip(starts, answers[ahead:], strict=True)
        ]

    async def _await_started(self, results: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Waits until each started process is RUNNING or has failed, and puts that into its result."""
        agent = self._agent
        clock = agent.loop.time
        until, pause = clock() + START_LIMIT_S, 0.005
        waiting = {(r["group"], r["name"]): r for r in results if r["status"] == SUCCESS}
        while waiting and agent.standing.role is Role.ACTIVE and clock() < until:
            for info in await agent.programs.read_some(waiting):
                if info.state == "STARTING":
                    continue
                result = waiting[info.group, info.name]
                del waiting[info.group, info.name]
                if info.state not in ("RUNNING", "EXITED"):
                    # EXITED comes after RUNNING only.
                    result["status"] = SPAWN_ERROR if info.spawn_error else ABNORMAL_TERMINATION
            if waiting:
                await asyncio.sleep(pause)
                pause = min(2 * pause, 0.1)
        for result in waiting.values():
            result["status"] = FAILED
        return results

    async def replace(self, groups: Collection[str]) -> list[dict[str, Any]]:
        """Stops ``groups`` and loads them as they are configured now; one result a group.

        Raises ``SupervisordDown``, ``LoadRefused`` and ``NotActiveAnyMore``; what was stopped then stays so.
        """
        agent = self._agent
        infos = [i for i in await agent.programs.read_all() if i.group in groups]
        stopped = await self.stop(infos)
        if stopped.left:
            raise LoadRefused(f"not loaded anew, still running: {', '.join(stopped.left)}")
        async with agent.programs.loading:
            if agent.standing.role is not Role.ACTIVE or agent.standing.plan is not None:
                raise NotActiveAnyMore(f"{agent.node} is {agent.standing.role.value} now")
            agent.programs.remember_groups(groups)
            calls: list[tuple[str, Sequence[Any]]] = []
            for group in sorted(groups):
                calls += [("removeProcessGroup", [group]), ("addProcessGroup", [group])]
            answers = await agent.programs.batch(calls)
        refused = [a.text for a in answers[1::2] if isinstance(a, Fault)]
        if refused:
            raise LoadRefused("; ".join(refused))
        for group in groups:
            self.forget_partial(group)
        return [{"group": group, "was_running": any(i.group == group for i in infos)} for group in sorted(groups)]

    # ---- groups of which a member is parked while the others run on ----------------------------------------------

    def _load_partial(self) -> dict[str, str]:
        with contextlib.suppress(ValueError):
            raw = json.loads(read_or_none(self._partial_path) or b"{}")
            return {str(k): str(v) for k, v in raw.items()} if isinstance(raw, dict) else {}
        return {}

    def _digest(self, group: str) -> str:
        """What the members of ``group`` that are not parked say now."""
        agent = self._agent
        members = agent.active_set.selection.groups.get(group, ())
        shas = []
        for path in agent.active_set.selection.loadable:
            verdict, entry = agent.active_set.verdict_of(path), agent.active_set.judged.find(path)
            if verdict and entry and (group in verdict.groups or {p.name for p in verdict.programs} & set(members)):
                shas.append(f"{path} {entry.sha256}")
        return hashlib.sha256("\n".join([*members, *shas]).encode()).hexdigest()

    def note_partial(self, group: str) -> None:
        """Notes that supervisord runs ``group`` with a stopped member that is parked: no update need restart the others."""
        self._save_partial({**self._load_partial(), group: self._digest(group)})

    def forget_partial(self, group: str) -> None:
        """Forgets that: ``group`` was loaded anew."""
        known = self._load_partial()
        if known.pop(group, None) is not None:
            self._save_partial(known)

    def is_partial(self, group: str) -> bool:
        """Whether all that makes ``group`` another one than supervisord has is a parked member."""
        return self._load_partial().get(group) == self._digest(group)

    def _save_partial(self, known: dict[str, str]) -> None:
        write_atomic(self._partial_path, json.dumps(known).encode(), durable=False)
