"""Changes of the registry that an operator's command makes: on this node's disk when a call returns, then on the peer's.

Only the active node's registry is changed; the caller has looked at the role.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from ha_agent.core.names import PARKED
from ha_agent.daemon.replication.acknowledgement import Acknowledgement

if TYPE_CHECKING:
    from ha_agent.adapters.kept import Kept
    from ha_agent.daemon.agent import Agent


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
        generation = ledger.label
        async with ledger.lock:
            await asyncio.to_thread(work, *words, generation, reason)
        await self._agent.view.refresh(paths)

    async def acknowledged(self, paths: Collection[str]) -> Acknowledgement:
        """Waits until the peer holds ``paths`` as this node does (also: no longer holds them)."""
        return await self._agent.acknowledger.wait(paths)
