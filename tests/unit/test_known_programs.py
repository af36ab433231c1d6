"""What is shown of programs without asking supervisord for all of them: never another thing than it would say."""

from __future__ import annotations

import asyncio
import os
import pathlib
import subprocess
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from typing import cast

import pytest

from ha_agent.adapters.procs import ProcessWatch, find_living_children, now_ticks
from ha_agent.adapters.supervisord import ProcessInfo, SupervisordDown
from ha_agent.core.events import StateEvent
from ha_agent.core.words import Role
from ha_agent.daemon.operations.known_programs import HEARD_S, LOOK_S, MOST_ASKED, KnownPrograms, find_doubtful
from ha_agent.daemon.programs.loaded_groups import LoadedGroups
from ha_agent.daemon.programs.supervised import Lane, Supervised
from ha_agent.daemon.standing import Standing


def info(name: str, state: str = "RUNNING", pid: int = 0) -> ProcessInfo:
    return ProcessInfo(name, name, state, pid or 1000 + int(name[1:]), 1, "", 0)


def event(name: str, after: str) -> StateEvent:
    return StateEvent(name, name, "RUNNING", after, 1.0)


class Counted:
    """supervisord, and how often it was asked for what."""

    def __init__(self, count: int) -> None:
        self.processes = {f"p{n}": info(f"p{n}") for n in range(count)}
        self.looks = 0
        self.named: list[list[str]] = []
        self.down: str | None = None
        self.process = _Identity()
        self.meanwhile: Callable[[], None] = lambda: None

    async def read_all(self, lane: Lane, limit_s: float) -> list[ProcessInfo]:
        self._answer()
        self.looks += 1
        said = list(self.processes.values())
        self.meanwhile()
        return said

    async def glance_at(self, wanted: Collection[tuple[str, str]], limit_s: float) -> list[ProcessInfo]:
        self._answer()
        self.named.append([name for _, name in wanted])
        said = [self.processes[name] for _, name in wanted if name in self.processes]
        self.meanwhile()
        return said

    def _answer(self) -> None:
        if self.down:
            raise SupervisordDown(self.down)


class _Identity(ProcessWatch):
    def __init__(self) -> None:
        self.pid = 7

    @property
    def identity(self) -> tuple[int, int]:
        return self.pid, 1


class _Loaded:
    def __init__(self) -> None:
        self.names = {"p0"}


class Node:
    """A standing, a supervisord, a clock, and what knows."""

    def __init__(self, tmp_path: pathlib.Path, count: int = 3) -> None:
        self.now = 1000.0
        self.standing = Standing("alfa", str(tmp_path / "role.json"))
        self.supervisord, self.loaded = Counted(count), _Loaded()
        self.dead: set[int] = set()

        def find_living(_parent: int, pids: Collection[int], _at_ticks: int) -> frozenset[int]:
            return frozenset(pids) - self.dead

        self.known = KnownPrograms(
            self.standing,
            cast(Supervised, self.supervisord),
            cast(LoadedGroups, self.loaded),
            lambda: self.now,
            lambda: self.now + 5e8,
            find_living,
        )
        self.known.hear([], True)

    async def states(self) -> dict[str, str]:
        return {i.name: i.state for i in (await self.known.read()).infos}


def run(tmp_path: pathlib.Path, work: Callable[[Node], Awaitable[None]], count: int = 3) -> None:
    async def main() -> None:
        await work(Node(tmp_path, count))

    asyncio.run(main())


def test_what_nothing_has_told_of_and_lives_is_not_asked_for_again_and_its_age_is_said(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        first = await node.known.read()
        assert not first.by_events
        node.now += 40.0
        again = await node.known.read()
        assert again.by_events and again.looked_wall == first.looked_wall and list(again.infos) == list(first.infos)
        assert node.supervisord.looks == 1 and node.supervisord.named == [[]], "whether it answers is asked in any case"
        fresh = await node.known.read(fresh=True)
        assert not fresh.by_events and fresh.looked_wall == first.looked_wall + 40.0

    run(tmp_path, work)


def test_what_an_event_told_of_is_asked_for_once(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        await node.known.read()
        node.supervisord.processes["p1"] = replace(info("p1"), pid=2222)
        node.known.hear([event("p1", "RUNNING")], True)
        node.now += 1
        assert (await node.known.read()).infos[1].pid == 2222
        await node.known.read()
        assert node.supervisord.looks == 1 and node.supervisord.named == [["p1"], []]

    run(tmp_path, work)


def test_a_process_that_is_not_there_any_more_is_asked_for_whatever_events_say(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        await node.known.read()
        node.dead.add(1001)
        node.supervisord.processes["p1"] = info("p1", "EXITED")
        assert (await node.states())["p1"] == "EXITED"

    run(tmp_path, work)


def test_what_does_not_run_is_asked_for_each_time(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.supervisord.processes["p2"] = info("p2", "STOPPED")
        await node.known.read()
        node.supervisord.processes["p2"] = info("p2")
        assert (await node.states())["p2"] == "RUNNING"
        del node.supervisord.processes["p1"]
        node.dead.add(1001)
        assert set(await node.states()) == {"p0", "p2"}, "and one that was unloaded is gone"

    run(tmp_path, work)


def test_what_is_told_of_during_a_question_is_asked_for_with_the_next_one(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.supervisord.meanwhile = lambda: node.known.hear([event("p0", "STOPPED")], True)
        await node.known.read()
        await node.known.read()
        node.supervisord.meanwhile = lambda: None
        node.now += 1
        await node.known.read()
        await node.known.read()
        assert node.supervisord.named == [["p0"], ["p0"], []]

    run(tmp_path, work)


CHANGES: dict[str, Callable[[Node], None]] = {
    "lost events": lambda node: node.known.hear([], False),
    "a silent listener": lambda node: setattr(node, "now", node.now + HEARD_S + 1),
    "another role": lambda node: node.standing.become(Role.ACTIVE),
    "another supervisord": lambda node: setattr(node.supervisord.process, "pid", 8),
    "another set of groups": lambda node: node.loaded.names.add("p9"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_all_are_asked_for_where_events_do_not_tell_enough(tmp_path: pathlib.Path, what: str) -> None:
    async def work(node: Node) -> None:
        await node.known.read()
        CHANGES[what](node)
        assert not (await node.known.read()).by_events and node.supervisord.looks == 2

    run(tmp_path, work)


def test_a_look_that_is_old_is_made_anew(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        for _ in range(int(LOOK_S / 30) + 2):
            await node.known.read()
            node.now += 30
            node.known.hear([], True)
        assert node.supervisord.looks == 2

    run(tmp_path, work)


def test_where_many_have_changed_all_are_asked_for(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        await node.known.read()
        node.known.hear([event(f"p{n}", "STOPPED") for n in range(MOST_ASKED + 1)], True)
        node.now += 1
        assert not (await node.known.read()).by_events

    run(tmp_path, work, MOST_ASKED + 5)


def test_a_supervisord_that_does_not_answer_is_not_stood_in_for(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        await node.known.read()
        node.supervisord.down = "no answer"
        with pytest.raises(SupervisordDown):
            await node.known.read()

    run(tmp_path, work)


def test_doubtful_is_what_is_not_seen_to_run() -> None:
    infos = {(i.group, i.name): i for i in (info("p1"), info("p2", "STARTING"), info("p3"), info("p4"))}
    assert find_doubtful(infos, {("p9", "p9"), ("p4", "p4")}, {1001, 1002, 1004}) == [
        ("p2", "p2"),
        ("p3", "p3"),
        ("p4", "p4"),
        ("p9", "p9"),
    ]


def test_a_living_child_is_one_of_that_parent_that_was_there_then() -> None:

    child = subprocess.Popen(["/bin/sleep", "60"])
    try:
        own, pids = os.getpid(), {child.pid, 1}
        assert find_living_children(own, pids, now_ticks()) == {child.pid}
        assert find_living_children(own, pids, 0) == find_living_children(1, {child.pid}, now_ticks()) == frozenset()
    finally:
        child.kill()
        child.wait()
    assert find_living_children(own, pids, now_ticks()) == frozenset()
