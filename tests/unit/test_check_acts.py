"""What is done about a failing check: restarts and hand-overs, each damped, and never a second one for one fault."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ha_agent.core.check_acts import (
    MOST_MOVES,
    Act,
    ActFacts,
    Move,
    decide_act,
    find_open,
    find_unfinished,
    merge_moves,
    moves_to_rows,
    note_passed,
    read_moves,
)
from ha_agent.core.checks import CheckSettings

RESTART = CheckSettings(kind="running", program="web", on_failure="restart", at_most=2, within_s=100.0)
MOVING = CheckSettings(kind="running", program="web", on_failure="hand-over", at_most=2, within_s=100.0)
FACTS = ActFacts(1000.0, "a", 5)

MOVES = st.lists(
    st.builds(
        Move,
        at=st.integers(0, 50).map(float),
        check=st.sampled_from(("web", "db")),
        node=st.sampled_from(("a", "b")),
        epoch=st.integers(1, 9),
        passed=st.booleans(),
    ),
    max_size=MOST_MOVES // 2,
)


def test_an_alert_alone_is_nothing_to_do() -> None:
    assert decide_act("x", replace(RESTART, on_failure="alert"), FACTS).act is Act.NOTHING


def test_restarts_are_counted_within_their_time() -> None:
    assert decide_act("x", RESTART, replace(FACTS, restarts=(950.0,))).act is Act.RESTART
    held = decide_act("x", RESTART, replace(FACTS, restarts=(950.0, 960.0)))
    assert held.act is Act.HOLD and held.why == "web is not restarted again: 2 within 100 s already (at_most = 2)"
    assert decide_act("x", RESTART, replace(FACTS, restarts=(850.0, 960.0))).act is Act.RESTART


def test_hand_overs_are_counted_for_all_checks_together() -> None:
    passed = (Move(950.0, "db", "a", 1, True), Move(960.0, "web", "b", 2, True))
    assert decide_act("web", MOVING, replace(FACTS, moves=passed)).act is Act.HOLD
    assert decide_act("web", MOVING, replace(FACTS, moves=passed[1:])).act is Act.HAND_OVER


def test_a_fault_that_came_along_moves_nothing_and_one_that_was_cut_off_goes_on() -> None:
    came = replace(FACTS, node="b", epoch=6, moves=(Move(990.0, "web", "a", 5),))
    held = decide_act("web", MOVING, came)
    assert held.act is Act.HOLD and held.why == "not handed over again: it has not passed since a handed over for it"
    assert decide_act("db", MOVING, came).act is Act.HAND_OVER
    cut_off = replace(came, node="a", epoch=5)
    assert decide_act("web", MOVING, cut_off).act is Act.HAND_OVER
    assert find_unfinished("web", cut_off) == came.moves[0] and find_unfinished("web", came) is None
    # It led nowhere, and this node has taken over again.
    assert decide_act("web", MOVING, replace(came, node="a", epoch=6)).act is Act.HOLD
    assert decide_act("web", MOVING, replace(came, moves=note_passed(came.moves, "web"))).act is Act.HAND_OVER


@given(MOVES, MOVES)
def test_two_accounts_come_to_the_same_whoever_hears_whom(own: list[Move], heard: list[Move]) -> None:
    merged = merge_moves(own, heard)
    assert merged == merge_moves(heard, own) == merge_moves(merged, own) and list(merged) == sorted(merged)
    assert {m.identity for m in merged} == {m.identity for m in (*own, *heard)}
    for move in merged:
        assert move.passed is any(m.passed for m in (*own, *heard) if m.identity == move.identity)
    assert read_moves(moves_to_rows(merged)) == merged


def test_the_last_move_of_each_check_is_remembered_before_others() -> None:
    many = [Move(float(n), "db", "a", n) for n in range(100, 200)]
    merged = merge_moves([Move(1.0, "web", "a", 1)], many)
    assert len(merged) == MOST_MOVES and find_open(merged, "web") is not None


@pytest.mark.parametrize(
    "raw",
    ["x", [1], [[1.0, "c", "n", 1]], [["1", "c", "n", 1, True]], [[1.0, "", "n", 1, True]], [[1.0, "c", "n", True, True]],
     [[1.0, "c", "n" * 65, 1, True]], [[True, "c", "n", 1, True]], [[float("nan"), "c", "n", 1, True]],
     [[1.0, "c", "n", 1, 1]], [[1.0, "c", "n", 1, True]] * (MOST_MOVES + 1)],
)  # fmt: skip
def test_what_is_no_list_of_moves_is_refused(raw: object) -> None:
    with pytest.raises(ValueError, match="move"):
        read_moves(raw)


class Pair(RuleBasedStateMachine):
    """Two nodes, one check, a fault that is on either or on both; agents are killed at any step of a hand-over."""

    @initialize()
    def begin(self) -> None:
        self.now, self.epoch, self.active = 0.0, 1, 0
        self.disks: list[tuple[Move, ...]] = [(), ()]
        self.moved: list[tuple[float, int]] = []
        self.passed_since = True

    def _facts(self) -> ActFacts:
        return ActFacts(self.now, "ab"[self.active], self.epoch, self.disks[self.active])

    @rule(cut=st.integers(0, 4))
    def fails(self, cut: int) -> None:
        """The check fails on the active node. ``cut``: the step before which its agent is killed; 4 for none."""
        self.now += 1
        facts, own, other = self._facts(), self.active, 1 - self.active
        if decide_act("web", MOVING, facts).act is not Act.HAND_OVER or cut == 0:
            return
        move = find_unfinished("web", facts) or Move(self.now, "web", facts.node, facts.epoch)
        self.disks[own] = merge_moves(self.disks[own], [move])
        if cut == 1:
            return
        self.disks[other] = merge_moves(self.disks[other], self.disks[own])
        if cut == 2:
            return
        assert move in self.disks[other]
        assert self.passed_since, "never twice for one fault"
        self.moved.append((self.now, other))
        self.passed_since = False
        if cut != 3:
            self.active = other
        # Where keepalived did not move the same node has taken over again: a new epoch in any case.
        self.epoch += 1

    @rule()
    def passes(self) -> None:
        """The check passes on the active node, which notes that, and tells the other one."""
        self.now += 1
        self.passed_since = True
        self.disks[self.active] = note_passed(self.disks[self.active], "web")

    @rule()
    def speak(self) -> None:
        """Signs of life, both ways."""
        merged = merge_moves(*self.disks)
        self.disks = [merged, merged]

    @rule()
    def switch_over(self) -> None:
        """An operator hands over; the pre-checks see to it that the two have spoken."""
        self.speak()
        self.active, self.epoch, self.now = 1 - self.active, self.epoch + 1, self.now + 1

    @rule(seconds=st.integers(1, 200))
    def wait(self, seconds: int) -> None:
        """Time goes by."""
        self.now += seconds

    @invariant()
    def damped(self) -> None:
        """Within the time no more than at_most."""
        for at, _ in getattr(self, "moved", ()):
            assert sum(0 <= other - at < MOVING.within_s for other, _ in self.moved) <= MOVING.at_most


TestPair = Pair.TestCase
