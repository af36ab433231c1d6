"""Which processes without marks came from supervisord, by their session; shown with processes of this machine."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from ha_agent.adapters.procs import UNKNOWN_GROUP, Lineage, find_marked, leads_session, list_leaders

TREE = """\
import os, subprocess, sys, time
os.setsid()
quiet = dict(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env={})
leader = subprocess.Popen(["/bin/sh", "-c", "sleep 60 & wait"], process_group=0, **quiet)
local = subprocess.Popen(["/bin/sh", "-c", "sleep 60 & wait"], process_group=0, **quiet)
gone = subprocess.Popen(["/bin/sleep", "60"], start_new_session=True, **quiet)
print(leader.pid, local.pid, gone.pid, flush=True)
sys.stdin.read()
for one in (leader, local):
    os.killpg(one.pid, 9)
gone.kill()
"""


@pytest.fixture
def tree() -> Iterator[tuple[int, int, int, int]]:
    """A stand-in for supervisord, leader of its session, and three of its children: process ids."""
    boss = subprocess.Popen([sys.executable, "-c", TREE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert boss.stdin is not None and boss.stdout is not None
    leader, local, gone = map(int, boss.stdout.readline().split())
    # A shell is there before it has started what it was told to.
    deadline = time.monotonic() + 10.0
    while not all(pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii") for pid in (leader, local)):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    yield boss.pid, leader, local, gone
    boss.stdin.close()
    boss.wait(10)
    boss.stdout.close()


def found(lineage: Lineage) -> dict[int, str]:
    return {p.pid: p.group for p in find_marked("/nonexistent.sock", frozenset({"g"}), lineage)}


def test_descendants_are_found_by_their_session_and_named_by_what_supervisord_said(tree: tuple[int, int, int, int]) -> None:
    boss, leader, local, gone = tree
    assert leads_session(boss) and not leads_session(leader) and not leads_session(2**22 + 1)
    seen = found(Lineage(frozenset({boss}), {leader: ("g", "p")}))
    assert seen[leader] == "g" and list(seen.values()).count("g") == 2, "the leader's child is the program's, too"
    assert seen[local] == UNKNOWN_GROUP
    assert boss not in seen and gone not in seen and os.getpid() not in seen
    assert list_leaders(Lineage(frozenset({boss}), {leader: ("g", "p"), gone: ("g", "q"), 1: ("g", "r")})) == [("g", "p")]


def test_local_programs_and_their_children_are_spared(tree: tuple[int, int, int, int]) -> None:
    boss, leader, local, _ = tree
    seen = found(Lineage(frozenset({boss}), {leader: ("g", "p")}, frozenset({local})))
    assert local not in seen and set(seen.values()) == {"g"}


def test_without_a_session_nothing_without_marks_is_ever_found(tree: tuple[int, int, int, int]) -> None:
    _, leader, _, _ = tree
    assert found(Lineage(frozenset(), {leader: ("g", "p")})) == {}
