"""The keeper of the deadline: kills what supervisord runs when this node's promises end, whatever the agent does then.

A process of its own with the standard library alone, locked in memory, with real-time priority. The agent feeds it deadlines
over a socket; where no newer one comes it acts: it moves the active set away, so that a supervisord that is started again
loads nothing, and writes to cgroup.kill of supervisord's control group (Linux 5.14 and later; cgroup-v2.rst). All that
the act needs is there before: it opens one file, and allocates nothing of note. Times are seconds of CLOCK_BOOTTIME.
docs/adr/0013 says why.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import gc
import math
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Callable

SOCKET, STATE = "keeper.sock", "keeper.state"
ACTIVE = "active"
"""The directory that supervisord includes, below the run directory."""
ASIDE = "active.lapsed."
"""Beginning of the name that it has after the act."""

KEEP_S = 2.0
"""Time between two looks at the names of socket and state file, which somebody may have removed."""

LOOK_S = 0.05
"""After a deadline has passed: time between two looks at the active set, for somebody who filled it again."""
LONGEST_S = 600.0
"""A deadline further away than that is a mistake."""
MOST_CLIENTS = 4
STATE_BYTES = 1024

MCL_CURRENT, MCL_FUTURE = 1, 2
TFD_TIMER_ABSTIME = 1
CLOCK_BOOTTIME = 7
WDIOC_SETTIMEOUT = 0xC0045706
"""linux/watchdog.h: an int of seconds; the kernel answers with those that it took."""

TFD_FLAGS = os.O_CLOEXEC | os.O_NONBLOCK
"""TFD_CLOEXEC and TFD_NONBLOCK have these values (timerfd_create(2))."""


def read_clock() -> float:
    """Now, in seconds of CLOCK_BOOTTIME."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Libc:
    """The calls that the act is made of, looked up before."""

    def __init__(self) -> None:
        found = ctypes.CDLL(None, use_errno=True)
        self.mlockall, self.rename, self.open = found.mlockall, found.rename, found.open
        self.write, self.close = found.write, found.close
        self.timerfd_create, self.timerfd_settime = found.timerfd_create, found.timerfd_settime
        self.write.restype = ctypes.c_ssize_t


class Act:
    """The act, with all that it needs. ``run_dir``: where the active set is."""

    def __init__(self, libc: Libc, run_dir: str) -> None:
        self._libc, self._run_dir = libc, run_dir
        self._active = ctypes.create_string_buffer(os.fsencode(os.path.join(run_dir, ACTIVE)))
        self._one = ctypes.create_string_buffer(b"1")
        self._kill = ctypes.create_string_buffer(b"")
        self.kill_path = ""
        self.count = 0
        self.was_done = True
        self._name_aside()

    def _name_aside(self) -> None:
        path = os.path.join(self._run_dir, f"{ASIDE}{time.clock_gettime_ns(time.CLOCK_BOOTTIME)}")
        self._aside = ctypes.create_string_buffer(os.fsencode(path))

    def aim(self, kill_path: str) -> None:
        """From now on the act writes to ``kill_path``."""
        if kill_path != self.kill_path:
            self.kill_path, self._kill = kill_path, ctypes.create_string_buffer(os.fsencode(kill_path))

    def do(self) -> None:
        """Moves the active set away and kills the control group. A group that is gone has nobody in it."""
        libc = self._libc
        libc.rename(self._active, self._aside)
        fd = libc.open(self._kill, os.O_WRONLY | os.O_CLOEXEC)
        self.was_done = libc.write(fd, self._one, 1) == 1
        libc.close(fd)
        self.count += 1

    def prepare_again(self) -> None:
        """After the act: makes the next one ready."""
        self._name_aside()

    def is_empty(self) -> bool:
        """Whether nobody is left in the control group: one in disk sleep stays (cgroup-v2.rst, cgroup.events)."""
        try:
            with open(os.path.join(os.path.dirname(self.kill_path), "cgroup.events"), encoding="ascii") as file:
                return "populated 0" in file.read()
        except OSError:
            return True

    def is_refilled(self) -> bool:
        """Whether there is an active set again with something in it."""
        with contextlib.suppress(OSError), os.scandir(os.path.join(self._run_dir, ACTIVE)) as found:
            return any(True for _ in found)
        return False

    def remove_aside(self) -> None:
        """Removes what earlier acts have moved away."""
        with contextlib.suppress(OSError), os.scandir(self._run_dir) as found:
            for entry in found:
                if entry.name.startswith(ASIDE) and entry.is_dir(follow_symlinks=False):
                    _remove_flat(entry.path)


def _remove_flat(directory: str) -> None:
    """Removes a directory of files."""
    with contextlib.suppress(OSError):
        for name in os.listdir(directory):
            os.unlink(os.path.join(directory, name))
        os.rmdir(directory)


class Timer:
    """A timer of the kernel at a time of CLOCK_BOOTTIME, which counts while the machine is suspended."""

    def __init__(self, libc: Libc) -> None:
        self._libc = libc
        self.fd = libc.timerfd_create(CLOCK_BOOTTIME, TFD_FLAGS)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    def set(self, at: float) -> None:
        """Fires at ``at``; never where it is 0. Raises ``OSError``."""
        whole = int(at)
        spec = struct.pack("4q", 0, 0, whole, int((at - whole) * 1e9))
        if self._libc.timerfd_settime(self.fd, TFD_TIMER_ABSTIME, spec, None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")


class WatchdogFailed(Exception):
    """The watchdog cannot be had as it was asked for; the text says why."""


class Watchdog:
    """The machine's own watchdog, behind the keeper: where nobody writes to it for so many seconds it resets the machine.

    Open while a deadline is held, and written to as long as that lies ahead (watchdog-api.rst: the letter V before the close
    switches it off; a close without it, as of a process that is killed, does not). ``ioctl`` as fcntl's.
    """

    def __init__(self, path: str, ioctl: Callable[[int, int, bytes], bytes]) -> None:
        self._path, self._ioctl = path, ioctl
        self._fd = -1
        self.seconds = 0

    def open(self, seconds: int) -> None:
        """Switches it on, for ``seconds`` at most. Idempotent. Raises ``WatchdogFailed``; it is off then."""
        if self._fd >= 0 and self.seconds == seconds:
            return
        try:
            fd = self._fd if self._fd >= 0 else os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
        except OSError as error:
            raise WatchdogFailed(f"{self._path}: {error.strerror}") from None
        self._fd, self.seconds = fd, seconds
        try:
            (granted,) = struct.unpack("i", self._ioctl(fd, WDIOC_SETTIMEOUT, struct.pack("i", seconds)))
        except OSError as error:
            self.release()
            raise WatchdogFailed(f"{self._path} takes no {seconds} s: {error.strerror}") from None
        if granted > seconds:
            self.release()
            raise WatchdogFailed(f"{self._path} waits {granted} s at least, and {seconds} s are asked for")
        self.write()

    @property
    def is_open(self) -> bool:
        return self._fd >= 0

    def write(self) -> None:
        """The machine runs on for so many seconds more."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.write(self._fd, b"\0")

    def release(self) -> None:
        """Switches it off, where the kernel lets that be (nowayout). Idempotent."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.write(self._fd, b"V")
            os.close(self._fd)
            self._fd, self.seconds = -1, 0


class State:
    """The deadline on the run directory, for a keeper that is started again: ``DEADLINE PATH SECONDS`` in a file of a fixed
    size, the watchdog's seconds last."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with contextlib.suppress(OSError):
            # It must not want for room when it is written.
            os.posix_fallocate(self._fd, 0, STATE_BYTES)

    def is_lost(self) -> bool:
        """Whether another keeper would not find it."""
        return not is_same(self._path, self._fd)

    def close(self) -> None:
        os.close(self._fd)

    def read(self) -> tuple[float, str, int] | None:
        """The deadline, the path of cgroup.kill, and the watchdog's seconds, 0 for none; None where there is none."""
        words = os.pread(self._fd, STATE_BYTES, 0).decode("utf-8", "replace").split()
        try:
            return (float(words[0]), words[1], int(*words[2:])) if len(words) in (2, 3) else None
        except ValueError:
            return None

    def write(self, deadline: float, kill_path: str, watchdog_s: int) -> None:
        """Where there is no room an earlier deadline stays, which is safe."""
        with contextlib.suppress(OSError):
            os.pwrite(self._fd, f"{deadline!r} {kill_path} {watchdog_s}".encode().ljust(STATE_BYTES), 0)

    def clear(self) -> None:
        """Leaves none."""
        with contextlib.suppress(OSError):
            os.pwrite(self._fd, b" " * STATE_BYTES, 0)


class Keeper:
    """Holds one deadline. ``is_locked`` and ``is_realtime`` say what the system allowed."""

    def __init__(self, run_dir: str, watchdog: Watchdog) -> None:
        libc = Libc()
        self._watchdog, self._watchdog_s = watchdog, 0
        self._run_dir, self._kept_at = run_dir, read_clock()
        self._act = Act(libc, run_dir)
        self._timer = Timer(libc)
        self._state = State(os.path.join(run_dir, STATE))
        self._listener, self._name = listen(os.path.join(run_dir, SOCKET))
        self._clients: dict[int, socket.socket] = {}
        self._poll = select.poll()
        self._poll.register(self._timer.fd, select.POLLIN)
        self._poll.register(self._listener, select.POLLIN)
        self.deadline = 0.0
        self.has_lapsed = False
        self.is_locked, self.is_realtime = False, False
        self._resume()
        gc.collect()
        gc.disable()
        self._harden(libc)

    def _resume(self) -> None:
        """Continues with the deadline of an earlier keeper; one that has passed meanwhile is acted upon at once."""
        kept = self._state.read()
        if kept is not None and kept[0] <= read_clock() + LONGEST_S:
            self.deadline = kept[0]
            self._act.aim(kept[1])
            self._timer.set(self.deadline)
            self._watchdog_s = kept[2]
            if self._watchdog_s:
                # It was left running by the keeper before this one, and resets the machine unless somebody writes.
                with contextlib.suppress(WatchdogFailed):
                    self._watchdog.open(self._watchdog_s)

    def _harden(self, libc: Libc) -> None:
        self.is_locked = libc.mlockall(MCL_CURRENT | MCL_FUTURE) == 0
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
        self.is_realtime = os.sched_getscheduler(0) == os.SCHED_FIFO
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("-1000")

    def run(self) -> None:
        """Serves for ever."""
        while True:
            ready = self._poll.poll(self._pause_s() * 1000)
            if self.deadline and read_clock() >= self.deadline:
                self._lapse()
            elif self.has_lapsed and self._act.is_refilled():
                self._act.do()
                self._act.prepare_again()
                say("the active set was filled again without a deadline: killed again")
            self.watch()
            for fd, _ in ready:
                if fd == self._listener.fileno():
                    self._accept()
                elif fd in self._clients:
                    self._serve(fd)
            if read_clock() - self._kept_at >= KEEP_S:
                self._keep_names()

    def _pause_s(self) -> float:
        """Until the next look: often enough for the watchdog, too."""
        if self.has_lapsed:
            return LOOK_S
        return min(KEEP_S, self._watchdog.seconds / 4) if self._watchdog.is_open else KEEP_S

    def watch(self) -> None:
        """Writes to the watchdog while the deadline lies ahead.

        After it, it is switched off when the kill was done and nobody is left in the group. Where that does not come, the
        machine is reset.
        """
        if not self._watchdog.is_open:
            return
        if self.deadline and read_clock() < self.deadline:
            self._watchdog.write()
        elif self.has_lapsed and self._act.was_done and self._act.is_empty():
            self._watchdog.release()

    def _keep_names(self) -> None:
        """Makes socket and state file again where somebody removed them; connections stay."""
        self._kept_at = read_clock()
        path = os.path.join(self._run_dir, SOCKET)
        with contextlib.suppress(OSError):
            if identity_of(path) != self._name:
                fresh, self._name = listen(path)
                self._poll.unregister(self._listener)
                self._listener.close()
                self._listener = fresh
                self._poll.register(fresh, select.POLLIN)
            if self._state.is_lost():
                state = State(os.path.join(self._run_dir, STATE))
                self._state.close()
                self._state = state
                if self.deadline:
                    state.write(self.deadline, self._act.kill_path, self._watchdog_s)

    def _lapse(self) -> None:
        self._act.do()
        late_s = read_clock() - self.deadline
        self.deadline, self.has_lapsed = 0.0, True
        self._timer.set(0.0)
        self._state.clear()
        self._act.prepare_again()
        done = "killed" if self._act.was_done else "THE KILL FAILED"
        say(f"no newer deadline came: {self._act.kill_path} {done}, {late_s * 1000:.1f} ms after it")

    # ---- what the agent says

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            client, _ = self._listener.accept()
            client.setblocking(False)
            if len(self._clients) >= MOST_CLIENTS:
                self._drop(next(iter(self._clients)))
            self._clients[client.fileno()] = client
            self._poll.register(client, select.POLLIN)

    def _drop(self, fd: int) -> None:
        self._poll.unregister(fd)
        self._clients.pop(fd).close()

    def _serve(self, fd: int) -> None:
        client = self._clients[fd]
        try:
            asked = client.recv(STATE_BYTES)
            if asked:
                client.send(self.answer(asked.decode("utf-8", "replace")).encode())
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._drop(fd)

    def answer(self, asked: str) -> str:
        """The answer to one message: ``watchdog SECONDS`` (0 for none), ``arm DEADLINE PATH``, ``disarm`` or ``state``."""
        words = asked.split(" ", 2)
        if words[0] == "watchdog" and len(words) == 2 and words[1].isdecimal():
            self._watchdog_s = int(words[1])
            return f"watchdog {self._watchdog_s}"
        if words[0] == "arm" and len(words) == 3:
            return self._arm(words[1], words[2])
        if asked == "disarm":
            return self._disarm()
        if asked == "state":
            return self._tell()
        return "refused not a message of the agent's"

    def _arm(self, when: str, kill_path: str) -> str:
        """Holds a deadline that lies ahead from now on. Anything else leaves what is held as it is."""
        try:
            deadline = float(when)
        except ValueError:
            return "refused not a deadline"
        now = read_clock()
        if not math.isfinite(deadline) or deadline > now + LONGEST_S:
            return f"refused a deadline more than {LONGEST_S:g} s away"
        if deadline <= now:
            return "lapsed"
        if os.path.basename(kill_path) != "cgroup.kill" or not kill_path.startswith("/") or " " in kill_path:
            return "refused not the path of a cgroup.kill"
        if kill_path != self._act.kill_path and not os.access(kill_path, os.W_OK):
            return f"refused {kill_path} cannot be written"
        if self._watchdog_s:
            try:
                self._watchdog.open(self._watchdog_s)
            except WatchdogFailed as error:
                return f"refused {error}"
        self._act.aim(kill_path)
        if self.has_lapsed:
            self._act.remove_aside()
        self._timer.set(deadline)
        self.deadline, self.has_lapsed = deadline, False
        self._state.write(deadline, kill_path, self._watchdog_s)
        return f"armed {deadline!r}"

    def _disarm(self) -> str:
        """Nothing runs any more that a deadline would be for."""
        self.deadline, self.has_lapsed = 0.0, False
        self._timer.set(0.0)
        self._state.clear()
        self._watchdog.release()
        self._watchdog_s = 0
        self._act.remove_aside()
        return "disarmed"

    def _tell(self) -> str:
        word = "armed" if self.deadline else "lapsed" if self.has_lapsed else "idle"
        return f"state {word} {self.deadline!r} {self._act.count} {int(self.is_locked)} {int(self.is_realtime)}"


def identity_of(path: str) -> tuple[int, int] | None:
    """Device and inode of what ``path`` names; None where there is nothing."""
    try:
        seen = os.lstat(path)
    except OSError:
        return None
    return seen.st_dev, seen.st_ino


def is_same(path: str, fd: int) -> bool:
    """Whether ``path`` names the open file ``fd``."""
    held = os.fstat(fd)
    return identity_of(path) == (held.st_dev, held.st_ino)


def listen(path: str) -> tuple[socket.socket, tuple[int, int] | None]:
    """The socket for root alone, in place of what a keeper that was killed has left, and what its name is known by.

    Raises ``OSError``.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    old = os.umask(0o177)
    try:
        sock.bind(path)
    finally:
        os.umask(old)
    sock.listen(MOST_CLIENTS)
    sock.setblocking(False)
    return sock, identity_of(path)


def say(text: str) -> None:
    """Writes a line for the journal; one that cannot be taken at once is dropped."""
    with contextlib.suppress(OSError):
        os.write(2, f"ha-agent-keeper: {text}\n".encode())


def main() -> int:
    """The command line; ends with 1 where there is no run directory or no timer."""
    parser = argparse.ArgumentParser(prog="ha-agent-keeper", description=__doc__)
    parser.add_argument("--run-dir", default="/run/ha-agent", help="where the active set is (default: %(default)s)")
    watchdog = "used where the agent asks for it (default: %(default)s)"
    parser.add_argument("--watchdog", default="/dev/watchdog", help=watchdog)
    options = parser.parse_args()
    with contextlib.suppress(OSError):
        os.set_blocking(2, False)
    try:
        keeper = Keeper(options.run_dir, Watchdog(options.watchdog, fcntl.ioctl))
    except OSError as error:
        say(f"cannot start: {error.strerror or error}")
        return 1
    if not (keeper.is_locked and keeper.is_realtime):
        say("not locked in memory, or without real-time priority: it may be late on a machine that is short of either")
    keeper.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
