"""Two nodes whose votes go over a real etcd and a link that can be cut: who holds, and that two never do."""

from __future__ import annotations

import asyncio
import pathlib
import shutil
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress

import pytest

from ha_agent.adapters.witness_etcd import EtcdAccess, EtcdWitness
from ha_agent.core.holder import WITNESS, Holder, Identity
from ha_agent.core.vote_note import parse_note
from ha_agent.core.vote_terms import VoteTerms
from ha_agent.core.voter import Answer, Ask, LetGo
from ha_agent.daemon.votes.asking import Asking
from ha_agent.keeper import read_clock
from tests.etcd import Etcd

TERMS = VoteTerms(ttl_s=3.0, renew_s=0.5, answer_s=0.8, margin_s=0.5)
"""Answers may take longer than by default: other tests run beside."""

A, B = "node-a", "node-b"


class Link:
    """The peer at the other end of a link in this process."""

    def __init__(self, pair: Pair, other: str) -> None:
        self._pair, self._other = pair, other

    async def ask_vote(self, ask: Ask, timeout_s: float) -> Answer | None:
        await asyncio.sleep(0.002)
        peer = self._pair.asking.get(self._other)
        return peer.hear_ask(ask) if peer is not None and not self._pair.is_cut else None

    async def tell_let_go(self, said: LetGo, timeout_s: float) -> None:
        if (peer := self._pair.asking.get(self._other)) is not None and not self._pair.is_cut:
            peer.hear_let_go(said)


class Pair:
    """Both nodes' voters and holders. After all that is heard it is checked that not both may run."""

    def __init__(self, etcd: Etcd) -> None:
        self._etcd = etcd
        self.is_cut = False
        self.holders: dict[str, Holder] = {}
        self.asking: dict[str, Asking] = {}
        self.notes: dict[str, str] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._witnesses: dict[str, EtcdWitness] = {}
        self._starts = 0

    def start(self, name: str) -> None:
        self._starts += 1
        who = Identity(name, B if name == A else A, f"boot-{name}", f"start-{self._starts}")
        self.holders[name] = Holder(who, TERMS, read_clock(), parse_note(self.notes.get(name, "")))
        witness = EtcdWitness(EtcdAccess(endpoints=self._etcd.endpoints, key="ha-agent/a+b/votes"))
        self._witnesses[name] = witness
        self.asking[name] = Asking(
            self.holders[name], witness, Link(self, who.peer), lambda text: self._keep(name, text), read_clock, self.check
        )
        self._tasks[name] = asyncio.ensure_future(self.asking[name].run())

    def _keep(self, name: str, text: str) -> None:
        self.notes[name] = text

    async def stop(self, name: str) -> None:
        """The agent is killed."""
        self._tasks[name].cancel()
        with suppress(asyncio.CancelledError):
            await self._tasks.pop(name)
        self._witnesses.pop(name).close()
        del self.asking[name], self.holders[name]

    async def end(self) -> None:
        for name in list(self.asking):
            await self.stop(name)

    def holding(self) -> list[str]:
        now = read_clock()
        return [name for name, holder in self.holders.items() if now < holder.deadline()]

    def votes(self, name: str) -> set[str]:
        return set(self.holders[name].votes(read_clock()))

    def check(self) -> None:
        assert len(self.holding()) < 2

    async def until(self, is_so: Callable[[], bool], limit_s: float = 20.0) -> float:
        """Waits; how long that was."""
        began = read_clock()
        while not is_so():
            self.check()
            assert read_clock() - began < limit_s, (self.holding(), [self.votes(n) for n in self.holders])
            await asyncio.sleep(0.01)
        return read_clock() - began

    async def stays(self, is_so: Callable[[], bool], for_s: float) -> None:
        until = read_clock() + for_s
        while read_clock() < until:
            self.check()
            assert is_so()
            await asyncio.sleep(0.01)


@pytest.fixture
def etcd(tmp_path: pathlib.Path) -> Iterator[Etcd]:
    made = Etcd(tmp_path)
    made.up()
    yield made
    made.down()


def with_holder_a(etcd: Etcd, scenario: Callable[[Pair], Awaitable[None]]) -> None:
    """Runs ``scenario`` with a pair of which node-a holds all three votes."""

    async def main() -> None:
        pair = Pair(etcd)
        try:
            pair.start(A)
            pair.start(B)
            pair.asking[A].want()
            await pair.until(lambda: pair.votes(A) == {A, B, WITNESS})
            await scenario(pair)
        finally:
            await pair.end()

    asyncio.run(main())


def test_a_full_partition_leaves_the_node_that_holds_and_its_death_moves_the_votes(etcd: Etcd) -> None:
    async def scenario(pair: Pair) -> None:
        pair.is_cut = True
        pair.asking[B].want()
        await pair.stays(lambda: pair.holding() == [A], 2 * TERMS.ttl_s)
        assert pair.votes(A) == {A, WITNESS}
        await pair.stop(A)
        assert await pair.until(lambda: pair.holding() == [B]) < TERMS.ttl_s + TERMS.renew_s + 2 * TERMS.answer_s
        assert pair.votes(B) == {B, WITNESS}

    with_holder_a(etcd, scenario)


def test_a_witness_that_is_frozen_stops_nothing_while_the_peer_answers(etcd: Etcd) -> None:
    async def scenario(pair: Pair) -> None:
        etcd.signal(0, signal.SIGSTOP)
        await pair.until(lambda: pair.votes(A) == {A, B})
        await pair.stays(lambda: pair.holding() == [A], TERMS.ttl_s)
        etcd.signal(0, signal.SIGCONT)
        await pair.until(lambda: pair.votes(A) == {A, B, WITNESS})

    with_holder_a(etcd, scenario)


def test_a_node_that_reaches_nobody_holds_no_longer_than_its_promises(etcd: Etcd) -> None:
    async def scenario(pair: Pair) -> None:
        pair.is_cut = True
        etcd.signal(0, signal.SIGKILL)
        assert await pair.until(lambda: pair.holding() == []) < TERMS.ttl_s

    with_holder_a(etcd, scenario)


def test_a_planned_move_takes_a_moment(etcd: Etcd) -> None:
    async def scenario(pair: Pair) -> None:
        pair.asking[A].let_go()
        pair.asking[B].want()
        assert await pair.until(lambda: pair.holding() == [B]) < TERMS.answer_s
        await pair.until(lambda: pair.votes(B) == {A, B, WITNESS})

    with_holder_a(etcd, scenario)


def test_an_agent_that_is_started_again_with_its_note_goes_on_with_the_witness_alone(etcd: Etcd) -> None:
    async def scenario(pair: Pair) -> None:
        pair.is_cut = True
        held = pair.holders[A].deadline()
        await pair.stop(A)
        pair.start(A)
        pair.asking[A].want()
        assert await pair.until(lambda: pair.holding() == [A]) < TERMS.answer_s
        await pair.until(lambda: pair.holders[A].deadline() > held)
        await pair.stays(lambda: pair.holding() == [A], TERMS.ttl_s)

    with_holder_a(etcd, scenario)


def test_a_witness_that_was_wiped_gives_its_vote_to_nobody_for_a_ttl(etcd: Etcd) -> None:
    async def scenario(pair: Pair) -> None:
        etcd.signal(0, signal.SIGKILL)
        shutil.rmtree(etcd.data_dir(0))
        etcd.start(0)
        await asyncio.to_thread(etcd.wait)
        await pair.until(lambda: WITNESS not in pair.votes(A))
        began = read_clock()
        await pair.until(lambda: pair.votes(A) == {A, B, WITNESS})
        assert read_clock() - began > TERMS.ttl_s - TERMS.renew_s and pair.holding() == [A]

    with_holder_a(etcd, scenario)
