"""The forms of the daemon's answers. What is marked NotRequired depends on ``outcome``, or on what was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from ha_agent.core.node_json import NodeAccountJson, NodeJson, WaitJson
from ha_agent.core.words import Outcome


class OutcomeAnswer(TypedDict):
    """What became of a request; ``reason`` says why where it was not done."""

    outcome: Outcome
    reason: NotRequired[str]


class HistoryAnswer(TypedDict):
    """Events, oldest first, and this node's wall clock.

    ``older``: the ``before`` of the next request, for those that were asked for and did not fit; None where all did.
    """

    events: Sequence[Mapping[str, Any]]
    older: str | None
    at: float


class JournalAnswer(TypedDict):
    """Lines of the journal, oldest first; ``failure`` says why there are none where they could not be read."""

    failure: str | None
    lines: Sequence[Mapping[str, Any]]


class ViewAnswer(TypedDict):
    """Everything that a screen or a scrape shows of one node."""

    node: NodeAccountJson
    programs: Sequence[Mapping[str, Any]]
    alerts: AlertListAnswer
    figures: Mapping[str, Any]


class ContentsAnswer(TypedDict):
    """Contents by path in base64; null where there is no such file, or where it is in ``withheld``: its mode does not let
    everybody read it, and whoever asks is not root. Paths that are missing did not fit: ask again."""

    contents: Mapping[str, str | None]
    withheld: Sequence[str]


class KeptListAnswer(TypedDict):
    """The newest kept copies, and how many there are."""

    kept: Sequence[Mapping[str, Any]]
    total: int


class ContentAnswer(TypedDict):
    """One content in base64 and its permission bits; null where there is none."""

    content: str | None
    mode: int | None


class RemovedAnswer(TypedDict):
    """How many generations of kept copies were removed; those younger than ``spared_s`` seconds were left alone."""

    removed: int
    spared_s: float


class RegistryAtAnswer(TypedDict):
    """The manifest of a time as rows, since when it was so, and its label; null where that is not known.

    ``oldest``: since when anything is known; ``times``: the newest times at which it changed, each with label and confs.
    """

    at: float | None
    label: str | None
    rows: Sequence[Sequence[Any]] | None
    oldest: float | None
    times: Sequence[Sequence[Any]]


class RestoreAtAnswer(OutcomeAnswer):
    """What was done, or would be, by paths; ``lost``: confs whose content of that time nobody has any more.

    ``present``: the hash of the registry before that; ``peer_problem``: why the peer's kept copies were not looked at.
    """

    at: NotRequired[float]
    label: NotRequired[str]
    present: NotRequired[str]
    added: NotRequired[Sequence[str]]
    changed: NotRequired[Sequence[str]]
    deleted: NotRequired[Sequence[str]]
    lost: NotRequired[Sequence[str]]
    peer_problem: NotRequired[str | None]
    oldest: NotRequired[float | None]


class SettingsAnswer(TypedDict):
    """The values in force by their names in agent.toml, and which file that is."""

    path: str
    values: Mapping[str, Any]


class SettingsAppliedAnswer(OutcomeAnswer):
    """``changed``: the values' names; ``kept``: where the former file is."""

    changed: NotRequired[Sequence[str]]
    kept: NotRequired[str | None]


class JudgeAnswer(TypedDict):
    """Verdicts by path, or why there are none."""

    failure: str | None
    verdicts: Mapping[str, Mapping[str, Any]]


class DoctorAnswer(TypedDict):
    """The report of this node's own doctor, or why there is none."""

    failure: str | None
    report: NotRequired[Mapping[str, Any]]


class MaintenanceAnswer(OutcomeAnswer):
    """``until``: wall clock seconds."""

    until: NotRequired[float]


class BegunAnswer(OutcomeAnswer):
    """``at``: when it begins, by this node's wall clock."""

    at: NotRequired[float]


class SamplesAnswer(TypedDict):
    """What was seen during a failover-test."""

    samples: Sequence[Mapping[str, Any]]


class ReportsAnswer(TypedDict):
    """Reports of failover-tests."""

    reports: Sequence[Mapping[str, Any]]


class SyncAnswer(OutcomeAnswer):
    """``confs``: how many both nodes hold; ``replaced``: the generation under which a restore kept what stood there."""

    confs: NotRequired[int]
    replaced: NotRequired[str | None]


class PayloadSyncAnswer(OutcomeAnswer):
    """``files``, ``bytes``: what both nodes hold."""

    files: NotRequired[int]
    bytes: NotRequired[int]


class AtPeerAnswer(OutcomeAnswer):
    """``answer``: the peer's own."""

    answer: NotRequired[Mapping[str, Any]]


class AlertListAnswer(TypedDict):
    """The alerts that last, the recent notifications, and how the sinks are."""

    node: str
    at: float
    lasting: Sequence[Mapping[str, Any]]
    recent: Sequence[Mapping[str, Any]]
    sinks: Mapping[str, Mapping[str, Any]]


class AlertTestAnswer(OutcomeAnswer):
    """``results``: one row a sink."""

    id: NotRequired[str]
    results: NotRequired[Sequence[Mapping[str, Any]]]


class StatusAnswer(TypedDict):
    """This node and its peer."""

    nodes: Sequence[NodeJson]


class NodeAnswer(TypedDict):
    """This node alone, for its peer."""

    node: NodeAccountJson


class ManifestAnswer(TypedDict):
    """A manifest as rows."""

    rows: Sequence[Sequence[Any]]


class HoldingAnswer(TypedDict):
    """What a node's registry holds: the manifest's hash, and its rows, which are null for one who knows them."""

    hash: str
    rows: Sequence[Sequence[Any]] | None


class WhoAmIAnswer(TypedDict):
    """Where one is, and what one may do."""

    node: str
    role: str
    peer: str
    peer_role: str | None
    access: str
    socket: str


class ProgramsAnswer(OutcomeAnswer):
    """Everything that ``supzcli status`` shows of one node."""

    role: str
    processes: NotRequired[Sequence[Mapping[str, Any]]]
    local: NotRequired[Sequence[str]]
    parked: NotRequired[Sequence[Mapping[str, Any]]]
    autostart: NotRequired[Sequence[str]]
    groups: NotRequired[Mapping[str, Sequence[str]]]
    problems: NotRequired[Mapping[str, str]]
    waits: NotRequired[Sequence[WaitJson]]
    at: NotRequired[float]


class SupervisorAnswer(OutcomeAnswer):
    """supervisord's own result, or its fault."""

    result: NotRequired[Any]
    code: NotRequired[int]
    text: NotRequired[str]


class CommandAnswer(TypedDict, total=False):
    """What a command on programs did. Which fields there are depends on the command."""

    outcome: Outcome
    reason: str
    node: str
    peer: str
    ack: Mapping[str, Any] | None
    """Whether the peer has the change on its disk; null where nothing had to travel."""
    programs: Sequence[Mapping[str, Any]]
    processes: Sequence[str]
    park: Sequence[str]
    parked_before: Sequence[str]
    unknown: Sequence[str]
    left: Sequence[str]
    results: Sequence[Mapping[str, Any]]
    warnings: Sequence[str]
    unparked: Any
    stopped: Sequence[str]
    lines: Sequence[str]
    problems: Mapping[str, str]
    path: str
    changed: bool
    was_registered: bool
