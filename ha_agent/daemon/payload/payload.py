"""The payload of one node: both ends of its replication, or nothing where [payload] names nothing."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from ha_agent.core.payload_rules import PayloadRules
from ha_agent.core.payload_status import PayloadAccount, describe_received, describe_sent
from ha_agent.core.transitions import Transition
from ha_agent.core.words import Role
from ha_agent.daemon.events import Events
from ha_agent.daemon.parts import keep_running
from ha_agent.daemon.payload.holding import PayloadHolding
from ha_agent.daemon.payload.receiver import PayloadReceiver
from ha_agent.daemon.payload.sender import PayloadSender
from ha_agent.daemon.standing import Standing


class NoPayload:
    """A node whose [payload] names nothing: nothing is looked at, sent or taken."""

    async def recover(self) -> None:
        """Takes away what a crash left."""

    def works(self) -> list[Coroutine[Any, Any, None]]:
        """What is to be done all the time."""
        return []

    def hear_transition(self, told: Transition) -> None:
        """Takes in a change of role."""

    def link_changed(self) -> None:
        """The link to the peer went up or down."""

    def describe(self, now: float) -> PayloadAccount | None:
        """The account; None where there is no payload. ``now``: wall clock seconds."""
        return None


class Payload(NoPayload):
    """``lag_s``: how long a change may wait for the peer. ``is_link_up``: whether it can be reached."""

    def __init__(
        self,
        lag_s: float,
        standing: Standing,
        holding: PayloadHolding,
        sender: PayloadSender,
        receiver: PayloadReceiver,
        events: Events,
        is_link_up: Callable[[], bool],
    ) -> None:
        self._lag_s, self._standing, self._holding, self._events = lag_s, standing, holding, events
        self.sender, self.receiver = sender, receiver
        self._is_link_up = is_link_up

    async def recover(self) -> None:
        """Takes away what a crash left."""
        self.sender.sweep()
        await self.receiver.recover()

    def works(self) -> list[Coroutine[Any, Any, None]]:
        """What is to be done all the time."""
        return [keep_running("replicating payload", self.sender.run, self._events)]

    def hear_transition(self, told: Transition) -> None:
        """Takes in a change of role."""
        self.sender.hear_transition(told.after)

    def link_changed(self) -> None:
        """The link to the peer went up or down."""
        self.sender.wake()

    @property
    def rules(self) -> PayloadRules:
        """What is payload by now."""
        return self._holding.find_rules()

    def describe(self, now: float) -> PayloadAccount | None:
        """The account. ``now``: wall clock seconds."""
        up = self._is_link_up()
        if self._standing.role is Role.ACTIVE:
            return describe_sent(self.sender.sent, link_up=up, now=now, lag_s=self._lag_s)
        return describe_received(self.receiver.received, link_up=up)
