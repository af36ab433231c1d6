"""Stopping and starting programs so that both nodes' registries say the same, for ``supzcli`` and the dashboard."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from ha_agent.adapters.rpc import Handler, Progress
from ha_agent.adapters.supervisord import Fault, ProcessInfo, SupervisordDown
from ha_agent.core.confs import Selection
from ha_agent.core.frames import Message
from ha_agent.core.guard import Access
from ha_agent.core.names import PARKED
from ha_agent.core.targets import Catalogue, plan_start, plan_stop
from ha_agent.core.words import Role
from ha_agent.daemon.operations.node import take
from ha_agent.daemon.operations.program_views import ProgramQueries, Refused, lint_remarks, take_words
from ha_agent.daemon.programs.runs import SUCCESS, LoadRefused, NotActiveAnyMore, ProgramRuns, Stopped
from ha_agent.daemon.replication.acknowledgement import Acknowledgement
from ha_agent.daemon.replication.editor import RegistryEditor

if TYPE_CHECKING:
    from ha_agent.daemon.agent import Agent


class ProgramService:
    """Serves one agent's operators. Commands that change something run one after the other."""

    def __init__(self, agent: Agent, queries: ProgramQueries) -> None:
        self._agent, self._queries = agent, queries
        self.runs = ProgramRuns(agent)
        self.editor = RegistryEditor(agent)
        self.lock = asyncio.Lock()
        self.handlers: dict[str, Handler] = {
            "program-stop": self._answering(self._stop),
            "program-start": self._answering(self._start),
            "program-restart": self._answering(self._restart),
            "program-update": self._answering(self._update),
        }

    def _answering(self, work: Handler) -> Handler:
        """``work`` under the lock, its expected failures as answers."""
        return answering(self, work)

    # ---- stop ---------------------------------------------------------------------------------------------

    async def _stop(self, message: Message, _progress: Progress) -> Message:
        words, by = take_words(message), str(message.get("by", "?"))
        keep, whole_file = take(message, "keep", bool, False), take(message, "file", bool, False)
        catalogue = await self._queries.read_catalogue()
        plan = plan_stop(words, catalogue, keep=keep, whole_file=whole_file)
        if plan.unknown and len(plan.unknown) == len(words):
            return self._queries.describe(None, unknown=plan.unknown, programs=[])
        await self._queries.require_active()
        if plan.refused:
            raise Refused("; ".join(plan.refused))
        partial = await self._find_partial(catalogue, plan.programs) if plan.park else set()
        for number, path in enumerate(plan.park):
            try:
                await self.editor.park(path, by)
            except OSError as error:
                reason = f"nothing was stopped: {path} cannot be parked: {error.strerror or error}"
                return self._queries.describe(None, outcome="failed", reason=reason, park=plan.park[:number])
        acknowledging = asyncio.ensure_future(self._acknowledge(plan.park))
        judging = asyncio.ensure_future(self._agent.readiness.judge())
        try:
            chosen = await self.runs.choose(catalogue, plan.programs, plan.processes)
            stopped = await self.runs.stop(chosen, seen_to_end=keep)
            selection = await judging
            if not keep and not stopped.left:
                await self._unload_parked(catalogue, plan.programs, partial, selection)
        except SupervisordDown as error:
            ack = await acknowledging
            reason = f"supervisord: {error}"
            return self._queries.describe(ack, outcome="failed", reason=reason, park=plan.park)
        if stopped.running:
            names = ", ".join(sorted(n for _, n in stopped.running))
            kept = "stopped, stays registered" if keep else "stopped"
            self._agent.history.add("program-stopped", f"{names}: {kept}", by=by)
        ack = await acknowledging
        rows = _stopped_rows(catalogue, plan.programs, chosen, stopped)
        return self._queries.describe(
            ack,
            programs=rows,
            processes=sorted(info.full_name for info in chosen),
            park=plan.park,
            parked_before=plan.parked_before,
            unknown=plan.unknown,
            left=stopped.left,
        )

    async def _acknowledge(self, paths: Collection[str]) -> Acknowledgement | None:
        if not paths:
            return None
        # Renamed: the old name goes, the new one comes.
        return await self.editor.acknowledged({*paths, *(p + PARKED for p in paths)})

    async def _find_partial(self, catalogue: Catalogue, programs: Collection[str]) -> set[str]:
        """The groups of ``programs`` that have other members, and are loaded just as they are configured."""
        groups = {g for p in programs if (g := catalogue.group_of(p)) != p}
        if not groups:
            return set()
        outcome = await self._agent.programs.call("reloadConfig", [])
        changed = set(outcome[0][1]) if not isinstance(outcome, Fault) else groups
        return {g for g in groups if g not in changed or self.runs.is_partial(g)}

    async def _unload_parked(
        self, catalogue: Catalogue, programs: Collection[str], partial: set[str], selection: Selection
    ) -> None:
        groups = {catalogue.group_of(p) for p in programs}
        await self.runs.unload(groups - set(selection.groups))
        self._agent.start_task(self.runs.reread())
        for group in groups & set(selection.groups) & partial:
            self.runs.note_partial(group)

    # ---- start --------------------------------------------------------------------------------------------

    async def _start(self, message: Message, _progress: Progress) -> Message:
        words, by = take_words(message), str(message.get("by", "?"))
        whole_file, regroup = take(message, "file", bool, False), take(message, "regroup", bool, False)
        catalogue = await self._queries.read_catalogue()
        plan = plan_start(words, catalogue, whole_file=whole_file)
        if plan.unknown and len(plan.unknown) == len(words):
            return self._queries.describe(None, unknown=plan.unknown, results=[], warnings=[])
        await self._queries.require_active()
        if plan.refused:
            raise Refused("; ".join(plan.refused))
        remarks = await self._check_unpark(plan.unpark)
        anew = await self._find_regroup(catalogue, plan.programs)
        if anew and not regroup:
            raise Refused(self._regroup_text(anew, catalogue))
        judging = asyncio.ensure_future(self._queries.ask_peer_about(self._paths_of(plan.programs, catalogue, plan.unpark)))
        paths = [await self.editor.unpark(path, by) for path in plan.unpark]
        acknowledging = asyncio.ensure_future(self._acknowledge([p.removesuffix(PARKED) for p in plan.unpark]))
        answer = await self.start_programs(plan.programs, plan.processes, paths, anew)
        started = [r["name"] for r in answer.get("results", []) if r["status"] == SUCCESS]
        if started:
            self._agent.history.add("program-started", f"{', '.join(started)}: started", by=by)
        answer.update(unknown=plan.unknown, unparked=paths, warnings=[*remarks, *await judging])
        return self._queries.describe(await acknowledging, **answer)

    async def start_programs(
        self,
        programs: Collection[str],
        processes: Collection[tuple[str, str]],
        paths: Collection[str],
        anew: Collection[str] = (),
    ) -> dict[str, Any]:
        """Loads and starts what the registry says of ``programs`` by now; ``anew``: groups that are loaded afresh.

        Returns the fields of an answer: ``results``, or ``outcome`` and ``reason`` where it failed.
        """
        agent = self._agent
        selection = await agent.readiness.judge()
        lost = [f"{p}: {selection.problems[p]}" for p in paths if p in selection.problems]
        if lost:
            return {"outcome": "failed", "reason": "; ".join(lost), "results": []}
        catalogue = await self._queries.read_catalogue()
        try:
            if anew:
                await agent.programs.call("reloadConfig", [])
                await self.runs.replace(anew)
            return {"results": await self.runs.load_and_start(programs, processes, catalogue, anew)}
        except (SupervisordDown, LoadRefused, NotActiveAnyMore) as error:
            return {"outcome": "failed", "reason": str(error), "results": []}

    async def _check_unpark(self, parked: Collection[str]) -> list[str]:
        """What experience says against parked confs that are to be loaded.

        Raises ``Refused`` where one could not be loaded, or its program not be started, on this node.
        """
        agent = self._agent
        texts = {}
        for path in parked:
            entry = agent.view.manifest.find(path)
            content = agent.view.read_content(path, entry.sha256) if entry else None
            if content is None:
                raise Refused(f"{path} has just changed; try again")
            texts[path.removesuffix(PARKED)] = content.decode("utf-8", "surrogateescape")
        await self._queries.check_texts(texts, "it stays parked")
        return [remark for path, text in texts.items() for remark in lint_remarks(path, text)]

    async def _find_regroup(self, catalogue: Catalogue, programs: Collection[str]) -> set[str]:
        """Groups that supervisord has without one of ``programs``: only loading them anew can add it."""
        found = set()
        for program in programs:
            group = catalogue.group_of(program)
            mates = set(catalogue.members(group)) & set(catalogue.registered) - {program}
            if group == program or not mates:
                continue
            known = await self._agent.programs.read_some(
                {(group, n) for m in {*mates, program} for n in catalogue.processes(m)}
            )
            if known and not {i.name for i in known} & set(catalogue.processes(program)):
                found.add(group)
        return found

    def _regroup_text(self, groups: Collection[str], catalogue: Catalogue) -> str:
        parts = []
        for group in sorted(groups):
            others = ", ".join(sorted(set(catalogue.members(group)) & set(catalogue.registered)))
            parts.append(f"supervisord has loaded group {group} without it; loading the group anew restarts {others}")
        return "; ".join(parts) + ": start --regroup does it"

    def _paths_of(self, programs: Collection[str], catalogue: Catalogue, unpark: Collection[str]) -> list[str]:
        return sorted({catalogue.registered[p].path for p in programs if p in catalogue.registered} | set(unpark))

    # ---- restart and update -------------------------------------------------------------------------------

    async def _restart(self, message: Message, _progress: Progress) -> Message:
        words, by = take_words(message), str(message.get("by", "?"))
        catalogue = await self._queries.read_catalogue()
        plan = plan_stop(words, catalogue, keep=True)
        if plan.unknown and len(plan.unknown) == len(words):
            return self._queries.describe(None, unknown=plan.unknown, results=[])
        await self._queries.require_active()
        if plan.parked_before:
            raise Refused(f"{', '.join(plan.parked_before)}: parked; start it: supzcli start {' '.join(plan.parked_before)}")
        try:
            chosen = await self.runs.choose(catalogue, plan.programs, plan.processes)
            stopped = await self.runs.stop(chosen)
        except SupervisordDown as error:
            return self._queries.describe(None, outcome="failed", reason=f"supervisord: {error}")
        if stopped.left:
            left = ", ".join(stopped.left)
            return self._queries.describe(
                None, outcome="failed", reason=f"not started again, still running: {left}", left=stopped.left
            )
        answer = await self.start_programs(plan.programs, plan.processes, ())
        names = ", ".join(sorted(info.full_name for info in chosen)) or ", ".join(plan.programs)
        self._agent.history.add("program-restarted", f"{names}: restarted", by=by)
        running = sorted(f"{g}:{n}" for g, n in stopped.running)
        return self._queries.describe(None, stopped=running, unknown=plan.unknown, **answer)

    async def _update(self, message: Message, _progress: Progress) -> Message:
        """Loads what changed in the registry, and what goes or comes in the local confs, as supervisorctl's update does."""
        agent, by = self._agent, str(message.get("by", "?"))
        names = {w.removesuffix(":*") for w in take_words(message)} - {"all"}
        await self._queries.require_active()
        await agent.view.compare_now()
        selection = await agent.readiness.judge()
        acknowledging = asyncio.ensure_future(self.editor.acknowledged([e.path for e in agent.view.manifest]))
        lines: list[str] = []
        try:
            answer = await agent.programs.call("reloadConfig", [])
            if isinstance(answer, Fault):
                acknowledging.cancel()
                return self._queries.describe(
                    None, outcome="failed", reason=f"supervisord refuses its configuration: {answer.text}"
                )
            added, changed, removed = (sorted(part) for part in answer[0])
            known = {i.group for i in await agent.programs.read_all()} | set(added)
            unknown = sorted(names - known)
            for group in removed:
                if not names or group in names:
                    lines += await self._update_removed(group)
            for group in changed:
                if not names or group in names:
                    lines += await self._update_changed(group)
            for group in added:
                if not names or group in names:
                    lines += await self._update_added(group)
        except (SupervisordDown, LoadRefused, NotActiveAnyMore) as error:
            acknowledging.cancel()
            return self._queries.describe(None, outcome="failed", reason=str(error), lines=lines)
        if lines:
            agent.history.add("updated", "; ".join(lines)[:500], by=by)
        return self._queries.describe(await acknowledging, lines=lines, unknown=unknown, problems=dict(selection.problems))

    async def _update_removed(self, group: str) -> list[str]:
        infos = [i for i in await self._agent.programs.read_all() if i.group == group]
        stopped = await self.runs.stop(infos)
        if stopped.left:
            return [f"{group}: has problems; not removing"]
        await self.runs.unload([group])
        return [f"{group}: stopped", f"{group}: removed process group"]

    async def _update_changed(self, group: str) -> list[str]:
        if self.runs.is_partial(group):
            return [f"{group}: not touched, only a parked program is missing from it"]
        await self.runs.replace([group])
        return [f"{group}: stopped", f"{group}: updated process group"]

    async def _update_added(self, group: str) -> list[str]:
        agent = self._agent
        async with agent.programs.loading:
            if agent.standing.role is not Role.ACTIVE or agent.standing.plan is not None:
                raise NotActiveAnyMore(f"{agent.node} is {agent.standing.role.value} now")
            if group in agent.active_set.selection.groups:
                agent.programs.remember_groups([group])
            answer = await agent.programs.call("addProcessGroup", [group])
        if isinstance(answer, Fault):
            raise LoadRefused(answer.text)
        return [f"{group}: added process group"]


def answering(service: ProgramService, work: Handler) -> Handler:
    """``work`` under the service's lock, with its expected failures as answers."""

    async def serve(message: Message, progress: Progress) -> Message:
        if message.get("access", Access.OPERATE.value) != Access.OPERATE.value:
            return {
                "outcome": "refused",
                "reason": "you may look, not change anything: that takes membership of group ha-agent",
            }
        async with service.lock:
            try:
                return await work(message, progress)
            except Refused as error:
                return {"outcome": "refused", "reason": str(error)}
            except SupervisordDown as error:
                return {"outcome": "failed", "reason": f"supervisord: {error}"}
            except OSError as error:
                where = f"{error.filename}: " if error.filename else ""
                return {
                    "outcome": "failed",
                    "reason": f"the registry could not be changed: {where}{error.strerror or error}",
                }

    return serve


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
