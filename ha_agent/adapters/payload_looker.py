"""Has the files that programs need looked at, by a process of its own (``ha_agent/payload_look.py``).

A disk that does not answer holds that process, not the agent: it is left behind, and no other one is started before it has
ended. The path that it waited for is not asked for again for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ha_agent.adapters.oom import make_ordinary
from ha_agent.adapters.program_path import SAFE_PATH
from ha_agent.core.payload import Payload, read_payload
from ha_agent.core.reasons import reason_of

SILENT_S = 20.0
"""Seconds without a word after which the disk counts as one that does not answer. A MiB is read between two of them."""

AVOID_S = 600.0
ENDS_S = 1.0
BUDGET = 256 * 1024 * 1024
"""Bytes that one look reads; the rest is read by the next ones."""

LINE_LIMIT = 64 * 1024 * 1024
ANSWER = b'{"payload":'
"""How the last line of a look begins."""


class LookFailed(Exception):
    """The files could not be looked at; the text says why."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one program needs: the digest of its conf, its runs as (command, directory, PATH, user id), and ``files=``."""

    conf: str
    runs: Sequence[tuple[str, str, Sequence[str], int | None]]
    listed: Sequence[str] = ()


class PayloadLooker:
    """Remembers what it has seen, so that only what has changed is read again. ``clock``: monotonic.

    ``silent_s``: see ``SILENT_S``; ``words``: what looks.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        silent_s: float = SILENT_S,
        words: Sequence[str] = (sys.executable, "-m", "ha_agent.payload_look"),
    ) -> None:
        self._clock, self._silent_s, self._words = clock, silent_s, words
        self._known: dict[str, Any] = {}
        self._avoid: dict[str, float] = {}
        self._process: asyncio.subprocess.Process | None = None

    async def look(self, programs: Mapping[str, Wanted], ignore: Sequence[str]) -> Payload:
        """What this node has of all that ``programs`` need. Raises ``LookFailed``; what was seen before is kept then."""
        if self._process is not None:
            if self._process.returncode is None:
                raise LookFailed(f"the disk has not answered a look at {', '.join(self._avoid) or 'files'} yet")
            self._process = None
        now = self._clock()
        self._avoid = {path: until for path, until in self._avoid.items() if until > now}
        request = {
            "programs": {
                name: {"conf": one.conf, "runs": [list(run) for run in one.runs], "listed": list(one.listed)}
                for name, one in programs.items()
            },
            "known": self._known,
            "ignore": list(ignore),
            "avoid": list(self._avoid),
            "budget": BUDGET,
        }
        # With hundreds of programs these are tens of milliseconds, which the agent's loop does not wait for.
        answer = await self._run(await asyncio.to_thread(lambda: json.dumps(request).encode("ascii")))
        try:
            payload, self._known = await asyncio.to_thread(_read_answer, answer)
        except (KeyError, ValueError) as error:
            raise LookFailed(f"the look came to nothing: {reason_of(error)}") from None
        return payload

    def close(self) -> None:
        """Ends a look under way. Does not wait for it."""
        if self._process is not None and self._process.returncode is None:
            _kill(self._process)

    async def _run(self, request: bytes) -> bytes:
        env = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
        try:
            process = await asyncio.create_subprocess_exec(
                *self._words,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={"PATH": SAFE_PATH, "LC_ALL": "C.UTF-8", **env},
                limit=LINE_LIMIT,
                start_new_session=True,
            )
        except OSError as error:
            raise LookFailed(f"{self._words[0]} cannot be run: {error.strerror}") from None
        self._process = process
        make_ordinary(process.pid)
        try:
            return await self._talk(process, request)
        finally:
            if process.returncode is None:
                _kill(process)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(ENDS_S):
                        await process.wait()

    async def _talk(self, process: asyncio.subprocess.Process, request: bytes) -> bytes:
        """The line of the answer."""
        if process.stdin is None or process.stdout is None:
            raise LookFailed("the look was started without pipes")
        at = ""
        try:
            process.stdin.write(request)
            async with asyncio.timeout(self._silent_s):
                await process.stdin.drain()
            process.stdin.close()
            while True:
                async with asyncio.timeout(self._silent_s):
                    line = await process.stdout.readline()
                if line.startswith(ANSWER):
                    return line
                said = json.loads(line) if line else None
                if not isinstance(said, dict):
                    raise LookFailed("the look ended without an answer")
                at = str(said.get("at", ""))
        except TimeoutError:
            if at:
                self._avoid[at] = self._clock() + AVOID_S
            where = f" when it was asked for {at}" if at else ""
            raise LookFailed(f"the disk did not answer within {self._silent_s:g} s{where}") from None
        except (OSError, ValueError) as error:
            raise LookFailed(f"the look broke off: {reason_of(error)}") from None


def _read_answer(line: bytes) -> tuple[Payload, dict[str, Any]]:
    """The payload, and what is to be remembered of it. Raises ``KeyError`` and ``ValueError``."""
    answer = json.loads(line)
    known = answer["known"]
    return read_payload(answer["payload"]), known if isinstance(known, dict) else {}


def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
