"""Judges a chaos run from what was recorded of it. Pure: records in, violations out.

What is promised (docs/guarantees.md): no program on both nodes, except while the two machines cannot reach each other by
IP and for ``RESOLVE_S`` afterwards (not then either with a witness); never two copies on one node; after the last fault was
lifted the pair settles; no acknowledged edit is lost, and no content at all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tests.chaos.editor import TOGGLED, Edit, Toggle, number_of
from tests.chaos.schedule import ALL_KINDS

RESOLVE_S = 15.0
"""After the machines can reach each other again: the link gives its dead connection up, connects, and one node stops."""

RELOADED_S = 5.0
"""After a reload of which the word was lost: the agent's beat, which sees the new socket, and the sweep's grace."""

SAMPLING_S = 0.05
"""What the probe cannot tell apart."""

Window = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Injected:
    """A fault as it really was: monotonic times around its doing and its lifting."""

    kind: str
    node: str
    began_mono: float
    ended_mono: float


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken, and when (monotonic; None where it is about the end of the run)."""

    text: str
    at_mono: float | None = None


@dataclass(frozen=True, slots=True)
class Overlap:
    """A program that was seen on both nodes."""

    program: str
    began_mono: float
    ended_mono: float

    @property
    def took_s(self) -> float:
        """How long."""
        return self.ended_mono - self.began_mono


Stretch = tuple[str, str, float, float]


def find_overlaps(stretches: Iterable[Stretch]) -> list[Overlap]:
    """Where a program was on two nodes at once for longer than sampling cannot tell apart."""
    by_program: dict[str, list[tuple[str, float, float]]] = {}
    for program, node, began, ended in stretches:
        by_program.setdefault(program, []).append((node, began, ended))
    found = []
    for program, rows in by_program.items():
        for number, (node, began, ended) in enumerate(rows):
            for other_node, other_began, other_ended in rows[number + 1 :]:
                start, end = max(began, other_began), min(ended, other_ended)
                if node != other_node and end - start > SAMPLING_S:
                    found.append(Overlap(program, start, end))
    return sorted(found, key=lambda o: o.began_mono)


THAWED = frozenset({"freeze", "pause"})
THAW_S = 1.0
"""A machine that its host paused runs what it ran until its keeper has the processor (docs/votes.md). The lab continues one
process after the other."""


def allowed_windows(injected: Iterable[Injected], *, votes: bool = False) -> list[Window]:
    """When an overlap is within what is promised. ``votes``: of a pair with a witness."""
    if votes:
        return [(f.ended_mono - THAW_S, f.ended_mono + THAW_S) for f in injected if f.kind in THAWED]
    return [(f.began_mono, f.ended_mono + RESOLVE_S) for f in injected if ALL_KINDS[f.kind].severs]


def check_overlaps(stretches: Iterable[Stretch], injected: Sequence[Injected], *, votes: bool = False) -> list[Violation]:
    """Overlaps that nothing allows."""
    windows = allowed_windows(injected, votes=votes)
    return [
        Violation(f"{o.program} ran on both nodes for {o.took_s:.2f} s", o.began_mono)
        for o in find_overlaps(stretches)
        if not any(begin <= o.began_mono and o.ended_mono <= end for begin, end in windows)
    ]


def longest_resolution(stretches: Iterable[Stretch], injected: Sequence[Injected]) -> float:
    """For how long at most an overlap lasted after the machines could reach each other again, seconds."""
    severed = [f for f in injected if ALL_KINDS[f.kind].severs]
    longest = 0.0
    for overlap in find_overlaps(stretches):
        healed = max((f.ended_mono for f in severed if f.began_mono <= overlap.ended_mono), default=overlap.began_mono)
        longest = max(longest, overlap.ended_mono - max(healed, overlap.began_mono))
    return longest


def check_doubles(doubles: Mapping[tuple[str, str], float], injected: Sequence[Injected]) -> list[Violation]:
    """Two copies on one node are allowed only where supervisord began again within its process, for ``RELOADED_S``."""
    begun = [(f.node, f.began_mono, f.ended_mono + RELOADED_S) for f in injected if ALL_KINDS[f.kind].doubles]
    return [
        Violation(f"two copies of {program} ran on {node}", at)
        for (program, node), at in doubles.items()
        if not any(node == where and begin <= at <= end for where, begin, end in begun)
    ]


def longest_silence(stretches: Iterable[Stretch], program: str) -> float:
    """The longest time within its life that ``program`` ran nowhere."""
    rows = sorted((began, ended) for name, _, began, ended in stretches if name == program)
    longest, until = 0.0, rows[0][1] if rows else 0.0
    for began, ended in rows:
        longest = max(longest, began - until)
        until = max(until, ended)
    return longest


Registry = Mapping[str, bytes]


def check_edits(edits: Sequence[Edit], final: Registry, kept: Iterable[bytes]) -> list[Violation]:
    """Every acknowledged edit must be in force, unless a later one replaced it; every content must be somewhere.

    ``final`` is the registry that both nodes hold in the end, ``kept`` every kept copy of both nodes.
    """
    present = {path: number_of(content) for path, content in final.items()}
    safe = {n for n in present.values() if n is not None} | {e.replaced for e in edits if e.replaced is not None}
    safe |= {n for n in map(number_of, kept) if n is not None}
    found = [
        Violation(f"edit {e.number} of {e.path} on {e.node} is neither in force nor kept", e.at_mono)
        for e in edits
        if not e.deletes and e.number not in safe
    ]
    for path in {e.path for e in edits}:
        found += _check_acknowledged([e for e in edits if e.path == path], path in final, present.get(path))
    return found


def check_toggles(toggles: Sequence[Toggle], paths: Collection[str]) -> list[Violation]:
    """The program is parked or registered in the end as the last acknowledged command, or one after it, would have it."""
    parked, registered = (f"{TOGGLED}.conf{suffix}" in paths for suffix in (".parked", ""))
    if parked == registered:
        return [Violation(f"{TOGGLED}.conf is {'both parked and registered' if parked else 'lost'}")]
    acknowledged = [at for at, toggle in enumerate(toggles) if toggle.acknowledged]
    if not acknowledged:
        return []
    allowed = {toggle.verb for toggle in toggles[acknowledged[-1] :]}
    verb = "stop" if parked else "start"
    last = toggles[acknowledged[-1]]
    if verb in allowed:
        return []
    return [
        Violation(f"acknowledged {last.verb} of {TOGGLED} on {last.node} is lost: the registry says {verb}", last.at_mono)
    ]


def _check_acknowledged(edits: Sequence[Edit], exists: bool, number: int | None) -> list[Violation]:
    """The end state of one file must be its last acknowledged edit's, or that of an edit made after it."""
    acknowledged = [at for at, e in enumerate(edits) if e.acknowledged_mono is not None]
    if not acknowledged:
        return []
    last = edits[acknowledged[-1]]
    allowed = edits[acknowledged[-1] :]
    ends = [None if e.deletes else e.number for e in allowed]
    state = number if exists else None
    if state in ends:
        return []
    what = "deletion" if last.deletes else "edit"
    text = f"acknowledged {what} {last.number} of {last.path} on {last.node} is lost: in force is {state}, allowed {ends}"
    return [Violation(text, last.at_mono)]
