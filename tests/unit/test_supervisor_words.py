"""supervisord's words against supervisord's own modules."""

from __future__ import annotations

import pytest
from supervisor import states
from supervisor.xmlrpc import Faults

from ha_agent.core import supervisor_words as words
from ha_agent.core.supervisor_words import FaultCode, State


def test_the_states_are_those_of_supervisord() -> None:
    assert {state.value for state in State} == {w for w in vars(states.ProcessStates) if w.isupper()}


def named(codes: tuple[int, ...]) -> set[str]:
    return {states.getProcessStateDescription(code) for code in codes}


def test_the_groups_that_supervisord_has_too_have_its_borders() -> None:
    assert named(states.STOPPED_STATES) == words.STOPPED_STATES
    assert named(states.RUNNING_STATES) == words.UP_STATES


def test_the_faults_have_supervisords_numbers() -> None:
    assert {fault.name: fault.value for fault in FaultCode}.items() <= vars(Faults).items()


@pytest.mark.parametrize(
    ("group", "states_of_group"),
    [
        (words.LIVE_STATES, {"STARTING", "RUNNING", "BACKOFF", "STOPPING"}),
        (words.SETTLED_STATES, {"RUNNING", "FATAL", "EXITED", "STOPPED", "UNKNOWN"}),
        (words.UNSETTLED_STATES, {"STARTING", "BACKOFF", "STOPPING"}),
        (words.FALLEN_STATES, {"EXITED", "FATAL", "BACKOFF"}),
        (words.EXPLAINED_STATES, {"EXITED", "FATAL", "BACKOFF", "UNKNOWN"}),
        (words.TROUBLED_STATES, {"FATAL", "BACKOFF", "UNKNOWN"}),
    ],
)
def test_our_own_groups_are_the_states_that_they_say(group: frozenset[State], states_of_group: set[str]) -> None:
    assert group == states_of_group


def test_a_process_has_its_groups_name_before_its_own_unless_they_are_the_same() -> None:
    assert (words.full_name("web", "web"), words.full_name("web", "a")) == ("web", "web:a")
