"""What an agent that is started again within a boot must know of the votes: the note in /run. Pure.

A note of another boot counts as none: its times are of another clock.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ha_agent.core.voter import Promise
from ha_agent.core.witness_record import BadRecord, Sight, parse_record
from ha_agent.core.witness_watch import Mine


@dataclass(frozen=True, slots=True)
class VoteNote:
    """``promise``: whose this node's vote is. ``mine``: the witness's record as this node wrote it.
    ``held_until``: the latest time until when this node has ever held both votes, so that something may run until then.
    ``silent_until``: before that this node's vote is promised to nobody anew, because an earlier start found no note."""

    boot: str
    promise: Promise | None
    mine: Mine | None
    held_until: float = 0.0
    silent_until: float = 0.0

    def to_text(self) -> str:
        """As it is kept."""
        promise = self.promise
        mine = self.mine
        record = mine.sight.record if mine is not None else None
        return json.dumps(
            {
                "boot": self.boot,
                "promise": [promise.holder, promise.boot, promise.number, promise.until, promise.mixed_until]
                if promise is not None
                else None,
                "mine": [mine.sight.revision, record.to_text(), mine.until]
                if mine is not None and record is not None
                else None,
                "held_until": self.held_until,
                "silent_until": self.silent_until,
            }
        )


def parse_note(text: str) -> VoteNote | None:
    """The reverse of ``to_text``; None for anything else, which counts as no note: then this node's vote waits a ttl."""
    try:
        raw = json.loads(text)
        held, silent = _time(raw["held_until"]), _time(raw["silent_until"])
        return VoteNote(_text(raw["boot"]), _promise(raw["promise"]), _mine(raw["mine"]), held, silent)
    except (ValueError, KeyError, TypeError, RecursionError, BadRecord):
        return None


def _promise(raw: Any) -> Promise | None:
    if raw is None:
        return None
    holder, boot, number, until, mixed_until = raw
    if type(number) is not int:
        raise ValueError("number")
    return Promise(_text(holder), _text(boot), number, _time(until), _time(mixed_until))


def _mine(raw: Any) -> Mine | None:
    if raw is None:
        return None
    revision, text, until = raw
    if type(revision) is not int:
        raise ValueError("revision")
    return Mine(Sight(revision, parse_record(_text(text))), _time(until))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("text")
    return value


def _time(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value < 1e12:
        raise ValueError("time")
    return float(value)
