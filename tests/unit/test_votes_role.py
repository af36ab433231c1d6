"""The role with votes: nothing is started without them and the keeper, and nothing runs when they are over."""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from ha_agent.core.frames import Message
from ha_agent.core.hooks import MOMENTS, HookSettings
from ha_agent.core.plans import RELEASE_STEPS, TAKEOVER_STEPS
from ha_agent.core.settings import TakeoverSettings
from ha_agent.core.vote_frames import answer_message
from ha_agent.core.vote_terms import VoteTerms
from ha_agent.core.voter import Ask, LetGo, Voter
from ha_agent.core.witness_record import Record, Sight
from ha_agent.core.witness_settings import WitnessSettings
from ha_agent.core.words import Role, Step, VrrpState
from ha_agent.daemon.programs.loader import StopOrder
from ha_agent.daemon.role.plan_run import PlanRun
from ha_agent.daemon.votes.votes import Votes
from tests.unit.fakes import Node, World, conf
from tests.unit.timeless import run_timeless

THREE = ["p0", "p1", "p2"]
TERMS = VoteTerms()
WITNESS = WitnessSettings(kind="ssh", host="192.0.2.3")


class Peer:
    """The other node's agent: a standby that promises its vote, and gives its word."""

    def __init__(self, now: float) -> None:
        self.voter = Voter("b", TERMS.ttl_s, now, None, 0.0)
        self.word = "released"
        self.let_go: list[LetGo] = []

    async def answer(self, message: Message) -> Message:
        now = asyncio.get_running_loop().time()
        if message["op"] == "vote":
            ask = Ask(message["holder"], message["boot"], message["number"], message["ttl_s"], message["holds"])
            return answer_message(self.voter.answer(ask, now, 0.0))
        if message["op"] == "vote-let-go":
            said = LetGo(message["holder"], message["boot"], message["number"])
            self.let_go.append(said)
            self.voter.let_go(said, now)
            return {}
        return {"outcome": self.word}


EVERYWHERE = {"everywhere": HookSettings(at=tuple(MOMENTS), command=("/hook/everywhere",))}
"""So that a plan has all of its steps."""


def run(
    tmp_path: pathlib.Path,
    work: Callable[[Node, Peer], Awaitable[None]],
    settings: WitnessSettings = WITNESS,
    **options: Any,
) -> None:
    """Has ``work`` done with a node that has three confs and a witness, is standby, and may promise its vote by now."""

    async def main() -> None:
        node = Node(World(tmp_path), witness=settings, **{"hooks": EVERYWHERE, **options})
        node.write(**{name: conf(name) for name in THREE})
        peer = Peer(asyncio.get_running_loop().time())
        node.link.answer = peer.answer
        await node.begin()
        await asyncio.sleep(2 * TERMS.ttl_s)
        try:
            await work(node, peer)
        finally:
            await node.kill()
            node.close()

    run_timeless(main())


def votes_of(node: Node) -> Votes:
    assert isinstance(node.group.votes, Votes)
    return node.group.votes


def again(node: Node, settings: WitnessSettings = WITNESS) -> Node:
    """Another agent over the same machine, disk and /run, after the end of the one before."""
    fresh = Node(node.world, witness=settings, takeover=node.group.settings.takeover, hooks=node.group.settings.hooks)
    fresh.keepalived, fresh.link.answer = node.keepalived, node.link.answer
    return fresh


def test_a_takeover_arms_the_keeper_before_anything_is_started_and_a_release_disarms_it_after_the_last_end(
    tmp_path: pathlib.Path,
) -> None:
    async def work(node: Node, peer: Peer) -> None:
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        assert [verb for verb, _ in node.world.log][:2] == ["arm", "start"] and node.world.running() == THREE
        assert set(votes_of(node).promised) >= {"a", "b"}
        node.report(VrrpState.BACKUP)
        await node.await_role(Role.STANDBY)
        verbs = [verb for verb, _ in node.world.log]
        assert node.world.running() == [] and verbs[-1] == "disarm" and verbs.count("end") == 3
        assert node.world.keeper_deadline == 0 and votes_of(node).promised == ()
        assert len(peer.let_go) == 1 and peer.voter.promise is None

    run(tmp_path, work)


def test_the_keeper_is_fed_as_long_as_the_votes_are_renewed_and_the_record_tells_of_the_epoch(
    tmp_path: pathlib.Path,
) -> None:
    async def work(node: Node, _peer: Peer) -> None:
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        now = asyncio.get_running_loop().time
        for _ in range(60):
            await asyncio.sleep(0.5)
            assert node.world.keeper_deadline > now() and node.world.running() == THREE
        record = node.world.witness.sight.record
        assert record is not None and (record.holder, record.epoch) == ("a", 1)

    run(tmp_path, work)


@pytest.mark.parametrize("word", ["released", None])
def test_without_two_votes_nothing_is_started_whatever_the_policy(tmp_path: pathlib.Path, word: str | None) -> None:
    async def work(node: Node, peer: Peer) -> None:
        node.world.witness.is_deaf = True

        async def answer(message: Message) -> Message:
            if message["op"] == "release" and word is not None:
                return {"outcome": word}
            await asyncio.sleep(1000)
            return {}

        node.link.answer = answer
        node.report(VrrpState.MASTER)
        await asyncio.sleep(1.0)
        assert node.world.running() == [] and node.world.keeper_deadline == 0
        assert node.group.standing.role is Role.TAKING_OVER
        await asyncio.sleep(2 * TERMS.ttl_s)
        assert node.world.running() == []
        if word is None:
            assert (node.run_dir / "track").read_text() == "1\n", "the VIP is of no use here"
        else:
            assert node.group.fitness.reason is None or "neither" in node.group.fitness.reason

    run(tmp_path, work, takeover=TakeoverSettings(on_interlock_timeout="start", silent_peer_s=1.0, retry_s=0.05))


def test_a_dead_peer_is_not_waited_for_longer_than_its_promises_last(tmp_path: pathlib.Path) -> None:
    async def work(node: Node, _peer: Peer) -> None:
        loop = asyncio.get_running_loop()
        node.world.witness.sight = Sight(5, Record("b", "x", 9, 41, 3000))
        await asyncio.sleep(1.2)
        node.link.answer = None
        began = loop.time()
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE, 100.0)
        assert 1.5 < loop.time() - began < TERMS.ttl_s + 0.5
        assert set(votes_of(node).promised) == {"a", "witness"}
        assert node.group.standing.claim.epoch == 42, "the record's epoch is the floor"
        assert "interlock-settled" in node.codes()

    run(tmp_path, work, takeover=TakeoverSettings(on_interlock_timeout="hold", silent_peer_s=15.0, retry_s=0.05))


@pytest.mark.parametrize(("fence_exit", "is_soon"), [(0, True), (1, False)])
def test_a_fence_that_succeeded_saves_the_wait(tmp_path: pathlib.Path, fence_exit: int, is_soon: bool) -> None:
    async def work(node: Node, _peer: Peer) -> None:
        loop = asyncio.get_running_loop()
        node.world.witness.sight = Sight(5, Record("b", "x", 9, 0, 3000))
        await asyncio.sleep(1.2)
        node.link.answer, node.machine.fence_exit = None, fence_exit
        began = loop.time()
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE, 100.0)
        assert (loop.time() - began < 1.0) is is_soon and node.machine.fenced == 1

    run(tmp_path, work, takeover=TakeoverSettings(fence_command=("/bin/fence",), silent_peer_s=1.0, retry_s=0.05))


def test_a_node_that_does_not_hear_the_witness_fences_nobody(tmp_path: pathlib.Path) -> None:
    async def work(node: Node, _peer: Peer) -> None:
        node.world.witness.is_deaf, node.link.answer = True, None
        await asyncio.sleep(TERMS.ttl_s + 0.1)
        node.report(VrrpState.MASTER)
        await asyncio.sleep(2.0)
        assert node.machine.fenced == 0 and node.world.running() == []

    run(tmp_path, work, takeover=TakeoverSettings(fence_command=("/bin/fence",), silent_peer_s=1.0, retry_s=0.05))


@pytest.mark.parametrize("is_required", [True, False])
def test_without_a_keeper_nothing_is_started_where_it_is_required(tmp_path: pathlib.Path, is_required: bool) -> None:
    async def work(node: Node, _peer: Peer) -> None:
        node.world.is_keeper_there = False
        node.report(VrrpState.MASTER)
        await asyncio.sleep(1.0)
        if is_required:
            assert node.world.running() == [] and "takeover-failed" in node.codes()
            await asyncio.sleep(10.0)
            assert (node.run_dir / "track").read_text() == "1\n" and node.world.running() == []
        else:
            await node.await_role(Role.ACTIVE)
            assert node.world.running() == THREE

    settings = WitnessSettings(kind="ssh", host="192.0.2.3", required=is_required)
    run(tmp_path, work, settings)


@pytest.mark.parametrize("is_required", [True, False])
def test_when_the_votes_end_everything_is_killed_before_the_deadline(tmp_path: pathlib.Path, is_required: bool) -> None:
    async def work(node: Node, _peer: Peer) -> None:
        loop = asyncio.get_running_loop()
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        await asyncio.sleep(5.0)
        node.world.witness.is_deaf, node.link.answer = True, None
        deadline = votes_of(node).deadline
        while node.group.standing.role is Role.ACTIVE:
            await asyncio.sleep(0.01)
        while node.world.running():
            assert loop.time() < deadline
            await asyncio.sleep(0.01)
        assert "votes-lost" in node.codes()
        assert (node.run_dir / "track").read_text() == "1\n", "the VIP follows"

    settings = WitnessSettings(kind="ssh", host="192.0.2.3", required=is_required)
    run(tmp_path, work, settings)


def test_a_release_that_takes_long_renews_the_votes_and_kills_when_they_end_all_the_same(tmp_path: pathlib.Path) -> None:
    async def work(node: Node, _peer: Peer) -> None:
        loop = asyncio.get_running_loop()
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)

        async def stop(_order: StopOrder) -> None:
            await asyncio.sleep(1000)

        loader = node.group.loader
        loader.stop = stop  # type: ignore[method-assign, assignment]
        node.report(VrrpState.BACKUP)
        await asyncio.sleep(20.0)
        assert node.world.running() == THREE and node.world.keeper_deadline > loop.time()
        node.world.witness.is_deaf, node.link.answer = True, None
        await asyncio.sleep(TERMS.ttl_s - TERMS.margin_s)
        assert node.world.running() == []

    run(tmp_path, work)


def test_what_cannot_be_ended_keeps_no_votes(tmp_path: pathlib.Path) -> None:
    async def work(node: Node, peer: Peer) -> None:
        node.world.endless.add("p1")
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        node.report(VrrpState.BACKUP)
        while node.group.standing.role is not Role.FENCED:
            await asyncio.sleep(0.01)
        deadline = node.world.keeper_deadline
        await asyncio.sleep(2 * TERMS.ttl_s)
        assert node.world.keeper_deadline == deadline, "the keeper will act"
        assert peer.let_go == [] and votes_of(node).promised == ()
        for process in node.world.processes.values():
            process.endless = process.stubborn = False
        await node.await_role(Role.STANDBY)
        assert node.world.keeper_deadline == 0

    run(tmp_path, work)


def test_an_agent_that_is_started_again_goes_on_with_its_votes(tmp_path: pathlib.Path) -> None:
    async def work(node: Node, _peer: Peer) -> None:
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        await asyncio.sleep(5.0)
        # By the peer's vote alone: the note does not tell of it.
        node.world.witness.is_deaf = True
        await asyncio.sleep(2 * TERMS.ttl_s)
        await node.kill()
        await asyncio.sleep(1.0)
        fresh = again(node)
        await fresh.begin()
        await asyncio.sleep(3 * TERMS.ttl_s)
        assert fresh.group.standing.role is Role.ACTIVE and fresh.world.running() == THREE
        assert "votes-lost" not in fresh.codes()
        await fresh.kill()
        fresh.close()

    run(tmp_path, work)


def test_an_agent_that_comes_back_too_late_releases(tmp_path: pathlib.Path) -> None:
    async def work(node: Node, _peer: Peer) -> None:
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        await node.kill()
        await asyncio.sleep(TERMS.ttl_s)
        fresh = again(node)
        await fresh.begin()
        await fresh.await_code("votes-lost")
        await fresh.await_code("released")
        assert [verb for verb, _ in fresh.world.log].count("end") == 3
        await fresh.kill()
        fresh.close()

    run(tmp_path, work)


@pytest.mark.parametrize("was_armed", [False, True])
def test_what_ran_before_there_was_a_witness_runs_on(tmp_path: pathlib.Path, was_armed: bool) -> None:
    """``was_armed``: there was one, and the note of it is lost."""

    async def work(node: Node, _peer: Peer) -> None:
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        await node.kill()
        (node.run_dir / "votes.json").unlink()
        if was_armed:
            await asyncio.sleep(TERMS.ttl_s)
        else:
            node.world.keeper_deadline = 0.0
        fresh = again(node)
        await fresh.begin()
        await asyncio.sleep(3 * TERMS.ttl_s)
        if was_armed:
            assert "votes-lost" in fresh.codes()
        else:
            assert fresh.world.running() == THREE and fresh.world.keeper_deadline > 0
            assert not votes_of(fresh).adopts and votes_of(fresh).find_left_s() is not None
        await fresh.kill()
        fresh.close()

    run(tmp_path, work)


async def run_prefix(node: Node, plan: tuple[Step, ...], count: int) -> None:
    """Runs the first ``count`` steps of a plan."""
    done = PlanRun("prefix", "test")
    await done.run(plan[:count], {**node.group.takeover.steps, **node.group.release.steps})
    assert done.done is True, done.failure


@pytest.mark.parametrize("released", range(len(RELEASE_STEPS) + 1))
@pytest.mark.parametrize("taken", range(len(TAKEOVER_STEPS) + 1))
def test_after_any_prefix_of_both_procedures_what_runs_is_held_by_the_keeper(
    tmp_path: pathlib.Path, taken: int, released: int
) -> None:
    async def work(node: Node, _peer: Peer) -> None:
        world = node.world
        for plan, count in ((TAKEOVER_STEPS, taken), (RELEASE_STEPS, released), (TAKEOVER_STEPS, len(TAKEOVER_STEPS))):
            await run_prefix(node, plan, count)
            if world.running() or any((node.run_dir / "active").iterdir()):
                assert world.keeper_deadline > asyncio.get_running_loop().time()
        assert world.running() == THREE
        await run_prefix(node, RELEASE_STEPS, len(RELEASE_STEPS))
        assert world.running() == [] and world.keeper_deadline == 0

    run(tmp_path, work)


@pytest.mark.parametrize("at", TAKEOVER_STEPS)
def test_a_takeover_whose_votes_end_before_a_step_starts_nothing_by_it(tmp_path: pathlib.Path, at: Step) -> None:
    """The agent is stopped between two steps, for longer than its promises last; the keeper has acted meanwhile."""

    async def work(node: Node, peer: Peer) -> None:
        takeover, world = node.group.takeover, node.world
        code = takeover.steps[at]

        async def late() -> Any:
            if votes_of(node).find_left_s() is not None:
                world.witness.is_deaf, node.link.answer = True, None
                await asyncio.sleep(TERMS.ttl_s)
            return await code()

        takeover.steps[at] = late
        done = PlanRun("takeover", "test")
        await done.run(TAKEOVER_STEPS, takeover.steps)
        if at is Step.AFTER_START:
            assert done.done is False and "votes have ended" in str(done.failure)
        elif at in (Step.BEFORE_START, Step.ACTIVATE, Step.LOAD):
            assert done.done is False and "votes have ended" in str(done.failure)
            assert world.running() == [] and peer.let_go == []
        else:
            assert world.running() == THREE or at is Step.ORPHANS

    run(tmp_path, work)


@pytest.mark.parametrize(
    ("is_linked", "renews", "gives_way"), [(False, True, True), (True, True, False), (False, False, False)]
)
def test_a_node_gives_the_vip_up_where_the_peer_renews_and_cannot_be_reached(
    tmp_path: pathlib.Path, is_linked: bool, renews: bool, gives_way: bool
) -> None:
    async def work(node: Node, peer: Peer) -> None:
        witness = node.world.witness
        for counter in range(9, 12):
            witness.sight = Sight(counter, Record("b", "x", counter, 0, 3000))
            await asyncio.sleep(1.0)
        node.link.is_up = is_linked
        if not is_linked:
            node.link.answer = None
        peer.word = "silent"
        node.report(VrrpState.MASTER)
        for counter in range(12, 17):
            if renews:
                witness.sight = Sight(counter, Record("b", "x", counter, 0, 3000))
            await asyncio.sleep(0.5)
        node.group.waker.wake()
        await asyncio.sleep(0.1)
        holds = "the peer holds the votes, and cannot be reached"
        assert (node.group.fitness.reason == holds) is gives_way
        if gives_way:
            await asyncio.sleep(2 * TERMS.ttl_s)
            node.group.waker.wake()
            await asyncio.sleep(0.1)
            assert node.group.fitness.reason != holds, "it renews no more"

    run(tmp_path, work, takeover=TakeoverSettings(silent_peer_s=1.0, retry_s=0.05))


def test_no_hook_before_a_stop_keeps_programs_running_beyond_the_votes(tmp_path: pathlib.Path) -> None:
    """Without a keeper the agent itself must kill in time, whatever an operator's hook is waiting for."""

    async def work(node: Node, _peer: Peer) -> None:
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        node.world.hook_codes["/hook/everywhere"] = None
        node.report(VrrpState.BACKUP)
        await asyncio.sleep(0.5)
        assert node.world.running() == THREE, "the hook is under way"
        node.world.witness.is_deaf, node.link.answer = True, None
        await asyncio.sleep(TERMS.ttl_s)
        assert node.world.running() == []

    run(tmp_path, work, replace(WITNESS, required=False))
