"""When maintenance is on, and that it ends."""

from __future__ import annotations

import json
import pathlib

import pytest

from ha_agent.adapters.store import History
from ha_agent.daemon.events import Events
from ha_agent.daemon.role.maintenance import LONGEST_S, Maintenance, read_life


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make(directory: pathlib.Path, clock: Clock, life: str = "this", passed: Clock | None = None) -> Maintenance:
    events = Events(History(str(directory), "n", 10**6))
    made = Maintenance(str(directory / "maintenance.json"), events, clock, passed or clock)
    made.load(life)
    return made


def codes(directory: pathlib.Path) -> list[str]:
    path = directory / "history.jsonl"
    return [json.loads(line)["code"] for line in path.read_text().splitlines()] if path.exists() else []


def test_it_is_off_until_it_is_begun_and_ends_by_itself(tmp_path: pathlib.Path, clock: Clock) -> None:
    it = make(tmp_path, clock)
    assert not it.is_on and not it.update()
    it.begin(60.0, "why", "alice")
    assert it.is_on and it.update()
    clock.now += 61
    assert not it.is_on and not it.update()
    assert codes(tmp_path) == ["maintenance-on", "maintenance-off"]


def test_it_survives_a_restart_of_the_agent(tmp_path: pathlib.Path, clock: Clock) -> None:
    make(tmp_path, clock).begin(60.0, "why", "alice")
    again = make(tmp_path, clock)
    assert again.is_on and again.window is not None and again.window.reason == "why"


def test_a_reboot_ends_it_and_the_history_says_so(tmp_path: pathlib.Path, clock: Clock) -> None:
    make(tmp_path, clock).begin(60.0, "why", "alice")
    assert not make(tmp_path, clock, "another life").is_on
    assert codes(tmp_path) == ["maintenance-on", "maintenance-off"]
    assert "started again" in (tmp_path / "history.jsonl").read_text()
    assert not (tmp_path / "maintenance.json").exists()


def test_a_damaged_file_ends_it_and_the_history_says_so(tmp_path: pathlib.Path, clock: Clock) -> None:
    for content in ("", "{}", "[1]", '{"since": "x"}'):
        (tmp_path / "maintenance.json").write_text(content)
        assert not make(tmp_path, clock).is_on
    assert codes(tmp_path) == ["maintenance-off"] * 4


def test_its_end_can_be_moved_and_it_can_not_last_for_ever(tmp_path: pathlib.Path, clock: Clock) -> None:
    it = make(tmp_path, clock)
    it.begin(60.0, "why", "alice")
    clock.now += 30
    window = it.begin(1e9, "more", "bob")
    assert window.since == 1000.0 and window.until == clock.now + LONGEST_S


@pytest.mark.parametrize("step", [-86400.0, 86400.0])
def test_a_wall_clock_that_is_set_neither_prolongs_nor_ends_it(tmp_path: pathlib.Path, step: float) -> None:
    """Set back by a day it lasted a day longer; set forward it ended in the middle of the work."""
    wall, passed = Clock(), Clock()
    it = make(tmp_path, wall, passed=passed)
    it.begin(60.0, "why", "alice")
    wall.now += step
    again = make(tmp_path, wall, passed=passed)
    for one in (it, again):
        assert one.update() and one.window is not None and abs(one.window.until - (wall.now + 60.0)) < 1.0
    passed.now += 61
    wall.now += 61
    assert not it.is_on and not again.update()


def test_one_of_an_agent_that_noted_the_wall_clock_alone_has_its_end(tmp_path: pathlib.Path, clock: Clock) -> None:
    window = {"since": clock.now, "until": clock.now + 60.0, "reason": "", "by": "al", "boot": "this"}
    (tmp_path / "maintenance.json").write_text(json.dumps(window))
    passed = Clock()
    it = make(tmp_path, clock, passed=passed)
    assert it.is_on
    passed.now += 61
    assert not it.is_on


def test_an_operator_ends_it(tmp_path: pathlib.Path, clock: Clock) -> None:
    it = make(tmp_path, clock)
    it.end("alice")
    it.begin(60.0, "why", "alice")
    it.end("bob")
    assert not it.is_on
    assert codes(tmp_path) == ["maintenance-on", "maintenance-off"]


def test_a_life_is_the_same_until_run_is_empty(tmp_path: pathlib.Path) -> None:
    first = read_life(str(tmp_path / "life"))
    assert read_life(str(tmp_path / "life")) == first
    (tmp_path / "life").unlink()
    assert read_life(str(tmp_path / "life")) != first
