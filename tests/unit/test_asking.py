"""Asking for votes: what is kept before what, and that nothing is asked without a pause."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

from ha_agent.adapters.witness import NoAnswer
from ha_agent.core.holder import WITNESS, Holder, Identity
from ha_agent.core.vote_note import parse_note
from ha_agent.core.vote_terms import VoteTerms
from ha_agent.core.voter import Answer, Ask, LetGo
from ha_agent.core.witness_record import NOTHING_THERE, Record, Sight
from ha_agent.core.witness_watch import Outcome
from ha_agent.daemon.votes.asking import Asking
from tests.unit.timeless import TimelessLoop

A, B = "node-a", "node-b"
TERMS = VoteTerms()


class FakeWitness:
    """A record in memory. ``is_deaf``: every question is refused at once, and a write has no known end."""

    def __init__(self, log: list[str]) -> None:
        self.sight, self.is_deaf, self.problem, self._log = NOTHING_THERE, False, "", log

    async def read(self, timeout_s: float) -> Sight:
        self._log.append("read")
        if self.is_deaf:
            raise NoAnswer("refused")
        return self.sight

    async def swap(self, expected: Sight, record: Record, timeout_s: float) -> tuple[Outcome, Sight | None]:
        self._log.append("swap")
        if self.is_deaf:
            return Outcome.UNKNOWN, None
        if expected != self.sight:
            return Outcome.OTHER, self.sight
        self.sight = Sight(self.sight.revision + 1, record)
        return Outcome.DONE, self.sight

    async def run(self) -> None:
        pass

    def close(self) -> None:
        pass


class FakePeer:
    """Promises whatever is asked, or is silent."""

    def __init__(self, log: list[str]) -> None:
        self.is_silent, self._log = False, log
        self.told: list[LetGo] = []

    async def ask_vote(self, ask: Ask, timeout_s: float) -> Answer | None:
        self._log.append("ask")
        return None if self.is_silent else Answer(ask.boot, ask.number, True, TERMS.ttl_s)

    async def tell_let_go(self, said: LetGo, timeout_s: float) -> None:
        self._log.append("let go")
        self.told.append(said)


class Bench:
    """One node's votes on a loop whose time jumps. ``log`` has what happened, in order."""

    def __init__(self, loop: TimelessLoop) -> None:
        self.log: list[str] = []
        self.heard = 0
        self.has_room = True
        self.witness, self.peer = FakeWitness(self.log), FakePeer(self.log)
        self.holder = Holder(Identity(A, B, "boot", "start"), TERMS, loop.time())
        self.asking = Asking(self.holder, self.witness, self.peer, self._keep, loop.time, self._hear)

    def _keep(self, text: str) -> None:
        assert parse_note(text) is not None
        if not self.has_room:
            raise OSError("no room")
        self.log.append("keep")

    def _hear(self) -> None:
        self.heard += 1


def run(scenario: Callable[[Bench, TimelessLoop], Coroutine[Any, Any, None]]) -> None:
    loop = TimelessLoop()

    async def main() -> None:
        bench = Bench(loop)
        task = asyncio.ensure_future(bench.asking.run())
        try:
            await scenario(bench, loop)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


def test_a_node_that_wants_gets_all_three_votes_and_keeps_them() -> None:
    async def scenario(bench: Bench, loop: TimelessLoop) -> None:
        bench.asking.want()
        await asyncio.sleep(2 * TERMS.ttl_s)
        for _ in range(50):
            await asyncio.sleep(0.3)
            assert set(bench.holder.votes(loop.time())) == {A, B, WITNESS}
        assert bench.heard > 20

    run(scenario)


def test_a_promise_is_in_the_note_before_the_answer_is_there() -> None:
    async def scenario(bench: Bench, loop: TimelessLoop) -> None:
        await asyncio.sleep(TERMS.ttl_s)
        bench.log.clear()
        answer = bench.asking.hear_ask(Ask(B, "boot-b", 1, TERMS.ttl_s))
        assert answer.promised and bench.log == ["keep"]

    run(scenario)


def test_while_the_note_cannot_be_kept_nothing_is_promised_asked_or_counted_further() -> None:
    async def scenario(bench: Bench, loop: TimelessLoop) -> None:
        bench.asking.want()
        await asyncio.sleep(2 * TERMS.ttl_s)
        deadline = bench.asking.deadline
        assert deadline > loop.time() and deadline == bench.holder.deadline()
        bench.has_room = False
        await asyncio.sleep(0.01)
        bench.log.clear()
        with pytest.raises(OSError, match="no room"):
            bench.asking.hear_ask(Ask(B, "boot-b", 1, TERMS.ttl_s, holds=True))
        await asyncio.sleep(2 * TERMS.ttl_s)
        assert bench.log == [] and bench.asking.deadline == deadline < loop.time()
        bench.has_room = True
        await asyncio.sleep(2 * TERMS.ttl_s)
        assert bench.asking.deadline > loop.time()

    run(scenario)


def test_one_that_is_silent_or_refuses_at_once_is_asked_once_an_answers_time() -> None:
    async def scenario(bench: Bench, loop: TimelessLoop) -> None:
        bench.asking.want()
        await asyncio.sleep(2 * TERMS.ttl_s)
        bench.witness.is_deaf = bench.peer.is_silent = True
        await asyncio.sleep(TERMS.ttl_s)
        bench.log.clear()
        await asyncio.sleep(10.0)
        most = 10.0 / TERMS.answer_s + 2
        assert 5 < bench.log.count("ask") <= most
        assert 5 < bench.log.count("read") + bench.log.count("swap") <= most
        assert bench.holder.deadline() < loop.time()

    run(scenario)


def test_letting_go_tells_the_peer_and_frees_the_record() -> None:
    async def scenario(bench: Bench, loop: TimelessLoop) -> None:
        bench.asking.want()
        await asyncio.sleep(2 * TERMS.ttl_s)
        bench.asking.let_go()
        await asyncio.sleep(0.1)
        assert bench.holder.votes(loop.time()) == () and len(bench.peer.told) == 1
        assert bench.witness.sight.record is not None and bench.witness.sight.record.is_free
        bench.asking.hear_let_go(LetGo(B, "boot-b", 1))

    run(scenario)
