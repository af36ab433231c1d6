"""What the peer's agent asks: signs of life, this node's status and manifest, a change to commit, the interlock."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from ha_agent.adapters.ssh import PeerLink
from ha_agent.core.answers import HoldingAnswer, NodeAnswer
from ha_agent.core.peer_summary import WrongPeer
from ha_agent.core.reasons import reason_of
from ha_agent.core.requests import (
    LetGoRequest,
    Malformed,
    ManifestRequest,
    PayloadRequest,
    ReleaseRequest,
    StatusRequest,
    SummaryRequest,
    TransactionRequest,
    VoteRequest,
)
from ha_agent.core.transaction import MOST_EPOCH, Watermark
from ha_agent.core.vote_frames import answer_message, is_sound
from ha_agent.core.voter import Ask, LetGo
from ha_agent.daemon.drift.watch import NoDrift
from ha_agent.daemon.operations.call import Call
from ha_agent.daemon.operations.status import StatusReporter
from ha_agent.daemon.peer.conversation import Conversation
from ha_agent.daemon.peer.interlock import Interlock
from ha_agent.daemon.replication.receiver import Receiver
from ha_agent.daemon.role.maintenance import Maintenance
from ha_agent.daemon.role.patrol import Patrol
from ha_agent.daemon.votes.votes import NoVotes, Votes
from ha_agent.daemon.waker import Waker

MAX_NODE_NAME = 64


class PeerOperations:
    """``give_way`` has keepalived give up MASTER here. ``peer``: the name of the other node, which alone asks for a vote."""

    def __init__(
        self,
        conversation: Conversation,
        interlock: Interlock,
        receiver: Receiver,
        patrol: Patrol,
        status: StatusReporter,
        maintenance: Maintenance,
        link: PeerLink,
        waker: Waker,
        give_way: Callable[[str], None],
        votes: NoVotes,
        peer: str,
        drift: NoDrift,
    ) -> None:
        self._votes, self._peer, self._drift = votes, peer, drift
        self._conversation, self._interlock, self._receiver = conversation, interlock, receiver
        self._patrol, self._status, self._maintenance, self._link = patrol, status, maintenance, link
        self._waker, self._give_way = waker, give_way

    async def hello(self, request: SummaryRequest, call: Call) -> Mapping[str, Any]:
        """The greeting on the peer's new connection: it can be reached, so this node's own link is tried at once."""
        self._link.nudge()
        return await self.ping(request, call)

    async def ping(self, request: SummaryRequest, _call: Call) -> Mapping[str, Any]:
        """Exchanges signs of life."""
        with contextlib.suppress(WrongPeer):
            self._conversation.learn(dict(request.summary), is_answer=False)
        return self._conversation.summary()

    async def status(self, request: StatusRequest, _call: Call) -> NodeAnswer:
        """This node's account of itself."""
        return {"node": await self._status.describe(fresh=not request.known)}

    async def manifest(self, request: ManifestRequest, _call: Call) -> HoldingAnswer:
        """What this node's registry holds, as it is known, or as it is on the disk now."""
        manifest = await (self._receiver.look() if request.look else self._receiver.glance())
        rows = None if manifest.hash == request.known else manifest.to_rows()
        return {"hash": manifest.hash, "rows": rows}

    async def payload(self, request: PayloadRequest, _call: Call) -> Mapping[str, Any]:
        """What this node has of the files that programs need: digests, for the peer's agent alone."""
        return await self._drift.answer(request.known, request.mine)

    async def transaction(self, request: TransactionRequest, _call: Call) -> Mapping[str, Any]:
        """Judges and commits one change of the registry."""
        return await self._receiver.receive(request.txn)

    async def release(self, request: ReleaseRequest, call: Call) -> Mapping[str, Any]:
        """The interlock: answers when nothing of the registry is left running here, or why that will not be."""
        if not 0 <= request.epoch < MOST_EPOCH or len(request.claimed_by) >= MAX_NODE_NAME:
            raise Malformed("release: epoch and claimed_by are no claim")
        return await self._interlock.answer(
            Watermark(request.epoch, request.claimed_by),
            call.progress,
            is_clear=self._patrol.is_clear,
            in_maintenance=lambda: self._maintenance.is_on,
            give_way=self._give_way,
            wake=self._waker.wake,
        )

    async def vote(self, request: VoteRequest, _call: Call) -> Mapping[str, Any]:
        """The peer asks for this node's vote; a promise is in the note before the answer leaves."""
        asked = request
        if asked.holder != self._peer or not is_sound(asked.holder, asked.boot, asked.number, asked.ttl_s):
            raise Malformed("vote: that is no question of the peer's")
        ask = Ask(asked.holder, asked.boot, asked.number, asked.ttl_s, asked.holds)
        try:
            return answer_message(self._find_votes().hear_ask(ask))
        except OSError as error:
            raise Malformed(f"vote: the note of it cannot be kept: {reason_of(error)}") from None

    async def let_go_vote(self, request: LetGoRequest, _call: Call) -> Mapping[str, Any]:
        """The peer counts no promise of this node's any more."""
        if request.holder != self._peer or not is_sound(request.holder, request.boot, request.number):
            raise Malformed("vote-let-go: that is no word of the peer's")
        self._find_votes().hear_let_go(LetGo(request.holder, request.boot, request.number))
        return {}

    def _find_votes(self) -> Votes:
        if not isinstance(self._votes, Votes):
            raise Malformed("there is no witness in this node's configuration, so it gives no vote")
        return self._votes
