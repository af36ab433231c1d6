"""What adverts say, and when the next one is missing."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_agent.core.adverts import LATE, Advert, Expectation, read_advert

IP = bytes([0x45, 0xC0, 0, 32, 0, 0, 0, 0, 255, 112, 0, 0, 10, 77, 0, 1, 10, 77, 0, 2])
OFTEN, RARELY = Advert(51, 0.1), Advert(52, 1.0)


@pytest.mark.parametrize(
    ("body", "advert"),
    [
        # Type 1 of version 3: a hundredth of a second is the unit.
        ("31 33 64 01 000a 0000 0a4d0064", Advert(0x33, 0.1)),
        ("31 33 64 01 0064 0000 0a4d0064", Advert(0x33, 1.0)),
        ("31 33 64 01 0fff 0000 0a4d0064", Advert(0x33, 40.95)),
        # The upper four bits are reserved, to be ignored on reception.
        ("31 33 64 01 f00a 0000 0a4d0064", Advert(0x33, 0.1)),
        ("31 33 00 01 000a 0000 0a4d0064", Advert(0x33, 0.1, is_farewell=True)),
        # Version 2 has the kind of authentication there, and seconds.
        ("21 33 64 01 0101 0000 0a4d0064", Advert(0x33, 1.0)),
        ("32 33 64 01 000a 0000 0a4d0064", None),
        ("31 33 64 01 0000 0000 0a4d0064", None),
        ("31 33 64 01 000a 00", None),
        ("", None),
    ],
)
def test_what_a_packet_says(body: str, advert: Advert | None) -> None:
    assert read_advert(IP + bytes.fromhex(body)) == advert


def test_a_header_with_options_is_longer() -> None:
    packet = bytes([0x46]) + IP[1:] + bytes(4) + bytes.fromhex("31336401000a0000 0a4d0064")
    assert read_advert(packet) == Advert(0x33, 0.1)


@given(st.binary(max_size=80))
def test_no_packet_is_too_strange(packet: bytes) -> None:
    advert = read_advert(packet)
    assert advert is None or 0 < advert.interval_s <= 255


@pytest.mark.parametrize(
    ("interval_s", "after_s"),
    [(0.02, 0.022), (0.1, 0.11), (0.15, 0.18), (1.0, 2.73)],
)
def test_a_look_begins_in_time_to_be_over_when_the_peer_counts_as_down_but_not_with_the_next_advert_alone(
    interval_s: float, after_s: float
) -> None:
    expectation = Expectation(0.25)
    expectation.note_advert(Advert(51, interval_s), 100.0)
    due = expectation.find_due(100.0)
    assert due is not None and due - 100.0 == pytest.approx(after_s)
    assert due >= 100.0 + LATE * interval_s
    assert expectation.find_end() > 100.0 + 4 * interval_s


def test_adverts_that_come_are_never_missing() -> None:
    expectation = Expectation(0.25)
    for number in range(100):
        now = 100.0 + number * 0.1
        expectation.note_advert(OFTEN, now)
        due = expectation.find_due(now + 0.1)
        assert due is not None and due > now + 0.1


def test_of_several_instances_the_first_that_is_missing_counts() -> None:
    expectation = Expectation(0.25)
    expectation.note_advert(OFTEN, 100.0)
    expectation.note_advert(RARELY, 100.05)
    assert expectation.find_due(100.1) == pytest.approx(100.11)


def test_an_instance_that_is_no_master_any_more_is_forgotten_and_the_others_are_not() -> None:
    expectation = Expectation(0.25)
    expectation.note_advert(OFTEN, 100.0)
    expectation.note_advert(RARELY, 100.0)
    assert expectation.find_due(101.0) == pytest.approx(102.73)
    assert expectation.find_due(110.0) is None


def test_who_says_farewell_is_not_missed() -> None:
    expectation = Expectation(0.25)
    expectation.note_advert(OFTEN, 100.0)
    expectation.note_advert(Advert(51, 0.1, is_farewell=True), 100.05)
    assert expectation.find_due(100.06) is None and expectation.find_end() == -math.inf


@given(st.floats(0.01, 2.0), st.floats(0.01, 1.0))
def test_a_machine_that_answers_and_sends_no_adverts_is_asked_ten_times_a_second_at_most(
    interval_s: float, silent_s: float
) -> None:
    expectation, now, asked = Expectation(silent_s), 100.0, []
    expectation.note_advert(Advert(51, interval_s), now)
    while (due := expectation.find_due(now)) is not None:
        now = max(now, due)
        asked.append(now)
        expectation.note_life(now)
    assert all(later - sooner >= 0.0999 for sooner, later in itertools.pairwise(asked))
    assert len(asked) <= 2 + (interval_s * 3 + 0.5) / 0.1, "not for ever"
