"""docs/alerts.md has every code as the code says: `make docs` was not forgotten."""

from __future__ import annotations

from tests.alerts_doc import PAGE, page


def test_the_page_on_alerts_has_every_code() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: make docs"
