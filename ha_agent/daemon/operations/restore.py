"""Operations by which the whole registry becomes again what it was at another time."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable
from typing import Any

from ha_agent.adapters.kept import Kept, list_kept, read_kept
from ha_agent.adapters.registry_log import Agreed, RegistryLog, find_agreed
from ha_agent.adapters.rpc import Disconnected, RemoteError
from ha_agent.adapters.ssh import PeerLink
from ha_agent.core.answers import RegistryAtAnswer, RestoreAtAnswer
from ha_agent.core.manifest import Entry, Manifest
from ha_agent.core.names import is_registry_path
from ha_agent.core.places import StatePlaces
from ha_agent.core.reasons import reason_of
from ha_agent.core.requests import RegistryAtRequest, RestoreAtRequest
from ha_agent.core.restore_plan import RestorePlan, plan_restore
from ha_agent.core.words import Outcome, Role
from ha_agent.daemon.events import Events
from ha_agent.daemon.operations.call import Call
from ha_agent.daemon.operations.kept import MODE_BITS, PEER_LIMIT_S
from ha_agent.daemon.operations.looking import Looking
from ha_agent.daemon.replication.acknowledgement import Acknowledger
from ha_agent.daemon.replication.editor import RegistryEditor
from ha_agent.daemon.replication.view import RegistryView
from ha_agent.daemon.standing import Standing

TIMES = 100
"""Largest number of times in one answer, the newest."""

Place = tuple[str, str]
"""Where a kept copy is found by its digest: generation and path."""


class RestoreOperations:
    """``state_dir`` holds the record and the kept copies; ``unkept`` are those of the last moments."""

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
    ) -> None:
        places = StatePlaces(state_dir)
        self._log = RegistryLog(places.registry_log, places.older_registry_log)
        self._state_dir, self._standing, self._unkept, self._view = state_dir, standing, unkept, view
        self._editor, self._acknowledger, self._link = editor, acknowledger, link
        self._events, self._looking = events, looking

    async def show(self, request: RegistryAtRequest, _call: Call) -> RegistryAtAnswer:
        """What both nodes held at a time, by this node's record, and at which times that changed."""
        found, oldest, times = await self._looking.do(self._find, request.at)
        at, label, rows = (found.at, found.label, found.manifest.to_rows()) if found else (None, None, None)
        return {"at": at, "label": label, "rows": rows, "oldest": oldest, "times": times}

    def _find(self, at: float) -> tuple[Agreed | None, float | None, list[list[Any]]]:
        known = list(self._log.read())
        found, oldest = find_agreed(iter(known), at)
        return found, oldest, [[one.at, one.label, len(one.manifest)] for one in known[-TIMES:]]

    async def restore_at(self, request: RestoreAtRequest, call: Call) -> RestoreAtAnswer:
        """Makes the registry of the active node what it was at ``at``; what is replaced or deleted is kept.

        With ``dry_run`` it says what would be done, and nothing is changed. ``expected`` is the hash of the registry that
        was looked at: one that has changed since is refused. A failure in between leaves the rest undone, and says so.
        """
        if self._standing.role is not Role.ACTIVE:
            return _refused(f"this node is {self._standing.role.value}; run it on the active one")
        await self._view.compare_now()
        present = self._view.manifest
        if request.expected and request.expected != present.hash:
            return _refused("the registry has changed meanwhile: look again")
        found, oldest, _ = await self._looking.do(self._find, request.at)
        if found is None:
            return _refused("this node's record does not reach so far back", oldest)
        if wrong := [entry.path for entry in found.manifest if not is_registry_path(entry.path)]:
            return _refused(f"the record names {wrong[0]!r:.80}, which is no path of a registry")
        own, peers, problem = await self._copies()
        here = {entry.sha256 for entry in present} | {kept.sha256 for _, kept in self._unkept()}
        plan = plan_restore(present, found.manifest, here | own.keys() | peers.keys())
        answer: RestoreAtAnswer = {
            "outcome": Outcome.DONE,
            "at": found.at,
            "label": found.label,
            "present": present.hash,
            "peer_problem": problem,
        }
        answer.update(describe_plan(plan))
        if request.dry_run or not plan.has_work:
            return answer
        return {**answer, **await self._carry_out(plan, present, own, peers, found, call)}

    async def _copies(self) -> tuple[dict[str, Place], dict[str, Place], str | None]:
        """The kept copies of this node and of the peer by their digests, and why the latter are not known."""
        entries = await self._looking.do(list_kept, self._state_dir)
        own = {entry.sha256: (entry.generation, entry.path) for entry in entries}
        try:
            answer = await self._link.ask({"op": "kept-list"}, PEER_LIMIT_S)
            rows = [(str(r["sha256"]), (str(r["generation"]), str(r["path"]))) for r in answer["kept"]]
        except (Disconnected, RemoteError, TimeoutError, KeyError, TypeError) as error:
            return own, {}, reason_of(error)
        return own, dict(rows), None

    async def _carry_out(
        self, plan: RestorePlan, present: Manifest, own: dict[str, Place], peers: dict[str, Place], found: Agreed, call: Call
    ) -> RestoreAtAnswer:
        # All contents before the first change: one that cannot be had must not be found out in the middle.
        ready: list[tuple[Entry, bytes]] = []
        for entry in plan.writes:
            content = await self._content(entry.sha256, present, own, peers)
            if content is None:
                return _refused(f"the content of {entry.path} cannot be read any more; nothing was changed")
            ready.append((entry, content))
        done: list[str] = []
        try:
            for entry, content in ready:
                await self._editor.restore(entry.path, content, entry.mode & MODE_BITS, call.by)
                done.append(entry.path)
            for path in plan.deleted:
                await self._editor.remove(path, call.by)
                done.append(path)
        except OSError as error:
            left = f"{len(done)} of {len(plan.writes) + len(plan.deleted)} were done"
            return {"outcome": Outcome.FAILED, "reason": f"{error.filename or ''} {error.strerror or error}: {left}".strip()}
        text = f"the registry is again what it was as {found.label}: {len(plan.writes)} written, {len(plan.deleted)} deleted"
        self._events.add("registry-restored", text, paths=done[:20], by=call.by)
        ack = await self._acknowledger.wait()
        return {"outcome": Outcome.DONE} if ack.on_peer else {"outcome": ack.outcome, "reason": ack.detail}

    async def _content(self, sha256: str, present: Manifest, own: dict[str, Place], peers: dict[str, Place]) -> bytes | None:
        """A content by its digest, which is checked wherever it comes from."""
        for entry in present:
            if entry.sha256 == sha256 and (content := self._view.read_content(entry.path, sha256)) is not None:
                return content
        for _generation, kept in self._unkept():
            if kept.sha256 == sha256:
                return kept.content
        if sha256 in own:
            return await self._looking.do(read_kept, self._state_dir, *own[sha256], sha256)
        if sha256 in peers:
            return await self._fetch(*peers[sha256], sha256)
        return None

    async def _fetch(self, generation: str, path: str, sha256: str) -> bytes | None:
        asked = {"op": "kept-read", "root": True, "generation": generation, "path": path, "sha256": sha256}
        try:
            text = (await self._link.ask(asked, PEER_LIMIT_S)).get("content")
            content = base64.b64decode(text, validate=True) if isinstance(text, str) else None
        except (Disconnected, RemoteError, TimeoutError, binascii.Error):
            return None
        return content if content is not None and hashlib.sha256(content).hexdigest() == sha256 else None


def describe_plan(plan: RestorePlan) -> RestoreAtAnswer:
    """The plan by its paths."""
    return {
        "outcome": Outcome.DONE,
        "added": [entry.path for entry in plan.added],
        "changed": [entry.path for entry in plan.changed],
        "deleted": list(plan.deleted),
        "lost": [entry.path for entry in plan.lost],
    }


def _refused(reason: str, oldest: float | None = None) -> RestoreAtAnswer:
    return {"outcome": Outcome.REFUSED, "reason": reason, "oldest": oldest}
