"""A peer that does not take a change because it knows a newer epoch, or is active itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Any

from ha_agent.core.frames import Message
from ha_agent.core.peer_summary import read_mark
from ha_agent.core.reasons import reason_of
from ha_agent.core.transaction import Watermark
from ha_agent.core.words import OWNING_ROLES, Role
from ha_agent.daemon.events import Events
from ha_agent.daemon.peer.conversation import Conversation
from ha_agent.daemon.role.claims import Claims
from ha_agent.daemon.waker import Waker

log = logging.getLogger(__name__)


class Rival:
    """Hears the answers of the peer that this node's changes came too late for."""

    def __init__(
        self,
        claims: Claims,
        conversation: Conversation,
        events: Events,
        waker: Waker,
        start_task: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._claims, self._conversation, self._events = claims, conversation, events
        self._waker, self._start_task = waker, start_task
        self._split_with = Watermark()

    def hear(self, answer: Message) -> None:
        """Takes in one such answer. A peer that owns the pair is asked what it is; above any other the epoch is raised."""
        try:
            mark, role = read_mark(answer), answer.get("role")
        except (KeyError, ValueError) as error:
            log.error("the peer's answer says no claim: %s", reason_of(error))
            return
        if role not in OWNING_ROLES:
            self._start_task(self._claims.raise_above(mark))
            return
        # A peer that is still taking over will settle it by the interlock.
        if role == Role.ACTIVE and mark != self._split_with:
            self._split_with = mark
            self._events.add("split-brain", "both nodes are active; the one with the older epoch releases")
        self._conversation.ask_now()
        self._waker.wake()
