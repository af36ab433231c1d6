"""The witness's one record: who may count the witness's vote, and the number of the write. Pure.

The witness decides nothing: it keeps this text and changes it by compare-and-swap. No two writes have the same text, because
(start, counter) is never used twice.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from ha_agent.core.reasons import reason_of

ABSENT = 0
"""The revision of a record that is not there."""

LONGEST_TEXT = 4096
LARGEST_NUMBER = 2**53
"""Every JSON reader keeps whole numbers up to here."""


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class BadRecord(ValueError):
    """The witness keeps something that is no record; nobody takes it before an operator has removed it."""


@dataclass(frozen=True, slots=True)
class Record:
    """One write. ``holder``: the node whose vote it is, "" where it was let go. ``start``: the start of an agent that wrote
    it. ``counter`` grows with every write. ``epoch``: the newest that its writers knew, the floor of the next claim's.
    ``ttl_ms``: how long the holder may count it."""

    holder: str
    start: str
    counter: int
    epoch: int
    ttl_ms: int

    def to_text(self) -> str:
        """As the witness keeps it: one line of JSON."""
        return json.dumps(
            {
                "holder": self.holder,
                "start": self.start,
                "counter": self.counter,
                "epoch": self.epoch,
                "ttl_ms": self.ttl_ms,
            },
            separators=(",", ":"),
        )

    @property
    def is_free(self) -> bool:
        return not self.holder


def parse_record(text: str) -> Record:
    """The record in ``text``. Raises ``BadRecord``."""
    if len(text) > LONGEST_TEXT:
        raise BadRecord("the witness keeps a record that is too long to be one of ours")
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRecord(f"the witness keeps a record that is not JSON: {reason_of(error)}") from None
    if not isinstance(raw, dict) or raw.keys() != {"holder", "start", "counter", "epoch", "ttl_ms"}:
        raise BadRecord("the witness keeps a record with other fields than ours")
    return Record(
        _word(raw, "holder", True),
        _word(raw, "start"),
        _number(raw, "counter"),
        _number(raw, "epoch"),
        _number(raw, "ttl_ms"),
    )


def _word(raw: dict[str, Any], name: str, may_be_empty: bool = False) -> str:
    value = raw[name]
    if isinstance(value, str) and (_NAME.fullmatch(value) or (may_be_empty and not value)):
        return value
    raise BadRecord(f"the witness keeps a record whose {name} is not a name")


def _number(raw: dict[str, Any], name: str) -> int:
    value = raw[name]
    if type(value) is int and 0 <= value < LARGEST_NUMBER:
        return value
    raise BadRecord(f"the witness keeps a record whose {name} is not a number from 0 to 2^53")


@dataclass(frozen=True, slots=True)
class Sight:
    """The record as the witness showed it: ``revision`` names the write at the back end, ``ABSENT`` and None where there is
    none."""

    revision: int
    record: Record | None


NOTHING_THERE = Sight(ABSENT, None)
