"""Describes this node for operators: the ``nodes[]`` entry of ``ha-agent status --json``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ha_agent import __version__
from ha_agent.adapters.supervisord import FAILED_STATES, ProcessInfo, SupervisordDown
from ha_agent.core.names import is_parked_name
from ha_agent.core.words import OWNING_ROLES

if TYPE_CHECKING:
    from ha_agent.daemon.agent import Agent


async def describe_node(agent: Agent, infos: Sequence[ProcessInfo] | None = None) -> dict[str, Any]:
    """Everything about this node, as JSON-able data. Never raises for a neighbour that is down: it says so.

    ``infos``: what supervisord said of all its processes, where it was asked already.
    """
    supervisord, programs = await _describe_programs(agent, infos)
    known = agent.ledger.known
    return {
        "name": agent.node,
        "reachable": True,
        "version": __version__,
        "at": round(time.time(), 3),
        "role": agent.standing.role.value,
        "vrrp_state": agent.standing.vrrp_state.value,
        "vip": agent.standing.vip_here,
        "keepalived": "up" if agent.keepalived.is_alive else "down",
        "supervisord": supervisord,
        "epoch": known.epoch,
        "claimed_by": known.claimed_by,
        "generation": agent.ledger.generation,
        "left_running": agent.standing.left_running,
        "unfit": agent.fitness.reason,
        "maintenance": _describe_maintenance(agent),
        "drill": _describe_drill(agent),
        "preempt": not agent.settings.vrrp.nopreempt,
        "priority": agent.settings.vrrp.priority,
        "step": agent.standing.plan.current_step if agent.standing.plan else None,
        "registry": _describe_registry(agent),
        "replication": _describe_replication(agent),
        "readiness": _describe_readiness(agent),
        "programs": programs,
        "last_transition": agent.standing.last_transition or None,
    }


async def _describe_programs(agent: Agent, infos: Sequence[ProcessInfo] | None) -> tuple[str, list[dict[str, Any]]]:
    if infos is not None:
        infos = [info for info in infos if info.group in agent.programs.groups]
    else:
        try:
            infos = await agent.programs.glance()
        except SupervisordDown as error:
            return str(error), []
    idle: frozenset[str] = frozenset() if agent.settings.takeover.start_all else agent.active_set.selection.not_started
    return "up", [
        _describe_program(info, not idle & {info.name, info.group}) for info in sorted(infos, key=lambda i: i.full_name)
    ]


def _describe_program(info: ProcessInfo, starts: bool) -> dict[str, Any]:
    """``starts``: a takeover would start it. One that does so and is STOPPED was stopped by hand."""
    row: dict[str, Any] = {"name": info.full_name, "state": info.state, "pid": info.pid or None, "starts": starts}
    row["since"] = info.started or None
    row["problem"] = info.spawn_error or (f"exit status {info.exit_status}" if info.state in FAILED_STATES else None)
    return row


def _describe_drill(agent: Agent) -> dict[str, Any] | None:
    record = agent.drill.record
    return None if record is None else {"id": record.id, "by": record.by, "mode": record.mode}


def _describe_maintenance(agent: Agent) -> dict[str, Any] | None:
    window = agent.maintenance.window
    if window is None or not agent.maintenance.is_on:
        return None
    return {"since": round(window.since, 3), "until": round(window.until, 3), "reason": window.reason, "by": window.by}


def _describe_registry(agent: Agent) -> dict[str, Any]:
    manifest = agent.view.manifest
    return {
        "path": agent.settings.registry.path,
        "confs": len(manifest),
        "hash": manifest.hash,
        "parked": [entry.path for entry in manifest if is_parked_name(entry.path)],
        "refused": dict(agent.view.refused),
        "problem": agent.view.unavailable,
    }


def _describe_replication(agent: Agent) -> dict[str, Any]:
    if agent.standing.role not in OWNING_ROLES:
        edits = agent.ledger.local_edits(agent.view.manifest)
        refusal = agent.receiver.last_refusal
        return {
            "state": "receiving" if agent.link.is_up else "unreachable",
            "local_changes": list(edits[:50]),
            "last_refusal": f"{refusal[0].value}: {refusal[1]}" if refusal else None,
        }
    state, pending = agent.replicator.state, agent.replicator.pending()
    since = state.pending_since_wall
    word = "in_sync"
    if not agent.link.is_up:
        word = "unreachable"
    elif state.held:
        word = "held"
    elif state.refused:
        word = "refused"
    elif pending is None or pending:
        word = "pending"
    return {
        "state": word,
        "pending": None if pending is None else len(pending),
        "pending_since": round(since, 3) if since else None,
        "reason": state.held or state.refused or (agent.link.problem or None),
        "pushed": state.pushed,
    }


def _describe_readiness(agent: Agent) -> dict[str, Any]:
    selection = agent.active_set.selection
    return {
        "current": agent.active_set.is_current and agent.active_set.judged == agent.view.manifest,
        "loadable": len(selection.loadable),
        "problems": dict(selection.problems),
        "warnings": dict(selection.warnings),
        "failure": agent.active_set.failure,
    }
