"""Signs of life: whom this node believes, what a greeting teaches it, and when it gives a link up."""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import Callable
from typing import Any

import pytest

from ha_agent.adapters.rpc import Disconnected, RemoteError
from ha_agent.core.frames import Message
from ha_agent.core.manifest import EMPTY, Manifest
from ha_agent.core.peer_summary import WrongPeer, summary_message
from ha_agent.core.transaction import MOST_JUMP, Watermark
from ha_agent.core.words import Role, VrrpState
from ha_agent.daemon.peer.conversation import Conversation
from tests.unit.fakes_replication import LIMITS, WALL_S, PairNode, ScriptedLink, manifest_of
from tests.unit.timeless import run_timeless

FILES = {"a.conf": b"a"}
UNKNOWN = Watermark()


def said(role: Role = Role.STANDBY, mark: Watermark = UNKNOWN, manifest: Manifest = EMPTY, **other: Any) -> Message:
    """Signs of life of ``bravo``."""
    return {**summary_message("bravo", role, VrrpState.BACKUP, mark, 7, manifest.hash), **other}


class Talker:
    """Node ``alfa``, which holds FILES; ``reply`` answers at the other end."""

    def __init__(
        self,
        tmp_path: pathlib.Path,
        reply: Callable[[Message], Message | Exception],
        on_doubt: Callable[[str], object] = print,
    ) -> None:
        self.node, self.link = PairNode(tmp_path, "alfa", "bravo"), ScriptedLink(reply)
        node = self.node
        self.news = 0

        def on_news() -> None:
            self.news += 1

        self.conversation = Conversation(
            node.peer_settings,
            LIMITS,
            node.standing,
            node.ledger,
            node.view,
            self.link,
            node.replicator,
            on_news,
            lambda: WALL_S,
            on_doubt,
        )
        node.edit(dict(FILES), hint=False)

    def ops(self) -> list[str]:
        """What the peer was asked."""
        return [str(message["op"]) for message in self.link.asked]


@pytest.mark.parametrize(
    "answer", [said(node="charlie"), said(version=99), {**said(), "role": "boss"}, said(epoch="x"), {}, {"version": 1}]
)
def test_whoever_is_not_the_peer_is_refused_and_changes_nothing(tmp_path: pathlib.Path, answer: Message) -> None:
    async def main() -> None:
        talker = Talker(tmp_path, lambda _: answer)
        with pytest.raises(WrongPeer):
            talker.conversation.learn(answer)
        with pytest.raises(RemoteError):
            await talker.conversation.greet(talker.link)
        assert (talker.conversation.peer, talker.news, talker.node.replicator.peer_manifest) == (None, 0, None)
        assert await talker.conversation.ask_role(1.0) is None

    run_timeless(main())


def test_news_are_told_when_the_role_changes_alone(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        talker = Talker(tmp_path, lambda _: said())
        told = []
        for role in (Role.STANDBY, Role.STANDBY, Role.ACTIVE, Role.ACTIVE, Role.STANDBY):
            talker.conversation.learn(said(role))
            told.append(talker.news)
        assert told == [1, 1, 2, 2, 3]

    run_timeless(main())


@pytest.mark.parametrize("role", list(Role))
def test_an_epoch_is_learnt_of_the_peer_by_a_node_that_does_not_own_the_pair(tmp_path: pathlib.Path, role: Role) -> None:
    async def main() -> None:
        talker = Talker(tmp_path, lambda _: said())
        talker.node.standing.become(role)
        talker.conversation.learn(said(mark=Watermark(8, "bravo")))
        owns = role in (Role.ACTIVE, Role.TAKING_OVER)
        assert (talker.node.ledger.known == Watermark(8, "bravo")) == (not owns)

    run_timeless(main())


def test_an_epoch_that_a_key_alone_vouches_for_is_believed_within_limits_and_told_otherwise(tmp_path: pathlib.Path) -> None:
    """The rule of `poisoned-epoch`: what was sent with a key does not outlive the key."""

    async def main() -> None:
        doubts: list[str] = []
        talker = Talker(tmp_path, lambda _: said(mark=Watermark(2**40, "bravo")), doubts.append)
        talk, ledger = talker.conversation, talker.node.ledger
        for poison in (2**62 - 1, MOST_JUMP + 1, MOST_JUMP + 1):
            with pytest.raises(WrongPeer, match="not believed"):
                talk.learn(said(mark=Watermark(poison, "mallory")), is_answer=False)
        assert (ledger.known, talk.peer, len(doubts)) == (Watermark(), None, 2)
        talk.learn(said(mark=Watermark(MOST_JUMP, "mallory")), is_answer=False)
        assert ledger.known.epoch == MOST_JUMP
        await talk.greet(talker.link)
        assert ledger.known == Watermark(2**40, "bravo"), "the peer's own machine says so"
        odd: tuple[object, ...] = (2**62, 2**63 - 1, -1, 1.5, True, "7", None)
        for one in odd:
            with pytest.raises(WrongPeer, match="understood"):
                talk.learn({**said(), "epoch": one})

    run_timeless(main())


def test_a_generation_that_cannot_be_is_not_gone_on_from(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        talker = Talker(tmp_path, lambda _: said(generation=2**61))
        await talker.conversation.greet(talker.link)
        assert talker.node.ledger.next_generation() == 1

    run_timeless(main())


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("is_up", [True, False])
def test_the_peer_owns_the_pair_as_long_as_it_can_be_reached(tmp_path: pathlib.Path, role: Role, is_up: bool) -> None:
    async def main() -> None:
        talker = Talker(tmp_path, lambda _: said())
        assert not talker.conversation.peer_owns, "nothing was heard yet"
        talker.conversation.learn(said(role))
        talker.link.is_up = is_up
        assert talker.conversation.peer_owns == (is_up and role in (Role.ACTIVE, Role.TAKING_OVER))

    run_timeless(main())


def test_a_summary_says_what_this_node_is(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        talker = Talker(tmp_path, lambda _: said())
        await talker.node.view.compare()
        await talker.node.claim(Watermark(4, "alfa"))
        talker.node.standing.note_vrrp(VrrpState.MASTER)
        wanted = summary_message("alfa", Role.ACTIVE, VrrpState.MASTER, Watermark(4, "alfa"), 0, manifest_of(FILES).hash)
        assert talker.conversation.summary() == wanted

    run_timeless(main())


@pytest.mark.parametrize(
    ("held", "agreed", "asks"),
    [
        (manifest_of(FILES), EMPTY, False),
        (manifest_of({"b.conf": b"b"}), manifest_of({"b.conf": b"b"}), False),
        (manifest_of({"b.conf": b"b"}), EMPTY, True),
    ],
)
def test_a_greeting_asks_for_the_manifest_only_where_it_is_not_known(
    tmp_path: pathlib.Path, held: Manifest, agreed: Manifest, asks: bool
) -> None:
    def reply(message: Message) -> Message:
        return {"rows": held.to_rows()} if message["op"] == "manifest" else said(manifest=held)

    async def main() -> None:
        talker = Talker(tmp_path, reply)
        await talker.node.view.compare()
        talker.node.ledger.agreed = agreed
        await talker.conversation.greet(talker.link)
        assert talker.node.replicator.peer_manifest == held
        assert talker.ops() == ["hello", "manifest"] if asks else ["hello"]
        assert talker.node.ledger.generation == 7, "generations go on from the higher one"

    run_timeless(main())


@pytest.mark.parametrize("role", [Role.ACTIVE, Role.STANDBY])
def test_a_greeting_of_two_equal_registries_is_an_agreement_where_this_node_owns_it(
    tmp_path: pathlib.Path, role: Role
) -> None:
    async def main() -> None:
        talker = Talker(tmp_path, lambda _: said(manifest=manifest_of(FILES)))
        await talker.node.view.compare()
        talker.node.standing.become(role)
        await talker.conversation.greet(talker.link)
        assert (talker.node.ledger.agreed == manifest_of(FILES)) == (role is Role.ACTIVE)
        await talker.node.ledger.close()

    run_timeless(main())


def test_a_link_that_came_up_since_is_not_given_up_for_the_former_one(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        talker = Talker(tmp_path, lambda _: Disconnected("the former one broke"))
        beating = asyncio.ensure_future(talker.conversation.heartbeat())
        await asyncio.sleep(2.5 * LIMITS.heartbeat_s)
        assert (talker.ops(), talker.link.given_up) == (["ping", "ping"], [])
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)

    run_timeless(main())


@pytest.mark.parametrize("answer", [TimeoutError(), RemoteError("no"), said(node="charlie")])
def test_a_peer_without_signs_of_life_loses_the_link(tmp_path: pathlib.Path, answer: Message | Exception) -> None:
    answers: list[Message | Exception] = [answer, said(), said()]

    async def main() -> None:
        talker = Talker(tmp_path, lambda _: answers.pop())
        beating = asyncio.ensure_future(talker.conversation.heartbeat())
        await asyncio.sleep(2.5 * LIMITS.heartbeat_s)
        assert (talker.ops(), talker.link.given_up) == (["ping", "ping"], [])
        await asyncio.sleep(LIMITS.heartbeat_s)
        assert len(talker.link.given_up) == 1
        await asyncio.sleep(5 * LIMITS.heartbeat_s)
        assert len(talker.ops()) == 3, "a link that is down is not asked"
        beating.cancel()

    run_timeless(main())


def test_who_asks_now_does_not_wait_for_the_next_heartbeat(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        talker = Talker(tmp_path, lambda _: said())
        beating = asyncio.ensure_future(talker.conversation.heartbeat())
        await asyncio.sleep(0)
        talker.conversation.ask_now()
        await asyncio.sleep(0.01)
        assert (talker.ops(), talker.link.nudges) == (["ping"], 1)
        beating.cancel()

    run_timeless(main())


@pytest.mark.parametrize("role", list(Role))
def test_the_role_that_is_asked_for_is_the_one_of_now(tmp_path: pathlib.Path, role: Role) -> None:
    async def main() -> None:
        talker = Talker(tmp_path, lambda _: said(role))
        assert await talker.conversation.ask_role(1.0) is role
        talker.link.reply = lambda _: TimeoutError()
        assert await talker.conversation.ask_role(1.0) is None, "what was heard before does not count"
        talker.link.is_up = False
        assert await talker.conversation.ask_role(1.0) is None

    run_timeless(main())


@pytest.mark.parametrize(
    ("answer", "problem"), [(TimeoutError(), "no answer within"), (Disconnected("broken"), "broken"), (None, "cable")]
)
def test_a_peer_that_cannot_be_asked_is_described_by_what_was_last_heard(
    tmp_path: pathlib.Path, answer: Exception | None, problem: str
) -> None:
    async def main() -> None:
        talker = Talker(tmp_path, lambda _: answer or said())
        talker.link.is_up, talker.link.problem = answer is not None, "cable"
        status: Any = await talker.conversation.query_status()
        assert (status["name"], status["reachable"], "role" in status) == ("bravo", False, False)
        assert problem in status["problem"]
        talker.conversation.learn(said(Role.ACTIVE, Watermark(3, "bravo")))
        status = await talker.conversation.query_status()
        assert (status["role"], status["epoch"], status["heard_at"]) == ("active", 3, WALL_S)

    run_timeless(main())


def test_a_peer_that_answers_describes_itself(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        talker = Talker(tmp_path, lambda _: {"node": {"name": "bravo", "role": "active", "reachable": True}})
        assert await talker.conversation.query_status() == {"name": "bravo", "role": "active", "reachable": True}

    run_timeless(main())
