"""Takeover and release from every interrupted prefix, and with the agent's end at each step: nothing twice, nothing lost."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from ha_agent.core.frames import Message
from ha_agent.core.hooks import MOMENTS, HookSettings
from ha_agent.core.plans import BREAKABLE_STEPS, RELEASE_STEPS, TAKEOVER_STEPS
from ha_agent.core.settings import TakeoverSettings
from ha_agent.core.words import Role, Step, VrrpState
from ha_agent.daemon.role.plan_run import PlanRun, StepCode, StepFailed
from tests.unit.fakes import Node, World, conf

THREE = ["p0", "p1", "p2"]


def run(tmp_path: pathlib.Path, work: Callable[[Node], Awaitable[None]], **options: Any) -> None:
    """Has ``work`` done with a node that has three confs, and is standby."""

    async def main() -> None:
        node = Node(World(tmp_path), **{"hooks": EVERYWHERE, **options})
        node.write(**{name: conf(name) for name in THREE})
        await node.begin()
        try:
            await work(node)
        finally:
            await node.kill()
            node.close()

    asyncio.run(main())


def twice_started(world: World) -> set[str]:
    """Groups that were started while they ran already, at any time."""
    running: dict[str, int] = {}
    found = set()
    for verb, group in world.log:
        running[group] = running.get(group, 0) + (1 if verb == "start" else -1)
        if running[group] > 1:
            found.add(group)
    return found


EVERYWHERE = {"everywhere": HookSettings(at=tuple(MOMENTS), command=("/hook/everywhere",))}
"""So that a plan has all of its steps."""


def again(node: Node) -> Node:
    """Another agent over the same machine, disk and /run, after the end of the one before."""
    fresh = Node(node.world, takeover=node.group.settings.takeover, hooks=node.group.settings.hooks)
    fresh.keepalived = node.keepalived
    return fresh


class Cut(Exception):
    """Raised by a step in place of its work, or after it."""


def cutting(steps: Mapping[Step, StepCode], at: Step, *, after: bool) -> dict[Step, StepCode]:
    """``steps``, of which ``at`` ends the agent before or after its work."""

    def wrap(code: StepCode) -> StepCode:
        async def cut() -> Mapping[str, Any] | None:
            if after:
                await code()
            raise Cut

        return cut

    return {step: wrap(code) if step is at else code for step, code in steps.items()}


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", TAKEOVER_STEPS)
def test_a_takeover_that_was_cut_off_anywhere_is_finished_by_the_next_agent(
    tmp_path: pathlib.Path, at: Step, after: bool
) -> None:
    async def work(node: Node) -> None:
        takeover = node.group.takeover
        takeover.steps = cutting(takeover.steps, at, after=after)
        node.report(VrrpState.MASTER)
        with pytest.raises(TimeoutError):
            await node.await_role(Role.ACTIVE, 0.1)
        epoch = node.group.ledger.known.epoch
        await node.kill()
        next_one = again(node)
        await next_one.begin()
        next_one.group.waker.wake()
        try:
            await next_one.await_role(Role.ACTIVE)
            assert next_one.world.running() == THREE
            assert twice_started(next_one.world) == set()
            claimed = next_one.group.standing.claim.epoch
            assert claimed == max(1, epoch), "a takeover that is resumed keeps its epoch"
        finally:
            await next_one.kill()
            next_one.close()

    run(tmp_path, work)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", RELEASE_STEPS)
def test_a_release_that_was_cut_off_anywhere_is_finished_by_the_next_agent(
    tmp_path: pathlib.Path, at: Step, after: bool
) -> None:
    async def work(node: Node) -> None:
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        release = node.group.release
        release.steps = cutting(release.steps, at, after=after)
        node.report(VrrpState.BACKUP)
        with pytest.raises(TimeoutError):
            await node.await_role(Role.STANDBY, 0.1)
        await node.kill()
        next_one = again(node)
        await next_one.begin()
        try:
            await next_one.await_role(Role.STANDBY)
            assert next_one.world.running() == [] and next_one.world.loaded == {}
            assert list((next_one.run_dir / "active").iterdir()) == []
            assert not (next_one.run_dir / "groups").exists()
        finally:
            await next_one.kill()
            next_one.close()

    run(tmp_path, work)


async def run_prefix(node: Node, steps: Mapping[Step, StepCode], plan: tuple[Step, ...], count: int) -> None:
    """Runs the first ``count`` steps of a plan."""
    done = PlanRun("prefix", "test")
    await done.run(plan[:count], steps)
    assert done.done is True, done.failure


@pytest.mark.parametrize("released", range(len(RELEASE_STEPS) + 1))
@pytest.mark.parametrize("taken", range(len(TAKEOVER_STEPS) + 1))
def test_after_any_prefix_of_a_takeover_and_of_a_release_a_whole_takeover_runs_everything_once(
    tmp_path: pathlib.Path, taken: int, released: int
) -> None:
    async def work(node: Node) -> None:
        steps = {**node.group.takeover.steps, **node.group.release.steps}
        await run_prefix(node, steps, TAKEOVER_STEPS, taken)
        await run_prefix(node, steps, RELEASE_STEPS, released)
        if released == len(RELEASE_STEPS):
            assert node.world.running() == []
        await run_prefix(node, steps, TAKEOVER_STEPS, len(TAKEOVER_STEPS))
        assert node.world.running() == THREE
        assert twice_started(node.world) == set()
        await run_prefix(node, steps, RELEASE_STEPS, len(RELEASE_STEPS))
        assert node.world.running() == [] and node.group.standing.left_running == 0

    run(tmp_path, work)


@pytest.mark.parametrize("count", range(len(RELEASE_STEPS) + 1))
def test_nothing_runs_after_a_whole_release_whatever_was_done_of_one_before(tmp_path: pathlib.Path, count: int) -> None:
    """Also where a supervisord that came back in between has started what it found, beside what the old one left."""

    async def work(node: Node) -> None:
        steps = {**node.group.takeover.steps, **node.group.release.steps}
        await run_prefix(node, steps, TAKEOVER_STEPS, len(TAKEOVER_STEPS))
        await run_prefix(node, steps, RELEASE_STEPS, count)
        node.world.restart_supervisord()
        if count >= 1:
            assert "start" not in [verb for verb, _ in node.world.log[3:]], "the active set was empty by then"
        await run_prefix(node, steps, RELEASE_STEPS, len(RELEASE_STEPS))
        assert node.world.running() == [] and node.world.loaded == {}

    run(tmp_path, work)


def test_a_takeover_ends_what_an_earlier_supervisord_left_before_it_starts_anything(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        node.world.is_supervisord_up = False
        node.group.supervisord_ended()
        node.world.restart_supervisord()
        node.group.waker.wake()
        await asyncio.sleep(0)
        await node.await_role(Role.ACTIVE)
        while node.codes().count("takeover-done") < 2:
            await asyncio.sleep(0.005)
        assert node.world.running() == THREE
        assert twice_started(node.world) == set()
        assert node.group.standing.claim.epoch == 1, "it is the same takeover"

    run(tmp_path, work)


def test_a_program_that_cannot_be_ended_fences_the_node_until_it_can(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.world.endless.add("p1")
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        node.report(VrrpState.BACKUP)
        async with asyncio.timeout(5.0):
            while node.group.standing.role is not Role.FENCED:
                await node.group.standing.wait_change(0.005)
        assert node.group.standing.left_running == 1 and node.world.running() == ["p1"]
        assert (node.run_dir / "track").read_text() == "1\n"
        for process in node.world.processes.values():
            process.endless = process.stubborn = False
        await node.await_role(Role.STANDBY)
        assert node.world.running() == []
        assert "fenced" in node.codes()

    run(tmp_path, work)


def test_a_program_that_ignores_term_is_killed_and_a_hanging_supervisord_too(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.world.stubborn.add("p2")
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        node.world.hangs = True
        node.report(VrrpState.FAULT)
        await node.await_role(Role.STANDBY)
        assert node.world.running() == []
        assert "supervisord-ended" in node.codes()

    run(tmp_path, work)


def test_a_conf_that_cannot_be_loaded_keeps_no_other_one_from_running(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.write(p1="[program:p1]\nbad\n")
        await node.group.view.compare_now()
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        assert node.world.running() == ["p0", "p2"]
        steps = node.group.standing.last_transition["steps"]
        assert {s["step"]: s for s in steps}["activate"]["not_loadable"] == {"p1.conf": "it says bad"}

    run(tmp_path, work)


def test_what_supervisord_refuses_all_the_same_is_taken_out_one_after_the_other(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        world = node.world
        world.refuses_config = f"error in file: '{node.run_dir}/active/p1.conf'"

        async def heal() -> None:
            # Files are written one after the other: p1's absence tells something only after supervisord has refused.
            while not node.codes().count("reread-refused") or (node.run_dir / "active" / "p1.conf").exists():
                await asyncio.sleep(0.001)
            world.refuses_config = None

        node.start_task(heal())
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        assert world.running() == ["p0", "p2"]
        assert node.codes().count("reread-refused") >= 1

    run(tmp_path, work)


@pytest.mark.parametrize(
    ("policy", "command", "fence_exit", "starts"),
    [
        ("start", (), None, True),
        ("hold", (), None, False),
        ("hold-if-alive", (), None, True),
        ("hold-if-alive", ("/bin/fence",), 1, True),
        ("hold-if-alive", ("/bin/fence",), 0, True),
        ("start", ("/bin/fence",), 1, True),
        ("hold", ("/bin/fence",), 1, False),
        ("hold", ("/bin/fence",), None, False),
        ("hold", ("/bin/fence",), 0, True),
    ],
)
def test_without_the_peers_word_fence_and_policy_decide(
    tmp_path: pathlib.Path, policy: str, command: tuple[str, ...], fence_exit: int | None, starts: bool
) -> None:
    async def work(node: Node) -> None:
        node.link.is_up, node.machine.fence_exit = False, fence_exit
        word = await node.group.takeover.steps[Step.CLAIM]()
        assert word == {"epoch": 1}
        if starts:
            outcome = await node.group.takeover.steps[Step.INTERLOCK]()
            assert outcome is not None and outcome["interlock"] == "link-down"
        else:
            with pytest.raises(StepFailed, match="nothing is started"):
                await node.group.takeover.steps[Step.INTERLOCK]()
        assert (node.group.standing.held is None) is starts, "what is held says why, for as long as it is"
        assert node.machine.fenced == len(command)
        assert "interlock-settled" in node.codes()

    limits = TakeoverSettings(on_interlock_timeout=policy, fence_command=command, silent_peer_s=1.0)
    run(tmp_path, work, takeover=limits)


@pytest.mark.parametrize("policy", ["start", "hold-if-alive", "hold"])
def test_a_node_that_is_cut_off_itself_starts_nothing_and_fences_nobody(tmp_path: pathlib.Path, policy: str) -> None:
    async def work(node: Node) -> None:
        node.link.is_up, node.machine.is_connected = False, False
        await node.group.takeover.steps[Step.CLAIM]()
        for _ in range(2):
            with pytest.raises(StepFailed, match=r"none of takeover\.require_any answers \(192\.0\.2\.1, 192\.0\.2\.2\)"):
                await node.group.takeover.steps[Step.INTERLOCK]()
        assert node.machine.fenced == 0 and node.group.standing.held is not None
        assert node.codes().count("interlock-settled") == 1
        node.machine.is_connected = True
        await node.group.takeover.steps[Step.INTERLOCK]()
        assert node.machine.fenced == 1 and node.group.standing.held is None

    hosts = ("192.0.2.1", "192.0.2.2")
    limits = TakeoverSettings(on_interlock_timeout=policy, fence_command=("/bin/fence",), require_any=hosts)
    run(tmp_path, work, takeover=limits)


def test_a_peer_that_gives_its_word_is_believed_by_a_node_that_is_cut_off(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.machine.is_connected = False

        async def answer(_message: Message) -> Message:
            return {"outcome": "released"}

        node.link.answer = answer
        await node.group.takeover.steps[Step.CLAIM]()
        outcome = await node.group.takeover.steps[Step.INTERLOCK]()
        assert outcome is not None and outcome["interlock"] == "released"

    run(tmp_path, work, takeover=TakeoverSettings(require_any=("192.0.2.1",)))


@pytest.mark.parametrize(("policy", "starts"), [("start", True), ("hold", False), ("hold-if-alive", False)])
def test_a_peer_whose_machine_answers_is_dead_for_no_policy(tmp_path: pathlib.Path, policy: str, starts: bool) -> None:
    async def work(node: Node) -> None:
        node.link.is_up, node.machine.peer_answers = False, True
        await node.group.takeover.steps[Step.CLAIM]()
        with contextlib.nullcontext() if starts else pytest.raises(StepFailed, match="nothing is started"):
            await node.group.takeover.steps[Step.INTERLOCK]()

    run(tmp_path, work, takeover=TakeoverSettings(on_interlock_timeout=policy, silent_peer_s=0.2, peer_probe_s=0.05))


def test_what_is_held_is_started_with_the_peers_word(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.link.is_up = False
        node.report(VrrpState.MASTER)
        while node.group.standing.held is None:
            await asyncio.sleep(0.005)
        assert node.world.running() == []

        async def answer(_message: object) -> dict[str, object]:
            return {"outcome": "released"}

        node.link.answer, node.link.is_up = answer, True
        await node.await_role(Role.ACTIVE)
        assert node.group.standing.held is None

    run(tmp_path, work, takeover=TakeoverSettings(on_interlock_timeout="hold", retry_s=0.05))


def test_what_is_held_is_forgotten_with_the_takeover(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.link.is_up = False
        node.report(VrrpState.MASTER)
        while node.group.standing.held is None:
            await asyncio.sleep(0.005)
        node.report(VrrpState.BACKUP)
        await node.await_role(Role.STANDBY)
        assert node.group.standing.held is None

    run(tmp_path, work, takeover=TakeoverSettings(on_interlock_timeout="hold", retry_s=0.05))


@pytest.mark.parametrize("outcome", ["refused", "maintenance"])
def test_a_peer_that_keeps_what_it_has_makes_this_node_give_way(tmp_path: pathlib.Path, outcome: str) -> None:
    async def work(node: Node) -> None:
        async def answer(_message: object) -> dict[str, object]:
            return {"outcome": outcome}

        node.link.answer = answer
        node.report(VrrpState.MASTER)
        await node.await_role(Role.STANDBY)
        while "interlock-refused" not in node.codes():
            await asyncio.sleep(0.005)
        assert node.world.running() == [] and (node.run_dir / "track").read_text() == "1\n"

    run(tmp_path, work)


def slowed(steps: Mapping[Step, StepCode], at: Step, go: asyncio.Event, log: list[str]) -> dict[Step, StepCode]:
    """``steps``, each noting its begin and end in ``log``; ``at`` waits for ``go`` before its work."""

    def wrap(step: Step, code: StepCode) -> StepCode:
        async def slow() -> Mapping[str, Any] | None:
            log.append(f"{step.value} begins")
            if step is at:
                await go.wait()
            result = await code()
            log.append(f"{step.value} ends")
            return result

        return slow

    return {step: wrap(step, code) for step, code in steps.items()}


@pytest.mark.parametrize("at", TAKEOVER_STEPS)
def test_a_release_that_overtakes_a_takeover_waits_for_the_step_under_way_unless_that_may_be_broken_off(
    tmp_path: pathlib.Path, at: Step
) -> None:
    async def work(node: Node) -> None:
        go, log = asyncio.Event(), list[str]()
        takeover, release = node.group.takeover, node.group.release
        takeover.steps, release.steps = slowed(takeover.steps, at, go, log), slowed(release.steps, at, go, log)
        node.report(VrrpState.MASTER)
        async with asyncio.timeout(5.0):
            while f"{at.value} begins" not in log:
                await asyncio.sleep(0.001)
        node.report(VrrpState.BACKUP)
        if at in BREAKABLE_STEPS:
            async with asyncio.timeout(5.0):
                while "disarm begins" not in log:
                    await asyncio.sleep(0.001)
        else:
            await asyncio.sleep(0.02)
            assert "disarm begins" not in log, "two plans never overlap"
        go.set()
        await node.await_role(Role.STANDBY)
        assert node.world.running() == []
        if at not in BREAKABLE_STEPS:
            assert log.index("disarm begins") == log.index(f"{at.value} ends") + 1, "the takeover was abandoned"

    run(tmp_path, work)


def test_what_appears_while_the_groups_are_unloaded_is_found_by_the_last_look(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.report(VrrpState.MASTER)
        await node.await_role(Role.ACTIVE)
        unload = node.group.release.steps[Step.UNLOAD]

        async def late() -> Mapping[str, Any] | None:
            node.world.endless.add("p0")
            node.world.start("p0")
            next(iter(node.world.processes.values())).disowned = True
            return await unload()

        node.group.release.steps = {**node.group.release.steps, Step.UNLOAD: late}
        node.report(VrrpState.BACKUP)
        async with asyncio.timeout(5.0):
            while node.group.standing.role is not Role.FENCED:
                await asyncio.sleep(0.001)
        assert node.group.standing.left_running == 1

    run(tmp_path, work)
