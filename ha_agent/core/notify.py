"""keepalived's notifications as the hook spools them, and the order in which they were caused.

The hook leaves one file an event, named ``START.PID.STATE``: the start time of the hook process in clock ticks
since boot (field 22 of /proc/PID/stat, proc(5)), its process id, and the state. keepalived forks its hooks in the order of
the transitions but they run concurrently (keepalived issues #584, #996, #1055), so the order of arrival means
nothing and the order of the forks is what counts: start time first, process id among those of the same tick.

keepalived reports a state once. Where that report is lost, what it writes on SIGUSR1 says it again (``parse_dump``).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass

from ha_agent.core.words import VrrpState

_NAME = re.compile(r"(\d{1,20})\.(\d{1,10})\.([A-Z]{1,20})")


@dataclass(frozen=True, slots=True)
class NotifyEvent:
    """One report of keepalived. ``started_ticks`` is comparable with other processes' start times of this boot."""

    started_ticks: int
    pid: int
    state: VrrpState
    name: str


def parse_notification(name: str) -> NotifyEvent | None:
    """The notification that a spool file's name stands for; None for any other name or an unknown state."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    try:
        state = VrrpState(match[3])
    except ValueError:
        return None
    return NotifyEvent(int(match[1]), int(match[2]), state, name)


def outranks_report(event: NotifyEvent, other: NotifyEvent) -> bool:
    """Whether ``event`` was caused after ``other``, as far as their ticks tell."""
    return event.started_ticks > other.started_ticks


def parse_dump(text: str, instance: str) -> VrrpState | None:
    """The state of VRRP instance ``instance`` in keepalived's dump (``keepalived.data``, keepalived 2.x).

    UNKNOWN where the instance has not begun yet (INIT); None where the dump does not say, as one that is half written.
    """
    found = re.search(
        rf"^ VRRP Instance = {re.escape(instance)}\n(?: {{2,}}.*\n)*? +State = ([A-Z_]+)\n", text, re.MULTILINE
    )
    if found is None:
        return None
    try:
        return VrrpState(found[1])
    except ValueError:
        return VrrpState.UNKNOWN


def order_notifications(found: Iterable[NotifyEvent], pid_max: int = 4194304) -> list[NotifyEvent]:
    """``found`` in the order in which keepalived caused them.

    Within one clock tick (10 ms) process ids ascend, unless they wrapped at ``pid_max``: two ids of one tick
    that are more than half the range apart lie on the two sides of the wrap.
    """

    def compare(a: NotifyEvent, b: NotifyEvent) -> int:
        if a.started_ticks != b.started_ticks:
            return -1 if a.started_ticks < b.started_ticks else 1
        wrapped = abs(a.pid - b.pid) > pid_max // 2
        return (a.pid > b.pid) - (a.pid < b.pid) if not wrapped else (a.pid < b.pid) - (a.pid > b.pid)

    return sorted(found, key=functools.cmp_to_key(compare))
