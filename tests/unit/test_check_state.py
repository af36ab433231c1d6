"""When a check counts as failing and as well again, whatever the order of its answers."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ha_agent.core.check_state import CheckState, Health, Limits, Result, is_due, note_done, take

GOOD, BAD = Result(True, "200", 0.001), Result(False, "refused", 0.001)
NEW = CheckState()
LIMITS = st.builds(Limits, fall=st.integers(1, 5), rise=st.integers(1, 5))


def run(results: list[bool], limits: Limits, state: CheckState = NEW) -> list[CheckState]:
    """Every state on the way, the first one included."""
    states = [state]
    for number, good in enumerate(results):
        states.append(take(states[-1], GOOD if good else BAD, limits, float(number)))
    return states


@given(st.lists(st.booleans(), max_size=40), LIMITS)
def test_it_changes_after_so_many_in_a_row_and_never_else(results: list[bool], limits: Limits) -> None:
    states = run(results, limits)
    for number, (before, after) in enumerate(pairwise(states)):
        lately = results[: number + 1]
        fell = lately[-limits.fall :] == [False] * limits.fall
        rose = lately[-limits.rise :] == [True] * limits.rise
        if before.health is not Health.FAILING:
            assert (after.health is Health.FAILING) is fell
        else:
            assert (after.health is Health.PASSING) is rose
        assert (after.since == before.since) is (after.health is before.health)


@given(st.lists(st.booleans(), min_size=1, max_size=40), LIMITS)
def test_something_is_due_only_while_it_fails_and_the_last_answers_were_bad(results: list[bool], limits: Limits) -> None:
    last = run(results, limits)[-1]
    assert is_due(last, limits) is (results[-limits.fall :] == [False] * limits.fall)


@given(st.lists(st.booleans(), max_size=20), LIMITS)
def test_after_something_was_done_it_must_fail_anew_and_still_counts_as_failing(results: list[bool], limits: Limits) -> None:
    failing = run([*results, *[False] * limits.fall], limits)[-1]
    done = note_done(failing)
    assert done.health is Health.FAILING and not is_due(done, limits)
    again = run([False] * limits.fall, limits, done)
    assert [is_due(state, limits) for state in again] == [False] * limits.fall + [True]


def test_a_check_that_flaps_below_its_limit_stays_what_it_is() -> None:
    states = run([True, False, False] * 10, Limits(3, 2))
    assert {state.health for state in states[1:]} == {Health.PASSING}


def test_the_first_good_answer_is_enough_where_nothing_is_known() -> None:
    assert run([True], Limits(3, 5))[-1].health is Health.PASSING
