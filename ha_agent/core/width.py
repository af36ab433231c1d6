"""How wide a text is on a terminal, and columns and lines made by that: East Asian characters take two. Pure."""

from __future__ import annotations

COLUMNS = 80
"""What texts of several lines are made for: a terminal is rarely narrower, and wider lines are harder to read."""


def width_of(text: str) -> int:
    """The columns that ``text`` takes (Unicode's annex 11: wide and full-width take two, combining marks none)."""
    return len(text) if text.isascii() else sum(_width(char) for char in text)


def _width(char: str) -> int:
    # Most texts need no tables; a dashboard never does.
    import unicodedata

    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def pad(text: str, width: int) -> str:
    """``text`` with blanks behind it, ``width`` columns wide; one that is wider stays as it is."""
    return text + " " * max(0, width - width_of(text))


def wrap_text(text: str, indent: str = "", first: str | None = None, columns: int = COLUMNS) -> list[str]:
    """``text`` in lines of ``columns`` at most, broken at blanks; the first begins with ``first``, others with ``indent``.

    A word that is too long for a line has one of its own.
    """
    lines: list[str] = []
    line = indent if first is None else first
    begin = line
    for word in text.split():
        joined = f"{line}{'' if line == begin else ' '}{word}"
        if line != begin and width_of(joined) > columns:
            lines.append(line)
            line = begin = indent
            joined = f"{line}{word}"
        line = joined
    return [*lines, line]


def count_text(count: int, word: str) -> str:
    """ "1 conf", "2 confs"."""
    return f"{count} {word}{'' if count == 1 else 's'}"
