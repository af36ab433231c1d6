"""Looks at the text of a conf, as a process of its own: lint and differences need more memory than the dashboard may keep.

Reads one JSON object from standard input and writes one: ``python -m ha_agent.web.conf_look``.
"""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Mapping
from typing import Any

from ha_agent.core.findings import worst_first
from ha_agent.core.lint import lint_conf
from ha_agent.core.lint_verdict import drop_doubts, lint_verdict
from ha_agent.core.names import PARKED

MOST_LINES = 2000


def look(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The findings on ``path`` by its text at each node, and the differences between ``old`` and ``new``."""
    path, nodes = str(asked["path"]), asked["nodes"]
    texts = [row for row in nodes if row["text"] is not None]
    found = list(lint_conf(path, texts[0]["text"])) if texts else []
    for row in texts:
        if row["verdict"] and not path.endswith(PARKED):
            found += lint_verdict(path, row["text"], row["verdict"], row["node"])
    unique = {json.dumps(f.to_dict()): f for f in found}
    old, new = asked["old"], asked["new"]
    return {
        "findings": [f.to_dict() for f in worst_first(drop_doubts(list(unique.values())))],
        "difference": compare(old["text"], new["text"], old["name"], new["name"]) if old and new else [],
    }


def compare(old: str, new: str, old_name: str, new_name: str) -> list[str]:
    """The differences between two texts as lines; none where they are equal."""
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), old_name, new_name, lineterm="")
    return [line for _, line in zip(range(MOST_LINES), lines, strict=False)]


def main() -> int:
    """Does what standard input asks for."""
    json.dump(look(json.load(sys.stdin)), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
