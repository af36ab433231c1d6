"""Operations that take an operator's word on a node: that it is to stay standby, or that the other machine is off."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ha_agent.adapters.ssh import PeerLink
from ha_agent.core.answers import BegunAnswer, OutcomeAnswer
from ha_agent.core.orders import (
    PeerOff,
    StandbyFacts,
    TakeoverFacts,
    why_never_standby,
    why_no_takeover_waits,
    why_not_off,
    why_not_standby,
)
from ha_agent.core.reasons import reason_of
from ha_agent.core.requests import Malformed, PeerIsOffRequest, StandbyRequest
from ha_agent.core.words import Outcome
from ha_agent.daemon.operations.call import Call
from ha_agent.daemon.peer.conversation import Conversation
from ha_agent.daemon.role.fitness import Fitness
from ha_agent.daemon.role.maintenance import Maintenance
from ha_agent.daemon.role.peer_off import PeerOffWord
from ha_agent.daemon.role.standby_order import StandbyOrders
from ha_agent.daemon.standing import Standing

PEER_ROLE_S = 2.0

OFF_LOOK_S = 3.0
"""Longer than a takeover looks: an operator can wait, and so many pings and adverts of one who lives are not all lost."""

MAX_REASON = 500


class OrderOperations:
    """``peer``: the name of the other node. ``is_machine_up`` asks its machine within a limit in seconds.

    ``retry`` has the takeover tried again at once, ``wake`` has the rules asked. ``wall``: the wall clock, in seconds.
    ``needs_votes``: there is a witness.
    """

    def __init__(
        self,
        peer: str,
        standing: Standing,
        maintenance: Maintenance,
        standby_order: StandbyOrders,
        fitness: Fitness,
        peer_off: PeerOffWord,
        conversation: Conversation,
        link: PeerLink,
        is_machine_up: Callable[[float], Awaitable[bool]],
        retry: Callable[[], None],
        wake: Callable[[], None],
        wall: Callable[[], float],
        *,
        needs_votes: bool,
    ) -> None:
        self._needs_votes = needs_votes
        self._peer, self._standing, self._maintenance = peer, standing, maintenance
        self._standby_order, self._fitness, self._peer_off = standby_order, fitness, peer_off
        self._conversation, self._link = conversation, link
        self._is_machine_up, self._retry, self._wake, self._wall = is_machine_up, retry, wake, wall

    async def set_standby(self, request: StandbyRequest, call: Call) -> OutcomeAnswer:
        """Orders that this node takes over nothing, durably, or ends that order. Where the disk fails nothing has changed.

        ``force`` orders it also where nothing would run then; an active node releases. An end needs no leave.
        """
        reason = request.reason[:MAX_REASON]
        if not request.on:
            try:
                was_there = self._standby_order.lift(reason, call.by)
            except OSError as error:
                return {
                    "outcome": Outcome.FAILED,
                    "reason": f"the order could not be removed and is in force: {reason_of(error)}",
                }
            self._wake()
            self._conversation.ask_now()
            answer: OutcomeAnswer = {"outcome": Outcome.OFF}
            if not was_there:
                answer["reason"] = "nobody had ordered it"
            return answer
        facts = await self._gather_standby()
        refusal = why_never_standby(facts) or (None if request.force else why_not_standby(facts))
        if refusal is not None:
            return {"outcome": Outcome.REFUSED, "reason": refusal}
        try:
            self._standby_order.give(reason, call.by)
        except OSError as error:
            return {"outcome": Outcome.FAILED, "reason": f"the order could not be written: {reason_of(error)}"}
        self._wake()
        # The other node must know at once: it would hand over to this one.
        self._conversation.ask_now()
        return {"outcome": Outcome.ON}

    async def _gather_standby(self) -> StandbyFacts:
        peer_role = await self._conversation.ask_role(PEER_ROLE_S)
        peer, standing = self._conversation.peer, self._standing
        stays = peer_role is not None and peer is not None and peer.stays_standby is True
        return StandbyFacts(standing.node, self._peer, standing.role, self._maintenance.is_on, peer_role, stays)

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
            self._standby_order.order is not None,
            self._needs_votes,
        )
