"""A machine counts as silent only when it was asked all the time, until now, and gave no sign."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ha_agent.core.silence import ANSWER_S, GAP_S, Silence, Terms, terms_of

TERMS = terms_of(0.25)

EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["echo"] * 12 + ["connection", "sign", "ask"]),
        st.sampled_from([0.0, 0.001, 0.004, 0.0045, 0.005, 0.006, 0.02, 0.049, 0.06, 0.3]),
    ),
    max_size=200,
)
"""What happens, and how long after what happened before."""


@pytest.mark.parametrize(
    ("silent_s", "terms"),
    [(0.25, Terms(0.25, 50, 4)), (0.01, Terms(0.01, 2, 1)), (1.0, Terms(1.0, 200, 14))],
)
def test_the_terms_are_those_of_a_look(silent_s: float, terms: Terms) -> None:
    assert terms_of(silent_s) == terms


class Told:
    """What was done, as it was done, and what silence means by the words of the promise."""

    def __init__(self) -> None:
        self.now = 100.0
        self.echoes: list[float] = []
        self.connections: list[float] = []
        self.signs: list[float] = []

    @property
    def is_silent(self) -> bool:
        since = self.now - TERMS.silent_s
        if any(sign > since for sign in self.signs):
            return False
        echoes = [sent for sent in self.echoes if sent >= since]
        before = [sent for sent in self.echoes if sent <= since]
        stretch = [*before[-1:], *echoes]
        pauses = [later - sooner for sooner, later in zip(stretch, [*stretch[1:], self.now], strict=True)]
        return (
            bool(before)
            and max(pauses, default=1.0) <= GAP_S
            and sum(sent <= self.now - ANSWER_S for sent in echoes) >= TERMS.echoes
            and sum(sent >= since for sent in self.connections) >= TERMS.connections
        )


REGULAR = [("echo", 0.0045)] * 57
SPREAD = [*REGULAR[:17], *[("connection", 0.0), *REGULAR[:11]] * 4]


@given(EVENTS)
@example([*SPREAD, ("ask", 0.0045)])
@example([*SPREAD, ("ask", 0.06)])
@example([*SPREAD, ("sign", 0.001), ("ask", 0.0)])
@example([("sign", 0.0), *SPREAD, ("ask", 0.0045)])
@example([*SPREAD, ("echo", 0.06), ("connection", 0), *[("echo", 0.0)] * 60, ("ask", 0.005)])
def test_nothing_is_silent_that_was_not_asked_without_a_sign_all_the_time(events: list[tuple[str, float]]) -> None:
    silence, told = Silence(TERMS), Told()
    for what, pause in events:
        told.now += pause
        if what == "echo":
            silence.note_echo(told.now)
            told.echoes.append(told.now)
        elif what == "connection":
            silence.note_connection(told.now)
            told.connections.append(told.now)
        elif what == "sign":
            silence.note_sign()
            told.signs.append(told.now)
            told.echoes.clear()
        if silence.is_proved(told.now):
            assert told.is_silent
        assert silence.is_proved(told.now + GAP_S + 0.001 + TERMS.silent_s) is False, "what is old proves nothing"


@given(st.lists(st.floats(0.0, 0.004), min_size=80, max_size=120))
def test_a_machine_that_is_asked_regularly_and_says_nothing_is_silent_after_that_time(lateness: list[float]) -> None:
    """Each echo is late by something, as timers are."""
    silence, step = Silence(TERMS), 0.0045
    for number, late in enumerate(lateness):
        now = 100.0 + number * step + late
        if number >= 17 and (number - 17) % 11 == 0:
            silence.note_connection(now)
        silence.note_echo(now)
        took = now - 100.0
        assert silence.is_proved(now) == (took >= TERMS.silent_s + lateness[0]) or abs(took - TERMS.silent_s) < 0.01


def test_a_sign_begins_all_anew() -> None:
    silence, now = Silence(TERMS), 100.0
    for what, pause in SPREAD:
        now += pause
        silence.note_echo(now) if what == "echo" else silence.note_connection(now)
    now += 0.006
    assert silence.is_proved(now)
    silence.note_sign()
    assert not silence.is_proved(now)
