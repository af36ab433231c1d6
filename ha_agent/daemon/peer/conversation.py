"""Everything between the two agents but the changes themselves: greeting, signs of life, and the interlock's answer."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

from ha_agent.adapters.rpc import Disconnected, Handler, Malformed, Progress, RemoteError
from ha_agent.adapters.ssh import PeerLink
from ha_agent.core.frames import Message
from ha_agent.core.manifest import Manifest
from ha_agent.core.peer_summary import PeerSummary, WrongPeer, summary_message
from ha_agent.core.plans import outranks
from ha_agent.core.transaction import Watermark
from ha_agent.core.words import OWNING_ROLES, Role, VrrpState
from ha_agent.daemon.operations.node import HANDED_ON, NodeService
from ha_agent.daemon.operations.status import describe_node

if TYPE_CHECKING:
    from ha_agent.daemon.agent import Agent

MANIFEST_WAIT_S = 30.0
STATUS_WAIT_S = 0.6


def parse_mark(message: Message) -> Watermark:
    """The claim in a request. Raises ``Malformed``."""
    epoch, claimed_by = message.get("epoch"), message.get("claimed_by")
    if not (isinstance(epoch, int) and 0 <= epoch < 2**63 and isinstance(claimed_by, str) and len(claimed_by) < 64):
        raise Malformed("epoch and claimed_by are no claim")
    return Watermark(epoch, claimed_by)


class PeerService:
    """Speaks with the peer for one agent: asks over its own link, answers what comes in over the peer's."""

    def __init__(self, agent: Agent, node: NodeService) -> None:
        self._agent = agent
        self._asked = asyncio.Event()
        on_programs = {**agent.program_queries.handlers, **agent.program_service.handlers}
        self.handlers: dict[str, Handler] = {
            **node.handlers,
            **{name: handler for name, handler in on_programs.items() if name in HANDED_ON},
            "hello": self._serve_hello,
            "ping": self._serve_ping,
            "status": self._serve_status,
            "manifest": self._serve_manifest,
            "transaction": self._serve_transaction,
            "release": self._serve_release,
        }

    def ask_now(self) -> None:
        """Exchanges signs of life at once, or connects at once."""
        self._asked.set()
        self._agent.link.nudge()

    def summary(self) -> dict[str, Any]:
        """This node's signs of life."""
        agent = self._agent
        ledger = agent.ledger
        return summary_message(
            agent.node,
            agent.standing.role,
            agent.standing.vrrp_state,
            ledger.known,
            ledger.generation,
            agent.view.manifest.hash,
        )

    def learn(self, raw: Message) -> None:
        """Takes in the peer's signs of life. Raises ``WrongPeer``."""
        agent = self._agent
        summary = PeerSummary.parse(raw, time.time())
        wanted = agent.settings.peer
        if summary.node != wanted.name:
            raise WrongPeer(f"the node at {wanted.address} calls itself {summary.node!r}, not {wanted.name!r}")
        changed = agent.peer is None or agent.peer.role is not summary.role
        agent.peer = summary
        if not agent.standing.owns:
            agent.ledger.learn(summary.mark)
        if changed:
            agent.wake()

    async def greet(self, link: PeerLink) -> None:
        """The first exchange on a new connection: who are you, what do you hold. Raises as ``PeerLink.ask`` does."""
        agent = self._agent
        try:
            answer = await link.ask({"op": "hello", **self.summary()}, agent.settings.link.connect_timeout_s)
            self.learn(answer)
        except WrongPeer as error:
            raise RemoteError(str(error)) from None
        agent.replicator.learn_peer(await self._peer_manifest(link, str(answer["manifest"])))
        agent.ledger.see_generation(int(answer["generation"]))
        agent.replicator.retry_now()

    async def _peer_manifest(self, link: PeerLink, manifest_hash: str) -> Manifest:
        agent = self._agent
        own = agent.view.manifest
        if own.hash == manifest_hash:
            if agent.standing.role in OWNING_ROLES:
                agent.ledger.agree(own, agent.ledger.known, agent.ledger.generation)
            return own
        if agent.ledger.agreed.hash == manifest_hash:
            return agent.ledger.agreed
        answer = await link.ask({"op": "manifest"}, MANIFEST_WAIT_S)
        return Manifest.from_rows(answer["rows"])

    async def heartbeat(self) -> None:
        """Exchanges signs of life until cancelled, so that a silent peer is noticed before it is needed."""
        agent = self._agent
        every = agent.settings.link.heartbeat_s
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), every)
            self._asked.clear()
            if not agent.link.is_up:
                continue
            try:
                self.learn(await agent.link.ask({"op": "ping", **self.summary()}, 3 * every))
            except TimeoutError:
                agent.link.give_up(f"silent for {3 * every:g} s")
            except (Disconnected, RemoteError, WrongPeer) as error:
                agent.link.give_up(str(error))

    async def ask_role(self, timeout_s: float) -> Role | None:
        """The peer's role as it is now; None where it does not answer."""
        agent = self._agent
        if not agent.link.is_up:
            return None
        try:
            self.learn(await agent.link.ask({"op": "ping", **self.summary()}, timeout_s))
        except (Disconnected, RemoteError, TimeoutError, WrongPeer):
            return None
        return agent.peer.role if agent.peer else None

    async def query_status(self) -> dict[str, Any]:
        """The peer's own account of itself, or what is known of it where it cannot be asked."""
        agent = self._agent
        problem = agent.link.problem
        if agent.link.is_up:
            try:
                answer = await agent.link.ask({"op": "status"}, STATUS_WAIT_S)
                return {**answer["node"], "reachable": True}
            except (Disconnected, RemoteError, TimeoutError) as error:
                problem = str(error) or f"no answer within {STATUS_WAIT_S:g} s"
        last: dict[str, Any] = {"name": agent.settings.peer.name, "reachable": False, "problem": problem}
        last["since"] = round(agent.link.since_wall, 3)
        if agent.peer is not None:
            last.update(
                role=agent.peer.role.value,
                vrrp_state=agent.peer.vrrp_state.value,
                epoch=agent.peer.mark.epoch,
                generation=agent.peer.generation,
                heard_at=round(agent.peer.heard_wall, 3),
            )
        return last

    async def _serve_hello(self, message: Message, progress: Progress) -> Message:
        self._agent.link.nudge()
        return await self._serve_ping(message, progress)

    async def _serve_ping(self, message: Message, _progress: Progress) -> Message:
        with contextlib.suppress(WrongPeer):
            self.learn(message)
        return self.summary()

    async def _serve_status(self, _message: Message, _progress: Progress) -> Message:
        return {"node": await describe_node(self._agent)}

    async def _serve_manifest(self, _message: Message, _progress: Progress) -> Message:
        return await self._agent.receiver.answer_manifest()

    async def _serve_transaction(self, message: Message, _progress: Progress) -> Message:
        return await self._agent.receiver.receive(message.get("txn"))

    async def _serve_release(self, message: Message, progress: Progress) -> Message:
        """The interlock: answers when nothing of the registry is left running here, or why that will not be.

        A node that is active and that its own keepalived goes on to call MASTER refuses: in a dual master with a working
        link the node that is active already stays it, because that moves no program. Of two that take over at once the
        lower claim gives way.
        """
        agent, limits = self._agent, self._agent.settings.takeover
        asking = parse_mark(message)
        progress({"heard": True, "role": agent.standing.role.value})
        agent.wake()
        patience = agent.loop.time() + limits.dual_master_s
        limit = agent.loop.time() + limits.interlock_timeout_s
        while agent.loop.time() < limit:
            if agent.standing.role is Role.STANDBY:
                agent.ledger.learn(asking)
                return {"outcome": "released"}
            if agent.maintenance.is_on:
                return {"outcome": "maintenance"}
            if agent.standing.role is Role.FENCED:
                return {"outcome": "left-running", "left": agent.standing.left_running}
            owning_master = agent.standing.role in OWNING_ROLES and agent.standing.vrrp_state is VrrpState.MASTER
            if owning_master and agent.loop.time() >= patience:
                if agent.standing.role is Role.ACTIVE or not outranks(asking, agent.standing.claim):
                    return {"outcome": "refused"}
                agent.give_way("the peer takes over at the same time with a higher claim")
            wait = (patience if owning_master else limit) - agent.loop.time()
            await agent.standing.wait_change(max(0.01, wait))
        return {"outcome": "timeout"}
