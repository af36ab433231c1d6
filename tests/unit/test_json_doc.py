"""docs/json.md names every field of the golden documents."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Iterator
from typing import Any

ROOT = pathlib.Path(__file__).parents[2]


def fields(shape: Any) -> Iterator[str]:
    if isinstance(shape, dict):
        for name, below in shape.items():
            if name not in ("*", "or"):
                yield name.rstrip("?")
            yield from fields(below)
    elif isinstance(shape, list):
        for item in shape:
            yield from fields(item)


def test_every_field_of_every_document_is_documented() -> None:
    text = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")
    known = set(re.findall(r"[a-z_0-9]+", " ".join(re.findall(r"`([^`]+)`", text))))
    goldens = sorted((ROOT / "tests" / "golden").glob("*.json"))
    assert len(goldens) == 26
    for path in goldens:
        missing = set(fields(json.loads(path.read_text(encoding="ascii")))) - known
        assert not missing, f"{path.name}: {sorted(missing)}"
