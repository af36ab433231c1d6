"""The planned hand-over of the active node: what speaks against it here, and its beginning. Decides nothing by itself."""

from __future__ import annotations

from collections.abc import Callable

from ha_agent.core.orders import END_MAINTENANCE
from ha_agent.core.rules import Cause
from ha_agent.core.settings import VrrpSettings
from ha_agent.core.words import Role
from ha_agent.daemon.peer.conversation import Conversation
from ha_agent.daemon.replication.acknowledgement import Acknowledger
from ha_agent.daemon.replication.view import RegistryView
from ha_agent.daemon.role.fitness import Fitness
from ha_agent.daemon.role.maintenance import Maintenance
from ha_agent.daemon.standing import Standing
from ha_agent.daemon.waker import Waker

DRAIN_S = 5.0
PEER_ROLE_S = 2.0
HAND_OVER_LIMIT_S = 5.0


class HandOver:
    """``peer``: the name of the other node. ``clock``: monotonic."""

    def __init__(
        self,
        peer: str,
        vrrp: VrrpSettings,
        standing: Standing,
        maintenance: Maintenance,
        fitness: Fitness,
        view: RegistryView,
        conversation: Conversation,
        acknowledger: Acknowledger,
        waker: Waker,
        clock: Callable[[], float],
    ) -> None:
        self._peer, self._vrrp, self._standing, self._maintenance = peer, vrrp, standing, maintenance
        self._fitness, self._view, self._conversation = fitness, view, conversation
        self._acknowledger, self._waker, self._clock = acknowledger, waker, clock

    async def find_obstacle(self, *, force: bool = False) -> str | None:
        """Why nothing may be handed over now; None where it may.

        ``force`` overrides all but the role and operators' words that are in force: maintenance, and the order to stay
        standby.
        """
        standing = self._standing
        if standing.role is not Role.ACTIVE:
            return f"{standing.node} is {standing.role.value}, not active"
        # In maintenance the VIP would move, and the programs stay: nobody's wish.
        if self._maintenance.is_on:
            return f"maintenance is on at {standing.node}; {END_MAINTENANCE}"
        peer_role = await self._conversation.ask_role(PEER_ROLE_S)
        peer = self._conversation.peer
        if peer_role is not None and peer is not None and peer.in_maintenance:
            return f"maintenance is on at {self._peer}; {END_MAINTENANCE}"
        if peer_role is not None and peer is not None and peer.stays_standby:
            return f"{self._peer} is to stay standby, by an operator's order; first: ha-agent unstandby {self._peer}"
        if force:
            return None
        if peer_role is not Role.STANDBY:
            how = "cannot be reached" if peer_role is None else f"is {peer_role.value}, not standby"
            return f"{self._peer} {how}"
        await self._view.compare_now()
        if not (await self._acknowledger.wait(limit_s=DRAIN_S)).on_peer:
            return f"{self._peer} does not have every change yet"
        return None

    def begin(self, reason: str, cause: Cause = Cause.SWITCHOVER) -> None:
        """Has keepalived give up MASTER here, and everything follows from that.

        A peer that is not MASTER by its limit will not be: then this node may compete for it again.
        """
        limit_s = HAND_OVER_LIMIT_S + 5 * self._vrrp.advert_int_s
        self._fitness.hand_over(self._clock(), reason, limit_s, cause)
        self._waker.wake()
