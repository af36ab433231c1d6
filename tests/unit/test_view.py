"""What a node knows of its own registry: by hints, by full compares, and when the directory is not the one it was."""

from __future__ import annotations

import asyncio
import os
import pathlib
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ha_agent.adapters.registry import find_stranger
from ha_agent.adapters.watch import EVERYTHING
from ha_agent.core.manifest import EMPTY, NO_DIFFERENCE
from ha_agent.core.transaction import Watermark
from ha_agent.core.words import Outcome, Role
from ha_agent.daemon.replication.acknowledgement import Acknowledger
from ha_agent.daemon.replication.replicator import Replicator
from ha_agent.daemon.replication.view import MANY_HINTS
from tests.unit.fakes_replication import LIMITS, WALL_S, PairNode, ScriptedLink, digest, manifest_of
from tests.unit.timeless import run_timeless

EDITS = st.lists(
    st.tuples(st.sampled_from(["a.conf", "sub/b.ini", "c.conf.parked", "no.txt"]), st.none() | st.sampled_from([b"1", b"2"]))
)


async def started(root: pathlib.Path, **files: bytes) -> PairNode:
    node = PairNode(root, "alfa", "bravo")
    node.edit({f"{name}.conf": content for name, content in files.items()}, hint=False)
    await node.view.start()
    return node


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(EDITS)
def test_hints_lead_to_the_same_manifest_as_a_full_compare(
    tmp_path: pathlib.Path, edits: list[tuple[str, bytes | None]]
) -> None:
    async def main() -> None:
        node = await started(tmp_path / str(len(list(tmp_path.iterdir()))))
        for path, content in edits:
            node.edit({path: content})
            await asyncio.sleep(0.01)
        by_hints = node.view.manifest
        node.view.forget()
        await node.view.compare_now()
        assert by_hints == node.view.manifest
        assert by_hints == manifest_of({p: c for p, c in node.files().items() if p != "no.txt"})

    run_timeless(main())


@pytest.mark.parametrize("hints", [[EVERYTHING], [f"{n}.conf" for n in range(MANY_HINTS + 1)]])
def test_a_hint_of_everything_and_very_many_hints_lead_to_a_full_compare(tmp_path: pathlib.Path, hints: list[str]) -> None:
    async def main() -> None:
        node = await started(tmp_path)
        node.edit({"unsaid.conf": b"x"}, hint=False)
        for hint in hints:
            node.view.hint(hint)
        await asyncio.sleep(0.1)
        assert node.view.manifest == manifest_of({"unsaid.conf": b"x"})

    run_timeless(main())


def test_a_change_is_told_and_a_hint_of_nothing_is_not(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        node = await started(tmp_path, a=b"a")
        told: list[int] = []
        node.view.on_change.append(lambda: told.append(len(node.view.manifest)))
        node.view.hint("a.conf")
        node.view.hint("no.txt")
        await asyncio.sleep(0.1)
        assert told == []
        node.edit({"b.conf": b"b"})
        await asyncio.sleep(0.1)
        assert told == [2]

    run_timeless(main())


def test_a_registry_that_is_gone_is_not_an_empty_one(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        node = await started(tmp_path, a=b"a")
        os.rename(node.registry_dir, tmp_path / "away")
        node.view.hint("a.conf")
        await asyncio.sleep(0.1)
        assert node.view.unavailable is not None
        assert node.view.manifest == manifest_of({"a.conf": b"a"}), "nothing follows from what is not seen"
        os.rename(tmp_path / "away", node.registry_dir)
        (node.registry_dir / "b.conf").write_bytes(b"b")
        node.view.hint(EVERYTHING)
        await asyncio.sleep(0.1)
        assert node.view.unavailable is None and len(node.view.manifest) == 2
        assert len(node.watcher.watched) >= 2, "a directory that came back is watched anew"

    run_timeless(main())


def test_a_content_is_given_as_long_as_it_is_the_one_that_is_asked_for(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        node = await started(tmp_path, a=b"old")
        assert node.view.read_content("a.conf", digest(b"old")) == b"old"
        node.edit({"a.conf": b"new"}, hint=False)
        assert node.view.read_content("a.conf", digest(b"old")) is None
        await asyncio.sleep(0.1)
        assert node.view.manifest == manifest_of({"a.conf": b"new"}), "the mismatch was a hint"
        assert node.view.read_content("gone.conf", digest(b"")) is None

    run_timeless(main())


def test_a_symbolic_link_is_refused_by_name(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        node = await started(tmp_path, a=b"a")
        (node.registry_dir / "l.conf").symlink_to("a.conf")
        node.view.hint("l.conf")
        await asyncio.sleep(0.1)
        assert list(node.view.refused) == ["l.conf"] and "l.conf" not in node.view.manifest

    run_timeless(main())


def make_strange(path: pathlib.Path, way: str) -> None:
    """Has ``path`` be one of the files of which nothing may be taken."""
    if way == "a symbolic link":
        target = path.with_name("elsewhere.txt")
        target.write_bytes(path.read_bytes())
        path.unlink()
        path.symlink_to(target)
    else:
        path.chmod(0o646)


@pytest.mark.parametrize("way", ["a symbolic link", "open to everybody"])
@pytest.mark.parametrize("is_new_agent", [False, True])
def test_a_file_that_others_could_write_is_neither_taken_nor_deleted(
    tmp_path: pathlib.Path, way: str, is_new_agent: bool
) -> None:
    async def main() -> None:
        node = await started(tmp_path, a=b"good", b=b"b")
        before = node.view.manifest
        if is_new_agent:
            node.ledger.agreed = before
            node.view.manifest = EMPTY
        make_strange(node.registry_dir / "a.conf", way)
        (node.registry_dir / "a.conf").write_bytes(b"user=root")
        (node.registry_dir / "new.conf").write_bytes(b"new")
        make_strange(node.registry_dir / "new.conf", way)
        await node.view.compare_now()
        assert sorted(node.view.refused) == ["a.conf", "new.conf"]
        assert node.view.manifest == before
        node.view.hint("a.conf")
        await asyncio.sleep(0.1)
        assert node.view.manifest == before
        node.replicator.peer_manifest = EMPTY
        assert [e.path for e in (node.replicator.pending() or NO_DIFFERENCE).puts] == ["b.conf"], "the others travel"
        node.replicator.peer_manifest = before.changed(manifest_of({"a.conf": b"other", "new.conf": b"x"}))
        assert not node.replicator.pending(), "nothing that the peer has of it is touched"

    run_timeless(main())


def test_what_makes_a_file_one_that_others_could_write() -> None:
    me, group = os.geteuid(), os.getegid()
    for mode, uid, gid, problem in (
        (0o644, 0, 12345, None),
        (0o664, 0, 0, None),
        (0o664, me, group, None),
        (0o600, me, 12345, None),
        (0o664, 0, 12345, "group 12345"),
        (0o646, 0, 0, "everybody"),
        (0o600, 12345, 0, "user 12345"),
    ):
        found = find_stranger(os.stat_result((mode, 0, 0, 1, uid, gid, 0, 0, 0, 0)))
        assert (problem is None and found is None) or (problem or "-") in (found or ""), oct(mode)


# ---- acknowledgement and editing --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "is_up", "held", "refused", "peer", "wanted", "outcome"),
    [
        (Role.STANDBY, True, None, None, {"a.conf": b"a"}, None, Outcome.REFUSED),
        (Role.ACTIVE, False, None, None, None, None, Outcome.UNREACHABLE),
        (Role.ACTIVE, True, None, None, None, None, Outcome.TIMED_OUT),
        (Role.ACTIVE, True, None, None, {}, ["other.conf"], Outcome.IN_SYNC),
        (Role.ACTIVE, True, None, None, {}, ["a.conf"], Outcome.TIMED_OUT),
        (Role.ACTIVE, True, "too many", None, {"a.conf": b"a", "x.conf": b"x"}, None, Outcome.HELD),
        (Role.ACTIVE, True, "too many", None, {"x.conf": b"x"}, None, Outcome.TIMED_OUT),
        (Role.ACTIVE, True, None, "no room", {}, None, Outcome.REFUSED_BY_PEER),
        (Role.ACTIVE, True, None, None, {"a.conf": b"a"}, None, Outcome.TIMED_OUT),
    ],
)
def test_the_outcome_of_waiting_for_the_peer(
    tmp_path: pathlib.Path,
    role: Role,
    is_up: bool,
    held: str | None,
    refused: str | None,
    peer: dict[str, bytes] | None,
    wanted: list[str] | None,
    outcome: Outcome,
) -> None:
    async def main() -> None:
        node = await started(tmp_path, a=b"a")
        link = ScriptedLink(lambda _: {})
        link.is_up = is_up
        # The replicator's own link takes no change, so what is known stays as it is here.
        pushing = ScriptedLink(lambda _: {"hash": manifest_of(peer or {}).hash, "rows": None})
        pushing.is_up = False
        replicator = Replicator(
            node.registry_settings, LIMITS, "", node.standing, node.view, node.ledger, pushing, node.events, lambda: WALL_S
        )
        acknowledger = Acknowledger("bravo", node.standing, link, replicator, asyncio.get_running_loop().time)
        node.standing.become(role)
        replicator.learn_peer(None if peer is None else manifest_of(peer))
        replicator.state.held, replicator.state.refused = held, refused
        running = asyncio.ensure_future(replicator.run())
        word = await acknowledger.wait(wanted, 2.0)
        running.cancel()
        assert word.outcome is outcome
        assert word.on_peer == (outcome is Outcome.IN_SYNC)
        assert bool(word.to_dict()["reason"]) == (outcome is not Outcome.IN_SYNC)

    run_timeless(main())


async def pair(root: pathlib.Path, **files: bytes) -> tuple[PairNode, PairNode]:
    """Two nodes that are joined; the first one is active."""
    alfa, bravo = PairNode(root, "alfa", "bravo"), PairNode(root, "bravo", "alfa")
    alfa.other, bravo.other = bravo, alfa
    alfa.edit({f"{name}.conf": content for name, content in files.items()}, hint=False)
    for node in (alfa, bravo):
        await node.start()
        await node.link.connect()
    await alfa.claim(Watermark(1, "alfa"))
    return alfa, bravo


def test_each_edit_by_command_is_on_the_peer_when_it_is_acknowledged_and_what_it_replaced_is_kept(
    tmp_path: pathlib.Path,
) -> None:
    async def main() -> None:
        alfa, bravo = await pair(tmp_path, a=b"a", b=b"b")
        await alfa.editor.write("a.conf", "A", "me")
        await alfa.editor.park("b.conf", "me")
        assert await alfa.editor.unpark("b.conf.parked", "me") == "b.conf"
        assert await alfa.editor.restore("a.conf", b"again", 0o600, "me") == "1.2"
        assert await alfa.editor.restore("new.conf", b"new", 0o644, "me") is None
        await alfa.editor.remove("b.conf", "me")
        word = await alfa.editor.acknowledged(["a.conf", "b.conf", "new.conf"])
        assert word.outcome is Outcome.IN_SYNC
        assert alfa.files() == bravo.files() == {"a.conf": b"again", "new.conf": b"new"}
        lost = {("a.conf", digest(b"a")), ("a.conf", digest(b"A")), ("b.conf", digest(b"b"))}
        assert lost <= alfa.kept()
        assert alfa.events.codes == ["registered", "parked", "unparked", "restored", "restored", "deregistered"]
        await alfa.stop()
        await bravo.stop()

    run_timeless(main())


def test_a_change_that_fails_has_changed_nothing(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        alfa, bravo = await pair(tmp_path, a=b"a")
        for change in (alfa.editor.remove("gone.conf", "me"), alfa.editor.park("gone.conf", "me")):
            with pytest.raises(OSError, match="gone"):
                await change
        assert (alfa.files(), alfa.events.codes) == ({"a.conf": b"a"}, [])
        assert alfa.view.manifest != EMPTY
        await alfa.stop()
        await bravo.stop()

    run_timeless(main())


def test_what_may_have_been_missed_is_a_doubt_until_it_was_compared(tmp_path: pathlib.Path) -> None:
    """Status does not say in sync meanwhile."""

    async def main() -> None:
        node = await started(tmp_path, a=b"a")
        view = node.view
        assert view.doubt is None
        node.watcher.unread = True
        assert view.doubt is not None
        node.watcher.unread = False
        node.edit({"b.conf": b"missed"}, hint=False)
        view.hint(EVERYTHING)
        while "b.conf" not in view.manifest:
            assert view.doubt is not None
            await asyncio.sleep(0)
        await view.settled()
        assert view.doubt is None
        view.cast_doubt()
        assert view.doubt is not None
        await view.settled()
        assert view.doubt is None

    run_timeless(main())


def test_what_cannot_be_watched_is_watched_again_and_compared_with_every_tick(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        node = await started(tmp_path, a=b"a")
        node.watcher.trouble = "a/b cannot be watched"
        for name in ("b.conf", "c.conf"):
            node.edit({name: b"missed"}, hint=False)
            watched = len(node.watcher.watched)
            node.view.check_identity()
            await node.view.settled()
            assert name in node.view.manifest and len(node.watcher.watched) == watched + 1
            assert node.view.doubt == "a/b cannot be watched"
        node.watcher.trouble = None
        node.view.check_identity()
        await node.view.settled()
        assert node.view.doubt is None

    run_timeless(main())


@pytest.mark.parametrize("way", ["written", "deleted"])
def test_a_compare_that_began_before_a_commit_never_tells_what_was_there_before(tmp_path: pathlib.Path, way: str) -> None:
    async def main() -> None:
        node = await started(tmp_path, a=b"a", old=b"old")
        told: list[set[str]] = []
        node.view.on_change.append(lambda: told.append({entry.path for entry in node.view.manifest}))
        node.view.request_compare()
        await asyncio.sleep(0)
        # The thread has read everything by now; what it found is taken in with the next turn of the loop.
        time.sleep(0.2)  # noqa: ASYNC251 the loop is to do nothing meanwhile
        if way == "written":
            node.edit({"new.conf": b"new"}, hint=False)
            puts, deletes = [*manifest_of({"new.conf": b"new"})], list[str]()
            wanted = {"a.conf", "old.conf", "new.conf"}
        else:
            node.edit({"old.conf": None}, hint=False)
            puts, deletes = [], ["old.conf"]
            wanted = {"a.conf"}
        node.view.committed(node.view.manifest.changed(puts, deletes), puts, deletes)
        await node.view.settled()
        await asyncio.sleep(0.1)
        assert told[0] == wanted and all(paths == wanted for paths in told), told
        assert {entry.path for entry in node.view.manifest} == wanted and node.view.doubt is None

    asyncio.run(main())
