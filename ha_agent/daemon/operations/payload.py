"""Operations of the payload: an operator has it copied now, and the peer offers its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ha_agent.core.answers import PayloadSyncAnswer
from ha_agent.core.payload_list import PayloadAnswer
from ha_agent.core.payload_rules import PayloadRules, split
from ha_agent.core.payload_status import Sent
from ha_agent.core.requests import PayloadOfferRequest, PayloadSyncRequest
from ha_agent.core.words import Outcome
from ha_agent.daemon.operations.call import Call
from ha_agent.daemon.payload.payload import NoPayload, Payload
from ha_agent.daemon.payload.sender import Ask

OFF = "[payload] in agent.toml names nothing to replicate (docs/payload.md)"


class PayloadOperations:
    """For one group on this node."""

    def __init__(self, payload: NoPayload) -> None:
        self._payload = payload

    async def sync(self, request: PayloadSyncRequest, call: Call) -> PayloadSyncAnswer:
        """Copies what the peer lacks, and answers when it has all, or why not."""
        payload = self._payload
        if not isinstance(payload, Payload):
            return {"outcome": Outcome.REFUSED, "reason": OFF}
        if request.below and (reason := find_outside(request.below, payload.rules)):
            return {"outcome": Outcome.REFUSED, "reason": reason}

        def tell(sent: Sent) -> None:
            call.progress({"bytes_done": sent.bytes_done, "bytes_all": sent.bytes_all})

        ask = Ask(request.accept_deletes, request.accept_running)
        outcome, reason = await payload.sender.sync(ask, call.by, request.timeout_s, tell)
        if outcome is not Outcome.IN_SYNC:
            return {"outcome": outcome, "reason": reason}
        return {"outcome": outcome, "files": payload.sender.sent.files, "bytes": payload.sender.sent.bytes}

    async def offer(self, request: PayloadOfferRequest, _call: Call) -> Mapping[str, Any]:
        """The peer is active and says what it holds."""
        if not isinstance(self._payload, Payload):
            return {"answer": PayloadAnswer.OFF.value, "reason": OFF}
        return await self._payload.receiver.receive(request)


def find_outside(path: str, rules: PayloadRules) -> str | None:
    """Why ``path`` is not replicated; None where it, or something below it, is."""
    if rules.is_excluded(path):
        return f"{path} is excluded in [payload]"
    names = split(path)
    if rules.find_root(path) is None and not any(split(pattern)[: len(names)] == names for pattern in rules.patterns):
        return f"{path} is not below [payload] paths: name it in agent.toml of both nodes, and reload them"
    return None
