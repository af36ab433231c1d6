"""What may change while replication waits does change, at each of its awaits: nothing fails, and the pair comes to agree."""

from __future__ import annotations

import asyncio
import os
import pathlib
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

import pytest

from ha_agent.adapters.commit import Committer
from ha_agent.adapters.rpc import Disconnected
from ha_agent.adapters.store import Store
from ha_agent.core.frames import Message
from ha_agent.core.requests import AtPeerRequest
from ha_agent.core.settings import TakeoverSettings
from ha_agent.core.transaction import Watermark
from ha_agent.core.words import Outcome, Role
from ha_agent.daemon.peer.interlock import OFF, Interlock
from ha_agent.daemon.replication.ledger import Ledger
from ha_agent.daemon.replication.replicator import INLINE_FILES
from ha_agent.daemon.standing import Standing
from tests.unit.fakes_operations import Node, operator
from tests.unit.fakes_replication import PairNode, ScriptedLink, TestEvents
from tests.unit.moments import Moments
from tests.unit.timeless import TimelessLoop

MEMORY = "/dev/shm"

BEFORE = {"a.conf": b"a", "b.conf": b"b", "c.conf": b"c"}
MANY = {f"{number}.conf": b"%d" % number for number in range(INLINE_FILES + 1)}
LARGE = {"large.conf": b"x" * 1000, "larger.conf": b"y" * 2000}


@pytest.fixture
def memory() -> Iterator[pathlib.Path]:
    """A directory that costs no disk, where there is such a place."""
    root = pathlib.Path(tempfile.mkdtemp(dir=MEMORY if os.path.isdir(MEMORY) else None))
    yield root
    shutil.rmtree(root)


class Course:
    """A pair whose first node is active; ``failures`` is what any of its tasks ended with."""

    def __init__(self, root: pathlib.Path) -> None:
        self.active, self.standby = PairNode(root, "alfa", "bravo"), PairNode(root, "bravo", "alfa")
        self.active.other, self.standby.other = self.standby, self.active
        self.failures: list[dict[str, Any]] = []
        self.told: list[str] = []
        """What a work has noted of itself."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self.failures.append(context))

    async def begin(self) -> None:
        """Both hold BEFORE, and agree on it."""
        for node in (self.active, self.standby):
            node.edit(dict(BEFORE), hint=False)
            await node.start()
        await self.active.link.connect()
        await self.active.claim(Watermark(1, "alfa"))
        await asyncio.sleep(1)
        assert self.active.replicator.pending() is not None

    async def end(self) -> None:
        """Whatever has happened: the link works again, and the node is active."""
        await self.active.link.connect()
        if self.active.standing.role is not Role.ACTIVE:
            self.active.standing.become(Role.ACTIVE)
            self.active.replicator.wake()
        await asyncio.sleep(10)
        for node in (self.active, self.standby):
            await node.stop()


Work = Callable[[Course], Awaitable[object]]
Change = Callable[[Course], None]


async def push_some(course: Course) -> None:
    course.active.edit({"a.conf": b"new", "b.conf": None})
    await asyncio.sleep(1)


async def push_many(course: Course) -> None:
    course.active.edit(dict(MANY))
    await asyncio.sleep(1)


async def push_large(course: Course) -> None:
    course.active.edit(dict(LARGE))
    await asyncio.sleep(1)


async def sync(course: Course) -> None:
    """As the command does; what is acknowledged is on the other disk at that moment."""
    course.active.edit(dict(MANY))
    await course.active.view.compare_now()
    mine = course.active.files()
    word = await course.active.acknowledger.wait(limit_s=5.0)
    if word.on_peer and course.active.files() == mine and not course.told:
        assert course.standby.files() == mine, "acknowledged, and the peer has something else"


async def command(course: Course) -> None:
    """A conf is parked by a command."""
    try:
        await course.active.editor.park("b.conf", "me")
    except FileNotFoundError:
        return
    word = await course.active.editor.acknowledged(["b.conf", "b.conf.parked"])
    if word.on_peer and not course.told:
        assert "b.conf.parked" in course.standby.files() and "b.conf" not in course.standby.files()


WORKS: dict[str, Work] = {"some": push_some, "many": push_many, "large": push_large, "sync": sync, "command": command}


def cut(course: Course) -> None:
    """The link breaks."""
    course.active.link.give_up("cut")


def cut_and_connect(course: Course) -> None:
    """The link breaks, and is there again soon."""
    course.active.link.give_up("cut")
    asyncio.get_running_loop().call_soon(lambda: asyncio.ensure_future(course.active.link.connect()))


def edit(course: Course) -> None:
    """Somebody goes on editing."""
    course.active.edit({"a.conf": b"later", "c.conf": None, "0.conf": b"later"})


def edit_standby(course: Course) -> None:
    """Somebody edits on the standby."""
    course.told.append("edited there")
    course.standby.edit({"a.conf": b"local", "c.conf": None, "d.conf": b"local"})


def release(course: Course) -> None:
    """The node loses its role."""
    course.active.standing.become(Role.RELEASING)


CHANGES: dict[str, Change] = {
    "the link breaks": cut,
    "the link breaks and comes back": cut_and_connect,
    "an edit": edit,
    "an edit on the standby": edit_standby,
    "the role is lost": release,
}


def go_through(memory: pathlib.Path, work: Work, change: Change, judge: Callable[[Course], None]) -> int:
    """Runs ``work`` once for each of its moments, with ``change`` at that one; returns how many moments there were."""

    async def run(moments: Moments, at: int) -> bool:
        course = Course(memory / str(at))
        await course.begin()
        moments.begin(at, lambda: change(course))
        await work(course)
        moments.end()
        await course.end()
        assert course.failures == [], f"at moment {at}"
        judge(course)
        return moments.acted

    return at_every_moment(run)


def at_every_moment(
    run: Callable[[Moments, int], Coroutine[Any, Any, bool]], loop: Callable[[], asyncio.AbstractEventLoop] = TimelessLoop
) -> int:
    """Calls ``run`` with 0, 1, 2 ... until it says that there was no such moment; returns how many there were."""
    at = 0
    while True:
        with asyncio.Runner(loop_factory=loop) as runner:
            if not runner.run(run(Moments(runner.get_loop()), at)):
                return at
        at += 1


def _raise(error: Exception) -> Message:
    raise error


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("work", WORKS.values(), ids=WORKS)
def test_replication_can_be_disturbed_at_every_await(memory: pathlib.Path, work: Work, change: Change) -> None:
    """Hazards 46 and 47: what replication has read is otherwise after an await.

    Fault: at every await of a push, a sync and an acknowledgement the link breaks, somebody edits on either node, or the
    role is lost.
    Answer: no part of the agent fails, nothing is acknowledged that the peer does not hold, both registries become one.
    Bound: none needed.
    """

    def judge(course: Course) -> None:
        assert course.active.files() == course.standby.files(), course.active.replicator.state
        pending = course.active.replicator.pending()
        assert pending is not None and not pending

    assert go_through(memory, work, change, judge) > 5


@pytest.mark.parametrize("answers", [True, False])
def test_the_interlock_survives_a_link_that_breaks_at_every_await(memory: pathlib.Path, answers: bool) -> None:
    """It has the peer's word, or says that there is none: it never has a word that was not given."""

    async def run(moments: Moments, at: int) -> bool:
        def reply(_: Message) -> Message | Exception:
            return {"outcome": Outcome.RELEASED.value} if link.is_up else Disconnected("cut")

        link = ScriptedLink(reply)
        (memory / str(at)).mkdir()
        standing = Standing("alfa", str(memory / str(at) / "role.json"))
        ledger = Ledger(Store(str(memory)), Committer(str(memory), str(memory)), 5)

        async def is_machine_up() -> bool:
            await asyncio.sleep(0)
            return False

        clock = asyncio.get_running_loop().time
        events = TestEvents(memory, "alfa")
        interlock = Interlock(TakeoverSettings(), standing, ledger, link, events, is_machine_up, clock)
        link.is_up = answers
        moments.begin(at, lambda: link.give_up("cut"))
        word = await interlock.ask()
        moments.end()
        assert word.outcome in ({Outcome.RELEASED, Outcome.DEAD, Outcome.LINK_DOWN} if answers else OFF)
        return moments.acted

    assert at_every_moment(run) >= 2


def test_a_command_that_is_handed_to_the_peer_survives_a_link_that_breaks_at_every_await(memory: pathlib.Path) -> None:
    """The caller is told that whether it was done is not known; nothing fails."""

    async def run(moments: Moments, at: int) -> bool:
        node = Node(memory / str(at))
        node.link.answers["view"] = lambda _: {"node": {}} if node.link.is_up else _raise(Disconnected("cut"))
        moments.begin(at, node.link.go_down)
        answer = await node.pair.ask_peer(AtPeerRequest({"op": "view"}), operator())
        moments.end()
        assert answer["outcome"] in (Outcome.ANSWERED, Outcome.UNREACHABLE)
        await node.close()
        return moments.acted

    assert at_every_moment(run, asyncio.new_event_loop) > 0
