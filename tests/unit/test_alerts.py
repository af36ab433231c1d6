"""The book of alerts: a start, repeats and an end, each told once, however often it is looked at or cut off."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_agent.core.alert_codes import CODES
from ha_agent.core.alerts import (
    GATHER_S,
    Book,
    Condition,
    Kind,
    Moment,
    Notification,
    is_wanted,
    matches,
)
from ha_agent.core.faults import Urgency

FATAL = Condition("program-fatal", "web", "web is FATAL")


def told(book: Book, at: float, *conditions: Condition, moments: tuple[Moment, ...] = ()) -> list[tuple[Kind, str, str]]:
    return [(n.kind, n.code, n.text) for n in book.step(conditions, moments, at)]


def reborn(book: Book, repeat_s: float = 100.0) -> Book:
    """The book as a process finds it that comes after this one."""
    fresh = Book("n", repeat_s)
    fresh.load(json.loads(json.dumps(book.to_dict())))
    return fresh


def test_a_condition_is_told_at_its_start_repeated_and_told_when_it_is_over() -> None:
    book = Book("n", 100.0)
    assert told(book, 0.0, FATAL) == [(Kind.BEGIN, "program-fatal", "web is FATAL")]
    assert told(book, 50.0, FATAL) == []
    assert told(book, 100.0, FATAL) == [(Kind.REPEAT, "program-fatal", "web is FATAL")]
    assert told(book, 150.0) == [(Kind.END, "program-fatal", "web is FATAL")]
    assert told(book, 151.0) == []


def test_what_must_last_a_while_is_not_told_before_and_not_at_all_where_it_does_not() -> None:
    book, lost = Book("n", 100.0), Condition("peer-lost", "b", "b does not answer")
    hold, settle = CODES["peer-lost"].hold_s, CODES["peer-lost"].settle_s
    assert told(book, 0.0, lost) == told(book, hold - 0.1, lost) == []
    assert told(book, hold - 0.05) == told(book, 100.0) == []
    assert told(book, 200.0, lost) == []
    assert told(book, 200.0 + hold, lost) == [(Kind.BEGIN, "peer-lost", "b does not answer")]
    assert told(book, 300.0) == [], "one that is over for a moment only is not over"
    assert told(book, 300.0 + settle - 0.1, lost) == []
    assert told(book, 400.0) == []
    assert told(book, 400.0 + settle) == [(Kind.END, "peer-lost", "b does not answer")]


def test_many_at_once_are_one_and_those_that_follow_are_gathered() -> None:
    book = Book("n", 1000.0)
    first = [Condition("program-fatal", f"p{n}", f"p{n} is FATAL") for n in range(100)]
    notes = book.step(first, (), 0.0)
    assert len(notes) == 1 and len(notes[0].subjects) == 100 and "100 times" in notes[0].text
    assert "and 80 more" in notes[0].text
    more = [*first, Condition("program-fatal", "x", "x is FATAL")]
    assert book.step(more, (), 1.0) == [] == book.step(more, (), GATHER_S - 0.1)
    (late,) = book.step(more, (), GATHER_S)
    assert (late.kind, late.subjects) == (Kind.BEGIN, ("x",))


def test_what_is_over_before_it_could_be_told_is_told_as_a_moment() -> None:
    book = Book("n", 1000.0)
    book.step([FATAL], (), 0.0)
    short = Condition("program-fatal", "x", "x is FATAL")
    assert book.step([FATAL, short], (), 1.0) == []
    assert book.step([FATAL], (), 2.0)[0].text == "x is FATAL (over by now)"


def test_silence_holds_a_condition_back_until_it_ends() -> None:
    book, silent = Book("n", 100.0), Condition("program-fatal", "web", "web is FATAL", silenced=True)
    assert told(book, 0.0, silent) == told(book, 500.0, silent) == []
    assert told(book, 501.0, FATAL) == [(Kind.BEGIN, "program-fatal", "web is FATAL")]
    assert told(book, 502.0, silent) == []
    assert told(book, 503.0) == [(Kind.END, "program-fatal", "web is FATAL")], "who was told of it is told of its end"


def test_a_clock_that_is_set_back_holds_nothing_for_ever() -> None:
    book = Book("n", 100.0)
    moment = Moment("stalled", "n", "did nothing")
    assert len(told(book, 5000.0, moments=(moment,))) == 1
    assert len(told(book, 10.0, moments=(moment,))) == 1


def test_a_newer_or_damaged_book_is_refused_and_unknown_codes_are_left_out() -> None:
    book = Book("n", 100.0)
    raw = book.to_dict()
    raw["open"] = [{"code": "of-tomorrow", "subject": "x", "text": "x", "since": 1.0}]
    book.load(raw)
    assert book.open == {}
    for bad in ({}, {"number": "x"}, {**raw, "waiting": [{"code": "stalled"}]}):
        with pytest.raises((KeyError, ValueError, TypeError)):
            Book("n", 1.0).load(bad)


STEPS = st.lists(
    st.tuples(st.floats(0.05, 40.0), st.sets(st.sampled_from("abc")), st.booleans(), st.booleans()), min_size=1, max_size=40
)


@given(STEPS)
def test_a_restart_at_any_moment_tells_nothing_twice_and_forgets_nothing(
    steps: list[tuple[float, set[str], bool, bool]],
) -> None:
    """Design, alerts: each has a start and an end and survives a restart of the daemon without being sent twice.

    Fault: conditions that come and go at random, and a process that is replaced between any two looks.
    Answer: what is told is the same as by one that lives on.
    Bound: of each subject begin and end alternate, and every begin has its end.
    """
    now, one, other = 0.0, Book("n", 100.0), Book("n", 100.0)
    seen: list[Notification] = []
    for pause, names, moment, restart in [*steps, (1.0, set(), False, False), *[(20.0, set(), False, True)] * 3]:
        now += pause
        conditions = [Condition("program-fatal", name, name) for name in sorted(names)]
        moments = (Moment("stalled", "n", "did nothing"),) if moment else ()
        if restart:
            other = reborn(other)
        notes = one.step(conditions, moments, now)
        assert other.step(conditions, moments, now) == notes
        seen += notes
    assert one.open == {}
    for name in "abc":
        story = [n.kind for n in seen if n.code == "program-fatal" and name in n.subjects and n.kind is not Kind.REPEAT]
        lasting = [kind for kind in story if kind is not Kind.MOMENT]
        assert lasting == [Kind.BEGIN, Kind.END] * (len(lasting) // 2)
    assert [n.number for n in seen] == list(range(1, len(seen) + 1))


def test_a_notification_survives_being_written_down() -> None:
    (note,) = Book("n", 1.0).step([FATAL], (), 5.0)
    assert Notification.from_dict(json.loads(json.dumps(note.to_dict()))) == note
    assert note.to_dict()["id"] == "n-1"


@pytest.mark.parametrize("code", CODES.values(), ids=lambda c: c.code)
def test_every_alert_says_what_it_is_and_what_to_do(code: object) -> None:
    chosen = next(c for c in CODES.values() if c is code)
    assert chosen.title and chosen.remedy and chosen.code == chosen.code.lower()
    assert not chosen.title.endswith(".") and chosen.hold_s >= 0 and chosen.settle_s >= 0


def test_a_sink_gets_what_it_asked_for() -> None:
    book = Book("n", 100.0)
    (begin,) = book.step([FATAL], (), 0.0)
    (end,) = book.step([], (), 60.0)
    assert is_wanted(begin, Urgency.CRITICAL, (), True) and is_wanted(end, Urgency.CRITICAL, (), True)
    assert not is_wanted(end, Urgency.INFO, (), False)
    assert not is_wanted(begin, Urgency.INFO, ("role-*",), True) and is_wanted(begin, Urgency.INFO, ("program-*",), True)
    (moment,) = book.step([], (Moment("role-standby", "n", "released"),), 70.0)
    assert not is_wanted(moment, Urgency.WARNING, (), True)
    assert matches("peer-lost", ("x", "peer-*")) and not matches("peer-lost", ("peer",))
