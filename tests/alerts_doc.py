"""Writes the table of codes in docs/alerts.md: ``python -m tests.alerts_doc`` (make docs)."""

from __future__ import annotations

import pathlib

from ha_agent.core.alert_codes import CODES

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "alerts.md"
HEAD = "| --- | --- | --- | --- | --- | --- | --- |\n"


def table() -> str:
    """The rows of the table."""
    rows = []
    for code in CODES.values():
        lasts = ("lasts", f"{code.hold_s:g} s", f"{code.settle_s:g} s") if code.lasting else ("moment", "", "")
        rows.append(f"| `{code.code}` | {code.severity.value} | {' | '.join(lasts)} | {code.title} | {code.remedy} |\n")
    return "".join(rows)


def page() -> str:
    """docs/alerts.md with the table as it must be."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, after = text.partition(HEAD)
    return before + HEAD + table() + "\n" + after[after.index("## How programs") :]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
