"""What operators ask the daemon over the control socket."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from typing import TYPE_CHECKING

from ha_agent.adapters.kept import list_kept
from ha_agent.adapters.reports import read_reports, save_report
from ha_agent.adapters.rpc import Disconnected, Handler, Malformed, Progress, RemoteError
from ha_agent.core.frames import Message
from ha_agent.core.guard import Access
from ha_agent.core.manifest import Manifest
from ha_agent.core.names import path_problem
from ha_agent.core.words import Role
from ha_agent.daemon.operations.node import HANDED_ON, NodeService, take
from ha_agent.daemon.operations.status import describe_node

if TYPE_CHECKING:
    from ha_agent.daemon.agent import Agent

READABLE = frozenset(
    {"status", "history", "programs", "supervisor", "whoami", "kept-list", "report-list", "alert-list", "view"}
)
"""Operations that change nothing, for those who may look only; of ``supervisor`` the guard lets them read."""


class OperatorService:
    """Serves what concerns the pair; what a node alone can answer is served beside it by ``NodeService``."""

    def __init__(self, agent: Agent, node: NodeService) -> None:
        self._agent = agent
        self._at_peer = frozenset(node.handlers) | {"manifest", *HANDED_ON}
        self.handlers: dict[str, Handler] = {
            **node.handlers,
            **agent.program_queries.handlers,
            **agent.program_service.handlers,
            **agent.registration.handlers,
            **agent.program_alerts.handlers,
            "status": self._serve_status,
            "sync": self._serve_sync,
            "manifest": self._serve_manifest,
            "restore": self._serve_restore,
            "report-save": self._serve_report_save,
            "report-list": self._serve_report_list,
            "at-peer": self._serve_at_peer,
        }

    async def _serve_manifest(self, _message: Message, _progress: Progress) -> Message:
        """The manifest of the registry as it is now, not as it was last looked at."""
        await self._agent.view.compare_now()
        return await self._agent.receiver.answer_manifest()

    async def _serve_report_save(self, message: Message, _progress: Progress) -> Message:
        """Keeps the report of a failover-test on this node."""
        report = take(message, "report", dict)
        settings = self._agent.settings
        identifier = take(report, "id", str)
        await asyncio.to_thread(save_report, settings.paths.state_dir, identifier, report, settings.drill.keep_reports)
        text = str(report.get("summary", ""))[:500]
        self._agent.history.add("drill-report", text, drill=identifier, by=str(message.get("by", "?")))
        return {"outcome": "saved"}

    async def _serve_report_list(self, message: Message, _progress: Progress) -> Message:
        count = take(message, "count", int, 50)
        return {"reports": await asyncio.to_thread(read_reports, self._agent.settings.paths.state_dir, count)}

    async def _serve_at_peer(self, message: Message, progress: Progress) -> Message:
        """Asks the peer what ``ask`` says, on behalf of this node's operator."""
        ask = take(message, "ask", dict)
        if ask.get("op") not in self._at_peer:
            raise Malformed(f"{ask.get('op')!r:.40} is nothing to ask a peer")
        link = self._agent.link
        if not link.is_up:
            return {"outcome": "unreachable", "reason": link.problem}
        timeout_s = float(take(message, "timeout_s", (int, float), 10.0))
        try:
            who = {"by": message.get("by", "?"), "access": message.get("access", Access.READ.value)}
            answer = await link.ask({**ask, **who}, timeout_s, progress)
        except RemoteError as error:
            return {"outcome": "failed", "reason": f"{self._agent.settings.peer.name}: {error}"}
        except (Disconnected, TimeoutError) as error:
            # The question may lie in the connection and still arrive.
            silent = f"no answer within {timeout_s:g} s; whether it was done there is not known"
            return {"outcome": "unreachable", "reason": str(error) or silent}
        answer.pop("id", None)
        return {"outcome": "answered", "answer": answer}

    async def _serve_restore(self, message: Message, _progress: Progress) -> Message:
        """Puts a content into the registry of the active node; what stood there is kept. Answers as ``sync`` does."""
        agent = self._agent
        if agent.standing.role is not Role.ACTIVE:
            return {"outcome": "refused", "reason": f"this node is {agent.standing.role.value}; run it on the active one"}
        path = take(message, "path", str)
        if (problem := path_problem(path)) is not None:
            return {"outcome": "refused", "reason": f"{path}: {problem}"}
        mode = take(message, "mode", int) & 0o777
        content = base64.b64decode(take(message, "content", str))
        if message.get("uid") != 0 and not await self._is_kept(content):
            reason = "the content is no kept copy of this pair; only root may put anything else into the registry"
            return {"outcome": "refused", "reason": reason}
        generation = agent.ledger.label
        async with agent.ledger.lock:
            replaced = await asyncio.to_thread(
                agent.committer.write, path, content, mode, generation, "replaced by a restore"
            )
        text = f"{path} was restored" + (", what stood there is kept" if replaced else "")
        agent.history.add("restored", text, path=path, by=str(message.get("by", "?")))
        await agent.view.compare_now()
        agent.replicator.retry_now()
        return {**await self._await_sync(10.0), "replaced": generation if replaced else None}

    async def _is_kept(self, content: bytes) -> bool:
        """Whether replication has kept ``content`` on either node: it was of the registry once."""
        agent = self._agent
        digest = hashlib.sha256(content).hexdigest()
        await agent.ledger.checkpoint()
        entries = await asyncio.to_thread(list_kept, agent.settings.paths.state_dir)
        if any(entry.sha256 == digest for entry in entries):
            return True
        try:
            answer = await agent.link.ask({"op": "kept-list"}, 10.0)
        except (Disconnected, RemoteError, TimeoutError):
            return False
        return any(row["sha256"] == digest for row in answer["kept"])

    async def _serve_status(self, _message: Message, _progress: Progress) -> Message:
        own, peer = await asyncio.gather(describe_node(self._agent), self._agent.peers.query_status())
        return {"nodes": [own, peer]}

    async def _serve_sync(self, message: Message, _progress: Progress) -> Message:
        """Compares everything, pushes, and answers when the peer has it, or why not."""
        agent = self._agent
        if agent.standing.role is not Role.ACTIVE:
            return {"outcome": "refused", "reason": f"this node is {agent.standing.role.value}; run it on the active one"}
        if message.get("full") is True:
            agent.view.forget()
            if agent.link.is_up:
                # What the peer is known to hold is forgotten, too: it is asked anew.
                try:
                    rows = (await agent.link.ask({"op": "manifest"}, 30.0))["rows"]
                except (Disconnected, RemoteError, TimeoutError) as error:
                    return {"outcome": "unreachable", "reason": str(error) or "no answer within 30 s"}
                agent.replicator.learn_peer(Manifest.from_rows(rows))
        await agent.view.compare_now()
        if message.get("accept_deletes") is True:
            agent.history.add("deletes-accepted", "an operator confirmed the deletions")
            agent.replicator.accept_deletes()
        agent.replicator.retry_now()
        return await self._await_sync(float(message.get("timeout_s", 30.0)))

    async def _await_sync(self, timeout_s: float) -> Message:
        ack = await self._agent.acknowledger.wait(limit_s=timeout_s)
        if ack.on_peer:
            return {"outcome": ack.outcome, "confs": len(self._agent.view.manifest)}
        return {"outcome": ack.outcome, "reason": ack.detail}
