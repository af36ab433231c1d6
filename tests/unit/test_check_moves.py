"""A hand-over for a check, cut off at every await: it begins once, and only when both nodes have it on their disks."""

from __future__ import annotations

import asyncio
import json
import pathlib
import shutil
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ha_agent.core.agreement import Agreement
from ha_agent.core.check_acts import Act, ActFacts, Move, Verdict, decide_act
from ha_agent.core.checks import CheckSettings
from ha_agent.core.frames import Message
from ha_agent.core.node_json import NodeAccountJson
from ha_agent.core.peer_summary import PeerSummary, summary_message
from ha_agent.core.rules import Cause
from ha_agent.core.transaction import Watermark
from ha_agent.core.words import Role, VrrpState
from ha_agent.daemon.checks.acting import CheckActs
from ha_agent.daemon.checks.record import CheckRecord
from ha_agent.daemon.peer.conversation import Conversation
from ha_agent.daemon.role.hand_over import HandOver
from ha_agent.daemon.standing import Standing
from tests.unit.fakes_replication import TestEvents
from tests.unit.moments import Moments
from tests.unit.timeless import run_timeless

CHECK = CheckSettings(kind="tcp", address="127.0.0.1:1", on_failure="hand-over", at_most=3)
AGREED: Agreement = {"checks": "1 check"}


class FakeConversation(Conversation):
    """The other node keeps a record of its own, and answers after a while."""

    def __init__(self, peer_record: CheckRecord, own_record: CheckRecord) -> None:
        self.record, self.own = peer_record, own_record
        self.peer: PeerSummary | None = None
        self.agreement = self.peer_agreement = AGREED
        self.is_up = True
        self.keeps = True

    async def ask_role(self, timeout_s: float) -> Role | None:
        await asyncio.sleep(0.01)
        if not self.is_up:
            return None
        if self.keeps:
            self.record.hear(self.own.moves)
        moves = self.record.moves if self.keeps else None
        message: Message = summary_message(
            "b", Role.STANDBY, VrrpState.BACKUP, Watermark(), 0, "", agreement=self.peer_agreement, moves=moves
        )
        await asyncio.sleep(0.01)
        self.peer = PeerSummary.parse(message, 1000.0)
        return Role.STANDBY

    async def query_status(self, *, known: bool = False) -> Any:
        await asyncio.sleep(0.01)
        return (
            {"name": "b", "reachable": False, "problem": "not looked at here"} if not self.is_up else account("b", "standby")
        )


def account(name: str, role: str) -> NodeAccountJson:
    """As much of an account as the checks of a switchover read."""
    raw: Any = {
        "name": name, "reachable": True, "role": role, "left_running": 0, "keepalived": "up", "supervisord": "up",
        "vrrp_state": "MASTER" if role == "active" else "BACKUP", "unfit": None, "maintenance": None,
        "registry": {"problem": None}, "replication": {"state": "in_sync" if role == "active" else "receiving"},
        "readiness": {"problems": {}, "warnings": {}, "failure": None, "loadable": 1, "current": True}, "held": None,
    }  # fmt: skip
    found: NodeAccountJson = raw
    return found


class FakeHandOver(HandOver):
    """Counts what is begun. ``obstacle``: what speaks against it."""

    def __init__(self, conversation: FakeConversation, disks: tuple[str, str]) -> None:
        self.asks, self.disks, self.begun, self.obstacle = conversation, disks, 0, ""

    async def find_obstacle(self, *, force: bool = False) -> str | None:
        await self.asks.ask_role(1.0)
        return self.obstacle or None

    def begin(self, reason: str, cause: Cause = Cause.SWITCHOVER) -> None:
        assert cause is Cause.CHECK and reason == "check web: refused"
        for disk in self.disks:
            with open(disk, encoding="ascii") as file:
                assert [row[1] for row in json.load(file)["moves"]] == ["web"], "on both disks"
        self.begun += 1


class Agents:
    """The active node and its peer, each with its disk; the active one's agent may be killed and made again."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        self.events = TestEvents(root, "a")
        self.peer_record = CheckRecord(str(root / "peer.json"), self.events, lambda: 1000.0)
        self.standing = Standing("a", str(root / "role.json"))
        self.standing.claim_epoch(Watermark(5, "a"))
        self.wanted = True
        self.begin()

    def begin(self) -> None:
        """An agent that knows what is on its disk."""
        self.record = CheckRecord(str(self.root / "own.json"), self.events, lambda: 1000.0)
        self.record.load()
        self.conversation = FakeConversation(self.peer_record, self.record)
        self.hand_over = FakeHandOver(self.conversation, (str(self.root / "own.json"), str(self.root / "peer.json")))

        async def restart(_program: str, _by: str) -> str | None:
            return None

        async def describe() -> NodeAccountJson:
            await asyncio.sleep(0.01)
            return account("a", "active")

        self.acts = CheckActs(
            "b",
            self.standing,
            self.record,
            self.conversation,
            self.hand_over,
            restart,
            describe,
            self.events,
            lambda: 1000.0,
        )

    async def act(self) -> Verdict:
        return await self.acts.act("web", CHECK, "refused", lambda: self.wanted)


def run(root: pathlib.Path, work: Callable[[Agents], Awaitable[None]]) -> None:
    async def main() -> None:
        await work(Agents(root))

    run_timeless(main())


def test_it_begins_when_both_nodes_have_it(tmp_path: pathlib.Path) -> None:
    async def work(agents: Agents) -> None:
        assert (await agents.act()).act is Act.HAND_OVER
        assert agents.hand_over.begun == 1 and agents.events.codes[-1] == "check-moves"
        assert agents.peer_record.moves == (Move(1000.0, "web", "a", 5),)

    run(tmp_path, work)


def test_killed_at_any_await_it_begins_once_and_is_one_move(tmp_path: pathlib.Path) -> None:
    async def course(root: pathlib.Path, at: int) -> bool:
        moments = Moments(asyncio.get_running_loop())
        agents = Agents(root)
        killed = asyncio.ensure_future(agents.act())

        def kill() -> None:
            killed.cancel()

        moments.begin(at, kill)
        await asyncio.gather(killed, return_exceptions=True)
        moments.end()
        begun = agents.hand_over.begun
        # The next agent of this node finds the check failing in the same epoch: it goes on.
        agents.begin()
        if not begun:
            assert (await agents.act()).act is Act.HAND_OVER
        assert begun + agents.hand_over.begun == 1
        moves = agents.peer_record.moves
        assert len(moves) == 1 and agents.record.moves == moves
        # The fault is on the other node, too.
        there = ActFacts(1000.0, "b", 6, moves)
        assert decide_act("web", CHECK, there).act is Act.HOLD
        return moments.acted

    at = 0
    while True:
        root = tmp_path / str(at)
        root.mkdir()
        if not run_timeless(course(root, at)):
            break
        shutil.rmtree(root)
        at += 1
    assert at >= 6


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda a: setattr(a.hand_over, "obstacle", "b cannot be reached"), "not handed over: b cannot be reached"),
        (lambda a: setattr(a.conversation, "keeps", False),
         "not handed over: b does not have the same checks: ha-agent config diff --peer"),
        (lambda a: setattr(a.conversation, "peer_agreement", {"checks": "none"}),
         "not handed over: b does not have the same checks: ha-agent config diff --peer"),
    ],
)  # fmt: skip
def test_what_speaks_against_it_is_said_and_nothing_is_noted(
    tmp_path: pathlib.Path, spoil: Callable[[Agents], None], why: str
) -> None:
    async def work(agents: Agents) -> None:
        await agents.conversation.ask_role(1.0)
        spoil(agents)
        await agents.conversation.ask_role(1.0)
        verdict = await agents.act()
        assert (verdict.act, verdict.why) == (Act.HOLD, why)
        assert agents.record.moves == () and agents.hand_over.begun == 0

    run(tmp_path, work)


def test_a_peer_that_has_not_noted_it_keeps_it_from_beginning(tmp_path: pathlib.Path) -> None:
    async def work(agents: Agents) -> None:
        await agents.conversation.ask_role(1.0)
        agents.peer_record.hear = lambda moves: None  # type: ignore[method-assign]
        verdict = await agents.act()
        assert verdict.why == "not handed over: b has not noted it" and agents.hand_over.begun == 0
        del agents.peer_record.hear
        assert (await agents.act()).act is Act.HAND_OVER and len(agents.record.moves) == 1

    run(tmp_path, work)


def test_what_is_not_wanted_any_more_is_not_begun(tmp_path: pathlib.Path) -> None:
    async def work(agents: Agents) -> None:
        agents.wanted = False
        assert (await agents.act()).act is Act.NOTHING
        assert agents.record.moves == () and agents.hand_over.begun == 0

    run(tmp_path, work)


def test_a_record_survives_and_one_that_is_damaged_is_told(tmp_path: pathlib.Path) -> None:
    events = TestEvents(tmp_path, "a")
    path = tmp_path / "checks.json"
    record = CheckRecord(str(path), events, lambda: 1000.0)
    record.add_move(Move(1.0, "web", "a", 1))
    record.begin_restart("web")
    again = CheckRecord(str(path), events, lambda: 1000.0)
    again.load()
    assert (again.moves, again.restarts, again.restarting) == (record.moves, {"web": (1000.0,)}, "web")
    again.note_passed("web")
    again.end_restart()
    third = CheckRecord(str(path), events, lambda: 1000.0)
    third.load()
    assert third.moves == (Move(1.0, "web", "a", 1, True),) and third.restarting == ""
    path.write_text('{"moves": 5}', encoding="ascii")
    fourth = CheckRecord(str(path), events, lambda: 1000.0)
    fourth.load()
    assert fourth.moves == () and events.codes[-1] == "state-damaged"


def test_what_cannot_be_written_does_not_count(tmp_path: pathlib.Path) -> None:
    record = CheckRecord(str(tmp_path / "nowhere" / "checks.json"), TestEvents(tmp_path, "a"), lambda: 1000.0)
    with pytest.raises(OSError, match=r"."):
        record.add_move(Move(1.0, "web", "a", 1))
    with pytest.raises(OSError, match=r"."):
        record.begin_restart("web")
    record.hear([Move(1.0, "web", "a", 1)])
    assert (record.moves, record.restarts, record.restarting) == ((), {}, "")
