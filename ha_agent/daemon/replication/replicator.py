"""The active node's end of replication: sees that the peer comes to hold what this node holds, and says how far it is.

Must not write into any registry. What is believed of the peer, the link, the role and the epoch may change at every
``await``: a push carries what it builds on in a value of its own, and is dropped where that no longer holds.
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
from ha_agent.core.reasons import reason_of
from ha_agent.core.settings import LinkSettings, RegistrySettings
from ha_agent.core.transaction import Transaction, Watermark
from ha_agent.core.words import OWNING_ROLES, Answer, Role
from ha_agent.daemon.events import Events
from ha_agent.daemon.replication.ledger import Ledger
from ha_agent.daemon.replication.view import RegistryView
from ha_agent.daemon.standing import Standing

log = logging.getLogger(__name__)

RETRY_S = 2.0
BULK_TIMEOUT_S = 600.0

INLINE_FILES = 16
"""Most files that are read and sent at once, without leaving the loop."""

LOOK_TIMEOUT_S = 30.0
"""The peer may take so long to say what it holds: it may have to read a large registry first."""

TIMER_S = 0.001

FIRST_RESTORE_PAUSE_S = 2.0
LAST_RESTORE_PAUSE_S = 60.0
"""Something that goes on changing the peer's registry has it put right after pauses that grow from the first to the last."""


@dataclass(slots=True)
class PushState:
    """What an operator may want to know of the replication to the peer."""

    held: str | None = None
    refused: str | None = None
    pushed: int = 0
    last_push_s: float | None = None
    pending_since_wall: float | None = None


@dataclass(frozen=True, slots=True)
class _Push:
    """A change in the making: ``base`` is what the peer was believed to hold, ``under`` the epoch, when it was planned."""

    base: Manifest
    under: Watermark
    plan: PushPlan
    began_mono: float


@dataclass(frozen=True, slots=True)
class _Accepted:
    """An operator's word for the deletions that were held when it was given: those paths, under that epoch."""

    paths: frozenset[str] = frozenset()
    under: Watermark | None = None


def read_rows(answer: Message) -> Manifest:
    """The manifest in a peer's answer. Raises ``RemoteError`` where it has none that can be understood."""
    try:
        return Manifest.from_rows(answer["rows"])
    except (KeyError, TypeError, ValueError) as error:
        raise RemoteError(f"the peer does not say what it holds: {reason_of(error)}") from None


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
        self._accepted = _Accepted()
        self._busy = False
        """Whether a push is under way: never two at once, the second would build on what the first is about to change."""
        self._quick: asyncio.Task[None] | None = None
        self._failure: Exception | None = None
        self._moves = 0
        """Counts what changes the peer, or what is believed of it, so that an answer can be told to be out of date."""
        self._timer: asyncio.TimerHandle | None = None
        self._full_in_a_row = 0
        self._differs = False
        """Whether the peer was heard to hold something else than ``peer_manifest`` says."""
        self._restore_pause_s = FIRST_RESTORE_PAUSE_S
        self._restored_mono = float("-inf")
        self.peer_manifest: Manifest | None = None
        self._agreed_under: Watermark | None = None
        """The epoch under which the peer has answered last that it holds ``peer_manifest``; None since that was learnt."""
        self.state = PushState()
        self.progress = asyncio.Event()
        """Set (and replaced) whenever a push ended or the state changed, for those who wait for an acknowledgement."""

    # ---- what is believed of the peer ---------------------------------------------------------------------

    def learn_peer(self, manifest: Manifest | None) -> None:
        """Notes what the peer holds (None: unknown). It counts when the peer has confirmed it under the present epoch."""
        self._believe(manifest, None)
        self.wake()

    def _believe(self, manifest: Manifest | None, agreed_under: Watermark | None) -> None:
        self._moves += 1
        self._differs = False
        self.peer_manifest, self._agreed_under = manifest, agreed_under

    def pending(self) -> Difference | None:
        """What the peer lacks; None where it is not known what it holds."""
        if self.peer_manifest is None or self._differs:
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

    async def ask_holding(self, *, at_disk: bool) -> bool:
        """Asks the peer what it holds now; returns whether that is what it was believed to hold when it was asked.

        ``at_disk``: it compares its whole registry first. What it says otherwise is learnt, unless a change went out
        meanwhile. Raises as ``PeerLink.ask`` does.
        """
        believed, moves = self.peer_manifest, self._moves
        known = "" if believed is None else believed.hash
        answer = await self._link.ask({"op": "manifest", "look": at_disk, "known": known}, LOOK_TIMEOUT_S)
        if believed is not None and answer.get("hash") == known:
            self._differs = self._differs and moves != self._moves
            return True
        held = read_rows(answer)
        if held == believed:
            self._differs = self._differs and moves != self._moves
            return True
        if moves == self._moves and not self._busy:
            self.learn_peer(held)
        return False

    @property
    def differs(self) -> bool:
        """Whether the peer was heard to hold something else than was sent to it."""
        return self._differs

    @property
    def moment(self) -> int:
        """A number for what is believed of the peer now, for ``hear_holding``."""
        return self._moves

    async def hear_holding(self, manifest_hash: str, role: Role, moment: int) -> None:
        """Takes in a sign of life: the peer held ``manifest_hash``, and had ``role``, when it answered.

        ``moment`` was read before the peer was asked: the word counts where no change went out since. A standby whose
        registry was changed there gets this node's content again; what it replaces is kept there. Raises as
        ``PeerLink.ask`` does.
        """
        owns = self._standing.role is Role.ACTIVE and role not in OWNING_ROLES and role is not Role.RELEASING
        if not owns or self._busy or moment != self._moves:
            return
        believed = self.peer_manifest
        if believed is None:
            await self.ask_holding(at_disk=False)
        elif believed.hash != manifest_hash:
            self._differs = True
            self._note_pending()
            if self._may_restore() and not await self.ask_holding(at_disk=False):
                self._note_restore(believed)

    def _may_restore(self) -> bool:
        now = asyncio.get_running_loop().time()
        if now - self._restored_mono > 2 * LAST_RESTORE_PAUSE_S:
            self._restore_pause_s = FIRST_RESTORE_PAUSE_S
        return now - self._restored_mono >= self._restore_pause_s

    def _note_restore(self, believed: Manifest) -> None:
        if self.peer_manifest is None or self.peer_manifest == believed:
            return
        self._restored_mono = asyncio.get_running_loop().time()
        self._restore_pause_s = min(2 * self._restore_pause_s, LAST_RESTORE_PAUSE_S)
        found = diff_manifests(believed, self.peer_manifest)
        paths = sorted([entry.path for entry in found.puts] + list(found.deletes))
        text = f"the standby was changed there, and gets this node's content again: {', '.join(paths[:5])}"
        log.warning("%s", text)
        self._events.add("standby-restored", text, paths=paths[:20])

    # ---- waking -------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Says that something may have to be pushed. A small change is on its way when this returns."""
        self._prune_accepted()
        if not self._busy and self._can_push():
            made = self._begin()
            if made is not None:
                self._busy = True
                self._quick = asyncio.get_running_loop().create_task(self._finish(*made))
                return
        self._wake.set()

    def accept_deletes(self) -> tuple[str, ...]:
        """An operator's word that the deletions which are due now are meant; returns their paths.

        The word is for these paths alone, until they are gone from the peer, are back here, or the epoch has changed. Where
        it is not known what the peer holds, nothing is due and nothing is accepted.
        """
        pending = None if self.peer_manifest is None else diff_manifests(self.peer_manifest, self._wanted)
        paths = () if pending is None else pending.deletes
        self._accepted = _Accepted(frozenset(paths), self._ledger.known)
        self.state.held = None
        if pending is not None:
            self._view.accept_device()
        self.retry_now()
        return paths

    def retry_now(self) -> None:
        """Forgets a pause after a refusal."""
        self._not_before_mono = 0.0
        self.wake()

    async def run(self) -> None:
        """Works until cancelled. Raises whatever a push failed with, and knows nothing of the peer then."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._raise_failure()
            if self._busy:
                continue
            self._busy = True
            try:
                self._note_pending()
                while self._can_push() and await self._push_once():
                    self._note_pending()
            except Exception:
                self.learn_peer(None)
                raise
            finally:
                self._busy = False
                self._note_pending()
                self._tell()

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            self.learn_peer(None)
            raise failure

    def _tell(self) -> None:
        done, self.progress = self.progress, asyncio.Event()
        done.set()

    def _note_pending(self) -> None:
        if self.peer_manifest is None:
            # It is not asked what the peer holds, or it cannot be: what both agreed on last is no change that waits.
            differs = self._ledger.agreed != self._wanted
        else:
            differs = self._differs or self.peer_manifest != self._wanted or not self._is_agreed
        # What a standby, or a node that is still taking over, knows of its peer's registry waits for nobody.
        if not differs or self._standing.role is not Role.ACTIVE:
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
            self._wake_at(self._not_before_mono)
            return False
        return True

    def _wake_at(self, due_mono: float) -> None:
        """Wakes then, or earlier where that was asked for. One timer at most: each look would leave another one."""
        if self._timer is not None:
            if self._timer.when() <= due_mono:
                return
            self._timer.cancel()
        # A timer may fire as much before its time as the clock is fine.
        self._timer = asyncio.get_running_loop().call_at(due_mono + TIMER_S, self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        self.wake()

    # ---- one push -----------------------------------------------------------------------------------------

    def _begin(self) -> tuple[_Push, Transaction] | None:
        """The transaction that can go out right now without waiting for anything; None where there is none."""
        push = self._plan()
        if push is None or not self._is_due(push) or len(push.plan.changes) > INLINE_FILES:
            return None
        contents = self._collect(push.plan)
        if contents is None or sum(map(len, contents.values())) > self._link_limits.inline_max_bytes:
            return None
        return push, self._make(push, contents, None)

    async def _finish(self, push: _Push, txn: Transaction) -> None:
        self._note_pending()
        try:
            await self._send(push, txn)
        except Exception as error:  # noqa: BLE001 - ``run`` raises it
            self._failure = error
        finally:
            self._busy = False
            self._note_pending()
            self._tell()
            self._wake.set()

    async def _push_once(self) -> bool:
        """Sends what the plan says; returns whether another look is worth it at once."""
        push = self._plan()
        if push is None or not self._is_due(push):
            return False
        try:
            txn = await self._stage(push)
        except Disconnected:
            # The peer has refused nothing; with the next connection it is tried again.
            return False
        except (RemoteError, TransferFailed) as error:
            self._pause(str(error))
            return False
        return txn is not None and await self._send(push, txn)

    def _is_due(self, push: _Push) -> bool:
        """Whether something goes out: changes, or the empty one by which a peer that seems to lack nothing confirms it."""
        return bool(push.plan.changes) or (push.base == self._wanted and not self._is_agreed)

    def _still_holds(self, push: _Push) -> bool:
        """Whether what ``push`` was planned on is so now, after whatever was waited for."""
        return self._can_push() and self.peer_manifest == push.base and self._ledger.known == push.under

    def _plan(self) -> _Push | None:
        """What is to go out now; None where it is not known what the peer holds."""
        if self.peer_manifest is None:
            return None
        push = _Push(self.peer_manifest, self._ledger.known, self._plan_from(self.peer_manifest), self._now())
        self._note_held(push.plan)
        if push.plan.wait_for_deletes:
            self._wake_at(self._view.last_deletion_mono + self._registry.delete_settle_s)
        return push

    def _plan_from(self, base: Manifest) -> PushPlan:
        settled = self._now() >= self._view.last_deletion_mono + self._registry.delete_settle_s
        self._prune_accepted()
        accepted = self._accepted.paths
        plan = plan_push(base, self._wanted, self._limits, deletes_settled=settled, accepted=accepted)
        if self._view.foreign_device and set(plan.changes.deletes) - accepted:
            held = "the registry is on another file system than before"
            kept = tuple(path for path in plan.changes.deletes if path in accepted)
            return PushPlan(Difference(plan.changes.puts, kept), held=held)
        return plan

    def _prune_accepted(self) -> None:
        """Ends the operator's word for each path that is back here, or gone from the peer, and for all with the epoch."""
        if not self._accepted.paths:
            return
        if self._accepted.under != self._ledger.known:
            self._accepted = _Accepted()
            return
        mine, peer = self._view.manifest, self.peer_manifest
        due = (path for path in self._accepted.paths if path not in mine and (peer is None or path in peer))
        self._accepted = _Accepted(frozenset(due), self._accepted.under)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    async def _send(self, push: _Push, txn: Transaction) -> bool:
        self._moves += 1
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
        finally:
            self._moves += 1
        return self._take_answer(push, txn, answer)

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

    async def _stage(self, push: _Push) -> Transaction | None:
        """The transaction of ``push``, its larger contents already at the peer.

        None where the registry, or what is known of the peer, has moved on meanwhile. Raises ``Disconnected``,
        ``RemoteError`` and ``TransferFailed``.
        """
        contents = await asyncio.to_thread(self._collect, push.plan)
        if contents is None or not self._still_holds(push):
            return None
        if sum(map(len, contents.values())) <= self._link_limits.inline_max_bytes:
            return self._make(push, contents, None)
        staging = await self._link.transfer(self._outgoing, list(contents.items()), BULK_TIMEOUT_S)
        return self._make(push, {}, staging) if self._still_holds(push) else None

    def _make(self, push: _Push, contents: dict[str, bytes], staging: str | None) -> Transaction:
        return Transaction(
            epoch=push.under.epoch,
            claimed_by=push.under.claimed_by,
            generation=self._ledger.next_generation(),
            base=push.base.hash,
            result=push.plan.result(push.base).hash,
            puts=push.plan.changes.puts,
            deletes=push.plan.changes.deletes,
            contents=contents,
            staging=staging,
            intent=push.plan.intent,
        )

    def _take_answer(self, push: _Push, txn: Transaction, answer: Message) -> bool:
        kind, reason = answer.get("answer"), str(answer.get("reason", ""))
        if kind == Answer.COMMITTED.value:
            return self._take_commit(push, txn)
        if kind == Answer.NEED_FULL.value and self._full_in_a_row < 3:
            self._full_in_a_row += 1
            return self._take_holding(answer)
        self._pause(f"{kind}: {reason}")
        if kind in (Answer.STALE.value, Answer.ACTIVE.value):
            for listener in self.on_stale:
                listener(answer)
        return False

    def _take_holding(self, answer: Message) -> bool:
        try:
            held = read_rows(answer)
        except RemoteError as error:
            self._pause(str(error))
            return False
        if self.peer_manifest is not None:
            self._believe(held, None)
        return True

    def _take_commit(self, push: _Push, txn: Transaction) -> bool:
        if self.peer_manifest is None:
            # The link broke while the answer was on its way: what it holds is asked again with the next one.
            return False
        held = push.plan.result(push.base)
        self._believe(held, push.under)
        if push.under == self._ledger.known:
            self._ledger.agree(held, push.under, txn.generation)
        self.state.refused = None
        self._full_in_a_row = 0
        if push.plan.changes:
            self.state.pushed += 1
            self.state.last_push_s = self._now() - push.began_mono
        return True

    def _pause(self, refused: str) -> None:
        if self.state.refused != refused:
            log.warning("change not taken by the peer: %s", refused)
            self._events.add("replication-refused", refused)
        self.state.refused = refused
        self._full_in_a_row = 0
        self._not_before_mono = self._now() + RETRY_S
        self.wake()
