"""Operations on the role of this node: maintenance, and the planned hand-over."""

from __future__ import annotations

from collections.abc import Callable

from ha_agent.core.answers import BegunAnswer, MaintenanceAnswer
from ha_agent.core.requests import HandOverRequest, MaintenanceRequest, Malformed
from ha_agent.core.words import Outcome, Role
from ha_agent.daemon.events import Events
from ha_agent.daemon.operations.call import Call
from ha_agent.daemon.role.fitness import Fitness
from ha_agent.daemon.role.hand_over import HandOver
from ha_agent.daemon.role.maintenance import Maintenance
from ha_agent.daemon.standing import Standing
from ha_agent.daemon.waker import Waker

MAX_REASON = 500


class RoleOperations:
    """``peer``: the name of the other node. ``wall``: wall clock seconds."""

    def __init__(
        self,
        peer: str,
        standing: Standing,
        maintenance: Maintenance,
        fitness: Fitness,
        hand_over: HandOver,
        events: Events,
        waker: Waker,
        wall: Callable[[], float],
    ) -> None:
        self._peer, self._standing, self._maintenance = peer, standing, maintenance
        self._fitness, self._hand_over = fitness, hand_over
        self._events, self._waker, self._wall = events, waker, wall

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
        """Begins a switchover: keepalived gives up MASTER here, and everything follows from that.

        Refuses unless this node is active and the peer ready to be; ``force`` overrides all but the role and operators'
        words that are in force: maintenance, and the order to stay standby.
        """
        reason = await self._hand_over.find_obstacle(force=request.force)
        if reason is not None:
            return {"outcome": Outcome.REFUSED, "reason": reason}
        self._events.add("switchover", f"hands over to {self._peer}", by=call.by)
        self._hand_over.begin(f"switchover, asked for by {call.by}")
        return {"outcome": Outcome.BEGUN, "at": self._wall()}
