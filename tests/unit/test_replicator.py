"""The active node's end of replication: what goes out, what is believed of the peer, and what a refusal leads to."""

from __future__ import annotations

import asyncio
import itertools
import pathlib
from collections.abc import Callable

import pytest

from ha_agent.adapters.rpc import Disconnected, RemoteError
from ha_agent.adapters.ssh import TransferFailed
from ha_agent.core.frames import Message
from ha_agent.core.manifest import EMPTY
from ha_agent.core.transaction import Watermark
from ha_agent.core.words import Role
from ha_agent.daemon.replication.replicator import INLINE_FILES, RETRY_S, Replicator
from tests.unit.fakes_replication import LIMITS, WALL_S, PairNode, ScriptedLink, manifest_of
from tests.unit.timeless import run_timeless

Reply = Callable[[Message], Message | Exception]
COMMITTED: Message = {"answer": "COMMITTED"}


class Sender:
    """An active node ``alfa`` whose link ends at a script."""

    def __init__(self, tmp_path: pathlib.Path, reply: Reply) -> None:
        self.node = PairNode(tmp_path, "alfa", "bravo")
        self.link = ScriptedLink(reply)
        node = self.node
        self.replicator = Replicator(
            node.registry_settings,
            LIMITS,
            str(node.state_dir / "outgoing"),
            node.standing,
            node.view,
            node.ledger,
            self.link,
            node.events,
            lambda: WALL_S,
        )
        node.view.on_change.append(self.replicator.wake)

    async def begin(self, files: dict[str, bytes]) -> asyncio.Task[None]:
        """Has ``files`` and is active under epoch 3; nothing is known of the peer."""
        self.node.edit(dict(files), hint=False)
        await self.node.view.compare()
        await self.node.claim(Watermark(3, "alfa"))
        return asyncio.get_running_loop().create_task(self.replicator.run())

    def sent(self) -> list[Message]:
        """The transactions that went out."""
        return [message["txn"] for message in self.link.asked if message["op"] == "transaction"]


def test_a_peer_that_seems_to_lack_nothing_is_asked_once_to_confirm_it(tmp_path: pathlib.Path) -> None:
    """It may have been active, and edited, since its manifest was learnt."""
    files = {"a.conf": b"a"}

    async def main() -> None:
        sender = Sender(tmp_path, lambda _: COMMITTED)
        running = await sender.begin(files)
        sender.replicator.learn_peer(manifest_of(files))
        assert sender.replicator.pending() is None, "believed before it was confirmed"
        await asyncio.sleep(10)
        assert [(t["puts"], t["deletes"], t["base"]) for t in sender.sent()] == [([], [], manifest_of(files).hash)]
        assert sender.replicator.pending() is not None and not sender.replicator.pending()
        assert sender.replicator.state.pushed == 0, "nothing was changed"
        sender.replicator.wake()
        await asyncio.sleep(10)
        assert len(sender.sent()) == 1
        running.cancel()

    run_timeless(main())


def test_what_a_peer_really_holds_is_learnt_from_its_answer(tmp_path: pathlib.Path) -> None:
    files = {"a.conf": b"a"}
    answers: list[Message] = [{"answer": "NEED_FULL", "rows": manifest_of({"b.conf": b"b"}).to_rows()}]

    async def main() -> None:
        sender = Sender(tmp_path, lambda _: answers.pop() if answers else COMMITTED)
        running = await sender.begin(files)
        sender.replicator.learn_peer(manifest_of(files))
        await asyncio.sleep(10)
        last = sender.sent()[-1]
        assert ([row[0] for row in last["puts"]], last["deletes"]) == (["a.conf"], ["b.conf"])
        assert sender.replicator.peer_manifest == manifest_of(files)
        running.cancel()

    run_timeless(main())


def test_an_epoch_that_was_raised_has_to_be_confirmed_anew(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        sender = Sender(tmp_path, lambda _: COMMITTED)
        running = await sender.begin({"a.conf": b"a"})
        sender.replicator.learn_peer(EMPTY)
        await asyncio.sleep(10)
        await sender.node.ledger.claim(Watermark(9, "alfa"))
        assert sender.replicator.pending() is None
        sender.replicator.wake()
        await asyncio.sleep(10)
        assert [t["epoch"] for t in sender.sent()] == [3, 9]
        running.cancel()

    run_timeless(main())


def test_a_link_that_is_lost_makes_no_change_late_and_a_change_made_meanwhile_is(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        sender = Sender(tmp_path, lambda _: COMMITTED)
        running = await sender.begin({"a.conf": b"a"})
        sender.replicator.learn_peer(EMPTY)
        await asyncio.sleep(10)
        state = sender.replicator.state
        assert len(sender.sent()) == 1 and state.pending_since_wall is None
        sender.link.is_up = False
        sender.replicator.learn_peer(None)
        await asyncio.sleep(10)
        assert state.pending_since_wall is None, "nothing waits"
        sender.node.edit({"a.conf": b"b"})
        await sender.node.view.compare()
        sender.replicator.wake()
        await asyncio.sleep(10)
        assert state.pending_since_wall == WALL_S
        running.cancel()

    run_timeless(main())


def test_nothing_goes_out_of_a_node_that_is_not_active(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        for role in Role:
            if role is Role.ACTIVE:
                continue
            sender = Sender(tmp_path / role.value, lambda _: COMMITTED)
            running = await sender.begin({"a.conf": b"a"})
            sender.node.standing.become(role)
            sender.replicator.learn_peer(EMPTY)
            await asyncio.sleep(10)
            assert sender.sent() == [], role
            assert sender.replicator.state.pending_since_wall is None, "nothing of it waits for its peer"
            sender.node.standing.become(Role.ACTIVE)
            sender.link.is_up = False
            sender.replicator.wake()
            await asyncio.sleep(10)
            assert sender.replicator.state.pending_since_wall == WALL_S
            running.cancel()

    run_timeless(main())


@pytest.mark.parametrize(
    ("reply", "refused", "link_lives"),
    [
        ({"answer": "BAD", "reason": "why"}, "BAD: why", True),
        ({"answer": "NO_SPACE", "reason": "full"}, "NO_SPACE: full", True),
        ({"answer": "something new"}, "something new: ", True),
        (RemoteError("it said no"), "it said no", True),
        (Disconnected("gone"), None, True),
        (TimeoutError(), None, False),
    ],
)
def test_what_becomes_of_a_change_that_was_not_taken(
    tmp_path: pathlib.Path, reply: Message | Exception, refused: str | None, link_lives: bool
) -> None:
    async def main() -> None:
        sender = Sender(tmp_path, lambda _: reply)
        running = await sender.begin({"a.conf": b"a"})
        sender.replicator.learn_peer(EMPTY)
        await asyncio.sleep(0.2)
        assert sender.replicator.state.refused == refused
        assert sender.link.is_up == link_lives
        assert sender.replicator.pending(), "it is still due"
        assert sender.node.events.codes.count("replication-refused") == (refused is not None)
        running.cancel()

    run_timeless(main())


def test_a_refused_change_is_tried_again_after_a_pause_and_told_once(tmp_path: pathlib.Path) -> None:
    answers: list[Message] = [{"answer": "BAD", "reason": "why"}] * 3

    async def main() -> None:
        sender = Sender(tmp_path, lambda _: answers.pop() if answers else COMMITTED)
        running = await sender.begin({"a.conf": b"a"})
        sender.replicator.learn_peer(EMPTY)
        await asyncio.sleep(RETRY_S / 2)
        assert len(sender.sent()) == 1
        await asyncio.sleep(10 * RETRY_S)
        assert len(sender.sent()) == 4
        assert (sender.replicator.state.refused, sender.replicator.state.pushed) == (None, 1)
        assert sender.node.events.codes.count("replication-refused") == 1
        running.cancel()

    run_timeless(main())


@pytest.mark.parametrize("answer", ["STALE", "ACTIVE"])
def test_an_answer_of_a_rival_is_passed_on(tmp_path: pathlib.Path, answer: str) -> None:
    async def main() -> None:
        sender = Sender(tmp_path, lambda _: {"answer": answer, "epoch": 9})
        heard: list[Message] = []
        sender.replicator.on_stale.append(heard.append)
        running = await sender.begin({"a.conf": b"a"})
        sender.replicator.learn_peer(EMPTY)
        await asyncio.sleep(0.2)
        assert [message["epoch"] for message in heard] == [9]
        running.cancel()

    run_timeless(main())


@pytest.mark.parametrize(("count", "size", "by_rsync"), [(1, 10, False), (1, 1000, True), (INLINE_FILES + 1, 0, False)])
def test_large_contents_go_ahead_by_rsync(tmp_path: pathlib.Path, count: int, size: int, by_rsync: bool) -> None:
    files = {f"{number}.conf": b"x" * size for number in range(count)}

    async def main() -> None:
        sender = Sender(tmp_path, lambda _: COMMITTED)
        running = await sender.begin(files)
        sender.replicator.learn_peer(EMPTY)
        await asyncio.sleep(1)
        (txn,) = sender.sent()
        assert (txn["staging"] is not None, len(sender.link.transferred)) == (by_rsync, int(by_rsync))
        assert len(txn["puts"]) == count
        running.cancel()

    run_timeless(main())


def test_contents_that_rsync_does_not_bring_over_are_a_refusal(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        sender = Sender(tmp_path, lambda _: COMMITTED)
        sender.link.transfer_fails = TransferFailed("rsync ended with 12")
        running = await sender.begin({"a.conf": b"x" * 1000})
        sender.replicator.learn_peer(EMPTY)
        await asyncio.sleep(1)
        assert (sender.sent(), sender.replicator.state.refused) == ([], "rsync ended with 12")
        running.cancel()

    run_timeless(main())


def test_many_deletions_wait_for_an_operators_word(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        sender = Sender(tmp_path, lambda _: COMMITTED)
        running = await sender.begin({"a.conf": b"a"})
        peer = manifest_of({"a.conf": b"a", **{f"{n}.conf": b"x" for n in range(5)}})
        sender.replicator.learn_peer(peer)
        await asyncio.sleep(10)
        assert sender.sent() == [] and sender.replicator.state.held
        assert sender.node.events.codes == ["registry-held"]
        sender.replicator.accept_deletes()
        await asyncio.sleep(1)
        (txn,) = sender.sent()
        assert len(txn["deletes"]) == 5 and txn["intent"]
        assert sender.replicator.state.held is None
        running.cancel()

    run_timeless(main())


def test_an_operators_word_for_deletions_is_for_those_that_are_due_when_it_is_given(tmp_path: pathlib.Path) -> None:
    """Hazard 51: an operator's word is still in force when the reason for it is gone.

    Fault: deletions are accepted while nothing is held, while the peer is away, and before other ones.
    Answer: the word covers the paths that were due when it was given, until they are back or the epoch has changed.
    Bound: none needed.
    """
    confs = {f"{number}.conf": b"%d" % number for number in range(12)}

    async def main() -> None:
        sender = Sender(tmp_path, lambda _: COMMITTED)
        running = await sender.begin(confs)
        assert sender.replicator.accept_deletes() == (), "nobody knows what the peer holds"
        sender.replicator.learn_peer(manifest_of(confs))
        await asyncio.sleep(5)
        assert sender.replicator.accept_deletes() == (), "nothing is due"
        sender.node.edit(dict.fromkeys(confs))
        await asyncio.sleep(5)
        assert sender.replicator.state.held == "12 of 12 confs are gone from the registry"
        assert [txn["deletes"] for txn in sender.sent()] == [[]]
        sender.node.edit({"0.conf": b"0", "1.conf": b"1"})
        await asyncio.sleep(5)
        sender.link.is_up = False
        assert len(sender.replicator.accept_deletes()) == 10
        sender.node.edit({"0.conf": None, "1.conf": None, "2.conf": b"back"})
        await asyncio.sleep(5)
        sender.node.edit({"2.conf": None})
        await asyncio.sleep(5)
        sender.link.is_up = True
        sender.replicator.wake()
        await asyncio.sleep(5)
        gone = [path for txn in sender.sent() for path in txn["deletes"]]
        assert sorted(gone) == sorted(confs.keys() - {"0.conf", "1.conf", "2.conf"})
        assert sender.replicator.state.held == "3 of 3 confs are gone from the registry"
        running.cancel()

    run_timeless(main())


def test_an_operators_word_ends_with_the_epoch_under_which_it_was_given(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        sender = Sender(tmp_path, lambda _: COMMITTED)
        running = await sender.begin({})
        sender.replicator.learn_peer(manifest_of({"a.conf": b"a", "b.conf": b"b"}))
        sender.link.is_up = False
        assert sender.replicator.accept_deletes() == ("a.conf", "b.conf")
        await sender.node.ledger.claim(Watermark(9, "alfa"))
        sender.link.is_up = True
        sender.replicator.wake()
        await asyncio.sleep(5)
        assert sender.sent() == [] and sender.replicator.state.held
        running.cancel()

    run_timeless(main())


def test_a_failure_of_a_push_is_raised_and_nothing_is_believed_of_the_peer(tmp_path: pathlib.Path) -> None:
    """Whoever runs it starts it again; the next sign of life tells what the peer holds."""

    def fail(_: Message) -> Message:
        raise KeyError("a defect")

    for files in ({"a.conf": b"a"}, {f"{number}.conf": b"" for number in range(INLINE_FILES + 1)}):

        async def main(files: dict[str, bytes] = files) -> None:
            sender = Sender(tmp_path / str(len(files)), fail)
            running = await sender.begin(files)
            sender.replicator.learn_peer(EMPTY)
            with pytest.raises(KeyError, match="a defect"):
                await running
            assert sender.replicator.peer_manifest is None
            sender.link.reply = lambda _: COMMITTED
            running = asyncio.get_running_loop().create_task(sender.replicator.run())
            sender.replicator.learn_peer(EMPTY)
            await asyncio.sleep(1)
            assert sender.replicator.pending() is not None and not sender.replicator.pending()
            running.cancel()

        run_timeless(main())


def test_a_peer_that_is_changed_again_and_again_is_put_right_after_growing_pauses(tmp_path: pathlib.Path) -> None:
    """Two writers would fill the history and the kept copies."""
    files, other = {"a.conf": b"a"}, {"a.conf": b"other"}

    async def main() -> None:
        loop = asyncio.get_running_loop()
        asked: list[float] = []

        def reply(message: Message) -> Message:
            if message["op"] != "manifest":
                return COMMITTED
            asked.append(loop.time())
            return {"hash": manifest_of(other).hash, "rows": manifest_of(other).to_rows()}

        sender = Sender(tmp_path, reply)
        running = await sender.begin(files)
        sender.replicator.learn_peer(manifest_of(files))
        for _ in range(300):
            await asyncio.sleep(1)
            replicator = sender.replicator
            await replicator.hear_holding(manifest_of(other).hash, Role.STANDBY, replicator.moment)
            assert not replicator.state.refused
        pauses = [b - a for a, b in itertools.pairwise(asked)]
        assert pauses == [4, 8, 16, 32, 60, 60, 60]
        assert sender.node.events.codes.count("standby-restored") == len(asked)
        assert sender.replicator.differs and sender.replicator.pending() is None, "and meanwhile it is not in sync"
        running.cancel()

    run_timeless(main())


@pytest.mark.parametrize("role", list(Role))
def test_only_a_peer_that_is_no_rival_is_put_right(tmp_path: pathlib.Path, role: Role) -> None:
    async def main() -> None:
        sender = Sender(tmp_path, lambda _: COMMITTED)
        running = await sender.begin({"a.conf": b"a"})
        sender.replicator.learn_peer(manifest_of({"a.conf": b"a"}))
        await asyncio.sleep(1)
        sender.link.reply = lambda _: {"hash": "x", "rows": []}
        await sender.replicator.hear_holding(EMPTY.hash, role, sender.replicator.moment)
        asked = "manifest" in [message["op"] for message in sender.link.asked]
        assert asked == (role in (Role.STANDBY, Role.FENCED))
        running.cancel()

    run_timeless(main())
