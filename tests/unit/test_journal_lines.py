"""Lines of the journal: what is asked for, what is read, how much of it, and in which order."""

from __future__ import annotations

import json

from ha_agent.core.journal_lines import TOO_LONG, journal_words, merge_lines, newest_that_fit, read_lines


def row(at_us: int, message: object, **more: object) -> str:
    return json.dumps({"__REALTIME_TIMESTAMP": str(at_us), "MESSAGE": message, "__CURSOR": f"c{at_us}", **more})


def test_what_is_asked_for_is_bounded_and_has_no_word_of_the_caller() -> None:
    words = journal_words("/usr/bin/journalctl", "ha-agent", 10**9, 12.9)
    assert "--lines=2000" in words and "--since=@12" in words and words[1:3] == ["--unit", "ha-agent"]
    assert not [
        word for word in journal_words("x", "ha-agent", -5, 0.0) if word.startswith("--since") or word == "--lines=-5"
    ]


def test_lines_are_read_and_what_is_none_is_left_out() -> None:
    output = "\n".join(
        [row(1_500_000, "one", PRIORITY="4"), "no json", "{}", row(2_000_000, [104, 195, 164]), row(3_000_000, None), "[1]"]
    )
    assert read_lines(output) == [
        {"at": 1.5, "priority": 4, "text": "one", "cursor": "c1500000"},
        {"at": 2.0, "priority": 6, "text": "hä", "cursor": "c2000000"},
        {"at": 3.0, "priority": 6, "text": TOO_LONG, "cursor": "c3000000"},
    ]


def test_of_too_much_the_newest_are_given() -> None:
    lines = [{"at": float(number), "text": "x" * 800} for number in range(100)]
    assert [line["at"] for line in newest_that_fit(lines, 3_000)] == [97.0, 98.0, 99.0]
    assert newest_that_fit(lines) == lines


def test_lines_of_both_nodes_are_one_list_by_time() -> None:
    merged = merge_lines({"a": [{"at": 1.0}, {"at": 3.0}], "b": [{"at": 2.0}, {"at": 3.0}]})
    assert [(line["node"], line["at"]) for line in merged] == [("a", 1.0), ("b", 2.0), ("a", 3.0), ("b", 3.0)]
