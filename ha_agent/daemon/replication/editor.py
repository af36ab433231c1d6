"""Changes of the registry that an operator's command makes: on this node's disk when a call returns, then on the peer's.

Only the active node's registry is changed; the caller has looked at the role.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ha_agent.core.names import PARKED
from ha_agent.core.words import Role

if TYPE_CHECKING:
    from ha_agent.adapters.kept import Kept
    from ha_agent.daemon.agent import Agent

ACKNOWLEDGE_S = 10.0
"""So long a command waits for the peer to have a change on its disk."""

LINK_S = 0.5
"""A link that is down just now is waited for so long: it may be coming up again."""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Whether the peer has a change on its disk; ``reason`` says why not, in one sentence."""

    on_peer: bool
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As it stands in an answer."""
        return {"on_peer": self.on_peer, "reason": self.reason or None}


class RegistryEditor:
    """Edits one agent's registry."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def park(self, path: str, by: str) -> None:
        """Renames ``path`` to its parked name. Raises ``OSError``; nothing has changed then."""
        await self._apply({path, path + PARKED}, self._agent.committer.rename, path, path + PARKED, reason="parked over")
        self._agent.history.add("parked", f"{path} is parked: no failover starts it", path=path, by=by)

    async def unpark(self, path: str, by: str) -> str:
        """Gives the parked conf ``path`` its own name again, and gives that back. Raises ``OSError``; as for ``park``."""
        target = path.removesuffix(PARKED)
        await self._apply({path, target}, self._agent.committer.rename, path, target, reason="replaced by a parked conf")
        self._agent.history.add("unparked", f"{target} is registered again", path=target, by=by)
        return target

    async def write(self, path: str, text: str, by: str) -> None:
        """Puts ``text`` at ``path``; what stood there is kept. Raises ``OSError``; nothing has changed then."""
        data = text.encode("utf-8", "surrogateescape")
        await self._apply({path}, self._agent.committer.write, path, data, 0o644, reason="replaced by a registration")
        self._agent.history.add("registered", f"{path} was written", path=path, by=by)

    async def remove(self, path: str, by: str) -> None:
        """Takes ``path`` out of the registry; it is kept. Raises ``OSError``; nothing has changed then."""
        await self._apply({path}, self._agent.committer.remove, path, reason="deregistered")
        self._agent.history.add("deregistered", f"{path} was removed", path=path, by=by)

    async def _apply(self, paths: set[str], work: Callable[..., Kept | None], *words: Any, reason: str) -> None:
        ledger = self._agent.ledger
        generation = f"{ledger.known.epoch}.{ledger.generation}"
        async with ledger.lock:
            await asyncio.to_thread(work, *words, generation, reason)
        await self._agent.view.refresh(paths)

    async def acknowledged(self, paths: Collection[str], limit_s: float = ACKNOWLEDGE_S) -> Acknowledgement:
        """Waits until the peer holds ``paths`` as this node does (also: no longer holds them)."""
        agent = self._agent
        peer, clock = agent.settings.peer.name, agent.loop.time
        until, link_until = clock() + limit_s, clock() + LINK_S
        wanted = set(paths)
        tried = False
        agent.replicator.retry_now()
        while True:
            progress, state = agent.replicator.progress, agent.replicator.state
            if agent.role is not Role.ACTIVE:
                return Acknowledgement(False, f"{agent.node} became {agent.role.value} meanwhile")
            if not agent.link.is_up and clock() >= link_until:
                return Acknowledgement(False, f"{peer} cannot be reached ({agent.link.problem or 'no link'})")
            pending = agent.replicator.pending()
            if pending is not None:
                puts, deletes = {e.path for e in pending.puts} & wanted, set(pending.deletes) & wanted
                if not puts and not deletes:
                    return Acknowledgement(True)
                if state.held and not puts:
                    held = f"deletions are held: {state.held}; ha-agent sync --accept-deletes sends them"
                    return Acknowledgement(False, held)
            if (tried and state.refused) or clock() >= until:
                why = state.refused or f"no answer within {limit_s:g} s"
                return Acknowledgement(False, f"{peer} has not taken it: {why}")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(progress.wait(), 0.05)
                tried = True
