"""Figures of one node for metrics: what has been counted since the agent was started, sizes, and the process itself."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ha_agent.daemon.agent import Agent


class Figures:
    """Counts from the events of the history; the rest is looked at when somebody asks."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._started = time.time()
        self._plans: dict[str, dict[str, float]] = {
            name: {"count": 0, "sum_s": 0.0, "last_s": 0.0, "failed": 0} for name in ("takeover", "release")
        }
        self._events: dict[str, int] = {}

    def take_event(self, event: Mapping[str, Any]) -> None:
        """Counts an event of the history."""
        code = str(event["code"])
        self._events[code] = self._events.get(code, 0) + 1
        plan = self._plans.get(str(event.get("plan")))
        if plan is not None and "took_s" in event and event.get("to") in ("active", "standby"):
            plan["count"] += 1
            plan["sum_s"] += float(event["took_s"])
            plan["last_s"] = float(event["took_s"])
        if code in ("takeover-failed", "release-failed"):
            self._plans[code.removesuffix("-failed")]["failed"] += 1

    def describe(self) -> dict[str, Any]:
        """Everything, as JSON-able data: durations in seconds, sizes in bytes."""
        agent, used = self._agent, resource.getrusage(resource.RUSAGE_SELF)
        state_dir = agent.settings.paths.state_dir
        watch = agent.program_alerts
        return {
            "started": round(self._started, 3),
            "plans": self._plans,
            "history_events": dict(self._events),
            "pushes": agent.replicator.state.pushed,
            "listener": {
                "taken": watch.taken,
                "merged": watch.merged,
                "lost": watch.lost,
                "in_transitions": watch.watch.swallowed,
            },
            "sizes": {
                "history": _size(os.path.join(state_dir, "history.jsonl")),
                "journal": agent.committer.journal.size,
                "alerts": _size(os.path.join(state_dir, "alerts.json")),
                "state_dir_free": _free(state_dir),
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
