"""What operators ask the daemon over the control socket."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from ha_agent.adapters.rpc import Handler, Progress
from ha_agent.core.frames import Message
from ha_agent.core.words import Role
from ha_agent.daemon.status import describe_node

if TYPE_CHECKING:
    from ha_agent.daemon.agent import Agent


class OperatorService:
    """Serves ``status`` and ``sync`` for one agent."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self.handlers: dict[str, Handler] = {"status": self._serve_status, "sync": self._serve_sync}

    async def _serve_status(self, _message: Message, _progress: Progress) -> Message:
        own, peer = await asyncio.gather(describe_node(self._agent), self._agent.peers.query_status())
        return {"nodes": [own, peer]}

    async def _serve_sync(self, message: Message, _progress: Progress) -> Message:
        """Compares everything, pushes, and answers when the peer has it, or why not."""
        agent = self._agent
        if agent.role is not Role.ACTIVE:
            return {"outcome": "refused", "reason": f"this node is {agent.role.value}; run it on the active one"}
        agent.view.request_compare()
        await agent.view.settled()
        if message.get("accept_deletes") is True:
            agent.history.add("deletes-accepted", "an operator confirmed the deletions")
            agent.replicator.accept_deletes()
        agent.replicator.retry_now()
        return await self._await_sync(float(message.get("timeout_s", 30.0)))

    async def _await_sync(self, timeout_s: float) -> Message:
        agent = self._agent
        until = agent.loop.time() + timeout_s
        while agent.loop.time() < until:
            if not agent.link.is_up:
                return {"outcome": "unreachable", "reason": agent.link.problem}
            pending = agent.replicator.pending()
            if pending is not None and not pending:
                return {"outcome": "in-sync", "confs": len(agent.view.manifest)}
            state = agent.replicator.state
            if state.held:
                return {"outcome": "held", "reason": state.held}
            if state.refused:
                return {"outcome": "refused-by-peer", "reason": state.refused}
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(agent.replicator.progress.wait(), 0.2)
        return {"outcome": "timeout", "reason": f"not in sync after {timeout_s:g} s"}
