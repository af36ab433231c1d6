"""Which processes an earlier supervisord left behind."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ha_agent.core.kinship import Marked, select_orphans


def process(pid: int, parent: int, started: int) -> Marked:
    return Marked(pid, parent, started, "g", "p")


def test_what_was_started_before_the_present_supervisord_is_an_orphan_and_so_are_its_children() -> None:
    old, child, grandchild = process(10, 1, 50), process(11, 10, 200), process(12, 11, 300)
    own, own_child = process(20, 9, 150), process(21, 20, 160)
    assert select_orphans([grandchild, own, child, old, own_child], 100) == [grandchild, child, old]


def test_without_a_supervisord_everything_is_an_orphan() -> None:
    both = [process(1, 0, 5), process(2, 1, 6)]
    assert select_orphans(both, None) == both


def test_a_program_that_put_itself_into_the_background_under_the_present_supervisord_is_none() -> None:
    assert select_orphans([process(30, 1, 150)], 100) == []


@given(st.lists(st.tuples(st.integers(2, 20), st.integers(1, 20), st.integers(0, 200)), unique_by=lambda r: r[0]))
def test_nothing_that_is_younger_and_whose_parents_are_younger_is_ever_ended(rows: list[tuple[int, int, int]]) -> None:
    marked = [process(*row) for row in rows]
    found = select_orphans(marked, 100)
    pids = {p.pid for p in found}
    assert all(p.started_ticks < 100 or p.parent in pids for p in found)
    assert all(p.started_ticks >= 100 for p in marked if p.pid not in pids)
