"""Figures of one node for metrics: what has been counted since the agent was started, sizes, and the process itself."""

from __future__ import annotations

import contextlib
import os
import resource
from typing import Any

from ha_agent.adapters.commit import Committer
from ha_agent.core.places import StatePlaces
from ha_agent.core.transitions import Transition
from ha_agent.core.words import Role
from ha_agent.daemon.alerts.program_watcher import ProgramWatcher
from ha_agent.daemon.events import Event
from ha_agent.daemon.replication.replicator import Replicator

PLAN_OF = {Role.ACTIVE: "takeover", Role.STANDBY: "release"}


class Figures:
    """Counts the events of the history and the changes of role; the rest is looked at when somebody asks.

    ``started``: wall clock seconds of the agent's start.
    """

    def __init__(
        self, places: StatePlaces, replicator: Replicator, committer: Committer, watcher: ProgramWatcher, started: float
    ) -> None:
        self._places, self._replicator, self._committer, self._watcher = places, replicator, committer, watcher
        self._started = started
        self._plans: dict[str, dict[str, float]] = {
            name: {"count": 0, "sum_s": 0.0, "last_s": 0.0, "failed": 0} for name in ("takeover", "release")
        }
        self._events: dict[str, int] = {}

    def hear_event(self, event: Event) -> None:
        """Counts an event of the history."""
        code = str(event["code"])
        self._events[code] = self._events.get(code, 0) + 1
        if code in ("takeover-failed", "release-failed"):
            self._plans[code.removesuffix("-failed")]["failed"] += 1

    def hear_transition(self, told: Transition) -> None:
        """Counts a takeover or release that ended."""
        name = PLAN_OF.get(told.after)
        if name is not None and told.took_s is not None:
            plan = self._plans[name]
            plan["count"] += 1
            plan["sum_s"] += told.took_s
            plan["last_s"] = told.took_s

    def describe(self) -> dict[str, Any]:
        """Everything, as JSON-able data: durations in seconds, sizes in bytes."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        places, watcher = self._places, self._watcher
        return {
            "started": round(self._started, 3),
            "plans": self._plans,
            "history_events": dict(self._events),
            "pushes": self._replicator.state.pushed,
            "listener": {
                "taken": watcher.taken,
                "merged": watcher.merged,
                "lost": watcher.lost,
                "in_transitions": watcher.watch.swallowed,
            },
            "sizes": {
                "history": _size(places.history),
                "journal": self._committer.journal.size,
                "alerts": _size(places.alerts),
                "state_dir_free": _free(places.state_dir),
            },
            "process": {
                "resident": _resident(),
                "cpu_s": round(used.ru_utime + used.ru_stime, 3),
                "open_fds": len(os.listdir("/proc/self/fd")),
            },
        }


def _size(path: str) -> int:
    with contextlib.suppress(OSError):
        return os.stat(path).st_size
    return 0


def _free(path: str) -> int:
    with contextlib.suppress(OSError):
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize
    return 0


def _resident() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
