"""The notify spool: reads what keepalived's hooks left, keeps the newest, removes what it overrides.

The newest event stays in the spool as the durable record of the VRRP state: an agent that comes back reads it again.
"""

from __future__ import annotations

import contextlib
import os
import time

from ha_agent.core.notify import NotifyEvent, order_notifications, parse_notification


def read_spool(directory: str, pid_max: int, now_ticks: int | None = None) -> list[NotifyEvent]:
    """All events in the spool, in the order in which keepalived caused them; none where there is no such directory.

    What claims to be of a time after ``now_ticks`` (clock ticks since boot) is no report: nothing real could override it.
    """
    try:
        names = os.listdir(directory)
    except OSError:
        return []
    found = (n for n in map(parse_notification, names) if n is not None)
    limit = float("inf") if now_ticks is None else now_ticks
    return order_notifications((n for n in found if n.started_ticks <= limit), pid_max)


def forget_older(directory: str, events: list[NotifyEvent]) -> None:
    """Removes all but the last of ``events``. Idempotent; what cannot be removed stays and is overridden all the same."""
    for event in events[:-1]:
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(directory, event.name))


def read_ticks() -> int:
    """The time since boot in clock ticks, as start times of processes are given (proc(5))."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))


def read_uptime_s() -> float:
    """The time since boot in seconds, suspended or not: nobody can set it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def read_pid_max() -> int:
    """The number at which process ids wrap (proc(5), /proc/sys/kernel/pid_max)."""
    with open("/proc/sys/kernel/pid_max", encoding="ascii") as file:
        return int(file.read())
