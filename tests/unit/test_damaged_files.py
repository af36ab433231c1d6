"""Every file of the agent, damaged in every way, under an agent that runs and before one that starts: the node goes on."""

from __future__ import annotations

import asyncio
import pathlib
import stat
from collections.abc import Awaitable, Callable

import pytest

from ha_agent.core.words import Role, VrrpState
from tests.unit.fakes import Node, World, conf
from tests.unit.test_note_files import emptied, empty_directory, full_directory, gone, link_to_nowhere, rubbish

RUN_FILES = ("role.json", "groups", "track", "partial-groups.json", "life")
RUN_DIRECTORIES = ("notify", "active", "")
STATE_FILES = ("state.json", "agreed.json", "reserve", "journal", "keepalived-stopped")
STATE_DIRECTORIES = ("staging", "outgoing", "kept", "")


def missing(path: pathlib.Path) -> None:
    path.rename(path.with_name("away"))


def a_file(path: pathlib.Path) -> None:
    missing(path)
    path.write_bytes(b"not a directory")


DAMAGES = [gone, emptied, rubbish, empty_directory, full_directory, link_to_nowhere]
PLACES = [
    *(("run", name, damage) for name in RUN_FILES for damage in DAMAGES),
    *(("state", name, damage) for name in STATE_FILES for damage in DAMAGES),
    *(("run", name, damage) for name in RUN_DIRECTORIES for damage in (missing, a_file)),
    *(("state", name, damage) for name in STATE_DIRECTORIES for damage in (missing, a_file)),
]


def do_damage(node: Node, below: str, name: str, damage: Callable[[pathlib.Path], None]) -> None:
    directory = node.run_dir if below == "run" else node.state_dir
    path = directory / name if name else directory
    if not path.exists():
        path.write_bytes(b"")
    damage(path)


def run(tmp_path: pathlib.Path, work: Callable[[Node], Awaitable[None]]) -> None:
    async def main() -> None:
        node = Node(World(tmp_path))
        node.write(p0=conf("p0"), p1=conf("p1"))
        node.unit.state = VrrpState.MASTER
        await node.begin()
        try:
            node.report(VrrpState.MASTER)
            await node.await_role(Role.ACTIVE)
            await work(node)
        finally:
            await node.kill()
            node.close()

    asyncio.run(main())


async def move_away_and_back(node: Node) -> None:
    """The node still does what keepalived says."""
    node.report(VrrpState.BACKUP)
    await node.await_role(Role.STANDBY)
    assert node.world.running() == []
    node.report(VrrpState.MASTER)
    await node.await_role(Role.ACTIVE)
    assert node.world.running() == ["p0", "p1"]


@pytest.mark.parametrize(("below", "name", "damage"), PLACES)
def test_a_node_that_runs_goes_on_and_has_its_notes_again(
    tmp_path: pathlib.Path, below: str, name: str, damage: Callable[[pathlib.Path], None]
) -> None:
    async def work(node: Node) -> None:
        before = list(node.world.log)
        do_damage(node, below, name, damage)
        node.shared.upkeep.look()
        node.group.waker.wake()
        await node.group.readiness.judge()
        await asyncio.sleep(0.01)
        assert node.group.standing.role is Role.ACTIVE and node.world.log == before
        assert node.shared.upkeep.problem is None and not (node.run_dir / "role.json").is_dir()
        assert sorted(path.name for path in (node.run_dir / "active").iterdir()) == ["p0.conf", "p1.conf"]
        assert (node.run_dir / "track").read_text(encoding="ascii") == "0\n"
        assert (node.run_dir / "groups").read_text(encoding="ascii") == "p0\np1\n"
        await move_away_and_back(node)

    run(tmp_path, work)


@pytest.mark.parametrize(("below", "name", "damage"), PLACES)
def test_a_node_that_starts_again_runs_everything_once(
    tmp_path: pathlib.Path, below: str, name: str, damage: Callable[[pathlib.Path], None]
) -> None:
    async def work(node: Node) -> None:
        await node.kill()
        do_damage(node, below, name, damage)
        again = Node(node.world)
        again.unit.state = VrrpState.MASTER
        await again.begin()
        try:
            await again.await_role(Role.ACTIVE)
            assert again.world.running() == ["p0", "p1"]
            await again.group.readiness.judge()
            await move_away_and_back(again)
        finally:
            await again.kill()
            again.close()

    run(tmp_path, work)


def test_a_second_look_at_directories_that_are_right_touches_none(tmp_path: pathlib.Path) -> None:
    """Two owners with two modes would open the active set, which holds secrets, for a moment each time."""

    async def work(node: Node) -> None:
        folders = [node.run_dir, node.run_dir / "notify", node.run_dir / "active"]
        node.shared.upkeep.look()
        before = [path.stat().st_ctime_ns for path in folders]
        node.shared.upkeep.look()
        assert [path.stat().st_ctime_ns for path in folders] == before
        assert stat.S_IMODE(folders[2].stat().st_mode) == 0o700

    run(tmp_path, work)
