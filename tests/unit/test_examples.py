"""The shipped examples and what the lab makes of them: whole, installed, right by themselves; the record and the account."""

from __future__ import annotations

import os
import pathlib
import subprocess
import tomllib
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_agent.core.settings import check_settings
from ha_agent.lab.cloud import judge_put
from ha_agent.lab.control import Lab
from ha_agent.lab.examples import ALL, EXAMPLES, add_examples, choose
from ha_agent.lab.writes import Tally, render

ROOT = pathlib.Path(__file__).parents[2]
FOLDER = ROOT / "examples"
SCRIPTS = ("announce", "data-disk", "redis-role")
NODE = {
    "node": {"name": "node-a", "address": "192.0.2.11"},
    "peer": {"name": "node-b", "address": "192.0.2.12"},
    "vrrp": {"vip": "192.0.2.100/24"},
}


def settings() -> dict[str, dict[str, Mapping[str, object]]]:
    return tomllib.loads((FOLDER / "agent.toml").read_text(encoding="utf-8"))


def test_each_section_and_each_conf_belongs_to_one_example() -> None:
    raw = settings()
    for kind, there in (
        ("hooks", sorted(raw["hooks"])),
        ("checks", sorted(raw["checks"])),
        ("confs", sorted(os.listdir(FOLDER / "conf.d"))),
        ("local", sorted(os.listdir(FOLDER / "local.d"))),
    ):
        assert sorted(name for one in EXAMPLES.values() for name in getattr(one, kind)) == there


def test_the_settings_of_the_examples_are_right() -> None:
    made = check_settings({**NODE, **settings()})
    assert list(made.hooks) == ["data", "redis", "announce"]
    assert made.checks["shop"].on_failure == "hand-over"


def test_what_the_settings_and_the_confs_name_is_shipped() -> None:
    places = [word for keys in settings()["hooks"].values() for word in keys["command"]]  # type: ignore[attr-defined]
    for path in (*(FOLDER / "conf.d").iterdir(), *(FOLDER / "local.d").iterdir(), FOLDER / "redis-role"):
        places += path.read_text(encoding="utf-8").replace("=", " ").split()
    named = {word.removeprefix("/etc/ha-agent/examples/") for word in places if word.startswith("/etc/ha-agent/examples/")}
    assert named >= {*SCRIPTS, "answer.py", "redis.conf"}
    assert [name for name in named if not (FOLDER / name).is_file()] == []


def test_every_file_of_the_examples_is_installed() -> None:
    with open(ROOT / "pyproject.toml", "rb") as file:
        places = tomllib.load(file)["tool"]["setuptools"]["data-files"]
    listed = {name for target, names in places.items() if target.startswith("share/ha-agent/examples") for name in names}
    assert listed == {path.relative_to(ROOT).as_posix() for path in FOLDER.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_scripts_are_read_by_a_posix_shell_and_can_be_run(name: str) -> None:
    path = FOLDER / name
    assert path.read_text(encoding="utf-8").startswith("#!/bin/sh\n") and os.access(path, os.X_OK)
    assert subprocess.run(["sh", "-n", path], capture_output=True).returncode == 0


def test_some_or_all_examples_are_chosen() -> None:
    assert choose([ALL]) == tuple(EXAMPLES)
    assert choose(["order", "redis"]) == ("redis", "order")
    assert choose([]) == ()


def test_the_labs_settings_are_the_shipped_ones_with_its_own_addresses(tmp_path: pathlib.Path) -> None:
    lab = Lab(str(tmp_path / "lab"))
    added = add_examples(lab, [ALL])
    assert added.overrides["hooks.announce"]["command"][1:] == ["http://10.77.0.1:8053/records/shop", "10.77.0.100"]
    assert added.overrides["hooks.data"]["command"][1] == str(tmp_path / "lab" / "shared-disk")
    assert list(added.overrides)[:3] == ["hooks.data", "hooks.redis", "hooks.announce"], "the order of hooks means something"
    assert sorted(added.confs) == ["a.conf", "b.conf", "shop.conf", "writer.conf"]
    none = add_examples(lab, [])
    assert (none.confs, none.overrides, none.words) == ({}, {}, ())
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("known", "wanted", "status"),
    [
        (None, {"epoch": 3}, 200),
        ({"epoch": 3}, {"epoch": 3}, 200),
        ({"epoch": 3}, {"epoch": 4}, 200),
        ({"epoch": 3}, {"epoch": 2}, 409),
        ({"epoch": 3}, {}, 400),
        (None, {"epoch": True}, 400),
        (None, {"epoch": "3"}, 400),
    ],
)
def test_a_record_refuses_who_is_late(known: dict[str, int] | None, wanted: dict[str, object], status: int) -> None:
    assert judge_put(known, wanted) == status


@given(st.sets(st.integers(0, 40)), st.sets(st.integers(0, 40)), st.sets(st.integers(0, 40)))
def test_what_was_answered_and_is_not_there_is_lost(answered: set[int], confirmed: set[int], kept: set[int]) -> None:
    tally = Tally()
    for number in sorted(answered):
        tally.note_answer(number, float(number))
    tally.confirmed.update(confirmed & answered)
    account = tally.judge(kept)
    assert account["lost_confirmed"] == len((confirmed & answered) - kept)
    assert account["lost_confirmed"] + account["lost_answered"] == len(answered - kept)
    assert account["answered"] == len(answered) and account["confirmed"] == len(confirmed & answered)


def test_the_account_names_what_was_lost() -> None:
    careful, hurried = Tally(), Tally()
    for number in range(5):
        careful.note_answer(number, number / 10)
        hurried.note_answer(number, number / 10)
    careful.confirmed.update({0, 1, 2, 3})
    text = render({"careful": careful.judge({0, 1, 2, 3, 4}), "hurried": hurried.judge({0, 1, 2})})
    assert text == (
        "careful, each with WAIT 1: 5 writes were answered, longest pause 0.10 s\n"
        "  confirmed by a second redis: 4, of these lost: 0\n"
        "  answered by one redis alone: 1, of these lost: 0\n"
        "hurried, without WAIT: 5 writes were answered, longest pause 0.10 s\n"
        "  answered by one redis alone: 5, of these lost: 2"
    )
