"""A node's account of itself in the form of ``ha-agent status --json``. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ha_agent import __version__
from ha_agent.core.account import CheckAccount, DriftAccount, NodeAccount, WaitAccount
from ha_agent.core.drift import Drift, Reason
from ha_agent.core.names import is_parked_name
from ha_agent.core.node_json import (
    CheckJson,
    DriftJson,
    DriftReasonJson,
    DrillJson,
    MaintenanceJson,
    NodeAccountJson,
    PathJson,
    PayloadJson,
    PayloadSyncJson,
    ProgramJson,
    ReadinessJson,
    RegistryJson,
    ReplicationJson,
    StandbyOrderJson,
    VotesJson,
    WaitJson,
)
from ha_agent.core.obstacles import find_faults
from ha_agent.core.payload_status import PayloadAccount
from ha_agent.core.peer_summary import LONGEST_OBSTACLE, MOST_OBSTACLES
from ha_agent.core.words import Role

MAX_EDITS = 50
MAX_DRIFTS, MAX_REASONS = 50, 10


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
        "vips": dict(account.vips),
        "paths": _describe_paths(account),
        "keepalived": "up" if account.keepalived_alive else "down",
        "supervisord": supervisord,
        "epoch": account.known.epoch,
        "claimed_by": account.known.claimed_by,
        "generation": account.generation,
        "left_running": account.left_running,
        "verifying": account.verifying,
        "waits": describe_waits(account.waits),
        "ran_twice": account.ran_twice,
        "votes": _describe_votes(account),
        "checks": [_describe_check(check) for check in account.checks],
        "payload_sync": _describe_payload_sync(account.payload_sync),
        "payload": describe_drift(account.drift),
        "agreement": dict(account.agreement),
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


def _describe_paths(account: NodeAccount) -> list[PathJson]:
    return [
        {
            "address": path.address,
            "up": path.is_up,
            "since": round(path.since_wall, 3) if path.since_wall else None,
            "link": account.link_up and path.address == account.link_path,
        }
        for path in account.paths
    ]


def describe_waits(waits: Sequence[WaitAccount]) -> list[WaitJson]:
    """Programs that are started after others and are not yet."""
    return [
        {
            "group": wait.group,
            "programs": list(wait.processes),
            "waits_for": list(wait.words),
            "since": round(wait.since_wall, 3),
            "given_up": round(wait.given_up_wall, 3) if wait.given_up_wall is not None else None,
        }
        for wait in waits
    ]


def _describe_votes(account: NodeAccount) -> VotesJson | None:
    votes = account.votes
    if votes is None:
        return None
    return {
        "kind": votes.kind,
        "promised": list(votes.promised),
        "to": votes.to or None,
        "used": votes.is_used,
        "left_s": round(votes.left_s, 3) if votes.left_s is not None else None,
        "adopts": votes.adopts,
        "witness_silent_s": round(votes.witness_silent_s, 1) if votes.is_witness_silent else None,
        "witness_problem": votes.witness_problem or None,
        "keeper_problem": votes.keeper_problem,
    }


def _describe_check(check: CheckAccount) -> CheckJson:
    return {
        "name": check.name,
        "kind": check.kind,
        "program": check.program or None,
        "on_failure": check.on_failure,
        "health": check.health,
        "since": check.since,
        "last": check.last,
        "took_s": round(check.took_s, 6) if check.took_s is not None else None,
        "at": check.at,
        "waits": check.waits,
        "held": check.held,
        "restarts": check.restarts,
    }


def _describe_payload_sync(payload: PayloadAccount | None) -> PayloadSyncJson | None:
    if payload is None:
        return None
    since, at = payload.pending_since_wall, payload.at_wall
    return {
        "state": payload.state.value,
        "files": payload.files,
        "bytes": payload.bytes,
        "pending": payload.pending,
        "pending_since": round(since, 3) if since is not None else None,
        "late": payload.is_late,
        "at": round(at, 3) if at is not None else None,
        "reason": payload.reason,
        "left_out": list(payload.problems),
        "bytes_done": payload.bytes_done,
        "bytes_all": payload.bytes_all,
        "foreign": payload.foreign,
    }


def describe_drift(drift: DriftAccount | None) -> PayloadJson | None:
    """In what programs' files differ; null where they are not compared."""
    if drift is None:
        return None
    drifts = drift.drifts if drift.problem is None else ()
    state = "differs" if drifts else "equal"
    if drift.problem is not None:
        state = "pending" if drift.is_pending else "unknown"
    return {
        "state": state,
        "problem": drift.problem,
        "at": round(drift.at_wall, 3) if drift.at_wall is not None else None,
        "programs": drift.programs,
        "files": drift.files,
        "starter": drift.starter,
        "other": drift.other,
        "drifts": [_describe_one_drift(one) for one in drifts[:MAX_DRIFTS]],
        "more": max(0, len(drifts) - MAX_DRIFTS),
        "remarks": list(drift.remarks[:MAX_DRIFTS]),
    }


def _describe_one_drift(one: Drift) -> DriftJson:
    return {
        "programs": list(one.programs[:MAX_EDITS]),
        "subject": one.subject,
        "build": one.is_build,
        "why": one.why,
        "reasons": [_describe_reason(reason) for reason in one.reasons[:MAX_REASONS]],
        "more": max(0, len(one.reasons) - MAX_REASONS),
    }


def _describe_reason(reason: Reason) -> DriftReasonJson:
    return {
        "kind": reason.kind,
        "subject": reason.subject,
        "text": reason.text,
        "changed_on": reason.changed_on or None,
        "changed_at": round(reason.changed_at, 3) if reason.changed_on else None,
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
        "late": push.is_late,
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


def describe_obstacles(account: NodeAccount) -> tuple[str, ...]:
    """What a standby tells its peer of why it could not take over; nothing of any other role."""
    if account.role not in (Role.STANDBY, Role.FENCED):
        return ()
    supervisord = "up" if account.supervisord_alive else "down"
    node = describe_account(account, account.supervisord_silence or supervisord, ())
    return tuple(fault.text[:LONGEST_OBSTACLE] for fault in find_faults(node)[:MOST_OBSTACLES])
