"""One node's account of itself: everything that status, alerts and metrics say of it, as one frozen value of one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ha_agent.core.agreement import Agreement
from ha_agent.core.confs import Selection
from ha_agent.core.manifest import EMPTY, Manifest
from ha_agent.core.orders import StandbyOrder
from ha_agent.core.paths import Path
from ha_agent.core.payload_status import PayloadAccount
from ha_agent.core.peer_summary import PeerSummary
from ha_agent.core.transaction import Watermark
from ha_agent.core.vip import Presence
from ha_agent.core.words import OWNING_ROLES, Role, VrrpState

if TYPE_CHECKING:
    # The dashboard has accounts, and compares no files.
    from ha_agent.core.drift import Drift


@dataclass(frozen=True, slots=True)
class Window:
    """One maintenance: wall clock times, why, and who began it. ``boot`` tells the boot in which it counts.

    ``until_uptime``: its end in seconds since that boot, which counts.
    """

    since: float
    until: float
    reason: str
    by: str
    boot: str
    until_uptime: float = 0.0


@dataclass(frozen=True, slots=True)
class DrillAccount:
    """A failover-test under way on this node. ``mode`` is None before its fault."""

    id: str
    by: str
    mode: str | None


@dataclass(frozen=True, slots=True)
class PushAccount:
    """How far the peer is behind, as the active node sees it. ``pending`` is None where it is not known what it holds."""

    held: str | None = None
    refused: str | None = None
    pushed: int = 0
    pending: int | None = 0
    pending_since_wall: float | None = None
    doubt: str | None = None
    """Why this node may not know yet what its own registry holds."""
    is_late: bool = False
    """Whether a change has waited for the peer for longer than ``alerts.lag_s``."""


@dataclass(frozen=True, slots=True)
class VotesAccount:
    """What a node with a witness knows of the votes.

    ``promised``: who has promised it one. ``to``: whose its own is; "" for nobody's. ``is_used``: programs may run on them,
    for ``left_s`` seconds if nobody renews. ``adopts``: programs run that were started before there was a witness.
    ``witness_silent_s``: since when the witness has not answered, ``witness_problem``: why. ``keeper_problem``: why the
    keeper cannot be had.
    """

    kind: str
    promised: tuple[str, ...] = ()
    to: str = ""
    is_used: bool = False
    left_s: float | None = None
    adopts: bool = False
    witness_silent_s: float = 0.0
    witness_problem: str = ""
    keeper_problem: str | None = None
    is_required: bool = True
    ttl_s: float = 3.0

    @property
    def is_witness_silent(self) -> bool:
        """Whether it has been for longer than a promise lasts."""
        return self.witness_silent_s > self.ttl_s


@dataclass(frozen=True, slots=True)
class WaitAccount:
    """A group that waits for ``words`` since ``since_wall``, or that was not started for want of them, at ``given_up_wall``.

    Wall clock seconds.
    """

    group: str
    processes: tuple[str, ...]
    """Their full names, as supervisorctl would show them."""
    words: tuple[str, ...]
    since_wall: float
    given_up_wall: float | None = None


@dataclass(frozen=True, slots=True)
class CheckAccount:
    """A health check of this node. ``health``: a word of ``core/check_state.Health``, since ``since``.

    ``last``: what the last look at ``at`` saw, which took ``took_s`` seconds. ``waits``: why it is not looked at just now.
    ``held``: why nothing is done about it though it fails. ``restarts``: how often a program was restarted for it lately.
    """

    name: str
    kind: str
    program: str
    on_failure: str
    health: str = "unknown"
    since: float | None = None
    last: str | None = None
    took_s: float | None = None
    at: float | None = None
    waits: str | None = None
    held: str | None = None
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class DriftAccount:
    """In what the files that programs need differ on the nodes. ``problem``: why that is not known now; None where it is.

    ``is_pending``: it is not known yet, since an agent was started or the link came up. ``at_wall``: when they were compared
    last. ``programs``, ``files``: how many were. ``starter``: the node that would start the programs, ``other``: the other
    one. ``remarks``: what could not be looked at, for people.
    """

    problem: str | None = None
    at_wall: float | None = None
    programs: int = 0
    files: int = 0
    drifts: tuple[Drift, ...] = ()
    starter: str = ""
    other: str = ""
    remarks: tuple[str, ...] = ()
    is_pending: bool = False


@dataclass(frozen=True, slots=True)
class NodeAccount:
    """What this node knows of itself and of its peer. Times are wall clock seconds."""

    node: str
    peer_name: str
    at_wall: float

    role: Role
    vrrp_state: VrrpState
    vip_here: bool | None
    """Whether one of the VIPs is here."""
    vips: Presence = field(default_factory=dict)
    """Each of them."""
    claim: Watermark = field(default_factory=Watermark)
    known: Watermark = field(default_factory=Watermark)
    generation: int = 0
    plan: str | None = None
    """The takeover or release under way, or not yet finished; None where there is none."""
    step: str | None = None
    last_failure: str | None = None
    held: str | None = None
    """Why a takeover starts nothing for now."""
    left_running: int = 0
    adrift: tuple[str, ...] = ()
    """Processes that belong to no program any more, in words."""
    last_transition: Mapping[str, Any] = field(default_factory=dict)
    verifying: bool = False
    """Whether programs of a takeover are still to come up."""
    waits: tuple[WaitAccount, ...] = ()
    """Groups that an order of starts has not started yet, or not at all."""
    ran_twice: Mapping[str, Any] | None = None
    """When both nodes were active lately: ``began``, ``ended``, ``groups``."""
    votes: VotesAccount | None = None
    """None where there is no witness."""
    checks: tuple[CheckAccount, ...] = ()
    """Health checks, in the order of the configuration."""
    payload_sync: PayloadAccount | None = None
    """The replication of payload; None where there is none."""
    drift: DriftAccount | None = None
    """None where files are not compared."""
    agreement: Agreement = field(default_factory=dict)
    """This node's settings that must be the same on both."""
    unfit: str | None = None
    maintenance: Window | None = None
    standby_order: StandbyOrder | None = None
    drill: DrillAccount | None = None
    preempt: bool = False
    priority: int = 0

    notes_problem: str | None = None
    """What below the run directory cannot be kept right, and why; None where all is."""
    notes_low: str | None = None
    """How little room the run directory has; None where it has enough."""

    keepalived_alive: bool = True
    supervisord_alive: bool = True
    supervisord_silence: str | None = None
    """How supervisord does not answer; None where it does, or nobody has asked."""

    link_up: bool = True
    link_problem: str = ""
    link_path: str = ""
    """The peer's address that the link goes to, or that is tried."""
    paths: tuple[Path, ...] = ()
    """Where there are several."""
    peer: PeerSummary | None = None

    registry_path: str = ""
    manifest: Manifest = EMPTY
    refused_files: Mapping[str, str] = field(default_factory=dict)
    registry_problem: str | None = None
    push: PushAccount = field(default_factory=PushAccount)
    local_edits: tuple[str, ...] = ()
    """Paths that a standby holds otherwise than both nodes agreed."""
    last_refusal: str | None = None

    selection: Selection = field(default_factory=Selection)
    judged_is_current: bool = True
    checker_failure: str | None = None

    @property
    def owns(self) -> bool:
        """Whether this node's registry is the truth."""
        return self.role in OWNING_ROLES
