"""When checks are made, what is forgotten when, and what is asked for when one of them fails."""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from ha_agent.adapters.check_probes import Asker
from ha_agent.core.account import CheckAccount
from ha_agent.core.check_acts import Act, Verdict
from ha_agent.core.checks import CheckSettings
from ha_agent.core.transitions import Transition
from ha_agent.core.words import Role
from ha_agent.daemon.checks.acting import CheckActs
from ha_agent.daemon.checks.record import CheckRecord
from ha_agent.daemon.checks.states import ProgramState, ProgramStates, worst_of
from ha_agent.daemon.checks.watch import CheckWatch
from ha_agent.daemon.role.maintenance import Maintenance
from ha_agent.daemon.standing import Standing
from tests.unit.fakes_replication import TestEvents
from tests.unit.timeless import run_timeless

CHECK = CheckSettings(kind="running", program="web", interval_s=1.0, timeout_s=0.9, after_s=3.0, fall=2, rise=2)


class FakeStates(ProgramStates):
    """What the test says."""

    def __init__(self) -> None:
        self.known: dict[str, ProgramState] = {}

    def find(self, program: str) -> ProgramState | None:
        return self.known.get(program)

    async def refresh(self, *, at_once: bool = False) -> None:
        pass

    async def run(self) -> None:
        await asyncio.Event().wait()


class FakeActs(CheckActs):
    """Writes down what is asked for, and answers as the test says."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.answer = Verdict(Act.NOTHING)
        self.gate: asyncio.Event | None = None
        self.wanted: list[Callable[[], bool]] = []

    async def act(self, name: str, check: CheckSettings, why: str, is_wanted: Callable[[], bool]) -> Verdict:
        self.asked.append((name, why))
        self.wanted.append(is_wanted)
        if self.gate is not None:
            await self.gate.wait()
        return self.answer

    async def finish_restart(self, name: str, check: CheckSettings) -> Verdict:
        self.asked.append((name, "goes on"))
        return Verdict(Act.RESTART)


class Bench:
    """A watch over checks, on an active node whose program runs."""

    def __init__(self, root: pathlib.Path, **checks: CheckSettings) -> None:
        loop = asyncio.get_running_loop()
        self.clock = loop.time
        self.events = TestEvents(root, "a")
        self.standing = Standing("a", str(root / "role.json"))
        self.maintenance = Maintenance(str(root / "maintenance.json"), self.events, loop.time, loop.time)
        self.maintenance.load("boot")
        self.states, self.acts = FakeStates(), FakeActs()
        self.record = CheckRecord(str(root / "checks.json"), self.events, loop.time)
        self.tasks: list[asyncio.Task[None]] = []
        self.watch = CheckWatch(
            checks or {"web": CHECK},
            Asker(),
            self.standing,
            self.maintenance,
            self.states,
            self.record,
            self.acts,
            self.events,
            self.start,
            loop.time,
            loop.time,
        )
        self.watch.load()
        self.become(Role.ACTIVE)
        self.say("RUNNING")

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.get_running_loop().create_task(work))

    def say(self, state: str) -> None:
        """supervisord says so of the program from now on."""
        self.states.known["web"] = ProgramState(state, self.clock())

    def become(self, role: Role) -> None:
        before = self.standing.role
        self.standing.become(role)
        self.watch.hear_transition(Transition(before, role, "", 0.0, None, (), {}))

    def see(self, name: str = "web") -> CheckAccount:
        return next(check for check in self.watch.describe() if check.name == name)

    @property
    def codes(self) -> list[str]:
        return [code for code in self.events.codes if code.startswith("check-")]


def run(root: pathlib.Path, work: Callable[[Bench], Awaitable[None]], **checks: CheckSettings) -> None:
    """Has ``work`` done beside a watch that works."""

    async def main() -> None:
        bench = Bench(root, **checks)
        for part in bench.watch.works():
            bench.start(part)
        try:
            await work(bench)
        finally:
            bench.watch.close()
            for task in bench.tasks:
                task.cancel()
            await asyncio.gather(*bench.tasks, return_exceptions=True)

    run_timeless(main())


def test_a_fault_is_told_once_and_so_is_its_end(tmp_path: pathlib.Path) -> None:
    async def work(bench: Bench) -> None:
        await asyncio.sleep(2.5)
        assert (bench.see().health, bench.see().waits) == ("unknown", "web is given time to come up")
        await asyncio.sleep(2.0)
        assert bench.see().health == "passing" and bench.codes == []
        bench.say("FATAL")
        await asyncio.sleep(10.0)
        assert (bench.see().health, bench.see().last) == ("failing", "web is FATAL")
        bench.states.known["web"] = ProgramState("RUNNING", 0.0)
        await asyncio.sleep(3.0)
        assert bench.see().health == "passing" and bench.codes == ["check-failed", "check-recovered"]
        assert bench.acts.asked == []

    run(tmp_path, work)


def test_nothing_is_looked_at_while_the_program_starts_or_was_stopped_by_hand(tmp_path: pathlib.Path) -> None:
    async def work(bench: Bench) -> None:
        bench.say("FATAL")
        await asyncio.sleep(5.0)
        bench.say("STOPPED")
        await asyncio.sleep(2.0)
        assert (bench.see().health, bench.see().waits) == ("unknown", "web is STOPPED")
        bench.say("STARTING")
        await asyncio.sleep(20.0)
        assert bench.see().health == "unknown"

    run(tmp_path, work)


def test_a_change_of_role_forgets_everything_at_once(tmp_path: pathlib.Path) -> None:
    async def work(bench: Bench) -> None:
        bench.say("FATAL")
        await asyncio.sleep(5.0)
        assert bench.see().health == "failing"
        bench.become(Role.RELEASING)
        assert (bench.see().health, bench.see().waits) == ("unknown", "this node is not active")
        await asyncio.sleep(60.0)
        assert bench.codes == ["check-failed"]
        bench.become(Role.ACTIVE)
        await asyncio.sleep(5.0)
        assert bench.codes == ["check-failed", "check-failed"]

    run(tmp_path, work)


def test_in_maintenance_nothing_is_looked_at_and_afterwards_it_begins_anew(tmp_path: pathlib.Path) -> None:
    async def work(bench: Bench) -> None:
        await asyncio.sleep(5.0)
        bench.maintenance.begin(30.0, "", "root")
        bench.say("FATAL")
        await asyncio.sleep(20.0)
        assert bench.codes == [] and bench.see().waits == "maintenance is on"
        await asyncio.sleep(20.0)
        assert bench.codes == ["check-failed"]

    run(tmp_path, work)


MOVES = CheckSettings(
    kind="running", program="web", interval_s=1.0, timeout_s=0.9, after_s=0.0, fall=2, rise=1, on_failure="hand-over"
)


def test_it_is_asked_for_again_with_each_bad_answer_and_a_reason_is_told_once(tmp_path: pathlib.Path) -> None:
    async def work(bench: Bench) -> None:
        bench.acts.answer = Verdict(Act.HOLD, "the standby is not ready")
        bench.say("FATAL")
        await asyncio.sleep(5.5)
        assert bench.see().held == "the standby is not ready" and len(bench.acts.asked) in (4, 5)
        assert bench.codes == ["check-failed", "check-held-back"]
        bench.acts.answer = Verdict(Act.HAND_OVER)
        await asyncio.sleep(1.0)
        assert bench.see().held is None

    run(tmp_path, work, web=MOVES)


def test_one_thing_is_done_at_a_time_and_its_check_is_not_made_meanwhile(tmp_path: pathlib.Path) -> None:
    async def work(bench: Bench) -> None:
        bench.acts.gate, bench.acts.answer = asyncio.Event(), Verdict(Act.RESTART)
        bench.say("FATAL")
        await asyncio.sleep(20.0)
        assert len(bench.acts.asked) == 1 and bench.see().waits == "something is being done about it"
        bench.acts.gate.set()
        await asyncio.sleep(0.5)
        # It must fail twice anew.
        await asyncio.sleep(1.0)
        assert len(bench.acts.asked) == 1 and bench.see().health == "failing"
        await asyncio.sleep(1.5)
        assert len(bench.acts.asked) == 2

    run(tmp_path, work, web=MOVES)


def test_what_was_begun_before_a_change_of_role_is_not_wanted_any_more(tmp_path: pathlib.Path) -> None:
    async def work(bench: Bench) -> None:
        wanted: list[Callable[[], bool]] = []

        bench.acts.wanted = wanted
        bench.say("FATAL")
        await asyncio.sleep(3.0)
        assert wanted[0]()
        bench.become(Role.RELEASING)
        assert not wanted[0]()
        bench.become(Role.ACTIVE)
        await asyncio.sleep(5.0)
        assert not wanted[0]() and wanted[-1]()

    run(tmp_path, work, web=MOVES)


def test_a_restart_that_was_cut_off_is_finished_where_the_program_is_stopped(tmp_path: pathlib.Path) -> None:
    async def work(bench: Bench) -> None:
        await asyncio.sleep(0.5)
        assert bench.acts.asked == [] and bench.record.restarting == ""

    async def stopped(bench: Bench) -> None:
        bench.say("STOPPED")
        await asyncio.sleep(0.5)
        assert bench.acts.asked == [("web", "goes on")]

    for work_then in (work, stopped):
        events = TestEvents(tmp_path, "a")
        CheckRecord(str(tmp_path / "checks.json"), events, lambda: 1000.0).begin_restart("web")
        run(tmp_path, work_then)


def test_a_check_that_is_seldom_made_is_made_soon_after_its_time_to_come_up(tmp_path: pathlib.Path) -> None:
    async def work(bench: Bench) -> None:
        await asyncio.sleep(5.0)
        assert bench.see().health == "passing"

    run(tmp_path, work, web=CheckSettings(kind="running", program="web", interval_s=3600.0, after_s=3.0))


def test_the_worst_process_is_the_program(tmp_path: pathlib.Path) -> None:
    running, later = ProgramState("RUNNING", 1.0), ProgramState("RUNNING", 2.0)
    assert worst_of([running, later]) == later and worst_of([]) == ProgramState()
    for state in ("FATAL", "EXITED", "BACKOFF", "STARTING", "STOPPED", ""):
        assert worst_of([running, ProgramState(state, 3.0), later]).state == state
    assert worst_of([ProgramState("STARTING"), ProgramState("FATAL"), ProgramState("STOPPED")]).state == "FATAL"
