"""Changes of the registry that an operator's command makes: on this node's disk when a call returns, then on the peer's.

Only the active node's registry is changed; the caller has looked at the role.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any

from ha_agent.adapters.commit import Committer
from ha_agent.adapters.kept import Kept
from ha_agent.core.names import PARKED
from ha_agent.daemon.events import Events
from ha_agent.daemon.replication.acknowledgement import Acknowledgement, Acknowledger
from ha_agent.daemon.replication.ledger import Ledger
from ha_agent.daemon.replication.view import RegistryView

CONF_MODE = 0o644


class RegistryEditor:
    """Edits one registry. What a change replaces is kept. A change that raises ``OSError`` has changed nothing."""

    def __init__(
        self, committer: Committer, ledger: Ledger, view: RegistryView, events: Events, acknowledger: Acknowledger
    ) -> None:
        self._committer, self._ledger, self._view = committer, ledger, view
        self._events, self._acknowledger = events, acknowledger

    async def park(self, path: str, by: str) -> None:
        """Renames ``path`` to its parked name. Raises ``OSError``."""
        await self._apply({path, path + PARKED}, self._committer.rename, path, path + PARKED, reason="parked over")
        self._events.add("parked", f"{path} is parked: no failover starts it", path=path, by=by)

    async def unpark(self, path: str, by: str) -> str:
        """Gives the parked conf ``path`` its own name again, and returns that. Raises ``OSError``."""
        target = path.removesuffix(PARKED)
        await self._apply({path, target}, self._committer.rename, path, target, reason="replaced by a parked conf")
        self._events.add("unparked", f"{target} is registered again", path=target, by=by)
        return target

    async def write(self, path: str, text: str, by: str) -> None:
        """Puts ``text`` at ``path``. Raises ``OSError``."""
        data = text.encode("utf-8", "surrogateescape")
        await self._apply({path}, self._committer.write, path, data, CONF_MODE, reason="replaced by a registration")
        self._events.add("registered", f"{path} was written", path=path, by=by)

    async def remove(self, path: str, by: str) -> None:
        """Takes ``path`` out of the registry. Raises ``OSError``."""
        await self._apply({path}, self._committer.remove, path, reason="deregistered")
        self._events.add("deregistered", f"{path} was removed", path=path, by=by)

    async def restore(self, path: str, content: bytes, mode: int, by: str) -> str | None:
        """Puts ``content`` at ``path``; returns the generation under which the replaced content is kept, None without one.

        Raises ``OSError``.
        """
        generation = self._ledger.label
        kept = await self._apply({path}, self._committer.write, path, content, mode, reason="replaced by a restore")
        text = f"{path} was restored" + (", what stood there is kept" if kept else "")
        self._events.add("restored", text, path=path, by=by)
        return generation if kept else None

    async def _apply(self, paths: set[str], work: Callable[..., Kept | None], *words: Any, reason: str) -> Kept | None:
        generation = self._ledger.label
        async with self._ledger.lock:
            kept = await asyncio.to_thread(work, *words, generation, reason)
        await self._view.refresh(paths)
        return kept

    async def acknowledged(self, paths: Collection[str]) -> Acknowledgement:
        """Waits until the peer holds ``paths`` as this node does (also: no longer holds them)."""
        return await self._acknowledger.wait(paths)
