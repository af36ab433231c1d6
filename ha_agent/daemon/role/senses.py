"""What the role is decided from: keepalived's report, the VIP, supervisord's process. Looks only, and decides nothing."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from ha_agent.adapters.procs import ProcessWatch
from ha_agent.adapters.spool import forget_older, read_pid_max, read_spool, read_ticks
from ha_agent.core.kinship import Life
from ha_agent.core.vip import Presence, is_any_here
from ha_agent.core.words import VrrpState
from ha_agent.daemon.programs.supervised import Supervised
from ha_agent.daemon.role.inquiry import Inquiry

log = logging.getLogger(__name__)

VIP_LOOK_S = 10.0
"""Poll interval behind rtnetlink's notifications."""

YOUNG_S = 3.0
"""The first report of a keepalived that began less than this ago may be on its way."""

DOUBT_S = 3.0
"""Report and VIP change within milliseconds of each other; a longer contradiction means that a report was lost."""


TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Senses:
    """For one group. ``spool``: the directory that keepalived's hook writes to; ``find_vips`` asks the kernel for each VIP.

    ``inquiry`` asks keepalived itself. ``wake_at`` has the rules asked again at a monotonic moment. ``restart_wait_s``: a
    supervisord may be gone for so long. ``ticks``: clock ticks since boot, as in the names of reports.
    """

    def __init__(
        self,
        spool: str,
        keepalived: ProcessWatch,
        inquiry: Inquiry,
        supervised: Supervised,
        find_vips: Callable[[], Presence],
        wake_at: Callable[[float], None],
        restart_wait_s: float,
        ticks: Callable[[], int] = read_ticks,
    ) -> None:
        self._spool = spool
        self._keepalived, self._inquiry, self._supervised = keepalived, inquiry, supervised
        self._find_vips, self._wake_at = find_vips, wake_at
        self._restart_wait_s, self._ticks = restart_wait_s, ticks
        self._pid_max = read_pid_max()
        self._vip_here: bool | None = None
        self.vips: Presence = {}
        """What the last look at the VIPs found."""
        self._vip_due_mono = 0.0
        self._doubt_mono: float | None = None
        self._heard_life = -1
        """When that keepalived began which has reported something."""
        self._supervisord_lost_mono: float | None = None

    def expect_vip_change(self) -> None:
        """Has the kernel asked for the VIP with the next look: an address came or went."""
        self._vip_due_mono = 0.0

    def sense_vip(self, now: float) -> bool | None:
        """Whether one of the VIPs is on this node; None where that could not be found out."""
        if now >= self._vip_due_mono:
            self.vips = self._find_vips()
            self._vip_here = is_any_here(self.vips)
            self._vip_due_mono = now + VIP_LOOK_S
        return self._vip_here

    def sense_keepalived(self) -> bool:
        """Whether keepalived's process is alive."""
        self._keepalived.look()
        return self._keepalived.is_alive

    @property
    def is_asking(self) -> bool:
        """Whether keepalived is being asked for its state, because no report of it is there."""
        return self._inquiry.is_under_way

    def sense_vrrp(self, now: float) -> VrrpState:
        """The newest report of this life of keepalived; older reports say nothing about the one that runs now.

        Where there is none, or where the VIP speaks against it, keepalived itself is asked, and its answer counts.
        """
        ticks = self._ticks()
        events = read_spool(self._spool, self._pid_max, ticks)
        forget_older(self._spool, events)
        last = events[-1] if events else None
        if not self._keepalived.is_alive:
            self._doubt_mono = None
            return VrrpState.STOP if last and last.state is VrrpState.STOP else VrrpState.UNKNOWN
        life = self._keepalived.started_ticks
        newest = self._inquiry.newest(last if last and last.started_ticks >= life else None, life)
        if newest is None:
            self._doubt_mono = None
            if life == self._heard_life or ticks - life >= YOUNG_S * TICKS_PER_S:
                self._inquiry.ask("no report of keepalived is there")
            return VrrpState.UNKNOWN
        self._heard_life = life
        self._doubt(now, newest.state)
        return newest.state

    def _doubt(self, now: float, state: VrrpState) -> None:
        """Has keepalived asked where the VIP has spoken against its report for a while."""
        if self._vip_here is None or (state is VrrpState.MASTER) == self._vip_here:
            self._doubt_mono = None
        elif self._doubt_mono is None:
            self._doubt_mono = now
            self._wake_at(now + DOUBT_S)
        elif now - self._doubt_mono >= DOUBT_S:
            where = "here" if self._vip_here else "not here"
            self._inquiry.ask(f"keepalived reported {state.value}, and the VIP is {where}")

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
