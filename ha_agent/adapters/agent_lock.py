"""The lock of the one agent of a node: a file below the run directory, held with flock(2) and holding the process id.

Whoever removes the file takes nothing away: ``keep`` makes it again. It is root's alone to open, so that nobody else can
hold an agent off. The kernel ends the lock with the process, however that ends. A process that begins again
with execve(2) hands the open file on to itself: nobody can take the lock in between.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat

from ha_agent.adapters.files import NO_ROOM, make_dir, put_aside

SIGKILL_BIT = 1 << 8

HANDED_ON = "HA_AGENT_LOCK_FD"
"""The environment variable in which ``hand_on`` names the open file."""


class AgentRuns(Exception):
    """Another agent of this node runs; ``pid`` is its process id, None where that is not known."""

    def __init__(self, pid: int | None) -> None:
        super().__init__("an agent runs already" + (f" (pid {pid})" if pid is not None else ""))
        self.pid = pid


class AgentLock:
    """Held from ``acquire`` to the end of the process."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd: int | None = None

    def acquire(self, *, wait: bool = False) -> None:
        """Takes the lock; ``wait`` waits for the end of the agent that has it. Raises ``AgentRuns`` and ``OSError``.

        A full run directory has no room for the file: the agent must run nevertheless, and ``keep`` tries again.
        """
        self._fd = _handed_on()
        if self._fd is not None:
            return
        try:
            self._fd = self._take(wait=wait)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise

    def hand_on(self) -> None:
        """Leaves the lock to the program that this process executes next, which finds it in ``acquire``."""
        if self._fd is not None:
            os.set_inheritable(self._fd, True)
            os.environ[HANDED_ON] = str(self._fd)

    def keep(self) -> bool:
        """Makes the file again where it is gone or another one; says whether that was needed. Raises ``OSError``."""
        if self._fd is not None:
            with contextlib.suppress(OSError):
                if os.path.samestat(os.stat(self._path), os.fstat(self._fd)):
                    return False
        try:
            taken = self._take(wait=False)
        except AgentRuns as error:
            raise OSError(None, str(error), self._path) from None
        if self._fd is not None:
            os.close(self._fd)
        self._fd = taken
        return True

    def _take(self, *, wait: bool) -> int:
        make_dir(os.path.dirname(self._path), 0o755)
        if os.path.isdir(self._path):
            put_aside(self._path)
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.fchmod(fd, 0o600)
            self._lock(fd, wait=wait)
            # For people and messages: without room for it the lock holds all the same.
            with contextlib.suppress(OSError):
                os.ftruncate(fd, 0)
                os.pwrite(fd, b"%d\n" % os.getpid(), 0)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _lock(self, fd: int, *, wait: bool) -> None:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = _read_pid(fd)
            if pid is not None and is_doomed(pid):
                # It was killed and hangs in the kernel, on a dead disk as a rule: it will do nothing any more.
                return
            if not wait:
                raise AgentRuns(pid) from None
            fcntl.flock(fd, fcntl.LOCK_EX)


def _handed_on() -> int | None:
    """The open file of a lock that this process held before it executed its program anew; None where there is none.

    Whether it is held shows flock(2) itself: to lock an open file that has the lock already changes nothing.
    """
    named = os.environ.pop(HANDED_ON, "")
    if not named.isascii() or not named.isdigit():
        return None
    fd = int(named)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode) or _read_pid(fd) != os.getpid():
            return None
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (OSError, OverflowError):
        return None
    os.set_inheritable(fd, False)
    return fd


def _read_pid(fd: int) -> int | None:
    try:
        return int(os.pread(fd, 32, 0))
    except ValueError:
        return None


def is_doomed(pid: int) -> bool:
    """Whether ``pid`` has SIGKILL pending, or is a zombie: the kernel lets it do nothing more (proc(5), status)."""
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return False
    for task in tasks:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/status", encoding="ascii", errors="replace") as f:
            lines = dict(line.split(":", 1) for line in f if ":" in line)
            pending = int(lines.get("SigPnd", "0"), 16) | int(lines.get("ShdPnd", "0"), 16)
            if pending & SIGKILL_BIT or (task == str(pid) and lines.get("State", "").strip().startswith("Z")):
                return True
    return False
