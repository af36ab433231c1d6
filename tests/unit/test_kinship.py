"""Whose a process is, decided from a table: never a spared program, never a stranger, always every escaped one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_agent.core.kinship import (
    UNKNOWN_GROUP,
    Found,
    Kin,
    Life,
    Process,
    select_adrift,
    select_ours,
    select_strays,
)

BOSS = 100
CLOSED = frozenset[int]()
"""Nobody's marks are believed outside of a control group."""


class Kind(Enum):
    """What a branch of the tree is."""

    REGISTRY = auto()
    LOCAL = auto()
    STRANGER = auto()


@dataclass(frozen=True)
class Branch:
    """A program and what came from it: ``steps`` are what each next process did, as letters.

    s: left the session, g: has a process group of its own, w: wiped its environment, o: lost its parent.
    """

    kind: Kind
    steps: tuple[str, ...]
    wiped: bool


branches = st.lists(
    st.builds(
        Branch,
        st.sampled_from(Kind),
        st.lists(st.text("sgwo", max_size=3), max_size=5).map(tuple),
        st.booleans(),
    ),
    max_size=6,
)


@dataclass
class Grown:
    table: dict[int, Process]
    kinds: dict[int, Kind]
    lost: set[int]
    """Those that no sign connects with their program: only the control group tells that they are supervisord's."""
    leaders: dict[int, tuple[str, str]]
    spared: frozenset[int]


def grow(rows: list[Branch]) -> Grown:
    table = {BOSS: Process(BOSS, 1, BOSS, BOSS, 10, within=True)}
    grown = Grown(table, {}, set(), {}, frozenset())
    pid = BOSS
    for number, branch in enumerate(rows):
        stranger = branch.kind is Kind.STRANGER
        pid += 1
        group = "local" if branch.kind is Kind.LOCAL else f"g{number}"
        mark = None if branch.wiped else group
        parent, session = (1, pid) if stranger else (BOSS, BOSS)
        # A stranger shows marks of the registry's: anybody may set them.
        process = Process(pid, parent, pid, session, 20 + number, 0, mark, group, within=not stranger)
        if branch.kind is Kind.REGISTRY:
            grown.leaders[pid] = group, group
        elif branch.kind is Kind.LOCAL:
            grown.spared |= {pid}
        table[pid] = process
        grown.kinds[pid] = branch.kind
        reach = {("pid", pid), ("group", pid)}
        for step in branch.steps:
            pid += 1
            changes: dict[str, int] = {"pid": pid, "parent": process.pid}
            if "s" in step:
                changes |= {"session": pid, "process_group": pid}
            elif "g" in step:
                changes["process_group"] = pid
            if "o" in step:
                changes["parent"] = 1
            process = replace(process, **changes)  # type: ignore[arg-type]
            process = replace(process, group=None if "w" in step else process.group, started_ticks=30 + pid)
            table[pid] = process
            grown.kinds[pid] = branch.kind
            kept = process.group is not None or ("group", process.process_group) in reach
            kept = kept or ("session", process.session) in reach or process.parent not in grown.lost | {1}
            if not kept:
                grown.lost.add(pid)
            else:
                reach |= {("group", process.process_group)}
                if process.session != BOSS:
                    reach.add(("session", process.session))
    return grown


@given(branches)
def test_in_a_control_group_whatever_escaped_is_found_and_nothing_that_is_not_the_registrys(
    rows: list[Branch],
) -> None:
    grown = grow(rows)
    kin = Kin(BOSS, leaders=grown.leaders, spared=grown.spared, local=frozenset({"local"}), uids=CLOSED)
    ours = {p.pid for p in select_ours(grown.table, kin).ours}
    assert BOSS not in ours
    for pid, kind in grown.kinds.items():
        if kind is Kind.REGISTRY:
            assert pid in ours, "escaped"
        elif kind is Kind.STRANGER:
            assert pid not in ours, "a stranger's"
        elif pid not in grown.lost:
            assert pid not in ours, "a local program's"


def ancestors(table: Mapping[int, Process], pid: int) -> list[int]:
    found = []
    while pid in table and pid != BOSS:
        pid = table[pid].parent
        found.append(pid)
    return found


@given(branches)
def test_without_supervisords_word_what_has_kept_its_marks_is_told_apart_all_the_same(rows: list[Branch]) -> None:
    grown = grow([replace(row, steps=tuple(s.replace("w", "") for s in row.steps), wiped=False) for row in rows])
    ours = {p.pid for p in select_ours(grown.table, Kin(BOSS, local=frozenset({"local"}), uids=CLOSED)).ours}
    assert ours == {pid for pid, kind in grown.kinds.items() if kind is Kind.REGISTRY}


@given(branches)
def test_every_one_adrift_is_of_the_registry_and_not_below_supervisord(rows: list[Branch]) -> None:
    grown = grow(rows)
    kin = Kin(BOSS, leaders=grown.leaders, spared=grown.spared, local=frozenset({"local"}), uids=CLOSED)
    found = select_ours(grown.table, kin).ours
    adrift = select_adrift(found, grown.table, BOSS)
    assert {p.pid for p in adrift} == {p.pid for p in found if BOSS not in ancestors(grown.table, p.pid)}
    assert set(select_strays(found, grown.table, BOSS)) <= set(adrift)


def of(*processes: Process, **kin: object) -> Found:
    return select_ours({p.pid: p for p in processes}, Kin(**kin))  # type: ignore[arg-type]


SUPERVISORD = Process(BOSS, 1, BOSS, BOSS, 10, within=True)
CHILD = Process(5, BOSS, 5, BOSS, 20, within=True)


def test_supervisords_word_is_not_taken_for_a_process_that_is_younger() -> None:
    """The number may be another's by now."""
    assert of(SUPERVISORD, CHILD, supervisord=BOSS, spared=frozenset({5}), seen_ticks=20).ours == ()
    assert len(of(SUPERVISORD, CHILD, supervisord=BOSS, spared=frozenset({5}), seen_ticks=19).ours) == 1


def test_a_fork_of_supervisords_is_pending_until_it_is_a_program() -> None:
    fork = replace(CHILD, is_fork=True)
    found = of(SUPERVISORD, fork, supervisord=BOSS)
    assert found.ours == () and [p.pid for p in found.pending] == [5]
    assert of(SUPERVISORD, replace(fork, group="g"), supervisord=BOSS).pending == ()
    assert len(of(replace(fork, parent=1), supervisord=BOSS).ours) == 1, "only a child of supervisord's is its fork"


def test_a_program_of_the_registry_does_not_hide_its_child_behind_a_local_programs_marks() -> None:
    leader = replace(CHILD, group="g", name="p")
    child = Process(6, 5, 5, BOSS, 30, group="local", name="local", within=True)
    assert {p.pid for p in of(SUPERVISORD, leader, child, supervisord=BOSS, local=frozenset({"local"})).ours} == {5, 6}


def test_outside_of_a_control_group_marks_are_believed_of_some_users_alone() -> None:
    marked = Process(7, 1, 7, 7, 20, uid=1000, group="g", name="p")
    assert of(marked, uids=frozenset({0})).ours == ()
    assert [p.group for p in of(marked, uids=frozenset({0, 1000})).ours] == ["g"]
    wiped = replace(marked, group=None)
    assert of(wiped, uids=frozenset({1000})).ours == ()
    assert [p.group for p in of(replace(wiped, within=True)).ours] == [UNKNOWN_GROUP]
    assert [p.group for p in of(wiped, earlier=frozenset({7})).ours] == [], "a supervisord itself"
    assert len(of(replace(wiped, pid=8), earlier=frozenset({7})).ours) == 1, "of its session"


@pytest.mark.parametrize(("started", "is_stray"), [(15, True), (20, False), (25, False)])
def test_what_is_older_than_the_present_process_of_its_program_is_a_stray(started: int, is_stray: bool) -> None:
    """A daemon that its program has started on purpose is younger."""
    leader = replace(CHILD, group="g", name="p")
    daemon = Process(6, 1, 6, 6, started, group="g", name="p", within=True)
    table = {p.pid: p for p in (SUPERVISORD, leader, daemon)}
    found = select_ours(table, Kin(BOSS)).ours
    assert [p.pid for p in select_strays(found, table, BOSS)] == ([6] if is_stray else [])
    del table[5]
    assert [p.pid for p in select_strays([p for p in found if p.pid == 6], table, BOSS)] == [6], "its program has ended"


def test_a_life_differs_by_process_and_by_a_socket_that_is_known() -> None:
    life = Life(5, 10, "a")
    assert not life.is_other_than(Life(5, 10, "a")) and not life.is_other_than(Life(5, 10))
    assert not Life(5, 10).is_other_than(life)
    assert all(life.is_other_than(other) for other in (None, Life(5, 11, "a"), Life(6, 10, "a"), Life(5, 10, "b")))
