"""Runs outer programs: empty environment, absolute path, no input but what is given, a deadline, never a shell."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ha_agent.adapters.oom import make_ordinary
from ha_agent.adapters.program_path import SAFE_PATH, ProgramMissing, find_program

KILLED_S = 2.0
"""A program that was killed is waited for this long."""

__all__ = ["SAFE_PATH", "Ended", "ProgramMissing", "find_program", "run_program"]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended. ``code`` is None where it was ended at its deadline."""

    code: int | None
    output: str
    errors: str


async def run_program(
    words: Sequence[str], timeout_s: float, *, env: Mapping[str, str] | None = None, data: bytes | None = None
) -> Ended:
    """Runs ``words`` and waits for its end, ``timeout_s`` at most; then it is killed, and what it started with it.

    ``data``: what it reads on its standard input; nothing where it is None. Raises ``ProgramMissing``.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.DEVNULL if data is None else asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"PATH": SAFE_PATH, "LC_ALL": "C.UTF-8", **(env or {})},
            start_new_session=True,
        )
    except OSError as error:
        raise ProgramMissing(f"{words[0]} cannot be run: {error.strerror}") from None
    make_ordinary(process.pid)
    try:
        async with asyncio.timeout(timeout_s):
            out, err = await process.communicate(data)
    except TimeoutError:
        return Ended(None, "", f"no end after {timeout_s:g} s")
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            # asyncio waits for the end of the output as well, and another process may hold that: ssh hands its descriptors
            # to the master of a shared connection, where they stay until the other end is done.
            try:
                async with asyncio.timeout(KILLED_S):
                    await process.wait()
            except TimeoutError:
                process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001 - there is no public way
    return Ended(process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))
