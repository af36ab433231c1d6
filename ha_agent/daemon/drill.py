"""A failover-test on one node: watches programs and roles closely, makes the fault, and ends it by itself.

The command that asked for the test holds nothing. Every fault has an end from the beginning, which this node keeps whether
or not the command, the connection or this agent lives to see it: what is under way is written to ``drill.json`` below the
run directory, and an agent that is started again goes on with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Collection, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from ha_agent.adapters.cut import cut_off, has_nft, restore
from ha_agent.adapters.files import keep_note, read_note, remove_note, write_note
from ha_agent.adapters.interface import SavedInterface, bring_up, save_interface, take_down
from ha_agent.adapters.procs import ProcessWatch
from ha_agent.adapters.runner import ProgramMissing, run_program
from ha_agent.core.drill import CUTS
from ha_agent.core.reasons import reason_of
from ha_agent.core.settings import DrillSettings
from ha_agent.core.supervisor_words import full_name
from ha_agent.core.vip import find_missing
from ha_agent.core.words import Role
from ha_agent.daemon.events import Events
from ha_agent.daemon.programs.supervised import Supervised
from ha_agent.daemon.programs.sweep import Sweeper
from ha_agent.daemon.role.maintenance import Maintenance
from ha_agent.daemon.standing import Standing

log = logging.getLogger(__name__)

SAMPLE_S = 0.02
LONGEST_S = 1800.0
LONGEST_CUT_S = 1300.0
"""Four of the longest ``witness.ttl_s``, and some more."""

ANSWER_FIRST_S = 0.1
"""A fault begins this much later than its answer is sent, which must still leave this node."""

RB_AUTOBOOT = 0x01234567
"""reboot(2): at once, without a word to any process or disk; within a process namespace it ends that namespace alone."""


class DrillRefused(Exception):
    """This node does not do it; the text says why."""


@dataclass(slots=True)
class Record:
    """What is under way. Times by the monotonic clock, which outlives an agent but not a boot."""

    id: str
    by: str
    until_mono: float
    mode: str | None = None
    undo_mono: float | None = None
    interface: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Voters:
    """Where the other two voters are, and the pair's VRRP router. ``witness_hosts``: names or addresses, none without a
    witness. ``promised``: who has promised this node a vote now. ``cut_off`` and ``restore``: as those of ``adapters.cut``.
    """

    peer: tuple[str, ...]
    router_id: int
    witness_hosts: tuple[str, ...]
    promised: Callable[[], tuple[str, ...]]
    cut_off: Callable[[Collection[str], int | None, float], Coroutine[Any, Any, None]] = cut_off
    restore: Callable[[], Coroutine[Any, Any, None]] = restore
    can_cut: Callable[[], bool] = has_nft


class Drill:
    """For one node. ``paths``: the file of what is under way, and that of what is seen; both below the run directory.

    ``interface``: the network interface of the VIP. ``voters``: what a cut cuts off.
    ``start_task`` has a coroutine done as one of the agent's tasks.
    ``clock``: monotonic, ``wall``: wall clock seconds; ``pause`` waits so many seconds between two looks.
    """

    def __init__(
        self,
        settings: DrillSettings,
        interface: str,
        paths: tuple[str, str],
        standing: Standing,
        maintenance: Maintenance,
        keepalived: ProcessWatch,
        supervised: Supervised,
        sweeper: Sweeper,
        events: Events,
        voters: Voters,
        start_task: Callable[[Coroutine[Any, Any, None]], object],
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        pause: Callable[[float], Coroutine[Any, Any, None]] = asyncio.sleep,
    ) -> None:
        self._settings, self._interface = settings, interface
        self._path, self._samples_path = paths
        self._standing, self._maintenance = standing, maintenance
        self._keepalived, self._supervised = keepalived, supervised
        self._sweeper, self._events, self._start_task = sweeper, events, start_task
        self.voters = voters
        self._clock, self._wall, self._pause = clock, wall, pause
        self.record: Record | None = None
        self._last: tuple[Any, ...] | None = None

    def resume(self) -> None:
        """Goes on with what an earlier agent of this boot began."""
        raw = read_note(self._path)
        if raw is None:
            return
        try:
            self.record = Record(**json.loads(raw))
        except (ValueError, TypeError):
            log.error("%s cannot be read: a failover-test is forgotten", self._path)
            with contextlib.suppress(OSError):
                remove_note(self._path)
            return
        self._begin_work()

    def begin(self, identifier: str, for_s: float, by: str) -> None:
        """Begins to watch, for ``for_s`` at most. Raises ``DrillRefused`` beside another test, and ``OSError``."""
        if self.record is not None and self.record.id != identifier:
            raise DrillRefused(f"a failover-test of {self.record.by} is under way on {self._standing.node}")
        if self._maintenance.is_on:
            raise DrillRefused(f"maintenance is on at {self._standing.node}")
        remove_note(self._samples_path)
        self.record = Record(identifier, by, self._clock() + min(for_s, LONGEST_S))
        self._save()
        self._begin_work()

    def _begin_work(self) -> None:
        self._last = None
        self._start_task(self._watch())
        self._start_task(self._keep_end())

    def _save(self) -> None:
        if self.record is not None:
            write_note(self._path, self._to_note(self.record), 0o600)

    @staticmethod
    def _to_note(record: Record) -> bytes:
        return json.dumps(asdict(record)).encode()

    def keep(self) -> bool:
        """Writes the file of what is under way again where it is not right; says whether it did. Raises ``OSError``."""
        return self.record is not None and keep_note(self._path, self._to_note(self.record), 0o600)

    async def make_fault(self, identifier: str, mode: str, hold_s: float, *, really: bool) -> float:
        """Makes the fault a moment from now; returns the wall clock time of that.

        It ends ``hold_s`` later by itself where it does not end at once. Raises ``DrillRefused`` and ``OSError``.
        """
        record, standing = self.record, self._standing
        if record is None or record.id != identifier:
            raise DrillRefused("this failover-test is not under way here")
        if self._maintenance.is_on:
            # Begun since: nobody would take over, and the fault would be an outage.
            raise DrillRefused(f"maintenance is on at {standing.node}")
        if standing.role is not Role.ACTIVE:
            raise DrillRefused(f"{standing.node} is {standing.role.value}, not active")
        if mode in ("power", "link-down") and not (really or self._settings.dangerous_modes):
            raise DrillRefused(f"{mode} needs --yes-really")
        faults: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "keepalived-kill": self._kill_keepalived,
            "agent-kill": self._kill_agent,
            "supervisord-kill": self._kill_supervisord,
            "link-down": self._take_link_down,
            "power": self._cut_power,
            "partition": self._cut_peer_off,
            "witness-cut": self._cut_witness_off,
        }
        if mode not in faults:
            raise DrillRefused(f"there is no mode {mode!r:.40}")
        if mode in CUTS:
            self._check_cut(mode, hold_s)
        if mode == "link-down":
            record.interface = asdict(await save_interface(self._interface, self._standing.vips.keys()))
        record.mode, record.undo_mono = mode, self._clock() + ANSWER_FIRST_S + min(hold_s, LONGEST_S)
        self._save()
        self._events.add("drill-fault", f"failover-test: {mode}", mode=mode, drill=identifier, by=record.by)
        if mode == "power":
            os.sync()

        async def later() -> None:
            await self._pause(ANSWER_FIRST_S)
            # A test that was ended meanwhile makes no fault that nobody would end.
            if self.record is record and record.undo_mono is not None:
                await faults[mode]()

        self._start_task(later())
        return self._wall() + ANSWER_FIRST_S

    def _check_cut(self, mode: str, hold_s: float) -> None:
        """A cut takes one vote away: it needs all three. Raises ``DrillRefused``."""
        voters = self.voters
        if not voters.witness_hosts:
            raise DrillRefused(f"{mode} needs a pair with a witness: without one both nodes would run the programs")
        if len(voters.promised()) < len(("self", "peer", "witness")):
            said = ", ".join(voters.promised()) or "nobody"
            raise DrillRefused(f"{mode} takes one of the three votes away, and only {said} votes for this node now")
        if hold_s > LONGEST_CUT_S:
            raise DrillRefused(f"{mode} for {hold_s:g} s: {LONGEST_CUT_S:g} s are the longest")
        if not voters.can_cut():
            raise DrillRefused(f"{mode} needs nft: apt install nftables")

    def _left_s(self) -> float:
        """Seconds until the fault is over."""
        record = self.record
        return 0.0 if record is None or record.undo_mono is None else record.undo_mono - self._clock()

    async def _cut_peer_off(self) -> None:
        await self._cut(self.voters.peer, self.voters.router_id)

    async def _cut_witness_off(self) -> None:
        found: set[str] = set()
        for host in self.voters.witness_hosts:
            with contextlib.suppress(OSError):
                rows = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
                found |= {str(row[4][0]) for row in rows}
        await self._cut(sorted(found), None)

    async def _cut(self, addresses: Collection[str], router_id: int | None) -> None:
        """Cuts off for what is left, and what the kernel's rounding to seconds needs; the kernel ends it, whatever dies."""
        try:
            await self.voters.cut_off(addresses, router_id, self._left_s())
        except (OSError, ProgramMissing) as error:
            self._events.add("drill-failed", f"failover-test: nothing was cut off: {reason_of(error)}")

    async def _kill_keepalived(self) -> None:
        self._keepalived.send(signal.SIGKILL)

    async def _kill_agent(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    async def _kill_supervisord(self) -> None:
        self._supervised.process.send(signal.SIGKILL)

    async def _take_link_down(self) -> None:
        await take_down(self._interface)

    async def _cut_power(self) -> None:
        # Whatever the kernel still does until the machine is reset, nothing may hear of it.
        with contextlib.suppress(OSError):
            await take_down(self._interface)
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.reboot(RB_AUTOBOOT) != 0:
            self._events.add("drill-failed", f"reboot(2): {os.strerror(ctypes.get_errno())}")

    async def undo(self) -> None:
        """Ends the fault now. Idempotent; what cannot be ended is tried again until the test's own end."""
        record = self.record
        if record is None or record.undo_mono is None:
            return
        try:
            if record.mode == "keepalived-kill":
                await self._start_keepalived()
            elif record.mode == "link-down" and record.interface is not None:
                await bring_up(SavedInterface(**record.interface))
            elif record.mode in CUTS:
                await self.voters.restore()
        except (OSError, ProgramMissing) as error:
            self._events.add("drill-failed", f"failover-test: {record.mode} could not be ended: {reason_of(error)}")
            record.undo_mono = self._clock() + 5.0
            return
        record.undo_mono = None
        # Where the file cannot be written a later agent ends the fault once more, which changes nothing.
        with contextlib.suppress(OSError):
            self._save()
        self._events.add("drill-undone", f"failover-test: {record.mode} is over", drill=record.id)

    async def _start_keepalived(self) -> None:
        self._keepalived.look()
        if self._keepalived.is_alive:
            return
        outcome = await run_program(self._settings.keepalived_start_command, 30.0)
        if outcome.code != 0:
            raise OSError(f"keepalived could not be started: {outcome.errors.strip()[-200:]}")

    async def end(self, identifier: str) -> list[dict[str, Any]]:
        """Ends fault and watching; returns what was seen. Nothing where no such test is under way."""
        record = self.record
        if record is None or record.id != identifier:
            return []
        await self.undo()
        samples = await asyncio.to_thread(self._read_samples)
        if self.record is record and record.undo_mono is None:
            self._forget()
        return samples

    def _forget(self) -> None:
        self.record = None
        for path in (self._path, self._samples_path):
            with contextlib.suppress(OSError):
                remove_note(path)

    async def _keep_end(self) -> None:
        """Undoes the fault in time and forgets a test whose command never came back."""
        record = self.record
        while record is not None and self.record is record:
            now = self._clock()
            if record.undo_mono is not None and now >= record.undo_mono:
                await self.undo()
            if now >= record.until_mono and record.undo_mono is None:
                self._events.add("drill-abandoned", "failover-test: its command did not come back", drill=record.id)
                self._forget()
                return
            await self._pause(0.1)

    # ---- watching -----------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Notes every change of what runs here, of the role, the VRRP state and the VIP."""
        record = self.record
        # A thread of its own: the test must not slow down what it tests.
        executor = ThreadPoolExecutor(1, "drill")
        try:
            while record is not None and self.record is record:
                running = await asyncio.get_running_loop().run_in_executor(executor, self._look)
                self._note(running)
                await self._pause(SAMPLE_S)
        finally:
            executor.shutdown(wait=False)

    def _look(self) -> tuple[str, ...]:
        seen = {(p.group, p.process) for p in self._sweeper.look().named}
        return tuple(sorted(full_name(group, name) for group, name in seen))

    def _note(self, running: tuple[str, ...]) -> None:
        standing = self._standing
        # Of several VIPs all must have come.
        has_vip = False if find_missing(standing.vips) else standing.vip_here
        seen = (running, standing.role.value, standing.vrrp_state.value, has_vip)
        if seen == self._last:
            return
        self._last = seen
        line = {"at": round(self._wall(), 4), "running": running, "role": seen[1], "vrrp_state": seen[2], "vip": seen[3]}
        with contextlib.suppress(OSError), open(self._samples_path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _read_samples(self) -> list[dict[str, Any]]:
        samples = []
        with contextlib.suppress(OSError), open(self._samples_path, encoding="utf-8") as file:
            for line in file:
                with contextlib.suppress(ValueError):
                    samples.append(json.loads(line))
        return samples
