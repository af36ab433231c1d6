"""Operations on the role of this node: maintenance, and the planned hand-over."""

from __future__ import annotations

from collections.abc import Callable

from ha_agent.core.answers import BegunAnswer, MaintenanceAnswer
from ha_agent.core.orders import END_MAINTENANCE
from ha_agent.core.requests import HandOverRequest, MaintenanceRequest, Malformed
from ha_agent.core.settings import VrrpSettings
from ha_agent.core.words import Outcome, Role
from ha_agent.daemon.events import Events
from ha_agent.daemon.operations.call import Call
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
MAX_REASON = 500


class RoleOperations:
    """``peer``: the name of the other node. ``clock``: monotonic, ``wall``: wall clock seconds."""

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
        events: Events,
        waker: Waker,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._peer, self._vrrp, self._standing = peer, vrrp, standing
        self._maintenance, self._fitness, self._view = maintenance, fitness, view
        self._conversation, self._acknowledger = conversation, acknowledger
        self._events, self._waker = events, waker
        self._clock, self._wall = clock, wall

    async def set_maintenance(self, request: MaintenanceRequest, call: Call) -> MaintenanceAnswer:
        """Begins or ends a maintenance of this node."""
        if not request.on:
            self._maintenance.end(call.by)
            self._waker.wake()
            return {"outcome": Outcome.OFF}
        if request.for_s <= 0:
            raise Malformed("maintenance: for_s is missing, or not positive")
        if (reason := self._why_no_maintenance()) is not None:
            return {"outcome": Outcome.REFUSED, "reason": reason}
        window = self._maintenance.begin(request.for_s, request.reason[:MAX_REASON], call.by)
        return {"outcome": Outcome.ON, "until": window.until}

    def _why_no_maintenance(self) -> str | None:
        """Why maintenance must not begin now: it would leave half done what is under way."""
        node, role = self._standing.node, self._standing.role
        if self._standing.held is not None:
            return (
                f"{node} waits for the word of {self._peer}; bring that node back, or where it is off: "
                "ha-agent takeover --peer-is-off"
            )
        if role in (Role.TAKING_OVER, Role.RELEASING):
            return f"{node} is {role.value} just now; try again in a moment"
        if self._fitness.hands_over:
            return f"a switchover is under way on {node}; try again in a moment"
        return None

    async def hand_over(self, request: HandOverRequest, call: Call) -> BegunAnswer:
        """Begins a switchover: keepalived gives MASTER up here, and everything follows from that.

        Refuses unless this node is active and the peer ready to be; ``force`` overrides all but the role and operators'
        words that are in force: maintenance, and the order to stay standby.
        """
        reason = await self._find_obstacle(force=request.force)
        if reason is not None:
            return {"outcome": Outcome.REFUSED, "reason": reason}
        self._events.add("switchover", f"hands over to {self._peer}", by=call.by)
        # A peer that is not MASTER by then will not be: this node may compete for it again.
        limit_s = HAND_OVER_LIMIT_S + 5 * self._vrrp.advert_int_s
        self._fitness.hand_over(self._clock(), f"switchover, asked for by {call.by}", limit_s)
        self._waker.wake()
        return {"outcome": Outcome.BEGUN, "at": self._wall()}

    async def _find_obstacle(self, *, force: bool) -> str | None:
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
