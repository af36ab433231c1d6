"""What an exception of the system says, for people: without the number and the quotes that Python prints around it."""

from __future__ import annotations

import json


def reason_of(error: BaseException, named: str = "") -> str:
    """``error`` as "FILE: reason", or as the reason alone where it has no file, or its file is ``named`` by the sentence.

    Python's own text of an OSError is "[Errno 2] No such file or directory: 'FILE'"; ``strerror`` and ``filename`` are in
    its library reference. What is wrong with content that was read is said without Python's words for it; an error of any
    other kind keeps its text, and one without a text is its name.
    """
    if not isinstance(error, OSError) or not error.strerror:
        return _content_problem(error) or str(error) or _without_text(error)
    name = error.filename
    if isinstance(name, bytes):
        name = name.decode("utf-8", "surrogateescape")
    return error.strerror if name is None or str(name) == named else f"{name}: {error.strerror}"


def _content_problem(error: BaseException) -> str | None:
    """What is wrong with content that could not be understood; None for any other error."""
    if isinstance(error, UnicodeDecodeError):
        line = error.object.count(b"\n", 0, error.start) + 1
        return f"line {line}: byte 0x{error.object[error.start]:02x} is not UTF-8"
    if isinstance(error, json.JSONDecodeError):
        return f"line {error.lineno} is not JSON"
    if isinstance(error, KeyError):
        return f"{error.args[0] if error.args else 'a key'} is missing"
    if isinstance(error, (TypeError, AttributeError, IndexError, RecursionError)):
        return "it has another form than it must have"
    return None


def _without_text(error: BaseException) -> str:
    return "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__
