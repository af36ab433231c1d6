"""One node's vote: to whom it is promised, and until when on this node's own clock. Pure: every time is handed in.

Times are seconds of CLOCK_BOOTTIME, read after the question had arrived. What ``note`` returns must be kept before the
answer leaves.
"""

from __future__ import annotations

from dataclasses import dataclass

from ha_agent.core.witness_record import Record


@dataclass(frozen=True, slots=True)
class Ask:
    """A node asks for a vote. ``number`` grows within ``boot``, over restarts of the agent. ``holds``: it has two votes
    now."""

    holder: str
    boot: str
    number: int
    ttl_s: float
    holds: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """``promised``: the vote is the asker's for ``ttl_s`` since it asked. ``to``: whose it is otherwise, "" where nobody's
    yet. ``freed``: the witness's record that the answering node has let go, and that nobody counts at the moment of the
    answer."""

    boot: str
    number: int
    promised: bool
    ttl_s: float
    to: str = ""
    freed: Record | None = None


@dataclass(frozen=True, slots=True)
class LetGo:
    """A holder counts none of the promises any more that it asked for in ``boot`` up to ``number``."""

    holder: str
    boot: str
    number: int


@dataclass(frozen=True, slots=True)
class Promise:
    """To whom a vote is promised, the newest question that it answers, and until when.

    ``mixed_until``: until then the holder may count what it asked for in another boot, so no word of one boot ends it.
    """

    holder: str
    boot: str
    number: int
    until: float
    mixed_until: float = 0.0


class Voter:
    """The vote of the node ``me``. ``promise`` and ``silent_until`` are those of the note. Without a note of this boot
    (None) it promises nothing before ``now + ttl_s``: nobody knows what it promised before."""

    def __init__(self, me: str, ttl_s: float, now: float, promise: Promise | None, silent_until: float | None) -> None:
        self.me, self.ttl_s = me, ttl_s
        self.promise = promise
        self.silent_until = silent_until if silent_until is not None else self._first_promise(now)
        self._let_go: dict[str, LetGo] = {}

    def _first_promise(self, now: float) -> float:
        return now + self.ttl_s

    def answer(self, ask: Ask, now: float, own_votes_until: float) -> Answer:
        """Promises this vote, or says whose it is. ``own_votes_until``: until when this node itself holds the votes.

        A vote is promised to one node at a time. One that this node has promised to itself without holding is yielded to a
        peer that holds, or whose name comes first: two nodes that both want must not wait for each other for ever.
        """
        if now < self.silent_until or self._is_let_go(ask):
            return Answer(ask.boot, ask.number, False, self.ttl_s)
        held = self.promise if self.promise is not None and now < self.promise.until else None
        if held is not None and held.holder != ask.holder and not self._yields(held, ask, now, own_votes_until):
            return Answer(ask.boot, ask.number, False, self.ttl_s, held.holder)
        ttl_s = min(ask.ttl_s, self.ttl_s)
        if held is not None and held.holder == ask.holder:
            self.promise = _extended(held, ask, now + ttl_s)
        else:
            self.promise = Promise(ask.holder, ask.boot, ask.number, now + ttl_s)
        return Answer(ask.boot, ask.number, True, ttl_s)

    def _is_let_go(self, ask: Ask) -> bool:
        """Whether the asker has already said that it does not count this question any more: one that is late or doubled."""
        said = self._let_go.get(ask.holder)
        return said is not None and said.boot == ask.boot and ask.number <= said.number

    def _yields(self, held: Promise, ask: Ask, now: float, own_votes_until: float) -> bool:
        return held.holder == self.me and now >= own_votes_until and (ask.holds or ask.holder < self.me)

    def let_go(self, said: LetGo, now: float) -> None:
        """Frees the vote where the node that it is promised to does not count it any more. Late and doubled ones do no
        harm."""
        known = self._let_go.get(said.holder)
        if known is None or known.boot != said.boot or known.number < said.number:
            self._let_go[said.holder] = said
        held = self.promise
        if held is None or held.holder != said.holder or now < held.mixed_until:
            return
        if held.boot == said.boot and held.number <= said.number:
            self.promise = None

    def promised_to_me(self) -> float:
        """Until when this vote is promised to this node itself; 0 where it is not."""
        return self.promise.until if self.promise is not None and self.promise.holder == self.me else 0.0

    def is_promised_away(self, now: float) -> bool:
        """Whether this vote is promised to the peer."""
        return self.promise is not None and self.promise.holder != self.me and now < self.promise.until

    def forget(self, holder: str, until: float) -> None:
        """Frees the vote where it is promised to ``holder`` for no longer than ``until``: it is known not to count that."""
        if self.promise is not None and self.promise.holder == holder and self.promise.until <= until:
            self.promise = None

    def drop_own(self) -> None:
        """Frees the vote where it is promised to this node itself, which counts it no more."""
        if self.promised_to_me():
            self.promise = None


def _extended(held: Promise, ask: Ask, until: float) -> Promise:
    """A promise that its holder asks for again."""
    until = max(until, held.until)
    if held.boot != ask.boot:
        return Promise(ask.holder, ask.boot, ask.number, until, held.until)
    return Promise(ask.holder, ask.boot, max(ask.number, held.number), until, held.mixed_until)
