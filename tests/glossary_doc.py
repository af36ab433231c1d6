"""Writes the glossary of docs/operations.md: ``python -m tests.glossary_doc`` (make docs)."""

from __future__ import annotations

import pathlib

from ha_agent.core.glossary import glossary_as_markdown

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "operations.md"
BEGIN = "<!-- written by make docs from core/glossary.py -->\n"
END = "<!-- end of what make docs writes -->\n"


def with_glossary(text: str) -> str:
    """``text`` with the table between its markers. Raises ``ValueError`` where a marker is missing."""
    begin = text.index(BEGIN) + len(BEGIN)
    end = text.index(END, begin)
    return f"{text[:begin]}\n{glossary_as_markdown()}\n{text[end:]}"


if __name__ == "__main__":
    PAGE.write_text(with_glossary(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
