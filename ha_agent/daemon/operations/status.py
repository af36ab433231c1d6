"""This node for operators: the ``nodes[]`` entry of ``ha-agent status --json``, made of its account and its programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ha_agent.adapters.supervisord import ProcessInfo, SupervisordDown
from ha_agent.core.account_json import describe_account
from ha_agent.core.node_json import LookJson, NodeAccountJson, ProgramJson
from ha_agent.core.supervisor_words import EXPLAINED_STATES
from ha_agent.daemon.account import Accountant
from ha_agent.daemon.operations.known_programs import Known, KnownPrograms
from ha_agent.daemon.programs.active_set import ActiveSet
from ha_agent.daemon.programs.loaded_groups import LoadedGroups


class StatusReporter:
    """``start_all``: whether a takeover starts every program. ``wall``: the wall clock, in seconds."""

    def __init__(
        self,
        accountant: Accountant,
        known: KnownPrograms,
        loaded: LoadedGroups,
        active_set: ActiveSet,
        wall: Callable[[], float],
        *,
        start_all: bool,
    ) -> None:
        self._accountant, self._processes, self._loaded, self._active_set = accountant, known, loaded, active_set
        self._wall, self._start_all = wall, start_all

    async def describe(self, infos: Sequence[ProcessInfo] | None = None, *, fresh: bool = True) -> NodeAccountJson:
        """Everything about this node, as JSON-able data. Never raises for a neighbour that is down: it says so.

        ``infos``: what supervisord said of all its processes, where it was asked already. ``fresh``: otherwise it is asked
        for all of them; else for those that its events, and a look at the others' processes, leave in doubt.
        """
        try:
            known = await self._processes.read(fresh=fresh) if infos is None else None
        except SupervisordDown as error:
            return describe_account(self._accountant.gather(self._wall()), str(error), [])
        programs = self._describe_programs(known.infos if known is not None else infos or ())
        return {**describe_account(self._accountant.gather(self._wall()), "up", programs), **_describe_look(known)}

    def _describe_programs(self, infos: Sequence[ProcessInfo]) -> list[ProgramJson]:
        infos = [info for info in infos if info.group in self._loaded.names]
        idle: frozenset[str] = frozenset() if self._start_all else self._active_set.selection.not_started
        rows = sorted(infos, key=lambda i: i.full_name)
        return [_describe_program(info, not idle & {info.name, info.group}) for info in rows]


def _describe_look(known: Known | None) -> LookJson:
    if known is None:
        return {}
    return {"programs_at": round(known.looked_wall, 3), "programs_by": "events" if known.by_events else "supervisord"}


def _describe_program(info: ProcessInfo, starts: bool) -> ProgramJson:
    """``starts``: a takeover would start it. One that does so and is STOPPED was stopped by hand."""
    return {
        "name": info.full_name,
        "state": info.state,
        "pid": info.pid or None,
        "starts": starts,
        "since": info.started or None,
        "problem": info.spawn_error or (f"exit status {info.exit_status}" if info.state in EXPLAINED_STATES else None),
    }
