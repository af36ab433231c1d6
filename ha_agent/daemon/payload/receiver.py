"""The standby's end of payload replication: judges an offer, says which contents it lacks, and makes the change.

Accepts nothing unless this node is standby, nothing under an older epoch, and nothing outside of this node's own rules. An
offer is asked again until it is COMMITTED: each time everything is looked at anew, so that nothing depends on what an agent
before this one, or the peer's, had begun.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ha_agent.adapters.payload_commit import PayloadCommitter, PayloadNoSpace, PayloadRefused, PayloadReport
from ha_agent.adapters.payload_running import read_running
from ha_agent.adapters.payload_scan import ScanFailed
from ha_agent.core.frames import Message
from ha_agent.core.payload_list import BadListing, Listing, PayloadAnswer, decode_listing, judge_listing
from ha_agent.core.payload_plan import DeleteLimits, PayloadPlan, find_held, find_in_use, plan_payload
from ha_agent.core.payload_status import Received
from ha_agent.core.requests import PayloadOfferRequest
from ha_agent.core.transaction import Watermark, is_jump, jump_text
from ha_agent.core.words import Role
from ha_agent.daemon.events import Events
from ha_agent.daemon.payload.holding import PayloadHolding
from ha_agent.daemon.replication.ledger import Ledger
from ha_agent.daemon.standing import Standing

log = logging.getLogger(__name__)

MOST_WANTS = 2000
"""Contents that are asked for at once."""

TELL_S = 60.0
"""Between two events that say what has come: files that change all the time shall not push all else out of the history."""


class PayloadReceiver:
    """``spared``: names in the staging directory that the registry's replication leaves alone. ``wall``: in seconds."""

    def __init__(
        self,
        limits: DeleteLimits,
        standing: Standing,
        ledger: Ledger,
        holding: PayloadHolding,
        committer: PayloadCommitter,
        spared: set[str],
        events: Events,
        wall: Callable[[], float],
    ) -> None:
        self._limits, self._standing, self._ledger, self._holding = limits, standing, ledger, holding
        self._committer, self._spared, self._events, self._wall = committer, spared, events, wall
        self._lock = asyncio.Lock()
        self._offered: Listing | None = None
        self._told_wall = 0.0
        self.received = Received()
        """What is known of this end, for the account."""

    async def recover(self) -> None:
        """Takes away hidden files that a crash left."""
        swept = await asyncio.to_thread(self._committer.sweep)
        if swept:
            self._events.add("payload-swept", f"a copy of payload was cut off: {swept} unfinished files were taken away")

    async def receive(self, request: PayloadOfferRequest) -> Message:
        """Answers one offer; see ``PayloadAnswer``."""
        async with self._lock:
            try:
                answer = await self._judge(request)
            except PayloadNoSpace as error:
                answer = _say(PayloadAnswer.NO_SPACE, str(error))
            except (PayloadRefused, BadListing, ScanFailed) as error:
                answer = _say(PayloadAnswer.BAD, str(error))
            except OSError as error:
                answer = _say(PayloadAnswer.BAD, f"{error.filename or 'the payload'}: {error.strerror}")
        self._note(answer)
        return answer

    def _note(self, answer: Message) -> None:
        kind, reason = PayloadAnswer(answer["answer"]), str(answer.get("reason", ""))
        if kind in (PayloadAnswer.WANTS, PayloadAnswer.NEED_LIST):
            return
        refusal = None if kind is PayloadAnswer.COMMITTED else f"{kind.value}: {reason}"
        if refusal is not None and refusal != self.received.refusal:
            self._events.add("payload-refused", refusal)
        self.received.refusal = refusal

    def _why_not(self, request: PayloadOfferRequest | None) -> Message | None:
        """Why nothing is taken in, whatever it is; None where it is."""
        if request is not None:
            mark, known = Watermark(request.epoch, request.claimed_by), self._ledger.known
            if is_jump(mark, known):
                return _say(PayloadAnswer.BAD, jump_text(mark, known))
            if mark != known and mark.epoch <= known.epoch:
                return _say(PayloadAnswer.STALE, f"epoch {known.epoch} of {known.claimed_by} is known here")
        role = self._standing.role
        return None if role is Role.STANDBY else _say(PayloadAnswer.ACTIVE, f"this node is {role.value}")

    async def _judge(self, request: PayloadOfferRequest) -> Message:
        refused = self._why_not(request)
        if refused is not None:
            return refused
        rules = self._holding.find_rules()
        if not rules.patterns:
            return _say(PayloadAnswer.OFF, "[payload] of this node names nothing")
        if request.listing is not None:
            self._offered = await asyncio.to_thread(_read_listing, request.listing)
        wanted = self._offered
        if wanted is None or wanted.hash != request.hash:
            return _say(PayloadAnswer.NEED_LIST, "")
        fault = await asyncio.to_thread(judge_listing, wanted, rules)
        if fault is not None:
            return _say(PayloadAnswer.BAD, fault)
        here = (await self._holding.look(rules)).listing
        agreed = await asyncio.to_thread(self._committer.read_agreed)
        plan = await asyncio.to_thread(plan_payload, wanted, here, agreed.keys())
        self.received.foreign, self.received.files = len(plan.foreign), here.files
        if plan.is_done:
            await self._agree(wanted, agreed, frozenset())
            return {"answer": PayloadAnswer.COMMITTED.value, "moves": 0}
        held = await self._find_hold(request, plan, here)
        if held is not None:
            return {**_say(PayloadAnswer.HELD, held), "moves": len(plan.moves)}
        return await self._take(request, plan, wanted, here, agreed)

    async def _find_hold(self, request: PayloadOfferRequest, plan: PayloadPlan, here: Listing) -> str | None:
        """Why the plan waits for somebody."""
        if plan.blocked:
            path = plan.blocked[0]
            return f"{path} is a directory here and none on the active node: move it away on this node"
        if not request.accept_deletes:
            held = find_held(plan, here, self._holding.find_rules(), self._limits)
            if held is not None:
                return f"{held}; if that is meant: ha-agent payload sync --accept-deletes"
        if not request.accept_running:
            used = find_in_use(plan, await asyncio.to_thread(read_running))
            if used is not None:
                return f"{used}; if it may be replaced all the same: ha-agent payload sync --accept-running"
        return None

    async def _take(
        self, request: PayloadOfferRequest, plan: PayloadPlan, wanted: Listing, here: Listing, agreed: dict[str, str]
    ) -> Message:
        committer, staging = self._committer, request.hash[:16]
        self._spared.clear()
        self._spared.add(staging)
        await asyncio.to_thread(committer.adopt_staged, staging, plan.wants)
        lacking = committer.find_lacking(staging, plan.wants)
        if lacking:
            await asyncio.to_thread(committer.check_room, plan, wanted, lacking)
            asked = sorted(lacking)[:MOST_WANTS]
            return {
                "answer": PayloadAnswer.WANTS.value,
                "wants": asked,
                "left": len(lacking),
                "bytes": sum(lacking.values()),
                "moves": len(plan.moves),
            }
        # What a crash leaves of this is the peer's, too: it must be known as such when the peer deletes it.
        await asyncio.to_thread(committer.write_agreed, {**{e.path: "" for e in wanted}, **agreed})
        report = await asyncio.to_thread(
            committer.commit, plan, wanted, here, staging, request.epoch, self._wall(), self._find_stop
        )
        self._tell(plan, report)
        if report.left is not None:
            return {**_say(PayloadAnswer.ACTIVE, report.left), "moves": len(plan.moves) - report.done}
        await self._agree(wanted, agreed, frozenset(plan.deletes))
        self._spared.discard(staging)
        await asyncio.to_thread(committer.drop_staged, staging)
        return {"answer": PayloadAnswer.COMMITTED.value, "moves": len(plan.moves)}

    def _find_stop(self) -> str | None:
        """Asked from a thread before each step: no takeover waits, and nothing is swapped under programs that start."""
        refused = self._why_not(None)
        return None if refused is None else str(refused["reason"])

    async def _agree(self, wanted: Listing, agreed: dict[str, str], gone: frozenset[str]) -> None:
        """Notes what both nodes have. What the peer is silent about stays agreed on."""
        new = await asyncio.to_thread(_merge, wanted, agreed, gone)
        if new != agreed:
            await asyncio.to_thread(self._committer.write_agreed, new)
        self.received.at_wall = self._wall()

    def _tell(self, plan: PayloadPlan, report: PayloadReport) -> None:
        if report.done and abs(self._wall() - self._told_wall) >= TELL_S:
            self._told_wall = self._wall()
            first = ", ".join(move.path for move in plan.moves[:3])
            more = f" and {report.done - 3} more" if report.done > 3 else ""
            self._events.add("payload-received", f"{first}{more}", steps=report.done, kept=len(report.kept))
        if report.diverged:
            text = f"{len(report.diverged)} files of the payload that were changed here were replaced and kept"
            self._events.add("payload-diverged", text, paths=report.diverged[:20])


def _read_listing(text: str) -> Listing:
    """The list, with its hash found out. Raises ``BadListing``."""
    listing = decode_listing(text)
    _ = listing.hash
    return listing


def _merge(wanted: Listing, agreed: dict[str, str], gone: frozenset[str]) -> dict[str, str]:
    """What both nodes have from now on: the list, and of what it is silent about what they had."""
    silent = {path: content for path, content in agreed.items() if path not in gone and wanted.is_silent_about(path)}
    return {**silent, **{e.path: e.content for e in wanted}}


def _say(answer: PayloadAnswer, reason: str) -> Message:
    return {"answer": answer.value, "reason": reason}
