"""The standby's end of replication: every answer, what is kept, and what a crash brings back."""

from __future__ import annotations

import asyncio
import os
import pathlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ha_agent.adapters.commit import Committed, Committer, NoSpace
from ha_agent.adapters.kept import list_kept
from ha_agent.core.manifest import EMPTY, Manifest
from ha_agent.core.transaction import Transaction, Watermark
from ha_agent.core.words import Role
from ha_agent.daemon.replication.receiver import Receiver
from tests.unit.fakes_replication import PairNode, digest, manifest_of, transaction
from tests.unit.timeless import run_timeless

HELD = {"a.conf": b"a", "b.conf": b"b"}
KNOWN = Watermark(3, "alfa")


async def standby(root: pathlib.Path, files: dict[str, bytes] | None = None) -> PairNode:
    """Node ``bravo``, which knows of epoch 3 of ``alfa`` and holds HELD, or ``files``."""
    node = PairNode(root, "bravo", "alfa")
    node.edit(dict(HELD if files is None else files), hint=False)
    await node.view.compare()
    node.ledger.learn(KNOWN)
    node.ledger.agreed = node.view.manifest
    return node


def change(base: Manifest, files: dict[str, bytes], deletes: tuple[str, ...] = (), **other: Any) -> Transaction:
    """A change under the known epoch."""
    return transaction(base, files, deletes, **{"mark": KNOWN, **other})


@pytest.mark.parametrize(
    ("mark", "answer"),
    [
        (Watermark(2, "alfa"), "STALE"),
        (Watermark(2, "zulu"), "STALE"),
        (Watermark(3, "zulu"), "STALE"),
        (KNOWN, "COMMITTED"),
        (Watermark(4, "alfa"), "COMMITTED"),
        (Watermark(4, "zulu"), "COMMITTED"),
    ],
)
def test_nothing_is_accepted_from_an_older_epoch(tmp_path: pathlib.Path, mark: Watermark, answer: str) -> None:
    async def main() -> None:
        node = await standby(tmp_path)
        said = await node.receiver.receive(change(node.view.manifest, {"c.conf": b"c"}, mark=mark).to_dict())
        assert said["answer"] == answer
        assert ("c.conf" in node.files()) == (answer == "COMMITTED")
        assert node.ledger.known == (mark if answer == "COMMITTED" else KNOWN)
        await node.stop()

    run_timeless(main())


@pytest.mark.parametrize("role", list(Role))
def test_a_node_whose_registry_is_the_truth_or_was_just_now_takes_nothing(tmp_path: pathlib.Path, role: Role) -> None:
    async def main() -> None:
        node = await standby(tmp_path)
        node.standing.become(role)
        said = await node.receiver.receive(change(node.view.manifest, {"c.conf": b"c"}).to_dict())
        assert (said["answer"] == "COMMITTED") == (role in (Role.STANDBY, Role.FENCED))
        assert said["answer"] == "COMMITTED" or (said["role"], said["epoch"]) == (role.value, 3)
        await node.stop()

    run_timeless(main())


@pytest.mark.parametrize(
    ("raw", "answer"),
    [
        ("nonsense", "BAD"),
        ({}, "BAD"),
        (change(manifest_of({"x.conf": b"x"}), {}).to_dict(), "NEED_FULL"),
        (replace(change(manifest_of(HELD), {"c.conf": b"c"}), result=EMPTY.hash).to_dict(), "BAD"),
        (change(manifest_of(HELD), {}, ("a.conf", "b.conf")).to_dict(), "HELD"),
        (change(manifest_of(HELD), {}, ("a.conf", "b.conf"), intent=True).to_dict(), "COMMITTED"),
        (replace(change(manifest_of(HELD), {"c.conf": b"c"}), contents={}, staging="0" * 16).to_dict(), "BAD"),
    ],
)
def test_the_answer_to_a_change(tmp_path: pathlib.Path, raw: object, answer: str) -> None:
    async def main() -> None:
        node = await standby(tmp_path)
        said = await node.receiver.receive(raw)
        assert said["answer"] == answer
        assert ("rows" in said) == (answer == "NEED_FULL")
        if answer != "COMMITTED":
            assert node.files() == HELD
            assert node.receiver.last_refusal is not None
            assert (node.events.codes == ["transaction-refused"]) == (answer != "NEED_FULL")
        await node.stop()

    run_timeless(main())


def test_the_same_refusal_is_told_once(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        node = await standby(tmp_path)
        for _ in range(3):
            await node.receiver.receive("nonsense")
        assert node.events.codes == ["transaction-refused"]

    run_timeless(main())


def test_a_registry_that_is_not_there_takes_nothing(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        node = await standby(tmp_path, {})
        os.rmdir(node.registry_dir)
        await node.view.compare()
        said = await node.receiver.receive(change(EMPTY, {"c.conf": b"c"}).to_dict())
        assert said["answer"] == "BAD" and not node.registry_dir.exists()

    run_timeless(main())


def test_a_file_that_cannot_be_written_is_a_refusal(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        node = await standby(tmp_path)
        (node.registry_dir / "c.conf" / "full").mkdir(parents=True)
        said = await node.receiver.receive(change(node.view.manifest, {"c.conf": b"c"}).to_dict())
        assert said["answer"] == "BAD" and "c.conf" in said["reason"]
        await asyncio.sleep(1)
        assert node.view.manifest == manifest_of(HELD), "what is really there is looked at"

    run_timeless(main())


def test_what_is_replaced_is_kept_and_what_was_never_agreed_is_marked(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        node = await standby(tmp_path)
        node.edit({"b.conf": b"local"})
        await node.view.compare_now()
        await node.receiver.receive(change(node.view.manifest, {"a.conf": b"A", "b.conf": b"B"}).to_dict())
        await node.stop()
        kept = {(k.path, k.sha256, k.divergence) for k in list_kept(str(node.state_dir))}
        assert kept == {("a.conf", digest(b"a"), False), ("b.conf", digest(b"local"), True)}
        assert "divergence-kept" in node.events.codes

    run_timeless(main())


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.dictionaries(st.sampled_from("abc"), st.none() | st.sampled_from([b"1", b"2", b""]), min_size=1), max_size=6)
)
def test_no_content_that_is_replaced_or_deleted_is_ever_lost(
    tmp_path: pathlib.Path, changes: list[dict[str, bytes | None]]
) -> None:
    async def main() -> None:
        root = tmp_path / str(len(list(tmp_path.iterdir())))
        node = await standby(root, {})
        had: set[tuple[str, str]] = set()
        for number, wanted in enumerate(changes):
            puts = {f"{name}.conf": content for name, content in wanted.items() if content is not None}
            deletes = tuple(f"{n}.conf" for n, c in wanted.items() if c is None and f"{n}.conf" in node.files())
            txn = change(node.view.manifest, puts, deletes, generation=number + 1, intent=True)
            assert (await node.receiver.receive(txn.to_dict()))["answer"] == "COMMITTED"
            had |= {(path, digest(content)) for path, content in node.files().items()}
        await node.stop()
        assert had <= node.kept() | {(path, digest(content)) for path, content in node.files().items()}
        assert node.ledger.agreed == node.view.manifest == manifest_of(node.files())

    run_timeless(main())


def test_an_edit_on_the_standby_is_told_once_and_a_commit_is_none(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        node = await standby(tmp_path)
        await node.receiver.receive(change(node.view.manifest, {"c.conf": b"c"}).to_dict())
        node.edit({"a.conf": b"local"})
        await asyncio.sleep(0.1)
        node.receiver.report_local_edits()
        assert [(e["code"], e["paths"]) for e in node.events.seen] == [("standby-edit", ["a.conf"])]
        node.standing.become(Role.ACTIVE)
        node.edit({"b.conf": b"mine"})
        await asyncio.sleep(0.1)
        assert len(node.events.seen) == 1, "an active node is edited by right"
        await node.stop()

    run_timeless(main())


def test_a_crash_after_the_decision_brings_the_change_back_and_spares_a_later_edit(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        node = await standby(tmp_path)
        await node.receiver.receive(change(node.view.manifest, {"a.conf": b"A", "b.conf": b"B", "c.conf": b"c"}).to_dict())
        (node.registry_dir / "c.conf").unlink()
        (node.registry_dir / "a.conf").write_bytes(b"a")
        (node.registry_dir / "b.conf").write_bytes(b"edited after that")
        (node.registry_dir / ".ha-agent.0123").write_bytes(b"in the making")
        node.ledger.agreed = manifest_of(HELD)
        await node.receiver.recover()
        assert node.files() == {"a.conf": b"A", "b.conf": b"edited after that", "c.conf": b"c"}
        assert node.ledger.agreed == manifest_of({"a.conf": b"A", "b.conf": b"B", "c.conf": b"c"})
        (event,) = [e for e in node.events.seen if e["code"] == "rolled-forward"]
        assert event["left_alone"] == ["b.conf"]
        await node.receiver.recover()
        assert node.events.codes.count("rolled-forward") == 1, "the checkpoint has cleared the journal"

    run_timeless(main())


class FullCommitter(Committer):
    """Has no room."""

    error: Exception = NoSpace("0 bytes free")

    def commit(self, txn: Transaction, agreed: Manifest) -> Committed:
        """Refuses."""
        raise self.error


@pytest.mark.parametrize("error", [NoSpace("0 bytes free"), OSError(28, "No space left"), OSError(122, "quota")])
def test_a_full_disk_is_named(tmp_path: pathlib.Path, error: Exception) -> None:
    async def main() -> None:
        node = await standby(tmp_path)

        committer = FullCommitter(str(node.registry_dir), str(node.state_dir))
        committer.error = error
        settings = node.registry_settings
        receiver = Receiver(settings, node.standing, node.ledger, committer, node.view, node.events)
        said = await receiver.receive(change(node.view.manifest, {"c.conf": b"c"}).to_dict())
        assert said["answer"] == "NO_SPACE"

    run_timeless(main())
