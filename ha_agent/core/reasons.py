"""What an exception of the system says, for people: without the number and the quotes that Python prints around it."""

from __future__ import annotations


def reason_of(error: BaseException, named: str = "") -> str:
    """``error`` as "FILE: reason", or as the reason alone where it has no file, or its file is ``named`` by the sentence.

    Python's own text of an OSError is "[Errno 2] No such file or directory: 'FILE'"; ``strerror`` and ``filename`` are in
    its library reference. An error of any other kind keeps its text, and one without a text is its name.
    """
    if not isinstance(error, OSError) or not error.strerror:
        return str(error) or type(error).__name__
    name = error.filename
    if isinstance(name, bytes):
        name = name.decode("utf-8", "surrogateescape")
    return error.strerror if name is None or str(name) == named else f"{name}: {error.strerror}"
