"""Alerts: what they are called, what to do about each, and the book of those that last. Pure.

An alert is either **lasting**, with a start, repeats and an end, or a **moment**, which is told once. The book is given the
conditions that hold now, whoever has seen them and however often, and says what is to be told: level-triggered, so a lost
look costs a delay and a doubled one nothing. What begins in numbers is told together.
"""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from typing import Any

GATHER_S = 10.0
"""After one alert of a code, more of that code are gathered for so long and told together."""

NAMED = 20
"""So many subjects an alert of many names."""

MAX_TEXT = 4000


class Severity(str, Enum):
    """How much of it somebody must do at once."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


RANK = {Severity.INFO: 0, Severity.WARNING: 1, Severity.CRITICAL: 2}


class Kind(str, Enum):
    """What a notification tells of an alert."""

    BEGIN = "begin"
    REPEAT = "repeat"
    END = "end"
    MOMENT = "moment"


@dataclass(frozen=True, slots=True)
class Code:
    """One kind of alert. ``hold_s``: a condition must last so long before it is told, ``settle_s``: and be gone so long.

    An agent that was started again must have found out within ``settle_s`` whether what it knew of still holds.
    """

    code: str
    severity: Severity
    title: str
    remedy: str
    lasting: bool = True
    hold_s: float = 0.0
    settle_s: float = 5.0


def _codes() -> tuple[Code, ...]:
    info, warning, critical = Severity.INFO, Severity.WARNING, Severity.CRITICAL
    return (
        Code(
            "program-exited",
            critical,
            "a program ended unexpectedly and was not started again",
            "read its log; then: supzcli start NAME",
            settle_s=0.0,
        ),
        Code(
            "program-restarted",
            warning,
            "a program ended unexpectedly and was started again",
            "read its log; a program that should end by itself names its exit status in exitcodes",
            lasting=False,
        ),
        Code(
            "program-fatal",
            critical,
            "a program can not be started any more: supervisord has given it up",
            "read its log and `supzcli status`; mend it, then: supzcli start NAME",
            settle_s=0.0,
        ),
        Code(
            "program-looping",
            critical,
            "a program ends and is started again and again",
            "read its log; stop it with: supzcli stop NAME",
            settle_s=0.0,
        ),
        Code(
            "program-memory",
            warning,
            "a program uses more memory than alerts.memory_limits allows",
            "look for a leak; restart it at a quiet time: supzcli restart NAME",
            hold_s=5.0,
        ),
        Code(
            "events-lost",
            warning,
            "supervisord threw events away before they were taken; every program was looked at instead",
            "raise buffer_size of [eventlistener:ha-agent-listener]; look why the machine was starved",
            lasting=False,
        ),
        Code(
            "listener-silent",
            warning,
            "the event listener does not report: ends of programs that were started again are not seen",
            "supervisorctl status ha-agent-listener; its conf belongs to /etc/supervisor/local.d/",
            hold_s=30.0,
            settle_s=150.0,
        ),
        Code(
            "role-active",
            warning,
            "this node has taken over",
            "ha-agent history shows the steps; after a failover find out what happened to the other node",
            lasting=False,
        ),
        Code("role-standby", info, "this node has released and is standby", "nothing", lasting=False),
        Code(
            "no-active-node",
            critical,
            "neither node is active: no program of the registry runs",
            "ha-agent status on both nodes; systemctl status keepalived",
            hold_s=15.0,
            settle_s=30.0,
        ),
        Code(
            "split-brain",
            critical,
            "both nodes are active: programs may run twice",
            "stop keepalived on one of them; then look at the network between the two",
            hold_s=2.0,
            settle_s=15.0,
        ),
        Code(
            "fenced",
            critical,
            "processes of the registry can not be ended here, so the other node must not start them",
            "end them by hand (they are named in ha-agent status), or reboot this node",
            settle_s=15.0,
        ),
        Code(
            "peer-lost",
            critical,
            "the other node does not answer: a failover now would find nobody, or run twice",
            "look at the other machine and at the network; ha-agent doctor --peer",
            hold_s=10.0,
        ),
        Code(
            "replication-lag",
            warning,
            "changes of the registry have been waiting for the other node",
            "ha-agent status; ha-agent doctor",
            settle_s=60.0,
        ),
        Code(
            "replication-refused",
            critical,
            "the other node refuses changes of the registry",
            "the reason says which; ha-agent status and ha-agent doctor on both nodes",
            hold_s=5.0,
        ),
        Code(
            "registry-held",
            critical,
            "deletions of most of the registry are held back",
            "put the confs back, or confirm: ha-agent sync --accept-deletes",
        ),
        Code(
            "registry-unavailable",
            critical,
            "the registry can not be read",
            "look at the directory: is it mounted, readable, the one that it was?",
            hold_s=5.0,
        ),
        Code(
            "divergence-kept",
            warning,
            "contents that the nodes had never agreed on were replaced; they are kept",
            "ha-agent kept list --divergences, then ha-agent kept diff or restore",
            lasting=False,
        ),
        Code(
            "standby-edit",
            warning,
            "the registry was changed on the standby: that does not travel",
            "make the change on the active node; ha-agent diff shows it",
            hold_s=5.0,
        ),
        Code(
            "conf-not-loadable",
            critical,
            "a conf can not be loaded on the active node; its last good content runs, or nothing",
            "ha-agent lint --registry; mend the conf",
            hold_s=5.0,
        ),
        Code(
            "standby-not-ready",
            warning,
            "the standby could not run a conf after a failover",
            "ha-agent status names what is missing on the standby",
            hold_s=5.0,
        ),
        Code(
            "supervisord-down",
            critical,
            "supervisord does not run on this node",
            "systemctl status supervisor; its log is /var/log/supervisor/supervisord.log",
            hold_s=5.0,
        ),
        Code(
            "keepalived-down",
            critical,
            "keepalived does not run on this node: it can not become active",
            "systemctl status keepalived",
            hold_s=10.0,
        ),
        Code(
            "plan-failed",
            critical,
            "a takeover or release could not be finished and is tried again",
            "ha-agent history says which step, and why",
            hold_s=3.0,
            settle_s=10.0,
        ),
        Code(
            "stalled",
            warning,
            "the agent did nothing for a while: the machine was frozen or starved",
            "look at the host of a virtual machine, at memory and at disks",
            lasting=False,
        ),
        Code("drill-report", info, "a failover-test has ended", "ha-agent failover-test --list", lasting=False),
        Code("switchover", info, "an operator has asked for a switchover", "nothing", lasting=False),
        Code(
            "maintenance-on",
            info,
            "maintenance: nothing is decided, started or stopped until its end",
            "ha-agent maintenance off ends it early",
            lasting=False,
        ),
        Code("maintenance-off", info, "maintenance is over", "nothing", lasting=False),
        Code(
            "sink-failing",
            warning,
            "alerts can not be delivered to a sink",
            "ha-agent alert test; the reason is in ha-agent alert list",
            hold_s=60.0,
        ),
        Code("alert-test", info, "somebody tries whether alerts arrive", "nothing", lasting=False),
    )


CODES: Mapping[str, Code] = {code.code: code for code in _codes()}

Details = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that holds now. ``subject``: what it is about, a program or a conf or the pair; a key with ``code``."""

    code: str
    subject: str
    text: str
    details: Details = field(default_factory=dict)
    silenced: bool = False
    """Whether it is not to be told as long as that is so."""

    @property
    def key(self) -> tuple[str, str]:
        """What makes it the same as one that was seen before."""
        return self.code, self.subject


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that has happened and does not last."""

    code: str
    subject: str
    text: str
    details: Details = field(default_factory=dict)
    silenced: bool = False


@dataclass(frozen=True, slots=True)
class Notification:
    """What a sink is given. ``number`` counts up on a node; with ``node`` it names one, also in a second delivery."""

    number: int
    at: float
    node: str
    kind: Kind
    code: str
    severity: Severity
    subjects: tuple[str, ...]
    text: str
    remedy: str
    since: float
    details: Details

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able data; the shape is documented in docs/alerts.md."""
        plain = {**asdict(self), "id": f"{self.node}-{self.number}", "title": CODES[self.code].title}
        plain.update(kind=self.kind.value, severity=self.severity.value, subjects=list(self.subjects))
        return plain

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Notification:
        """The reverse of ``to_dict``. Raises ``KeyError``, ``ValueError`` or ``TypeError``."""
        if raw["code"] not in CODES:
            raise ValueError(f"unknown code {raw['code']!r:.60}")
        return cls(
            int(raw["number"]),
            float(raw["at"]),
            str(raw["node"]),
            Kind(raw["kind"]),
            str(raw["code"]),
            Severity(raw["severity"]),
            tuple(map(str, raw["subjects"])),
            str(raw["text"]),
            str(raw["remedy"]),
            float(raw["since"]),
            dict(raw["details"]),
        )


@dataclass(slots=True)
class Open:
    """A condition in the book. ``told_at`` is None as long as nobody was told."""

    code: str
    subject: str
    text: str
    since: float
    details: Details = field(default_factory=dict)
    told_at: float | None = None
    gone_at: float | None = None
    silenced: bool = False


@dataclass(frozen=True, slots=True)
class _Item:
    """One thing to be told: what a notification is made of."""

    kind: Kind
    code: str
    subject: str
    text: str
    since: float
    details: Details


class Book:
    """The alerts of one node. All times are wall clock seconds, because they outlive a process."""

    def __init__(self, node: str, repeat_s: float) -> None:
        self._node, self._repeat_s = node, repeat_s
        self.number = 0
        self.open: dict[tuple[str, str], Open] = {}
        self._waiting: dict[tuple[str, str], list[_Item]] = {}
        self._last_told: dict[tuple[str, str], float] = {}

    # ---- what is to be told -------------------------------------------------------------------------------

    def step(self, conditions: Iterable[Condition], moments: Iterable[Moment], now: float) -> list[Notification]:
        """Takes in what holds now and what has happened; gives back what is to be told, oldest first."""
        seen = {condition.key: condition for condition in conditions}
        items: list[_Item] = []
        for condition in seen.values():
            self._take_in(condition, now)
        for key, one in list(self.open.items()):
            items += self._look_at(one, key in seen, now)
        items += [_Item(Kind.MOMENT, m.code, m.subject, m.text, now, m.details) for m in moments if not m.silenced]
        for item in items:
            self._queue(item)
        return self._gathered(now)

    def _queue(self, item: _Item) -> None:
        """Puts ``item`` among those to be told.

        The end of what was not told yet makes a moment of both; a beginning whose last end was not told yet is a repeat.
        """
        if item.kind is Kind.BEGIN and self._unqueue(Kind.END, item):
            item = replace(item, kind=Kind.REPEAT)
        elif item.kind is Kind.END:
            self._unqueue(Kind.REPEAT, item)
            if self._unqueue(Kind.BEGIN, item):
                item = replace(item, kind=Kind.MOMENT, text=f"{item.text} (over by now)")
        self._waiting.setdefault((item.kind.value, item.code), []).append(item)

    def _unqueue(self, kind: Kind, item: _Item) -> bool:
        """Takes back what waits to be told of the same subject; says whether there was something."""
        key = (kind.value, item.code)
        before = self._waiting.get(key, [])
        left = [other for other in before if other.subject != item.subject]
        if len(left) == len(before):
            return False
        if left:
            self._waiting[key] = left
        else:
            del self._waiting[key]
        return True

    def _take_in(self, condition: Condition, now: float) -> None:
        one = self.open.get(condition.key)
        if one is None:
            one = self.open[condition.key] = Open(condition.code, condition.subject, condition.text, now)
        one.text, one.details, one.silenced, one.gone_at = condition.text, condition.details, condition.silenced, None

    def _look_at(self, one: Open, holds: bool, now: float) -> list[_Item]:
        code = CODES[one.code]
        if not holds:
            one.gone_at = now if one.gone_at is None else one.gone_at
            if one.told_at is not None and now - one.gone_at < code.settle_s:
                return []
            del self.open[one.code, one.subject]
            return [] if one.told_at is None else [self._item(Kind.END, one)]
        if one.silenced:
            return []
        if one.told_at is None:
            if now - one.since < code.hold_s:
                return []
            one.told_at = now
            return [self._item(Kind.BEGIN, one)]
        if now - one.told_at >= self._repeat_s:
            one.told_at = now
            return [self._item(Kind.REPEAT, one)]
        return []

    @staticmethod
    def _item(kind: Kind, one: Open) -> _Item:
        return _Item(kind, one.code, one.subject, one.text, one.since, one.details)

    def _gathered(self, now: float) -> list[Notification]:
        """What has waited long enough, one notification a kind and code."""
        told = []
        for key, items in list(self._waiting.items()):
            last = self._last_told.get(key)
            # A clock that was set back must not hold anything for ever.
            if last is not None and 0 <= now - last < GATHER_S:
                continue
            del self._waiting[key]
            self._last_told[key] = now
            told.append(self._make(items, now))
        self._last_told = {key: at for key, at in self._last_told.items() if 0 <= now - at < GATHER_S}
        return told

    def _make(self, items: list[_Item], now: float) -> Notification:
        self.number += 1
        first, code = items[0], CODES[items[0].code]
        subjects = tuple(dict.fromkeys(item.subject for item in items))
        details: Details = first.details
        text = first.text
        if len(items) > 1:
            text = f"{len(items)} times: {code.title}: {_one_each(items)}"
            details = {"merged": len(items), "each": [{"subject": i.subject, "text": i.text} for i in items[:100]]}
        severity = Severity.INFO if first.kind is Kind.END else code.severity
        return Notification(
            self.number,
            round(now, 3),
            self._node,
            first.kind,
            first.code,
            severity,
            subjects,
            text[:MAX_TEXT],
            code.remedy,
            round(min(item.since for item in items), 3),
            details,
        )

    def due_in(self, now: float) -> float | None:
        """Seconds until something that waits is to be told; None where nothing waits."""
        waits = [max(0.0, GATHER_S - (now - self._last_told.get(key, 0.0))) for key in self._waiting]
        return min(waits, default=None)

    # ---- what outlives a process --------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """The book as JSON-able data."""
        waiting = [{**asdict(item), "kind": item.kind.value} for items in self._waiting.values() for item in items]
        return {
            "number": self.number,
            "open": [asdict(one) for one in self.open.values()],
            "waiting": waiting,
            "last_told": [[kind, code, at] for (kind, code), at in self._last_told.items()],
        }

    def load(self, raw: Mapping[str, Any]) -> None:
        """Goes on with what ``to_dict`` gave; unknown codes are left out. Raises as ``Notification.from_dict``."""
        self.number = int(raw["number"])
        for row in raw["open"]:
            if row["code"] in CODES:
                one = Open(**row)
                self.open[one.code, one.subject] = one
        for row in raw["waiting"]:
            if row["code"] in CODES:
                item = _Item(**{**row, "kind": Kind(row["kind"])})
                self._waiting.setdefault((item.kind.value, item.code), []).append(item)
        self._last_told = {(str(kind), str(code)): float(at) for kind, code, at in raw["last_told"]}


def _one_each(items: list[_Item]) -> str:
    """The newest text of each subject, with how often it came."""
    texts = {item.subject: item.text for item in items}
    counts = Counter(item.subject for item in items)
    parts = [text + (f" ({counts[s]} times)" if counts[s] > 1 else "") for s, text in texts.items()]
    return "; ".join(parts[:NAMED]) + (f"; and {len(parts) - NAMED} more" if len(parts) > NAMED else "")


def matches(code: str, patterns: Collection[str]) -> bool:
    """Whether ``code`` is named by one of ``patterns``, such as ``program-*``."""
    return any(fnmatch.fnmatchcase(code, pattern) for pattern in patterns)


def is_wanted(note: Notification, least: Severity, codes: Collection[str], ends: bool) -> bool:
    """Whether a sink with these rules is given ``note``. An end comes to whoever was told of the beginning."""
    if note.kind is Kind.END and not ends:
        return False
    severity = CODES[note.code].severity if note.kind is Kind.END else note.severity
    if note.code == "alert-test":
        return True
    return RANK[severity] >= RANK[least] and (not codes or matches(note.code, codes))
