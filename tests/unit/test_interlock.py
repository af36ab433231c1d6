"""The interlock: what the asking node makes of every outcome, and when the asked node gives its word."""

from __future__ import annotations

import asyncio
import gc
import pathlib
from collections.abc import Awaitable, Callable

import pytest

from ha_agent.adapters.commit import Committer
from ha_agent.adapters.rpc import Disconnected, Progress, RemoteError
from ha_agent.adapters.store import Store
from ha_agent.core.frames import Message
from ha_agent.core.settings import TakeoverSettings
from ha_agent.core.transaction import Watermark
from ha_agent.core.words import Outcome, Role, VrrpState
from ha_agent.daemon.peer.interlock import Interlock, PeerWord
from ha_agent.daemon.replication.ledger import Ledger
from ha_agent.daemon.standing import Standing
from tests.unit.fakes_replication import ScriptedLink, TestEvents
from tests.unit.timeless import run_timeless

LIMITS = TakeoverSettings(peer_probe_s=0.25, silent_peer_s=15.0, interlock_timeout_s=60.0, dual_master_s=1.0)
OWN, HIGHER, LOWER = Watermark(5, "alfa"), Watermark(5, "bravo"), Watermark(4, "bravo")


class AskedLink(ScriptedLink):
    """``heard``: the peer says at once that it heard; ``after_s``: its answer comes so much later."""

    def __init__(self, reply: Message | Exception, *, heard: bool = True, after_s: float = 0.0) -> None:
        super().__init__(lambda _: reply)
        self.heard, self.after_s = heard, after_s

    async def ask(self, message: Message, timeout_s: float, progress: Progress | None = None) -> Message:
        """Answers as the peer's agent does: first that it heard, then its word."""
        if self.heard and progress is not None:
            progress({"heard": True})
        async with asyncio.timeout(timeout_s):
            await asyncio.sleep(self.after_s)
        return await super().ask(message, timeout_s, progress)

    async def wait_change(self, limit_s: float) -> None:
        """Time passes."""
        await asyncio.sleep(limit_s)


class Node:
    """Node ``alfa`` with the claim 5."""

    def __init__(
        self,
        tmp_path: pathlib.Path,
        link: ScriptedLink,
        machine_is_up: Callable[[], bool] = lambda: False,
        look_s: float = 0.0,
        find_silence: Callable[[], Awaitable[bool | None]] | None = None,
    ) -> None:
        async def is_machine_up() -> bool:
            await asyncio.sleep(look_s)
            return machine_is_up()

        tmp_path.mkdir(exist_ok=True)
        self.events = TestEvents(tmp_path, "alfa")
        self.standing = Standing("alfa", str(tmp_path / "role.json"))
        self.standing.claim = OWN
        self.ledger = Ledger(Store(str(tmp_path)), Committer(str(tmp_path), str(tmp_path)), 5)
        clock = asyncio.get_running_loop().time
        parts = (LIMITS, self.standing, self.ledger, link, self.events, is_machine_up, clock)
        self.interlock = Interlock(*parts) if find_silence is None else Interlock(*parts, find_silence)
        self.told: list[Message] = []
        self.gave_way: list[str] = []
        self.woken = 0
        self.maintenance = False
        self.is_clear = True
        """What a look at the processes of a standby finds."""
        self.meanwhile: Callable[[], None] = lambda: None
        """What happens during that look."""

    async def answer(self, asking: Watermark = HIGHER) -> Message:
        """The answer to a peer that claims ``asking``."""

        def wake() -> None:
            self.woken += 1

        async def is_clear() -> bool:
            await asyncio.sleep(0)
            self.meanwhile()
            return self.is_clear

        return await self.interlock.answer(
            asking,
            self.told.append,
            is_clear=is_clear,
            in_maintenance=lambda: self.maintenance,
            give_way=self.gave_way.append,
            wake=wake,
        )


# ---- the node that takes over -----------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", [o for o in Outcome if o not in (Outcome.DEAD, Outcome.LINK_DOWN)])
def test_a_word_that_the_peer_gives_is_taken_as_it_is(tmp_path: pathlib.Path, outcome: Outcome) -> None:
    async def main() -> None:
        link = AskedLink({"outcome": outcome.value})
        assert await Node(tmp_path, link).interlock.ask() == PeerWord(outcome)
        assert link.asked == [{"op": "release", "epoch": 5, "claimed_by": "alfa"}]

    run_timeless(main())


@pytest.mark.parametrize("answer", [{}, {"outcome": None}, {"outcome": "RELEASED"}, {"outcome": "gone"}, {"outcome": True}])
def test_an_answer_that_is_unknown_or_without_outcome_is_no_word(tmp_path: pathlib.Path, answer: Message) -> None:
    async def main() -> None:
        word = await Node(tmp_path, AskedLink(answer), lambda: True).interlock.ask()
        assert word.outcome is Outcome.FAILED and "answered" in word.because

    run_timeless(main())


@pytest.mark.parametrize(
    ("link", "outcome"),
    [
        (AskedLink, Outcome.DEAD),
        (lambda _: AskedLink({}, heard=False, after_s=9), Outcome.DEAD),
        (lambda _: AskedLink(RemoteError("no such operation")), Outcome.DEAD),
        (lambda _: AskedLink({"outcome": "released"}, after_s=61), Outcome.TIMED_OUT),
        (lambda _: AskedLink({"outcome": "released"}, after_s=59), Outcome.RELEASED),
    ],
)
def test_what_is_made_of_a_peer_whose_machine_is_off(
    tmp_path: pathlib.Path, link: Callable[[Exception], AskedLink], outcome: Outcome
) -> None:
    async def main() -> None:
        word = await Node(tmp_path, link(Disconnected("broken"))).interlock.ask()
        assert word.outcome is outcome
        assert ("because" in word.to_dict()) == (outcome is not Outcome.RELEASED)

    run_timeless(main())


def test_a_question_that_ends_while_the_machine_is_looked_for_leaves_nothing_behind(tmp_path: pathlib.Path) -> None:
    left: list[str] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: left.append(str(context["message"])))
        link = AskedLink(Disconnected("silent for 6 s"), heard=False, after_s=0.3)
        await Node(tmp_path, link, look_s=0.5).interlock.ask()
        gc.collect()

    run_timeless(main())
    assert left == []


def test_a_link_that_is_down_is_not_asked(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        link = AskedLink({"outcome": "released"})
        link.is_up, link.problem = False, "no route"
        assert await Node(tmp_path, link).interlock.ask() == PeerWord(Outcome.LINK_DOWN, "no route")
        assert link.asked == []

    run_timeless(main())


def test_an_agent_that_does_not_even_say_that_it_heard_loses_the_link(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        link = AskedLink({}, heard=False, after_s=9)
        await Node(tmp_path, link).interlock.ask()
        assert link.given_up

    run_timeless(main())


def test_a_machine_that_answers_gives_its_agent_time_and_then_it_is_silent(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        link = AskedLink({})
        link.is_up = False
        node = Node(tmp_path, link, lambda: True)
        began = asyncio.get_running_loop().time()
        word = await node.interlock.ask()
        assert word.outcome is Outcome.SILENT
        assert asyncio.get_running_loop().time() - began >= LIMITS.silent_peer_s
        assert node.events.codes == ["peer-silent"], "said once"
        assert link.nudges > 1

    run_timeless(main())


def test_an_agent_that_comes_back_in_that_time_gives_its_word(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        link = AskedLink({"outcome": "released"})
        link.is_up = False
        asyncio.get_running_loop().call_later(7, setattr, link, "is_up", True)
        assert (await Node(tmp_path, link, lambda: True).interlock.ask()).outcome is Outcome.RELEASED

    run_timeless(main())


def test_a_machine_that_goes_off_in_that_time_is_not_waited_for_any_longer(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        link, loop = AskedLink({}), asyncio.get_running_loop()
        link.is_up, link.problem = False, "gone"
        off_at = loop.time() + 3
        word = await Node(tmp_path, link, lambda: loop.time() < off_at).interlock.ask()
        assert word.outcome is Outcome.LINK_DOWN and loop.time() < off_at + 1

    run_timeless(main())


def test_a_question_that_is_late_is_not_given_up_while_the_machine_answers(tmp_path: pathlib.Path) -> None:
    class LossyLink(AskedLink):
        async def ask(self, message: Message, timeout_s: float, progress: Progress | None = None) -> Message:
            await asyncio.sleep(4)
            return await super().ask(message, timeout_s, progress)

    async def main() -> None:
        link = LossyLink({"outcome": "released"}, after_s=5)
        node = Node(tmp_path, link, lambda: True)
        assert (await node.interlock.ask()).outcome is Outcome.RELEASED
        assert len(link.asked) == 1 and not link.given_up

    run_timeless(main())


def test_a_machine_that_has_answered_is_not_off_for_one_look_that_came_to_nothing(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        link = AskedLink({})
        link.is_up = False
        looks = iter([True, False, True, True, False] + [True] * 100)
        assert (await Node(tmp_path, link, lambda: next(looks)).interlock.ask()).outcome is Outcome.SILENT

    run_timeless(main())


def test_a_machine_that_has_not_answered_yet_is_off_after_one_look(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        link, loop = AskedLink({}), asyncio.get_running_loop()
        link.is_up, began = False, loop.time()
        assert (await Node(tmp_path, link).interlock.ask()).outcome is Outcome.LINK_DOWN
        assert loop.time() == began, "the look itself takes peer_probe_s, and nothing is added to it"

    run_timeless(main())


def test_an_agent_that_heard_and_then_broke_off_has_its_time_from_then_on(tmp_path: pathlib.Path) -> None:
    """It was releasing for longer than silent_peer_s when it was killed; the next one gives the word."""

    class BreakingLink(AskedLink):
        async def ask(self, message: Message, timeout_s: float, progress: Progress | None = None) -> Message:
            assert progress is not None
            progress({"heard": True})
            if self.asked:
                return await super().ask(message, timeout_s, progress)
            self.asked.append(message)
            await asyncio.sleep(LIMITS.silent_peer_s + 5)
            self.is_up = False
            asyncio.get_running_loop().call_later(2, setattr, self, "is_up", True)
            raise Disconnected("broken")

    async def main() -> None:
        node = Node(tmp_path, BreakingLink({"outcome": "released"}), lambda: True)
        assert (await node.interlock.ask()).outcome is Outcome.RELEASED

    run_timeless(main())


class Known:
    """What was known before the question, ``after_s`` of waiting for it."""

    def __init__(self, silent: bool | None, after_s: float = 0.0) -> None:
        self.silent, self.after_s, self.asked = silent, after_s, 0

    async def find(self) -> bool | None:
        self.asked += 1
        await asyncio.sleep(self.after_s)
        return self.silent


@pytest.mark.parametrize("is_up", [True, False])
def test_a_machine_that_is_known_to_be_silent_is_not_looked_for_a_second_time(tmp_path: pathlib.Path, is_up: bool) -> None:
    async def main() -> None:
        loop, link = asyncio.get_running_loop(), AskedLink({}, heard=False, after_s=9)
        link.is_up, link.problem = is_up, "no route"
        node = Node(tmp_path, link, lambda: True, LIMITS.peer_probe_s, Known(True, 0.02).find)
        began = loop.time()
        word = await node.interlock.ask()
        assert word.outcome is (Outcome.DEAD if is_up else Outcome.LINK_DOWN)
        assert loop.time() - began == pytest.approx(0.02)
        assert link.given_up

    run_timeless(main())


@pytest.mark.parametrize("silent", [False, None])
def test_a_machine_of_which_that_is_not_known_is_looked_for_as_long_as_ever(
    tmp_path: pathlib.Path, silent: bool | None
) -> None:
    async def main() -> None:
        loop, link = asyncio.get_running_loop(), AskedLink({}, heard=False, after_s=9)
        known = Known(silent, 0.02)
        began = loop.time()
        word = await Node(tmp_path, link, lambda: False, LIMITS.peer_probe_s, known.find).interlock.ask()
        assert word.outcome is Outcome.DEAD and loop.time() - began == pytest.approx(LIMITS.peer_probe_s)
        assert known.asked == 1

    run_timeless(main())


def test_a_word_that_comes_before_the_silence_is_proved_is_taken(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        link = AskedLink({"outcome": "released"}, after_s=0.01)
        node = Node(tmp_path, link, lambda: True, LIMITS.peer_probe_s, Known(True, 0.02).find)
        assert (await node.interlock.ask()).outcome is Outcome.RELEASED and not link.given_up

    run_timeless(main())


def test_a_takeover_that_is_abandoned_leaves_no_look_behind(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        link = AskedLink({}, heard=False, after_s=9)
        node = Node(tmp_path, link, lambda: False, LIMITS.peer_probe_s, Known(True, 0.2).find)
        asked = asyncio.ensure_future(node.interlock.ask())
        await asyncio.sleep(0.1)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_timeless(main())


# ---- the node that is asked -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "vrrp", "maintenance", "asking", "outcome", "gives_way"),
    [
        (Role.STANDBY, VrrpState.BACKUP, False, HIGHER, Outcome.RELEASED, False),
        (Role.STANDBY, VrrpState.MASTER, True, HIGHER, Outcome.RELEASED, False),
        (Role.ACTIVE, VrrpState.BACKUP, True, HIGHER, Outcome.MAINTENANCE, False),
        (Role.FENCED, VrrpState.BACKUP, True, HIGHER, Outcome.MAINTENANCE, False),
        (Role.FENCED, VrrpState.BACKUP, False, HIGHER, Outcome.LEFT_RUNNING, False),
        (Role.ACTIVE, VrrpState.MASTER, False, HIGHER, Outcome.REFUSED, False),
        (Role.ACTIVE, VrrpState.MASTER, False, LOWER, Outcome.REFUSED, False),
        (Role.ACTIVE, VrrpState.BACKUP, False, HIGHER, Outcome.TIMED_OUT, False),
        (Role.RELEASING, VrrpState.MASTER, False, HIGHER, Outcome.TIMED_OUT, False),
        (Role.TAKING_OVER, VrrpState.MASTER, False, LOWER, Outcome.REFUSED, False),
        (Role.TAKING_OVER, VrrpState.MASTER, False, OWN, Outcome.REFUSED, False),
        (Role.TAKING_OVER, VrrpState.MASTER, False, HIGHER, Outcome.TIMED_OUT, True),
        (Role.TAKING_OVER, VrrpState.BACKUP, False, HIGHER, Outcome.TIMED_OUT, False),
    ],
)
def test_the_word_of_a_node_whose_role_does_not_change(
    tmp_path: pathlib.Path,
    role: Role,
    vrrp: VrrpState,
    maintenance: bool,
    asking: Watermark,
    outcome: Outcome,
    gives_way: bool,
) -> None:
    async def main() -> None:
        node = Node(tmp_path, ScriptedLink(lambda _: {}))
        node.standing.become(role)
        node.standing.note_vrrp(vrrp)
        node.standing.note_left_running(2)
        node.maintenance = maintenance
        answer = await node.answer(asking)
        assert answer["outcome"] is outcome
        assert bool(node.gave_way) == gives_way
        assert len(node.gave_way) <= LIMITS.interlock_timeout_s / LIMITS.dual_master_s, "it is not asked all the time"
        assert node.told == [{"heard": True, "role": role.value}] and node.woken == 1
        assert (answer.get("left") == 2) == (outcome is Outcome.LEFT_RUNNING)
        assert (node.ledger.known == asking) == (outcome is Outcome.RELEASED), "the claim counts with the release alone"

    run_timeless(main())


def test_the_word_comes_with_the_end_of_the_release(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        node = Node(tmp_path, ScriptedLink(lambda _: {}))
        node.standing.become(Role.RELEASING)
        loop = asyncio.get_running_loop()
        began = loop.time()
        loop.call_later(20, node.standing.become, Role.STANDBY)
        assert (await node.answer())["outcome"] is Outcome.RELEASED
        assert loop.time() - began == pytest.approx(20)

    run_timeless(main())


def test_an_active_master_that_becomes_backup_within_its_patience_hands_over(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        node, loop = Node(tmp_path, ScriptedLink(lambda _: {})), asyncio.get_running_loop()
        node.standing.become(Role.ACTIVE)
        node.standing.note_vrrp(VrrpState.MASTER)
        loop.call_later(LIMITS.dual_master_s / 2, node.standing.note_vrrp, VrrpState.BACKUP)
        loop.call_later(LIMITS.dual_master_s / 2, node.standing.become, Role.RELEASING)
        loop.call_later(3, node.standing.become, Role.STANDBY)
        assert (await node.answer())["outcome"] is Outcome.RELEASED

    run_timeless(main())


@pytest.mark.parametrize("own", [Watermark(5, "alfa"), Watermark(5, "bravo"), Watermark(6, "alfa"), Watermark(4, "bravo")])
def test_of_two_that_take_over_at_once_exactly_the_lower_claim_gives_way(tmp_path: pathlib.Path, own: Watermark) -> None:
    other = Watermark(5, "charlie" if own.claimed_by == "bravo" else "bravo")

    async def main() -> None:
        outcomes = []
        for name, mine, theirs in (("one", own, other), ("two", other, own)):
            node = Node(tmp_path / name, ScriptedLink(lambda _: {}))
            node.standing.become(Role.TAKING_OVER)
            node.standing.claim_epoch(mine)
            node.standing.note_vrrp(VrrpState.MASTER)
            answer = await node.answer(theirs)
            outcomes.append((bool(node.gave_way), answer["outcome"] is Outcome.REFUSED))
        assert sorted(outcomes) == [(False, True), (True, False)]
        lower_is_first = (own.epoch, own.claimed_by) < (other.epoch, other.claimed_by)
        assert outcomes[0][0] == lower_is_first

    run_timeless(main())


def test_a_standby_on_which_something_runs_gives_its_word_only_when_that_was_released(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        node = Node(tmp_path, AskedLink({}))
        node.is_clear = False
        asked = asyncio.ensure_future(node.answer())
        await asyncio.sleep(0.1)
        assert not asked.done()
        node.standing.become(Role.RELEASING)
        await asyncio.sleep(0.1)
        node.is_clear = True
        node.standing.become(Role.STANDBY)
        assert await asked == {"outcome": Outcome.RELEASED}

    run_timeless(main())


def test_under_maintenance_a_standby_on_which_something_runs_refuses(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        node = Node(tmp_path, AskedLink({}))
        node.is_clear, node.maintenance = False, True
        assert await node.answer() == {"outcome": Outcome.MAINTENANCE}

    run_timeless(main())


def test_a_standby_that_begins_to_take_over_during_the_look_gives_no_word(tmp_path: pathlib.Path) -> None:
    """What runs was looked at before this node had claimed: what was found counts for nothing then."""

    async def main() -> None:
        node = Node(tmp_path, AskedLink({}))
        node.standing.note_vrrp(VrrpState.MASTER)
        node.meanwhile = lambda: node.standing.become(Role.TAKING_OVER)
        answer = await node.answer(LOWER)
        assert answer == {"outcome": Outcome.REFUSED} and node.ledger.known == Watermark()

    run_timeless(main())
