"""The role loop: what it makes of keepalived's reports, lost, late and doubled ones too, of its own end, and of the peer."""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ha_agent.core.peer_summary import summary_message
from ha_agent.core.transaction import Watermark
from ha_agent.core.transitions import Transition, Verification
from ha_agent.core.words import Role, VrrpState
from ha_agent.daemon.role.fitness import HOLD_LEAST_S
from ha_agent.daemon.role.loop import FAILURES
from tests.unit.fakes import Node, World, conf


def run(tmp_path: pathlib.Path, work: Callable[[Node], Awaitable[None]]) -> None:
    async def main() -> None:
        node = Node(World(tmp_path))
        node.write(p0=conf("p0"), p1=conf("p1"))
        await node.begin()
        try:
            await work(node)
        finally:
            await node.kill()
            node.close()

    asyncio.run(main())


STATES = st.lists(
    st.sampled_from([VrrpState.MASTER, VrrpState.BACKUP, VrrpState.FAULT, VrrpState.STOP, None]), min_size=1, max_size=6
)
"""Reports of keepalived; None is a moment for the agent to act."""


@given(states=STATES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_was_reported_before_the_newest_report_decides(
    tmp_path_factory: pytest.TempPathFactory, states: list[VrrpState | None]
) -> None:
    async def work(node: Node) -> None:
        last = VrrpState.UNKNOWN
        for state in states:
            if state is None:
                await asyncio.sleep(0.002)
                continue
            last = state
            node.report(state)
        expected = Role.ACTIVE if last is VrrpState.MASTER else Role.STANDBY
        # A report that is overtaken may begin a plan that is then abandoned: it settles all the same.
        await asyncio.sleep(0)
        await node.await_role(expected)
        assert node.world.running() == (["p0", "p1"] if expected is Role.ACTIVE else [])
        starts: dict[str, int] = {}
        for verb, group in node.world.log:
            starts[group] = starts.get(group, 0) + (1 if verb == "start" else -1)
            assert starts[group] in (0, 1), "a second copy was started"

    run(tmp_path_factory.mktemp("node"), work)


def test_the_same_report_twice_changes_nothing(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        before = list(node.world.log)
        node.report(VrrpState.MASTER)
        await asyncio.sleep(0.02)
        assert node.group.standing.role is Role.ACTIVE and node.world.log == before
        assert node.codes().count("takeover-done") == 1

    run(tmp_path, work)


def test_a_report_of_an_earlier_keepalived_does_not_count(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        node.keepalived = (51, 5000)
        node.group.waker.wake()
        await node.await_role(Role.STANDBY)
        assert node.group.standing.vrrp_state is VrrpState.UNKNOWN

    run(tmp_path, work)


@pytest.mark.parametrize("loss", ["keepalived", "vip", "supervisord"])
def test_a_node_that_lost_its_right_stops_without_being_told(tmp_path: pathlib.Path, loss: str) -> None:
    async def work(node: Node) -> None:
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        if loss == "keepalived":
            node.keepalived = None
        elif loss == "vip":
            node.world.vip = False
            node.group.addresses_changed()
        else:
            node.world.is_supervisord_up = False
            node.group.supervisord_ended()
        node.group.waker.wake()
        async with asyncio.timeout(5.0):
            while node.world.running():
                await asyncio.sleep(0.005)
        assert node.group.standing.role is not Role.ACTIVE

    run(tmp_path, work)


def test_a_vip_that_a_killed_keepalived_left_is_removed(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        node.keepalived = None
        node.group.waker.wake()
        await node.await_role(Role.STANDBY)
        assert node.world.vip is False

    run(tmp_path, work)


def test_a_peer_that_is_active_under_a_newer_epoch_takes_the_right_away(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        older = summary_message("b", Role.ACTIVE, VrrpState.MASTER, Watermark(0, "b"), 0, "")
        node.group.conversation.learn(older)
        await asyncio.sleep(0.01)
        assert node.group.standing.role is Role.ACTIVE
        newer = summary_message("b", Role.ACTIVE, VrrpState.MASTER, Watermark(9, "b"), 0, "")
        node.group.conversation.learn(newer)
        node.group.waker.wake()
        async with asyncio.timeout(5.0):
            while "superseded" not in node.codes():
                await asyncio.sleep(0.002)

    run(tmp_path, work)


def test_under_maintenance_nothing_is_decided(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        node.shared.maintenance.begin(60.0, "why", "alice")
        node.report(VrrpState.BACKUP)
        await asyncio.sleep(0.02)
        assert node.group.standing.role is Role.ACTIVE and node.world.running() == ["p0", "p1"]
        node.shared.maintenance.end("alice")
        node.group.waker.wake()
        await node.await_role(Role.STANDBY)
        assert node.world.running() == []

    run(tmp_path, work)


def test_an_agents_own_restart_changes_nothing(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        before, claim = list(node.world.log), node.group.standing.claim
        await node.kill()
        again = Node(node.world)
        await again.begin()
        try:
            await again.await_role(Role.ACTIVE)
            await asyncio.sleep(0.02)
            assert again.world.log == before and again.group.standing.claim == claim
            assert again.group.ledger.known == claim
        finally:
            await again.kill()
            again.close()

    run(tmp_path, work)


def test_a_damaged_role_file_releases_everything(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        await node.kill()
        (node.run_dir / "role.json").write_text("{")
        node.report(VrrpState.BACKUP)
        again = Node(node.world)
        await again.begin()
        try:
            await again.await_role(Role.STANDBY)
            assert again.world.running() == [] and "role-damaged" in again.codes()
        finally:
            await again.kill()
            again.close()

    run(tmp_path, work)


def test_listeners_hear_of_each_change_with_its_plan_and_of_what_became_of_the_programs(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        heard: list[Transition] = []
        seen: list[Verification] = []
        node.group.loop.on_transition.append(heard.append)
        node.group.verifier.listeners.append(seen.append)
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        assert [(t.before, t.after) for t in heard] == [
            (Role.STANDBY, Role.TAKING_OVER),
            (Role.TAKING_OVER, Role.ACTIVE),
        ]
        first, second = heard
        assert first.took_s is None and not first.steps
        assert second.took_s is not None and second.steps[0]["step"] == "claim"
        assert Transition.from_event(second.event) == second
        async with asyncio.timeout(5.0):
            while not seen:
                await asyncio.sleep(0.005)
        assert (seen[0].running, seen[0].failed, seen[0].resumed) == (2, {}, False)

    run(tmp_path, work)


def test_a_higher_epoch_of_a_standby_is_outbid_and_one_of_an_active_peer_is_not(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        stale = {"answer": "STALE", "epoch": 7, "claimed_by": "b", "role": "active"}
        for listener in node.group.replicator.on_stale:
            listener(stale)
            listener(stale)
        assert node.codes().count("split-brain") == 1
        await asyncio.sleep(0.01)
        assert node.group.standing.claim == Watermark(1, "a")
        for listener in node.group.replicator.on_stale:
            listener({**stale, "role": "standby"})
        async with asyncio.timeout(5.0):
            while node.group.standing.claim.epoch == 1:
                await asyncio.sleep(0.002)
        assert node.group.standing.claim == Watermark(8, "a") == node.group.ledger.known

    run(tmp_path, work)


def test_an_active_node_whose_report_is_lost_stays_active_when_keepalived_says_master(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        before = list(node.world.log)
        node.unit.state = VrrpState.MASTER
        lose_reports(node)
        await node.await_code("vrrp-asked")
        assert node.group.standing.role is Role.ACTIVE and node.world.log == before
        assert node.group.standing.vrrp_state is VrrpState.MASTER

    run(tmp_path, work)


@pytest.mark.parametrize("state", [VrrpState.BACKUP, VrrpState.FAULT, VrrpState.UNKNOWN])
def test_an_active_node_whose_report_is_lost_releases_when_keepalived_says_something_else(
    tmp_path: pathlib.Path, state: VrrpState
) -> None:
    async def work(node: Node) -> None:
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        node.unit.state = state
        lose_reports(node)
        await node.await_role(Role.STANDBY)
        assert node.world.running() == []

    run(tmp_path, work)


def test_a_keepalived_that_does_not_answer_is_told_to_give_up_so_that_it_reports(
    tmp_path: pathlib.Path,
) -> None:
    async def work(node: Node) -> None:
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        node.unit.state = None
        lose_reports(node)
        await node.await_role(Role.STANDBY)
        assert node.world.running() == [] and (node.run_dir / "track").read_text(encoding="ascii") == "1\n"
        assert "does not answer" in str(node.group.fitness.reason)
        node.report(VrrpState.FAULT)
        async with asyncio.timeout(HOLD_LEAST_S + 3.0):
            while (node.run_dir / "track").read_text(encoding="ascii") != "0\n":
                node.group.waker.wake()
                await asyncio.sleep(0.02)

    run(tmp_path, work)


def test_a_look_that_fails_is_told_and_tried_again(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        node.world.vip_failure = OSError("no netlink")
        node.group.addresses_changed()
        await node.await_code("look-failed")
        node.world.vip_failure = None
        node.report(VrrpState.BACKUP)
        await node.await_role(Role.STANDBY)

    run(tmp_path, work)


def test_the_last_of_several_looks_that_fail_ends_the_agent(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        node = Node(World(tmp_path))
        node.world.vip_failure = OSError("no netlink")
        loop = asyncio.create_task(node.group.loop.run())
        async with asyncio.timeout(10.0):
            while not loop.done():
                node.group.addresses_changed()
                await asyncio.sleep(0.005)
        node.close()
        assert isinstance(loop.exception(), OSError) and node.codes().count("look-failed") == FAILURES

    asyncio.run(main())


def lose_reports(node: Node) -> None:
    """Somebody empties the spool."""
    for path in (node.run_dir / "notify").iterdir():
        path.unlink()
    node.group.waker.wake()
