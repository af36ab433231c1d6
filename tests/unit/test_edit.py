"""Which conf a name means, which groups it touches, and the guard that takes an edit back."""

from __future__ import annotations

import os
import pathlib
import signal
import stat
import time
from typing import Any

import pytest

from ha_agent.adapters.control import NoDaemon
from ha_agent.cli.edit_cmd import Edit, Guard, NothingDone, apply, find_conf, groups_of

REGISTRY = {
    "web.conf": "[program:web]\ncommand=x\n[program:web-admin]\ncommand=x\n",
    "db.conf.parked": "[program:db]\ncommand=x\n",
    "sub/job.ini": "[program:job]\ncommand=x\n[program:twice]\ncommand=x\n",
    "more.conf": "[program:twice]\ncommand=x\n[group:all]\npriority=1\nprograms=web,\n  job\n",
}


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("web.conf", "web.conf"),
        ("web", "web.conf"),
        ("db", "db.conf.parked"),
        ("sub/job", "sub/job.ini"),
        ("job", "sub/job.ini"),
        ("web-admin", "web.conf"),
        ("all:web", "more.conf"),
    ],
)
def test_a_conf_is_named_by_its_path_or_by_a_program_in_it(name: str, path: str) -> None:
    assert find_conf(REGISTRY, name) == path


@pytest.mark.parametrize(
    ("name", "said"), [("twice", "more.conf and sub/job.ini"), ("wbe", "did you mean"), ("../x", "no conf")]
)
def test_a_name_that_means_none_or_several_is_refused(name: str, said: str) -> None:
    with pytest.raises(NothingDone, match=said) as caught:
        find_conf(REGISTRY, name)
    assert caught.value.status == 2


def test_only_groups_that_the_conf_touches_are_loaded() -> None:
    assert groups_of([b"[program:web]\n", b"[program:new]\n"], REGISTRY) == ["all", "new", "web"]
    assert groups_of([b"[program:db]\n"], REGISTRY) == ["db"]


class OneNode:
    """An agent that notes what it is asked, and may fail."""

    own_name, peer_name = "a", "b"

    def __init__(self, log: pathlib.Path, *, fails: bool = False) -> None:
        self.log, self.fails = log, fails

    def ask_own(self, message: Any, _timeout_s: float = 1.0) -> Any:
        with open(self.log, "a", encoding="ascii") as file:
            file.write(f"{message['op']} {message.get('names')}\n")
        if self.fails:
            raise NoDaemon("the agent is not running")
        return {"outcome": "done", "lines": [], "problems": {}, "ack": {"on_peer": True}}


@pytest.fixture
def edit(tmp_path: pathlib.Path) -> Edit:
    (tmp_path / "web.conf").write_text("old", encoding="ascii")
    return Edit(str(tmp_path), "web.conf", 0o640, b"old", b"[program:web]\n")


def text_of(edit: Edit) -> str:
    return pathlib.Path(edit.file).read_text(encoding="ascii")


def test_an_edit_that_is_kept_stays_with_the_mode_that_the_conf_had(edit: Edit, tmp_path: pathlib.Path) -> None:
    nodes: Any = OneNode(tmp_path / "log")
    assert apply(nodes, edit, None) == 0
    assert text_of(edit) == "[program:web]\n" and stat.S_IMODE(pathlib.Path(edit.file).stat().st_mode) == 0o640
    assert (tmp_path / "log").read_text(encoding="ascii") == "program-update ['web']\n"


def test_an_edit_that_cannot_be_loaded_is_taken_back(edit: Edit, tmp_path: pathlib.Path) -> None:
    nodes: Any = OneNode(tmp_path / "log", fails=True)
    assert apply(nodes, edit, None) == 1
    assert text_of(edit) == "old"


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_the_guard_takes_back_what_nobody_keeps_whatever_signal_it_gets(
    edit: Edit, tmp_path: pathlib.Path, number: signal.Signals
) -> None:
    nodes: Any = OneNode(tmp_path / "log")
    guard = Guard(nodes, edit)
    edit.write(edit.new)
    os.kill(guard._pid, number)  # noqa: SLF001
    assert guard.take_back() and text_of(edit) == "old"


def test_a_countdown_ends_without_the_command(edit: Edit, tmp_path: pathlib.Path) -> None:
    nodes: Any = OneNode(tmp_path / "log")
    guard = Guard(nodes, edit)
    edit.write(edit.new)
    guard.begin_countdown(-1.8)
    deadline = time.monotonic() + 10
    while text_of(edit) != "old" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert text_of(edit) == "old" and not guard.keep(), "an answer that comes too late is told so"


def test_what_somebody_else_wrote_meanwhile_is_never_overwritten(edit: Edit, tmp_path: pathlib.Path) -> None:
    nodes: Any = OneNode(tmp_path / "log")
    guard = Guard(nodes, edit)
    pathlib.Path(edit.file).write_text("another's", encoding="ascii")
    assert not guard.take_back() and text_of(edit) == "another's"
