"""That keepalived hears of the track file, and what is done with one that does not give up MASTER."""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import Coroutine
from typing import Any

import pytest

from ha_agent.adapters.store import History
from ha_agent.core.words import VrrpState
from ha_agent.daemon.events import Events
from ha_agent.daemon.role.obedience import OBEY_S, RETRY_S, SETTLED_S, Obedience
from tests.unit.fakes import FakeKeepalived, FakeWatch

MASTER, BACKUP, FAULT, UNKNOWN = VrrpState.MASTER, VrrpState.BACKUP, VrrpState.FAULT, VrrpState.UNKNOWN


class Rig:
    def __init__(self, tmp_path: pathlib.Path) -> None:
        self.run_dir, self.note = tmp_path / "run", tmp_path / "keepalived-stopped"
        self.run_dir.mkdir(exist_ok=True)
        self.identity: tuple[int, int] | None = (50, 1000)
        self.unit = FakeKeepalived()
        self.unit.on_stop = lambda: self.set_identity(None)
        self.unit.on_start = lambda: self.set_identity((51, 2000))
        self.events = Events(History(str(tmp_path), "a", 10**6))
        self.wakes: list[float] = []
        self.obedience = Obedience(
            self.unit,
            FakeWatch(lambda: self.identity),
            str(self.run_dir),
            str(self.note),
            self.events,
            self.run,
            self.wakes.append,
        )

    def set_identity(self, identity: tuple[int, int] | None) -> None:
        self.identity = identity

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run(work)

    def look(self, now: float, unfit: str | None, state: VrrpState = MASTER, vip: bool | None = True) -> list[str]:
        self.unit.done.clear()
        self.obedience.update(now, unfit, state, vip)
        return list(self.unit.done)

    def codes(self) -> list[str]:
        return [str(event["code"]) for event in self.events.read(100)]


@pytest.fixture
def rig(tmp_path: pathlib.Path) -> Rig:
    return Rig(tmp_path)


def test_a_keepalived_that_stays_master_is_stopped_after_its_time_and_started_when_the_node_is_fit(rig: Rig) -> None:
    assert rig.look(100.0, "why") == [] and rig.wakes == [100.0 + SETTLED_S, 100.0 + OBEY_S]
    assert rig.look(100.0 + OBEY_S - 0.1, "why") == []
    assert rig.look(100.0 + OBEY_S, "why") == ["stop"]
    assert rig.note.exists() and rig.codes() == ["keepalived-stopped"]
    assert rig.look(200.0, "why", UNKNOWN, False) == [], "still unfit"
    assert rig.look(201.0, None, UNKNOWN, False) == ["start"]
    assert not rig.note.exists() and rig.codes()[-1] == "keepalived-started"
    assert rig.look(300.0, None) == []


@pytest.mark.parametrize(
    ("unfit", "state", "vip"),
    [
        (None, MASTER, True),
        ("why", FAULT, True),
        ("why", BACKUP, True),
        ("why", FAULT, False),
        ("why", MASTER, False),
        ("why", UNKNOWN, False),
    ],
)
def test_one_that_gave_up_or_need_not_is_left_alone(rig: Rig, unfit: str | None, state: VrrpState, vip: bool) -> None:
    assert rig.look(100.0, unfit, state, vip) == rig.look(200.0, unfit, state, vip) == []


@pytest.mark.parametrize(("state", "vip"), [(MASTER, None), (UNKNOWN, True)])
def test_what_cannot_be_found_out_counts_as_not_given_up(rig: Rig, state: VrrpState, vip: bool | None) -> None:
    rig.look(100.0, "why", state, vip)
    assert rig.look(100.0 + OBEY_S, "why", state, vip) == ["stop"]


def test_the_time_counts_from_the_last_moment_in_which_it_obeyed(rig: Rig) -> None:
    rig.look(100.0, "why")
    rig.look(102.0, "why", FAULT, False)
    rig.look(103.0, "why")
    assert rig.look(100.0 + OBEY_S + 1, "why") == []
    assert rig.look(103.0 + OBEY_S, "why") == ["stop"]


def test_a_stop_that_fails_is_tried_again_after_a_pause(rig: Rig) -> None:
    rig.unit.failure = "systemctl ended with 1"
    rig.look(100.0, "why")
    began = 100.0 + OBEY_S
    assert rig.look(began, "why") == ["stop"]
    assert rig.look(began + 1, "why") == []
    rig.unit.failure = None
    assert rig.look(began + RETRY_S, "why") == ["stop"]


def test_an_agent_that_comes_later_starts_what_was_stopped_and_nothing_else(rig: Rig, tmp_path: pathlib.Path) -> None:
    rig.look(100.0, "why")
    rig.look(100.0 + OBEY_S, "why")
    later = Rig(tmp_path)
    later.identity = None
    assert later.look(200.0, None, UNKNOWN, False) == ["start"]
    another = Rig(tmp_path)
    another.identity = None
    assert another.look(300.0, None, UNKNOWN, False) == [], "somebody else stopped this one"


def test_one_that_somebody_else_has_started_meanwhile_is_forgotten(rig: Rig) -> None:
    rig.look(100.0, "why")
    rig.look(100.0 + OBEY_S, "why")
    rig.identity = (60, 3000)
    rig.look(200.0, None, BACKUP, False)
    assert not rig.note.exists()
    rig.identity = None
    assert rig.look(300.0, None, UNKNOWN, False) == []


def test_a_keepalived_that_watches_another_directory_looks_anew_once_a_directory(rig: Rig) -> None:
    rig.unit.is_hearing = False
    assert rig.look(100.0, None) == [], "it may be gone again in a moment"
    assert rig.wakes == [100.0 + SETTLED_S]
    assert rig.look(100.0 + SETTLED_S, None) == ["reload"]
    assert rig.look(110.0, None) == [], "some file systems never say the same"
    rig.run_dir.rename(rig.run_dir.with_name("old"))
    rig.run_dir.mkdir()
    assert rig.look(120.0, None) == []
    assert rig.look(120.0 + SETTLED_S, None) == ["reload"]
    rig.identity = (51, 2000)
    assert rig.look(130.0, None) == []
    assert rig.look(130.0 + SETTLED_S, None) == ["reload"]
    rig.unit.is_hearing = None
    rig.identity = (52, 3000)
    assert rig.look(140.0, None) == rig.look(140.0 + SETTLED_S, None) == [], "it cannot be found out"
    rig.unit.is_hearing = True
    rig.look(150.0, None)
    rig.unit.is_hearing = None
    assert rig.look(160.0, None) == ["reload"], "this one did hear before"
    assert set(rig.codes()) == {"keepalived-reloaded"}
