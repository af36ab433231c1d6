"""The notify spool: reads what keepalived's hooks left, keeps the newest, removes what it overrides.

The newest event stays in the spool as the durable record of the VRRP state: an agent that comes back reads it again.
"""

from __future__ import annotations

import contextlib
import os

from ha_agent.core.notify import NotifyEvent, order_notifications, parse_notification


def read_spool(directory: str, pid_max: int) -> list[NotifyEvent]:
    """All events in the spool, in the order in which keepalived caused them; none where the directory is missing."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    return order_notifications((n for n in map(parse_notification, names) if n is not None), pid_max)


def forget_older(directory: str, events: list[NotifyEvent]) -> None:
    """Removes all but the last of ``events``. Idempotent."""
    for event in events[:-1]:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(directory, event.name))


def read_pid_max() -> int:
    """The number at which process ids wrap (proc(5), /proc/sys/kernel/pid_max)."""
    with open("/proc/sys/kernel/pid_max", encoding="ascii") as file:
        return int(file.read())
