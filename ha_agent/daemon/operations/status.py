"""This node for operators: the ``nodes[]`` entry of ``ha-agent status --json``, made of its account and its programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ha_agent import __version__
from ha_agent.adapters.supervisord import ProcessInfo, SupervisordDown
from ha_agent.core.account import NodeAccount
from ha_agent.core.names import is_parked_name
from ha_agent.core.node_json import (
    DrillJson,
    MaintenanceJson,
    NodeAccountJson,
    ProgramJson,
    ReadinessJson,
    RegistryJson,
    ReplicationJson,
    StandbyOrderJson,
)
from ha_agent.core.supervisor_words import EXPLAINED_STATES
from ha_agent.daemon.account import Accountant
from ha_agent.daemon.programs.active_set import ActiveSet
from ha_agent.daemon.programs.loaded_groups import LoadedGroups
from ha_agent.daemon.programs.loader import Loader
from ha_agent.daemon.programs.supervised import Lane

MAX_EDITS = 50


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


def describe_account(account: NodeAccount, supervisord: str, programs: Sequence[ProgramJson]) -> NodeAccountJson:
    """An account in the form of ``status --json``. ``supervisord``: "up", or how it does not answer."""
    return {
        "name": account.node,
        "reachable": True,
        "version": __version__,
        "at": round(account.at_wall, 3),
        "role": account.role.value,
        "vrrp_state": account.vrrp_state.value,
        "vip": account.vip_here,
        "keepalived": "up" if account.keepalived_alive else "down",
        "supervisord": supervisord,
        "epoch": account.known.epoch,
        "claimed_by": account.known.claimed_by,
        "generation": account.generation,
        "left_running": account.left_running,
        "unfit": account.unfit,
        "notes_problem": account.notes_problem,
        "notes_low": account.notes_low,
        "held": account.held,
        "maintenance": _describe_maintenance(account),
        "standby_order": _describe_order(account),
        "drill": _describe_drill(account),
        "preempt": account.preempt,
        "priority": account.priority,
        "step": account.step,
        "registry": _describe_registry(account),
        "replication": _describe_push(account) if account.owns else _describe_receiving(account),
        "readiness": _describe_readiness(account),
        "programs": list(programs),
        "last_transition": account.last_transition or None,
    }


def _describe_drill(account: NodeAccount) -> DrillJson | None:
    drill = account.drill
    return None if drill is None else {"id": drill.id, "by": drill.by, "mode": drill.mode}


def _describe_maintenance(account: NodeAccount) -> MaintenanceJson | None:
    window = account.maintenance
    if window is None:
        return None
    return {"since": round(window.since, 3), "until": round(window.until, 3), "reason": window.reason, "by": window.by}


def _describe_order(account: NodeAccount) -> StandbyOrderJson | None:
    order = account.standby_order
    return None if order is None else {"since": round(order.since, 3), "reason": order.reason, "by": order.by}


def _describe_registry(account: NodeAccount) -> RegistryJson:
    return {
        "path": account.registry_path,
        "confs": len(account.manifest),
        "hash": account.manifest.hash,
        "parked": [entry.path for entry in account.manifest if is_parked_name(entry.path)],
        "refused": dict(account.refused_files),
        "problem": account.registry_problem,
    }


def _describe_receiving(account: NodeAccount) -> ReplicationJson:
    return {
        "state": "receiving" if account.link_up else "unreachable",
        "local_changes": list(account.local_edits[:MAX_EDITS]),
        "last_refusal": account.last_refusal,
    }


def _describe_push(account: NodeAccount) -> ReplicationJson:
    push = account.push
    word = "in_sync"
    if not account.link_up:
        word = "unreachable"
    elif push.held:
        word = "held"
    elif push.refused:
        word = "refused"
    elif push.pending is None or push.pending:
        word = "pending"
    since = push.pending_since_wall
    return {
        "state": word,
        "pending": push.pending,
        "pending_since": round(since, 3) if since else None,
        "reason": push.held or push.refused or push.doubt or (account.link_problem or None),
        "pushed": push.pushed,
    }


def _describe_readiness(account: NodeAccount) -> ReadinessJson:
    selection = account.selection
    return {
        "current": account.judged_is_current,
        "loadable": len(selection.loadable),
        "problems": dict(selection.problems),
        "warnings": dict(selection.warnings),
        "failure": account.checker_failure,
    }
