"""docs/lint.md has everything that lint finds: `make docs` was not forgotten."""

from __future__ import annotations

from tests.lint_doc import PAGE, page


def test_the_page_on_lint_has_every_finding() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: make docs"
