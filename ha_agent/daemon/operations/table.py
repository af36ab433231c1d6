"""The one table of what the daemon can be asked: name, request, handler, who may, whether the peer serves it, too.

Rights are decided here and nowhere else, by the kernel's word for the caller. What a right covers can depend on what is
asked for: for ``supervisor`` the guard (core/guard.py) decides call by call, ``contents`` and ``kept-read`` leave out what
is not everybody's to read, ``program-register`` renders the conf itself. docs/authority.md goes through all of them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, TypeVar

from ha_agent.adapters.rpc import Caller, Progress
from ha_agent.core import requests as req
from ha_agent.core.drill import CUTS
from ha_agent.core.frames import Message
from ha_agent.core.guard import READ_ONLY, Access
from ha_agent.core.requests import Malformed, NotPermitted, Request, StatusRequest
from ha_agent.core.vote_frames import LET_GO, VOTE
from ha_agent.daemon.operations.alerts import AlertOperations
from ha_agent.daemon.operations.call import Call, call_of_peer, call_of_user
from ha_agent.daemon.operations.drill import DrillOperations
from ha_agent.daemon.operations.from_peer import PeerOperations
from ha_agent.daemon.operations.kept import KeptOperations
from ha_agent.daemon.operations.node import NodeOperations
from ha_agent.daemon.operations.orders import OrderOperations
from ha_agent.daemon.operations.pair import PairOperations
from ha_agent.daemon.operations.payload import PayloadOperations
from ha_agent.daemon.operations.program_views import ProgramViews
from ha_agent.daemon.operations.programs import ProgramCommands
from ha_agent.daemon.operations.registration import Registration
from ha_agent.daemon.operations.restore import RestoreOperations
from ha_agent.daemon.operations.role import RoleOperations
from ha_agent.daemon.operations.settings import SettingsOperations
from ha_agent.daemon.operations.supervisor_calls import SupervisorCalls
from ha_agent.daemon.operations.update import UpdateCommand

R = TypeVar("R", bound=Request)


class Who(Enum):
    """Who may ask."""

    READER = "members of ha-agent-read, and whoever may more"
    OPERATOR = "members of ha-agent, and root"
    ROOT = "root"
    PEER = "the peer's agent"


@dataclass(frozen=True, slots=True)
class Rooms:
    """The objects whose methods are handlers."""

    node: NodeOperations
    pair: PairOperations
    role: RoleOperations
    orders: OrderOperations
    kept: KeptOperations
    restore: RestoreOperations
    settings: SettingsOperations
    drill: DrillOperations
    alerts: AlertOperations
    views: ProgramViews
    supervisor: SupervisorCalls
    programs: ProgramCommands
    update: UpdateCommand
    registration: Registration
    peer: PeerOperations
    payload: PayloadOperations


@dataclass(frozen=True, slots=True)
class Operation(Generic[R]):
    """One operation. ``at_peer``: an operator may also have it done by the other node, through this one (``at-peer``).

    ``root_if``: requests of this form take root; None where that does not depend on the request.
    """

    name: str
    request: type[R]
    handler: Callable[[Rooms], Callable[[R, Call], Awaitable[Mapping[str, Any]]]]
    who: Who
    at_peer: bool = False
    root_if: Callable[[R], bool] | None = None


READER, OPERATOR, ROOT, PEER = Who.READER, Who.OPERATOR, Who.ROOT, Who.PEER

OPERATIONS: tuple[Operation[Any], ...] = (
    # What this node, or the pair, is and does.
    Operation("status", StatusRequest, lambda r: r.pair.status, READER),
    Operation("view", Request, lambda r: r.node.view, READER, at_peer=True),
    Operation("history", req.HistoryRequest, lambda r: r.node.history, READER, at_peer=True),
    Operation(
        "journal",
        req.JournalRequest,
        lambda r: r.node.journal,
        OPERATOR,
        at_peer=True,
        root_if=lambda q: q.unit != "ha-agent",
    ),
    Operation("whoami", Request, lambda r: r.views.whoami, READER),
    Operation("programs", Request, lambda r: r.views.programs, READER, at_peer=True),
    Operation("doctor", Request, lambda r: r.node.doctor, OPERATOR, at_peer=True),
    # The registry.
    Operation("manifest", Request, lambda r: r.pair.manifest, OPERATOR, at_peer=True),
    Operation("contents", req.ContentsRequest, lambda r: r.node.contents, OPERATOR, at_peer=True),
    Operation("judge", req.JudgeRequest, lambda r: r.node.judge, OPERATOR, at_peer=True),
    Operation("sync", req.SyncRequest, lambda r: r.pair.sync, OPERATOR),
    Operation("kept-list", Request, lambda r: r.kept.list_copies, READER, at_peer=True),
    Operation("kept-read", req.KeptReadRequest, lambda r: r.kept.read_copy, OPERATOR, at_peer=True),
    Operation("kept-prune", req.KeptPruneRequest, lambda r: r.kept.prune, OPERATOR, at_peer=True),
    Operation("restore", req.RestoreRequest, lambda r: r.kept.restore, ROOT),
    Operation("registry-at", req.RegistryAtRequest, lambda r: r.restore.show, OPERATOR),
    Operation("restore-at", req.RestoreAtRequest, lambda r: r.restore.restore_at, ROOT),
    # Payload.
    Operation("payload-sync", req.PayloadSyncRequest, lambda r: r.payload.sync, OPERATOR),
    # agent.toml.
    Operation("settings", Request, lambda r: r.settings.show, OPERATOR, at_peer=True),
    Operation("settings-apply", req.SettingsApplyRequest, lambda r: r.settings.apply, ROOT, at_peer=True),
    # The role.
    Operation("maintenance", req.MaintenanceRequest, lambda r: r.role.set_maintenance, OPERATOR, at_peer=True),
    Operation("hand-over", req.HandOverRequest, lambda r: r.role.hand_over, OPERATOR, at_peer=True),
    Operation("standby", req.StandbyRequest, lambda r: r.orders.set_standby, OPERATOR, at_peer=True),
    Operation("peer-is-off", req.PeerIsOffRequest, lambda r: r.orders.declare_peer_off, OPERATOR),
    # Failover-tests.
    Operation("drill-begin", req.DrillBeginRequest, lambda r: r.drill.begin, OPERATOR, at_peer=True),
    Operation(
        "drill-fault",
        req.DrillFaultRequest,
        lambda r: r.drill.make_fault,
        OPERATOR,
        at_peer=True,
        root_if=lambda q: q.really or q.mode in CUTS,
    ),
    Operation("drill-end", req.DrillRequest, lambda r: r.drill.end, OPERATOR, at_peer=True),
    Operation("report-save", req.ReportRequest, lambda r: r.drill.save_report, OPERATOR),
    Operation("report-list", req.CountRequest, lambda r: r.drill.list_reports, READER, at_peer=True),
    # Alerts.
    Operation("alert-list", req.CountRequest, lambda r: r.alerts.list_alerts, READER, at_peer=True),
    Operation("alert-test", req.AlertTestRequest, lambda r: r.alerts.test_sinks, OPERATOR, at_peer=True),
    Operation("program-events", req.EventsRequest, lambda r: r.alerts.take_events, ROOT),
    # Programs.
    Operation("supervisor", req.SupervisorRequest, lambda r: r.supervisor.call, READER, at_peer=True),
    Operation("program-stop", req.StopRequest, lambda r: r.programs.stop, OPERATOR, at_peer=True),
    Operation("program-start", req.StartRequest, lambda r: r.programs.start, OPERATOR, at_peer=True),
    Operation("program-restart", req.NamesRequest, lambda r: r.programs.restart, OPERATOR, at_peer=True),
    Operation("program-update", req.NamesRequest, lambda r: r.update.update, OPERATOR),
    Operation("program-register", req.RegisterRequest, lambda r: r.registration.register, OPERATOR),
    Operation("program-deregister", req.DeregisterRequest, lambda r: r.registration.deregister, OPERATOR),
    # Between the two agents.
    Operation("at-peer", req.AtPeerRequest, lambda r: r.pair.ask_peer, READER),
    Operation("hello", req.SummaryRequest, lambda r: r.peer.hello, PEER),
    Operation("ping", req.SummaryRequest, lambda r: r.peer.ping, PEER),
    Operation("status", StatusRequest, lambda r: r.peer.status, PEER),
    Operation("manifest", req.ManifestRequest, lambda r: r.peer.manifest, PEER),
    Operation("payload", req.PayloadRequest, lambda r: r.peer.payload, PEER),
    Operation("transaction", req.TransactionRequest, lambda r: r.peer.transaction, PEER),
    Operation("payload-offer", req.PayloadOfferRequest, lambda r: r.payload.offer, PEER),
    Operation("release", req.ReleaseRequest, lambda r: r.peer.release, PEER),
    Operation(VOTE, req.VoteRequest, lambda r: r.peer.vote, PEER),
    Operation(LET_GO, req.LetGoRequest, lambda r: r.peer.let_go_vote, PEER),
)

_OF_USERS = {one.name: one for one in OPERATIONS if one.who is not PEER}
_OF_PEER = {one.name: one for one in OPERATIONS if one.at_peer} | {one.name: one for one in OPERATIONS if one.who is PEER}


def find_operation(name: object, *, from_peer: bool) -> Operation[Any]:
    """The operation ``name`` as users of this node, or the peer's agent, can ask for it. Raises ``Malformed``."""
    found = (_OF_PEER if from_peer else _OF_USERS).get(name) if isinstance(name, str) else None
    if found is None:
        raise Malformed(f"unknown operation {name!r:.60}")
    return found


def require_right(operation: Operation[Any], call: Call) -> None:
    """Raises ``NotPermitted`` where ``call`` may not have ``operation`` at all."""
    if operation.who in (OPERATOR, ROOT) and call.access is not Access.OPERATE:
        raise NotPermitted(READ_ONLY)
    if operation.who is ROOT and not call.is_root:
        raise NotPermitted(f"{operation.name}: only root may ask for this")


def require_right_to(request: Request, operation: Operation[Any], call: Call) -> None:
    """Raises ``NotPermitted`` where ``call`` may have ``operation``, but not with this ``request``."""
    if operation.root_if is not None and operation.root_if(request) and not call.is_root:
        raise NotPermitted(f"{operation.name}: only root may ask for this in this form")


def read_request(operation: Operation[Any], message: Mapping[str, Any]) -> Request:
    """The request in ``message``. Raises ``Malformed``."""
    try:
        request: Request = operation.request.read(dict(message))
    except Malformed as error:
        raise Malformed(f"{operation.name}: {error}") from None
    return request


def require_right_at_peer(ask: Mapping[str, Any], call: Call) -> None:
    """Raises ``Malformed`` where the peer does not serve ``ask``, and ``NotPermitted`` where ``call`` may not have it."""
    name = ask.get("op")
    operation = _OF_USERS.get(name) if isinstance(name, str) else None
    if operation is None or not operation.at_peer:
        raise Malformed(f"{name!r:.40} is nothing to ask a peer")
    require_right(operation, call)
    require_right_to(read_request(operation, ask), operation, call)


class Dispatcher:
    """Answers requests by the table."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    async def answer(self, message: Message, caller: Caller | None, progress: Progress) -> Message:
        """The answer to ``message``; ``caller`` is None for the peer's agent. Raises ``Malformed`` and ``NotPermitted``."""
        operation = find_operation(message.get("op"), from_peer=caller is None)
        call = call_of_peer(message, progress) if caller is None else call_of_user(message, caller, progress)
        require_right(operation, call)
        request = read_request(operation, message)
        require_right_to(request, operation, call)
        if isinstance(request, req.AtPeerRequest):
            require_right_at_peer(request.ask, call)
        return dict(await operation.handler(self._rooms)(request, call))
