"""Operations that concern both nodes: the status of the pair, bringing the peer up to date, asking it on a user's behalf."""

from __future__ import annotations

import asyncio

from ha_agent.adapters.rpc import Disconnected, RemoteError
from ha_agent.adapters.ssh import PeerLink
from ha_agent.core.answers import AtPeerAnswer, ManifestAnswer, StatusAnswer, SyncAnswer
from ha_agent.core.requests import AtPeerRequest, Request, StatusRequest, SyncRequest
from ha_agent.core.width import count_text
from ha_agent.core.words import Outcome, Role
from ha_agent.daemon.events import Events
from ha_agent.daemon.operations.call import Call
from ha_agent.daemon.operations.status import StatusReporter
from ha_agent.daemon.peer.conversation import Conversation
from ha_agent.daemon.replication.acknowledgement import LINK_S, Acknowledger
from ha_agent.daemon.replication.receiver import Receiver
from ha_agent.daemon.replication.replicator import Replicator
from ha_agent.daemon.replication.view import RegistryView
from ha_agent.daemon.standing import Standing

BACK_S = 3.0
"""An agent that begins again is back within one on a busy machine; a peer that is gone is reported that much later, once."""


class PairOperations:
    """``peer``: the name of the other node."""

    def __init__(
        self,
        peer: str,
        standing: Standing,
        view: RegistryView,
        receiver: Receiver,
        replicator: Replicator,
        acknowledger: Acknowledger,
        conversation: Conversation,
        link: PeerLink,
        status: StatusReporter,
        events: Events,
    ) -> None:
        self._peer, self._standing, self._view = peer, standing, view
        self._receiver, self._replicator, self._acknowledger = receiver, replicator, acknowledger
        self._conversation, self._link, self._status, self._events = conversation, link, status, events

    async def status(self, request: StatusRequest, _call: Call) -> StatusAnswer:
        """Both nodes' accounts of themselves, this node's first."""
        own, peer = await asyncio.gather(
            self._status.describe(fresh=not request.known), self._conversation.query_status(known=request.known)
        )
        return {"nodes": [own, peer]}

    async def manifest(self, _request: Request, _call: Call) -> ManifestAnswer:
        """The manifest of the registry as it is now, not as it was last looked at."""
        await self._view.compare_now()
        return {"rows": self._receiver.manifest_rows()}

    async def sync(self, request: SyncRequest, call: Call) -> SyncAnswer:
        """Compares everything, pushes, and answers when the peer has it, or why not."""
        if self._standing.role is not Role.ACTIVE:
            reason = f"this node is {self._standing.role.value}; run it on the active one"
            return {"outcome": Outcome.REFUSED, "reason": reason}
        if request.full:
            self._view.forget()
        await self._view.compare_now()
        if request.accept_deletes and not await self._accept_deletes(call.by):
            problem = self._link.problem or "it has just come back"
            reason = f"{self._peer} cannot be reached ({problem}): no deletion was accepted; say it again when it is back"
            return {"outcome": Outcome.UNREACHABLE, "reason": reason}
        ack = await self._acknowledger.wait(limit_s=request.timeout_s)
        if ack.on_peer:
            return {"outcome": ack.outcome, "confs": len(self._view.manifest)}
        return {"outcome": ack.outcome, "reason": ack.detail}

    async def _accept_deletes(self, by: str) -> bool:
        """Takes an operator's word for the deletions that are due now; False where nobody knows what the peer holds."""
        if self._replicator.peer_manifest is None:
            await self._link.wait_change(LINK_S)
        if self._replicator.peer_manifest is None:
            return False
        paths = self._replicator.accept_deletes()
        if paths:
            text = f"an operator confirmed {count_text(len(paths), 'deletion')}: {', '.join(paths[:5])}"
            self._events.add("deletes-accepted", text, paths=list(paths[:20]), by=by)
        return True

    async def ask_peer(self, request: AtPeerRequest, call: Call) -> AtPeerAnswer:
        """Asks the peer what ``ask`` says, on behalf of this node's user; the right to it was looked at before.

        A link that was lost a moment ago is waited for, at the expense of the time for the answer.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + request.timeout_s
        if not await self._link.wait_back(min(BACK_S, request.timeout_s / 2)):
            return {"outcome": Outcome.UNREACHABLE, "reason": self._link.problem}
        asked = {**request.ask, "by": call.by, "access": call.access.value, "root": call.is_root}
        try:
            answer = await self._link.ask(asked, until - loop.time(), call.progress)
        except RemoteError as error:
            return {"outcome": Outcome.FAILED, "reason": f"{self._peer}: {error}"}
        except (Disconnected, TimeoutError) as error:
            # The question may lie in the connection and still arrive.
            silent = f"no answer within {request.timeout_s:g} s; whether it was done there is not known"
            return {"outcome": Outcome.UNREACHABLE, "reason": str(error) or silent}
        answer.pop("id", None)
        return {"outcome": Outcome.ANSWERED, "answer": answer}
