"""The interlock: one node asks for the word that nothing of the registry is left running on the other, which answers it.

Must not decide what is done without that word: the takeover does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from ha_agent.adapters.rpc import Disconnected, Progress, RemoteError
from ha_agent.adapters.ssh import PeerLink
from ha_agent.core.frames import Message
from ha_agent.core.plans import outranks
from ha_agent.core.settings import TakeoverSettings
from ha_agent.core.transaction import Watermark, is_jump
from ha_agent.core.words import Outcome, Role, VrrpState
from ha_agent.daemon.events import Events
from ha_agent.daemon.replication.ledger import Ledger
from ha_agent.daemon.standing import Standing

OFF = frozenset({Outcome.DEAD, Outcome.LINK_DOWN})
"""Outcomes that mean that the peer's machine does not answer at all."""


@dataclass(frozen=True, slots=True)
class PeerWord:
    """What came of asking the peer; ``because`` says why there is no word."""

    outcome: Outcome
    because: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As it stands in the history."""
        return {"interlock": self.outcome.value, **({"because": self.because} if self.because else {})}


@dataclass(frozen=True, slots=True)
class _Question:
    """A question under way. ``heard``: set when the peer says that it heard."""

    asking: asyncio.Future[Message]
    heard: asyncio.Event


class _Patience:
    """For how long a peer without a word is waited for."""

    def __init__(self, limits: TakeoverSettings, clock: Callable[[], float]) -> None:
        self._silent_peer_s, self._clock = limits.silent_peer_s, clock
        self._silent_until = clock() + limits.silent_peer_s
        self._last = self._silent_until + limits.interlock_timeout_s
        self._has_answered, self._silences = False, 0
        self.is_told = False
        """Whether the history tells of the wait."""

    def note_end(self, *, was_heard: bool) -> None:
        """Notes that a question has come to nothing. An agent that heard it was alive until then."""
        if was_heard:
            self._silent_until = min(self._clock() + self._silent_peer_s, self._last)

    def note_machine(self, *, is_up: bool) -> None:
        """Notes what came of one look at the machine."""
        self._has_answered = self._has_answered or is_up
        self._silences = 0 if is_up else self._silences + 1

    @property
    def is_off(self) -> bool:
        """Whether the machine is off. One that has answered is silent twice in a row then: looks are many while it is waited
        for, and where most packets are lost one of them may come to nothing."""
        return self._silences > int(self._has_answered)

    @property
    def is_over(self) -> bool:
        """Whether no word is waited for any longer."""
        return self.is_off or self._clock() >= self._silent_until


async def _know_nothing() -> bool | None:
    return None


class Interlock:
    """Both ends. ``clock``: the loop's monotonic clock; ``is_machine_up``: asks the peer's machine without its agent.

    ``find_silence``: whether the machine is known to be silent since before the question; waits for a look that is under way
    (``silence_watch.py``).
    """

    def __init__(
        self,
        limits: TakeoverSettings,
        standing: Standing,
        ledger: Ledger,
        link: PeerLink,
        events: Events,
        is_machine_up: Callable[[], Awaitable[bool]],
        clock: Callable[[], float],
        find_silence: Callable[[], Awaitable[bool | None]] = _know_nothing,
    ) -> None:
        self._limits, self._standing, self._ledger = limits, standing, ledger
        self._link, self._events = link, events
        self._is_machine_up, self._clock, self._find_silence = is_machine_up, clock, find_silence

    # ---- the node that takes over -------------------------------------------------------------------------

    async def ask(self, is_enough: Callable[[], bool] = lambda: False) -> PeerWord:
        """Asks for the release and waits for the word.

        A peer whose machine gives no sign of life is off after ``peer_probe_s``, which may have begun before. One whose
        machine does has ``silent_peer_s`` to say that it heard, counted anew when it did and the link broke after that. A
        question that is under way stays so: a new connection would need many more packets to get through than the rest of
        this one.
        ``is_enough``: whether the word of a peer that does not say that it heard is not needed any more.
        """
        question: _Question | None = None
        patience = _Patience(self._limits, self._clock)
        try:
            while True:
                if question is None and self._link.is_up:
                    question = self._put_question()
                word, is_up = await self._look_unless_silent(question)
                if word.outcome not in OFF:
                    return word
                if question is not None and question.asking.done():
                    patience.note_end(was_heard=question.heard.is_set())
                    # It may have ended since it was listened to: what it ended with is of no use any more.
                    await _end(question.asking)
                    question = None
                patience.note_machine(is_up=is_up)
                if is_enough() and not patience.is_off:
                    return word
                if patience.is_over:
                    self._link.give_up("no answer to the interlock")
                    return word if patience.is_off else self._silent()
                self._tell_waiting(word, patience)
                self._link.nudge()
                if question is None and is_up:
                    await self._link.wait_change(self._limits.peer_probe_s)
        finally:
            if question is not None:
                await _end(question.asking)

    def _put_question(self) -> _Question:
        claim, heard = self._standing.claim, asyncio.Event()
        message = {"op": "release", "epoch": claim.epoch, "claimed_by": claim.claimed_by}
        asking = self._link.ask(message, self._limits.interlock_timeout_s, lambda _: heard.set())
        return _Question(asyncio.ensure_future(asking), heard)

    async def _look_unless_silent(self, question: _Question | None) -> tuple[PeerWord, bool]:
        """As ``_look_and_hear``, which is broken off as soon as the machine's silence is known from before."""
        look = asyncio.ensure_future(self._look_and_hear(question))
        silence = asyncio.ensure_future(self._find_silence())
        try:
            await asyncio.wait({look, silence}, return_when=asyncio.FIRST_COMPLETED)
            if look.done() or not silence.result():
                return await look
            return self._silent_since_before(question), False
        finally:
            await _end(silence)
            await _end(look)

    def _silent_since_before(self, question: _Question | None) -> PeerWord:
        if question is None:
            return PeerWord(Outcome.LINK_DOWN, self._link.problem)
        return PeerWord(Outcome.DEAD, f"no sign of life for {self._limits.peer_probe_s:g} s and more")

    async def _look_and_hear(self, question: _Question | None) -> tuple[PeerWord, bool]:
        """What the peer says, and whether its machine is up: looked for meanwhile, and without meaning after a word."""
        look = asyncio.ensure_future(self._is_machine_up())
        try:
            word = await self._hear(question)
            return word, word.outcome in OFF and await look
        finally:
            await _end(look)

    async def _hear(self, question: _Question | None) -> PeerWord:
        """The peer's word; one that does not say within ``peer_probe_s`` that it heard gives none."""
        limits = self._limits
        if question is None:
            return PeerWord(Outcome.LINK_DOWN, self._link.problem)
        hearing = asyncio.ensure_future(question.heard.wait())
        try:
            waited_for: set[asyncio.Future[Any]] = {question.asking, hearing}
            await asyncio.wait(waited_for, timeout=limits.peer_probe_s, return_when=asyncio.FIRST_COMPLETED)
            if not question.heard.is_set() and not question.asking.done():
                return PeerWord(Outcome.DEAD, f"no sign of life within {limits.peer_probe_s:g} s")
            return _read_word(await question.asking)
        except TimeoutError:
            heard = question.heard.is_set()
            why = f"not released after {limits.interlock_timeout_s:g} s" if heard else "the question was not heard"
            return PeerWord(Outcome.TIMED_OUT if heard else Outcome.DEAD, why)
        except (Disconnected, RemoteError) as error:
            return PeerWord(Outcome.DEAD, str(error))
        finally:
            await _end(hearing)

    def _silent(self) -> PeerWord:
        return PeerWord(Outcome.SILENT, f"its machine answers, its agent did not within {self._limits.silent_peer_s:g} s")

    def _tell_waiting(self, word: PeerWord, patience: _Patience) -> None:
        if not patience.is_told:
            patience.is_told = True
            limit_s = self._limits.silent_peer_s
            text = f"the peer's machine answers, its agent does not: waiting for it, {limit_s:g} s at most"
            self._events.add("peer-silent", text, because=word.because)

    # ---- the node that is asked ---------------------------------------------------------------------------

    async def answer(
        self,
        asking: Watermark,
        progress: Progress,
        *,
        is_clear: Callable[[], Awaitable[bool]],
        in_maintenance: Callable[[], bool],
        give_way: Callable[[str], None],
        wake: Callable[[], None],
    ) -> Message:
        """Answers when nothing of the registry is left running here, or why that will not be.

        ``is_clear`` looks at the processes of a standby, and sees to it that what runs there is released.

        A node that is active and that its own keepalived goes on to call MASTER refuses: in a dual master with a working
        link the node that is active already stays it, because that moves no program. Of two that take over at once the
        lower claim gives way.
        """
        standing, limits = self._standing, self._limits
        progress({"heard": True, "role": standing.role.value})
        wake()
        patience = self._clock() + limits.dual_master_s
        limit = self._clock() + limits.interlock_timeout_s
        while self._clock() < limit:
            # The role is read again after the look: this node may have begun to take over meanwhile.
            if standing.role is Role.STANDBY and await is_clear() and _is_still_standby(standing):
                # An epoch that cannot be is not learnt.
                if not is_jump(asking, self._ledger.known):
                    self._ledger.learn(asking)
                return {"outcome": Outcome.RELEASED}
            if in_maintenance():
                return {"outcome": Outcome.MAINTENANCE}
            if standing.role is Role.FENCED:
                return {"outcome": Outcome.LEFT_RUNNING, "left": standing.left_running}
            owning_master = standing.owns and standing.vrrp_state is VrrpState.MASTER
            if owning_master and self._clock() >= patience:
                if standing.role is Role.ACTIVE or not outranks(asking, standing.claim):
                    return {"outcome": Outcome.REFUSED}
                give_way("the peer takes over at the same time with a higher claim")
            until = limit
            if owning_master:
                # A node that gives way does so until its role changes: it is reminded now and then.
                until = patience if self._clock() < patience else self._clock() + limits.dual_master_s
            await standing.wait_change(max(0.01, until - self._clock()))
        return {"outcome": Outcome.TIMED_OUT}


def _is_still_standby(standing: Standing) -> bool:
    return standing.role is Role.STANDBY


async def _end(task: asyncio.Future[Any]) -> None:
    """Cancels a task that is of no use any more, and waits for its end."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _read_word(answer: Message) -> PeerWord:
    """The peer's word. One that this node does not know is no word that nothing is left running."""
    said = str(answer.get("outcome"))
    try:
        return PeerWord(Outcome(said))
    except ValueError:
        return PeerWord(Outcome.FAILED, f"the peer answered {said!r:.40}")
