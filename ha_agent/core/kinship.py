"""Which processes are the registry's, decided from a table of processes. Pure: no look at a process is taken here.

A process shows where it belongs by its parents, by supervisord's marks in its environment, and by its process group and
session. Each of these can be lost or wiped, the first last. What supervisord's own control group holds came from it all the
same (adr/0009): there, whatever is neither supervisord nor a program to be spared is the registry's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

UNKNOWN_GROUP = "?"
"""The group of a process that no program can be told of."""


@dataclass(frozen=True, slots=True)
class Process:
    """One live process (proc(5), fields 4, 5, 6 and 22 of stat). ``group`` and ``name``: supervisord's marks, None without.

    ``within``: it is in supervisord's control group. ``is_fork``: it is supervisord's own program still, on its way to exec.
    ``command``: the first letters of what it runs.
    """

    pid: int
    parent: int
    process_group: int
    session: int
    started_ticks: int
    uid: int = 0
    group: str | None = None
    name: str = ""
    within: bool = False
    is_fork: bool = False
    command: str = "?"


@dataclass(frozen=True, slots=True)
class Marked:
    """A process of the registry. ``group``: that of the program, or ``UNKNOWN_GROUP``."""

    pid: int
    parent: int
    started_ticks: int
    group: str
    process: str


class Life(NamedTuple):
    """One life of supervisord. A reload begins another one within the same process: then its socket is a new one.

    ``age`` tells the socket from another one; "" where there was none.
    """

    pid: int
    started_ticks: int
    age: str = ""

    def is_other_than(self, other: Life | None) -> bool:
        """Whether ``other`` is not this life. An age that is not known says nothing."""
        if other is None or self[:2] != other[:2]:
            return True
        return bool(self.age and other.age) and self.age != other.age


@dataclass(frozen=True, slots=True)
class Kin:
    """What is known besides the table.

    ``supervisord``: the living one. ``earlier``: process ids of the supervisords, ended or not, that led sessions of
    which something is left. ``leaders``: the registry's processes as supervisord last named them: process id to group and
    name; ``spared``: the process ids that it named and that are not of the registry; ``seen_ticks``: when it did, for what
    was started after that is another process of the same number. ``local``: groups that are not of the registry.
    ``uids``: users by whose processes the marks are believed.
    """

    supervisord: int | None = None
    earlier: frozenset[int] = frozenset()
    leaders: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    spared: frozenset[int] = frozenset()
    seen_ticks: int = 2**62
    local: frozenset[str] = frozenset()
    uids: frozenset[int] = frozenset({0})


@dataclass(frozen=True, slots=True)
class Found:
    """What a look has found.

    ``ours``: processes of the registry. ``pending``: forks of supervisord that have not yet become a program, so that nobody
    can know whose they are; those are not among ``ours``.
    """

    ours: tuple[Marked, ...] = ()
    pending: tuple[Marked, ...] = ()

    @property
    def named(self) -> tuple[Marked, ...]:
        """Those of which the program is known."""
        return tuple(p for p in self.ours if p.group != UNKNOWN_GROUP)


Verdict = tuple[str, str] | None
"""Group and name; None: it is to be spared."""

_SPARED: Verdict = None


def select_ours(table: Mapping[int, Process], kin: Kin) -> Found:
    """The registry's processes among those of ``table``.

    Never supervisord itself, a program to be spared or what came from one, nor a stranger: a process that is not in
    supervisord's control group, nor below it, nor in a session of one, nor marked and of a user whose marks are believed.
    """
    bosses = kin.earlier | ({kin.supervisord} if kin.supervisord is not None else frozenset())
    below = list_below(table, kin.supervisord)
    candidates = {pid: p for pid, p in table.items() if pid not in bosses and _came_from_supervisord(p, kin, bosses, below)}
    verdicts = _judge(candidates, kin, bosses)
    ours: list[Marked] = []
    pending: list[Marked] = []
    for pid, process in candidates.items():
        names = verdicts.get(pid, (UNKNOWN_GROUP, f"process {pid} ({process.command})"))
        if names is None:
            continue
        marked = Marked(pid, process.parent, process.started_ticks, *names)
        is_pending = pid not in verdicts and process.is_fork and process.parent == kin.supervisord
        (pending if is_pending else ours).append(marked)
    return Found(tuple(ours), tuple(pending))


def _came_from_supervisord(process: Process, kin: Kin, bosses: Collection[int], below: Collection[int]) -> bool:
    if process.within or process.session in bosses or process.pid in below:
        return True
    return process.group is not None and process.uid in kin.uids


def list_below(table: Mapping[int, Process], ancestor: int | None) -> frozenset[int]:
    """Those of ``table`` that ``ancestor`` is a parent of, or a parent's parent, and so on."""
    children: dict[int, list[int]] = {}
    for process in table.values():
        children.setdefault(process.parent, []).append(process.pid)
    found: set[int] = set()
    asked = [] if ancestor is None else children.get(ancestor, [])
    while asked:
        fresh = [pid for pid in asked if pid not in found and pid != ancestor]
        found.update(fresh)
        asked = [child for pid in fresh for child in children.get(pid, ())]
    return frozenset(found)


def _judge(candidates: Mapping[int, Process], kin: Kin, bosses: Collection[int]) -> dict[int, Verdict]:
    """Whose each process is, as far as that can be told.

    Its parents come first, for they cannot be pretended; then its own marks; then those that share its process group or
    its session.
    """
    verdicts: dict[int, Verdict] = {}
    for process in candidates.values():
        if process.parent == kin.supervisord or process.parent not in candidates:
            verdicts.update(_judge_alone(process, kin))
    _inherit(candidates, verdicts)
    for pid, process in candidates.items():
        if pid not in verdicts:
            verdicts.update(_judge_alone(process, kin))
    while True:
        before = len(verdicts)
        _inherit(candidates, verdicts)
        _share(candidates, verdicts, kin, bosses)
        if len(verdicts) == before:
            return verdicts


def _judge_alone(process: Process, kin: Kin) -> dict[int, Verdict]:
    """By supervisord's word on this process, or by its marks; empty where neither tells."""
    pid = process.pid
    if process.started_ticks <= kin.seen_ticks:
        if pid in kin.spared:
            return {pid: _SPARED}
        if pid in kin.leaders:
            return {pid: kin.leaders[pid]}
    if process.group is None:
        return {}
    return {pid: _SPARED if process.group in kin.local else (process.group, process.name)}


def _inherit(candidates: Mapping[int, Process], verdicts: dict[int, Verdict]) -> None:
    """Gives what is known of a process to all that came from it."""
    grown = True
    while grown:
        fresh = {p.pid: verdicts[p.parent] for p in candidates.values() if p.pid not in verdicts and p.parent in verdicts}
        verdicts.update(fresh)
        grown = bool(fresh)


def _share(candidates: Mapping[int, Process], verdicts: dict[int, Verdict], kin: Kin, bosses: Collection[int]) -> None:
    """Gives what is known of a process to those of its process group, and of its session where that is not supervisord's.

    The numbers of groups and sessions are those of their first processes, which may have ended.
    """
    named: dict[int, Verdict] = {**kin.leaders, **dict.fromkeys(kin.spared, _SPARED)}
    reused = {pid for pid in named.keys() & candidates.keys() if candidates[pid].started_ticks > kin.seen_ticks}
    known: dict[tuple[str, int], Verdict] = {("group", pid): named[pid] for pid in named.keys() - reused}
    for pid, verdict in verdicts.items():
        process = candidates[pid]
        known.setdefault(("group", process.process_group), verdict)
        if process.session not in bosses:
            known.setdefault(("session", process.session), verdict)
    for boss in bosses:
        known.pop(("group", boss), None)
    for pid, process in candidates.items():
        for key in (("group", process.process_group), ("session", process.session)):
            if pid not in verdicts and key in known:
                verdicts[pid] = known[key]


def select_orphans(marked: Sequence[Marked], began_ticks: int | None) -> list[Marked]:
    """Those of ``marked`` that an earlier life of supervisord left: started before the present one, and their children.

    ``began_ticks``: when the present life began, None where no supervisord is running: then all of them are orphans.
    """
    if began_ticks is None:
        return list(marked)
    orphans = {p.pid for p in marked if p.started_ticks < began_ticks}
    grown = True
    while grown:
        children = {p.pid for p in marked if p.parent in orphans} - orphans
        orphans |= children
        grown = bool(children)
    return [p for p in marked if p.pid in orphans]


def select_strays(found: Sequence[Marked], table: Mapping[int, Process], supervisord: int) -> list[Marked]:
    """Those that are adrift and belong to no program: they run beside it, or nobody can tell what they came from.

    What is younger than the present process of its program may have been started by that one on purpose.
    """
    began: dict[tuple[str, str], int] = {}
    for process in found:
        if process.parent == supervisord:
            began[process.group, process.process] = process.started_ticks
    adrift = select_adrift(found, table, supervisord)
    return [p for p in adrift if p.started_ticks < began.get((p.group, p.process), p.started_ticks + 1)]


def select_adrift(found: Iterable[Marked], table: Mapping[int, Process], supervisord: int | None) -> list[Marked]:
    """Processes that belong to no program any more: no living supervisord is above them."""
    below = list_below(table, supervisord)
    return [p for p in found if p.pid not in below]
