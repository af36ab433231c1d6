"""A supervisord, a process table and a parser of confs in memory, for those who load, run, end and judge programs."""

from __future__ import annotations

import asyncio
import pathlib
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ha_agent.adapters.conf_checker import CheckerFailed, ConfChecker
from ha_agent.adapters.local_confs import LocalConfs
from ha_agent.adapters.procs import ProcessTable, ProcessWatch
from ha_agent.adapters.supervisord import Fault, ProcessInfo, RereadRefused, SocketAge, Supervisord, SupervisordDown
from ha_agent.core.confs import Program, Verdict
from ha_agent.core.kinship import Found, Kin, Marked
from ha_agent.core.settings import ReleaseSettings, SupervisorSettings
from ha_agent.core.supervisor_words import LIVE_STATES
from ha_agent.daemon.programs.loaded_groups import LoadedGroups
from ha_agent.daemon.programs.loader import Loader
from ha_agent.daemon.programs.local_groups import LocalGroups
from ha_agent.daemon.programs.supervised import Supervised
from ha_agent.daemon.programs.sweep import Sweeper

STILL_RUNNING, BAD_NAME, ALREADY_STARTED, NOT_RUNNING = 91, 10, 60, 70


def info(group: str, name: str | None = None, state: str = "RUNNING", pid: int = 0, **other: Any) -> ProcessInfo:
    """One process as supervisord sees it; of a program that is its own group unless ``name`` is given."""
    return replace(ProcessInfo(group, name or group, state, pid, 1, "", 0), **other)


@dataclass
class Running:
    """One live process. What it ignores does not end it; a forking one has a child each time that it is looked at."""

    marked: Marked
    ignores: frozenset[signal.Signals] = frozenset()
    forks: bool = False
    is_frozen: bool = False


class MemoryTable(ProcessTable):
    """The processes of a machine."""

    def __init__(self) -> None:
        super().__init__("/nonexistent", "/nonexistent/sessions")
        self.live: dict[int, Running] = {}
        self.signals: list[tuple[int, signal.Signals]] = []
        self.noted: list[tuple[int, int]] = []
        self.kin = Kin()
        self.pending: list[list[Marked]] = []
        """Forks of supervisord: what each of the next looks finds, the last one first."""
        self._next_pid = 1000

    def add(self, group: str, process: str | None = None, *, parent: int = 1, ticks: int = 50, **other: Any) -> int:
        """Adds a process; returns its id."""
        self._next_pid += 1
        marked = Marked(self._next_pid, parent, ticks, group, process or group)
        self.live[marked.pid] = Running(marked, **other)
        return marked.pid

    def note_supervisord(self, pid: int, started_ticks: int) -> None:
        """Notes it."""
        self.noted.append((pid, started_ticks))

    def find_adrift(self, kin: Kin) -> list[Marked]:
        """Those whose parent is not supervisord."""
        return [p for p in self.find(kin).ours if p.parent != kin.supervisord]

    def find_strays(self, kin: Kin) -> list[Marked]:
        """The same."""
        return self.find_adrift(kin)

    def find(self, kin: Kin) -> Found:
        """What is not local. Whoever forks and is not stopped has just done it: the child is found the next time."""
        self.kin = kin
        found = [r.marked for r in self.live.values() if r.marked.group not in kin.local]
        for running in list(self.live.values()):
            if running.forks and not running.is_frozen:
                mine = running.marked
                self.add(mine.group, mine.process, parent=mine.pid, ignores=running.ignores)
        return Found(tuple(found), tuple(self.pending.pop()) if self.pending else ())

    def send(self, process: Marked, number: signal.Signals) -> None:
        """Ends the process unless it ignores ``number``."""
        running = self.live.get(process.pid)
        if running is None or running.marked.started_ticks != process.started_ticks:
            return
        self.signals.append((process.pid, number))
        if number in running.ignores:
            return
        if number is signal.SIGSTOP:
            running.is_frozen = True
        elif not (running.is_frozen and number is signal.SIGTERM):
            del self.live[process.pid]

    async def wait_ended(self, pids: Iterable[int], timeout_s: float) -> bool:
        """Waits in the loop's time."""
        until = asyncio.get_running_loop().time() + timeout_s
        wanted = set(pids)
        while wanted & self.live.keys():
            left_s = until - asyncio.get_running_loop().time()
            if left_s <= 0:
                return False
            await asyncio.sleep(min(0.5, left_s))
        return True

    def received(self, pid: int) -> list[signal.Signals]:
        """What was sent to ``pid``."""
        return [number for other, number in self.signals if other == pid]


class MemoryConfs(LocalConfs):
    """supervisord's configuration: the groups that are not the registry's."""

    def __init__(self, groups: Iterable[str] = ()) -> None:
        super().__init__("/nonexistent", ())
        self.groups = set(groups)

    def read_groups(self, environment: Mapping[str, str]) -> frozenset[str]:
        """What a test says."""
        return frozenset(self.groups)


class MemoryWatch(ProcessWatch):
    """supervisord's process: ``found`` is its id and start time."""

    def __init__(self, found: tuple[int, int] | None = (77, 100)) -> None:
        super().__init__(lambda: None, lambda: None)
        self.found = found
        self.sent: list[signal.Signals] = []

    @property
    def is_alive(self) -> bool:
        """Whether a test says that there is one."""
        return self.found is not None

    @property
    def identity(self) -> tuple[int, int] | None:
        """What a test says."""
        return self.found

    def look(self) -> None:
        """Nothing to be done."""

    def send(self, number: signal.Signals) -> None:
        """Notes the signal."""
        self.sent.append(number)


class MemorySupervisord(Supervisord):
    """Answers from memory. ``configured``: what each group's processes will be when it is added."""

    def __init__(self) -> None:
        super().__init__("/nonexistent", 1.0)
        self.processes: list[ProcessInfo] = []
        self.configured: dict[str, list[ProcessInfo]] = {}
        self.changed: list[str] = []
        self.calls: list[tuple[str, Any]] = []
        self.down: str | None = None
        self.shuts_down = False
        self.down_at: str | None = None
        """The method from which on it does not answer."""
        self.refuses: dict[str, Fault] = {}
        """What is refused, by "method name"."""
        self.reread_refused: str | None = None
        self.on_stop: Callable[[ProcessInfo], str] = lambda _: "STOPPED"
        """The state that a process takes when it is told to stop."""
        self.on_start: Callable[[ProcessInfo], ProcessInfo] = lambda i: replace(i, state="RUNNING")
        self.limits: list[float | None] = []

    def _require_up(self, method: str = "") -> None:
        if self.down is not None or method == self.down_at:
            self.down = self.down or "no answer"
            raise SupervisordDown(self.down)

    def is_up(self, timeout_s: float = 2.0) -> bool:
        """Whether it answers."""
        return self.down is None

    def works(self, timeout_s: float = 2.0) -> bool:
        """Whether it answers and goes on."""
        return self.down is None and not self.shuts_down

    def read_processes(self) -> list[ProcessInfo]:
        """Everything."""
        self.calls.append(("getAllProcessInfo", ""))
        self._require_up("read")
        return list(self.processes)

    def read_some(self, wanted: Sequence[tuple[str, str]]) -> list[ProcessInfo]:
        """Some."""
        self._require_up("read")
        return [i for i in self.processes if (i.group, i.name) in set(wanted)]

    def call(self, method: str, params: Sequence[Any]) -> Any:
        """One call."""
        return self.batch([(method, params)])[0]

    def reread(self) -> tuple[list[str], list[str], list[str]]:
        """What differs."""
        answer = self.call("reloadConfig", [])
        if isinstance(answer, Fault):
            raise RereadRefused(answer.text)
        return answer[0]  # type: ignore[no-any-return]

    def batch(self, calls: Sequence[tuple[str, Sequence[Any]]], timeout_s: float | None = None) -> list[Any]:
        """One after the other."""
        self.limits.append(timeout_s)
        return [self._do(method, str(params[0]) if params else "") for method, params in calls]

    def _do(self, method: str, name: str) -> Any:
        self.calls.append((method, name))
        self._require_up(method)
        if (refused := self.refuses.get(f"{method} {name}".strip())) is not None:
            return refused
        return getattr(self, f"_do_{method}")(name)

    def _do_reloadConfig(self, _name: str) -> Any:
        if self.reread_refused is not None:
            return Fault(92, self.reread_refused)
        have = {i.group for i in self.processes}
        return [[[g for g in self.configured if g not in have], self.changed, [g for g in have if g not in self.configured]]]

    def _do_addProcessGroup(self, name: str) -> Any:
        if any(i.group == name for i in self.processes):
            return Fault(90, f"ALREADY_ADDED: {name}")
        if name not in self.configured:
            return Fault(BAD_NAME, f"BAD_NAME: {name}")
        self.processes += self.configured[name]
        return True

    def _do_removeProcessGroup(self, name: str) -> Any:
        mine = [i for i in self.processes if i.group == name]
        if not mine:
            return Fault(BAD_NAME, f"BAD_NAME: {name}")
        if any(i.state in LIVE_STATES for i in mine):
            return Fault(STILL_RUNNING, f"STILL_RUNNING: {name}")
        self.processes = [i for i in self.processes if i.group != name]
        return True

    def _do_stopProcessGroup(self, name: str) -> Any:
        self.processes = [replace(i, state=self.on_stop(i)) if i.group == name else i for i in self.processes]
        return []

    def _named(self, name: str) -> int | None:
        return next((n for n, i in enumerate(self.processes) if f"{i.group}:{i.name}" == name), None)

    def _do_stopProcess(self, name: str) -> Any:
        if (at := self._named(name)) is None:
            return Fault(BAD_NAME, f"BAD_NAME: {name}")
        if self.processes[at].state not in LIVE_STATES:
            return Fault(NOT_RUNNING, f"NOT_RUNNING: {name}")
        self.processes[at] = replace(self.processes[at], state=self.on_stop(self.processes[at]))
        return True

    def _do_startProcess(self, name: str) -> Any:
        if (at := self._named(name)) is None:
            return Fault(BAD_NAME, f"BAD_NAME: {name}")
        if self.processes[at].state in LIVE_STATES:
            return Fault(ALREADY_STARTED, f"ALREADY_STARTED: {name}")
        self.processes[at] = self.on_start(self.processes[at])
        return True

    def said(self, method: str) -> list[str]:
        """The names that ``method`` was called with, in order."""
        return [name for called, name in self.calls if called == method]


class MemoryChecker(ConfChecker):
    """Judges by the text: ``bad`` is a problem, ``lacks`` lacks something, ``group NAME: a,b`` is a group."""

    def __init__(self) -> None:
        super().__init__(SupervisorSettings())
        self.asked: list[list[str]] = []
        self.failure: str | None = None
        self.closed = 0

    async def judge(
        self, confs: Mapping[str, str], directories: Mapping[str, str], *, for_stranger: bool = False
    ) -> dict[str, Verdict]:
        """The verdicts; each line of a conf is a program's name, or one of the words above."""
        self.asked.append(sorted(confs))
        if self.failure is not None:
            raise CheckerFailed(self.failure)
        self.last_used_mono = asyncio.get_running_loop().time()
        return {path: verdict_of(text) for path, text in confs.items()}

    async def close(self) -> None:
        """Counts."""
        self.closed += 1


def verdict_of(text: str) -> Verdict:
    """The verdict on a conf of the language of ``MemoryChecker``."""
    programs, groups = [], {}
    for line in text.splitlines():
        if line == "bad":
            return Verdict(problem="it is bad")
        if line.startswith("group "):
            name, members = line.removeprefix("group ").split(": ")
            groups[name] = tuple(members.split(","))
        else:
            name, _, lacks = line.partition(" lacks ")
            programs.append(Program(name, (name,), missing=(lacks,) if lacks else ()))
    return Verdict(None, tuple(programs), groups)


class Machine:
    """Everything of programs/ that needs no registry, over what is in memory."""

    def __init__(self, tmp_path: pathlib.Path, loaded: Iterable[str] = ()) -> None:
        self.settings = SupervisorSettings(rpc_timeout_s=10.0, hung_s=5.0)
        self.release = ReleaseSettings(stop_timeout_s=20.0, sweep_grace_s=2.0)
        self.supervisord, self.table, self.watch = MemorySupervisord(), MemoryTable(), MemoryWatch()
        self.socket = tmp_path / "supervisor.sock"
        self.supervised = self.supervise()
        self.loaded = LoadedGroups(str(tmp_path / "groups"))
        self.loaded.remember(loaded)
        self.confs = MemoryConfs({"local"})
        self.local = LocalGroups(self.confs, dict)
        self.sweeper = Sweeper(self.release, self.table, self.supervised, self.loaded, self.local)
        self.loader = Loader(self.settings, self.release, self.supervised, self.loaded, self.local, self.table)

    def supervise(self) -> Supervised:
        """As an agent that is started does it."""
        return Supervised(self.settings, self.supervisord, self.watch, self.table, SocketAge(str(self.socket)))

    def run(self, group: str, name: str | None = None, **other: Any) -> int:
        """Adds a running process that supervisord knows; returns its id."""
        pid = self.table.add(group, name, **other)
        self.supervisord.processes.append(info(group, name, "RUNNING", pid))
        self.supervisord.on_stop = self._stop
        return pid

    def _stop(self, stopped: ProcessInfo) -> str:
        running = self.table.live.get(stopped.pid)
        if running is None:
            return "STOPPED"
        self.table.send(running.marked, signal.SIGTERM)
        return "STOPPING" if stopped.pid in self.table.live else "STOPPED"
