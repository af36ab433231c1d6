"""Columns stay straight, and lines fit, whatever script a name is written in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ha_agent.core.width import pad, width_of, wrap_text


def test_characters_take_the_columns_that_a_terminal_gives_them() -> None:
    assert [width_of(text) for text in ("abc", "计费", "ｱﾊﾟ", "\uff21", "e\u0301", "", "a\u200bb")] == [3, 4, 3, 2, 1, 0, 2]
    assert pad("计费", 6) + "|" == "计费  |" and pad("billing", 3) == "billing"


def test_long_lines_are_broken_at_blanks_with_their_indent() -> None:
    assert wrap_text("one two three", indent="  ", first="- ", columns=9) == ["- one two", "  three"]
    assert wrap_text("a" * 30, indent="  ", columns=10) == ["  " + "a" * 30]
    assert wrap_text("计费 计费 计费", columns=9) == ["计费 计费", "计费"]
    assert wrap_text("", indent="  ") == ["  "]


@given(st.lists(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=20)), st.integers(20, 80))
def test_no_word_is_lost_and_no_line_is_too_wide(words: list[str], columns: int) -> None:
    lines = wrap_text(" ".join(words), columns=columns)
    assert " ".join(lines).split() == words and all(width_of(line) <= columns for line in lines)
