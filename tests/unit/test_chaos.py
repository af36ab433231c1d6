"""The chaos run's own parts: the same seed gives the same schedule, and the checker finds what it is there to find."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chaos import checker
from tests.chaos.checker import RELOADED_S, RESOLVE_S, Injected
from tests.chaos.editor import TOGGLED, Edit, Toggle
from tests.chaos.faults import Injector
from tests.chaos.schedule import ALL_KINDS, KINDS, digest, make_episodes


def test_the_same_seed_gives_the_same_schedule_and_another_one_another() -> None:
    assert list(itertools.islice(make_episodes(7), 50)) == list(itertools.islice(make_episodes(7), 50))
    assert digest(7) == digest(7) != digest(8)


def test_every_kind_of_fault_is_drawn() -> None:
    drawn = {f.kind for episode in itertools.islice(make_episodes(1), 300) for f in episode.faults}
    assert drawn == set(KINDS)


def test_a_pair_with_a_witness_has_every_kind_and_the_others_none_of_its_own() -> None:
    drawn = {f.kind for episode in itertools.islice(make_episodes(1, votes=True), 400) for f in episode.faults}
    assert drawn == set(ALL_KINDS)
    assert all(hasattr(Injector, f"_begin_{kind.replace('-', '_')}") for kind in ALL_KINDS)


@given(st.integers(min_value=0, max_value=10**6))
def test_a_keeper_hangs_beside_no_agent_that_is_down(seed: int) -> None:
    for episode in itertools.islice(make_episodes(seed, votes=True), 20):
        for one in (f for f in episode.faults if f.kind == "keeper-hang"):
            beside = {f.kind for f in episode.faults if f.node == one.node} - {"keeper-hang"}
            assert not beside & {kind.name for kind in ALL_KINDS.values() if kind.mutes or kind.name == "agent-kill"}


@given(st.integers(min_value=0, max_value=10**6))
def test_no_episode_does_anything_to_a_node_that_is_off_or_frozen(seed: int) -> None:
    for episode in itertools.islice(make_episodes(seed), 5):
        for one, two in itertools.permutations(episode.faults, 2):
            if one.node == two.node and one.kind in ("power", "freeze", "pause"):
                assert two.ends_s < one.begins_s or two.begins_s > one.ends_s


A, B = "node-a", "node-b"


def test_a_program_on_both_nodes_is_a_violation() -> None:
    seen = [("p", A, 0.0, 10.0), ("p", B, 9.0, 20.0)]
    (found,) = checker.check_overlaps(seen, [])
    assert "p ran on both nodes for 1.00 s" in found.text and found.at_mono == 9.0


def test_programs_that_change_nodes_are_none() -> None:
    assert not checker.check_overlaps([("p", A, 0.0, 10.0), ("p", B, 10.0, 20.0), ("q", A, 0.0, 20.0)], [])


@pytest.mark.parametrize(
    ("kind", "ended", "allowed"),
    [("block-all", 9.5, True), ("pause", 9.5, True), ("block-vrrp", 9.5, False), ("block-all", 9.9 - RESOLVE_S - 1, False)],
)
def test_an_overlap_is_allowed_only_while_the_machines_are_severed_and_a_stated_time_after(
    kind: str, ended: float, allowed: bool
) -> None:
    seen = [("p", A, -50.0, 10.0), ("p", B, 9.0, 20.0)]
    assert (not checker.check_overlaps(seen, [Injected(kind, A, -40.0, ended)])) is allowed


def test_with_a_witness_no_partition_allows_an_overlap_and_a_thawed_machine_a_moment() -> None:
    seen = [("p", A, -50.0, 10.0), ("p", B, 9.5, 20.0)]
    assert checker.check_overlaps(seen, [Injected("block-all", A, -40.0, 9.9)], votes=True)
    assert not checker.check_overlaps(seen, [Injected("pause", A, -40.0, 9.5)], votes=True)
    assert checker.check_overlaps(seen, [Injected("pause", A, -40.0, 5.0)], votes=True)


def test_a_second_copy_is_a_violation_whatever_else_is_broken() -> None:
    (found,) = checker.check_doubles({("p", A): 3.0}, [Injected("cable", A, 2.0, 4.0), Injected("reload", B, 2.0, 4.0)])
    assert "two copies of p ran on node-a" in found.text


def test_a_second_copy_behind_a_reload_of_that_node_s_supervisord_is_none_for_its_bound() -> None:
    reload = [Injected("reload", A, 2.0, 2.5)]
    assert not checker.check_doubles({("p", A): 2.5 + RELOADED_S}, reload)
    assert checker.check_doubles({("p", A): 2.6 + RELOADED_S}, reload) and checker.check_doubles({("p", A): 1.9}, reload)


def edit(number: int, path: str = "x.conf", *, node: str = A, deletes: bool = False, replaced: int | None = None) -> Edit:
    return Edit(number, node, path, deletes, replaced, float(number))


def acknowledged(made: Edit) -> Edit:
    made.acknowledged_mono = made.at_mono + 0.5
    return made


def content(number: int) -> bytes:
    return f"[program:x]\n; edit {number}\n".encode()


def test_an_acknowledged_edit_that_is_not_in_force_is_a_violation() -> None:
    edits = [acknowledged(edit(1)), acknowledged(edit(2, replaced=1))]
    assert not checker.check_edits(edits, {"x.conf": content(2)}, [])
    (found,) = checker.check_edits(edits, {"x.conf": content(1)}, [content(2)])
    assert "acknowledged edit 2" in found.text
    assert checker.check_edits(edits, {}, [content(2)])


def test_an_acknowledged_deletion_that_came_back_is_a_violation() -> None:
    edits = [acknowledged(edit(1)), acknowledged(edit(2, deletes=True, replaced=1))]
    assert not checker.check_edits(edits, {}, [])
    assert checker.check_edits(edits, {"x.conf": content(1)}, [])


def test_a_later_edit_without_acknowledgement_may_win_or_be_kept_but_not_vanish() -> None:
    edits = [acknowledged(edit(1)), edit(2, node=B)]
    assert not checker.check_edits(edits, {"x.conf": content(2)}, [content(1)])
    assert not checker.check_edits(edits, {"x.conf": content(1)}, [content(2)])
    (found,) = checker.check_edits(edits, {"x.conf": content(1)}, [])
    assert "edit 2 of x.conf on node-b is neither in force nor kept" in found.text


def test_the_longest_silence_is_what_lies_between_two_stretches_on_whatever_nodes() -> None:
    seen = [("p", A, 0.0, 4.0), ("p", B, 6.5, 9.0), ("p", A, 8.0, 12.0), ("q", A, 0.0, 1.0)]
    assert checker.longest_silence(seen, "p") == 2.5


def test_an_acknowledged_stop_or_start_that_does_not_hold_is_a_violation() -> None:
    parked, registered = {f"{TOGGLED}.conf.parked"}, {f"{TOGGLED}.conf"}

    def toggles(*rows: tuple[str, bool]) -> list[Toggle]:
        return [Toggle(verb, A, float(at), acknowledged) for at, (verb, acknowledged) in enumerate(rows)]

    assert checker.check_toggles(toggles(("stop", True)), parked) == []
    (found,) = checker.check_toggles(toggles(("stop", True)), registered)
    assert "acknowledged stop" in found.text
    assert checker.check_toggles(toggles(("stop", True), ("start", False)), registered) == []
    assert checker.check_toggles(toggles(("stop", True), ("start", False)), parked) == []
    assert checker.check_toggles(toggles(("stop", False)), registered) == []
    assert checker.check_toggles([], set()) and checker.check_toggles([], parked | registered)
