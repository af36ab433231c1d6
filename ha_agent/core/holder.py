"""What one node counts of the three votes, and what it asks next. Pure: the clock and every answer are handed in.

A node holds while two promises last. It counts each from before it asked. ``note`` must be kept before anything that a
method
returned leaves this process. Times are seconds of CLOCK_BOOTTIME.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ha_agent.core.vote_note import VoteNote
from ha_agent.core.vote_terms import VoteTerms
from ha_agent.core.voter import Answer, Ask, LetGo, Voter
from ha_agent.core.witness_record import Sight
from ha_agent.core.witness_watch import Look, Outcome, Swap, WitnessWatch

WITNESS = "witness"

EARLIER, AGAIN = 0.9, 0.15
"""Parts of ``renew_s``. A node that waits for the peer's record looks soon after each of its writes: a little earlier each
time, and once more where that was too early. Else two clocks of one rate could keep it a ``renew_s`` behind for ever."""

Call = Ask | LetGo | Look | Swap
"""What is to be sent: ``Ask`` and ``LetGo`` to the peer, ``Look`` and ``Swap`` to the witness."""


@dataclass(frozen=True, slots=True)
class Identity:
    """``boot``: the machine's boot; ``start``: this start of the agent, which no other has."""

    me: str
    peer: str
    boot: str
    start: str


class Holder:
    """The votes of one node of a pair: its own voter, and what it counts."""

    def __init__(self, who: Identity, terms: VoteTerms, now: float, note: VoteNote | None = None) -> None:
        self._who, self.terms = who, terms
        kept = note if note is not None and note.boot == who.boot else None
        self.voter = Voter(who.me, terms.ttl_s, now, kept.promise if kept else None, kept.silent_until if kept else None)
        self.watch = WitnessWatch(who.me, who.start, terms.ttl_s, kept.mine if kept else None)
        self.epoch = 0
        self.wants = False
        self._renews = True
        self.heard_peer_at = self.heard_witness_at = now
        """When something came from them last; at first the start, because nothing says that they are silent."""
        self.peer_held = (0.0, 0.0)
        """The newest sign that the peer renews: the moment after which it did, and when that was heard."""
        self._off_until = 0.0
        self._peer_until = 0.0
        self._held_until = kept.held_until if kept else 0.0
        self._number = 0
        self._let_go_number = 0
        self._asked: dict[int, float] = {}
        self._ask_at = self._own_at = self._look_at = 0.0
        self._call: Look | Swap | None = None

    def note(self) -> VoteNote:
        """What an agent that is started again in this boot must know."""
        return VoteNote(self._who.boot, self.voter.promise, self.watch.mine, self._held_until, self.voter.silent_until)

    # ---- what it counts

    def until(self) -> float:
        """Until when two promises last; 0 where there are none, or where this node does not want them."""
        if not self.wants:
            return 0.0
        until = sorted((self.voter.promised_to_me(), self._peer_until, self.watch.until()))[1]
        self._held_until = max(self._held_until, until)
        return until

    @property
    def held_until(self) -> float:
        """The latest time until when two promises ever lasted, also by the note; 0 after they were let go."""
        return self._held_until

    def deadline(self) -> float:
        """When everything that runs must be killed; before that it may run."""
        return self.until() - self.terms.margin_s

    def votes(self, now: float) -> tuple[str, ...]:
        """Who has promised, as of ``now``."""
        counted = {
            self._who.me: self.voter.promised_to_me(),
            self._who.peer: self._peer_until,
            WITNESS: self.watch.until(),
        }
        return tuple(name for name, until in counted.items() if self.wants and now < until)

    # ---- what it asks

    def want(self) -> None:
        """From now on this node asks for the votes."""
        self.wants = self._renews = True
        self._ask_at = self._own_at = 0.0

    def rest(self) -> None:
        """From now on this node asks for nothing, and counts what it has until that ends: something is left running that
        cannot be ended here, and the other node is to have the votes when the keeper has killed it."""
        self._renews = False

    def let_go(self) -> list[Call]:
        """From now on this node counts nothing. To be called only when nothing is left running and nothing can be
        started."""
        was_asked = self._number > self._let_go_number
        self.wants, self._renews = False, True
        self._peer_until, self._held_until, self._let_go_number = 0.0, 0.0, self._number
        self._asked.clear()
        self.voter.drop_own()
        return [LetGo(self._who.me, self._who.boot, self._number)] if was_asked else []

    def due(self, now: float) -> list[Call]:
        """What is to be asked at ``now``, which was read before it is sent. Asks this node's own vote itself."""
        calls: list[Call] = []
        asks = self.wants and self._renews and not self.voter.is_promised_away(now)
        if asks and now >= self._own_at:
            self.voter.answer(self._next_ask(now), now, self._held_until)
            self._own_at = now + self.terms.renew_s
        if asks and now >= self._ask_at:
            ask = self._next_ask(now)
            self._asked = {n: sent for n, sent in self._asked.items() if now - sent <= self.terms.answer_s}
            self._asked[ask.number] = now
            self._ask_at = now + self.terms.answer_s
            calls.append(ask)
        call = self._witness_call(now, asks)
        return [*calls, call] if call is not None else calls

    def _next_ask(self, now: float) -> Ask:
        self._number = max(self._number + 1, int(now * 1e6))
        return Ask(self._who.me, self._who.boot, self._number, self.terms.ttl_s, now < self.until())

    def _witness_call(self, now: float, asks: bool) -> Look | Swap | None:
        if self._call is not None and now - self._call.sent <= self.terms.answer_s:
            return None
        if self._call is not None:
            self._call, self._look_at = None, now
        call: Look | Swap | None = None
        if not self.wants and self.watch.mine is not None:
            call = self.watch.free(now, self.epoch)
        elif asks and self._is_time_to_write(now):
            call = self.watch.write(now, self.epoch)
        if call is None and now >= self._look_at:
            call = Look(now)
        if call is not None:
            self._call, self._look_at = call, now + self.terms.renew_s
        return call

    def _is_time_to_write(self, now: float) -> bool:
        is_mine = self.watch.mine is not None and now < self.watch.until()
        return (not is_mine or now >= self._look_at) and self.watch.may_write(now)

    def next_at(self, now: float) -> float:
        """When ``due`` has something to do again, if no answer comes before."""
        times = [self._call.sent + self.terms.answer_s if self._call is not None else self._look_at]
        if self.wants and self._renews:
            away = self.voter.promise if self.voter.is_promised_away(now) else None
            times += [away.until] if away is not None else [self._own_at, self._ask_at]
            writable = self.watch.writable_at(now)
            if writable is not None and writable > now and self._call is None and away is None and not self.watch.mine:
                times.append(writable)
        return max(now, min(times))

    # ---- what it hears

    def hear_ask(self, ask: Ask, now: float) -> Answer:
        """The peer asks for this node's vote. ``now`` was read after the question had come."""
        self.until()
        self.heard_peer_at = now
        answer = self.voter.answer(ask, now, self._held_until)
        if ask.holds:
            self.peer_held = now, now
        return replace(answer, freed=self.watch.freed) if answer.promised else answer

    def hear_let_go(self, said: LetGo, now: float) -> None:
        """The peer counts no promise any more that it asked for before."""
        self.voter.let_go(said, now)

    def hear_answer(self, answer: Answer, now: float) -> None:
        """The peer's answer. One that came too late, or to a question that counts no more, is none."""
        self.heard_peer_at = now
        sent = self._asked.pop(answer.number, None) if answer.boot == self._who.boot else None
        if sent is None or now - sent > self.terms.answer_s or not self.wants:
            return
        self._ask_at = max(self._ask_at, sent + self.terms.renew_s)
        if answer.promised:
            began = self._counted_from(sent, now)
            self._peer_until = max(self._peer_until, began + min(self.terms.ttl_s, answer.ttl_s))
            if answer.freed is not None:
                self.watch.handed = (answer.freed, sent + self.terms.ttl_s)
                self._look_at = min(self._look_at, now)

    def _counted_from(self, sent: float, _now: float) -> float:
        return sent

    def hear_witness(self, call: Look | Swap, outcome: Outcome, sight: Sight | None, now: float) -> None:
        """The witness's answer to ``call``: what the record is, where it says so. Too late is none, and so is an unknown
        one: the call then takes its whole time, so that a witness that refuses at once is not asked without a pause."""
        if call is not self._call or now - call.sent > self.terms.answer_s or outcome is Outcome.UNKNOWN:
            return
        self._call, self.heard_witness_at = None, now
        before, seen_at = self.watch.sight, self.watch.last_seen
        if isinstance(call, Swap):
            self.watch.swapped(call, outcome, sight, now)
            if outcome is not Outcome.DONE:
                self._look_at = now
        elif sight is not None:
            self.watch.see(sight, now)
            self._look_at = call.sent + self._pace_s(sight != before, now)
        record = sight.record if sight is not None else None
        if record is not None and record.holder == self._who.peer:
            if before is not None and sight != before:
                # It was written after the last look that showed another one.
                self.peer_held = seen_at, now
            if now < self._off_until:
                self.watch.handed = (record, self._off_until)

    def _pace_s(self, is_new: bool, now: float) -> float:
        """Seconds from one look to the next. ``is_new``: the record was another one the time before."""
        sight, renew_s = self.watch.sight, self.terms.renew_s
        record = sight.record if sight is not None else None
        if record is None or record.holder != self._who.peer or now - self.watch.first_seen > 2 * renew_s:
            return renew_s
        return renew_s * (EARLIER if is_new else AGAIN)

    def peer_was_fenced(self, began: float, now: float) -> None:
        """The peer's machine was switched off from outside at some time since ``began``: what it counted then is void.

        Frees this node's own vote, where it was promised before that. The record that the peer left may be taken at
        once, within the time in which it could not have written another one, were it switched on again at ``began``: an
        agent without a note must have seen the record for a ttl.
        """
        until = began + self.terms.ttl_s - self.terms.margin_s
        if now >= until:
            return
        self._off_until = until
        self.voter.forget(self._who.peer, began + self.terms.ttl_s)
        record = self.watch.sight.record if self.watch.sight is not None else None
        if record is not None and record.holder == self._who.peer:
            self.watch.handed = (record, until)
        self._own_at = self._look_at = 0.0
