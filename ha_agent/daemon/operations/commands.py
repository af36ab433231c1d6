"""What all commands on programs have in common: one at a time, only where this node may, expected failures as answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from ha_agent.adapters.supervisord import SupervisordDown
from ha_agent.core.answers import CommandAnswer
from ha_agent.core.names import PARKED
from ha_agent.core.words import Outcome, Refused, Role
from ha_agent.daemon.peer.conversation import Conversation
from ha_agent.daemon.replication.acknowledgement import Acknowledgement
from ha_agent.daemon.replication.editor import RegistryEditor
from ha_agent.daemon.standing import Standing

PEER_ROLE_S = 1.0


class Commands:
    """The frame of every command that changes programs or confs. ``peer``: the name of the other node."""

    def __init__(self, peer: str, standing: Standing, conversation: Conversation, editor: RegistryEditor) -> None:
        self._peer, self._standing, self._conversation, self._editor = peer, standing, conversation, editor
        self._lock = asyncio.Lock()

    async def run(self, work: Callable[[], Awaitable[CommandAnswer]]) -> CommandAnswer:
        """Does ``work`` when no other command is at work; returns its answer, or its expected failure as one."""
        async with self._lock:
            try:
                return await work()
            except Refused as error:
                return {"outcome": Outcome.REFUSED, "reason": str(error)}
            except SupervisordDown as error:
                return {"outcome": Outcome.FAILED, "reason": f"supervisord: {error}"}
            except OSError as error:
                where = f"{error.filename}: " if error.filename else ""
                reason = f"the registry could not be changed: {where}{error.strerror or error}"
                return {"outcome": Outcome.FAILED, "reason": reason}

    async def require_active(self) -> None:
        """Raises ``Refused`` where this node may not start or park anything, naming the one that may."""
        standing = self._standing
        if standing.may_start:
            return
        # What the peer last said of itself may be two seconds old: it is asked.
        if await self._conversation.ask_role(PEER_ROLE_S) is Role.ACTIVE:
            raise Refused(f"{standing.node} is {standing.role.value}; {self._peer} is active: run this there")
        state = "busy" if standing.role is Role.ACTIVE else standing.role.value
        raise Refused(f"{standing.node} is {state}, and no node is known to be active; see ha-agent status")

    def answer(self, acknowledged: Acknowledgement | None, **more: Any) -> CommandAnswer:
        """The frame of an answer, with ``more`` in it."""
        ack = acknowledged.to_dict() if acknowledged else None
        answer: CommandAnswer = {
            "outcome": Outcome.DONE,
            "node": self._standing.node,
            "peer": self._peer,
            "ack": ack,
        }
        answer.update(more)  # type: ignore[typeddict-item]
        return answer

    async def acknowledge_renamed(self, paths: Collection[str]) -> Acknowledgement | None:
        """Waits for the peer to have ``paths`` parked or registered as they are here; None where there are none."""
        if not paths:
            return None
        # Renamed: the old name goes, the new one comes.
        return await self._editor.acknowledged({*paths, *(p + PARKED for p in paths)})
