"""supervisord's events: the two lines of its protocol as values, and how a backlog of them is merged. Pure.

The protocol is that of http://supervisord.org/events.html, version 3.0. ``len`` counts characters of the payload, not bytes:
supervisord takes the length of the text before it encodes it (``EventListenerPool._eventEnvelope``).
"""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ha_agent.core.supervisor_words import State

MAX_HEADER_CHARS = 4096
MAX_PAYLOAD_CHARS = 256 * 1024
"""Names and states, of whatever length. One that announces more would have the listener wait, deaf, for what never comes."""

STOPPING = "SUPERVISOR_STATE_CHANGE_STOPPING"
STATE_PREFIX = "PROCESS_STATE_"


class ProtocolError(ValueError):
    """What came in is not the event protocol; the events after it cannot be told apart any more."""


@dataclass(frozen=True, slots=True)
class RawEvent:
    """One event as it came in. ``pool_serial`` counts by one within a pool: a jump is a number of lost events."""

    name: str
    pool_serial: int
    payload: str


@dataclass(frozen=True, slots=True)
class StateEvent:
    """A process changed its state. ``at``: wall clock seconds. ``merged``: earlier events that this one stands for.

    ``exits`` and ``backoffs`` count the unexpected ends and the failed starts among it and the merged ones.
    """

    group: str
    name: str
    before: str
    after: str
    at: float
    pid: int = 0
    expected: bool = True
    exits: int = 0
    backoffs: int = 0
    merged: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> StateEvent:
        """The reverse of ``to_dict``. Raises ``ValueError``, ``KeyError`` or ``TypeError`` where ``raw`` is none."""
        group, name, before, after = (str(raw[key])[:300] for key in ("group", "name", "before", "after"))
        try:
            exits, backoffs, merged = (max(0, int(raw[key])) for key in ("exits", "backoffs", "merged"))
            at, pid, expected = float(raw["at"]), int(raw["pid"]), bool(raw["expected"])
        except OverflowError as error:
            raise ValueError(str(error)) from None
        if not abs(at) < float("inf"):
            raise ValueError(f"at is {at}")
        return cls(group, name, before, after, at, pid, expected, exits, backoffs, merged)


def parse_pairs(text: str) -> dict[str, str]:
    """``a:1 b:2`` as a mapping; words without a colon are left out. Names hold no spaces: supervisord refuses them."""
    return dict(word.split(":", 1) for word in text.split() if ":" in word)


class EventDecoder:
    """Turns supervisord's bytes into events, however they were cut."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace")
        self._text = ""
        self._header: dict[str, str] | None = None
        self._length = 0

    def feed(self, data: bytes) -> list[RawEvent]:
        """The events completed by ``data``. Raises ``ProtocolError``; the decoder is unusable afterwards."""
        self._text += self._decode.decode(data)
        found = []
        while (event := self._take()) is not None:
            found.append(event)
        return found

    def _take(self) -> RawEvent | None:
        if self._header is None:
            line, end, rest = self._text.partition("\n")
            if not end:
                if len(line) > MAX_HEADER_CHARS:
                    raise ProtocolError("a header without an end")
                return None
            self._header, self._text = parse_pairs(line), rest
            try:
                self._length = int(self._header["len"])
                int(self._header["poolserial"])
            except (KeyError, ValueError):
                raise ProtocolError(f"no header of an event: {line[:200]!r}") from None
            if not 0 <= self._length <= MAX_PAYLOAD_CHARS or "eventname" not in self._header:
                raise ProtocolError(f"no header of an event: {line[:200]!r}")
        if len(self._text) < self._length:
            return None
        payload, self._text = self._text[: self._length], self._text[self._length :]
        event = RawEvent(self._header["eventname"], int(self._header["poolserial"]), payload)
        self._header = None
        return event


def says_stopping(raw: RawEvent) -> bool:
    """Whether supervisord says that it stops all of its programs, in order to end or to begin again."""
    return raw.name == STOPPING


def lost_between(last: int | None, fresh: int) -> int:
    """How many events supervisord threw away between two pool serials; 0 for the first one and when they restart."""
    return fresh - last - 1 if last is not None and fresh > last + 1 else 0


def state_event(raw: RawEvent, at: float) -> StateEvent | None:
    """``raw`` as a change of state; None where it is another event. Raises ``ProtocolError``."""
    if not raw.name.startswith(STATE_PREFIX):
        return None
    pairs, after = parse_pairs(raw.payload), raw.name.removeprefix(STATE_PREFIX)
    try:
        names = pairs["groupname"], pairs["processname"], pairs["from_state"]
        pid = int(pairs.get("pid", "0"))
    except (KeyError, ValueError):
        raise ProtocolError(f"no change of state: {raw.payload[:200]!r}") from None
    expected = pairs.get("expected", "1") != "0"
    unexpected = after == State.EXITED and not expected
    group, name, before = names
    return StateEvent(group, name, before, after, at, pid, expected, int(unexpected), int(after == State.BACKOFF))


def merge_state_events(events: Sequence[StateEvent]) -> list[StateEvent]:
    """One event a process, in the order of their last ones: from the first state to the newest, with the counts of all."""
    merged: dict[tuple[str, str], StateEvent] = {}
    for event in events:
        old = merged.pop((event.group, event.name), None)
        if old is not None:
            event = replace(
                event,
                before=old.before,
                exits=old.exits + event.exits,
                backoffs=old.backoffs + event.backoffs,
                merged=old.merged + event.merged + 1,
            )
        merged[event.group, event.name] = event
    return list(merged.values())
