"""The book of alerts: what lasts, what was told of it, and what is to be told now. Pure.

An alert is either **lasting**, with a start, repeats and an end, or a **moment**, which is told once. The book is given the
conditions that hold now, whoever has seen them and however often, and says what is to be told: level-triggered, so a lost
look costs a delay and a doubled look nothing. What begins in numbers is told together.
"""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from ha_agent.core.alert_codes import CODES
from ha_agent.core.faults import RANK, Urgency

GATHER_S = 10.0
"""After one alert of a code, further ones of that code are gathered for this time and told together."""

NAMED = 20
"""How many subjects an alert of many names by name."""

MAX_TEXT = 4000


class Kind(StrEnum):
    """What a notification tells of an alert."""

    BEGIN = "begin"
    REPEAT = "repeat"
    END = "end"
    MOMENT = "moment"


Details = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that holds now. ``subject``: what it is about, a program or a conf or the pair; a key with ``code``."""

    code: str
    subject: str
    text: str
    details: Details = field(default_factory=dict)
    silenced: bool = False
    """Whether it stays untold as long as it holds in this form."""

    @property
    def key(self) -> tuple[str, str]:
        """What makes a condition the same as one that was seen before."""
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
    severity: Urgency
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
            Urgency(raw["severity"]),
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
        """Takes in what holds now and what has happened; returns what is to be told, oldest first."""
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
        """Takes back what waits to be told of the same subject; returns whether anything waited."""
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
        severity = Urgency.INFO if first.kind is Kind.END else code.severity
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
        """Continues with what ``to_dict`` returned; unknown codes are left out. Raises as ``Notification.from_dict``."""
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


def is_wanted(note: Notification, least: Urgency, codes: Collection[str], ends: bool) -> bool:
    """Whether a sink with these rules is given ``note``. An end comes to whoever was told of the beginning."""
    if note.kind is Kind.END and not ends:
        return False
    severity = CODES[note.code].severity if note.kind is Kind.END else note.severity
    if note.code == "alert-test":
        return True
    return RANK[severity] >= RANK[least] and (not codes or matches(note.code, codes))
