"""Operations on kept copies: what replication replaced or deleted, and putting such a content back."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from collections.abc import Callable
from dataclasses import asdict

from ha_agent.adapters.kept import list_kept, prune_kept, read_kept
from ha_agent.adapters.rpc import Disconnected, RemoteError
from ha_agent.adapters.ssh import PeerLink
from ha_agent.core.answers import ContentAnswer, KeptListAnswer, RemovedAnswer, SyncAnswer
from ha_agent.core.names import path_problem
from ha_agent.core.requests import KeptPruneRequest, KeptReadRequest, Malformed, NotPermitted, Request, RestoreRequest
from ha_agent.core.words import Outcome, Role
from ha_agent.daemon.events import Events
from ha_agent.daemon.operations.call import Call
from ha_agent.daemon.replication.acknowledgement import Acknowledger
from ha_agent.daemon.replication.editor import RegistryEditor
from ha_agent.daemon.replication.ledger import Ledger
from ha_agent.daemon.replication.view import RegistryView
from ha_agent.daemon.standing import Standing

MAX_ROWS = 20_000
PEER_LIMIT_S = 10.0
MODE_BITS = 0o777


class KeptOperations:
    """``state_dir`` holds the copies. ``wall``: the wall clock, in seconds."""

    def __init__(
        self,
        state_dir: str,
        standing: Standing,
        ledger: Ledger,
        view: RegistryView,
        editor: RegistryEditor,
        acknowledger: Acknowledger,
        link: PeerLink,
        events: Events,
        wall: Callable[[], float],
    ) -> None:
        self._state_dir, self._standing, self._ledger, self._view = state_dir, standing, ledger, view
        self._editor, self._acknowledger, self._link = editor, acknowledger, link
        self._events, self._wall = events, wall

    async def list_copies(self, _request: Request, _call: Call) -> KeptListAnswer:
        """All kept copies of this node."""
        # What the journal still holds becomes a file with the checkpoint.
        await self._ledger.checkpoint()
        entries = await asyncio.to_thread(list_kept, self._state_dir)
        return {"kept": [asdict(entry) for entry in entries[-MAX_ROWS:]], "total": len(entries)}

    async def read_copy(self, request: KeptReadRequest, call: Call) -> ContentAnswer:
        """The content of one copy. Raises ``NotPermitted`` where the mode that the file had keeps it from whoever asks."""
        words = (request.generation, request.path, request.sha256)
        if not call.may_see_all:
            await asyncio.to_thread(self._require_readable, words, call)
        content = await asyncio.to_thread(read_kept, self._state_dir, *words)
        return {"content": None if content is None else base64.b64encode(content).decode("ascii")}

    def _require_readable(self, words: tuple[str, str, str], call: Call) -> None:
        for entry in list_kept(self._state_dir):
            if (entry.generation, entry.path, entry.sha256) == words and not call.may_read(entry.mode):
                raise NotPermitted(f"{entry.path} had mode {entry.mode:04o}: its content is for root alone")

    async def prune(self, request: KeptPruneRequest, call: Call) -> RemovedAnswer:
        """Removes old copies."""
        before = None if request.older_s is None else self._wall() - request.older_s

        def prune() -> int:
            return prune_kept(self._state_dir, request.generations, before_wall=before, divergences=request.divergences)

        removed = await asyncio.to_thread(prune)
        if removed:
            also = " (divergences, too)" if request.divergences else ""
            self._events.add("kept-pruned", f"{removed} generations of kept copies were removed{also}", by=call.by)
        return {"removed": removed}

    async def restore(self, request: RestoreRequest, call: Call) -> SyncAnswer:
        """Puts a content into the registry of the active node; what stood there is kept. Answers as ``sync`` does."""
        if self._standing.role is not Role.ACTIVE:
            reason = f"this node is {self._standing.role.value}; run it on the active one"
            return {"outcome": Outcome.REFUSED, "reason": reason}
        if (problem := path_problem(request.path)) is not None:
            return {"outcome": Outcome.REFUSED, "reason": f"{request.path}: {problem}"}
        try:
            content = base64.b64decode(request.content, validate=True)
        except binascii.Error:
            raise Malformed("restore: content is not base64") from None
        if call.uid != 0 and not await self._is_kept(content):
            reason = "the content is not a kept copy of this pair; only root may put anything else into the registry"
            return {"outcome": Outcome.REFUSED, "reason": reason}
        try:
            replaced = await self._editor.restore(request.path, content, request.mode & MODE_BITS, call.by)
        except OSError as error:
            reason = f"{request.path} cannot be written: {error.strerror or error}"
            return {"outcome": Outcome.FAILED, "reason": reason}
        ack = await self._acknowledger.wait()
        if ack.on_peer:
            return {"outcome": ack.outcome, "confs": len(self._view.manifest), "replaced": replaced}
        return {"outcome": ack.outcome, "reason": ack.detail, "replaced": replaced}

    async def _is_kept(self, content: bytes) -> bool:
        """Whether replication has kept ``content`` on either node: it was of the registry once."""
        digest = hashlib.sha256(content).hexdigest()
        await self._ledger.checkpoint()
        entries = await asyncio.to_thread(list_kept, self._state_dir)
        if any(entry.sha256 == digest for entry in entries):
            return True
        try:
            answer = await self._link.ask({"op": "kept-list"}, PEER_LIMIT_S)
        except (Disconnected, RemoteError, TimeoutError):
            return False
        return any(row["sha256"] == digest for row in answer["kept"])
