"""This node for operators: the ``nodes[]`` entry of ``ha-agent status --json``, made of its account and its programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ha_agent.adapters.supervisord import ProcessInfo, SupervisordDown
from ha_agent.core.account_json import describe_account
from ha_agent.core.node_json import NodeAccountJson, ProgramJson
from ha_agent.core.supervisor_words import EXPLAINED_STATES
from ha_agent.daemon.account import Accountant
from ha_agent.daemon.programs.active_set import ActiveSet
from ha_agent.daemon.programs.loaded_groups import LoadedGroups
from ha_agent.daemon.programs.loader import Loader
from ha_agent.daemon.programs.supervised import Lane


class StatusReporter:
    """``start_all``: whether a takeover starts every program. ``wall``: the wall clock, in seconds."""

    def __init__(
        self,
        accountant: Accountant,
        loader: Loader,
        loaded: LoadedGroups,
        active_set: ActiveSet,
        wall: Callable[[], float],
        *,
        start_all: bool,
    ) -> None:
        self._accountant, self._loader, self._loaded, self._active_set = accountant, loader, loaded, active_set
        self._wall, self._start_all = wall, start_all

    async def describe(self, infos: Sequence[ProcessInfo] | None = None) -> NodeAccountJson:
        """Everything about this node, as JSON-able data. Never raises for a neighbour that is down: it says so.

        ``infos``: what supervisord said of all its processes, where it was asked already.
        """
        supervisord, programs = await self._describe_programs(infos)
        return describe_account(self._accountant.gather(self._wall()), supervisord, programs)

    async def _describe_programs(self, infos: Sequence[ProcessInfo] | None) -> tuple[str, list[ProgramJson]]:
        if infos is not None:
            infos = [info for info in infos if info.group in self._loaded.names]
        else:
            try:
                infos = await self._loader.read_registry(Lane.GLANCE)
            except SupervisordDown as error:
                return str(error), []
        idle: frozenset[str] = frozenset() if self._start_all else self._active_set.selection.not_started
        rows = sorted(infos, key=lambda i: i.full_name)
        return "up", [_describe_program(info, not idle & {info.name, info.group}) for info in rows]


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
