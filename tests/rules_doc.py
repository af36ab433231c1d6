"""Writes the drawing and the table of the roles into docs/architecture.md: ``python -m tests.rules_doc`` (make docs)."""

from __future__ import annotations

import pathlib

from ha_agent.core.rules import roles_as_mermaid, rules_as_markdown

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "architecture.md"
BEGIN = "<!-- written by make docs from core/rules.py -->\n"
END = "<!-- end of what make docs writes -->\n"


def with_rules(text: str) -> str:
    """``text`` with the drawing and the table between its markers. Raises ``ValueError`` where a marker is missing."""
    begin = text.index(BEGIN) + len(BEGIN)
    end = text.index(END, begin)
    return f"{text[:begin]}\n```mermaid\n{roles_as_mermaid()}```\n\n{rules_as_markdown()}\n{text[end:]}"


if __name__ == "__main__":
    PAGE.write_text(with_rules(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
