"""What the role is decided from: keepalived's newest report of this life, the VIP, a supervisord that is gone for good."""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from ha_agent.adapters.store import History
from ha_agent.adapters.supervisord import SocketAge
from ha_agent.core.settings import SupervisorSettings
from ha_agent.core.words import VrrpState
from ha_agent.daemon.events import Events
from ha_agent.daemon.programs.supervised import Supervised
from ha_agent.daemon.role.inquiry import AGAIN_S, Inquiry
from ha_agent.daemon.role.senses import DOUBT_S, TICKS_PER_S, VIP_LOOK_S, YOUNG_S, Senses
from tests.unit.fakes import FakeKeepalived, FakeSupervisord, FakeTable, FakeWatch, World


class Rig:
    """Senses on a world, with what they asked to be woken for."""

    def __init__(self, tmp_path: pathlib.Path) -> None:
        self.world = World(tmp_path)
        self.spool = tmp_path / "notify"
        self.spool.mkdir()
        self.keepalived: tuple[int, int] | None = (50, 1000)
        self.wakes: list[float] = []
        self.looks = 0
        world = self.world
        identity = lambda: (world.supervisord_pid, 1) if world.is_supervisord_up else None  # noqa: E731
        supervised = Supervised(
            SupervisorSettings(),
            FakeSupervisord(world),
            FakeWatch(identity),
            FakeTable(world),
            SocketAge(str(tmp_path / "socket")),
        )
        watch = FakeWatch(lambda: self.keepalived)
        self.unit = FakeKeepalived()
        self.events = Events(History(str(tmp_path), "n", 10**6))
        self.now, self.ticks, self.silences = 100.0, 5000, 0
        self.tasks: list[Coroutine[Any, Any, None]] = []
        inquiry = Inquiry(
            self.unit,
            "HA",
            self.events,
            lambda: None,
            self.note_silence,
            self.tasks.append,
            lambda: self.now,
            lambda: self.ticks,
        )
        self.senses = Senses(
            str(self.spool), watch, inquiry, supervised, self.find_vips, self.wakes.append, 10.0, lambda: self.ticks
        )
        supervised.close()

    def find_vips(self) -> dict[str, bool | None]:
        self.looks += 1
        return {"192.0.2.10": self.world.vip}

    def spooled(self, *names: str) -> VrrpState:
        for name in names:
            (self.spool / name).touch()
        self.senses.sense_keepalived()
        return self.senses.sense_vrrp(self.now)

    def note_silence(self) -> None:
        self.silences += 1

    def answer(self, state: VrrpState | None) -> None:
        """keepalived answers the question under way."""
        self.unit.state = state
        asyncio.run(self.tasks.pop())


@pytest.fixture
def rig(tmp_path: pathlib.Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    for work in made.tasks:
        work.close()


@pytest.mark.parametrize(
    ("names", "keepalived", "state"),
    [
        ((), (50, 1000), VrrpState.UNKNOWN),
        (("1001.7.MASTER",), (50, 1000), VrrpState.MASTER),
        (("1001.7.MASTER", "1002.8.BACKUP"), (50, 1000), VrrpState.BACKUP),
        (("1002.8.MASTER", "1001.7.BACKUP"), (50, 1000), VrrpState.MASTER),
        (("999.7.MASTER",), (50, 1000), VrrpState.UNKNOWN),
        (("1001.7.MASTER",), None, VrrpState.UNKNOWN),
        (("1001.7.MASTER", "1002.8.STOP"), None, VrrpState.STOP),
        (("rubbish", "1001.7.KING"), (50, 1000), VrrpState.UNKNOWN),
    ],
)
def test_the_newest_report_of_this_life_of_keepalived_counts(
    rig: Rig, names: tuple[str, ...], keepalived: tuple[int, int] | None, state: VrrpState
) -> None:
    rig.keepalived = keepalived
    assert rig.spooled(*names) is state


def test_the_newest_report_stays_in_the_spool_and_older_ones_go(rig: Rig) -> None:
    rig.spooled("1001.7.MASTER", "1002.8.BACKUP")
    assert [path.name for path in rig.spool.iterdir()] == ["1002.8.BACKUP"]
    assert rig.spooled() is VrrpState.BACKUP, "it is the durable record"


def test_a_keepalived_without_a_report_is_asked_and_its_answer_counts_until_the_next_report(rig: Rig) -> None:
    assert rig.spooled("1001.7.BACKUP") is VrrpState.BACKUP and not rig.tasks
    (rig.spool / "1001.7.BACKUP").unlink()
    assert rig.spooled() is VrrpState.UNKNOWN and rig.senses.is_asking
    rig.answer(VrrpState.MASTER)
    assert rig.spooled() is VrrpState.MASTER and not rig.senses.is_asking
    assert rig.spooled("5000.9.BACKUP") is VrrpState.BACKUP, "caused when the question was asked, or later"
    (rig.spool / "5000.9.BACKUP").unlink()
    assert rig.spooled() is VrrpState.UNKNOWN, "the answer was overridden, and does not come back"


def test_an_answer_is_older_than_what_the_hook_reports_from_the_question_on(rig: Rig) -> None:
    assert rig.spooled() is VrrpState.UNKNOWN
    (rig.spool / "5000.9.FAULT").touch()
    rig.answer(VrrpState.MASTER)
    assert rig.spooled() is VrrpState.FAULT


def test_an_answer_of_an_earlier_keepalived_does_not_count(rig: Rig) -> None:
    assert rig.spooled() is VrrpState.UNKNOWN
    rig.answer(VrrpState.MASTER)
    assert rig.spooled() is VrrpState.MASTER
    rig.keepalived = (51, 5001)
    assert rig.spooled() is VrrpState.UNKNOWN


def test_a_keepalived_that_is_silent_is_made_to_report_and_asked_again_later(rig: Rig) -> None:
    assert rig.spooled() is VrrpState.UNKNOWN
    rig.answer(None)
    assert rig.silences == 1 and not rig.senses.is_asking
    assert rig.spooled() is VrrpState.UNKNOWN and not rig.tasks
    rig.now += AGAIN_S
    assert rig.spooled() is VrrpState.UNKNOWN and rig.senses.is_asking
    rig.answer(VrrpState.UNKNOWN)
    assert rig.silences == 1, "it answers, and has not begun yet"


def test_a_keepalived_that_has_just_begun_is_not_asked(rig: Rig) -> None:
    rig.keepalived = (50, rig.ticks - int((YOUNG_S - 0.1) * TICKS_PER_S))
    assert rig.spooled() is VrrpState.UNKNOWN and not rig.senses.is_asking and not rig.tasks
    assert rig.spooled(f"{rig.ticks}.7.MASTER") is VrrpState.MASTER
    (rig.spool / f"{rig.ticks}.7.MASTER").unlink()
    assert rig.spooled() is VrrpState.UNKNOWN and rig.senses.is_asking, "it had reported already"


@pytest.mark.parametrize(
    ("report", "vip", "doubtful"),
    [
        ("MASTER", False, True),
        ("BACKUP", True, True),
        ("FAULT", True, True),
        ("MASTER", True, False),
        ("BACKUP", False, False),
        ("BACKUP", None, False),
    ],
)
def test_a_report_that_the_vip_speaks_against_for_long_is_asked_about(
    rig: Rig, report: str, vip: bool | None, doubtful: bool
) -> None:
    rig.world.vip = vip
    rig.senses.sense_vip(rig.now)
    rig.spooled(f"1001.7.{report}")
    assert not rig.tasks
    rig.now += DOUBT_S
    assert rig.spooled() is VrrpState(report)
    assert bool(rig.tasks) == doubtful and rig.wakes == ([100.0 + DOUBT_S] if doubtful else [])
    if doubtful:
        rig.answer(VrrpState.BACKUP if report == "MASTER" else VrrpState.MASTER)
        assert rig.spooled() is not VrrpState(report)


def test_a_report_from_the_future_is_none(rig: Rig) -> None:
    assert rig.spooled("1001.7.MASTER", "999999.8.FAULT") is VrrpState.MASTER
    assert (rig.spool / "1001.7.MASTER").exists(), "and it is not overridden by it"


def test_a_spool_that_is_no_directory_holds_no_report(rig: Rig) -> None:
    rig.spool.rmdir()
    rig.spool.touch()
    assert rig.spooled() is VrrpState.UNKNOWN and rig.senses.is_asking
    rig.answer(VrrpState.BACKUP)


def test_the_vip_is_asked_for_when_an_address_changed_and_now_and_then(rig: Rig) -> None:
    assert rig.senses.sense_vip(100.0) is False
    rig.world.vip = True
    assert rig.senses.sense_vip(101.0) is False and rig.looks == 1
    rig.senses.expect_vip_change()
    assert rig.senses.sense_vip(101.0) is True
    rig.world.vip = None
    assert rig.senses.sense_vip(101.0 + VIP_LOOK_S) is None


def test_a_supervisord_is_gone_when_its_unit_has_had_time_to_start_it_again(rig: Rig) -> None:
    assert not rig.senses.is_supervisord_gone(0.0)
    rig.world.is_supervisord_up = False
    assert not rig.senses.is_supervisord_gone(1.0)
    assert rig.wakes == [11.0], "it is looked at again by then"
    assert not rig.senses.is_supervisord_gone(10.9)
    assert rig.senses.is_supervisord_gone(11.0)
    rig.world.is_supervisord_up = True
    assert not rig.senses.is_supervisord_gone(12.0)
    rig.world.is_supervisord_up = False
    assert not rig.senses.is_supervisord_gone(13.0), "counted from the last loss"
