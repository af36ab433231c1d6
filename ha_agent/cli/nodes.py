"""Asks both nodes: this node over the control socket, the peer through it.

What comes back was written by others, and is made visible (``core/visible``) before any command sees it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ha_agent.adapters.control import CommandFailed, ask_daemon
from ha_agent.core.frames import Message
from ha_agent.core.node_json import NodeAccountJson, NodeJson
from ha_agent.core.settings import Settings
from ha_agent.core.visible import visible_data
from ha_agent.core.words import Outcome

EXACT = frozenset({"manifest", "contents", "judge", "kept-list", "kept-read"})
"""Operations whose answers are asked further with, or put into files: their paths and contents stay as they are."""

ANSWER_S = 10.0
DRAIN_S = 5.0


class PeerUnreachable(Exception):
    """The peer did not answer; the text says who and why."""


class Nodes:
    """Both nodes as seen from this one. Every call raises ``NoDaemon``, ``CommandFailed`` or ``TimeoutError``."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.own_name, self.peer_name = settings.node.name, settings.peer.name

    def ask_own(
        self, message: Message, timeout_s: float = ANSWER_S, progress: Callable[[Message], None] | None = None
    ) -> Message:
        """Asks this node's daemon."""
        answer = ask_daemon(self.settings.paths.run_dir, message, timeout_s, progress)
        operation = message["ask"]["op"] if message["op"] == "at-peer" else message["op"]
        return answer if operation in EXACT else dict(visible_data(answer))

    def ask_peer(self, message: Message, timeout_s: float = ANSWER_S) -> Message:
        """Asks the peer's daemon. Raises ``PeerUnreachable`` besides."""
        wrapped = {"op": "at-peer", "ask": message, "timeout_s": timeout_s}
        answer = self.ask_own(wrapped, timeout_s + 2.0)
        if answer["outcome"] == Outcome.UNREACHABLE:
            raise PeerUnreachable(f"{self.peer_name} cannot be reached: {answer.get('reason') or 'no link'}")
        if answer["outcome"] != Outcome.ANSWERED:
            raise CommandFailed(str(answer.get("reason", "the peer could not do it")))
        return dict(answer["answer"])

    def ask(self, node: str, message: Message, timeout_s: float = ANSWER_S) -> Message:
        """Asks the node called ``node``."""
        return self.ask_own(message, timeout_s) if node == self.own_name else self.ask_peer(message, timeout_s)

    def drained_status(self) -> list[NodeJson]:
        """As ``status``, after a moment's wait where the peer only lacks what was changed just now."""
        began = time.monotonic()
        while True:
            seen = self.status()
            passed = time.monotonic() - began
            accounts = [n for n in seen if n["reachable"]]
            if len(accounts) < len(seen):
                return seen
            pending = any(n["replication"]["state"] == "pending" for n in accounts)
            if not pending or passed >= DRAIN_S:
                return seen
            time.sleep(0.05)

    def own_account(self) -> NodeAccountJson:
        """This node's account of itself."""
        own = self.status()[0]
        if not own["reachable"]:
            raise CommandFailed(f"{self.own_name} says nothing of itself")
        return own

    def status(self, *, known: bool = False) -> list[NodeJson]:
        """Both nodes' own accounts, this node first; the peer's may be only what this node knows of it.

        ``known``: of their programs, what supervisord's events have told will do.
        """
        return list(self.ask_own({"op": "status", **({"known": True} if known else {})})["nodes"])
