"""Whether a release may take the time to stop programs in order: the reverse of their starts, or all of them at once."""

from __future__ import annotations

from collections.abc import Callable

from ha_agent.adapters.procs import ProcessWatch
from ha_agent.core.peer_summary import PeerSummary
from ha_agent.core.words import Role, VrrpState
from ha_agent.daemon.programs.loader import StopOrder
from ha_agent.daemon.role.fitness import Fitness
from ha_agent.daemon.role.standby_order import StandbyOrders
from ha_agent.daemon.role.start_order import StartOrder
from ha_agent.daemon.standing import Standing


class StopOrders:
    """For one group. ``limit_s``: the seconds that an order of stops may take.

    ``peer``: what was last heard of the other node, None where it cannot be reached.
    """

    def __init__(
        self,
        limit_s: float,
        standing: Standing,
        fitness: Fitness,
        standby_order: StandbyOrders,
        start_order: StartOrder,
        keepalived: ProcessWatch,
        peer: Callable[[], PeerSummary | None],
    ) -> None:
        self._limit_s, self._standing, self._fitness = limit_s, standing, fitness
        self._standby_order, self._start_order = standby_order, start_order
        self._keepalived, self._peer = keepalived, peer

    def find(self) -> StopOrder:
        """The order for a release that begins now; it is asked again and again whether that may still wait."""
        # A node that gives way on purpose has told keepalived FAULT itself.
        is_meant = self._fitness.gives_way_by_choice or self._standby_order.order is not None

        def may_wait() -> bool:
            return self._peer_waits() and (is_meant or self._standing.vrrp_state is not VrrpState.FAULT)

        return StopOrder(self._start_order.find_plan(), self._limit_s, may_wait)

    def _peer_waits(self) -> bool:
        """Whether the other node starts nothing before this one's word: else every second counts, and order does not."""
        peer = self._peer()
        return peer is not None and peer.role is not Role.ACTIVE and self._keepalived.is_alive
