"""Runs one hook: a command of the operator's that is ended cleanly, and of which none is left behind by an agent that dies.

A hook begins only when it is written down which process it is. So an agent that is started again finds one that is still
running, and ends it before it runs another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from ha_agent.adapters.files import read_note, remove_note, write_note
from ha_agent.adapters.oom import make_ordinary
from ha_agent.adapters.procs import start_ticks, wait_ended
from ha_agent.adapters.program_path import SAFE_PATH
from ha_agent.core.hooks import HookEnd
from ha_agent.core.visible import visible

GRACE_S = 2.0
"""A hook that is told to end (TERM) has this long before it is killed."""

KILL_S = 1.0
DRAIN_S = 0.2
"""What a hook has started may hold its output open: nobody waits for that."""

MOST_LINES, LONGEST_LINE, LAST_LINES = 200, 1000, 3
"""Lines of one run that are told, the characters of one, and how many of the last ones come with a failure."""

_WAIT_FOR_WORD = ("/bin/sh", "-c", 'read -r go && exec "$@" </dev/null', "hook")
"""Runs the words that follow it when it is told to, and nothing where whoever would tell it is no more."""


class HookRunner:
    """``note``: the file that says which process the hook under way is."""

    def __init__(self, note: str) -> None:
        self._note = note

    async def run(
        self, words: Sequence[str], timeout_s: float, env: Mapping[str, str], tell: Callable[[str], None]
    ) -> HookEnd:
        """Runs ``words`` and waits for the end, ``timeout_s`` at most; ``tell`` takes each line that the hook writes.

        A hook that takes longer, or whose run is cancelled, is told to end, then killed, with its process group. Raises
        nothing else than ``CancelledError``.
        """
        began = time.monotonic()
        await self.end_former()
        lines = _Lines(tell)
        code: int | None = None
        why = ""
        try:
            run = await self._start(words, env)
        except OSError as error:
            return HookEnd(None, round(time.monotonic() - began, 4), f"could not be run: {error.strerror or error}")
        reading = asyncio.ensure_future(lines.read(run.output))
        try:
            async with asyncio.timeout(timeout_s):
                code = await asyncio.shield(run.ended)
        except TimeoutError:
            why = f"no end after {timeout_s:g} s"
        finally:
            await asyncio.shield(self._finish(run, reading))
        if code is not None and code < 0:
            why = f"was ended by signal {-code}"
            code = None
        return HookEnd(code, round(time.monotonic() - began, 4), why, tuple(lines.last))

    async def end_former(self) -> None:
        """Ends a hook that an agent before this one has left running."""
        words = (read_note(self._note) or b"").split()
        if len(words) == 2 and all(word.isdigit() for word in words):
            pid, ticks = map(int, words)
            if start_ticks(pid) == ticks:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
                await wait_ended([pid], KILL_S)
        with contextlib.suppress(OSError):
            remove_note(self._note)

    async def _start(self, words: Sequence[str], env: Mapping[str, str]) -> _Run:
        """Raises ``OSError`` where it cannot be started, or cannot be written down; nothing runs then."""
        go, word = os.pipe()
        read, write = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *_WAIT_FOR_WORD,
                *words,
                stdin=go,
                stdout=write,
                stderr=write,
                env={"PATH": SAFE_PATH, "LC_ALL": "C.UTF-8", **env},
                cwd="/",
                start_new_session=True,
            )
        except OSError:
            os.close(read)
            os.close(word)
            raise
        finally:
            os.close(go)
            os.close(write)
        ended = asyncio.ensure_future(process.wait())
        problem: OSError | None = None
        try:
            make_ordinary(process.pid)
            write_note(self._note, b"%d %d\n" % (process.pid, start_ticks(process.pid) or 0), 0o600)
            os.write(word, b"go\n")
        except OSError as error:
            problem = error
        finally:
            os.close(word)
        if problem is not None:
            os.close(read)
            # Without the word it ends by itself.
            await ended
            raise problem
        return _Run(process, ended, read)

    async def _finish(self, run: _Run, reading: asyncio.Future[None]) -> None:
        """Ends what is left of a run, whatever came of it."""
        if not run.ended.done():
            for number, limit_s in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, KILL_S)):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(run.process.pid, number)
                await asyncio.wait([run.ended], timeout=limit_s)
                if run.ended.done():
                    break
        await asyncio.wait([reading], timeout=DRAIN_S)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        with contextlib.suppress(OSError):
            remove_note(self._note)


class _Run:
    """A hook under way. ``ended`` has its exit status, below 0 for a signal; what it writes is read from ``output``."""

    def __init__(self, process: asyncio.subprocess.Process, ended: asyncio.Future[int], output: int) -> None:
        self.process, self.ended, self.output = process, ended, output


class _Lines:
    """Tells the lines of one run, fit to be read; what is too much is counted."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._told = 0
        self.last: deque[str] = deque(maxlen=LAST_LINES)

    async def read(self, output: int) -> None:
        """Reads ``output`` until its end, and closes it."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=LONGEST_LINE * 4)
        pipe = os.fdopen(output, "rb", 0)
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        try:
            rest = b""
            while data := await reader.read(65536):
                *whole, rest = (rest + data).split(b"\n")
                for line in whole:
                    self._take(line)
                if len(rest) > LONGEST_LINE * 4:
                    self._take(rest)
                    rest = b""
            if rest:
                self._take(rest)
        finally:
            transport.close()

    def _take(self, line: bytes) -> None:
        text = visible(line.decode("utf-8", "replace").rstrip())[:LONGEST_LINE]
        if not text:
            return
        self.last.append(text)
        self._told += 1
        if self._told <= MOST_LINES:
            self._tell(text)
        elif self._told == MOST_LINES + 1:
            self._tell("(more lines follow, which are not shown)")
