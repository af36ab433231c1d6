"""What the role is decided from: keepalived's newest report of this life, the VIP, a supervisord that is gone for good."""

from __future__ import annotations

import pathlib

import pytest

from ha_agent.adapters.supervisord import SocketAge
from ha_agent.core.settings import SupervisorSettings
from ha_agent.core.words import VrrpState
from ha_agent.daemon.programs.supervised import Supervised
from ha_agent.daemon.role.senses import VIP_LOOK_S, Senses
from tests.unit.fakes import FakeSupervisord, FakeTable, FakeWatch, World


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
        self.senses = Senses(str(self.spool), watch, supervised, self.has_vip, self.wakes.append, 10.0)
        supervised.close()

    def has_vip(self) -> bool | None:
        self.looks += 1
        return self.world.vip

    def spooled(self, *names: str) -> VrrpState:
        for name in names:
            (self.spool / name).touch()
        self.senses.sense_keepalived()
        return self.senses.sense_vrrp()


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
    tmp_path: pathlib.Path, names: tuple[str, ...], keepalived: tuple[int, int] | None, state: VrrpState
) -> None:
    rig = Rig(tmp_path)
    rig.keepalived = keepalived
    assert rig.spooled(*names) is state


def test_the_newest_report_stays_in_the_spool_and_older_ones_go(tmp_path: pathlib.Path) -> None:
    rig = Rig(tmp_path)
    rig.spooled("1001.7.MASTER", "1002.8.BACKUP")
    assert [path.name for path in rig.spool.iterdir()] == ["1002.8.BACKUP"]
    assert rig.spooled() is VrrpState.BACKUP, "it is the durable record"


def test_the_vip_is_asked_for_when_an_address_changed_and_now_and_then(tmp_path: pathlib.Path) -> None:
    rig = Rig(tmp_path)
    assert rig.senses.sense_vip(100.0) is False
    rig.world.vip = True
    assert rig.senses.sense_vip(101.0) is False and rig.looks == 1
    rig.senses.expect_vip_change()
    assert rig.senses.sense_vip(101.0) is True
    rig.world.vip = None
    assert rig.senses.sense_vip(101.0 + VIP_LOOK_S) is None


def test_a_supervisord_is_gone_when_its_unit_has_had_time_to_start_it_again(tmp_path: pathlib.Path) -> None:
    rig = Rig(tmp_path)
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
