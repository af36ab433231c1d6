"""Hooks: what a configuration may say, when each is run, and what its failure means."""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from ha_agent.core.hooks import HookEnd, HookSettings, check_hook, hooks_at, longest_s
from ha_agent.core.orders import Orders
from ha_agent.core.peer_summary import summary_message
from ha_agent.core.plans import RELEASE_STEPS, TAKEOVER_STEPS, steps_of
from ha_agent.core.schema import SettingsProblem, check_named
from ha_agent.core.transaction import Watermark
from ha_agent.core.words import Role, Step, VrrpState
from tests.unit.fakes import Node, World, conf

DISK = HookSettings(at=("before_start", "after_stop"), command=("/hook/disk",))
NAME = HookSettings(at=("after_start", "before_stop"), command=("/hook/name",), on_failure="continue")
BASE = HookSettings(at=("before_start", "after_stop"), command=("/hook/base",))


def hook_settings(raw: Any) -> tuple[dict[str, HookSettings], list[str]]:
    """The hooks of a parsed file, and what is wrong with them."""
    problems: list[SettingsProblem] = []
    return check_named("hooks", HookSettings, raw, problems, check_hook), [str(p) for p in problems]


def test_all_that_is_wrong_is_told_at_once() -> None:
    good = {"at": ["before_start"], "command": ["/bin/true"]}
    assert hook_settings({"a": good})[1] == []
    _, problems = hook_settings(
        {
            "a": {**good, "at": ["sometimes"], "timeout_s": 0},
            "b": {**good, "command": ["true"], "on_failure": "maybe"},
            "c": {**good, "at": []},
            "d": {**good, "at": ["after_stop", "after_stop"]},
            "e f": good,
            "g": {"command": []},
            "h": 5,
        }
    )
    wrong = sorted(p.partition(":")[0] for p in problems)
    assert wrong == [
        "hooks.a.at", "hooks.a.timeout_s", "hooks.b.on_failure", "hooks.c.at", "hooks.d.at", "hooks.e f", "hooks.g.at",
        "hooks.h",
    ]  # fmt: skip
    assert hook_settings({"b": {**good, "command": ["true"]}})[1] and hook_settings({"b": {**good, "command": []}})[1]
    assert hook_settings([])[1] == ["hooks: []; allowed: tables [hooks.NAME]"]


def test_what_is_set_up_last_is_taken_down_first() -> None:
    hooks = {"base": BASE, "disk": DISK, "name": NAME}
    assert [n for n, _ in hooks_at(hooks, Step.BEFORE_START)] == ["base", "disk"]
    assert [n for n, _ in hooks_at(hooks, Step.AFTER_STOP)] == ["disk", "base"]
    assert [n for n, _ in hooks_at(hooks, Step.AFTER_START)] == ["name"]
    assert longest_s(hooks, (Step.BEFORE_START, Step.AFTER_START)) == 90.0


def test_a_pair_without_hooks_has_the_plans_that_it_had() -> None:
    assert steps_of(TAKEOVER_STEPS, ()) == (Step.CLAIM, Step.INTERLOCK, Step.ORPHANS, Step.ACTIVATE, Step.LOAD)
    assert steps_of(RELEASE_STEPS, ()) == (Step.DISARM, Step.STOP, Step.SWEEP, Step.UNLOAD)


def test_an_end_is_described_in_a_line() -> None:
    assert HookEnd(3, 1.0, last=("a", "no such disk")).describe() == "ended with exit status 3: no such disk"
    assert HookEnd(None, 1.0, "no end after 30 s").describe() == "no end after 30 s"


def run(
    tmp_path: pathlib.Path, work: Callable[[Node], Awaitable[None]], hooks: Mapping[str, HookSettings] | None = None
) -> None:
    """Has ``work`` done with a node that has two confs, and is standby."""

    async def main() -> None:
        node = Node(World(tmp_path), hooks={"disk": DISK, "name": NAME} if hooks is None else hooks)
        node.write(p0=conf("p0"), p1=conf("p1"))
        await node.begin()
        try:
            await work(node)
        finally:
            await node.kill()
            node.close()

    asyncio.run(main())


def hear(node: Node, role: Role = Role.STANDBY, state: VrrpState = VrrpState.BACKUP, epoch: int = 0, **more: Any) -> None:
    """The peer gives a sign of life. ``epoch``: that of its own last takeover."""
    raw = summary_message("b", role, state, Watermark(epoch, "b" if epoch else ""), 0, "", **more)
    node.group.conversation.learn(raw)


def test_each_hook_has_its_moment_and_is_told_why(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        node.report(VrrpState.BACKUP)
        await node.await_role(Role.STANDBY)
        world = node.world
        assert world.hooks == [
            ("disk", "before_start", 0), ("name", "after_start", 2), ("name", "before_stop", 2), ("disk", "after_stop", 0),
        ]  # fmt: skip
        first, *_, last = world.hook_environments
        assert first == {
            "HA_AGENT_HOOK": "before_start", "HA_AGENT_ROLE": "active", "HA_AGENT_EPOCH": "1", "HA_AGENT_GROUP": "default",
            "HA_AGENT_NODE": "a", "HA_AGENT_PEER": "b", "HA_AGENT_REASON": "keepalived reports MASTER and the VIP is here",
        }  # fmt: skip
        assert (last["HA_AGENT_ROLE"], last["HA_AGENT_REASON"]) == ("standby", "keepalived no longer reports MASTER")
        done = [e for e in node.group.events.read(100) if e["code"] == "takeover-done"][-1]
        steps = {step["step"]: step for step in done["steps"]}
        assert steps["before-start"]["hooks"] == [{"hook": "disk", "took_s": 0.01}]

    run(tmp_path, work)


def test_a_takeover_whose_hook_fails_starts_nothing_until_it_succeeds(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.world.hook_codes["/hook/disk"] = 3
        node.report(VrrpState.MASTER)
        await node.await_code("takeover-failed")
        assert node.world.running() == [] and node.group.standing.role is Role.TAKING_OVER
        text = "before-start: hook disk (before_start) ended with exit status 3: no such disk"
        assert node.group.standing.last_failure == text and "hook-failed" in node.codes()
        node.world.hook_codes.clear()
        await node.await_role(Role.ACTIVE)
        assert node.world.running() == ["p0", "p1"]

    run(tmp_path, work)


def test_one_that_may_fail_is_told_and_the_takeover_goes_on(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.world.hook_codes["/hook/name"] = 3
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        event = [e for e in node.group.events.read(100) if e["code"] == "hook-failed"][-1]
        assert (event["hook"], event["goes_on"], event["at_step"]) == ("name", True, "after-start")

    run(tmp_path, work)


async def give_way(node: Node) -> None:
    """A hook fails here while the peer is fit; until this node may be MASTER again."""
    node.world.hook_codes["/hook/disk"] = 3
    hear(node)
    node.report(VrrpState.MASTER)
    await node.await_code("hook-failed")
    await node.await_role(Role.STANDBY)
    assert node.group.fitness.reason is not None and "hook disk" in node.group.fitness.reason
    assert next(e for e in node.group.events.read(100) if e.get("to") == "releasing")["code"] == "hook-failed"
    node.report(VrrpState.FAULT)
    async with asyncio.timeout(5.0):
        while node.group.fitness.gives_way:
            node.group.waker.wake()
            await asyncio.sleep(0.05)


ONLY_BEFORE = {"disk": HookSettings(at=("before_start",), command=("/hook/disk",))}


def test_a_vip_that_came_back_stays_the_fault_may_be_on_both_nodes(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        await give_way(node)
        hear(node, epoch=2)
        node.report(VrrpState.MASTER)
        await node.await_code("takeover-failed")
        assert not node.group.fitness.gives_way and node.group.standing.claim.epoch == 3

    run(tmp_path, work, ONLY_BEFORE)


def test_a_peer_that_did_not_take_over_is_given_the_vip_again(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        await give_way(node)
        node.report(VrrpState.MASTER)
        async with asyncio.timeout(5.0):
            while not node.group.fitness.gives_way:
                await asyncio.sleep(0.02)

    run(tmp_path, work, ONLY_BEFORE)


UNFIT: tuple[dict[str, Any] | None, ...] = (
    {"role": Role.TAKING_OVER},
    {"state": VrrpState.FAULT},
    {"orders": Orders(in_maintenance=True)},
    {"orders": Orders(stays_standby=True)},
    {"obstacles": ("no disk",)},
    None,
)


@pytest.mark.parametrize("peer", UNFIT)
def test_it_goes_on_trying_where_no_standby_is_fit(tmp_path: pathlib.Path, peer: dict[str, Any] | None) -> None:
    async def work(node: Node) -> None:
        node.world.hook_codes["/hook/disk"] = 3
        if peer is not None:
            hear(node, **peer)
        node.report(VrrpState.MASTER)
        await node.await_code("takeover-failed")
        assert not node.group.fitness.gives_way
        node.world.hook_codes.clear()
        await node.await_role(Role.ACTIVE)

    run(tmp_path, work)


def test_a_release_stops_the_programs_whatever_a_hook_before_it_says(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        node.world.hook_codes["/hook/drain"] = 3
        node.report(VrrpState.BACKUP)
        await node.await_role(Role.STANDBY)
        assert node.world.running() == [] and [h for h, _, _ in node.world.hooks] == ["drain"]

    drain = HookSettings(at=("before_stop",), command=("/hook/drain",))
    run(tmp_path, work, {"last": HookSettings(at=("before_stop",), command=("/hook/last",)), "drain": drain})


def test_the_peer_has_no_word_while_a_hook_after_the_stop_fails(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        node.world.hook_codes["/hook/disk"] = 3
        node.report(VrrpState.BACKUP)
        await node.await_code("release-failed")
        assert node.world.running() == [] and node.group.standing.role is Role.RELEASING
        node.world.hook_codes.clear()
        await node.await_role(Role.STANDBY)

    run(tmp_path, work)


def test_a_hook_is_broken_off_when_the_role_changes(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.world.hook_codes["/hook/disk"] = None
        node.report(VrrpState.MASTER)
        async with asyncio.timeout(5.0):
            while not node.world.hooks:
                await asyncio.sleep(0.005)
        node.world.hook_codes.clear()
        node.report(VrrpState.BACKUP)
        await node.await_role(Role.STANDBY)
        assert node.world.running() == [] and node.world.hooks[-1] == ("disk", "after_stop", 0)

    run(tmp_path, work)
