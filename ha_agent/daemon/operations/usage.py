"""What programs use of the machine, for those who look: processor time and memory. Looks only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from ha_agent.adapters.procs import Usage, read_usage

LOOK_S = 10.0
"""Between two looks: one takes some ten microseconds of every process of the machine, and dashboards ask every second."""


class ProgramUsage:
    """Keeps the last look. ``clock``: monotonic seconds; ``wall``: the wall clock, in seconds."""

    def __init__(self, clock: Callable[[], float], wall: Callable[[], float]) -> None:
        self._clock, self._wall = clock, wall
        self._looked_mono, self._at = -LOOK_S, 0.0
        self._found: Mapping[int, Usage] = {}

    async def read(self, pids: set[int]) -> Mapping[int, Mapping[str, Any]]:
        """The usage of ``pids`` with their descendants as JSON-able data, by process id, as it was ``LOOK_S`` ago at most.

        ``at`` is when that was (wall clock seconds), ``cpu_s`` processor seconds since each began, ``memory`` resident
        bytes. What began since then is missing.
        """
        if self._clock() - self._looked_mono >= LOOK_S:
            self._looked_mono = self._clock()
            self._found = await asyncio.to_thread(read_usage, {pid: pid for pid in pids})
            self._at = round(self._wall(), 3)
        return {
            pid: {"at": self._at, "cpu_s": used.cpu_s, "memory": used.memory}
            for pid, used in self._found.items()
            if pid in pids
        }
