"""What an exception of the system says: no text of Python's reaches a person."""

from __future__ import annotations

import ast
import json
import pathlib

import pytest

from ha_agent.core.reasons import reason_of

PACKAGE = pathlib.Path(__file__).parents[2] / "ha_agent"


def opened(path: str) -> OSError:
    with pytest.raises(OSError) as caught:
        pathlib.Path(path).read_text(encoding="utf-8")
    return caught.value


def test_a_file_and_a_reason_are_said_without_a_number() -> None:
    assert reason_of(opened("/nowhere/x")) == "/nowhere/x: No such file or directory"


def test_a_file_that_the_sentence_names_is_not_said_twice() -> None:
    assert reason_of(opened("/nowhere/x"), "/nowhere/x") == "No such file or directory"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError(2, "No such file or directory", b"/a\xff"), "/a\udcff: No such file or directory"),
        (OSError("no number"), "no number"),
        (ValueError("not text"), "not text"),
        (TimeoutError(), "no answer in time"),
        (EOFError(), "EOFError"),
        (UnicodeDecodeError("utf-8", b"a\n\xff", 2, 3, "invalid start byte"), "line 2: byte 0xff is not UTF-8"),
        (json.JSONDecodeError("Expecting value", "{\n", 2), "line 2 is not JSON"),
        (KeyError("epoch"), "epoch is missing"),
        (KeyError(), "a key is missing"),
        (TypeError("'int' object is not iterable"), "it has another form than it must have"),
    ],
)
def test_every_kind_of_error_has_a_text(error: BaseException, text: str) -> None:
    assert reason_of(error) == text


def exceptions_of(handler: ast.ExceptHandler) -> set[str]:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return {kind.id for kind in kinds if isinstance(kind, ast.Name)}


def errors_of_python() -> set[str]:
    """Of which Python makes the text: OSError and those below it that have a number, and those of content."""
    below = {kind.__name__ for kind in OSError.__subclasses__() if kind.__module__ == "builtins"}
    content = {"KeyError", "TypeError", "AttributeError", "IndexError", "RecursionError", "UnicodeDecodeError"}
    return {"OSError", *below, *content} - {"TimeoutError"}


def raw_uses(handler: ast.ExceptHandler) -> list[int]:
    """The lines at which the exception itself becomes a text: in an f-string, in str(), in a line of the log."""
    lines = []
    for node in ast.walk(handler):
        values: list[ast.expr] = []
        if isinstance(node, ast.FormattedValue):
            values = [node.value]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[0] in ("str", "log"):
            values = node.args
        lines += [value.lineno for value in values if isinstance(value, ast.Name) and value.id == handler.name]
    return lines


def test_no_error_is_printed_with_its_kind_and_quotes() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{number}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if "{error!r" in line
    ]
    assert found == [], "write reason_of(error) (core/reasons.py)"


def test_no_error_of_the_system_is_printed_as_python_prints_it() -> None:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ExceptHandler) and node.name and exceptions_of(node) & errors_of_python():
                found += [f"{path.relative_to(PACKAGE)}:{line}" for line in raw_uses(node)]
    assert found == [], "write reason_of(error) (core/reasons.py): the text of an OSError begins with [Errno ...]"
