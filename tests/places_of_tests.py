"""Whether a test that a table names is in the suite: by its source, so that nothing has to be imported or collected."""

from __future__ import annotations

import ast
import functools
import pathlib
import re

ROOT = pathlib.Path(__file__).parents[1]


@functools.cache
def _read(path: str) -> tuple[frozenset[str], frozenset[str]]:
    """The functions of a file, and the texts that stand in it; none where there is no such file."""
    file = ROOT / path
    if not file.exists():
        return frozenset(), frozenset()
    tree = ast.parse(file.read_text(encoding="utf-8"))
    functions = frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))
    texts = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return functions, frozenset(texts)


def is_test(place: str) -> bool:
    """Whether ``place``, as ``tests/unit/test_x.py::test_y`` or ``...::test_y[a case]``, is there.

    A case is one of the texts that the file's parameters are made of, not the whole id of a test with several of them.
    """
    found = re.fullmatch(r"([^:]+)::(test_\w+)(?:\[(.+)\])?", place)
    if found is None:
        return False
    functions, texts = _read(found[1])
    return found[2] in functions and (found[3] is None or found[3] in texts)
