"""What the role is decided from: keepalived's report, the VIP, supervisord's process. Looks only, and decides nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ha_agent.adapters.procs import ProcessWatch
from ha_agent.adapters.spool import forget_older, read_pid_max, read_spool
from ha_agent.core.kinship import Life
from ha_agent.core.words import VrrpState
from ha_agent.daemon.programs.supervised import Supervised

log = logging.getLogger(__name__)

VIP_LOOK_S = 10.0
"""Poll interval behind rtnetlink's notifications."""


class Senses:
    """For one group. ``spool``: the directory that keepalived's hook writes to; ``has_vip`` asks the kernel for the VIP.

    ``wake_at`` has the rules asked again at a monotonic moment. ``restart_wait_s``: a supervisord may be gone for so long.
    """

    def __init__(
        self,
        spool: str,
        keepalived: ProcessWatch,
        supervised: Supervised,
        has_vip: Callable[[], bool | None],
        wake_at: Callable[[float], None],
        restart_wait_s: float,
    ) -> None:
        self._spool = spool
        self._keepalived, self._supervised = keepalived, supervised
        self._has_vip, self._wake_at = has_vip, wake_at
        self._restart_wait_s = restart_wait_s
        self._pid_max = read_pid_max()
        self._vip_here: bool | None = None
        self._vip_due_mono = 0.0
        self._supervisord_lost_mono: float | None = None

    def expect_vip_change(self) -> None:
        """Has the kernel asked for the VIP with the next look: an address came or went."""
        self._vip_due_mono = 0.0

    def sense_vip(self, now: float) -> bool | None:
        """Whether the VIP is on this node; None where that could not be found out."""
        if now >= self._vip_due_mono:
            self._vip_due_mono = now + VIP_LOOK_S
            self._vip_here = self._has_vip()
        return self._vip_here

    def sense_keepalived(self) -> bool:
        """Whether keepalived's process is alive."""
        self._keepalived.look()
        return self._keepalived.is_alive

    def sense_vrrp(self) -> VrrpState:
        """The newest report of this life of keepalived; older reports say nothing about the one that runs now."""
        events = read_spool(self._spool, self._pid_max)
        forget_older(self._spool, events)
        if not events:
            return VrrpState.UNKNOWN
        last = events[-1]
        if self._keepalived.is_alive:
            return last.state if last.started_ticks >= self._keepalived.started_ticks else VrrpState.UNKNOWN
        return VrrpState.STOP if last.state is VrrpState.STOP else VrrpState.UNKNOWN

    def sense_supervisord(self) -> Life | None:
        """The present life of supervisord; None where there is none."""
        self._supervised.note_process()
        return self._supervised.life

    def is_supervisord_gone(self, now: float) -> bool:
        """Whether there has been no supervisord for longer than its unit needs to start it again."""
        if self.sense_supervisord() is not None:
            self._supervisord_lost_mono = None
            return False
        if self._supervisord_lost_mono is None:
            self._supervisord_lost_mono = now
            self._wake_at(now + self._restart_wait_s)
        return now - self._supervisord_lost_mono >= self._restart_wait_s
