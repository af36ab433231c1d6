"""The ledger: an epoch that can only rise, and what counts as an edit of a standby."""

from __future__ import annotations

import asyncio
import hashlib
import pathlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_agent.adapters.commit import Committer
from ha_agent.adapters.store import Store
from ha_agent.core.manifest import EMPTY, Entry
from ha_agent.core.plans import outranks
from ha_agent.core.transaction import Transaction, Watermark
from ha_agent.daemon.replication.ledger import Ledger

MARKS = st.builds(Watermark, st.integers(0, 5), st.sampled_from(["a", "b"]))


def make(tmp_path: pathlib.Path) -> Ledger:
    registry, state = tmp_path / "registry", tmp_path / "state"
    registry.mkdir()
    store = Store(str(state))
    store.prepare()
    return Ledger(store, Committer(str(registry), str(state)), 5)


def run(tmp_path: pathlib.Path, work: Callable[[Ledger], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        ledger = make(tmp_path)
        await work(ledger)
        await ledger.close()

    asyncio.run(main())


@given(st.lists(MARKS))
def test_the_known_epoch_is_the_highest_that_was_ever_heard_of(marks: list[Watermark]) -> None:
    async def main() -> None:
        ledger = Ledger(Store("/nonexistent"), Committer("/nonexistent", "/nonexistent"), 5)
        for mark in marks:
            before = ledger.known
            assert ledger.learn(mark) == outranks(mark, before)
            assert not outranks(before, ledger.known), "it fell"
            assert not outranks(mark, ledger.known), "it was not learnt"

    asyncio.run(main())


def test_a_claim_is_on_the_disk_when_it_is_known(tmp_path: pathlib.Path) -> None:
    async def work(ledger: Ledger) -> None:
        ledger.agree(EMPTY, Watermark(2, "b"), 7)
        await ledger.claim(Watermark(3, "a"))
        assert (ledger.known, ledger.generation) == (Watermark(3, "a"), 0)
        assert Store(str(tmp_path / "state")).load().known == Watermark(3, "a")

    run(tmp_path, work)


def test_an_agreement_under_an_older_epoch_does_not_lower_it(tmp_path: pathlib.Path) -> None:
    async def work(ledger: Ledger) -> None:
        ledger.learn(Watermark(5, "a"))
        ledger.agree(EMPTY, Watermark(4, "b"), 1)
        assert ledger.known == Watermark(5, "a")

    run(tmp_path, work)


def test_what_the_journal_brings_back_counts_only_up_to_what_is_known(tmp_path: pathlib.Path) -> None:
    manifest = EMPTY.changed([Entry("x.conf", 0o644, "0" * 64)])

    async def work(ledger: Ledger) -> None:
        ledger.apply_again(manifest, Watermark(2, "a"), 4)
        assert (ledger.agreed, ledger.known, ledger.generation) == (manifest, Watermark(2, "a"), 4)
        ledger.learn(Watermark(3, "b"))
        ledger.apply_again(EMPTY, Watermark(2, "a"), 9)
        assert (ledger.agreed, ledger.known, ledger.generation) == (EMPTY, Watermark(3, "b"), 4)

    run(tmp_path, work)


def test_an_edit_is_what_differs_from_the_agreement_and_a_commit_under_way_adds_none(tmp_path: pathlib.Path) -> None:
    edited = EMPTY.changed([Entry("z.conf", 0o644, "0" * 64)])

    async def work(ledger: Ledger) -> None:
        assert ledger.local_edits(edited) == (), "the pair has never been one"
        ledger.learn(Watermark(1, "a"))
        assert ledger.local_edits(edited) == ("z.conf",)
        async with ledger.lock:
            more = edited.changed([Entry("y.conf", 0o644, "0" * 64)])
            assert ledger.local_edits(more) == ("z.conf",), "its files are seen before the ledger knows them"
        ledger.agree(edited, Watermark(1, "a"), 1)
        assert ledger.local_edits(edited) == ()
        assert ledger.local_edits(EMPTY) == ("z.conf",), "a deletion is an edit, too"

    run(tmp_path, work)


class SlowDisk(Committer):
    """Its ``flush`` waits for ``go``; ``flushed`` counts those that have ended."""

    def __init__(self, root: str, state_dir: str) -> None:
        super().__init__(root, state_dir)
        self.begun, self.go, self.flushed = threading.Event(), threading.Event(), 0

    def flush(self) -> None:
        self.begun.set()
        assert self.go.wait(10)
        super().flush()
        self.flushed += 1


def transaction(generation: int, text: bytes) -> Transaction:
    entry = Entry("x.conf", 0o644, hashlib.sha256(text).hexdigest())
    result = EMPTY.changed([entry]).hash
    return Transaction(1, "a", generation, EMPTY.hash, result, (entry,), (), {entry.sha256: text})


@pytest.mark.parametrize("meanwhile", ["nothing", "a commit", "a claim"])
def test_a_slow_disk_keeps_no_commit_and_no_claim_waiting_and_loses_neither(tmp_path: pathlib.Path, meanwhile: str) -> None:
    async def main() -> None:
        ledger = make(tmp_path)
        disk = SlowDisk(str(tmp_path / "registry"), str(tmp_path / "state"))
        ledger = Ledger(Store(str(tmp_path / "state")), disk, 5)
        disk.commit(transaction(1, b"one"), EMPTY)
        checkpoint = asyncio.ensure_future(ledger.checkpoint())
        await asyncio.to_thread(disk.begun.wait, 10)
        assert not ledger.lock.locked()
        if meanwhile == "a commit":
            async with ledger.lock:
                disk.commit(transaction(2, b"two"), EMPTY)
        if meanwhile == "a claim":
            # A claim puts by itself on disk what the journal still has.
            disk.go.set()
            await ledger.claim(Watermark(2, "b"))
        assert meanwhile == "a claim" or not checkpoint.done()
        disk.go.set()
        await checkpoint
        # What was committed after the disk had been asked to write is asked for again, before the journal forgets it.
        assert (disk.flushed > 1) == (meanwhile != "nothing")
        assert disk.journal.size == 0 and disk.unkept() == []
        content = b"two" if meanwhile == "a commit" else b"one"
        assert (tmp_path / "registry" / "x.conf").read_bytes() == content
        assert Store(str(tmp_path / "state")).load().known == (Watermark(2, "b") if meanwhile == "a claim" else Watermark())

    asyncio.run(main())
