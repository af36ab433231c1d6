"""The witness's vote as one node sees it: what it has seen of the record, and when it may write. Pure: times are handed in.

A node writes where it has seen the record unchanged for a ttl, looking at it at least once a ttl, counted from after the
first look's answer; and where the record is the one that it wrote itself, while its promise still lasts. No word of the
witness about time is used. A record that went back to old data is one that was not seen before.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ha_agent.core.witness_record import NOTHING_THERE, Record, Sight


class Outcome(Enum):
    """What became of a compare-and-swap. ``UNKNOWN``: no answer in time, so it may happen still."""

    DONE = "done"
    OTHER = "other"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Look:
    """A read of the record, asked at ``sent``."""

    sent: float


@dataclass(frozen=True, slots=True)
class Swap:
    """A compare-and-swap, asked at ``sent``."""

    sent: float
    expected: Sight
    record: Record


@dataclass(frozen=True, slots=True)
class Mine:
    """The record as this node wrote it, and until when it may count the witness's vote for that."""

    sight: Sight
    until: float


class WitnessWatch:
    """What the node ``me`` knows of the record. ``start`` is this start of its agent: no two have the same."""

    def __init__(self, me: str, start: str, ttl_s: float, mine: Mine | None = None) -> None:
        self.me, self._start, self.ttl_s = me, start, ttl_s
        self.mine = mine
        self.handed: tuple[Record, float] | None = None
        """A record that its writer, the peer, has let go, and until when its word for that counts."""
        self.freed: Record | None = None
        """The record with which this node let go, as the witness confirmed it; None when anything was written since."""
        self.sight: Sight | None = None
        self.first_seen = self.last_seen = 0.0
        self.highest = -1
        self.has_gone_back = False
        self._counter = -1
        self._attempts: dict[Record, float] = {}

    def see(self, sight: Sight, now: float) -> None:
        """The record as an answer shows it. ``now`` was read after the answer had come."""
        if sight == self.sight and now - self.last_seen <= self.ttl_s:
            self.last_seen = now
        else:
            self.sight, self.first_seen, self.last_seen = sight, now, now
        self._note_counter(sight)
        if self.freed is not None and sight.record != self.freed:
            self.freed = None
        if self.mine is not None and sight != self.mine.sight:
            self.mine = None
        sent = self._attempts.get(sight.record) if sight.record is not None else None
        if sent is not None and self.mine is None:
            self._own(sight, sent)

    def _note_counter(self, sight: Sight) -> None:
        counter = sight.record.counter if sight.record is not None else -1
        self.has_gone_back = counter < self.highest
        self.highest = max(self.highest, counter)

    def _own(self, sight: Sight, sent: float) -> None:
        self._attempts.clear()
        if sight.record is not None and not sight.record.is_free:
            self.mine = Mine(sight, sent + self.ttl_s)
        else:
            self.mine, self.freed = None, sight.record

    def swapped(self, swap: Swap, outcome: Outcome, sight: Sight | None, now: float) -> None:
        """What became of ``swap``; ``sight`` is what the record is now, where the answer says it."""
        if sight is None or (outcome is Outcome.DONE and swap.record not in self._attempts):
            # The answer says nothing, or a look has told of the same write already.
            return
        # "Other" may be the answer to a question that arrived twice: then the record is what this node has just written.
        self.see(sight, now)

    def until(self) -> float:
        """Until when this node may count the witness's vote; 0 where it may not."""
        return self.mine.until if self.mine is not None else 0.0

    def writable_at(self, now: float) -> float | None:
        """From when on this node may write its name into the record as it was last seen; None where it has not seen any."""
        if self.sight is None:
            return None
        return now if self._is_its_own(now) else self._unchanged_since() + self._longest_ttl()

    def _is_its_own(self, now: float) -> bool:
        """Whether the record is this node's, or was handed to it, so that nobody else counts it now."""
        if self.mine is not None and self.mine.sight == self.sight and now < self.mine.until:
            return True
        handed = self.handed
        return handed is not None and self.sight is not None and handed[0] == self.sight.record and now < handed[1]

    def _unchanged_since(self) -> float:
        return self.first_seen

    def _longest_ttl(self) -> float:
        record = self.sight.record if self.sight is not None else None
        return max(self.ttl_s, record.ttl_ms / 1000) if record is not None else self.ttl_s

    def may_write(self, now: float) -> bool:
        """Whether this node may write its name at ``now``."""
        return self.sight is not None and (self._is_its_own(now) or self._is_unchanged(now))

    def _is_unchanged(self, now: float) -> bool:
        """Whether the record was seen unchanged for long enough, and not too long ago."""
        return now >= self._unchanged_since() + self._longest_ttl() and now - self.last_seen <= self.ttl_s

    def write(self, now: float, epoch: int) -> Swap:
        """The compare-and-swap that makes the record this node's, or keeps it so."""
        return self._swap(now, self.me, epoch)

    def free(self, now: float, epoch: int) -> Swap | None:
        """The compare-and-swap that lets the record go; None where it is not this node's. From now on it is not counted,
        whatever becomes of that."""
        if self.mine is None or self.mine.sight != self.sight:
            self.mine = None
            return None
        self.mine = None
        self._attempts.clear()
        return self._swap(now, "", epoch)

    def _swap(self, now: float, holder: str, epoch: int) -> Swap:
        expected = self.sight or NOTHING_THERE
        known = expected.record
        self._counter = max(self._counter, known.counter if known else 0) + 1
        record = Record(
            holder, self._start, self._counter, max(epoch, known.epoch if known else 0), round(self.ttl_s * 1000)
        )
        self.freed = None
        self._attempts = {r: sent for r, sent in self._attempts.items() if now < sent + self.ttl_s}
        self._attempts[record] = now
        return Swap(now, expected, record)
