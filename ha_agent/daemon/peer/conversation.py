"""Signs of life between the two agents: the greeting on a new connection, the heartbeat, the peer's word on itself."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from ha_agent.adapters.rpc import Disconnected, RemoteError
from ha_agent.adapters.ssh import PeerLink
from ha_agent.core.agreement import Agreement
from ha_agent.core.check_acts import Move
from ha_agent.core.frames import Message
from ha_agent.core.manifest import Manifest
from ha_agent.core.node_json import NodeAccountJson, NodeJson, SilentNodeJson
from ha_agent.core.orders import Orders
from ha_agent.core.overlap import Spell
from ha_agent.core.peer_summary import PeerSummary, WrongPeer, summary_message
from ha_agent.core.settings import LinkSettings, PeerSettings
from ha_agent.core.transaction import Watermark, is_jump, jump_text
from ha_agent.core.words import OWNING_ROLES, Role
from ha_agent.daemon.replication.ledger import Ledger
from ha_agent.daemon.replication.replicator import Replicator, read_rows
from ha_agent.daemon.replication.view import RegistryView
from ha_agent.daemon.standing import Standing

log = logging.getLogger(__name__)

MANIFEST_WAIT_S = 30.0
STATUS_WAIT_S = 0.6


class Conversation:
    """Speaks with the peer over this node's own link. ``on_news`` is called when the peer's role has changed,
    ``on_doubt`` once with the reason when its epoch is not believed.

    ``wall``: the wall clock, in seconds. ``orders``: what operators have said of this node.
    """

    def __init__(
        self,
        wanted: PeerSettings,
        limits: LinkSettings,
        standing: Standing,
        ledger: Ledger,
        view: RegistryView,
        link: PeerLink,
        replicator: Replicator,
        on_news: Callable[[], None],
        wall: Callable[[], float],
        on_doubt: Callable[[str], object] = log.error,
        orders: Callable[[], Orders] = Orders,
    ) -> None:
        self._wanted, self._limits = wanted, limits
        self._standing, self._ledger, self._view = standing, ledger, view
        self._link, self._replicator = link, replicator
        self._on_news, self._wall, self._on_doubt = on_news, wall, on_doubt
        self._orders = orders
        self.on_heard: list[Callable[[], None]] = []
        """Called with every sign of life that comes from the peer, believed or not."""
        self._doubted: Watermark | None = None
        self._asked = asyncio.Event()
        self.peer: PeerSummary | None = None
        """What was last heard of it."""
        self.find_obstacles: Callable[[], Sequence[str]] = tuple
        """Why this node could not take over; asked for each sign of life, as the two below."""
        self.agreement: Agreement = {}
        self.find_spell: Callable[[], Spell | None] = lambda: None
        self.find_moves: Callable[[], Sequence[Move] | None] = lambda: None
        self.hear_moves: Callable[[Sequence[Move]], None] = lambda _moves: None
        """Takes in the hand-overs for checks that the peer knows of, before it is answered."""
        self.on_answered: list[Callable[[PeerSummary, float], None]] = []
        """Called with what the peer answered, and the seconds that took: its ages may be older by so much. What it sends by
        itself can have waited in the network for any time."""

    @property
    def peer_owns(self) -> bool:
        """Whether the peer can be reached, and was last heard of as active or about to be."""
        return self._link.is_up and self.peer is not None and self.peer.role in OWNING_ROLES

    def ask_now(self) -> None:
        """Exchanges signs of life at once, or connects at once."""
        self._asked.set()
        self._link.nudge()

    def summary(self) -> dict[str, Any]:
        """This node's signs of life."""
        standing, ledger = self._standing, self._ledger
        return summary_message(
            standing.node,
            standing.role,
            standing.vrrp_state,
            ledger.known,
            ledger.generation,
            self._view.manifest.hash,
            standing.vip_here,
            self.find_obstacles(),
            self.agreement,
            self.find_spell(),
            self._orders(),
            standing.vips,
            self.find_moves(),
        )

    def learn(self, raw: Message, *, is_answer: bool = True, took_s: float = 0.0) -> None:
        """Takes in the peer's signs of life. Raises ``WrongPeer``.

        ``is_answer``: they came over this node's own link, from the machine with the pinned host key. What comes otherwise
        was sent by whoever holds the peer's key, and an epoch in it is believed within limits alone: then one that a stolen
        key has sent is overtaken when the key is gone. ``took_s``: how long the answer took.
        """
        for listener in self.on_heard:
            listener()
        summary = PeerSummary.parse(raw, self._wall())
        wanted = self._wanted
        if summary.node != wanted.name:
            raise WrongPeer(f"the node at {wanted.address} calls itself {summary.node!r}, not {wanted.name!r}")
        if not is_answer and is_jump(summary.mark, self._ledger.known):
            self._doubt(summary.mark)
        changed = self.peer is None or self.peer.role is not summary.role
        self.peer = summary
        if summary.moves is not None:
            self.hear_moves(summary.moves)
        for hear in self.on_answered if is_answer else ():
            hear(summary, took_s)
        if not self._standing.owns:
            self._ledger.learn(summary.mark)
        if changed:
            self._on_news()

    def _doubt(self, mark: Watermark) -> NoReturn:
        text = jump_text(mark, self._ledger.known)
        if mark != self._doubted:
            self._doubted = mark
            self._on_doubt(f"{self._wanted.name}: {text}")
        raise WrongPeer(text)

    async def greet(self, link: PeerLink) -> None:
        """The first exchange on a new connection: who are you, what do you hold. Raises as ``PeerLink.ask`` does."""
        try:
            answer = await self._ask(link, "hello", self._limits.connect_timeout_s)
        except WrongPeer as error:
            raise RemoteError(str(error)) from None
        self._replicator.learn_peer(await self._peer_manifest(link, str(answer["manifest"])))
        if self.peer is not None:
            self._ledger.see_generation(self.peer.generation)
        self._replicator.retry_now()

    async def _ask(self, link: PeerLink, op: str, limit_s: float) -> Message:
        """Exchanges signs of life, and takes in the peer's. Raises as ``PeerLink.ask`` does, and ``WrongPeer``."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        answer = await link.ask({"op": op, **self.summary()}, limit_s)
        self.learn(answer, took_s=loop.time() - began)
        return answer

    async def _peer_manifest(self, link: PeerLink, manifest_hash: str) -> Manifest:
        ledger, own = self._ledger, self._view.manifest
        if own.hash == manifest_hash:
            if self._standing.owns:
                ledger.agree(own, ledger.known, ledger.generation)
            return own
        if ledger.agreed.hash == manifest_hash:
            return ledger.agreed
        answer = await link.ask({"op": "manifest"}, MANIFEST_WAIT_S)
        return read_rows(answer)

    async def heartbeat(self) -> None:
        """Exchanges signs of life until cancelled, so that a silent peer is noticed before it is needed."""
        every = self._limits.heartbeat_s
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(every):
                    await self._asked.wait()
            self._asked.clear()
            if not self._link.is_up:
                continue
            try:
                await self._exchange(3 * every)
            except Disconnected:
                # It has ended by itself, and there may be a new one by now.
                continue
            except TimeoutError:
                self._link.give_up(f"silent for {3 * every:g} s")
            except (RemoteError, WrongPeer) as error:
                self._link.give_up(str(error))

    async def _exchange(self, limit_s: float) -> None:
        """Asks for a sign of life, and sees to it that a standby holds what it is believed to hold."""
        moment = self._replicator.moment
        await self._ask(self._link, "ping", limit_s)
        peer = self.peer
        if peer is not None:
            await self._replicator.hear_holding(peer.manifest_hash, peer.role, moment)

    async def ask_role(self, timeout_s: float) -> Role | None:
        """The peer's role as it is now; None where it does not answer."""
        if not self._link.is_up:
            return None
        try:
            await self._ask(self._link, "ping", timeout_s)
        except (Disconnected, RemoteError, TimeoutError, WrongPeer):
            return None
        return self.peer.role if self.peer else None

    async def query_status(self, *, known: bool = False) -> NodeJson:
        """The peer's own account of itself, or what is known of it where it cannot be asked.

        ``known``: of its programs, what it knows by events will do.
        """
        problem = self._link.problem
        if self._link.is_up:
            try:
                answer = await self._link.ask({"op": "status", **({"known": True} if known else {})}, STATUS_WAIT_S)
                account: NodeAccountJson = answer["node"]
                return account
            except (Disconnected, RemoteError, TimeoutError) as error:
                problem = str(error) or f"no answer within {STATUS_WAIT_S:g} s"
        last: SilentNodeJson = {
            "name": self._wanted.name,
            "reachable": False,
            "problem": problem,
            "since": round(self._link.since_wall, 3),
        }
        if self.peer is not None:
            last["role"], last["vrrp_state"] = self.peer.role.value, self.peer.vrrp_state.value
            last["epoch"], last["generation"] = self.peer.mark.epoch, self.peer.generation
            last["heard_at"] = round(self.peer.heard_wall, 3)
        return last
