"""Calls of supervisord's own interface, for those who may make them: everything that the guard lets pass."""

from __future__ import annotations

from collections.abc import Callable

from ha_agent.adapters.supervisord import Fault, SupervisordDown
from ha_agent.core.answers import SupervisorAnswer
from ha_agent.core.guard import READING, Access, refusal_of
from ha_agent.core.listener_conf import GROUP as LISTENER
from ha_agent.core.requests import SupervisorRequest
from ha_agent.core.words import Outcome
from ha_agent.daemon.events import Events
from ha_agent.daemon.operations.call import Call
from ha_agent.daemon.programs.active_set import ActiveSet
from ha_agent.daemon.programs.loaded_groups import LoadedGroups
from ha_agent.daemon.programs.readiness import Readiness
from ha_agent.daemon.programs.runs import NotActiveAnyMore, ProgramRuns
from ha_agent.daemon.programs.supervised import Supervised
from ha_agent.daemon.replication.view import RegistryView
from ha_agent.daemon.standing import Standing

LOCAL_CALLS = frozenset(
    {
        "startProcess",
        "startProcessGroup",
        "stopProcess",
        "stopProcessGroup",
        "addProcessGroup",
        "removeProcessGroup",
    }
)
"""Calls whose first parameter names a program or group that may be the registry's."""

UNTOLD = ("get", "read", "tail", "reload", "sendProcess")
"""Beginnings of the calls that leave no line in the history."""


class SupervisorCalls:
    """For one group. ``owner_of``: the user that a process runs as, None where it has ended."""

    def __init__(
        self,
        standing: Standing,
        view: RegistryView,
        active_set: ActiveSet,
        loaded: LoadedGroups,
        readiness: Readiness,
        runs: ProgramRuns,
        supervised: Supervised,
        events: Events,
        owner_of: Callable[[int], int | None],
    ) -> None:
        self._standing, self._view, self._active_set, self._loaded = standing, view, active_set, loaded
        self._readiness, self._runs, self._supervised, self._events = readiness, runs, supervised, events
        self._owner_of = owner_of

    async def call(self, request: SupervisorRequest, call: Call) -> SupervisorAnswer:
        """One call, where the guard lets it pass."""
        method, params = request.method, list(request.params)
        name = str(params[0]) if params else ""
        is_registry = method in LOCAL_CALLS and self._is_registry(name.partition(":")[0])
        refusal = refusal_of(
            method,
            params,
            call.access,
            is_root=call.is_root,
            is_registry=is_registry,
            is_active=self._standing.may_start,
            is_listener=method not in READING and name.partition(":")[0] == LISTENER,
            is_own=method != "sendProcessStdin" or await self._runs_as(name, call.uid),
        )
        if refusal is not None:
            return {"outcome": Outcome.REFUSED, "reason": refusal}
        if method == "reloadConfig":
            await self._view.compare_now()
            await self._readiness.judge()
        try:
            if method == "addProcessGroup" and is_registry:
                result = await self._runs.add(name, is_registry=True)
            else:
                result = await self._supervised.call(method, params)
        except NotActiveAnyMore as error:
            return {"outcome": Outcome.REFUSED, "reason": str(error)}
        except SupervisordDown as error:
            return {"outcome": Outcome.DOWN, "reason": str(error)}
        if isinstance(result, Fault):
            return {"outcome": Outcome.FAULT, "code": result.code, "text": result.text}
        if call.access is Access.OPERATE and not method.startswith(UNTOLD):
            self._events.add("supervisor-call", f"{method} {' '.join(map(str, params))}"[:300], by=call.by)
        return {"outcome": Outcome.DONE, "result": result}

    async def _runs_as(self, name: str, uid: int | None) -> bool:
        """Whether the process ``name`` runs as ``uid`` of this node. Somebody at the peer has no number here."""
        group, _, process = name.partition(":")
        try:
            infos = await self._supervised.read_named({(group, process or group)})
        except SupervisordDown:
            return False
        return uid is not None and any(info.pid and self._owner_of(info.pid) == uid for info in infos)

    def _is_registry(self, group: str) -> bool:
        return group in self._loaded.names or group in self._active_set.selection.groups
