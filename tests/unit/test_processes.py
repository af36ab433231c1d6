"""Which processes of this machine came from supervisord, by parents, sessions and marks where it has no group."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from ha_agent.adapters.procs import ProcessTable, Sessions, leads_session, read_table, start_ticks
from ha_agent.core.kinship import UNKNOWN_GROUP, Kin

SOCKET = f"/nonexistent/{os.getpid()}/supervisor.sock"
"""Of this process alone: another one may try the same at the same time, and marks are seen on the whole machine."""
MARKS = {"SUPERVISOR_SERVER_URL": f"unix://{SOCKET}", "SUPERVISOR_GROUP_NAME": "g", "SUPERVISOR_PROCESS_NAME": "p"}

TREE = """\
import os, subprocess, sys, time
os.setsid()
quiet = dict(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
leader = subprocess.Popen(["/bin/sh", "-c", "sleep 60 & wait"], process_group=0, env={}, **quiet)
local = subprocess.Popen(["/bin/sh", "-c", "sleep 60 & wait"], process_group=0, env={}, **quiet)
gone = subprocess.Popen(["/bin/sleep", "60"], start_new_session=True, env=eval(sys.argv[1]), **quiet)
print(leader.pid, local.pid, gone.pid, flush=True)
sys.stdin.read()
for one in (leader, local):
    os.killpg(one.pid, 9)
gone.kill()
"""


@dataclass
class Tree:
    """A stand-in for supervisord, leader of its session, and three of its children; one has a session of its own."""

    boss: int
    leader: int
    local: int
    gone: int


@pytest.fixture
def tree() -> Iterator[Tree]:
    words = [sys.executable, "-c", TREE, repr(MARKS)]
    boss = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert boss.stdin is not None and boss.stdout is not None
    leader, local, gone = map(int, boss.stdout.readline().split())
    # A shell is there before it has started what it was told to.
    deadline = time.monotonic() + 10.0
    while not all(pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii") for pid in (leader, local)):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    yield Tree(boss.pid, leader, local, gone)
    boss.stdin.close()
    boss.wait(10)
    boss.stdout.close()


@pytest.fixture
def table(tmp_path: pathlib.Path) -> ProcessTable:
    return ProcessTable(SOCKET, str(tmp_path / "sessions"))


def found(table: ProcessTable, kin: Kin) -> dict[int, str]:
    return {p.pid: p.group for p in table.find(kin).ours}


def test_what_the_living_supervisord_is_above_is_found_whatever_it_has_wiped(table: ProcessTable, tree: Tree) -> None:
    seen = found(table, Kin(tree.boss, leaders={tree.leader: ("g", "p")}, spared=frozenset({tree.local})))
    assert seen[tree.leader] == seen[tree.gone] == "g" and len(seen) == 3, "the leader's child is the program's, too"
    assert not {tree.local, tree.boss, os.getpid()} & seen.keys()
    seen = found(table, Kin(tree.boss))
    assert seen[tree.local] == UNKNOWN_GROUP and len(seen) == 5


def test_of_an_ended_supervisord_what_is_in_its_session_is_found(tree: Tree, tmp_path: pathlib.Path) -> None:
    table = ProcessTable(SOCKET, str(tmp_path / "sessions"))
    ticks = start_ticks(tree.boss)
    assert ticks is not None and leads_session(tree.boss) and not leads_session(tree.leader)
    table.note_supervisord(tree.boss, ticks)
    again = ProcessTable(SOCKET, str(tmp_path / "sessions"))
    seen = found(again, Kin(None, spared=frozenset({tree.local})))
    assert tree.leader in seen and tree.local not in seen and tree.boss not in seen
    assert {p.pid for p in again.find_adrift(Kin(None))} >= {tree.leader, tree.local}, "nobody is above them"


def test_the_number_of_a_session_that_is_a_strangers_by_now_says_nothing(tree: Tree, tmp_path: pathlib.Path) -> None:
    """The leader's process id is the same, its start time is not."""
    path = tmp_path / "sessions"
    ticks = start_ticks(tree.boss)
    assert ticks is not None
    path.write_text(f"{tree.boss} {ticks - 1}\n999999 5\ngarbage\n{tree.boss}\n", encoding="ascii")
    assert Sessions(str(path)).known == {(tree.boss, ticks - 1), (999999, 5)}
    seen = found(ProcessTable(SOCKET, str(path)), Kin(None))
    assert not {tree.leader, tree.local, tree.boss} & seen.keys() and seen[tree.gone] == "g", "its marks are root's"
    assert path.read_text(encoding="ascii") == "", "it is forgotten"


def test_the_marks_of_another_supervisord_are_none(table: ProcessTable, tree: Tree) -> None:
    assert read_table("/elsewhere.sock", None, None)[tree.gone].group is None
    assert tree.gone not in read_table(SOCKET, frozenset({tree.leader}), None), "nor those of a process outside of the group"
    assert tree.gone in read_table(SOCKET, frozenset({tree.boss}), None), "but of one below it, wherever it has gone"
    within = read_table(SOCKET, frozenset({tree.gone}), None)[tree.gone]
    assert (within.group, within.name, within.within) == ("g", "p", True)


def test_marks_are_believed_of_root_and_of_users_below_supervisord_alone(table: ProcessTable, tree: Tree) -> None:
    """Any user may set supervisord's marks in the environment of his own processes."""
    if os.geteuid() != 0:
        assert tree.gone not in found(table, Kin(None)), "an ordinary user's marks"
    found(table, Kin(tree.boss))
    assert found(table, Kin(None))[tree.gone] == "g", "a user whose processes supervisord was seen to run"
