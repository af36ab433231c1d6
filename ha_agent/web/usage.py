"""What programs used within the last hour, a point a minute, as long as this process has looked. No clock, no file."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

POINTS = 60
POINT_S = 60.0
MOST_PROGRAMS = 2000


@dataclass(slots=True)
class _Track:
    """One program. ``values`` are triples: time, share of a processor in percent (-1 for unknown), resident bytes."""

    pid: int = 0
    at: float = 0.0
    cpu_s: float = 0.0
    values: array[float] = field(default_factory=lambda: array("d"))


@dataclass(frozen=True, slots=True)
class Point:
    """One minute. ``cpu``: percent of one processor, None where that is not known; ``memory``: bytes."""

    at: float
    cpu: float | None
    memory: float


class UsageBook:
    """Keeps the points of all programs of a pair, some 1.5 KiB each."""

    def __init__(self) -> None:
        self._tracks: dict[tuple[str, str], _Track] = {}

    def feed(self, node: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Takes in the programs of a view. What it lacks is forgotten with the node's next views after an hour."""
        for row in rows:
            used, pid = row.get("usage"), row.get("pid")
            if used and pid:
                self._note(
                    (node, str(row["name"])), int(pid), float(used["at"]), float(used["cpu_s"]), float(used["memory"])
                )

    def _note(self, key: tuple[str, str], pid: int, at: float, cpu_s: float, memory: float) -> None:
        track = self._tracks.get(key)
        if track is None:
            while len(self._tracks) >= MOST_PROGRAMS:
                del self._tracks[next(iter(self._tracks))]
            track = self._tracks[key] = _Track()
        same = track.pid == pid and at > track.at and cpu_s >= track.cpu_s
        if track.values and at - track.values[-3] < POINT_S:
            if track.values[-2] < 0 and same and at - track.at >= 1.0:
                track.values[-2] = 100.0 * (cpu_s - track.cpu_s) / (at - track.at)
            track.values[-1] = max(track.values[-1], memory)
            return
        cpu = 100.0 * (cpu_s - track.cpu_s) / (at - track.at) if same else -1.0
        track.values.extend((at, cpu, memory))
        del track.values[: -3 * POINTS]
        track.pid, track.at, track.cpu_s = pid, at, cpu_s

    def points(self, node: str, program: str, now: float) -> list[Point]:
        """What is known of the last hour before ``now``, wall clock seconds, the oldest first."""
        track = self._tracks.get((node, program))
        values = track.values if track is not None else array("d")
        made = [
            Point(values[n], values[n + 1] if values[n + 1] >= 0 else None, values[n + 2]) for n in range(0, len(values), 3)
        ]
        return [point for point in made if now - point.at <= POINTS * POINT_S]


def draw(values: Iterable[tuple[float, float]], now: float, top: float, width: int, height: int) -> str:
    """The points of a line for SVG: ``values`` are times and amounts of the hour before ``now``, ``top`` the largest."""
    span = POINTS * POINT_S
    placed = [(width * (1 - (now - at) / span), height * (1 - value / top if top > 0 else 1)) for at, value in values]
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
