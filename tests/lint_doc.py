"""Writes the table of what lint finds in docs/lint.md: ``python -m tests.lint_doc`` (make docs)."""

from __future__ import annotations

import ast
import pathlib
from collections.abc import Iterator

from ha_agent.core.faults import FAULTS
from ha_agent.core.lint_verdict import PROBLEMS

ROOT = pathlib.Path(__file__).parents[1]
PAGE = ROOT / "docs" / "lint.md"
HEAD = "| --- | --- | --- | --- |\n"
MAKERS = {"error": "error", "warning": "warning", "note": "note"}
OF_A_NODE = ("missing-directory", "missing-binary")


def said() -> Iterator[tuple[str, str]]:
    """Each code that a conf can earn, with how bad it is, in the order of the modules that say it."""
    for path in sorted((ROOT / "ha_agent" / "core").glob("lint*.py")):
        for item in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(item, ast.Call) and isinstance(item.func, ast.Name) and item.func.id in MAKERS:
                code = item.args[0]
                if isinstance(code, ast.Constant):
                    yield str(code.value), MAKERS[item.func.id]
    yield from ((code, "error") for code in OF_A_NODE)
    yield from ((code, "error") for _, code, _ in PROBLEMS)


def table() -> str:
    """The rows of the table, errors first."""
    rows = dict(said())
    ordered = sorted(rows, key=lambda code: (("error", "warning", "note").index(rows[code]), code))
    return "".join(f"| `{code}` | {rows[code]} | {FAULTS[code].title} | {FAULTS[code].remedy} |\n" for code in ordered)


def page() -> str:
    """docs/lint.md with the table as it must be."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, after = text.partition(HEAD)
    return before + HEAD + table() + "\n" + after[after.index("## ") :]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
