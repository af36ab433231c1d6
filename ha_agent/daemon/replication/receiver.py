"""The standby's end of replication: judges transactions, commits them, and keeps the agreed manifest.

Accepts nothing while this node is active, nothing older than it knows, and nothing that does not build on what is here.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import time
from typing import Any

from ha_agent.adapters.commit import CHECKPOINT_BYTES, Committed, Committer, NoSpace, sweep_temporaries
from ha_agent.core.frames import Message
from ha_agent.core.manifest import Manifest
from ha_agent.core.reasons import reason_of
from ha_agent.core.settings import RegistrySettings
from ha_agent.core.transaction import (
    BadTransaction,
    ReceiverView,
    Transaction,
    Watermark,
    judge_transaction,
    parse_transaction,
)
from ha_agent.core.words import Answer
from ha_agent.daemon.events import Events
from ha_agent.daemon.replication.ledger import Ledger
from ha_agent.daemon.replication.view import RegistryView
from ha_agent.daemon.standing import Standing

log = logging.getLogger(__name__)

SMALL_CHANGE = 16
"""Most files that are committed in the loop."""

QUICK_DISK_S = 0.02
WARY_COMMITS = 50
"""After a commit slower than ``QUICK_DISK_S`` this many are made in a thread before the disk counts as quick again."""


class Receiver:
    """Serves the peer's ``transaction`` and ``manifest`` operations."""

    def __init__(
        self,
        limits: RegistrySettings,
        standing: Standing,
        ledger: Ledger,
        committer: Committer,
        view: RegistryView,
        events: Events,
    ) -> None:
        self._limits, self._standing = limits, standing
        self._ledger, self._committer, self._view = ledger, committer, view
        self._events = events
        self._reported_edits: frozenset[str] = frozenset()
        self._thread_for = 0
        self.last_refusal: tuple[Answer, str] | None = None

    async def recover(self) -> None:
        """Rolls forward what a crash left in the journal, and removes files in the making. Raises ``OSError``."""
        root = self._limits.path
        if not os.path.isdir(root):
            return
        await asyncio.to_thread(sweep_temporaries, root)
        done, report = await asyncio.to_thread(self._committer.recover)
        if not done:
            return
        agreed = self._ledger.agreed
        for txn in done:
            agreed = agreed.changed(txn.puts, txn.deletes)
        last = done[-1]
        self._ledger.apply_again(agreed, Watermark(last.epoch, last.claimed_by), last.generation)
        text = f"{len(done)} journaled transactions were applied again after a crash"
        self._events.add("rolled-forward", text, left_alone=report.skipped[:20])
        self._report(last, report)
        if not report.failed:
            await self._ledger.checkpoint()

    def report_local_edits(self) -> None:
        """On a standby a change that the peer did not send does not travel: says so once."""
        if self._standing.owns:
            return
        edits = frozenset(self._ledger.local_edits(self._view.manifest))
        fresh = sorted(edits - self._reported_edits)
        self._reported_edits = edits
        if fresh and self.last_refusal is None:
            text = f"changed on the standby, does not travel: {', '.join(fresh[:5])}"
            self._events.add("standby-edit", text, paths=fresh[:20])

    async def glance(self) -> Manifest:
        """What this node's registry holds, as far as its watcher has told."""
        return self._view.manifest

    async def look(self) -> Manifest:
        """What this node's registry holds on the disk now; no change is committed meanwhile."""
        async with self._ledger.lock:
            await self._view.compare_now()
            manifest = self._view.manifest
        self.report_local_edits()
        return manifest

    def manifest_rows(self) -> list[list[Any]]:
        """This node's whole manifest as it is known, as rows for a message."""
        return self._view.manifest.to_rows()

    async def receive(self, raw: object) -> Message:
        """Judges and commits one transaction; the answer is one of ``Answer`` with what the sender needs to go on."""
        async with self._ledger.lock:
            try:
                txn = parse_transaction(raw)
            except BadTransaction as error:
                return self._refuse(Answer.BAD, str(error))
            if self._view.unavailable:
                return self._refuse(Answer.BAD, f"the registry of this node: {self._view.unavailable}")
            answer, reason = judge_transaction(txn, self._receiver_view())
            if answer is not Answer.COMMITTED:
                return self._refuse(answer, reason)
            seen = self._view.manifest
            try:
                report = await self._commit(txn)
            except BadTransaction as error:
                return self._refuse(Answer.BAD, str(error))
            except NoSpace as error:
                return self._refuse(Answer.NO_SPACE, str(error))
            except OSError as error:
                full = error.errno in (errno.ENOSPC, errno.EDQUOT)
                return self._refuse(Answer.NO_SPACE if full else Answer.BAD, f"cannot be written: {reason_of(error)}")
            return self._committed(txn, report, seen)

    async def _commit(self, txn: Transaction) -> Committed:
        """Commits a small change in the loop while the disk is quick, anything else in a thread (docs/adr/0002)."""
        small = txn.staging is None and len(txn.puts) + len(txn.deletes) <= SMALL_CHANGE
        if not small or self._thread_for > 0:
            self._thread_for = max(0, self._thread_for - 1)
            return await asyncio.to_thread(self._committer.commit, txn, self._ledger.agreed)
        began = time.monotonic()
        try:
            return self._committer.commit(txn, self._ledger.agreed)
        finally:
            if time.monotonic() - began > QUICK_DISK_S:
                self._thread_for = WARY_COMMITS

    def _receiver_view(self) -> ReceiverView:
        limits = self._limits
        return ReceiverView(
            self._standing.role,
            self._ledger.known,
            self._view.manifest,
            limits.mass_delete_fraction,
            limits.mass_delete_minimum,
        )

    def _committed(self, txn: Transaction, report: Committed, seen: Manifest) -> Message:
        """Takes in that ``txn`` was applied to a registry that looked like ``seen``."""
        self._report(txn, report)
        if report.failed:
            self._view.request_compare()
            path, problem = next(iter(report.failed.items()))
            return self._refuse(Answer.NO_SPACE if "No space" in problem else Answer.BAD, f"{path}: {problem}")
        moved_on = self._view.manifest is not seen
        manifest = self._view.manifest.changed(txn.puts, txn.deletes)
        self._ledger.agree(manifest, Watermark(txn.epoch, txn.claimed_by), txn.generation)
        self.last_refusal = None
        self._view.committed(manifest, txn.puts, txn.deletes)
        if moved_on:
            # Somebody may have edited these files after a thread had written them: the disk has the last word.
            for path in [*(entry.path for entry in txn.puts), *txn.deletes]:
                self._view.hint(path)
        if self._committer.journal.size > CHECKPOINT_BYTES:
            asyncio.get_running_loop().call_soon(self._ledger.checkpoint_soon)
        return {"answer": Answer.COMMITTED.value}

    def _report(self, txn: Transaction, report: Committed) -> None:
        lost = [kept.path for kept in report.kept if kept.divergence]
        if lost:
            self._events.add(
                "divergence-kept",
                f"{len(lost)} local contents that never were agreed were replaced by the active node's and kept",
                paths=lost[:20],
                kept=f"{txn.epoch}.{txn.generation}",
            )

    def _refuse(self, answer: Answer, reason: str) -> Message:
        if self.last_refusal != (answer, reason) and answer is not Answer.NEED_FULL:
            self._events.add("transaction-refused", f"{answer.value}: {reason}")
        self.last_refusal = (answer, reason)
        known = self._ledger.known
        message: Message = {
            "answer": answer.value,
            "reason": reason,
            "epoch": known.epoch,
            "claimed_by": known.claimed_by,
            "role": self._standing.role.value,
        }
        if answer is Answer.NEED_FULL:
            message["rows"] = self._view.manifest.to_rows()
        return message
