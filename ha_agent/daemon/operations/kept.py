"""Operations on kept copies: what replication replaced or deleted, and putting such a content back."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from collections.abc import Callable
from dataclasses import asdict

from ha_agent.adapters.kept import Kept, KeptEntry, find_kept, list_kept, prune_kept, read_kept
from ha_agent.adapters.rpc import Disconnected, RemoteError
from ha_agent.adapters.ssh import PeerLink
from ha_agent.core.answers import ContentAnswer, KeptListAnswer, RemovedAnswer, SyncAnswer
from ha_agent.core.names import path_problem
from ha_agent.core.requests import KeptPruneRequest, KeptReadRequest, NotPermitted, Request, RestoreRequest
from ha_agent.core.words import Outcome, Role
from ha_agent.daemon.events import Events
from ha_agent.daemon.operations.call import Call
from ha_agent.daemon.operations.looking import Looking
from ha_agent.daemon.replication.acknowledgement import Acknowledger
from ha_agent.daemon.replication.editor import RegistryEditor
from ha_agent.daemon.replication.view import RegistryView
from ha_agent.daemon.standing import Standing

MAX_ROWS = 20_000
PEER_LIMIT_S = 10.0
MODE_BITS = 0o755
"""Nothing that others may write is put into a registry."""
SECRET_MODE = 0o600
YOUNG_S = 7 * 86400.0


class KeptOperations:
    """``state_dir`` holds the copies; ``unkept`` are those of the last moments. ``wall``: the wall clock, in seconds."""

    def __init__(
        self,
        state_dir: str,
        standing: Standing,
        unkept: Callable[[], list[tuple[str, Kept]]],
        view: RegistryView,
        editor: RegistryEditor,
        acknowledger: Acknowledger,
        link: PeerLink,
        events: Events,
        looking: Looking,
        wall: Callable[[], float],
    ) -> None:
        self._state_dir, self._standing, self._unkept, self._view = state_dir, standing, unkept, view
        self._looking = looking
        self._editor, self._acknowledger, self._link = editor, acknowledger, link
        self._events, self._wall = events, wall

    async def list_copies(self, _request: Request, _call: Call) -> KeptListAnswer:
        """All kept copies of this node."""
        # Before the files: a checkpoint between the two makes files of them.
        young = [self._describe(generation, kept) for generation, kept in self._unkept()]
        entries = await self._looking.do(list_kept, self._state_dir)
        there = {(e.generation, e.path, e.sha256) for e in entries}
        entries += [e for e in young if (e.generation, e.path, e.sha256) not in there]
        return {"kept": [asdict(entry) for entry in entries[-MAX_ROWS:]], "total": len(entries)}

    async def read_copy(self, request: KeptReadRequest, call: Call) -> ContentAnswer:
        """The content of one copy. Raises ``NotPermitted`` where its mode lets root alone read it."""
        entry, content = await self._read(request.generation, request.path, request.sha256)
        if entry is None or content is None:
            return {"content": None, "mode": None}
        if not call.may_read(entry.mode):
            raise NotPermitted(f"{entry.path} had mode {entry.mode & 0o7777:04o}: its content is for root alone")
        return {"content": base64.b64encode(content).decode("ascii"), "mode": entry.mode}

    async def _read(self, generation: str, path: str, sha256: str) -> tuple[KeptEntry | None, bytes | None]:
        for name, kept in self._unkept():
            if (name, kept.path, kept.sha256) == (generation, path, sha256):
                return self._describe(name, kept), kept.content
        words = (self._state_dir, generation, path, sha256)
        return await self._looking.do(find_kept, *words), await self._looking.do(read_kept, *words)

    def _describe(self, generation: str, kept: Kept) -> KeptEntry:
        size = len(kept.content)
        return KeptEntry(generation, kept.path, self._wall(), kept.mode, kept.sha256, kept.reason, kept.divergence, size)

    async def prune(self, request: KeptPruneRequest, call: Call) -> RemovedAnswer:
        """Removes old copies. Those of the last ``YOUNG_S`` seconds only root of this node can remove: they are what helps
        against whoever may change the registry, and the peer's key."""
        before = None if request.older_s is None else self._wall() - request.older_s
        spared_s = 0.0
        if call.uid != 0 and (request.older_s is None or request.older_s < YOUNG_S):
            spared_s, before = YOUNG_S, self._wall() - YOUNG_S

        def prune() -> int:
            return prune_kept(self._state_dir, request.generations, before_wall=before, divergences=request.divergences)

        removed = await asyncio.to_thread(prune)
        if removed:
            also = " (divergences, too)" if request.divergences else ""
            self._events.add("kept-pruned", f"{removed} generations of kept copies were removed{also}", by=call.by)
        return {"removed": removed, "spared_s": spared_s}

    async def restore(self, request: RestoreRequest, call: Call) -> SyncAnswer:
        """Puts a kept copy back into the registry of the active node; what stood there is kept. Answers as ``sync`` does."""
        if self._standing.role is not Role.ACTIVE:
            reason = f"this node is {self._standing.role.value}; run it on the active one"
            return {"outcome": Outcome.REFUSED, "reason": reason}
        path = request.target or request.path
        if (problem := path_problem(path)) is not None:
            return {"outcome": Outcome.REFUSED, "reason": f"{path}: {problem}"}
        copy = await self._fetch(request)
        if isinstance(copy, str):
            return {"outcome": Outcome.REFUSED, "reason": copy}
        content, mode = copy
        try:
            replaced = await self._editor.restore(path, content, mode & MODE_BITS, call.by)
        except OSError as error:
            return {"outcome": Outcome.FAILED, "reason": f"{path} cannot be written: {error.strerror or error}"}
        ack = await self._acknowledger.wait()
        if ack.on_peer:
            return {"outcome": ack.outcome, "confs": len(self._view.manifest), "replaced": replaced}
        return {"outcome": ack.outcome, "reason": ack.detail, "replaced": replaced}

    async def _fetch(self, request: RestoreRequest) -> tuple[bytes, int] | str:
        """Content and mode of the copy, here or at the peer; the text of why there is none."""
        gone = f"there is no kept copy {request.generation}/{request.path} with this digest (any more)"
        if not request.there:
            entry, content = await self._read(request.generation, request.path, request.sha256)
            return gone if entry is None or content is None else (content, entry.mode)
        asked = {"op": "kept-read", "root": True, "generation": request.generation}
        try:
            answer = await self._link.ask({**asked, "path": request.path, "sha256": request.sha256}, PEER_LIMIT_S)
        except (Disconnected, RemoteError, TimeoutError) as error:
            return f"the copy cannot be read at the peer: {error or f'no answer within {PEER_LIMIT_S:g} s'}"
        text, mode = answer.get("content"), answer.get("mode")
        if not isinstance(text, str):
            return gone
        try:
            content = base64.b64decode(text, validate=True)
        except binascii.Error:
            return "the peer's answer is not base64"
        if hashlib.sha256(content).hexdigest() != request.sha256:
            return "the peer's answer has another digest"
        # A peer that does not say the mode keeps what may be a secret one.
        return content, mode if type(mode) is int else SECRET_MODE
