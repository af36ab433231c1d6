"""Orphans are looked for ahead of time, and the answer is used only where it is true of now."""

from __future__ import annotations

import asyncio
import pathlib

from ha_agent.daemon.programs.orphan_hunt import FRESH_S, OrphanHunt
from tests.unit.fakes_programs import Machine
from tests.unit.timeless import run_timeless


def make(machine: Machine) -> OrphanHunt:
    """A hunt on a machine in memory."""
    return OrphanHunt(machine.supervised, machine.sweeper, asyncio.get_running_loop().time)


def test_what_was_looked_for_ahead_is_not_looked_for_again(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        machine = Machine(tmp_path, ["web"])
        hunt, old = make(machine), machine.table.add("web", ticks=50)
        hunt.begin()
        await asyncio.sleep(FRESH_S / 2)
        assert old not in machine.table.live
        machine.table.add("web", ticks=60)
        caught = await hunt.finish()
        assert (caught.is_up, caught.left, len(machine.table.live)) == (True, [], 1), "the second look was taken"
        assert (await hunt.finish()).left == [] and not machine.table.live, "an answer is used once"

    run_timeless(main())


def test_another_supervisord_makes_orphans_and_another_look(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        machine = Machine(tmp_path, ["web"])
        hunt, old = make(machine), machine.table.add("web", ticks=150)
        hunt.begin()
        await asyncio.sleep(FRESH_S / 4)
        assert old in machine.table.live, "the living supervisord's own program"
        machine.watch.found = (78, 200)
        await hunt.finish()
        assert old not in machine.table.live

    run_timeless(main())


def test_without_a_supervisord_the_answer_is_never_old_enough_to_be_used(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        machine = Machine(tmp_path, ["web"])
        machine.watch.found = None
        hunt = make(machine)
        hunt.begin()
        await asyncio.sleep(FRESH_S / 4)
        late = machine.table.add("web", ticks=300)
        await hunt.finish()
        assert late not in machine.table.live

    run_timeless(main())


def test_a_supervisord_that_came_to_hang_during_a_long_wait_is_seen(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        machine = Machine(tmp_path, ["web"])
        hunt = make(machine)
        hunt.begin()
        await asyncio.sleep(FRESH_S * 2)
        machine.supervisord.down = "it hangs"
        assert not (await hunt.finish()).is_up

    run_timeless(main())


def test_a_second_beginning_waits_for_the_first_look(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        machine = Machine(tmp_path, ["web"])
        hunt = make(machine)
        hunt.begin()
        hunt.begin()
        await hunt.finish()
        assert len([c for c in machine.supervisord.calls if c[0] == "isUp"]) <= 1

    run_timeless(main())
