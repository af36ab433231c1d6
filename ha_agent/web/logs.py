"""Logs of programs, read through supervisord: their end, what came after a place, and one piece after another.

supervisord decodes what it reads as strict UTF-8 and fails where a piece begins or ends within a character
(``supervisor.options.readFile`` and ``tailFile``): then a piece that is a little shorter is asked for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ha_agent.core.visible import visible
from ha_agent.core.words import Outcome

END_BYTES = 65536
"""Of a log's end on a page."""

PIECE_BYTES = 128 * 1024
LONGEST_CHARACTER = 4
FOUND_LINES = 500

Call = Callable[[str, list[Any]], Awaitable[Mapping[str, Any]]]
"""Makes one call of supervisord's through the guard: its method and parameters; the agent's answer."""

TAIL = {"stdout": "tailProcessStdoutLog", "stderr": "tailProcessStderrLog"}
READ = {"stdout": "readProcessStdoutLog", "stderr": "readProcessStderrLog"}


class LogRefused(Exception):
    """supervisord, or the guard, gives nothing; the text says why."""


@dataclass(frozen=True, slots=True)
class LogPart:
    """A part of a log as pages show it, and the offset in bytes at which it ends.

    ``is_whole`` is False where something before the part was left out, or where the log began again from zero.
    """

    text: str
    end: int
    is_whole: bool = True


async def read_end(call: Call, program: str, stream: str, after: int | None = None) -> LogPart:
    """The end of a log; with ``after`` what came since it had that many bytes. Raises ``LogRefused``.

    tailFile always returns the last bytes of the file, and nothing where ``after`` is its size or more.
    """
    asked_from = 0 if after is None else after
    for length in range(END_BYTES, END_BYTES - LONGEST_CHARACTER, -1):
        answer = await call(TAIL[stream], [program, asked_from, length])
        if answer["outcome"] == Outcome.DOWN:
            continue
        text, size = str(_result(answer)[0]), int(_result(answer)[1])
        if after is not None and size < after:
            # It was rotated, or emptied.
            return await _read_anew(call, program, stream)
        if after is None:
            return LogPart(visible(text, "\n\t"), size, size <= len(text.encode()))
        fresh = text.encode()[-(size - after) :] if size > after else b""
        return LogPart(visible(fresh.decode("utf-8", "replace"), "\n\t"), size, len(fresh) == size - after)
    raise LogRefused(str(answer.get("reason") or "its log is not UTF-8"))


async def _read_anew(call: Call, program: str, stream: str) -> LogPart:
    part = await read_end(call, program, stream)
    return LogPart(part.text, part.end, False)


async def read_size(call: Call, program: str, stream: str) -> int:
    """The size of a log in bytes. Raises ``LogRefused``."""
    return int(_result(await call(TAIL[stream], [program, 0, 0]))[1])


async def read_piece(call: Call, program: str, stream: str, begin: int) -> LogPart:
    """What stands at ``begin``, ``PIECE_BYTES`` at most; an empty text at the end. Raises ``LogRefused``."""
    for late in range(LONGEST_CHARACTER):
        for length in range(PIECE_BYTES, PIECE_BYTES - LONGEST_CHARACTER, -1):
            answer = await call(READ[stream], [program, begin + late, length])
            if answer["outcome"] != Outcome.DOWN:
                text = str(_result(answer))
                return LogPart(visible(text, "\n\t"), begin + late + len(text.encode()), late == 0)
    raise LogRefused(str(answer.get("reason") or "its log is not UTF-8"))


def _result(answer: Mapping[str, Any]) -> Any:
    if answer["outcome"] != Outcome.DONE:
        raise LogRefused(str(answer.get("text") or answer.get("reason") or answer["outcome"]))
    return answer["result"]


async def find_lines(pieces: AsyncIterator[str], wanted: str) -> list[str]:
    """The newest ``FOUND_LINES`` lines of ``pieces`` in which ``wanted`` stands, whatever its case."""
    found: list[str] = []
    rest, wanted = "", wanted.casefold()
    async for piece in pieces:
        *lines, rest = (rest + piece).split("\n")
        # A line without an end is cut, so that it cannot fill the memory.
        rest = rest[-PIECE_BYTES:]
        found += [line[:4000] for line in lines if wanted in line.casefold()]
        del found[:-FOUND_LINES]
    if rest and wanted in rest.casefold():
        found.append(rest[:4000])
    return found[-FOUND_LINES:]
