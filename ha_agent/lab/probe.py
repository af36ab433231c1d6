"""The invariant probe: samples which programs run on which node, from outside both, and tells where the rule was broken.

It looks at processes alone (their namespace, the marks that supervisord gave them, and a tag that a program of a test gives
itself) and asks nobody, so that neither the
agent nor supervisord can make it believe something.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field

SAMPLE_S = 0.01
YOUNG_SAMPLES = 30
"""A process has its marks only after its exec: this is how often a new one is looked at in each sample."""
OLD_SAMPLES, RARELY = 1000, 20
"""After that in every 20th, because on a busy machine an exec comes late; and then it counts as none of ours."""


TAG = b"probe:"
"""How the first word of a command begins that the probe knows without supervisord's marks."""


@dataclass(slots=True)
class Seen:
    """When a program was seen on a node: ``began`` and ``last`` of each unbroken stretch, monotonic seconds."""

    stretches: list[tuple[float, float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Overlap:
    """A program that ran on both nodes at once."""

    program: str
    began_mono: float
    took_s: float


class Probe:
    """Samples until stopped."""

    def __init__(self) -> None:
        self._namespaces: dict[int, str] = {}
        """The inode of a process namespace, to the node whose it is."""
        self._held: list[int] = []
        """A descriptor of each: the kernel gives the number of one that is gone to the next, of another lab perhaps."""
        self._known: dict[str, tuple[str, str] | int] = {}
        """By process, as /proc names it: node and program, or how often it was looked at in vain."""
        self._strangers: set[str] = set()
        """What is in none of the namespaces, was looked at long enough, or is no process: most of /proc."""
        self._has_new_node = False
        self._seen: dict[tuple[str, str], Seen] = {}
        self._open_overlaps: dict[str, tuple[float, float]] = {}
        self.overlaps: list[Overlap] = []
        self.doubles: dict[tuple[str, str], float] = {}
        """Programs of which two copies ran on one node at once, with the node: when that began. A copy is a process that has
        no parent of the same program."""
        self._copies: dict[tuple[str, str], set[str]] = {}
        self.running: dict[str, frozenset[str]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="probe", daemon=True)

    def watch_node(self, node: str, init_pid: int) -> None:
        """Counts the processes of the namespace of ``init_pid`` as ``node``'s; call again after a power-on."""
        held = os.open(f"/proc/{init_pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._held.append(held)
        self._namespaces = {**self._namespaces, os.fstat(held).st_ino: node}
        self._has_new_node = True

    def start(self) -> None:
        """Begins to sample in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the sampling and closes overlaps that still lasted."""
        self._stop.set()
        self._thread.join()
        for held in self._held:
            os.close(held)
        self._held.clear()
        for program, (began, last) in self._open_overlaps.items():
            self.overlaps.append(Overlap(program, began, last - began + SAMPLE_S))
        self._open_overlaps.clear()

    def stretches(self) -> list[tuple[str, str, float, float]]:
        """All that was seen so far: program, node, begin and end of each unbroken stretch, monotonic seconds."""
        return [(p, n, began, last) for (p, n), seen in list(self._seen.items()) for began, last in list(seen.stretches)]

    def _work(self) -> None:
        # To wait for the event itself would cost as much again as a sample does.
        while not self._stop.is_set():
            self.sample(time.monotonic())
            time.sleep(SAMPLE_S)

    def sample(self, now: float) -> None:
        """One look at all processes of the machine."""
        names = set(os.listdir("/proc"))
        if self._has_new_node:
            # What is in its namespace was nobody's until now.
            self._has_new_node = False
            self._strangers.clear()
        for pid in self._known.keys() - names:
            del self._known[pid]
        self._strangers &= names
        where: dict[str, set[str]] = {node: set() for node in self._namespaces.values()}
        live: dict[str, tuple[tuple[str, str], str]] = {}
        for pid in names - self._strangers:
            known = self._known.get(pid, 0)
            if isinstance(known, int):
                known = self._look(pid, known)
            if isinstance(known, tuple) and (parent := _live_parent(pid)) is not None:
                where.setdefault(known[0], set()).add(known[1])
                live[pid] = known, parent
        self._note_doubles(now, live)
        self._note(now, where)

    def _look(self, pid: str, looks: int) -> tuple[str, str] | int:
        """Looks at a process for which that was in vain ``looks`` times, and notes what it is."""
        node = self._node_of(pid) if looks == 0 else ""
        if looks > OLD_SAMPLES or node is None:
            self._strangers.add(pid)
            return looks
        is_due = looks < YOUNG_SAMPLES or looks % RARELY == 0
        found = self._known[pid] = (self._identify(pid) if is_due else None) or looks + 1
        return found

    def _node_of(self, pid: str) -> str | None:
        """The node in whose namespace a process is, which it never leaves (pid_namespaces(7)); None: in no node's."""
        try:
            return self._namespaces.get(os.stat(f"/proc/{pid}/ns/pid").st_ino)
        except OSError:
            return None

    def _identify(self, pid: str) -> tuple[str, str] | None:
        try:
            node = self._node_of(pid)
            if node is None:
                return None
            with open(f"/proc/{pid}/environ", "rb") as file:
                marks = dict(p.split(b"=", 1) for p in file.read().split(b"\0") if b"=" in p)
        except OSError:
            return None
        name = marks.get(b"SUPERVISOR_PROCESS_NAME") or _tag(pid)
        if name is None or marks.get(b"SUPERVISOR_GROUP_NAME") == b"ha-agent-listener":
            # The listener belongs to each node.
            return None
        return node, name.decode()

    def _note_doubles(self, now: float, live: dict[str, tuple[tuple[str, str], str]]) -> None:
        copies: dict[tuple[str, str], set[str]] = {}
        for pid, (key, parent) in live.items():
            if parent not in live or live[parent][0] != key:
                copies.setdefault(key, set()).add(pid)
        for key, pids in copies.items():
            # Twice in a row: a parent that ends while its children are being looked at makes orphans of them for one sample.
            if len(pids & self._copies.get(key, set())) > 1:
                node, program = key
                self.doubles.setdefault((program, node), now)
        self._copies = copies

    def _note(self, now: float, where: dict[str, set[str]]) -> None:
        self.running = {node: frozenset(programs) for node, programs in where.items()}
        counts: dict[str, int] = {}
        for node, programs in where.items():
            for program in programs:
                counts[program] = counts.get(program, 0) + 1
                stretches = self._seen.setdefault((program, node), Seen()).stretches
                if stretches and now - stretches[-1][1] < 5 * SAMPLE_S:
                    stretches[-1] = (stretches[-1][0], now)
                else:
                    stretches.append((now, now))
        doubled = {program for program, count in counts.items() if count > 1}
        for program in doubled:
            began, _ = self._open_overlaps.get(program, (now, now))
            self._open_overlaps[program] = (began, now)
        for program in set(self._open_overlaps) - doubled:
            began, last = self._open_overlaps.pop(program)
            self.overlaps.append(Overlap(program, began, last - began + SAMPLE_S))


def _tag(pid: str) -> bytes | None:
    """The name that a process gives itself for the probe, as its first word: one that has wiped its environment."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            first = file.read().split(b"\0", 1)[0]
    except OSError:
        return None
    return first.removeprefix(TAG) if first.startswith(TAG) else None


def _live_parent(pid: str) -> str | None:
    """The parent of ``pid``; None where it has ended, is a zombie, or is stopped (SIGSTOP) and so does nothing."""
    try:
        file = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            fields = os.read(file, 4096).rpartition(b")")[2].split(None, 2)
        finally:
            os.close(file)
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X", b"T") else fields[1].decode("ascii")
