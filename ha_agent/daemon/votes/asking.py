"""Asks peer and witness for their votes when the holder says so, and tells it what came back. Decides nothing itself."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from ha_agent.adapters.witness import NoAnswer, Witness
from ha_agent.core.holder import Call, Holder
from ha_agent.core.reasons import reason_of
from ha_agent.core.voter import Answer, Ask, LetGo
from ha_agent.core.witness_watch import Look, Outcome, Swap

log = logging.getLogger(__name__)


class VotingPeer(Protocol):
    """The peer, as far as votes go."""

    async def ask_vote(self, ask: Ask, timeout_s: float) -> Answer | None:
        """The peer's answer; None where none came in time."""
        ...

    async def tell_let_go(self, said: LetGo, timeout_s: float) -> None:
        """Tells the peer. Never raises: the word saves time and is needed for nothing."""
        ...


class Asking:
    """``clock``: seconds of CLOCK_BOOTTIME. ``keep_note`` takes the note's text, and returns when a restart would find it.
    ``on_heard`` is called whenever something was heard, so that whoever holds the deadline looks at it.

    While the note cannot be kept nothing is asked or promised, and ``deadline`` stays: a restart would not know of more.
    """

    def __init__(
        self,
        holder: Holder,
        witness: Witness,
        peer: VotingPeer,
        keep_note: Callable[[str], None],
        clock: Callable[[], float],
        on_heard: Callable[[], None],
    ) -> None:
        self._holder, self._witness, self._peer = holder, witness, peer
        self._keep_note, self._clock, self._on_heard = keep_note, clock, on_heard
        self._kept = ""
        self.deadline = 0.0
        """When everything that runs must be killed, as far as the note that is kept covers it."""
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Asks whenever something is due, until cancelled; questions under way are cancelled with it."""
        try:
            while True:
                self._send(self._holder.due(self._clock()))
                now = self._clock()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(0.001, self._holder.next_at(now) - now)):
                        await self._wake.wait()
                self._wake.clear()
        finally:
            for task in self._tasks:
                task.cancel()

    def want(self) -> None:
        """From now on this node asks for the votes."""
        self._holder.want()
        self._wake.set()

    def let_go(self) -> None:
        """From now on this node counts nothing. Only when nothing is left running, and the keeper is disarmed."""
        calls = self._holder.let_go()
        self.deadline = 0.0
        self._send(calls)
        self._wake.set()

    def rest(self) -> None:
        """From now on this node asks for nothing, and counts what it has until that ends."""
        self._holder.rest()
        self._wake.set()

    def peer_was_fenced(self, began: float) -> None:
        """The peer's machine was switched off from outside, at some time since ``began``."""
        self._holder.peer_was_fenced(began, self._clock())
        self._heard()

    def hear_ask(self, ask: Ask) -> Answer:
        """The peer asks. The promise is in the note before this returns. Raises ``OSError`` where it cannot be kept."""
        answer = self._holder.hear_ask(ask, self._clock())
        self._keep()
        self._heard()
        return answer

    def hear_let_go(self, said: LetGo) -> None:
        """The peer counts no promise any more that it asked for before."""
        self._holder.hear_let_go(said, self._clock())
        self._heard()

    def _heard(self) -> None:
        self._can_keep()
        self._on_heard()
        self._wake.set()

    def _keep(self) -> None:
        text = self._holder.note().to_text()
        if text != self._kept:
            self._keep_note(text)
            self._kept = text
        self.deadline = self._holder.deadline()

    def _can_keep(self) -> bool:
        try:
            self._keep()
        except OSError as error:
            log.error("the note of the votes cannot be written, so none are asked for: %s", reason_of(error))
            return False
        return True

    def _send(self, calls: list[Call]) -> None:
        """Sends the questions, once the note is kept. What is not sent counts as not answered."""
        if not self._can_keep():
            return
        for call in calls:
            task = asyncio.ensure_future(self._question(call))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _question(self, call: Call) -> Coroutine[Any, Any, None]:
        if isinstance(call, Ask):
            return self._ask_peer(call)
        if isinstance(call, LetGo):
            return self._peer.tell_let_go(call, self._holder.terms.answer_s)
        return self._ask_witness(call)

    async def _ask_peer(self, ask: Ask) -> None:
        answer = await self._peer.ask_vote(ask, self._holder.terms.answer_s)
        if answer is not None:
            self._holder.hear_answer(answer, self._clock())
            self._heard()

    async def _ask_witness(self, call: Look | Swap) -> None:
        timeout_s = self._holder.terms.answer_s
        try:
            if isinstance(call, Look):
                outcome, sight = Outcome.DONE, await self._witness.read(timeout_s)
            else:
                outcome, found = await self._witness.swap(call.expected, call.record, timeout_s)
                if found is None:
                    return
                sight = found
        except NoAnswer:
            return
        self._holder.hear_witness(call, outcome, sight, self._clock())
        self._heard()
