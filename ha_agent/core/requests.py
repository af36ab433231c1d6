"""What may be asked of the daemon: the fields of each operation's request, and reading them from a message. Pure."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Self

from ha_agent.core.frames import MOST_SECONDS, Message
from ha_agent.core.visible import is_steering

Line = typing.Annotated[str, "one line"]
"""A text for people, or a word that they read: no character in it steers a terminal or begins a line."""

MOST_INTEGER = 2**62
"""More than any count or epoch, and well within what files and other languages can hold."""


class Malformed(Exception):
    """A request does not hold what its operation needs; the text says what."""


class NotPermitted(Exception):
    """Whoever asked may not do this; the text says what it would take."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request without fields, and what all of them have in common. Fields without a default must be there."""

    @classmethod
    def read(cls, message: Message) -> Self:
        """The request in ``message``; what that says besides is ignored. Raises ``Malformed``."""
        values: dict[str, Any] = {}
        kinds = _kinds_of(cls)
        for item in fields(cls):
            if item.name in message:
                values[item.name] = _check(item.name, message[item.name], kinds[item.name])
            elif item.default is MISSING:
                raise Malformed(f"{item.name} is missing")
        return cls(**values)


@dataclass(frozen=True, slots=True)
class StatusRequest(Request):
    """``status``. ``known``: what supervisord's events have told of its programs will do."""

    known: bool = False


@dataclass(frozen=True, slots=True)
class HistoryRequest(Request):
    """``history``: the newest ``count`` events not older than ``since``, wall clock seconds.

    ``before``: where an earlier answer says that older ones lie.
    """

    count: int = 100
    since: float = 0.0
    before: str = ""


@dataclass(frozen=True, slots=True)
class JournalRequest(Request):
    """``journal``: the newest ``count`` lines that ``unit`` wrote, not older than ``since``, wall clock seconds."""

    unit: Line = "ha-agent"
    count: int = 50
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class CountRequest(Request):
    """``report-list``, ``alert-list``: the newest ``count``."""

    count: int = 50


@dataclass(frozen=True, slots=True)
class ManifestRequest(Request):
    """``manifest``, of the peer: ``look`` has the disk looked at first; rows whose hash is ``known`` are not sent."""

    look: bool = False
    known: str = ""


@dataclass(frozen=True, slots=True)
class PayloadRequest(Request):
    """``payload``, of the peer: what is ``known`` of this node, by its hash, is not sent. ``mine``: the hash of its own."""

    known: str = ""
    mine: str = ""


@dataclass(frozen=True, slots=True)
class ContentsRequest(Request):
    """``contents``: registry files by path."""

    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KeptReadRequest(Request):
    """``kept-read``: one kept copy."""

    generation: str
    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class KeptPruneRequest(Request):
    """``kept-prune``: all but the newest ``generations``, or those older than ``older_s`` seconds."""

    generations: int = 0
    older_s: float | None = None
    divergences: bool = False


@dataclass(frozen=True, slots=True)
class RestoreRequest(Request):
    """``restore``: a kept copy is put back at ``target``, or where it was. ``there``: the peer keeps it.

    Content and mode are read from the copy, never taken from whoever asks.
    """

    generation: str
    path: str
    sha256: str
    there: bool = False
    target: str = ""


@dataclass(frozen=True, slots=True)
class RegistryAtRequest(Request):
    """``registry-at``: a wall clock time in seconds."""

    at: float


@dataclass(frozen=True, slots=True)
class RestoreAtRequest(Request):
    """``restore-at``: to what time; ``expected``: the hash of the registry that was looked at."""

    at: float
    dry_run: bool = False
    expected: str = ""


@dataclass(frozen=True, slots=True)
class SettingsApplyRequest(Request):
    """``settings-apply``: values of agent.toml by their names; which ones may be set so is the handler's to say."""

    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class JudgeRequest(Request):
    """``judge``: texts by the path that each would have in the registry."""

    confs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class MaintenanceRequest(Request):
    """``maintenance``: begun for ``for_s`` seconds, or ended."""

    on: bool
    for_s: float = 0.0
    reason: Line = ""


@dataclass(frozen=True, slots=True)
class HandOverRequest(Request):
    """``hand-over``: ``force`` overrides all obstacles but the role and maintenance."""

    force: bool = False


@dataclass(frozen=True, slots=True)
class StandbyRequest(Request):
    """``standby``: the order to take over nothing is given, or ended. ``force``: also where nothing would run then."""

    on: bool
    reason: Line = ""
    force: bool = False


@dataclass(frozen=True, slots=True)
class PeerIsOffRequest(Request):
    """``peer-is-off``: the other node, which must be named, is off."""

    peer: Line
    reason: Line = ""


@dataclass(frozen=True, slots=True)
class DrillBeginRequest(Request):
    """``drill-begin``: a failover-test is watched for ``for_s`` seconds at most."""

    drill: Line
    for_s: float


@dataclass(frozen=True, slots=True)
class DrillFaultRequest(Request):
    """``drill-fault``: its fault, which ends after ``hold_s`` seconds by itself."""

    drill: Line
    mode: Line
    hold_s: float
    really: bool = False


@dataclass(frozen=True, slots=True)
class DrillRequest(Request):
    """``drill-end``."""

    drill: Line


@dataclass(frozen=True, slots=True)
class ReportRequest(Request):
    """``report-save``: the report of a failover-test."""

    report: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AlertTestRequest(Request):
    """``alert-test``: to the sink named, or to all."""

    sink: Line = ""


@dataclass(frozen=True, slots=True)
class EventsRequest(Request):
    """``program-events``: what the listener heard; ``lost`` were thrown away by supervisord.

    ``began``: the listener is new, and so may be supervisord. ``stopping``: supervisord stops all, to end or to reload.
    """

    events: tuple[Any, ...]
    lost: int = 0
    began: bool = False
    stopping: bool = False


@dataclass(frozen=True, slots=True)
class SupervisorRequest(Request):
    """``supervisor``: one call of supervisord's own interface."""

    method: str
    params: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class StopRequest(Request):
    """``program-stop``: ``keep`` leaves the confs registered, ``file`` covers all that a conf defines."""

    names: tuple[str, ...]
    keep: bool = False
    file: bool = False


@dataclass(frozen=True, slots=True)
class StartRequest(Request):
    """``program-start``: ``regroup`` loads a group again that lacks one of them."""

    names: tuple[str, ...]
    file: bool = False
    regroup: bool = False


@dataclass(frozen=True, slots=True)
class NamesRequest(Request):
    """``program-restart``, ``program-update``."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RegisterRequest(Request):
    """``program-register``: the program of a folder; ``text`` is its program.ini, ``owner`` the folder's owner.

    ``writers`` says who besides root and ``owner`` could have written the file, in words for a message. ``user`` is root's
    word that the file is root's own, whoever wrote it, and that the program runs as that user.
    """

    name: str
    directory: str
    text: str
    owner: str
    start: bool = True
    update: bool = False
    writers: str = ""
    user: str = ""


@dataclass(frozen=True, slots=True)
class DeregisterRequest(Request):
    """``program-deregister``: ``file`` covers all that the conf defines."""

    name: str
    file: bool = False


@dataclass(frozen=True, slots=True)
class SyncRequest(Request):
    """``sync``: ``full`` reads every file again and asks the peer what it holds."""

    full: bool = False
    accept_deletes: bool = False
    timeout_s: float = 30.0


@dataclass(frozen=True, slots=True)
class AtPeerRequest(Request):
    """``at-peer``: ``ask`` is the request that this node's agent hands on."""

    ask: Mapping[str, Any]
    timeout_s: float = 10.0


@dataclass(frozen=True, slots=True)
class SummaryRequest(Request):
    """``hello``, ``ping``: the signs of life of the agent that asks (see ``peer_summary``)."""

    summary: Message = field(default_factory=dict)

    @classmethod
    def read(cls, message: Message) -> Self:
        """The whole message is the summary."""
        return cls(message)


@dataclass(frozen=True, slots=True)
class TransactionRequest(Request):
    """``transaction``: one change of the registry (see ``transaction``)."""

    txn: Any = None


@dataclass(frozen=True, slots=True)
class ReleaseRequest(Request):
    """``release``: the claim of the node that takes over."""

    epoch: int
    claimed_by: str


@dataclass(frozen=True, slots=True)
class VoteRequest(Request):
    """``vote``, of the peer: this node's vote is asked for (``core/voter.Ask``)."""

    holder: str
    boot: str
    number: int
    ttl_s: float
    holds: bool = False


@dataclass(frozen=True, slots=True)
class LetGoRequest(Request):
    """``vote-let-go``, of the peer: it counts no promise any more of those up to ``number`` (``core/voter.LetGo``)."""

    holder: str
    boot: str
    number: int


@dataclass(frozen=True, slots=True)
class PayloadOfferRequest(Request):
    """``payload-offer``, of the peer: what it holds, by its hash, and as a list where this node has asked for that."""

    epoch: int
    claimed_by: str
    hash: str
    listing: str | None = None
    accept_deletes: bool = False
    accept_running: bool = False


@dataclass(frozen=True, slots=True)
class PayloadSyncRequest(Request):
    """``payload-sync``: the payload is to be copied now. ``below``: a path that must be part of it.

    ``accept_deletes``: many deletions are meant. ``accept_running``: what processes of the standby run from may be replaced.
    """

    timeout_s: float = 600.0
    below: Line = ""
    accept_deletes: bool = False
    accept_running: bool = False


_KINDS: dict[type[Request], dict[str, Any]] = {}


def _kinds_of(cls: type[Request]) -> dict[str, Any]:
    if cls not in _KINDS:
        _KINDS[cls] = typing.get_type_hints(cls, include_extras=True)
    return _KINDS[cls]


def _check(name: str, value: Any, kind: Any) -> Any:
    """``value`` as the type ``kind``, one of those that the requests above use."""
    if kind is Any:
        return value
    if kind is Line:
        if isinstance(value, str) and is_steering(value):
            raise Malformed(f"{name} holds characters that are not for reading: {value!r:.60}")
        return _check(name, value, str)
    if isinstance(kind, types.UnionType):
        return None if value is None else _check(name, value, typing.get_args(kind)[0])
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple and isinstance(value, list):
        return tuple(_check(name, one, args[0]) for one in value)
    if origin is Mapping and isinstance(value, dict):
        return value
    if kind is float and type(value) in (int, float) and -MOST_SECONDS <= value <= MOST_SECONDS:
        return float(value)
    if kind is int and type(value) is int and not -MOST_INTEGER <= value <= MOST_INTEGER:
        raise Malformed(f"{name} is a number of {value.bit_length()} bits")
    if origin is None and kind is not float and type(value) is kind:
        return value
    raise Malformed(f"{name} is {value!r:.60}")
