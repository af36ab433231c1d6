"""Processes, seen through /proc and held by pidfds: who carries supervisord's marks, and who has ended.

asyncio is imported by what waits in a loop alone: each command and the listener look at processes, too, and start sooner.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ha_agent.adapters.cgroups import SupervisorsGroup
from ha_agent.adapters.files import keep_note, read_note, write_note
from ha_agent.core.kinship import Found, Kin, Marked, Process, list_below, select_adrift, select_ours, select_strays


def _kinship(pid: int) -> tuple[int, int, int, int, bytes] | None:
    """Parent, process group, session, start time and command (proc(5): fields 4, 5, 6, 22 and 2 of stat).

    None where ``pid`` has ended.
    """
    head, _, rest = _read(pid, "stat").rpartition(b")")
    fields = rest.split()
    if not fields or fields[0] in (b"Z", b"X"):
        return None
    return int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19]), head.partition(b"(")[2]


def owner_of(pid: int) -> int | None:
    """The user that ``pid`` runs as; None where it has ended."""
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None


def _read(pid: int, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb", 0) as file:
            return file.read()
    except OSError:
        return b""


def leads_session(pid: int) -> bool:
    """Whether ``pid`` is alive and leads its session, so that every process of the session came from it."""
    kin = _kinship(pid)
    return kin is not None and kin[2] == pid


def start_ticks(pid: int) -> int | None:
    """Start time of ``pid`` in clock ticks since boot; None where it has ended."""
    kin = _kinship(pid)
    return kin[3] if kin else None


def is_supervisord(pid: int) -> bool:
    """Whether ``pid`` runs supervisord, as root, by its command line."""
    words = _read(pid, "cmdline").split(b"\0")[:4]
    return _uid(pid) == 0 and any(os.path.basename(word).endswith(b"supervisord") for word in words)


def find_main(members: Collection[int]) -> int | None:
    """The supervisord that the processes ``members`` of a control group came from; None where there is none.

    One that a program of the group has started has its parent there, too. Of several the youngest counts: what an earlier
    one has left is older.
    """
    ages = {pid: start_ticks(pid) or 0 for pid in members if is_supervisord(pid) and parent_of(pid) not in members}
    return max(ages, key=lambda pid: ages[pid], default=None)


def parent_of(pid: int) -> int | None:
    """The parent of ``pid``; None where it has ended."""
    kin = _kinship(pid)
    return kin[0] if kin else None


def find_living_children(parent: int, pids: Collection[int], at_ticks: int) -> frozenset[int]:
    """Those of ``pids`` that are alive, are children of ``parent``, and were started ``at_ticks`` at the latest."""
    found = ((pid, _kinship(pid)) for pid in pids)
    return frozenset(pid for pid, kin in found if kin is not None and kin[0] == parent and kin[3] <= at_ticks)


TICKS_S = 1.0 / os.sysconf("SC_CLK_TCK")


def now_ticks() -> int:
    """Now, in the unit of start times: clock ticks since boot, those of a sleeping machine included."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) / TICKS_S)


def age_s(pid: int) -> float:
    """How long ago ``pid`` was started, in seconds; 0 where it has ended."""
    ticks = start_ticks(pid)
    return 0.0 if ticks is None else (now_ticks() - ticks) * TICKS_S


def list_pids() -> list[int]:
    """Every process that /proc shows."""
    return list(map(int, filter(str.isdigit, os.listdir("/proc"))))


def _uid(pid: int) -> int:
    """The user of ``pid``; nobody's number where it has ended."""
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return -1


def same_socket(server_url: str, socket_path: str) -> bool:
    """Whether a SUPERVISOR_SERVER_URL means the supervisord at ``socket_path`` (/var/run and /run are one)."""
    if not server_url.startswith("unix://"):
        return False
    return os.path.realpath(server_url[len("unix://") :]) == os.path.realpath(socket_path)


def read_marks(pid: int, socket_path: str) -> tuple[str, str] | None:
    """Group and name that the supervisord at ``socket_path`` has written into the environment of ``pid``, or of its parents.

    None where there are no such marks: it is none of its processes, or has wiped them. A program that sets its process title
    (redis, nginx, PostgreSQL) writes it over its environment.
    """
    raw = _read(pid, "environ")
    if b"SUPERVISOR_GROUP_NAME=" not in raw:
        return None
    marks = dict(pair.split(b"=", 1) for pair in raw.split(b"\0") if b"=" in pair)
    group, url = marks.get(b"SUPERVISOR_GROUP_NAME"), marks.get(b"SUPERVISOR_SERVER_URL")
    if group is None or url is None or not same_socket(os.fsdecode(url), socket_path):
        return None
    return os.fsdecode(group), os.fsdecode(marks.get(b"SUPERVISOR_PROCESS_NAME", b""))


def read_table(socket_path: str, members: frozenset[int] | None, supervisord: int | None) -> dict[int, Process]:
    """The machine's processes, with the marks of those that may be supervisord's.

    ``members``: who is in supervisord's control group; then these alone are read, and what lives below them elsewhere. None
    where it has no group of its own: then everybody is read. About 25 microseconds a process.
    """
    pids = list_pids() if members is None else members | _list_below(members)
    kin = {pid: found for pid in pids if (found := _kinship(pid)) is not None}
    code = _read(supervisord, "cmdline") if supervisord is not None else b""
    table = {}
    for pid, (parent, process_group, session, ticks, command) in kin.items():
        marks = read_marks(pid, socket_path)
        is_fork = marks is None and parent == supervisord and _read(pid, "cmdline") == code
        group, name = marks or (None, "")
        uid = _uid(pid) if members is None else 0
        signs = group, name, members is not None and pid in members, is_fork, command.decode("utf-8", "replace")
        table[pid] = Process(pid, parent, process_group, session, ticks, uid, *signs)
    return table


def _list_below(members: frozenset[int]) -> frozenset[int]:
    """What ``members`` have started and what has itself moved to another control group, with all below it."""
    found: set[int] = set()
    asked = list(members)
    while asked:
        fresh = {child for pid in asked for child in _list_children(pid)} - members - found
        found |= fresh
        asked = list(fresh)
    return frozenset(found)


def _list_children(pid: int) -> list[int]:
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    return [int(word) for thread in threads for word in _read(pid, f"task/{thread}/children").split()]


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
    import asyncio

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
            async with asyncio.timeout(timeout_s):
                await done
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
        import asyncio

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
            import asyncio

            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = None


def read_memory(pids: Mapping[Any, int]) -> dict[Any, int]:
    """Resident memory in bytes of each of ``pids`` with all of its descendants, by the key that it came under.

    Pages that processes share count for each of them. One pass over /proc, about 20 microseconds a process.
    """
    page = os.sysconf("SC_PAGESIZE")
    return {key: sum(map(_resident_pages, family)) * page for key, family in _families(pids)}


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process and all of its descendants use: processor seconds since they began, and resident bytes."""

    cpu_s: float
    memory: int


def read_usage(pids: Mapping[Any, int]) -> dict[Any, Usage]:
    """The usage of each of ``pids``, by the key that it came under; nothing of one that has ended. Costs as ``read_memory``.

    The time of a child that has ended counts as soon as its parent has waited for it (proc(5): cutime and cstime).
    """
    page, found = os.sysconf("SC_PAGESIZE"), {}
    for key, family in _families(pids):
        times = [ticks for pid in family if (ticks := _cpu_ticks(pid)) is not None]
        if times:
            found[key] = Usage(round(sum(times) * TICKS_S, 2), sum(map(_resident_pages, family)) * page)
    return found


def _families(pids: Mapping[Any, int]) -> Iterator[tuple[Any, list[int]]]:
    """Each of ``pids`` with all of its descendants, in one pass over /proc."""
    children: dict[int, list[int]] = {}
    for pid in list_pids():
        if (kin := _kinship(pid)) is not None:
            children.setdefault(kin[0], []).append(pid)
    for key, pid in pids.items():
        family, at = [pid], 0
        while at < len(family):
            family += children.get(family[at], ())
            at += 1
        yield key, family


def _cpu_ticks(pid: int) -> int | None:
    """Clock ticks of ``pid`` and of the children that it has waited for (proc(5): fields 14 to 17 of stat)."""
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    return sum(map(int, fields[11:15])) if len(fields) > 14 else None


def _resident_pages(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", "rb", 0) as file:
            return int(file.read().split()[1])
    except (OSError, IndexError, ValueError):
        return 0


class Sessions:
    """The sessions of this boot's supervisords, by which what they started is found where there is no control group.

    A session is known by its leader's process id and start time: the number alone may be a stranger's one day. ``path``: the
    file by which an agent that is started again knows them, too.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        rows = (line.split() for line in (read_note(path) or b"").splitlines())
        self.known: frozenset[tuple[int, int]] = frozenset(
            (int(row[0]), int(row[1])) for row in rows if len(row) == 2 and row[0].isdigit() and row[1].isdigit()
        )

    def note(self, pid: int, started_ticks: int) -> None:
        """Remembers the session of a supervisord that is alive and leads one."""
        if (pid, started_ticks) not in self.known and leads_session(pid):
            self._keep(self.known | {(pid, started_ticks)})

    def prune(self, table: Mapping[int, Process]) -> frozenset[int]:
        """Forgets the sessions of which nothing is left, or whose number is another process's by now; returns the others."""
        in_use = {process.session for process in table.values()}
        left = frozenset(
            (pid, ticks)
            for pid, ticks in self.known
            if pid in in_use and (pid not in table or table[pid].started_ticks == ticks)
        )
        if left != self.known:
            self._keep(left)
        return frozenset(pid for pid, _ in left)

    def _keep(self, known: frozenset[tuple[int, int]]) -> None:
        self.known = known
        # A full /run must not keep anybody from looking at processes.
        with contextlib.suppress(OSError):
            write_note(self._path, self._to_note(), 0o600)

    def keep(self) -> bool:
        """Writes the file again where it is not right; says whether it did. Raises ``OSError``."""
        return bool(self.known) and keep_note(self._path, self._to_note(), 0o600)

    def _to_note(self) -> bytes:
        return "".join(f"{pid} {ticks}\n" for pid, ticks in sorted(self.known)).encode()


class ProcessTable:
    """The machine's processes, for those who end what a supervisord left: one thing to hand over, and to stand in for."""

    def __init__(self, socket_path: str, sessions_path: str) -> None:
        """``socket_path``: the socket of the supervisord whose marks count. ``sessions_path``: as for ``Sessions``."""
        self._socket_path = socket_path
        self._group = SupervisorsGroup()
        self._sessions = Sessions(sessions_path)
        self._uids: frozenset[int] = frozenset({0})

    def note_supervisord(self, pid: int, started_ticks: int) -> None:
        """Remembers where what this supervisord starts will be found. Cheap for one that was noted already."""
        self._group.note(pid, started_ticks)
        self._sessions.note(pid, started_ticks)

    def keep(self) -> bool:
        """Writes the file of the sessions again where it is not right; says whether it did. Raises ``OSError``."""
        return self._sessions.keep()

    @property
    def kill_path(self) -> str | None:
        """The file by which all of supervisord's control group is killed; None where it has none of its own (version 2)."""
        directory = self._group.directory
        path = os.path.join(directory, "cgroup.kill") if directory is not None else ""
        return path if path and os.path.exists(path) else None

    def find(self, kin: Kin) -> Found:
        """The registry's processes, by what ``kin`` knows. Blocks for one pass over /proc."""
        return self._look(kin)[0]

    def find_adrift(self, kin: Kin) -> list[Marked]:
        """Those that no living supervisord is above. Blocks for one pass over /proc."""
        found, table, supervisord = self._look(kin)
        return select_adrift(found.ours, table, supervisord)

    def find_strays(self, kin: Kin) -> list[Marked]:
        """Those that run beside their program, or of which none can be told; none where no supervisord is alive."""
        found, table, supervisord = self._look(kin)
        return select_strays(found.ours, table, supervisord) if supervisord is not None else []

    def _look(self, kin: Kin) -> tuple[Found, Mapping[int, Process], int | None]:
        directory = self._group.directory
        members = self._group.members() if directory is not None else frozenset()
        if kin.supervisord is None:
            # One that has just been started has no socket yet, and is not known to anybody.
            kin = replace(kin, supervisord=find_main(members))
        # One that was started by hand is in a login's group: what it starts is known by other signs.
        is_closed = directory is not None and (kin.supervisord is None or kin.supervisord in members)
        table = read_table(self._socket_path, members if is_closed else None, kin.supervisord)
        if not is_closed:
            table = {pid: replace(p, within=pid in members) for pid, p in table.items()}
            self._uids |= {table[pid].uid for pid in list_below(table, kin.supervisord)} - {-1}
        sessions = self._sessions.prune(table)
        kin = replace(kin, uids=frozenset()) if is_closed else replace(kin, earlier=sessions, uids=self._uids)
        return select_ours(table, kin), table, kin.supervisord

    def send(self, process: Marked, number: signal.Signals) -> None:
        """Signals exactly this process; does nothing where it has ended."""
        send_signal(process, number)

    async def wait_ended(self, pids: Iterable[int], timeout_s: float) -> bool:
        """As the function of that name."""
        return await wait_ended(pids, timeout_s)
