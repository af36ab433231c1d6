"""The patrol: what runs on a standby is noted for the rules, what belongs to no program is told."""

from __future__ import annotations

import pathlib
from collections.abc import Coroutine
from typing import Any

import pytest

from ha_agent.adapters.commit import Committer
from ha_agent.adapters.store import History, Store
from ha_agent.core.kinship import UNKNOWN_GROUP, Marked
from ha_agent.core.transaction import Watermark
from ha_agent.core.words import Role
from ha_agent.daemon.events import Events
from ha_agent.daemon.replication.ledger import Ledger
from ha_agent.daemon.role.maintenance import Maintenance
from ha_agent.daemon.role.patrol import AGAIN_S, LOOK_S, NAMED, Patrol, describe, describe_all
from ha_agent.daemon.standing import Standing
from tests.unit.fakes_programs import Machine
from tests.unit.timeless import run_timeless


class Rig:
    """A patrol over a machine in memory."""

    def __init__(self, tmp_path: pathlib.Path) -> None:
        self.machine = Machine(tmp_path)
        self.standing = Standing("a", str(tmp_path / "role.json"))
        self.ledger = Ledger(Store(str(tmp_path)), Committer(str(tmp_path), str(tmp_path)), 5)
        self.events = Events(History(str(tmp_path), "a", 10**6))
        self.maintenance = Maintenance(str(tmp_path / "maintenance.json"), self.events, lambda: 1000.0, lambda: 0.0)
        self.maintenance.load("this life")
        self.note = tmp_path / "adopt"
        self.woken = 0
        self.tasks: list[Coroutine[Any, Any, None]] = []
        self.patrol = Patrol(
            self.standing,
            self.machine.sweeper,
            self.ledger,
            self.maintenance,
            self.events,
            str(self.note),
            self.wake,
            self.tasks.append,
        )

    def wake(self) -> None:
        self.woken += 1

    async def begin(self) -> Role:
        self.standing.resume()
        await self.patrol.resume()
        return self.standing.role

    async def beat(self) -> None:
        """One look of a standby, as the patrol's own beat has it."""
        await self.patrol.look_at_standby()

    def codes(self) -> list[str]:
        return [str(event["code"]) for event in self.events.read(100)]


@pytest.mark.parametrize("runs", [True, False])
def test_a_start_without_a_role_is_a_release_where_the_registry_runs_and_there_was_a_takeover(
    tmp_path: pathlib.Path, runs: bool
) -> None:
    async def main() -> None:
        rig = Rig(tmp_path)
        rig.ledger.learn(Watermark(3, "b"))
        if runs:
            rig.machine.table.add("web")
        assert await rig.begin() is (Role.RELEASING if runs else Role.STANDBY)
        assert rig.codes() == (["role-lost"] if runs else [])

    run_timeless(main())


def test_with_a_role_of_an_agent_before_it_nothing_is_judged(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        rig = Rig(tmp_path)
        rig.ledger.learn(Watermark(3, "b"))
        rig.standing.become(Role.ACTIVE)
        rig.machine.table.add("web")
        assert await rig.begin() is Role.ACTIVE

    run_timeless(main())


@pytest.mark.parametrize("how", ["no takeover yet", "setup says so"])
def test_programs_that_were_there_before_the_agent_run_on_until_there_is_a_takeover(
    tmp_path: pathlib.Path, how: str
) -> None:
    async def main() -> None:
        rig = Rig(tmp_path)
        if how == "setup says so":
            rig.note.touch()
            rig.ledger.learn(Watermark(3, "b"))
        rig.machine.table.add("web")
        assert await rig.begin() is Role.STANDBY
        await rig.beat()
        assert rig.woken == 0 and rig.standing.left_running == 0
        assert not await rig.patrol.is_clear(), "the peer gets no word"
        rig.standing.note_left_running(0)
        rig.ledger.learn(Watermark(4, "b"))
        await rig.beat()
        assert rig.standing.left_running == 1, "the other node has taken over: they run twice"

    run_timeless(main())


@pytest.mark.parametrize("how", ["no takeover yet", "setup says so"])
def test_programs_that_were_there_before_the_agent_run_on_over_a_restart_of_it(tmp_path: pathlib.Path, how: str) -> None:
    """Guarantee 7. The word of setup was lost with the first agent, and the second one ended the programs."""

    async def main() -> None:
        rig = Rig(tmp_path)
        if how == "setup says so":
            rig.note.touch()
            rig.ledger.learn(Watermark(3, "b"))
        rig.machine.table.add("web")
        await rig.begin()
        rig.standing.keep()
        again = Rig(tmp_path)
        again.ledger.learn(rig.ledger.known)
        again.machine.table.add("web")
        assert await again.begin() is Role.STANDBY and again.standing.has_resumed
        await again.beat()
        assert again.woken == 0 and again.standing.left_running == 0
        again.ledger.learn(Watermark(4, "b"))
        await again.beat()
        assert again.standing.left_running == 1, "the other node has taken over: they run twice"

    run_timeless(main())


def test_an_agent_whose_role_came_to_rest_adopts_nothing_any_more(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        rig = Rig(tmp_path)
        rig.machine.table.add("web")
        await rig.begin()
        rig.standing.become(Role.STANDBY)
        rig.patrol.settled()
        rig.tasks.pop().close()
        again = Rig(tmp_path)
        again.machine.table.add("web")
        await again.begin()
        await again.beat()
        assert again.standing.left_running == 1

    run_timeless(main())


def test_the_note_of_setup_counts_until_the_first_role(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        rig = Rig(tmp_path)
        rig.note.touch()
        rig.machine.table.add("web")
        await rig.begin()
        rig.standing.become(Role.ACTIVE)
        rig.patrol.settled()
        assert not rig.note.exists() and rig.tasks == []

    run_timeless(main())


def test_what_runs_on_a_standby_is_noted_and_told_and_not_during_maintenance(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        rig = Rig(tmp_path)
        await rig.begin()
        assert await rig.patrol.is_clear() and rig.codes() == []
        rig.machine.table.add("web")
        rig.maintenance.begin(60.0, "", "alice")
        await rig.beat()
        assert rig.woken == 0
        rig.maintenance.end("alice")
        await rig.beat()
        assert (rig.woken, rig.standing.left_running) == (1, 1) and rig.codes()[-1] == "registry-found"

    run_timeless(main())


def test_after_a_release_the_processes_are_looked_at_once_more(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        rig = Rig(tmp_path)
        await rig.begin()
        rig.patrol.settled()
        rig.machine.table.add("web")
        await rig.tasks.pop()
        assert rig.standing.left_running == 1

    run_timeless(main())


def test_what_is_adrift_is_told_once_when_it_was_seen_twice_and_forgotten_when_it_is_gone(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        rig = Rig(tmp_path)
        await rig.begin()
        rig.standing.become(Role.ACTIVE)
        pid = rig.machine.table.add("web")
        look = rig.patrol.look_for_adrift
        assert await look() and not rig.patrol.adrift
        assert not await look() and [p.pid for p in rig.patrol.adrift] == [pid]
        await look()
        assert rig.codes() == ["program-adrift"]
        del rig.machine.table.live[pid]
        await look()
        assert list(rig.patrol.adrift) == []
        assert AGAIN_S < LOOK_S

    run_timeless(main())


def test_processes_are_named_as_far_as_they_can_be() -> None:
    named, waiting = Marked(5, 1, 2, "g", "p"), Marked(0, 0, 0, "w", "w")
    unknown = Marked(6, 1, 2, UNKNOWN_GROUP, "process 6 (sleep)")
    assert [describe(p) for p in (named, waiting, unknown)] == [
        "g:p (pid 5)",
        "w (about to be started)",
        "process 6 (sleep)",
    ]
    assert describe_all([named] * (NAMED + 2)).endswith(" and 2 more")
