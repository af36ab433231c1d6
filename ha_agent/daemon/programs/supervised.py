"""The registry's programs under supervisord: loading, starting, stopping, ending what is left, and looking.

Only groups of the registry are ever touched; local programs and event listeners are not.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from ha_agent.adapters.files import read_or_none, write_atomic
from ha_agent.adapters.procs import (
    Lineage,
    Marked,
    ProcessWatch,
    find_marked,
    leads_session,
    select_orphans,
    send_signal,
    wait_ended,
)
from ha_agent.adapters.supervisord import (
    RUNNING_STATES,
    Fault,
    ProcessInfo,
    RereadRefused,
    Supervisord,
    SupervisordDown,
    find_supervisord,
)
from ha_agent.core.settings import Settings

log = logging.getLogger(__name__)

T = TypeVar("T")

_CULPRIT = re.compile(r"file: '([^']+)'")
FIRST_GROUPS = 8
"""So many groups are added first, so that the first program does not wait for the last group."""

SPAWN_S = 0.02
"""supervisord answers after it has spawned everything; a generous time a program, added to the ordinary deadline."""

GLANCE_S = 0.5
"""supervisord needs 0.2 s to describe 500 processes; a peer's question for the status waits a little longer than this."""

OPERATOR_WORKERS = 2
"""Threads for operators' calls, of their own: a supervisord that hangs must not take the workers of a release."""

REAP_LIMIT_S = 3.0
"""supervisord notices a child's end within a second of its own time at the latest."""

SETTLED = frozenset({"RUNNING", "FATAL", "EXITED", "STOPPED", "UNKNOWN"})


@dataclass(frozen=True, slots=True)
class Verified:
    """What a look at supervisord found: processes running, and the failed ones with their reasons."""

    running: int
    failed: dict[str, str]
    waiting: int
    not_started: int


def culprit_of(message: str) -> str | None:
    """The file name that supervisord's parser blames in ``message``, if it blames one."""
    match = _CULPRIT.search(message)
    return os.path.basename(match[1]) if match else None


class Programs:
    """All calls are coroutines; none blocks the loop. ``on_end`` is called when supervisord's process has ended."""

    def __init__(self, settings: Settings, on_end: Callable[[], None]) -> None:
        self._settings = settings
        self._supervisord = Supervisord(settings.supervisor.socket, settings.supervisor.rpc_timeout_s)
        # One name a line: ha-agent-fence, which has no Python, reads it too.
        self._groups_path = os.path.join(settings.paths.run_dir, "groups")
        self.groups: frozenset[str] = self._load_groups()
        self._sessions_path = os.path.join(settings.paths.run_dir, "supervisords")
        self._sessions = frozenset(int(w) for w in (read_or_none(self._sessions_path) or b"").split() if w.isdigit())
        self._noted_pid = 0
        self._infos: list[ProcessInfo] = []
        self.process = ProcessWatch(lambda: find_supervisord(settings.supervisor.socket), on_end)
        self._operators = ThreadPoolExecutor(OPERATOR_WORKERS, "operator")
        self.loading = asyncio.Lock()
        """Held while an operator's call that starts something is under way: a release waits for its end."""
        # A thread of its own: those who look at a supervisord that hangs must not take the workers of a release.
        self._glancer = ThreadPoolExecutor(1, "glance")
        self._glance: asyncio.Future[list[ProcessInfo]] | None = None

    def _load_groups(self) -> frozenset[str]:
        raw = read_or_none(self._groups_path)
        return frozenset(os.fsdecode(raw).splitlines()) if raw else frozenset()

    def look(self) -> None:
        """Holds supervisord's process, if there is one, and notes its session, by which its descendants are found."""
        self.process.look()
        identity = self.process.identity
        if identity is None or identity[0] == self._noted_pid:
            return
        self._noted_pid = identity[0]
        if leads_session(identity[0]) and identity[0] not in self._sessions:
            self._sessions |= {identity[0]}
            text = "".join(f"{pid}\n" for pid in sorted(self._sessions))
            write_atomic(self._sessions_path, text.encode(), durable=False)

    @property
    def lineage(self) -> Lineage:
        """What is known of supervisord's descendants: its sessions, and what it last said of its processes."""
        leaders = {i.pid: (i.group, i.name) for i in self._infos if i.pid and i.group in self.groups}
        spared = frozenset(i.pid for i in self._infos if i.pid and i.group not in self.groups)
        return Lineage(self._sessions, leaders, spared)

    def remember_groups(self, groups: Iterable[str]) -> None:
        """Notes that ``groups`` belong to the registry, before supervisord knows them: a release must find them again."""
        merged = self.groups | frozenset(groups)
        if merged != self.groups:
            write_atomic(self._groups_path, os.fsencode("".join(f"{g}\n" for g in sorted(merged))), durable=False)
            self.groups = merged

    def forget_groups(self) -> None:
        """Notes that nothing of the registry is loaded any more."""
        self.groups = frozenset()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._groups_path)

    async def read(self) -> list[ProcessInfo]:
        """The registry's processes. Raises ``SupervisordDown``."""
        self._infos = await asyncio.to_thread(self._supervisord.read_processes)
        return [info for info in self._infos if info.group in self.groups]

    async def glance(self) -> list[ProcessInfo]:
        """As ``read``, for showing: waits ``GLANCE_S`` at most, and all who ask at once share one question."""
        return [info for info in await self.glance_at_all(GLANCE_S) if info.group in self.groups]

    async def glance_at_all(self, limit_s: float) -> list[ProcessInfo]:
        """Every process that supervisord knows, asked for as by ``glance``. Raises ``SupervisordDown`` after ``limit_s``."""
        # By the time that this goes on, somebody else may have asked anew.
        glance = self._glance
        if glance is None or glance.done():
            glance = asyncio.get_running_loop().run_in_executor(self._glancer, self._supervisord.read_processes)
            # Whoever asked may be gone by then.
            glance.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._glance = glance
        done, _ = await asyncio.wait({glance}, timeout=limit_s)
        if not done:
            raise SupervisordDown(f"no answer within {limit_s:g} s")
        self._infos = glance.result()
        return self._infos

    def close(self) -> None:
        """Lets go of supervisord's process and of the thread."""
        self.process.close()
        self._glancer.shutdown(wait=False, cancel_futures=True)
        self._operators.shutdown(wait=False, cancel_futures=True)

    async def call(self, method: str, params: Sequence[Any]) -> Any:
        """One call for an operator; what supervisord refuses is a ``Fault``. Raises ``SupervisordDown``."""
        return await self._for_operator(self._supervisord.call, method, params)

    async def read_all(self) -> list[ProcessInfo]:
        """Every process that supervisord knows, for an operator's command. Raises ``SupervisordDown``."""
        self._infos = await self._for_operator(self._supervisord.read_processes)
        return self._infos

    async def read_some(self, wanted: Collection[tuple[str, str]]) -> list[ProcessInfo]:
        """Those of the processes ``wanted``, as (group, name), that supervisord knows. Raises ``SupervisordDown``."""
        return await self._for_operator(self._supervisord.read_some, sorted(wanted)) if wanted else []

    async def batch(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """Several calls of an operator's command in one request. Raises ``SupervisordDown``."""
        limit = self._settings.supervisor.rpc_timeout_s + SPAWN_S * len(calls)
        return await self._for_operator(self._supervisord.batch, calls, limit)

    async def _for_operator(self, function: Callable[..., T], *words: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._operators, function, *words)

    async def wait_loaded(self) -> None:
        """Waits for the end of an operator's call that starts something, ``hung_s`` at most.

        One that takes longer goes down with the supervisord that does not answer it.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.supervisor.hung_s), self.loading:
                pass

    async def stop_some(self, live: Sequence[ProcessInfo], chosen: Collection[tuple[str, str]]) -> list[Marked]:
        """Stops what is running of the processes ``chosen`` as (group, process), and waits until nothing of them is left.

        What supervisord does not end, or no longer owns, is swept. Returns what could not be ended. Raises
        ``SupervisordDown``.
        """
        if live:
            await self.batch([("stopProcess", [f"{i.group}:{i.name}", False]) for i in live])
            await self._wait_stopped([i.pid for i in live if i.pid])

        groups = frozenset(group for group, _ in chosen)
        lineage = Lineage(self._sessions, {i.pid: (i.group, i.name) for i in live if i.pid})

        async def find() -> list[Marked]:
            marked = await asyncio.to_thread(find_marked, self._settings.supervisor.socket, groups, lineage)
            return [p for p in marked if (p.group, p.process) in chosen]

        return await self._end_all(find)

    async def await_reaped(self, chosen: Collection[tuple[str, str]]) -> None:
        """Waits until supervisord itself has seen the ends of ``chosen``, ``REAP_LIMIT_S`` at most."""
        clock = asyncio.get_running_loop().time
        until = clock() + REAP_LIMIT_S
        pause = 0.002
        while any(i.state in RUNNING_STATES for i in await self.read_some(chosen)):
            if clock() >= until:
                raise SupervisordDown("it does not notice that its programs have ended")
            await asyncio.sleep(pause)
            pause = min(2 * pause, 0.1)

    async def is_up(self) -> bool:
        """Whether supervisord answers within ``hung_s``."""
        return await asyncio.to_thread(self._supervisord.is_up, self._settings.supervisor.hung_s)

    def freeze_supervisord(self) -> bool:
        """Keeps a supervisord that hangs from starting anything (SIGSTOP) while its programs are ended without it.

        Says whether there is one. ``end_supervisord`` must follow.
        """
        self.look()
        self.process.send(signal.SIGSTOP)
        return self.process.is_alive

    async def hurry_shutdown(self) -> None:
        """Waits for the end of a supervisord that is shutting down, ``stop_timeout_s`` at most.

        It stops one group after the other, about one a second (supervisor's ``ordered_stop_groups_phase_1``), and starts
        nothing any more: so its programs are all told at once.
        """
        for process in await self.find_left():
            send_signal(process, signal.SIGTERM)
        if (identity := self.process.identity) is not None:
            await wait_ended([identity[0]], self._settings.release.stop_timeout_s)

    async def end_supervisord(self) -> None:
        """Kills supervisord and waits for its end. systemd starts it again."""
        if (identity := self.process.identity) is not None:
            log.error("supervisord (pid %d) hangs and is ended", identity[0])
            self.process.send(signal.SIGKILL)
            await wait_ended([identity[0]], 5.0)

    async def load(self, order: Sequence[str], start_all: bool) -> list[str]:
        """Has supervisord load and start what is new or changed among the registry's groups; what runs unchanged goes on.

        ``order`` is that of the starts. Returns what supervisord refused, one text each. Raises ``RereadRefused`` and
        ``SupervisordDown``.
        """
        return await asyncio.to_thread(self._load, order, start_all)

    def _load(self, order: Sequence[str], start_all: bool) -> list[str]:
        """Adds a few groups with the reread and the others after them.

        supervisord spawns what was added only when it has answered, and then all of it before it answers again: so the
        first programs start while the others are still being added.
        """
        groups = [group for group in order if group in self.groups]
        reread, *results = self._add(groups[:FIRST_GROUPS], reread=True)
        if isinstance(reread, Fault):
            raise RereadRefused(reread.text)
        results += self._add(groups[FIRST_GROUPS:])
        added, changed, _ = reread[0]
        fresh = frozenset(added)
        refused = [r.text for g, r in zip(groups, results, strict=True) if isinstance(r, Fault) and g in fresh]
        refused += self._replace([group for group in changed if group in self.groups])
        if start_all or len(fresh & self.groups) < len(groups):
            refused += self._start_stopped(fresh, start_all)
        return refused

    def _add(self, groups: Sequence[str], *, reread: bool = False) -> list[Any]:
        calls: list[tuple[str, list[object]]] = [("reloadConfig", [])] if reread else []
        calls += [("addProcessGroup", [group]) for group in groups]
        return self._supervisord.batch(calls, self._settings.supervisor.rpc_timeout_s + SPAWN_S * len(self.groups))

    def _replace(self, groups: list[str]) -> list[str]:
        """Stops and loads again groups whose conf changed while they were loaded (a takeover that was cut off)."""
        calls: list[tuple[str, list[object]]] = []
        for group in groups:
            calls += [("stopProcessGroup", [group]), ("removeProcessGroup", [group]), ("addProcessGroup", [group])]
        return [f.text for f in self._supervisord.batch(calls) if isinstance(f, Fault)]

    def _start_stopped(self, fresh: frozenset[str], start_all: bool) -> list[str]:
        """Starts what supervisord does not start by itself: programs with autostart=false, and those loaded before."""
        idle = [
            info
            for info in self._supervisord.read_processes()
            if info.group in self.groups and info.state not in RUNNING_STATES and (start_all or info.group not in fresh)
        ]
        calls = [("startProcess", [f"{i.group}:{i.name}", False]) for i in idle]
        return [f.text for f in self._supervisord.batch(calls) if isinstance(f, Fault)]

    async def verify(self, not_started: frozenset[str]) -> Verified:
        """One look at the registry's processes. Raises ``SupervisordDown``."""
        running = waiting = idle = 0
        failed: dict[str, str] = {}
        for info in await self.read():
            if info.state == "RUNNING":
                running += 1
            elif info.state in SETTLED and info.started == 0 and (info.group in not_started or info.state == "STOPPED"):
                idle += 1
            elif info.state in SETTLED:
                failed[info.full_name] = info.spawn_error or f"{info.state}, exit status {info.exit_status}"
            else:
                waiting += 1
        return Verified(running, failed, waiting, idle)

    async def stop(self) -> None:
        """Signals every process of the registry at once and waits until all have ended, ``stop_timeout_s`` at most.

        Raises ``SupervisordDown``. supervisord itself kills a program after its ``stopwaitsecs``.
        """
        if not await self.is_up():
            raise SupervisordDown(f"no answer within {self._settings.supervisor.hung_s:g} s")
        live = [info for info in await self.read() if info.state in RUNNING_STATES]
        if not live:
            return
        # Not stopProcessGroup: supervisord answers that one deferred, one group every 50 ms within a multicall.
        calls = [("stopProcess", [f"{info.group}:{info.name}", False]) for info in live]
        await asyncio.to_thread(self._supervisord.batch, calls)
        await self._wait_stopped([info.pid for info in live if info.pid])

    async def _wait_stopped(self, pids: list[int]) -> None:
        """Waits for the ends of ``pids``; looks meanwhile whether supervisord is still there to kill the stubborn ones."""
        clock = asyncio.get_running_loop().time
        limit = clock() + self._settings.release.stop_timeout_s
        while (left_s := limit - clock()) > 0:
            if await wait_ended(pids, min(left_s, self._settings.supervisor.hung_s)):
                return
            if not await self.is_up():
                raise SupervisordDown("it hangs since it was told to stop its programs")

    async def find_left(self) -> list[Marked]:
        """Processes that carry the marks of our supervisord and of a group of the registry, or came from it without marks.

        Nothing where nothing of the registry was loaded.
        """
        lineage = self.lineage if self.groups else Lineage()
        return await asyncio.to_thread(find_marked, self._settings.supervisor.socket, self.groups, lineage)

    async def find_orphans(self) -> list[Marked]:
        """Those of them that an earlier supervisord started, and what came from these."""
        self.look()
        identity = self.process.identity
        return select_orphans(await self.find_left(), identity[1] if identity else None)

    async def sweep(self) -> list[Marked]:
        """Ends every process of the registry. Returns what could not be ended."""
        return await self._end_all(self.find_left)

    async def end_orphans(self) -> list[Marked]:
        """Ends what a supervisord that is no more has left running. Returns what could not be ended."""
        return await self._end_all(self.find_orphans)

    async def _end_all(self, find: Callable[[], Awaitable[list[Marked]]]) -> list[Marked]:
        """TERM, a grace, KILL; several rounds, as a process may have just forked."""
        left = await find()
        if not left:
            return []
        for process in left:
            send_signal(process, signal.SIGTERM)
        await wait_ended([p.pid for p in left], self._settings.release.sweep_grace_s)
        for _ in range(2):
            left = await self._freeze_all(find)
            if not left:
                return []
            for process in left:
                send_signal(process, signal.SIGKILL)
            await wait_ended([p.pid for p in left], 1.0)
        return await find()

    async def _freeze_all(self, find: Callable[[], Awaitable[list[Marked]]]) -> list[Marked]:
        """Stops (SIGSTOP) what ``find`` finds until it finds nothing new: none can fork while the others are killed."""
        frozen: set[tuple[int, int]] = set()
        for _ in range(20):
            found = await find()
            fresh = [p for p in found if (p.pid, p.started_ticks) not in frozen]
            if not fresh:
                break
            for process in fresh:
                send_signal(process, signal.SIGSTOP)
            frozen |= {(p.pid, p.started_ticks) for p in fresh}
        return found

    async def unload(self) -> None:
        """Has supervisord forget the registry's groups. The active set must be empty by now.

        Raises ``SupervisordDown``; where supervisord is gone there is nothing to unload.
        """
        await asyncio.to_thread(self._unload)

    def _unload(self) -> None:
        with contextlib.suppress(RereadRefused):
            self._supervisord.reread()
        known = {info.group for info in self._supervisord.read_processes()}
        todo = sorted(self.groups & known)
        for attempt in range(40):
            results = self._supervisord.batch([("removeProcessGroup", [g]) for g in todo])
            todo = [g for g, r in zip(todo, results, strict=True) if isinstance(r, Fault)]
            if not todo:
                return
            time.sleep(0.005 * (attempt + 1))
        raise SupervisordDown(f"supervisord keeps {', '.join(todo)} though nothing of it is running")
