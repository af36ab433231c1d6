"""What alerts are called, how urgent each is, when it is told, and what to do about it. Pure.

Words and urgency are those of ``core/faults.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ha_agent.core.faults import FAULTS, Urgency


@dataclass(frozen=True, slots=True)
class Code:
    """One kind of alert. ``hold_s``: how long a condition must last before it is told, ``settle_s``: and be gone.

    An agent that was started again must have found out within ``settle_s`` whether what it knew of still holds.
    """

    code: str
    severity: Urgency
    title: str
    remedy: str
    lasting: bool = True
    hold_s: float = 0.0
    settle_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Timing:
    """When what lasts is told, and when it counts as over."""

    hold_s: float
    settle_s: float


_TIMINGS: Mapping[str, Timing | None] = {
    "program-exited": Timing(0.0, 0.0),
    "program-restarted": None,
    "program-fatal": Timing(0.0, 0.0),
    "program-looping": Timing(0.0, 0.0),
    "program-memory": Timing(5.0, 5.0),
    "events-lost": None,
    "listener-silent": Timing(30.0, 150.0),
    "role-active": None,
    "role-standby": None,
    "check-failed": Timing(0.0, 5.0),
    "check-restart": None,
    "check-moves": None,
    "vote-missing": Timing(5.0, 5.0),
    "keeper-down": Timing(5.0, 5.0),
    "no-active-node": Timing(15.0, 30.0),
    "split-brain": Timing(2.0, 15.0),
    "no-service": Timing(10.0, 5.0),
    "ran-twice": None,
    "standby-unfit": Timing(10.0, 5.0),
    "config-differs": Timing(5.0, 5.0),
    "config-uneven": Timing(5.0, 5.0),
    "vip-on-both": Timing(3.0, 5.0),
    "vip-on-neither": Timing(15.0, 5.0),
    "vip-partly": Timing(5.0, 5.0),
    "path-down": Timing(2.0, 5.0),
    "fenced": Timing(0.0, 15.0),
    "peer-lost": Timing(10.0, 5.0),
    "replication-lag": Timing(0.0, 60.0),
    "replication-refused": Timing(5.0, 5.0),
    "registry-held": Timing(0.0, 5.0),
    "payload-lag": Timing(0.0, 5.0),
    "payload-held": Timing(10.0, 5.0),
    "registry-unavailable": Timing(5.0, 5.0),
    "divergence-kept": None,
    "standby-edit": Timing(5.0, 5.0),
    "conf-not-loadable": Timing(5.0, 5.0),
    "standby-not-ready": Timing(5.0, 5.0),
    "supervisord-down": Timing(5.0, 5.0),
    "keepalived-down": Timing(10.0, 5.0),
    "registry-found": None,
    "program-adrift": Timing(0.0, 0.0),
    "takeover-held": Timing(0.0, 5.0),
    "plan-failed": Timing(3.0, 10.0),
    "order-unmet": Timing(0.0, 0.0),
    "payload-differs": Timing(5.0, 5.0),
    "wait-timed-out": None,
    "start-refused": None,
    "notes-failing": Timing(3.0, 5.0),
    "run-full": Timing(5.0, 5.0),
    "stalled": None,
    "drill-report": None,
    "switchover": None,
    "standby-ordered": None,
    "standby-lifted": None,
    "maintenance-on": None,
    "maintenance-off": None,
    "sink-failing": Timing(60.0, 5.0),
    "alert-test": None,
}
"""By code; None for a moment, which is told once."""


def _make(code: str, timing: Timing | None) -> Code:
    fault = FAULTS[code]
    assert fault.urgency is not None, f"{code} is no alert"
    if timing is None:
        return Code(code, fault.urgency, fault.title, fault.remedy, lasting=False)
    return Code(code, fault.urgency, fault.title, fault.remedy, True, timing.hold_s, timing.settle_s)


CODES: Mapping[str, Code] = {code: _make(code, timing) for code, timing in _TIMINGS.items()}
