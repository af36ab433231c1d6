"""The active node's end of replication: sees that the peer comes to hold what this node holds, and says how far it is.

Must not write into any registry.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from ha_agent.adapters.rpc import Disconnected, RemoteError
from ha_agent.adapters.ssh import PeerLink, TransferFailed
from ha_agent.core.frames import Message
from ha_agent.core.manifest import Difference, Manifest, diff_manifests
from ha_agent.core.push import GuardLimits, PushPlan, plan_push
from ha_agent.core.settings import LinkSettings, RegistrySettings
from ha_agent.core.transaction import Transaction, Watermark
from ha_agent.core.words import Answer, Role
from ha_agent.daemon.events import Events
from ha_agent.daemon.replication.ledger import Ledger
from ha_agent.daemon.replication.view import RegistryView
from ha_agent.daemon.standing import Standing

log = logging.getLogger(__name__)

RETRY_S = 2.0
BULK_TIMEOUT_S = 600.0

INLINE_FILES = 16
"""Most files that are read and sent at once, without leaving the loop."""


@dataclass(slots=True)
class PushState:
    """What an operator may want to know of the replication to the peer."""

    held: str | None = None
    refused: str | None = None
    pushed: int = 0
    last_push_s: float | None = None
    pending_since_wall: float | None = None


class Replicator:
    """Pushes whenever this node is active and the two manifests differ. Woken by ``wake``; idle otherwise.

    ``outgoing``: a directory for what goes out by rsync. ``wall``: the wall clock, in seconds.
    """

    def __init__(
        self,
        registry: RegistrySettings,
        link_limits: LinkSettings,
        outgoing: str,
        standing: Standing,
        view: RegistryView,
        ledger: Ledger,
        link: PeerLink,
        events: Events,
        wall: Callable[[], float],
    ) -> None:
        self._registry, self._link_limits, self._outgoing = registry, link_limits, outgoing
        self._standing, self._view, self._ledger, self._link = standing, view, ledger, link
        self._events, self._wall = events, wall
        self._limits = GuardLimits(registry.mass_delete_fraction, registry.mass_delete_minimum)
        self.on_stale: list[Callable[[Message], None]] = []
        """Called with an answer by which the peer knows a newer epoch, or is active itself."""
        self._wake = asyncio.Event()
        self._not_before_mono = 0.0
        self._intent = False
        self._sending: asyncio.Task[None] | None = None
        self._full_in_a_row = 0
        self.peer_manifest: Manifest | None = None
        self._agreed_under: Watermark | None = None
        """The epoch under which the peer has answered last that it holds ``peer_manifest``; None since that was learnt."""
        self.state = PushState()
        self.progress = asyncio.Event()
        """Set (and replaced) whenever a push ended or the state changed, for those who wait for an acknowledgement."""

    def wake(self) -> None:
        """Says that something may have to be pushed. A small change is on its way when this returns."""
        if self._sending is None and self._can_push():
            sending = self._begin()
            if sending is not None:
                self._sending = asyncio.get_running_loop().create_task(self._finish(sending))
                return
        self._wake.set()

    def accept_deletes(self) -> None:
        """An operator's word that the deletions now held are meant."""
        self._intent = True
        self.state.held = None
        self._view.accept_device()
        self.retry_now()

    def retry_now(self) -> None:
        """Forgets a pause after a refusal."""
        self._not_before_mono = 0.0
        self.wake()

    def learn_peer(self, manifest: Manifest | None) -> None:
        """Notes what the peer holds (None: unknown). It counts when the peer has confirmed it under the present epoch."""
        self.peer_manifest, self._agreed_under = manifest, None
        self.wake()

    def pending(self) -> Difference | None:
        """What the peer lacks; None where it is not known what it holds."""
        if self.peer_manifest is None:
            return None
        lacks = diff_manifests(self.peer_manifest, self._wanted)
        return lacks if lacks or self._is_agreed else None

    @property
    def _wanted(self) -> Manifest:
        """What the peer shall hold: what this node holds, and of files that are refused here what the peer has of them."""
        mine, peer, refused = self._view.manifest, self.peer_manifest, self._view.refused
        if peer is None or not refused:
            return mine
        return mine.changed([e for path in refused if (e := peer.find(path))], [p for p in refused if p not in peer])

    @property
    def _is_agreed(self) -> bool:
        """Whether the peer has confirmed ``peer_manifest`` under the epoch that changes go out under.

        A peer that was active after its manifest was learnt may have changed it since.
        """
        return self._agreed_under == self._ledger.known

    async def run(self) -> None:
        """Works until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._sending is not None:
                continue
            self._note_pending()
            while self._can_push() and await self._push_once():
                self._note_pending()
            self._note_pending()
            self._tell()

    def _tell(self) -> None:
        done, self.progress = self.progress, asyncio.Event()
        done.set()

    def _note_pending(self) -> None:
        differs = self.peer_manifest != self._wanted or not self._is_agreed
        if not differs:
            self.state.pending_since_wall = None
        elif self.state.pending_since_wall is None:
            self.state.pending_since_wall = self._wall()

    def _can_push(self) -> bool:
        loop = asyncio.get_running_loop()
        if (
            not (self._link.is_up and self._standing.role is Role.ACTIVE and self.peer_manifest is not None)
            or self._view.unavailable
        ):
            return False
        if loop.time() < self._not_before_mono:
            loop.call_at(self._not_before_mono, self.wake)
            return False
        return True

    def _begin(self) -> tuple[PushPlan, Transaction, float] | None:
        """The transaction that can go out right now without waiting for anything; None where there is none."""
        plan = self._look()
        if not self._is_due(plan) or len(plan.changes) > INLINE_FILES:
            return None
        contents = self._collect(plan)
        if contents is None or sum(map(len, contents.values())) > self._link_limits.inline_max_bytes:
            return None
        return plan, self._make(plan, contents, None), asyncio.get_running_loop().time()

    async def _finish(self, sending: tuple[PushPlan, Transaction, float]) -> None:
        plan, txn, began = sending
        self._note_pending()
        try:
            await self._send(plan, txn, began)
        finally:
            self._sending = None
            self._note_pending()
            self._tell()
            self._wake.set()

    async def _push_once(self) -> bool:
        """Sends what the plan says; returns whether another look is worth it at once."""
        plan = self._look()
        if not self._is_due(plan):
            self._intent = False
            return False
        began = asyncio.get_running_loop().time()
        try:
            txn = await self._stage(plan)
        except Disconnected:
            # The peer has refused nothing; with the next connection it is tried again.
            return False
        except (RemoteError, TransferFailed) as error:
            self._pause(str(error))
            return False
        return txn is not None and await self._send(plan, txn, began)

    def _is_due(self, plan: PushPlan) -> bool:
        """Whether something goes out: changes, or the empty one by which a peer that seems to lack nothing confirms it."""
        return bool(plan.changes) or (self.peer_manifest == self._wanted and not self._is_agreed)

    def _look(self) -> PushPlan:
        plan = self._plan()
        self._note_held(plan)
        if plan.wait_for_deletes:
            asyncio.get_running_loop().call_later(self._registry.delete_settle_s, self.wake)
        return plan

    async def _send(self, plan: PushPlan, txn: Transaction, began: float) -> bool:
        try:
            answer = await self._link.ask({"op": "transaction", "txn": txn.to_dict()}, self._answer_timeout(txn))
        except TimeoutError:
            self._link.give_up("no answer to a change in time")
            return False
        except Disconnected:
            return False
        except RemoteError as error:
            self._pause(str(error))
            return False
        return self._take_answer(plan, txn, answer, began)

    def _plan(self) -> PushPlan:
        assert self.peer_manifest is not None
        settled_at = self._view.last_deletion_mono + self._registry.delete_settle_s
        settled = asyncio.get_running_loop().time() >= settled_at
        plan = plan_push(self.peer_manifest, self._wanted, self._limits, deletes_settled=settled, intent=self._intent)
        if self._view.foreign_device and plan.changes.deletes and not self._intent:
            held = "the registry is on another file system than before"
            return PushPlan(Difference(plan.changes.puts, ()), held=held)
        return plan

    def _note_held(self, plan: PushPlan) -> None:
        if plan.held and not self.state.held:
            text = f"deletions are not sent: {plan.held}; if they are meant: ha-agent sync --accept-deletes"
            self._events.add("registry-held", text)
            log.error("%s", text)
        self.state.held = plan.held

    def _answer_timeout(self, txn: Transaction) -> float:
        return self._link_limits.answer_timeout_s if txn.staging is None else BULK_TIMEOUT_S

    def _collect(self, plan: PushPlan) -> dict[str, bytes] | None:
        """The contents of the files that ``plan`` writes, by digest; None where the registry has moved on."""
        contents: dict[str, bytes] = {}
        for entry in plan.changes.puts:
            content = self._view.read_content(entry.path, entry.sha256)
            if content is None:
                return None
            contents[entry.sha256] = content
        return contents

    async def _stage(self, plan: PushPlan) -> Transaction | None:
        """The transaction of ``plan``, its larger contents already at the peer; None where the registry has moved on."""
        contents = await asyncio.to_thread(self._collect, plan)
        if contents is None:
            return None
        if sum(map(len, contents.values())) <= self._link_limits.inline_max_bytes:
            return self._make(plan, contents, None)
        staging = await self._link.transfer(self._outgoing, list(contents.items()), BULK_TIMEOUT_S)
        return self._make(plan, {}, staging)

    def _make(self, plan: PushPlan, contents: dict[str, bytes], staging: str | None) -> Transaction:
        assert self.peer_manifest is not None
        generation, known = self._ledger.next_generation(), self._ledger.known
        return Transaction(
            epoch=known.epoch,
            claimed_by=known.claimed_by,
            generation=generation,
            base=self.peer_manifest.hash,
            result=plan.result(self.peer_manifest).hash,
            puts=plan.changes.puts,
            deletes=plan.changes.deletes,
            contents=contents,
            staging=staging,
            intent=self._intent,
        )

    def _take_answer(self, plan: PushPlan, txn: Transaction, answer: Message, began: float) -> bool:
        kind, reason = answer.get("answer"), str(answer.get("reason", ""))
        if kind == Answer.COMMITTED.value and self.peer_manifest is not None:
            self.peer_manifest = plan.result(self.peer_manifest)
            self._agreed_under = Watermark(txn.epoch, txn.claimed_by)
            self._ledger.agree(self.peer_manifest, self._ledger.known, txn.generation)
            self.state.refused = None
            self._full_in_a_row = 0
            if plan.changes:
                self.state.pushed += 1
                self.state.last_push_s = asyncio.get_running_loop().time() - began
            return True
        if kind == Answer.NEED_FULL.value and self._full_in_a_row < 3:
            self._full_in_a_row += 1
            self.peer_manifest = Manifest.from_rows(answer["rows"])
            return True
        self._pause(f"{kind}: {reason}")
        if kind in (Answer.STALE.value, Answer.ACTIVE.value):
            for listener in self.on_stale:
                listener(answer)
        return False

    def _pause(self, refused: str) -> None:
        if self.state.refused != refused:
            log.warning("change not taken by the peer: %s", refused)
            self._events.add("replication-refused", refused)
        self.state.refused = refused
        self._full_in_a_row = 0
        self._not_before_mono = asyncio.get_running_loop().time() + RETRY_S
        self.wake()
