"""Rules of the votes, each with one mistake: what the model must find, or it shows nothing."""

from __future__ import annotations

from dataclasses import replace

from ha_agent.core.holder import Holder, Identity
from ha_agent.core.vote_note import VoteNote
from ha_agent.core.vote_terms import VoteTerms
from ha_agent.core.voter import Ask, LetGo, Promise, Voter
from ha_agent.core.witness_record import Sight
from ha_agent.core.witness_watch import WitnessWatch
from tests.votes_model import (
    ALL,
    Trial,
    Weights,
    cut_or_heal,
    fence,
    lose_data,
    order,
    part,
    pause,
    reboot,
    restart_agent,
    start,
    turn_clock,
)
from tests.votes_world import HolderMaker, Node, World

PATIENT = VoteTerms(ttl_s=3.0, renew_s=0.5, answer_s=1.0, margin_s=0.5)
"""Terms that give answers much time, so that a mistake about when they came has room."""


class PromisesAtOnce(Voter):
    """After a start without a note nothing is waited for."""

    def _first_promise(self, now: float) -> float:
        return now


class PromisesTwice(Voter):
    """Whoever asks gets the promise."""

    def _yields(self, held: Promise, ask: Ask, now: float, own_votes_until: float) -> bool:
        return True


class YieldsWhileHolding(Voter):
    """This node's own vote goes to the peer although something may run here."""

    def _yields(self, held: Promise, ask: Ask, now: float, own_votes_until: float) -> bool:
        return super()._yields(held, ask, now, 0.0)


class NeverYields(Voter):
    """Two nodes that both want wait for each other."""

    def _yields(self, held: Promise, ask: Ask, now: float, own_votes_until: float) -> bool:
        return False


class BelievesLateWords(Voter):
    """A word that a promise is not counted any more ends also a newer one."""

    def let_go(self, said: LetGo, now: float) -> None:
        if self.promise is not None and self.promise.holder == said.holder:
            self.promise = None


class TakesAtOnce(WitnessWatch):
    """The record is taken as soon as it is seen."""

    def _is_unchanged(self, now: float) -> bool:
        return True


class CountsFromBeforeTheLook(WitnessWatch):
    """The time for which the record was seen unchanged begins before its first look had an answer."""

    def _unchanged_since(self) -> float:
        return self.first_seen - PATIENT.answer_s


class LooksSeldom(WitnessWatch):
    """Two looks with the same answer count as one time, whatever lies between them."""

    def see(self, sight: Sight, now: float) -> None:
        if sight == self.sight:
            self.last_seen = now
        super().see(sight, now)

    def _is_unchanged(self, now: float) -> bool:
        return now >= self._unchanged_since() + self._longest_ttl()


class KeepsItsOwnForEver(WitnessWatch):
    """The record as this node wrote it last is renewed also when its promise is over."""

    _last: Sight | None = None

    def see(self, sight: Sight, now: float) -> None:
        super().see(sight, now)
        if self.mine is not None:
            self._last = self.mine.sight

    def _is_its_own(self, now: float) -> bool:
        return super()._is_its_own(now) or (self._last is not None and self._last == self.sight)


class TakesItsOwnName(WitnessWatch):
    """A record with this node's name is renewed at once, whoever had it meanwhile."""

    def _is_its_own(self, now: float) -> bool:
        record = self.sight.record if self.sight is not None else None
        return super()._is_its_own(now) or (record is not None and record.holder == self.me)


class TakesWhatIsFree(WitnessWatch):
    """A record that was let go is taken at once, whoever says so and however old it is."""

    def _is_its_own(self, now: float) -> bool:
        record = self.sight.record if self.sight is not None else None
        return super()._is_its_own(now) or (record is not None and record.is_free)


class CountsFromAfterTheAnswer(Holder):
    """The peer's promise is counted from when its answer came."""

    def _counted_from(self, _sent: float, now: float) -> float:
        return now


class IgnoresTheMargin(Holder):
    """Programs may run until the promises end."""

    def deadline(self) -> float:
        return self.until()


class ForgetsToBeSilent(Holder):
    """The note says nothing of the time that must be waited for."""

    def note(self) -> VoteNote:
        return replace(super().note(), silent_until=0.0)


class BelievesAFenceForEver(Holder):
    """What the peer counted is void from the end of the fence command on, however long that took."""

    def peer_was_fenced(self, began: float, now: float) -> None:
        super().peer_was_fenced(now, now)


def _with_voter(mistaken: type[Voter]) -> HolderMaker:
    def make(who: Identity, terms: VoteTerms, now: float, note: VoteNote | None) -> Holder:
        made = Holder(who, terms, now, note)
        kept = note if note is not None and note.boot == who.boot else None
        made.voter = mistaken(who.me, terms.ttl_s, now, made.voter.promise, kept.silent_until if kept else None)
        return made

    return make


def _with_watch(mistaken: type[WitnessWatch]) -> HolderMaker:
    def make(who: Identity, terms: VoteTerms, now: float, note: VoteNote | None) -> Holder:
        made = Holder(who, terms, now, note)
        made.watch = mistaken(who.me, who.start, terms.ttl_s, made.watch.mine)
        return made

    return make


class AgentKills(World):
    """There is no keeper: the agent kills what runs when it looks at the clock."""

    def _watch_deadline(self, node: Node) -> None:
        return

    def _step(self, node: Node, holder: Holder) -> None:
        if node.running and node.kill_at <= node.clock.read(self.true):
            self._kill(node)
        super()._step(node, holder)


PARTED: Weights = {part: 40, turn_clock: 12, order: 10, start: 5}
OLD_DATA: Weights = {part: 40, lose_data: 12, order: 10, start: 5, restart_agent: 2}
ORDERS: Weights = {order: 40, part: 5, start: 5, cut_or_heal: 2}
RESTARTS: Weights = {restart_agent: 20, reboot: 10, part: 20, order: 20, start: 10}

FENCED: Weights = {fence: 20, pause: 10, start: 20, order: 10, part: 10}

RIGHT = {
    "fenced": Trial(weights=FENCED),
    "parted": Trial(weights=PARTED),
    "old data": Trial(weights=OLD_DATA),
    "orders": Trial(weights=ORDERS),
    "restarts": Trial(weights=RESTARTS),
    "patient": Trial(terms=PATIENT),
}
"""The rules as they are, with the faults that each mistake is tried with."""


def _voter(mistaken: type[Voter], weights: Weights = ALL) -> Trial:
    return Trial(make=_with_voter(mistaken), weights=weights, lives=False)


def _watch(mistaken: type[WitnessWatch], weights: Weights = OLD_DATA, terms: VoteTerms | None = None) -> Trial:
    return Trial(terms or VoteTerms(), _with_watch(mistaken), weights=weights, lives=False)


def _holder(mistaken: type[Holder], weights: Weights) -> Trial:
    return Trial(make=mistaken, weights=weights, lives=False)


WRONG: dict[str, tuple[Trial, int]] = {
    "promises at once after a start without a note": (_voter(PromisesAtOnce), 2),
    "promises one vote to two": (_voter(PromisesTwice), 2),
    "yields the own vote while holding": (_voter(YieldsWhileHolding, PARTED), 2),
    "ends a promise by a late word": (_voter(BelievesLateWords, ORDERS), 2),
    "takes the record at once": (_watch(TakesAtOnce, ALL), 2),
    "counts a look from before its answer": (_watch(CountsFromBeforeTheLook, PARTED, PATIENT), 1),
    "looks too seldom": (_watch(LooksSeldom), 53),
    "renews a record whose promise is over": (_watch(KeepsItsOwnForEver), 120),
    "renews what has its name": (_watch(TakesItsOwnName), 1),
    "takes what was let go, however old": (_watch(TakesWhatIsFree), 7),
    "counts from after the answer": (_holder(CountsFromAfterTheAnswer, PARTED), 4),
    "ignores the margin": (_holder(IgnoresTheMargin, PARTED), 2),
    "forgets that it must be silent": (_holder(ForgetsToBeSilent, RESTARTS), 169),
    "believes a fence however long ago it was": (_holder(BelievesAFenceForEver, FENCED), 116),
    "has no keeper": (Trial(world=AgentKills, lives=False), 1),
}
"""Each mistake, and the seed that shows it soon."""

DEAD = Trial(make=_with_voter(NeverYields))
"""Nobody's programs run twice, and at times nobody's run at all."""
