"""An operator's word that the other machine is off: good for the takeover that waits, and for nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ha_agent.core.orders import Orders
from ha_agent.core.peer_summary import WrongPeer, summary_message
from ha_agent.core.requests import Malformed, PeerIsOffRequest
from ha_agent.core.settings import TakeoverSettings
from ha_agent.core.transaction import Watermark
from ha_agent.core.words import Outcome, Role, VrrpState
from ha_agent.daemon.operations.orders import OrderOperations
from ha_agent.daemon.role.hold_notice import tell_what_hold_means
from tests.unit.fakes import Node, World, conf
from tests.unit.fakes_operations import operator

HOLD = TakeoverSettings(on_interlock_timeout="hold", retry_s=0.05, silent_peer_s=0.2, peer_probe_s=0.05)
BURNT = PeerIsOffRequest("b", "burnt")


def operations(node: Node) -> OrderOperations:
    """The operation as it is wired, but for the time that its look takes."""
    group = node.group
    return OrderOperations(
        "b",
        group.standing,
        node.shared.maintenance,
        node.shared.standby_order,
        group.fitness,
        group.peer_off,
        group.conversation,
        node.link,
        group.is_peer_machine_up,
        group.loop.retry_now,
        group.waker.wake,
        lambda: 1000.0,
        needs_votes=node.group.votes.is_needed,
    )


def run(tmp_path: pathlib.Path, work: Callable[[Node], Awaitable[None]], limits: TakeoverSettings = HOLD) -> None:
    async def main() -> None:
        node = Node(World(tmp_path), takeover=limits)
        node.write(p0=conf("p0"), p1=conf("p1"))
        node.link.is_up = False
        try:
            await node.begin()
            await work(node)
        finally:
            await node.kill()
            node.close()

    asyncio.run(main())


async def hold(node: Node) -> None:
    """A takeover that waits for the word of a machine that is off."""
    node.report(VrrpState.MASTER)
    async with asyncio.timeout(5):
        while node.group.standing.held is None:
            await asyncio.sleep(0.005)
    assert node.world.running() == []


def settled(node: Node) -> list[dict[str, Any]]:
    return [dict(e) for e in node.group.events.read(1000) if e["code"] == "interlock-settled"]


def test_what_is_held_is_started_once_with_an_operators_word_and_the_history_says_whose(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        await hold(node)
        assert (await operations(node).declare_peer_off(BURNT, operator()))["outcome"] is Outcome.BEGUN
        await node.await_role(Role.ACTIVE)
        assert node.world.running() == ["p0", "p1"] and node.world.log.count(("start", "p0")) == 1
        assert node.group.standing.held is None
        held, started = settled(node)
        assert not held["started"] and started["started"]
        assert (started["by"], started["reason"]) == ("alice", "burnt") and "says that it is off" in started["text"]
        (given,) = [e for e in node.group.events.read(1000) if e["code"] == "peer-declared-off"]
        assert (given["by"], given["reason"], given["epoch"]) == ("alice", "burnt", node.group.standing.claim.epoch)

    run(tmp_path, work)


def test_the_word_stands_for_a_fence_command_that_fails(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.machine.fence_exit = 1
        await hold(node)
        await operations(node).declare_peer_off(BURNT, operator())
        await node.await_role(Role.ACTIVE)

    run(tmp_path, work, TakeoverSettings(on_interlock_timeout="hold", retry_s=0.05, fence_command=("/bin/fence",)))


def test_the_word_outlives_a_retry_of_its_takeover(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        await hold(node)
        node.world.is_supervisord_up = True
        node.world.hangs = True
        await operations(node).declare_peer_off(BURNT, operator())
        await asyncio.sleep(0.5)
        assert node.group.standing.role is Role.TAKING_OVER
        node.world.hangs = False
        await node.await_role(Role.ACTIVE)

    run(tmp_path, work)


def test_the_word_is_over_with_its_takeover(tmp_path: pathlib.Path) -> None:
    """The pair goes on; the machine dies once more, and the next takeover needs a word of its own."""

    async def work(node: Node) -> None:
        await hold(node)
        await operations(node).declare_peer_off(BURNT, operator())
        await node.await_role(Role.ACTIVE)
        node.report(VrrpState.BACKUP)
        await node.await_role(Role.STANDBY)
        await hold(node)
        await asyncio.sleep(0.3)
        assert node.group.standing.held is not None and node.world.running() == []
        assert [e["started"] for e in settled(node)] == [False, True, False], "each takeover has its line"

    run(tmp_path, work)


def test_a_takeover_that_is_given_up_takes_the_word_along(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        await hold(node)
        word = operations(node)
        node.machine.peer_answers = False
        await word.declare_peer_off(BURNT, operator())
        node.report(VrrpState.FAULT)
        await node.await_role(Role.STANDBY)
        assert node.group.peer_off.find(node.group.standing.claim) is None

    run(tmp_path, work)


@pytest.mark.parametrize("believed", [True, False])
def test_a_sign_of_life_of_the_peer_ends_the_word(tmp_path: pathlib.Path, believed: bool) -> None:
    """Also one that is not believed: whoever speaks is not off."""

    async def work(node: Node) -> None:
        await hold(node)
        group, claim = node.group, node.group.standing.claim
        node.world.hangs = True
        await operations(node).declare_peer_off(BURNT, operator())
        assert group.peer_off.find(claim) is not None
        said = summary_message("b" if believed else "x", Role.STANDBY, VrrpState.BACKUP, Watermark(0, "b"), 0, "")
        with contextlib.nullcontext() if believed else pytest.raises(WrongPeer):
            group.conversation.learn(said)
        assert group.peer_off.find(claim) is None
        assert "peer-not-off" in node.codes()

    run(tmp_path, work)


def test_a_machine_that_answers_after_all_ends_the_word(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        await hold(node)
        node.world.hangs = True
        await operations(node).declare_peer_off(BURNT, operator())
        node.machine.peer_answers = True
        await node.await_code("peer-not-off")
        node.world.hangs = False
        await asyncio.sleep(0.3)
        assert node.world.running() == [] and node.group.standing.held is not None

    run(tmp_path, work)


def test_an_agent_that_is_started_again_does_not_know_the_word(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        node = Node(world, takeover=HOLD)
        node.write(p0=conf("p0"))
        node.link.is_up = False
        await node.begin()
        await hold(node)
        world.hangs = True
        await operations(node).declare_peer_off(BURNT, operator())
        await node.kill()
        world.hangs = False
        again = Node(world, takeover=HOLD)
        again.link.is_up = False
        try:
            await again.begin()
            await hold(again)
            await asyncio.sleep(0.3)
            assert world.running() == []
        finally:
            await again.kill()
            again.close()

    asyncio.run(main())


def _is_active(node: Node) -> None:
    node.group.standing.become(Role.ACTIVE)


def _answers(node: Node) -> None:
    node.machine.peer_answers = True


def _is_linked(node: Node) -> None:
    node.link.is_up = True


def _is_maintained(node: Node) -> None:
    node.shared.maintenance.begin(60.0, "", "alice")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_is_active, "a is active already"),
        (_answers, "its machine answers"),
        (_is_linked, "its agent answers"),
        (_is_maintained, "ha-agent maintenance off"),
    ],
)
def test_the_word_is_refused_where_it_can_be_seen_to_be_wrong(
    tmp_path: pathlib.Path, change: Callable[[Node], None], said: str
) -> None:
    async def work(node: Node) -> None:
        await hold(node)
        change(node)
        answer = await operations(node).declare_peer_off(BURNT, operator())
        assert answer["outcome"] is Outcome.REFUSED and said in answer["reason"]
        assert node.group.peer_off.find(node.group.standing.claim) is None
        assert "peer-declared-off" not in node.codes()

    run(tmp_path, work)


def test_the_word_must_name_the_other_node(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        await hold(node)
        with pytest.raises(Malformed, match="the other node is called b"):
            await operations(node).declare_peer_off(PeerIsOffRequest("a"), operator())

    run(tmp_path, work)


def test_every_takeover_has_its_line_of_what_was_decided_without_the_peer(tmp_path: pathlib.Path) -> None:
    """Guarantee 6: the same words as last time are no reason to leave the second decision out."""

    async def work(node: Node) -> None:
        for _ in range(2):
            node.report(VrrpState.MASTER)
            await node.await_role(Role.ACTIVE)
            node.report(VrrpState.BACKUP)
            await node.await_role(Role.STANDBY)
        assert [e["started"] for e in settled(node)] == [True, True]

    run(tmp_path, work, TakeoverSettings(retry_s=0.05, silent_peer_s=0.2, peer_probe_s=0.05))


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        (TakeoverSettings(), 0),
        (TakeoverSettings(on_interlock_timeout="hold-if-alive"), 0),
        (TakeoverSettings(on_interlock_timeout="hold", fence_command=("/bin/fence",)), 0),
        (TakeoverSettings(on_interlock_timeout="hold"), 1),
    ],
)
def test_what_hold_means_is_said_once_where_it_may_be_taken_for_what_it_meant(
    tmp_path: pathlib.Path, limits: TakeoverSettings, told: int
) -> None:
    async def work(node: Node) -> None:
        note, events = str(tmp_path / "hold-told"), node.group.events
        for _ in range(3):
            tell_what_hold_means(limits, note, events)
        assert node.codes().count("hold-notice") == told
        tell_what_hold_means(TakeoverSettings(), note, events)
        tell_what_hold_means(limits, note, events)
        assert node.codes().count("hold-notice") == 2 * told, "a policy that was changed is told of again"

    run(tmp_path, work)


def test_signs_of_life_say_what_an_operator_has_ordered(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        assert node.group.conversation.summary()["maintenance"] is False
        node.shared.maintenance.begin(60.0, "", "alice")
        said = node.group.conversation.summary()
        assert said["maintenance"] is True
        plain = summary_message("b", Role.STANDBY, VrrpState.BACKUP, Watermark(0, "b"), 0, "", None, orders=Orders(True))
        node.group.conversation.learn(plain)
        peer = node.group.conversation.peer
        assert peer is not None and peer.in_maintenance is True and peer.stays_standby is False

    run(tmp_path, work)
