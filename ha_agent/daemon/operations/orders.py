"""Operations that take an operator's word on a machine: that the other one is off, for the takeover that waits for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ha_agent.adapters.ssh import PeerLink
from ha_agent.core.answers import BegunAnswer
from ha_agent.core.orders import PeerOff, TakeoverFacts, why_no_takeover_waits, why_not_off
from ha_agent.core.requests import Malformed, PeerIsOffRequest
from ha_agent.core.words import Outcome
from ha_agent.daemon.operations.call import Call
from ha_agent.daemon.role.fitness import Fitness
from ha_agent.daemon.role.maintenance import Maintenance
from ha_agent.daemon.role.peer_off import PeerOffWord
from ha_agent.daemon.standing import Standing

OFF_LOOK_S = 3.0
"""Longer than a takeover looks: an operator can wait, and so many pings and adverts of one who lives are not all lost."""

MAX_REASON = 500


class OrderOperations:
    """``peer``: the name of the other node. ``is_machine_up`` asks its machine within a limit in seconds.

    ``retry`` has the takeover tried again at once. ``wall``: the wall clock, in seconds.
    """

    def __init__(
        self,
        peer: str,
        standing: Standing,
        maintenance: Maintenance,
        fitness: Fitness,
        peer_off: PeerOffWord,
        link: PeerLink,
        is_machine_up: Callable[[float], Awaitable[bool]],
        retry: Callable[[], None],
        wall: Callable[[], float],
    ) -> None:
        self._peer, self._standing, self._maintenance = peer, standing, maintenance
        self._fitness, self._peer_off, self._link = fitness, peer_off, link
        self._is_machine_up, self._retry, self._wall = is_machine_up, retry, wall

    async def declare_peer_off(self, request: PeerIsOffRequest, call: Call) -> BegunAnswer:
        """Takes the word that the other machine is off; the takeover that holds goes on with it.

        Refused where no takeover waits, and where the other machine gives a sign of life, which is looked for first:
        ``OFF_LOOK_S`` seconds. Nothing is left behind then.
        """
        if request.peer != self._peer:
            raise Malformed(f"peer-is-off: the other node is called {self._peer}")
        claim = self._standing.claim
        refusal = why_no_takeover_waits(self._gather())
        if refusal is None:
            machine_answers = not self._link.is_up and await self._is_machine_up(OFF_LOOK_S)
            facts = self._gather()
            refusal = why_no_takeover_waits(facts) or why_not_off(
                facts, agent_answers=self._link.is_up, machine_answers=machine_answers
            )
        if refusal is None and self._standing.claim != claim:
            refusal = "another takeover has begun meanwhile; look at ha-agent status, and say so again"
        if refusal is not None:
            return {"outcome": Outcome.REFUSED, "reason": refusal}
        self._peer_off.give(PeerOff(claim, call.by, request.reason[:MAX_REASON]))
        self._retry()
        return {"outcome": Outcome.BEGUN, "at": self._wall()}

    def _gather(self) -> TakeoverFacts:
        standing = self._standing
        return TakeoverFacts(
            standing.node,
            self._peer,
            standing.role,
            standing.vrrp_state,
            standing.vip_here,
            standing.held,
            standing.last_failure,
            self._fitness.reason,
            self._maintenance.is_on,
        )
