"""Processes, seen through /proc and held by pidfds: who carries supervisord's marks, and who has ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Marked:
    """A process that supervisord (or a child of it) started: environment marks as supervisor's docs describe them."""

    pid: int
    parent: int
    started_ticks: int
    group: str
    process: str


@dataclass(frozen=True, slots=True)
class Kinship:
    """Where a process belongs (proc(5), fields 4, 5, 6 and 22 of stat)."""

    parent: int
    process_group: int
    session: int
    started_ticks: int


@dataclass(frozen=True, slots=True)
class Lineage:
    """What is known of supervisord's descendants besides the marks in their environment.

    A program that sets its process title (redis, nginx, PostgreSQL) writes it over its environment: /proc shows the marks no
    more. It is still in the session of the supervisord that started it, unless it has left the session, too.
    """

    sessions: frozenset[int] = frozenset()
    """Process ids of the supervisords of this boot, each the leader of its session."""
    leaders: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    """The registry's processes as supervisord last named them: process id to group and name."""
    spared: frozenset[int] = frozenset()
    """Process ids of programs that are not of the registry."""


UNKNOWN_GROUP = "?"


def _kinship(pid: int) -> Kinship | None:
    """None where ``pid`` has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb", 0) as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    if fields[0] in (b"Z", b"X"):
        return None
    return Kinship(int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19]))


def leads_session(pid: int) -> bool:
    """Whether ``pid`` is alive and leads its session, so that every process of the session came from it."""
    kin = _kinship(pid)
    return kin is not None and kin.session == pid


def _birth(pid: int) -> tuple[int, int] | None:
    """Parent and start time of ``pid``; None where it has ended."""
    kin = _kinship(pid)
    return (kin.parent, kin.started_ticks) if kin else None


def start_ticks(pid: int) -> int | None:
    """Start time of ``pid`` in clock ticks since boot; None where it has ended."""
    birth = _birth(pid)
    return birth[1] if birth else None


def _raw_environment(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/environ", "rb", 0) as file:
            return file.read()
    except OSError:
        return b""


def _parse_environment(raw: bytes) -> dict[bytes, bytes]:
    return dict(pair.split(b"=", 1) for pair in raw.split(b"\0") if b"=" in pair)


def same_socket(server_url: str, socket_path: str) -> bool:
    """Whether a SUPERVISOR_SERVER_URL means the supervisord at ``socket_path`` (/var/run and /run are one)."""
    if not server_url.startswith("unix://"):
        return False
    return os.path.realpath(server_url[len("unix://") :]) == os.path.realpath(socket_path)


def find_marked(socket_path: str, groups: frozenset[str], lineage: Lineage = Lineage()) -> list[Marked]:
    """Every live process whose environment says that our supervisord started it, in one of ``groups``.

    The marks are inherited, so children that changed session or lost their parent are found too. Those that show no marks
    are found by ``lineage``; a group that is not known is ``UNKNOWN_GROUP``. One pass over /proc, about 20 microseconds a
    process.
    """
    found = []
    ours: dict[bytes, bool] = {}
    bare: dict[int, Kinship] = {}
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        raw = _raw_environment(pid)
        marks = _parse_environment(raw) if b"SUPERVISOR_GROUP_NAME=" in raw else {}
        group = marks.get(b"SUPERVISOR_GROUP_NAME")
        url = marks.get(b"SUPERVISOR_SERVER_URL")
        if group is None or url is None:
            if lineage.sessions and (kin := _kinship(pid)) is not None and kin.session in lineage.sessions:
                bare[pid] = kin
            continue
        if os.fsdecode(group) not in groups:
            continue
        if url not in ours:
            ours[url] = same_socket(os.fsdecode(url), socket_path)
        birth = _birth(pid) if ours[url] else None
        if birth is not None:
            name = os.fsdecode(marks.get(b"SUPERVISOR_PROCESS_NAME", b""))
            found.append(Marked(pid, *birth, os.fsdecode(group), name))
    return found + _without_marks(bare, lineage)


def _without_marks(bare: Mapping[int, Kinship], lineage: Lineage) -> list[Marked]:
    """Those of ``bare`` that are neither a supervisord nor a program that is spared, nor came from one that is."""
    found = []
    for pid, kin in bare.items():
        if pid == kin.session or kin.process_group in lineage.spared or _has_ancestor(pid, bare, lineage.spared):
            continue
        group, name = lineage.leaders.get(pid) or lineage.leaders.get(kin.process_group) or (UNKNOWN_GROUP, f"process {pid}")
        found.append(Marked(pid, kin.parent, kin.started_ticks, group, name))
    return found


def _has_ancestor(pid: int, known: Mapping[int, Kinship], wanted: frozenset[int]) -> bool:
    for _ in range(len(known)):
        if pid in wanted:
            return True
        if pid not in known:
            return False
        pid = known[pid].parent
    return False


def list_leaders(lineage: Lineage) -> list[tuple[str, str]]:
    """Group and name of the processes that supervisord last named and that are still there."""
    return [
        names
        for pid, names in lineage.leaders.items()
        if (kin := _kinship(pid)) is not None and kin.session in lineage.sessions
    ]


def select_orphans(marked: Sequence[Marked], supervisord_ticks: int | None) -> list[Marked]:
    """Those of ``marked`` that are not the running supervisord's: what was started before it, and what came from that.

    ``supervisord_ticks`` is its start time, None where none is running: then all of them are orphans.
    """
    if supervisord_ticks is None:
        return list(marked)
    orphans = {p.pid for p in marked if p.started_ticks < supervisord_ticks}
    grown = True
    while grown:
        children = {p.pid for p in marked if p.parent in orphans} - orphans
        orphans |= children
        grown = bool(children)
    return [p for p in marked if p.pid in orphans]


def send_signal(process: Marked, number: signal.Signals) -> None:
    """Signals exactly this process: through a pidfd, after its start time was seen to be the same."""
    try:
        fd = os.pidfd_open(process.pid)
    except OSError:
        return
    try:
        if start_ticks(process.pid) == process.started_ticks:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, number)
    finally:
        os.close(fd)


async def wait_ended(pids: Iterable[int], timeout_s: float) -> bool:
    """Waits until every one of ``pids`` has ended; says whether that was so within ``timeout_s``. No polling."""
    loop = asyncio.get_running_loop()
    fds: list[int] = []
    done = loop.create_future()
    left = 0

    def ended(fd: int) -> None:
        nonlocal left
        loop.remove_reader(fd)
        left -= 1
        if left == 0 and not done.done():
            done.set_result(None)

    try:
        for pid in set(pids):
            try:
                fd = os.pidfd_open(pid)
            except OSError:
                continue
            fds.append(fd)
            left += 1
            loop.add_reader(fd, ended, fd)
        if left:
            await asyncio.wait_for(done, timeout_s)
        return True
    except TimeoutError:
        return False
    finally:
        for fd in fds:
            loop.remove_reader(fd)
            os.close(fd)


def find_agent() -> int | None:
    """The process id of an agent on this machine, of the same process namespace; None where none is seen."""
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb", 0) as file:
            words = file.read().split(b"\0")
            is_agent = b"daemon" in words[2:4] and (b"ha_agent" in words[1:3] or words[1].endswith(b"/ha-agent"))
            if is_agent and _shares_namespace(pid):
                return pid
    return None


def _shares_namespace(pid: int) -> bool:
    """Whether ``pid`` is of our process namespace, as far as we may know: a lab's nodes have their own."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid") == os.readlink("/proc/self/ns/pid")
    except OSError:
        return True


def read_pid_file(path: str) -> int | None:
    """The process id in ``path``; None where there is none."""
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


class ProcessWatch:
    """Holds a pidfd of the process that ``find_pid`` names, and calls back at its end."""

    def __init__(self, find_pid: Callable[[], int | None], on_end: Callable[[], None]) -> None:
        self._find_pid = find_pid
        self._on_end = on_end
        self._fd: int | None = None
        self.pid = 0
        self.started_ticks = 0

    @property
    def is_alive(self) -> bool:
        """Whether the process was alive when last looked at."""
        return self._fd is not None

    @property
    def identity(self) -> tuple[int, int] | None:
        """Process id and start time of the process that is held; None where none is."""
        return (self.pid, self.started_ticks) if self._fd is not None else None

    def look(self) -> None:
        """Opens a pidfd of the process named now, if none is held. Cheap; call it as often as is handy."""
        if self._fd is not None:
            return
        pid = self._find_pid()
        if pid is None:
            return
        try:
            fd = os.pidfd_open(pid)
        except OSError:
            return
        started = start_ticks(pid)
        if started is None:
            os.close(fd)
            return
        self._fd, self.pid, self.started_ticks = fd, pid, started
        asyncio.get_running_loop().add_reader(fd, self._ended)

    def send(self, number: signal.Signals) -> None:
        """Signals exactly this process; does nothing where it has ended."""
        if self._fd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._fd, number)

    def _ended(self) -> None:
        self.close()
        self._on_end()

    def close(self) -> None:
        """Lets go of the process. Idempotent."""
        if self._fd is not None:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = None


def read_memory(pids: Mapping[Any, int]) -> dict[Any, int]:
    """Resident memory in bytes of each of ``pids`` with all of its descendants, by the key that it came under.

    Pages that processes share count for each of them. One pass over /proc, about 20 microseconds a process.
    """
    page = os.sysconf("SC_PAGESIZE")
    children: dict[int, list[int]] = {}
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        if (kin := _kinship(pid)) is not None:
            children.setdefault(kin.parent, []).append(pid)
    found = {}
    for key, pid in pids.items():
        family, at = [pid], 0
        while at < len(family):
            family += children.get(family[at], ())
            at += 1
        found[key] = sum(map(_resident_pages, family)) * page
    return found


def _resident_pages(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", "rb", 0) as file:
            return int(file.read().split()[1])
    except (OSError, IndexError, ValueError):
        return 0


class ProcessTable:
    """The machine's processes, for those who end what a supervisord left: one thing to hand over, and to stand in for."""

    def __init__(self, socket_path: str) -> None:
        """``socket_path``: the socket of the supervisord whose marks count."""
        self._socket_path = socket_path

    def find_marked(self, groups: frozenset[str], lineage: Lineage) -> list[Marked]:
        """As the function of that name. Blocks for one pass over /proc."""
        return find_marked(self._socket_path, groups, lineage)

    def list_leaders(self, lineage: Lineage) -> list[tuple[str, str]]:
        """As the function of that name."""
        return list_leaders(lineage)

    def leads_session(self, pid: int) -> bool:
        """As the function of that name."""
        return leads_session(pid)

    def send(self, process: Marked, number: signal.Signals) -> None:
        """Signals exactly this process; does nothing where it has ended."""
        send_signal(process, number)

    async def wait_ended(self, pids: Iterable[int], timeout_s: float) -> bool:
        """As the function of that name."""
        return await wait_ended(pids, timeout_s)
