"""The active node's end of payload replication: looks now and then, and offers what it holds until the peer has it.

Nothing waits for it but who asked for it. A conf, a takeover and a release go their own ways.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ha_agent.adapters.payload_commit import PayloadCommitter
from ha_agent.adapters.payload_scan import Scan, ScanFailed
from ha_agent.adapters.rpc import Disconnected, RemoteError
from ha_agent.adapters.ssh import PeerLink, TransferFailed
from ha_agent.core.frames import Message
from ha_agent.core.payload_list import Kind, Listing, PayloadAnswer, PayloadEntry
from ha_agent.core.payload_status import STUCK, PayloadState, Sent
from ha_agent.core.reasons import reason_of
from ha_agent.core.settings import PayloadSettings
from ha_agent.core.words import Outcome, Role
from ha_agent.daemon.events import Events
from ha_agent.daemon.payload.holding import PayloadHolding
from ha_agent.daemon.replication.ledger import Ledger
from ha_agent.daemon.standing import Standing

log = logging.getLogger(__name__)

ANSWER_S = 3600.0
"""The peer may have to read all of a payload for the first time."""

CONFIRM_S = 60.0
"""What the peer was heard to hold is asked again after this time: somebody may have changed it there."""

BATCH_BYTES = 32 << 20
BATCH_FILES = 500
LEAST_RATE = 1 << 20
"""Bytes a second: a copy that is slower for its whole length is given up and begun again with the next look."""

QUIET_S = 5.0
"""After a change of role, before the first look."""

TELL_S = 60.0
"""Between two events that say that the peer has all."""

LEAST_COPY_S = 600.0
MOST_REPEATS = 5
"""After so many answers by which the peer lacks no less than before, the look is given up."""

Tell = Callable[[Sent], None]


@dataclass(frozen=True, slots=True)
class Ask:
    """What somebody wants of a look: ``accept_deletes`` and ``accept_running`` are an operator's words for this one."""

    accept_deletes: bool = False
    accept_running: bool = False

    def __str__(self) -> str:
        words = ("many deletions", self.accept_deletes), ("files that processes run from", self.accept_running)
        return " and ".join(text for text, said in words if said)


class PayloadSender:
    """``outgoing``: a directory for what goes out. ``clock``: monotonic, ``wall``: wall clock seconds."""

    def __init__(
        self,
        peer: str,
        settings: PayloadSettings,
        outgoing: str,
        standing: Standing,
        ledger: Ledger,
        holding: PayloadHolding,
        committer: PayloadCommitter,
        link: PeerLink,
        events: Events,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._peer, self._settings, self._outgoing = peer, settings, outgoing
        self._standing, self._ledger, self._holding, self._committer = standing, ledger, holding, committer
        self._link, self._events, self._clock, self._wall = link, events, clock, wall
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()
        self._left = asyncio.Event()
        """Set while this node is known not to be active: a copy under way ends."""
        self._acked: Listing | None = None
        self._acked_mono = self._quiet_until_mono = self._told_mono = float("-inf")
        self.sent = Sent()
        """What is known of this end, for the account."""

    def sweep(self) -> None:
        """Removes what a copy that was cut off has left in ``outgoing``. Raises nothing."""
        with contextlib.suppress(OSError):
            for name in os.listdir(self._outgoing):
                if "-" in name:
                    shutil.rmtree(os.path.join(self._outgoing, name), ignore_errors=True)

    def hear_transition(self, role: Role) -> None:
        """The role has become ``role``: programs may be starting, and a look that reads all files would hold them up."""
        self._quiet_until_mono = self._clock() + QUIET_S
        if role is Role.ACTIVE:
            self._left.clear()
        else:
            self._left.set()
        self.wake()

    def wake(self) -> None:
        """Has a look made soon: the link is up, or the role has changed."""
        self._acked_mono = float("-inf")
        self._wake.set()

    async def run(self) -> None:
        """Works until cancelled."""
        while True:
            if self._standing.role is Role.ACTIVE:
                await asyncio.sleep(max(0.0, self._quiet_until_mono - self._clock()))
                await self.look()
            else:
                self._acked, self.sent = None, Sent()
            try:
                async with asyncio.timeout(self._settings.interval_s):
                    await self._wake.wait()
            except TimeoutError:
                continue
            self._wake.clear()

    async def look(self) -> None:
        """Looks once, and copies what has changed."""
        async with self._lock:
            await self._look(Ask(), None)

    async def sync(self, ask: Ask, by: str, limit_s: float, tell: Tell) -> tuple[Outcome, str]:
        """Looks and copies now; returns what became of it, and why where it was not done. ``tell`` hears of progress."""
        if self._standing.role is not Role.ACTIVE:
            return Outcome.REFUSED, f"this node is {self._standing.role.value}; run it on the active one"
        if ask.accept_deletes or ask.accept_running:
            self._events.add("payload-confirmed", f"an operator confirmed: {ask}", by=by)
        try:
            async with asyncio.timeout(limit_s), self._lock:
                self._acked_mono = float("-inf")
                await self._look(ask, tell)
        except TimeoutError:
            return Outcome.TIMED_OUT, f"not done after {limit_s:g} s; it goes on by itself"
        finally:
            self._wake.set()
        outcome = _OUTCOMES.get(self.sent.state, Outcome.FAILED)
        return outcome, self.sent.reason or ""

    # ---- one look -----------------------------------------------------------------------------------------

    async def _look(self, ask: Ask, tell: Tell | None) -> None:
        sent = self.sent
        if not self._link.is_up:
            self._rest(PayloadState.UNREACHABLE, self._link.problem)
            return
        rules = self._holding.find_rules()
        if not rules.patterns:
            # No conf names a file (yet).
            sent.state, sent.reason, sent.pending, sent.pending_since_wall = PayloadState.IN_SYNC, None, 0, None
            return
        try:
            scan = await self._holding.look(rules)
        except ScanFailed as error:
            self._rest(PayloadState.REFUSED, str(error))
            return
        sent.files, sent.bytes, sent.problems = scan.listing.files, scan.listing.bytes, scan.problems
        if self._acked is not None:
            sent.pending = await asyncio.to_thread(_count_differences, self._acked, scan.listing)
        is_fresh = self._clock() - self._acked_mono < CONFIRM_S
        if self._acked is not None and self._acked.hash == scan.listing.hash and is_fresh:
            return
        try:
            await self._offer(scan, ask, tell)
        except (Disconnected, TimeoutError) as error:
            self._rest(PayloadState.UNREACHABLE, str(error) or "no answer in time")
        except RemoteError as error:
            self._rest(PayloadState.REFUSED, f"{self._peer}: {error}")
        except (TransferFailed, OSError) as error:
            self._rest(PayloadState.PENDING, reason_of(error))

    async def _offer(self, scan: Scan, ask: Ask, tell: Tell | None) -> None:
        """Asks until the peer has all, or says why not. Raises as ``PeerLink.ask`` and ``PeerLink.transfer_files`` do."""
        listing, text, left, repeats = scan.listing, None, 0, 0
        files = await asyncio.to_thread(_find_files, listing)
        mark = self._ledger.known
        while self._standing.role is Role.ACTIVE and self._ledger.known == mark:
            message: Message = {
                "op": "payload-offer",
                "epoch": mark.epoch,
                "claimed_by": mark.claimed_by,
                "hash": listing.hash,
                "listing": text,
                "accept_deletes": ask.accept_deletes,
                "accept_running": ask.accept_running,
            }
            answer = await self._link.ask(message, ANSWER_S)
            kind = answer.get("answer")
            if kind == PayloadAnswer.NEED_LIST and text is None:
                text = await asyncio.to_thread(listing.encode)
                continue
            text = None
            if kind != PayloadAnswer.WANTS:
                await self._take_end(answer, listing)
                return
            repeats = repeats + 1 if left and int(answer["left"]) >= left else 0
            left = int(answer["left"])
            if repeats >= MOST_REPEATS:
                self._rest(PayloadState.PENDING, f"{left} files change faster than they can be copied")
                return
            self._note_pending(int(answer["moves"]), PayloadState.COPYING)
            await self._copy(listing.hash[:16], answer, files, tell)

    async def _copy(self, staging: str, answer: Message, files: Mapping[str, PayloadEntry], tell: Tell | None) -> None:
        """Brings what the peer wants into its staging directory, in parts, so that progress can be told."""
        sent = self.sent
        wants = [sha for sha in answer["wants"] if sha in files]
        sent.bytes_all = sent.bytes_done + int(answer["bytes"])
        while wants:
            part, size = [wants.pop()], 0
            size += files[part[0]].size
            while wants and len(part) < BATCH_FILES and size + files[wants[-1]].size <= BATCH_BYTES:
                size += files[wants[-1]].size
                part.append(wants.pop())
            limit_s = max(LEAST_COPY_S, size / LEAST_RATE)
            await self._transfer(staging, {sha: files[sha].path for sha in part}, limit_s)
            sent.bytes_done += size
            if tell is not None:
                tell(sent)

    async def _transfer(self, staging: str, files: Mapping[str, str], limit_s: float) -> None:
        """Copies one part; a node that is no longer active breaks it off. Raises ``TransferFailed``."""
        copy = asyncio.ensure_future(self._link.transfer_files(self._outgoing, staging, files, limit_s))
        left = asyncio.ensure_future(self._left.wait())
        try:
            await asyncio.wait((copy, left), return_when=asyncio.FIRST_COMPLETED)
            if not copy.done():
                raise TransferFailed("this node is no longer active")
            copy.result()
        finally:
            copy.cancel()
            left.cancel()
            await asyncio.gather(copy, left, return_exceptions=True)

    # ---- what is known ------------------------------------------------------------------------------------

    async def _take_end(self, answer: Message, listing: Listing) -> None:
        kind, reason = answer.get("answer"), str(answer.get("reason", ""))
        if kind == PayloadAnswer.COMMITTED:
            sent = self.sent
            # Files that change all the time shall not push all else out of the history.
            if int(answer.get("moves", 0)) and self._clock() - self._told_mono >= TELL_S:
                self._told_mono = self._clock()
                self._events.add("payload-sent", f"{self._peer} has the payload: {listing.files} files", bytes=listing.bytes)
            is_new = self._acked is None or self._acked.hash != listing.hash
            self._acked, self._acked_mono = listing, self._clock()
            sent.state, sent.reason, sent.pending, sent.pending_since_wall = PayloadState.IN_SYNC, None, 0, None
            sent.at_wall, sent.bytes_done, sent.bytes_all = self._wall(), 0, 0
            if is_new:
                await asyncio.to_thread(self._write_agreed, listing)
            return
        if "moves" in answer:
            self._note_pending(int(answer["moves"]), self.sent.state)
        state = PayloadState.HELD if kind == PayloadAnswer.HELD else PayloadState.REFUSED
        self._rest(state, f"{self._peer}: {reason}")

    def _write_agreed(self, listing: Listing) -> None:
        self._committer.write_agreed({e.path: e.content for e in listing})

    def _note_pending(self, count: int, state: PayloadState) -> None:
        self.sent.pending, self.sent.state = count, state
        if self.sent.pending_since_wall is None:
            self.sent.pending_since_wall = self._wall()

    def _rest(self, state: PayloadState, reason: str) -> None:
        """The look ends without the peer having all."""
        sent = self.sent
        if state in STUCK and reason != sent.reason:
            log.warning("payload: %s", reason)
            self._events.add("payload-held", reason)
        sent.state, sent.reason, sent.bytes_done, sent.bytes_all = state, reason, 0, 0
        if sent.pending_since_wall is None and state is not PayloadState.UNREACHABLE:
            sent.pending_since_wall = self._wall()


_OUTCOMES: Mapping[PayloadState, Outcome] = {
    PayloadState.IN_SYNC: Outcome.IN_SYNC,
    PayloadState.HELD: Outcome.HELD,
    PayloadState.REFUSED: Outcome.REFUSED_BY_PEER,
    PayloadState.UNREACHABLE: Outcome.UNREACHABLE,
}


def _find_files(listing: Listing) -> dict[str, PayloadEntry]:
    """A file for each content."""
    return {e.content: e for e in listing if e.kind is Kind.FILE}


def _count_differences(one: Listing, other: Listing) -> int:
    """How many paths the two have otherwise."""
    mine, theirs = one.by_path, other.by_path
    changed = sum(1 for path, entry in mine.items() if path not in theirs or theirs[path].key != entry.key)
    return changed + sum(1 for path in theirs if path not in mine)
