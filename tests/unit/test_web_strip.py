"""The strip of the last 24 hours: who was active, and when nobody was, from what both nodes wrote down."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ha_agent.core.words import Role
from ha_agent.web.strip import SPAN_S, Piece, find_pieces, sum_outages

NOW = 1_700_000_000.0
CURRENT = {"a": "active", "b": "standby"}


def change(node: str, before: str, after: str, ago: float) -> dict[str, Any]:
    return {"at": NOW - ago, "node": node, "code": "x", "text": "", "from": before, "to": after}


def test_a_quiet_day_is_one_piece() -> None:
    assert find_pieces([], CURRENT, NOW) == [Piece(NOW - SPAN_S, NOW, ("a",))]
    assert find_pieces([{"at": NOW, "node": "a", "code": "parked"}], CURRENT, NOW)[0].active == ("a",)
    assert find_pieces([], {}, NOW) == [Piece(NOW - SPAN_S, NOW, None)]


def test_a_switchover_has_a_gap_of_its_own_length() -> None:
    events = [
        change("b", "active", "releasing", 100.0),
        change("b", "releasing", "standby", 99.6),
        change("a", "standby", "taking_over", 99.5),
        change("a", "taking_over", "active", 99.0),
    ]
    pieces = find_pieces(events, CURRENT, NOW)
    assert [piece.active for piece in pieces] == [("b",), (), ("a",)]
    count, took = sum_outages(pieces)
    assert count == 1 and abs(took - 1.0) < 1e-3


def test_a_node_that_lost_its_power_is_active_until_the_other_one_takes_over() -> None:
    events = [change("a", "standby", "taking_over", 50.0), change("a", "taking_over", "active", 48.0)]
    pieces = find_pieces([change("b", "taking_over", "active", 5000.0), *events], {"a": "active"}, NOW)
    assert [piece.active for piece in pieces] == [(), ("b",), (), ("a",)]
    assert abs(pieces[-2].end - pieces[-2].begin - 2.0) < 1e-3


def test_changes_before_the_time_say_who_was_active_at_its_beginning() -> None:
    events = [change("b", "taking_over", "active", SPAN_S + 500), change("b", "active", "releasing", 10.0)]
    pieces = find_pieces(events, {"b": "standby"}, NOW)
    assert pieces == [Piece(NOW - SPAN_S, NOW - 10, ("b",)), Piece(NOW - 10, NOW, ())]


def test_of_what_nobody_has_read_nothing_is_said() -> None:
    pieces = find_pieces([change("a", "taking_over", "active", 50.0)], CURRENT, NOW, known_from=NOW - 100)
    assert [(piece.begin, piece.active) for piece in pieces] == [(NOW - SPAN_S, None), (NOW - 100, ()), (NOW - 50, ("a",))]
    assert sum_outages(pieces) == (1, 50.0)


ROLES = st.sampled_from([role.value for role in Role])


@given(st.lists(st.tuples(st.sampled_from("ab"), ROLES, ROLES, st.floats(0, 2 * SPAN_S)), max_size=30))
def test_the_pieces_cover_the_whole_time_once(rows: list[tuple[str, str, str, float]]) -> None:
    pieces = find_pieces([change(*row) for row in rows], CURRENT, NOW)
    assert pieces[0].begin == NOW - SPAN_S and pieces[-1].end == NOW
    assert all(one.end == two.begin and one.active != two.active for one, two in itertools.pairwise(pieces))
