"""Two groups on one node: registries, roles and programs of their own, on the supervisord and the link of the node."""

from __future__ import annotations

import asyncio
import pathlib

from ha_agent.core.words import Role, VrrpState
from tests.unit.fakes import Node, World, conf


def test_two_groups_take_over_and_release_without_touching_each_other(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        east = Node(world, label="east")
        west = Node(world, label="west", shared=east.shared)
        east.write(e1=conf("e1"), e2=conf("e2"))
        west.write(w1=conf("w1"))
        await east.begin()
        await west.begin()
        try:
            east.report(VrrpState.MASTER)
            await east.await_role(Role.ACTIVE)
            assert world.running() == ["e1", "e2"]
            await west.await_role(Role.STANDBY)

            west.report(VrrpState.MASTER)
            await west.await_role(Role.ACTIVE)
            assert world.running() == ["e1", "e2", "w1"]
            assert east.group.loaded.names == {"e1", "e2"} and west.group.loaded.names == {"w1"}

            before = [entry for entry in world.log if entry[1].startswith("w")]
            # One machine has one VIP here: what the fake says of it is the other group's, which does not look again.
            east.report(VrrpState.BACKUP)
            await east.await_role(Role.STANDBY)
            assert world.running() == ["w1"]
            await west.await_role(Role.ACTIVE)
            assert [entry for entry in world.log if entry[1].startswith("w")] == before
            assert sorted(p.name for p in (west.run_dir / "active").iterdir()) == ["w1.conf"]
            assert list((east.run_dir / "active").iterdir()) == []

            assert (east.group.standing.claim.epoch, west.group.standing.claim.epoch) == (1, 1)
            labels = {str(e.get("group")) for e in east.group.events.read(1000) if e["code"] == "takeover-done"}
            assert labels == {"east", "west"}
        finally:
            await east.kill()
            await west.kill()
            east.close()

    asyncio.run(main())


def test_a_group_of_the_same_node_is_built_from_its_own_settings_alone(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        east = Node(world, label="east")
        west = Node(world, label="west", shared=east.shared)
        try:
            for part in ("standing", "ledger", "view", "replicator", "receiver", "active_set", "loaded", "fitness", "loop"):
                assert getattr(east.group, part) is not getattr(west.group, part), part
            east.write(only=conf("only"))
            await east.group.view.compare_now()
            await west.group.view.compare_now()
            assert (len(east.group.view.manifest), len(west.group.view.manifest)) == (1, 0)
        finally:
            east.close()

    asyncio.run(main())
