"""keepalived's process, for whoever must know more than it reports: its state by its own word, and what it watches.

keepalived says a state once, to its hooks. Asked by SIGUSR1 it writes ``keepalived.data`` into its temporary directory; that
has no effect on VRRP. Every build does so; SIGRTMIN+2, which asks for JSON, ends a keepalived that is built without.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import stat
from collections.abc import Sequence
from dataclasses import dataclass

from ha_agent.adapters.procs import ProcessWatch
from ha_agent.adapters.runner import ProgramMissing, run_program
from ha_agent.core.notify import parse_dump
from ha_agent.core.words import VrrpState

DUMP = "keepalived.data"
LOOK_S = 0.02
_INOTIFY = re.compile(r"^inotify wd:\S+ ino:([0-9a-f]+) sdev:([0-9a-f]+)", re.MULTILINE)
COMMAND_LIMIT_S = 120.0
"""systemd itself kills a keepalived that does not end within 90 s."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """One dump on the disk."""

    identity: tuple[int, int]
    text: str


class Keepalived:
    """Of one node. ``process`` is looked at and signalled; ``start_command`` and ``stop_command`` are those of its unit."""

    def __init__(self, process: ProcessWatch, start_command: Sequence[str], stop_command: Sequence[str]) -> None:
        self._process = process
        self._start_command, self._stop_command = start_command, stop_command

    async def ask_state(self, instance: str, limit_s: float) -> VrrpState | None:
        """What keepalived says of VRRP instance ``instance`` now, by its own dump. None where it does not answer in time.

        Not to be asked of a keepalived that is just starting: SIGUSR1 would end it.
        """
        child = self._vrrp_process()
        if child is None:
            return None
        path = _dump_path(child)
        before = _read_dump(path)
        self._process.send(signal.SIGUSR1)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while True:
                    await asyncio.sleep(LOOK_S)
                    seen = _read_dump(path)
                    if seen is None or (before is not None and seen.identity == before.identity):
                        continue
                    # keepalived makes the file before it writes it.
                    if (state := parse_dump(seen.text, instance)) is not None:
                        return state
        return None

    def hears(self, directory: str) -> bool | None:
        """Whether keepalived is told of changes in ``directory`` (inotify); None where that cannot be found out.

        It watches the directory that it found at its start: one that was made again is another one.
        """
        try:
            found = os.stat(directory)
        except OSError:
            return None
        # As in fdinfo: the kernel's own number of the device, hexadecimal.
        wanted = (found.st_ino, os.major(found.st_dev) << 20 | os.minor(found.st_dev))
        watched = [marks for pid in self._family() if (marks := _watched(pid)) is not None]
        return any(wanted in marks for marks in watched) if watched else None

    def reload(self) -> None:
        """Has keepalived read its configuration again, and watch what it names now. VRRP states stay as they are."""
        self._process.send(signal.SIGHUP)

    async def stop(self) -> str | None:
        """Ends keepalived by its unit. Returns why that failed; None where it has ended."""
        return await _run(self._stop_command)

    async def start(self) -> str | None:
        """Starts keepalived by its unit. Returns why that failed; None where it was started."""
        return await _run(self._start_command)

    def _family(self) -> list[int]:
        identity = self._process.identity
        return [] if identity is None else [identity[0], *_children(identity[0])]

    def _vrrp_process(self) -> int | None:
        """The process that writes the dump; with a single process it is the first one."""
        return next(reversed(self._family()), None)


async def _run(words: Sequence[str]) -> str | None:
    try:
        ended = await run_program(words, COMMAND_LIMIT_S)
    except ProgramMissing as error:
        return str(error)
    return None if ended.code == 0 else f"{' '.join(words)} ended with {ended.code}: {ended.errors.strip()[-200:]}"


def _children(pid: int) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def _watched(pid: int) -> list[tuple[int, int]] | None:
    """Inode and device of everything that ``pid`` watches by inotify (proc(5), /proc/PID/fdinfo).

    Empty where what it watched is gone; None where it has no descriptor of inotify.
    """
    found: list[tuple[int, int]] | None = None
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/fd/{name}") not in ("anon_inode:inotify", "anon_inode:[inotify]"):
                    continue
                with open(f"/proc/{pid}/fdinfo/{name}", encoding="ascii") as file:
                    marks = [(int(ino, 16), int(device, 16)) for ino, device in _INOTIFY.findall(file.read())]
                found = [*(found or []), *marks]
    return found


def _dump_path(pid: int) -> str:
    """Where ``pid`` writes its dump, seen from its own root: systemd may give it a /tmp of its own."""
    folder = "/tmp"
    with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
        words = dict(pair.split(b"=", 1) for pair in file.read().split(b"\0") if b"=" in pair)
        folder = os.fsdecode(words.get(b"TMPDIR", b"/tmp"))
    return f"/proc/{pid}/root{folder}/{DUMP}"


def _read_dump(path: str) -> _Seen | None:
    """The dump at ``path``; None where there is none that root has written: anybody may write into /tmp."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with open(fd, "rb") as file:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != 0:
            return None
        # A file of the same name may have the inode of the one before: its time tells them apart.
        return _Seen((found.st_ino, found.st_mtime_ns), file.read(1 << 22).decode("utf-8", "replace"))
