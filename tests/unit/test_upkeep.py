"""What is made again below the run directory, and what is said of it."""

from __future__ import annotations

import errno
import pathlib
from typing import Any

import pytest

from ha_agent.adapters.files import Room
from ha_agent.adapters.store import History
from ha_agent.daemon.events import Events
from ha_agent.daemon.upkeep import FULL_BYTES, FULL_FILES, LOW_BYTES, LOW_FILES, Upkeep

PLENTY = Room(1 << 30, 10**6)


class Rig:
    """An upkeep with one job of each kind. ``fails`` and ``lost`` name what is wrong."""

    def __init__(self, tmp_path: pathlib.Path) -> None:
        self.told: list[dict[str, Any]] = []
        events = Events(History(str(tmp_path), "a", 10**6))
        events.listen(lambda event: self.told.append(dict(event)))
        self.room: Room | OSError = PLENTY
        self.lost: set[str] = set()
        self.fails: set[str] = set()
        self.upkeep = Upkeep("/run/x", events, self.read_room)
        self.upkeep.add("the role", lambda: self.keep("role"), vital=True)
        self.upkeep.add("the token", lambda: self.keep("token"))

    def read_room(self, path: str) -> Room:
        if isinstance(self.room, OSError):
            raise self.room
        return self.room

    def keep(self, name: str) -> bool:
        if name in self.fails:
            raise OSError(errno.ENOSPC, "No space left on device")
        was_lost = name in self.lost
        self.lost.discard(name)
        return was_lost

    def look(self) -> list[str]:
        self.told.clear()
        self.upkeep.look()
        return [f"{event['code']}: {event['text']}" for event in self.told]


@pytest.fixture
def rig(tmp_path: pathlib.Path) -> Rig:
    return Rig(tmp_path)


def test_what_the_first_look_makes_is_not_told_and_what_a_later_one_makes_is(rig: Rig) -> None:
    rig.lost = {"role", "token"}
    assert rig.look() == []
    rig.lost = {"role", "token"}
    assert rig.look() == ["notes-remade: made again below /run/x: the role, the token"]
    assert rig.look() == []


def test_what_cannot_be_made_right_is_told_once_and_tried_again_with_each_look(rig: Rig) -> None:
    rig.fails = {"token"}
    assert rig.look() == ["notes-failing: notes cannot be kept: the token: No space left on device"]
    assert rig.upkeep.problem == "the token: No space left on device" and rig.upkeep.vital_problem is None
    assert rig.look() == []
    rig.fails = {"role", "token"}
    rig.look()
    assert rig.upkeep.vital_problem == "the role: No space left on device"
    rig.fails = set()
    rig.look()
    assert rig.upkeep.problem is rig.upkeep.vital_problem is None
    rig.fails = {"role"}
    assert len(rig.look()) == 1, "a new failure"


def test_one_that_fails_keeps_no_other_from_being_made(rig: Rig) -> None:
    rig.look()
    rig.fails, rig.lost = {"role"}, {"token"}
    assert "notes-remade: made again below /run/x: the token" in rig.look()


@pytest.mark.parametrize(
    ("room", "low", "full"),
    [
        (PLENTY, False, False),
        (Room(1 << 30, None), False, False),
        (Room(LOW_BYTES - 1, 10**6), True, False),
        (Room(1 << 30, LOW_FILES - 1), True, False),
        (Room(FULL_BYTES - 1, 10**6), True, True),
        (Room(1 << 30, FULL_FILES - 1), True, True),
    ],
)
def test_little_room_is_told_before_a_takeover_would_fail_for_it(rig: Rig, room: Room, low: bool, full: bool) -> None:
    rig.room = room
    rig.look()
    assert (rig.upkeep.low is not None) == low
    assert (rig.upkeep.vital_problem is not None) == (rig.upkeep.problem is not None) == full


def test_a_run_directory_that_cannot_be_looked_at_is_a_problem(rig: Rig) -> None:
    rig.room = OSError(errno.EIO, "Input/output error")
    rig.look()
    assert rig.upkeep.vital_problem == "/run/x: Input/output error"
