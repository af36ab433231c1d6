"""Stopping and starting programs so that both nodes' registries say the same, for ``supzcli`` and the dashboard."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from typing import Any

from ha_agent.adapters.supervisord import Fault, ProcessInfo, SupervisordDown
from ha_agent.core.answers import CommandAnswer
from ha_agent.core.confs import Selection
from ha_agent.core.names import PARKED
from ha_agent.core.requests import NamesRequest, StartRequest, StopRequest
from ha_agent.core.supervisor_words import FaultCode
from ha_agent.core.targets import Catalogue, StopPlan, plan_start, plan_stop
from ha_agent.core.words import Outcome, Refused
from ha_agent.daemon.events import Events
from ha_agent.daemon.operations.call import Call
from ha_agent.daemon.operations.commands import Commands
from ha_agent.daemon.programs.catalogue import CatalogueReader
from ha_agent.daemon.programs.judgement import Judgement
from ha_agent.daemon.programs.partial_groups import PartialGroups
from ha_agent.daemon.programs.readiness import Readiness
from ha_agent.daemon.programs.runs import LoadRefused, NotActiveAnyMore, ProgramRuns, Stopped
from ha_agent.daemon.programs.supervised import Supervised
from ha_agent.daemon.replication.editor import RegistryEditor


class ProgramCommands:
    """For one group. ``start_task`` has a coroutine done beside the command."""

    def __init__(
        self,
        commands: Commands,
        catalogue: CatalogueReader,
        judgement: Judgement,
        readiness: Readiness,
        runs: ProgramRuns,
        partial: PartialGroups,
        supervised: Supervised,
        editor: RegistryEditor,
        events: Events,
        start_task: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._commands, self._catalogue, self._judgement, self._readiness = commands, catalogue, judgement, readiness
        self._runs, self._partial, self._supervised = runs, partial, supervised
        self._editor, self._events, self._start_task = editor, events, start_task

    # ---- stop ---------------------------------------------------------------------------------------------

    async def stop(self, request: StopRequest, call: Call) -> CommandAnswer:
        """Stops programs, verified, and parks their confs on both nodes unless ``keep``."""
        return await self._commands.run(lambda: self._stop(request, call.by))

    async def _stop(self, request: StopRequest, by: str) -> CommandAnswer:
        words, keep = list(request.names), request.keep
        catalogue = await self._catalogue.read()
        plan = plan_stop(words, catalogue, keep=keep, whole_file=request.file)
        if plan.unknown and len(plan.unknown) == len(words):
            return self._commands.answer(None, unknown=plan.unknown, programs=[])
        await self._commands.require_active()
        if plan.refused:
            raise Refused("; ".join(plan.refused))
        partial = await self._find_partial(catalogue, plan.programs) if plan.park else set()
        for number, path in enumerate(plan.park):
            try:
                await self._editor.park(path, by)
            except OSError as error:
                reason = f"nothing was stopped: {path} cannot be parked: {error.strerror or error}"
                return self._commands.answer(None, outcome=Outcome.FAILED, reason=reason, park=plan.park[:number])
        acknowledging = asyncio.ensure_future(self._commands.acknowledge_renamed(plan.park))
        try:
            chosen, stopped = await self._stop_parked(catalogue, plan, partial, keep=keep)
        except SupervisordDown as error:
            ack, reason = await acknowledging, f"supervisord: {error}"
            return self._commands.answer(ack, outcome=Outcome.FAILED, reason=reason, park=plan.park)
        if stopped.running:
            names = ", ".join(sorted(n for _, n in stopped.running))
            kept = "stopped, stays registered" if keep else "stopped"
            self._events.add("program-stopped", f"{names}: {kept}", by=by)
        return self._commands.answer(
            await acknowledging,
            programs=_stopped_rows(catalogue, plan.programs, chosen, stopped),
            processes=sorted(info.full_name for info in chosen),
            park=plan.park,
            parked_before=plan.parked_before,
            unknown=plan.unknown,
            left=stopped.left,
        )

    async def _stop_parked(
        self, catalogue: Catalogue, plan: StopPlan, partial: set[str], *, keep: bool
    ) -> tuple[list[ProcessInfo], Stopped]:
        """Stops what ``plan`` names, whose confs are parked by now, and unloads it. Raises ``SupervisordDown``."""
        judging = asyncio.ensure_future(self._readiness.judge())
        chosen = await self._runs.choose(catalogue, plan.programs, plan.processes)
        stopped = await self._runs.stop(chosen, seen_to_end=keep)
        selection = await judging
        if not keep and not stopped.left:
            await self._unload_parked(catalogue, plan.programs, partial, selection)
        return chosen, stopped

    async def _find_partial(self, catalogue: Catalogue, programs: Collection[str]) -> set[str]:
        """The groups of ``programs`` that have other members, and are loaded just as they are configured."""
        groups = {g for p in programs if (g := catalogue.group_of(p)) != p}
        if not groups:
            return set()
        outcome = await self._supervised.call("reloadConfig", [])
        changed = set(outcome[0][1]) if not isinstance(outcome, Fault) else groups
        return {g for g in groups if g not in changed or self._partial.is_partial(g)}

    async def _unload_parked(
        self, catalogue: Catalogue, programs: Collection[str], partial: set[str], selection: Selection
    ) -> None:
        groups = {catalogue.group_of(p) for p in programs}
        await self._runs.unload(groups - set(selection.groups))
        self._start_task(self._runs.reread())
        for group in groups & set(selection.groups) & partial:
            self._partial.note(group)

    # ---- start --------------------------------------------------------------------------------------------

    async def start(self, request: StartRequest, call: Call) -> CommandAnswer:
        """Registers parked programs again on both nodes, loads and starts them."""
        return await self._commands.run(lambda: self._start(request, call.by))

    async def _start(self, request: StartRequest, by: str) -> CommandAnswer:
        words = list(request.names)
        catalogue = await self._catalogue.read()
        plan = plan_start(words, catalogue, whole_file=request.file)
        if plan.unknown and len(plan.unknown) == len(words):
            return self._commands.answer(None, unknown=plan.unknown, results=[], warnings=[])
        await self._commands.require_active()
        if plan.refused:
            raise Refused("; ".join(plan.refused))
        remarks = await self._check_unpark(plan.unpark)
        again = await self._find_regroup(catalogue, plan.programs)
        if again and not request.regroup:
            raise Refused(_regroup_text(again, catalogue))
        asked = sorted({catalogue.registered[p].path for p in plan.programs if p in catalogue.registered} | set(plan.unpark))
        # Read before the renames: a parked conf is not to be found by this path any more when the peer is asked.
        texts = {path.removesuffix(PARKED): text for path in asked if (text := self._judgement.read_text(path)) is not None}
        judging = asyncio.ensure_future(self._judgement.ask_peer((), texts))
        paths = [await self._editor.unpark(path, by) for path in plan.unpark]
        own_names = [path.removesuffix(PARKED) for path in plan.unpark]
        acknowledging = asyncio.ensure_future(self._commands.acknowledge_renamed(own_names))
        answer = await self.start_programs(plan.programs, plan.processes, paths, again)
        started = [r["name"] for r in answer.get("results", []) if r["status"] == FaultCode.SUCCESS]
        if started:
            self._events.add("program-started", f"{', '.join(started)}: started", by=by)
        warnings = [*remarks, *await judging]
        answer.update({"unknown": plan.unknown, "unparked": paths, "warnings": warnings})
        return self._commands.answer(await acknowledging, **answer)

    async def start_programs(
        self,
        programs: Collection[str],
        processes: Collection[tuple[str, str]],
        paths: Collection[str],
        again: Collection[str] = (),
    ) -> CommandAnswer:
        """Loads and starts what the registry says of ``programs`` by now; ``again``: groups that are loaded afresh.

        Returns fields of an answer: ``results``, or ``outcome`` and ``reason`` where it failed.
        """
        selection = await self._readiness.judge()
        lost = [f"{p}: {selection.problems[p]}" for p in paths if p in selection.problems]
        if lost:
            return {"outcome": Outcome.FAILED, "reason": "; ".join(lost), "results": []}
        catalogue = await self._catalogue.read()
        try:
            if again:
                await self._supervised.call("reloadConfig", [])
                await self._runs.replace(again)
            return {"results": await self._runs.load_and_start(programs, processes, catalogue, again)}
        except (SupervisordDown, LoadRefused, NotActiveAnyMore) as error:
            return {"outcome": Outcome.FAILED, "reason": str(error), "results": []}

    async def _check_unpark(self, parked: Collection[str]) -> list[str]:
        """Lint remarks on parked confs about to be loaded.

        Raises ``Refused`` where one could not be loaded, or its program not be started, on this node.
        """
        texts = {}
        for path in parked:
            text = self._judgement.read_text(path)
            if text is None:
                raise Refused(f"{path} has just changed; try again")
            texts[path.removesuffix(PARKED)] = text
        await self._judgement.require_loadable(texts, "it stays parked")
        return [remark for path, text in texts.items() for remark in self._judgement.remarks_on(path, text)]

    async def _find_regroup(self, catalogue: Catalogue, programs: Collection[str]) -> set[str]:
        """Loaded groups that lack one of ``programs`` and must be loaded again to gain it."""
        found = set()
        for program in programs:
            group = catalogue.group_of(program)
            mates = set(catalogue.members(group)) & set(catalogue.registered) - {program}
            if group == program or not mates:
                continue
            known = await self._supervised.read_named(
                {(group, n) for m in {*mates, program} for n in catalogue.processes(m)}
            )
            if known and not {i.name for i in known} & set(catalogue.processes(program)):
                found.add(group)
        return found

    # ---- restart ------------------------------------------------------------------------------------------

    async def restart(self, request: NamesRequest, call: Call) -> CommandAnswer:
        """Stops programs, verified, and starts them again."""
        return await self._commands.run(lambda: self._restart(request, call.by))

    async def _restart(self, request: NamesRequest, by: str) -> CommandAnswer:
        words = list(request.names)
        catalogue = await self._catalogue.read()
        plan = plan_stop(words, catalogue, keep=True)
        if plan.unknown and len(plan.unknown) == len(words):
            return self._commands.answer(None, unknown=plan.unknown, results=[])
        await self._commands.require_active()
        if plan.parked_before:
            raise Refused(f"{', '.join(plan.parked_before)}: parked; start it: supzcli start {' '.join(plan.parked_before)}")
        try:
            chosen = await self._runs.choose(catalogue, plan.programs, plan.processes)
            stopped = await self._runs.stop(chosen)
        except SupervisordDown as error:
            return self._commands.answer(None, outcome=Outcome.FAILED, reason=f"supervisord: {error}")
        if stopped.left:
            reason = f"not started again, still running: {', '.join(stopped.left)}"
            return self._commands.answer(None, outcome=Outcome.FAILED, reason=reason, left=stopped.left)
        answer = await self.start_programs(plan.programs, plan.processes, ())
        names = ", ".join(sorted(info.full_name for info in chosen)) or ", ".join(plan.programs)
        self._events.add("program-restarted", f"{names}: restarted", by=by)
        running = sorted(f"{g}:{n}" for g, n in stopped.running)
        return self._commands.answer(None, stopped=running, unknown=plan.unknown, **answer)

    async def restart_named(self, program: str, by: str) -> str | None:
        """Restarts one program for a part of the agent; says why it does not run again, None where it does."""
        answer = await self._commands.run(lambda: self._restart(NamesRequest((program,)), by))
        if answer["outcome"] is not Outcome.DONE:
            return answer.get("reason") or str(answer["outcome"])
        if answer.get("unknown"):
            return "the registry has no such program"
        failed = [r["name"] for r in answer.get("results", []) if r["status"] != FaultCode.SUCCESS]
        return f"{', '.join(failed)} does not come up" if failed else None


def _regroup_text(groups: Collection[str], catalogue: Catalogue) -> str:
    parts = []
    for group in sorted(groups):
        others = ", ".join(sorted(set(catalogue.members(group)) & set(catalogue.registered)))
        parts.append(f"supervisord has loaded group {group} without it; loading the group again restarts {others}")
    return "; ".join(parts) + ": start --regroup does it"


def _stopped_rows(
    catalogue: Catalogue, programs: Collection[str], chosen: Collection[ProcessInfo], stopped: Stopped
) -> list[dict[str, Any]]:
    """One row a program: whether something of it was running."""
    rows = []
    for program in programs:
        groups, names = {catalogue.group_of(program), program}, set(catalogue.processes(program))
        own = [(i.group, i.name) for i in chosen if i.group in groups and (i.name in names or i.group == program)]
        conf = catalogue.registered.get(program) or catalogue.unloadable.get(program)
        rows.append(
            {
                "name": program,
                "group": catalogue.group_of(program),
                "was_running": any(one in stopped.running for one in own),
                "path": conf.path if conf else None,
            }
        )
    return rows
