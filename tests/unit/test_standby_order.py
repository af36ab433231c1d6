"""A node that is to stay standby by an operator's order: what it does then, what outlives what, and when it is refused."""

from __future__ import annotations

import asyncio
import pathlib
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from ha_agent.adapters.store import History
from ha_agent.core.orders import Orders, StandbyFacts, StandbyOrder, why_never_standby, why_not_standby
from ha_agent.core.requests import HandOverRequest, StandbyRequest
from ha_agent.core.words import Outcome, Role, VrrpState
from ha_agent.daemon.events import Events
from ha_agent.daemon.role.standby_order import StandbyOrders
from tests.unit.fakes import Node, World, conf
from tests.unit.fakes_operations import Node as Desk
from tests.unit.fakes_operations import operator
from tests.unit.test_operations_node import on_active

FINE = StandbyFacts("b", "a", Role.STANDBY, False, Role.ACTIVE, False)


# ---- when it is refused ---------------------------------------------------------------------------------------


def test_a_standby_beside_an_active_node_may_be_ordered_to_stay_so() -> None:
    assert why_never_standby(FINE) is None and why_not_standby(FINE) is None
    assert why_not_standby(replace(FINE, role=Role.FENCED)) is None


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (replace(FINE, peer_role=None), "a cannot be reached: while b stays standby, nothing may run"),
        (replace(FINE, peer_stays_standby=True), "nothing would run; first: ha-agent unstandby a"),
        (replace(FINE, role=Role.ACTIVE, peer_role=Role.STANDBY), "hand over first: ha-agent switchover"),
        (replace(FINE, role=Role.RELEASING), "b is releasing just now"),
        (replace(FINE, role=Role.TAKING_OVER), "b is taking_over just now"),
        (replace(FINE, peer_role=Role.STANDBY), "a is standby, not active"),
        (replace(FINE, peer_role=Role.FENCED), "a is fenced, not active"),
    ],
)
def test_an_order_after_which_nothing_might_run_is_refused_and_can_be_forced(facts: StandbyFacts, said: str) -> None:
    assert said in str(why_not_standby(facts)) and why_never_standby(facts) is None


def test_in_maintenance_no_force_orders_it() -> None:
    assert "ha-agent maintenance off" in str(why_never_standby(replace(FINE, in_maintenance=True)))


# ---- the order itself -----------------------------------------------------------------------------------------


def make(directory: pathlib.Path) -> StandbyOrders:
    made = StandbyOrders(str(directory / "standby.json"), Events(History(str(directory), "n", 10**6)), lambda: 1000.0)
    made.load()
    return made


def codes(directory: pathlib.Path) -> list[str]:
    return [str(e["code"]) for e in History(str(directory), "n", 10**6).read(100)]


def test_an_order_outlives_the_agent_and_ends_when_it_is_lifted(tmp_path: pathlib.Path) -> None:
    assert make(tmp_path).order is None
    make(tmp_path).give("new disks", "alice")
    again = make(tmp_path)
    assert again.order == StandbyOrder(1000.0, "alice", "new disks")
    assert again.find_reason() == "alice ordered it to stay standby (new disks)"
    assert again.lift("done", "bob") and again.order is None
    assert make(tmp_path).order is None and not make(tmp_path).lift("", "bob")
    assert codes(tmp_path) == ["standby-ordered", "standby-lifted"]
    last = History(str(tmp_path), "n", 10**6).read(1)[0]
    assert (last["by"], last["reason"]) == ("bob", "done")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"since": "x", "by": "a", "reason": ""}'])
def test_an_order_that_cannot_be_read_is_an_order(tmp_path: pathlib.Path, content: str) -> None:
    """The other way round a damaged disk would have a node take over that somebody is working on."""
    (tmp_path / "standby.json").write_text(content)
    found = make(tmp_path)
    assert found.order is not None and "cannot be read" in found.order.reason
    assert codes(tmp_path) == ["state-damaged"]
    assert found.lift("", "alice") and make(tmp_path).order is None


def test_an_order_that_cannot_be_written_is_none(tmp_path: pathlib.Path) -> None:
    events = Events(History(str(tmp_path), "n", 10**6))
    made = StandbyOrders(str(tmp_path / "nowhere" / "standby.json"), events, lambda: 1000.0)
    with pytest.raises(OSError):
        made.give("why", "alice")
    assert made.order is None


# ---- a node with it -------------------------------------------------------------------------------------------


def run(tmp_path: pathlib.Path, work: Callable[[Node], Awaitable[None]]) -> None:
    async def main() -> None:
        node = Node(World(tmp_path))
        node.write(p0=conf("p0"))
        node.link.is_up = False
        try:
            await node.begin()
            await work(node)
        finally:
            await node.kill()
            node.close()

    asyncio.run(main())


def track(node: Node) -> str:
    return (node.run_dir / "track").read_text(encoding="ascii").strip()


def test_a_node_that_is_to_stay_standby_tells_keepalived_fault_and_takes_over_nothing(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.shared.standby_order.give("", "alice")
        node.report(VrrpState.MASTER)
        await asyncio.sleep(0.3)
        assert node.group.standing.role is Role.STANDBY and node.world.running() == []
        assert track(node) == "1" and "alice ordered it" in str(node.group.fitness.reason)
        node.shared.standby_order.lift("", "alice")
        node.group.waker.wake()
        await node.await_role(Role.ACTIVE)
        assert track(node) == "0"

    run(tmp_path, work)


def test_an_agent_that_begins_with_the_order_never_says_that_it_is_fit(tmp_path: pathlib.Path) -> None:
    """Not even for the moment before its first look: keepalived would be MASTER in that."""

    async def main() -> None:
        world = World(tmp_path)
        first = Node(world)
        first.shared.standby_order.give("", "alice")
        await first.begin()
        await first.kill()
        assert track(first) == "1"
        second = Node(world)
        second.shared.standby_order.load()
        second.group.fitness.begin()
        assert track(second) == "1" and second.group.fitness.reason is not None
        second.close()

    asyncio.run(main())


def test_an_active_node_that_is_ordered_by_force_releases(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        node.shared.standby_order.give("", "alice")
        node.group.waker.wake()
        await node.await_role(Role.STANDBY)
        assert node.world.running() == [] and track(node) == "1"
        assert "stays-standby" in node.codes()

    run(tmp_path, work)


# ---- the operation --------------------------------------------------------------------------------------------


def test_the_order_is_given_and_ended_by_the_operation_and_the_peer_hears_of_it(tmp_path: pathlib.Path) -> None:
    async def work(node: Desk) -> None:
        node.standing.become(Role.STANDBY)
        node.link.role = Role.ACTIVE
        assert await node.orders.set_standby(StandbyRequest(True, "disks"), operator()) == {"outcome": Outcome.ON}
        assert node.group.conversation.summary()["stays_standby"] is True
        assert await node.orders.set_standby(StandbyRequest(False), operator()) == {"outcome": Outcome.OFF}
        assert node.group.conversation.summary()["stays_standby"] is False
        again = await node.orders.set_standby(StandbyRequest(False), operator())
        assert again == {"outcome": Outcome.OFF, "reason": "nobody had ordered it"}
        assert [c for c in node.codes() if c.startswith("standby-")] == ["standby-ordered", "standby-lifted"]

    on_active(tmp_path, work)


def test_the_operation_refuses_an_active_node_and_is_forced(tmp_path: pathlib.Path) -> None:
    async def work(node: Desk) -> None:
        answer = await node.orders.set_standby(StandbyRequest(True), operator())
        assert answer["outcome"] is Outcome.REFUSED and "ha-agent switchover" in answer["reason"]
        assert node.standby_order.order is None
        assert (await node.orders.set_standby(StandbyRequest(True, force=True), operator()))["outcome"] is Outcome.ON

    on_active(tmp_path, work)


def test_a_disk_that_fails_leaves_no_order_and_says_so(tmp_path: pathlib.Path) -> None:
    async def work(node: Desk) -> None:
        node.standing.become(Role.STANDBY)
        node.link.role = Role.ACTIVE
        shutil.rmtree(node.state_dir)
        answer = await node.orders.set_standby(StandbyRequest(True), operator())
        assert answer["outcome"] is Outcome.FAILED and "could not be written" in answer["reason"]
        assert node.standby_order.order is None

    on_active(tmp_path, work)


def test_no_force_hands_over_to_a_peer_that_is_to_stay_standby(tmp_path: pathlib.Path) -> None:
    async def work(node: Desk) -> None:
        node.link.orders = Orders(stays_standby=True)
        answer = await node.role.hand_over(HandOverRequest(force=True), operator())
        assert answer["outcome"] is Outcome.REFUSED and "ha-agent unstandby b" in answer["reason"]
        assert not node.group.fitness.gives_way

    on_active(tmp_path, work)
