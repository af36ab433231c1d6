"""Lines of the history and of the listener: whatever they hold, they are what they say or none, and the account owns."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ha_agent.core.account import NodeAccount, PushAccount
from ha_agent.core.events import StateEvent
from ha_agent.core.transitions import Transition
from ha_agent.core.words import OWNING_ROLES, Role, VrrpState

ROLES = st.sampled_from(list(Role))
ODD = st.sampled_from([None, True, "x", "", [], {}, [1], {"a": 1}, math.nan, math.inf, -1, 10**400, "3", ["x"]])
GOOD = {"from": "taking_over", "to": "active", "at": 5, "text": "why", "took_s": 1, "steps": [{"step": "claim"}]}


@settings(max_examples=30, deadline=None)
@given(ROLES, ROLES, st.floats(0, 1e12), st.none() | st.floats(0, 1e6))
def test_a_change_of_role_is_read_from_its_line_of_the_history(
    before: Role, after: Role, at: float, took: float | None
) -> None:
    event: dict[str, Any] = {"from": before.value, "to": after.value, "at": at, "text": "why", "code": "role"}
    if took is not None:
        event.update(took_s=took, steps=[{"step": "claim"}])
    steps = () if took is None else ({"step": "claim"},)
    assert Transition.from_event(event) == Transition(before, after, "why", at, took, steps, event)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(GOOD)), ODD, max_size=3), st.sets(st.sampled_from(sorted(GOOD)), max_size=2))
@example({"at": 10**400}, set())
@example({"took_s": "x"}, set())
@example({"steps": None}, set())
def test_a_line_that_is_damaged_holds_a_change_of_role_or_none_and_never_fails(
    damage: dict[str, Any], gone: set[str]
) -> None:
    event = {key: value for key, value in {**GOOD, **damage}.items() if key not in gone}
    found = Transition.from_event(event)
    if gone & {"from", "to", "at"}:
        assert found is None
    if found is not None:
        assert math.isfinite(found.at_wall) and (found.took_s is None or math.isfinite(found.took_s))
        assert all(isinstance(step, dict) for step in found.steps)


STATE = StateEvent("g", "web", "RUNNING", "EXITED", 5.0, 7, False, 1, 0, 2)


def test_a_change_of_state_survives_the_way_from_the_listener() -> None:
    assert StateEvent.from_dict(STATE.to_dict()) == STATE


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(STATE.to_dict())), ODD, min_size=1, max_size=3))
def test_an_event_that_is_none_is_refused_as_one(damage: dict[str, Any]) -> None:
    try:
        event = StateEvent.from_dict({**STATE.to_dict(), **damage})
    except (KeyError, ValueError, TypeError):
        return
    assert math.isfinite(event.at) and min(event.exits, event.backoffs, event.merged) >= 0


@pytest.mark.parametrize("raw", [3, "text", [], None, {}])
def test_a_row_that_is_no_event_is_refused_as_one(raw: Any) -> None:
    with pytest.raises((KeyError, ValueError, TypeError)):
        StateEvent.from_dict(raw)


@pytest.mark.parametrize("role", list(Role))
def test_an_account_owns_where_its_role_does_and_says_nothing_that_was_not_gathered(role: Role) -> None:
    account = NodeAccount("a", "b", 1.0, role, VrrpState.UNKNOWN, None)
    assert account.owns == (role in OWNING_ROLES)
    assert account.push == PushAccount()
    assert account.drill is None and account.maintenance is None and account.peer is None
