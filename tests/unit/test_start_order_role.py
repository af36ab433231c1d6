"""Starts in order on a node: beside the role, never twice, over the agent's end, and not a moment longer than the role."""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ha_agent.core.order_keys import OrderKeys
from ha_agent.core.peer_summary import summary_message
from ha_agent.core.settings import OrderSettings
from ha_agent.core.transaction import Watermark
from ha_agent.core.words import Role, VrrpState
from ha_agent.daemon.alerts.alerting import PASSED_ON
from tests.unit.fakes import Node, World, conf
from tests.unit.timeless import run_timeless

Work = Callable[[Node], Awaitable[None]]
PORT = ("127.0.0.1", 6379)


def ordered(name: str, after: str, **more: object) -> str:
    """A conf of one program that waits."""
    lines = "".join(f"; ha-agent: {key} = {value}\n" for key, value in {"after": after, **more}.items())
    return f"[program:{name}]\n{lines}command=/bin/{name}\n"


CHAIN = {"a": conf("a"), "b": ordered("b", "a"), "c": ordered("c", "b")}


def run(tmp_path: pathlib.Path, work: Work, confs: dict[str, str], **limits: Any) -> None:
    """Has ``work`` done with a standby that has these confs."""

    async def main() -> None:
        node = Node(World(tmp_path), order=OrderSettings(**{"limit_s": 0.3, **limits}))
        node.write(**confs)
        await begin(node)
        try:
            await work(node)
        finally:
            await node.kill()
            node.close()

    run_timeless(main())


async def begin(node: Node) -> None:
    """Begins with verdicts on the confs, as the daemon does."""
    await node.begin()
    node.start_task(node.group.readiness.run())
    await await_true(lambda: node.group.active_set.has_judged)


async def await_true(look: Callable[[], object], limit_s: float = 5.0) -> None:
    """Waits until ``look`` is true."""
    async with asyncio.timeout(limit_s):
        while not look():
            await asyncio.sleep(0.002)


def starts(node: Node) -> list[str]:
    """What was started, in order."""
    return [group for verb, group in node.world.log if verb == "start"]


def hear(node: Node, role: Role = Role.STANDBY) -> None:
    """The peer gives a sign of life."""
    node.group.conversation.learn(summary_message("b", role, VrrpState.BACKUP, Watermark(), 0, ""))


def events(node: Node, code: str) -> list[dict[str, Any]]:
    """Those of the history with a code."""
    return [e for e in node.group.events.read(1000) if e["code"] == code]


async def up(node: Node, name: str) -> None:
    """A program comes up, and supervisord tells it."""
    node.world.starting.discard(name)
    node.group.start_order.wake()


@pytest.mark.parametrize("start_all", [False, True])
def test_a_pair_without_an_order_makes_the_requests_that_it_made(tmp_path: pathlib.Path, start_all: bool) -> None:
    async def work(node: Node) -> None:
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        await node.await_code("takeover-verified")
        assert node.world.requests == [("reloadConfig", *["addProcessGroup"] * 3)]
        assert node.group.standing.waits is None and not node.group.start_order.describe(0.0)
        assert not any(code.startswith(("order-", "wait-")) for code in node.codes())
        (done,) = events(node, "takeover-done")
        assert [step["step"] for step in done["steps"]] == ["claim", "interlock", "orphans", "activate", "load"]
        assert "held" not in done["steps"][-1]
        node.world.requests.clear()
        node.report(VrrpState.BACKUP)
        await node.await_role(Role.STANDBY)
        assert node.world.requests == [("stopProcess",) * 3, ("reloadConfig", *["removeProcessGroup"] * 3)]

    run(tmp_path, work, {name: conf(name) for name in "abc"})


def test_what_waits_for_nothing_starts_at_once_and_each_other_when_its_turn_comes(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.world.starting |= {"a", "b"}
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        assert node.world.requests == [("reloadConfig", "addProcessGroup", "addProcessGroup")]
        assert sorted(starts(node)) == ["a", "d"]
        await asyncio.sleep(0.05)
        described = node.group.start_order.describe(1000.0)
        assert [(w.group, w.words, w.given_up_wall) for w in described] == [("b", ("a",), None), ("c", ("b",), None)]
        await up(node, "a")
        await await_true(lambda: "b" in starts(node))
        await up(node, "b")
        await await_true(lambda: "c" in starts(node))
        await node.await_code("takeover-verified")
        assert sorted(starts(node)) == ["a", "b", "c", "d"]
        assert node.codes().index("order-done") < node.codes().index("takeover-verified")
        (done,) = events(node, "order-done")
        assert [step["name"] for step in done["path"]] == ["a", "b", "c"] and "a 0." in done["text"]
        assert node.group.standing.waits is None

    run(tmp_path, work, {**CHAIN, "d": conf("d")}, limit_s=30.0)


def test_an_address_is_asked_until_it_answers(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        await asyncio.sleep(0.05)
        assert starts(node) == []
        node.world.listening.add(PORT)
        await await_true(lambda: starts(node) == ["b"])

    run(tmp_path, work, {"b": ordered("b", "tcp://localhost:6379")}, limit_s=30.0)


@pytest.mark.parametrize("word", ["start", "skip", "fail"])
def test_a_wait_that_is_over_is_told_and_answered_as_the_conf_says(tmp_path: pathlib.Path, word: str) -> None:
    async def work(node: Node) -> None:
        node.world.starting.add("a")
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        await node.await_code("wait-timed-out")
        (event,) = events(node, "wait-timed-out")
        assert event["words"] == ["a"]
        if word == "start":
            assert event["how"] == "late" and event["text"].startswith("b is started without a, which did not come in 0.3 s")
            assert starts(node) == ["a", "b"] and node.group.start_order.describe(0.0) == ()
            return
        assert starts(node) == ["a"] and event["text"].startswith("b is not started: a")
        (lost,) = node.group.start_order.describe(1000.0)
        assert (lost.group, lost.words) == ("b", ("a",)) and lost.given_up_wall is not None
        assert node.group.standing.role is Role.ACTIVE, "nobody is fit to take over"

    run(tmp_path, work, {"a": conf("a"), "b": ordered("b", "a", on_timeout=word)})


def test_a_node_whose_wait_fails_gives_way_to_a_standby_that_is_fit(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.world.starting.add("a")
        node.report(VrrpState.MASTER)
        hear(node)
        await node.await_role(Role.ACTIVE)
        await await_true(lambda: node.group.fitness.gives_way)
        await node.await_code("wait-failed")
        await node.await_role(Role.STANDBY)
        assert node.world.running() == []
        assert node.group.fitness.reason is not None and "b is not started: a" in node.group.fitness.reason

    run(tmp_path, work, {"a": conf("a"), "b": ordered("b", "a", on_timeout="fail")})


def test_a_program_that_is_refused_when_its_turn_comes_is_told(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.world.refuses_groups.add("b")
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        await node.await_code("start-refused")
        (event,) = events(node, "start-refused")
        assert event["group_name"] == "b" and event["text"] == "supervisord refuses to start b: BAD_GROUP: b"
        await node.await_code("order-done")
        assert starts(node) == ["a", "c"], "what waits for it is started late"
        assert "start-refused" in PASSED_ON

    run(tmp_path, work, CHAIN)


@pytest.mark.parametrize("gone", ["parked", "removed", "bad"])
def test_a_name_that_is_not_there_holds_nothing_up(tmp_path: pathlib.Path, gone: str) -> None:
    confs = {"b": ordered("b", "a")}
    if gone == "bad":
        confs["a"] = conf("a") + "; bad\n"

    async def work(node: Node) -> None:
        if gone == "parked":
            (node.registry / "a.conf.parked").write_text(conf("a"), encoding="utf-8")
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        assert node.world.requests == [("reloadConfig", "addProcessGroup")] and starts(node) == ["b"]
        (event,) = events(node, "order-begun")
        assert event["text"] == "nothing waits; not b for a: it is not there: parked, removed, or not loadable here"

    run(tmp_path, work, confs, limit_s=30.0)


def test_a_circle_holds_nothing_up(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        assert sorted(starts(node)) == ["a", "b"]

    run(tmp_path, work, {"a": ordered("a", "b"), "b": ordered("b", "a")}, limit_s=30.0)


def test_what_is_parked_during_the_wait_is_not_waited_for_any_longer(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.world.starting.add("a")
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        (node.registry / "a.conf").rename(node.registry / "a.conf.parked")
        await node.group.view.refresh({"a.conf", "a.conf.parked"})
        await await_true(lambda: "b" in starts(node))
        assert not events(node, "wait-timed-out")

    run(tmp_path, work, {"a": conf("a"), "b": ordered("b", "a")}, limit_s=30.0)


def test_a_start_by_hand_does_not_wait_and_is_not_repeated(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.world.starting.add("a")
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        node.world.add("b")
        await node.await_code("order-done")
        assert starts(node) == ["a", "b"] and events(node, "order-done")[0]["waits"][0]["how"] == "by-hand"

    run(tmp_path, work, {"a": conf("a"), "b": ordered("b", "a")}, limit_s=30.0)


def test_in_maintenance_nothing_that_waits_is_started(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.world.starting.add("a")
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        node.shared.maintenance.begin(60.0, "work", "root")
        await up(node, "a")
        await asyncio.sleep(0.5)
        assert starts(node) == ["a"]
        node.shared.maintenance.end("root")
        await await_true(lambda: starts(node) == ["a", "b"])

    run(tmp_path, work, {"a": conf("a"), "b": ordered("b", "a")}, limit_s=30.0)


@pytest.mark.parametrize("state", [VrrpState.BACKUP, VrrpState.FAULT])
def test_a_change_of_role_during_a_wait_ends_it_at_once(tmp_path: pathlib.Path, state: VrrpState) -> None:
    async def work(node: Node) -> None:
        node.world.starting.add("a")
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        node.report(state)
        await up(node, "a")
        await node.await_role(Role.STANDBY)
        (event,) = events(node, "order-broken-off")
        assert event["waits"] == [{"group": "b", "for": ["a"]}]
        await asyncio.sleep(0.5)
        assert starts(node) == ["a"] and node.world.running() == [] and node.group.standing.waits is None

    run(tmp_path, work, {"a": conf("a"), "b": ordered("b", "a")})


def test_a_supervisord_that_is_replaced_begins_the_order_anew(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.world.starting.add("a")
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        node.world.is_supervisord_up = False
        node.group.supervisord_ended()
        for pid in list(node.world.processes):
            node.world.end(pid)
        node.world.restart_supervisord()
        node.group.waker.wake()
        await node.await_code("supervisord-replaced")
        await node.await_role(Role.ACTIVE)
        assert starts(node) == ["a", "a"]
        await up(node, "a")
        await await_true(lambda: starts(node) == ["a", "a", "b"])

    run(tmp_path, work, {"a": conf("a"), "b": ordered("b", "a")}, limit_s=30.0)


def again(node: Node) -> Node:
    """Another agent over the same machine, disk and /run."""
    fresh = Node(node.world, order=node.group.settings.order)
    fresh.keepalived = node.keepalived
    return fresh


@pytest.mark.parametrize("moment", ["waiting", "told", "started", "written", "over"])
def test_an_agent_that_is_killed_at_any_moment_goes_on_where_it_was(tmp_path: pathlib.Path, moment: str) -> None:
    async def work(node: Node) -> None:
        node.world.starting.add("a")
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        cut_at(node, moment)
        if moment != "waiting":
            await up(node, "a")
            await asyncio.sleep(0.4)
        await node.kill()
        fresh = again(node)
        try:
            await begin(fresh)
            await up(fresh, "a")
            await await_true(lambda: sorted(fresh.world.running()) == ["a", "b", "c"])
            await await_true(lambda: fresh.group.standing.waits is None)
            assert starts(fresh) == ["a", "b", "c"], "nothing twice, nothing before its turn"
        finally:
            await fresh.kill()
            fresh.close()

    run(tmp_path, work, CHAIN, limit_s=30.0)


def cut_at(node: Node, moment: str) -> None:
    """Has the work of the order end at a moment, as by the agent's end; ``over`` lets it come to its own."""
    supervised, standing = node.shared.supervised, node.group.standing
    batch, note = supervised.batch, standing.note_waits

    async def cut_batch(calls: Any) -> Any:
        if moment == "told":
            raise asyncio.CancelledError
        answers = await batch(calls)
        if moment == "started":
            raise asyncio.CancelledError
        return answers

    def cut_note(waits: Any) -> None:
        note(waits)
        if moment == "written":
            raise asyncio.CancelledError

    if moment in ("told", "started"):
        supervised.batch = cut_batch  # type: ignore[method-assign]
    elif moment == "written":
        standing.note_waits = cut_note  # type: ignore[method-assign]


def test_the_time_of_a_wait_goes_on_over_the_agents_end(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.world.starting.add("a")
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(0.3)
        await node.kill()
        fresh = again(node)
        try:
            await begin(fresh)
            await await_true(lambda: "b" in starts(fresh))
            assert asyncio.get_running_loop().time() - began < 1.2
        finally:
            await fresh.kill()
            fresh.close()

    run(tmp_path, work, {"a": conf("a"), "b": ordered("b", "a")}, limit_s=0.6)


def test_a_note_that_cannot_be_read_is_told(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.group.standing.note_waits({"open": 5})
        node.group.start_order.resume()
        assert "order-broken-off" in node.codes() and node.group.standing.waits is None

    run(tmp_path, work, CHAIN)


@pytest.mark.parametrize("state", [VrrpState.BACKUP, VrrpState.FAULT])
def test_stops_go_the_other_way_round_while_the_peer_waits(tmp_path: pathlib.Path, state: VrrpState) -> None:
    """Where this node hands over, keepalived says FAULT because it was told to."""

    async def work(node: Node) -> None:
        node.report(VrrpState.MASTER)
        hear(node)
        await node.await_role(Role.ACTIVE)
        await node.await_code("order-done")
        node.world.requests.clear()
        if state is VrrpState.FAULT:
            node.group.fitness.hand_over(asyncio.get_running_loop().time(), "an operator asked", 5.0)
        node.report(state)
        await node.await_role(Role.STANDBY)
        assert [group for verb, group in node.world.log if verb == "end"] == ["c", "d", "b", "a"]
        assert node.world.requests[:3] == [("stopProcess",) * 2, ("stopProcess",), ("stopProcess",)]

    run(tmp_path, work, {**CHAIN, "d": conf("d")}, limit_s=30.0)


@pytest.mark.parametrize("why", ["no link", "the peer is active", "FAULT", "no time"])
def test_stops_are_all_told_at_once_where_a_wait_could_cost_safety(tmp_path: pathlib.Path, why: str) -> None:
    async def work(node: Node) -> None:
        node.report(VrrpState.MASTER)
        hear(node)
        await node.await_role(Role.ACTIVE)
        await node.await_code("order-done")
        hear(node, Role.ACTIVE if why == "the peer is active" else Role.STANDBY)
        node.link.is_up = why != "no link"
        node.world.requests.clear()
        node.report(VrrpState.FAULT if why == "FAULT" else VrrpState.BACKUP)
        await node.await_role(Role.STANDBY)
        assert node.world.requests[0] == ("stopProcess",) * 3

    run(tmp_path, work, CHAIN, limit_s=30.0, stop_s=0.0 if why == "no time" else 10.0)


def test_one_that_does_not_end_holds_the_others_up_for_the_stated_time_alone(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.world.stubborn.add("c")
        node.report(VrrpState.MASTER)
        hear(node)
        await node.await_role(Role.ACTIVE)
        await node.await_code("order-done")
        node.report(VrrpState.BACKUP)
        await node.await_role(Role.STANDBY)
        assert node.world.running() == []
        (done,) = events(node, "released")
        took = {step["step"]: step["took_s"] for step in done["steps"]}
        # FakeTable waits for a millisecond; release.stop_timeout_s is 0.02 s here, and stop_s is more.
        assert took["stop"] < 0.3

    run(tmp_path, work, CHAIN, limit_s=30.0)


def test_keys_of_a_conf_reach_the_plan(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        selection = node.group.active_set.selection
        assert selection.order_keys == {"program:b": OrderKeys(("a",), 7.0, "skip", (2,))}
        (need,) = node.group.start_order.find_plan().needs["b"]
        assert (need.limit_s, need.on_timeout) == (7.0, "skip")
        assert node.group.start_order.find_plan() is node.group.start_order.find_plan()

    run(tmp_path, work, {"a": conf("a"), "b": ordered("b", "a", wait_s=7, on_timeout="skip")})
