"""The ``nodes[]`` entry of ``ha-agent status --json`` as types: what the daemon makes and every client reads.

An entry comes over the wire and is not checked: an agent of another version may lack what is newer than it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NotRequired, TypedDict


class MaintenanceJson(TypedDict):
    """A maintenance that is on. Wall clock seconds."""

    since: float
    until: float
    reason: str | None
    by: str


class StandbyOrderJson(TypedDict):
    """An operator's order that the node takes over nothing. Wall clock seconds."""

    since: float
    reason: str
    by: str


class DrillJson(TypedDict):
    """A failover-test under way; ``mode`` is None until its fault is made."""

    id: str
    by: str
    mode: str | None


class PathJson(TypedDict):
    """One of several paths to the peer. ``up``: null where it has not been looked at; ``link``: the link goes over it."""

    address: str
    up: bool | None
    since: float | None
    link: bool


class WaitJson(TypedDict):
    """A group that is started after others. ``given_up``: when it was decided not to start it, null while it waits.

    Wall clock seconds.
    """

    group: str
    programs: list[str]
    waits_for: list[str]
    since: float
    given_up: float | None


class VotesJson(TypedDict):
    """The votes of a node with a witness (``core/account.VotesAccount``)."""

    kind: str
    promised: list[str]
    to: str | None
    used: bool
    left_s: float | None
    adopts: bool
    witness_silent_s: float | None
    witness_problem: str | None
    keeper_problem: str | None


class RegistryJson(TypedDict):
    """The registry of a node. ``refused``: paths that are not replicated, and why."""

    path: str
    confs: int
    hash: str
    parked: list[str]
    refused: dict[str, str]
    problem: str | None


class ReplicationJson(TypedDict):
    """Replication as one node sees it: of the active node ``pending`` to ``pushed``, of another one the rest."""

    state: str
    pending: NotRequired[int | None]
    pending_since: NotRequired[float | None]
    late: NotRequired[bool]
    reason: NotRequired[str | None]
    pushed: NotRequired[int]
    local_changes: NotRequired[list[str]]
    last_refusal: NotRequired[str | None]


class ReadinessJson(TypedDict):
    """What of the registry a node could run: paths and reasons of what it could not load, or not start."""

    current: bool
    loadable: int
    problems: dict[str, str]
    warnings: dict[str, str]
    failure: str | None


class ProgramJson(TypedDict):
    """A program of the registry under supervisord. ``starts``: a takeover would start it."""

    name: str
    state: str
    pid: int | None
    since: int | None
    problem: str | None
    starts: bool


class CheckJson(TypedDict):
    """A health check of a node (``core/account.CheckAccount``). Wall clock seconds.

    ``health``: passing, failing or unknown.
    """

    name: str
    kind: str
    program: str | None
    on_failure: str
    health: str
    since: float | None
    last: str | None
    took_s: float | None
    at: float | None
    waits: str | None
    held: str | None
    restarts: int


class PayloadSyncJson(TypedDict):
    """The replication of payload as one node sees it (``core/payload_status.PayloadAccount``). Wall clock seconds.

    ``state``: of the active node in_sync, pending, copying, held or refused, of another one receiving; unreachable.
    """

    state: str
    files: int
    bytes: int
    pending: int | None
    pending_since: float | None
    late: bool
    at: float | None
    reason: str | None
    left_out: list[str]
    bytes_done: int
    bytes_all: int
    foreign: int


class DriftReasonJson(TypedDict):
    """One thing that is not the same (``core/drift.Reason``). ``changed_on``: null where that is not known."""

    kind: str
    subject: str
    text: str
    changed_on: str | None
    changed_at: float | None


class DriftJson(TypedDict):
    """Programs that the standby would not start as the other node runs them, and why. ``more``: reasons that are left out.

    ``subject``: the programs in a few words, ``why``: the reasons; ``build``: it is another program, or version, that runs.
    """

    programs: list[str]
    subject: str
    build: bool
    why: str
    reasons: list[DriftReasonJson]
    more: int


class PayloadJson(TypedDict):
    """The files that programs need, compared with the other node's (``core/account.DriftAccount``).

    ``state``: equal, differs, pending or unknown, and ``problem`` says why the last two. ``more``: drifts that are left out.
    """

    state: str
    problem: str | None
    at: float | None
    programs: int
    files: int
    starter: str
    other: str
    drifts: list[DriftJson]
    more: int
    remarks: list[str]


class LookJson(TypedDict):
    """Of which moment the programs are. ``programs_at``: when supervisord described all of them, wall clock seconds.

    ``programs_by``: "supervisord", which was asked for this, or "events": what has changed since then its events have told,
    and whether the others' processes live was looked at for this.
    """

    programs_at: NotRequired[float]
    programs_by: NotRequired[str]


class NodeAccountJson(LookJson):
    """A node's own account of itself."""

    name: str
    reachable: Literal[True]
    version: str
    at: float
    role: str
    vrrp_state: str
    vip: bool | None
    vips: NotRequired[dict[str, bool | None]]
    paths: NotRequired[list[PathJson]]
    keepalived: str
    supervisord: str
    epoch: int
    claimed_by: str
    generation: int
    left_running: int
    verifying: NotRequired[bool]
    waits: NotRequired[list[WaitJson]]
    ran_twice: NotRequired[Mapping[str, Any] | None]
    votes: NotRequired[VotesJson | None]
    checks: NotRequired[list[CheckJson]]
    payload_sync: NotRequired[PayloadSyncJson | None]
    payload: NotRequired[PayloadJson | None]
    agreement: NotRequired[dict[str, str | float | bool]]
    unfit: str | None
    notes_problem: NotRequired[str | None]
    notes_low: NotRequired[str | None]
    held: str | None
    maintenance: MaintenanceJson | None
    standby_order: NotRequired[StandbyOrderJson | None]
    drill: DrillJson | None
    preempt: bool
    priority: int
    step: str | None
    registry: RegistryJson
    replication: ReplicationJson
    readiness: ReadinessJson
    programs: list[ProgramJson]
    last_transition: Mapping[str, Any] | None


class SilentNodeJson(TypedDict):
    """A node that did not answer: why, since when, and what was last heard of it."""

    name: str
    reachable: Literal[False]
    problem: NotRequired[str | None]
    since: NotRequired[float | None]
    heard_at: NotRequired[float | None]
    role: NotRequired[str]
    vrrp_state: NotRequired[str]
    epoch: NotRequired[int]
    generation: NotRequired[int]


NodeJson = NodeAccountJson | SilentNodeJson
