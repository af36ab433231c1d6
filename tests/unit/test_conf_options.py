"""A value has a wrong form where supervisord would refuse it, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from supervisor import datatypes

from ha_agent.core.conf_options import PROGRAM_OPTIONS, TYPES, advise_unknown, is_wrong_type
from ha_agent.core.conf_text import Option

READERS: dict[str, Callable[[str], Any]] = {
    "whole number": datatypes.integer,
    "true or false": datatypes.boolean,
    "size": datatypes.byte_size,
}
OF_ITS_OWN: dict[str, Callable[[str], Any]] = {
    "autorestart": datatypes.auto_restart,
    "exitcodes": datatypes.list_of_exitcodes,
    "umask": datatypes.octal_type,
    "stopsignal": datatypes.signal_number,
}
SAMPLES = (
    "+5", "-1", " 7 ", "00022", "0o22", "099", "SIGPWR", "pwr", "TREM", "15", "99", "0", "64", "33", "0,2", "0;2",
    "300", "0, 2", "", "yes", "YES", "maybe", "unexpected", "Unexpected", "always", "50MB", "50 mb", "10 potatoes",
    "1_000", "5kb", "kb", "0x5", "1,", "rtmin", "sigsigterm", "1.5", "-1MB",
)  # fmt: skip


def reader_of(option: str) -> Callable[[str], Any]:
    return OF_ITS_OWN.get(option) or next(read for words, read in READERS.items() if words in TYPES[option][1])


def is_refused(option: str, value: str) -> bool:
    try:
        reader_of(option)(value)
    except (ValueError, KeyError):
        return True
    return False


@pytest.mark.parametrize("option", sorted(TYPES))
def test_each_option_takes_what_supervisor_takes(option: str) -> None:
    for value in SAMPLES:
        assert is_wrong_type(Option(option, value, 1)) is is_refused(option, value), (option, value)


@given(st.sampled_from(sorted(TYPES)), st.text(alphabet="0123456789+-_ ,kmgbKMGBxoSIGTERMyesno", max_size=6))
def test_any_value_is_judged_as_supervisor_judges_it(option: str, value: str) -> None:
    assert is_wrong_type(Option(option, value, 1)) is is_refused(option, value)


@pytest.mark.parametrize(
    ("spelled", "value", "advice"),
    [
        ("group", "www-data", "remove it: the program has the groups of the user in user="),
        ("PYTHONPATH", "/srv", 'write it into environment=, as PYTHONPATH="..."; on a line of its own it sets nothing'),
        ("autostrat", "true", "did you mean autostart?"),
        ("stopasgrp", "true", "did you mean stopasgroup?"),
        ("stopasgrp", "www-data", "remove it"),
        ("zzz", "1", "remove it"),
    ],
)
def test_what_is_advised_for_an_unknown_option_can_be_followed(spelled: str, value: str, advice: str) -> None:
    assert advise_unknown(Option(spelled.lower(), value, 1, spelled), PROGRAM_OPTIONS) == advice


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=20), st.text(max_size=8))
def test_no_option_is_suggested_under_which_the_value_would_be_refused(name: str, value: str) -> None:
    if "%(" not in value and (advice := advise_unknown(Option(name, value, 1, name), PROGRAM_OPTIONS)).startswith("did"):
        meant = advice.removeprefix("did you mean ").rstrip("?")
        assert meant not in TYPES or not is_refused(meant, value)
