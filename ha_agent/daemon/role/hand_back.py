"""Giving the VIP to a standby that is fit, because something failed here that may succeed there."""

from __future__ import annotations

from collections.abc import Callable

from ha_agent.core.peer_summary import PeerSummary
from ha_agent.core.words import Role, VrrpState
from ha_agent.daemon.standing import Standing

AGAIN_S = 600.0
"""A node that gave way and has the VIP again within this time keeps it: two that both fail would hand it to and fro."""


class HandBack:
    """For one group. ``peer``: what was last heard of the other node, None where it cannot be reached.

    ``clock``: monotonic seconds.
    """

    def __init__(self, standing: Standing, peer: Callable[[], PeerSummary | None], clock: Callable[[], float]) -> None:
        self._standing, self._peer, self._clock = standing, peer, clock
        self._gave_way: tuple[float, int] | None = None
        """When this node last did, by the clock, and in which epoch."""

    def attempt(self, give_way: Callable[[], None]) -> bool:
        """Calls ``give_way`` where a standby is fit, unless it took over lately and this node has the VIP again.

        Then this node goes on. Between two claims of this node the peer has had an epoch, or has not taken over. Says
        whether it was called.
        """
        now, epoch, peer = self._clock(), self._standing.claim.epoch, self._peer()
        if self._gave_way is not None and now - self._gave_way[0] < AGAIN_S and epoch > self._gave_way[1] + 1:
            return False
        if peer is None or not _could_take_over(peer):
            return False
        self._gave_way = now, epoch
        give_way()
        return True


def _could_take_over(peer: PeerSummary) -> bool:
    return (
        peer.role is Role.STANDBY
        and peer.vrrp_state is VrrpState.BACKUP
        and not peer.obstacles
        and not peer.in_maintenance
        and not peer.stays_standby
    )
