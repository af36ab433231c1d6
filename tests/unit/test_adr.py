"""The decisions in docs/adr: one form for all, and an index that says the same as the pages."""

from __future__ import annotations

import pathlib
import re

import pytest

FOLDER = pathlib.Path(__file__).parents[2] / "docs" / "adr"
PAGES = sorted(FOLDER.glob("[0-9]*.md"))
FORM = re.compile(
    r"# (?P<number>\d{4}): (?P<title>.+)\n\n- Date: (?P<date>\d{4}-\d\d-\d\d)\n"
    r"- Status: (?P<status>accepted|rejected|superseded by \d{4})\n\n## Context\n"
)
PARTS = ["Context", "Decision", "Rejected", "Consequences"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_decision_has_the_form_and_its_row_in_the_index(page: pathlib.Path) -> None:
    text = page.read_text(encoding="utf-8")
    head = FORM.match(text)
    assert head is not None, "begins with number, title, date, status and Context"
    assert page.name.startswith(f"{head['number']}-")
    bodies = re.split(r"^## (.+)\n", text, flags=re.M)
    assert bodies[1::2] == PARTS
    assert all(body.strip() for body in bodies[2::2]), "no part is empty"
    row = f"| [{head['number']}]({page.name}) | {head['title']} | {head['date']} | {head['status']} | "
    assert row in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_decisions_are_numbered_without_a_gap_and_the_index_has_no_other() -> None:
    numbers = [page.name[:4] for page in PAGES]
    assert numbers == [f"{number:04d}" for number in range(1, len(PAGES) + 1)]
    rows = re.findall(r"^\| \[(\d{4})\]", (FOLDER / "README.md").read_text(encoding="utf-8"), re.M)
    assert rows == numbers
