"""Alerts of one node: what is told of programs, takeovers and the node, once each, and never in a takeover's way."""

from __future__ import annotations

import asyncio
import os
import pathlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from ha_agent.adapters.supervisord import ProcessInfo
from ha_agent.core.account import NodeAccount
from ha_agent.core.alerts import Kind
from ha_agent.core.events import StateEvent
from ha_agent.core.transitions import Transition, Verification
from ha_agent.core.words import Role
from ha_agent.daemon.account import Accountant
from ha_agent.daemon.alerts.alerting import PASSED_ON, PLAN_PATIENCE_S
from ha_agent.daemon.alerts.program_watcher import (
    AFTERMATH_S,
    AGAIN_S,
    ASKED_AT_ONCE,
    FAILURES,
    FALLEN_LOOK_S,
    GLIMPSE_S,
    LOOK_S,
    PROBE_S,
    SILENT_S,
    last_lines,
    read_endings,
)
from ha_agent.daemon.alerts.takeover_summary import OLD_S, SUMMARY_S, TakeoverSummary
from tests.unit.fakes_operations import Clock, Node, on_node, program_conf

CONFS = {"web.conf": program_conf("web")}


class Plan:
    """A takeover under way."""

    name = "takeover"
    current_step = None
    reason = "why"


class BrokenAccountant(Accountant):
    """Cannot be asked the first time."""

    def __init__(self, sound: Accountant) -> None:
        self._sound, self.failures = sound, 1

    def gather(self, at_wall: float) -> NodeAccount:
        if self.failures:
            self.failures -= 1
            raise RuntimeError("a defect")
        return self._sound.gather(at_wall)


def change(node: Node, before: str, after: str, *, group: str = "db", expected: bool = False) -> StateEvent:
    bad = after == "EXITED" and not expected
    return StateEvent(group, group, before, after, node.wall(), 7, expected, int(bad), int(after == "BACKOFF"))


def feed(node: Node, *events: StateEvent, lost: int = 0, began: bool = False) -> None:
    node.watcher.feed(events, lost, began=began)


async def told(node: Node, at_s: float = 0.0) -> list[tuple[Kind, str]]:
    """What one look tells, ``at_s`` seconds from now."""
    node.clock.now += at_s
    node.wall.now += at_s
    before = len(node.records.notes)
    await node.watcher.update()
    await node.alerting.step()
    return [(note.kind, note.code) for note in node.records.notes[before:]]


def of_programs(found: list[tuple[Kind, str]]) -> list[tuple[Kind, str]]:
    return [pair for pair in found if pair[1].startswith("program-")]


def transition(before: Role, after: Role, *, at: float = 0.0, took: float | None = 1.5, **more: Any) -> Transition:
    event = {"from": before.value, "to": after.value, "at": at, "text": "why", "took_s": took}
    return Transition(before, after, "why", at, took, more.get("steps", ()), event)


def on_standby(base: pathlib.Path, work: Callable[[Node], Awaitable[None]]) -> None:
    async def prepared(node: Node) -> None:
        await node.group.view.start()
        node.client.add("db")
        node.records.load()
        await told(node)
        await work(node)

    on_node(base, prepared, confs=CONFS)


# ---- programs -------------------------------------------------------------------------------------------------


def test_a_program_that_ends_and_runs_again_is_told_with_how_it_ended_and_its_last_lines(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.client.main_log = "INFO exited: db (exit status 3; not expected)\n"
        node.client.logs["db:db"] = "one\n\ntwo\n"
        feed(node, change(node, "RUNNING", "EXITED"), change(node, "EXITED", "STARTING"))
        assert of_programs(await told(node)) == []
        feed(node, change(node, "STARTING", "RUNNING"))
        assert of_programs(await told(node, 1.0)) == [(Kind.MOMENT, "program-restarted")]
        note = node.records.notes[-1]
        assert "exit status 3" in note.text and note.details["log"] == ["one", "two"]
        assert of_programs(await told(node, 1.0)) == []

    on_standby(tmp_path, work)


def test_the_end_that_makes_a_loop_of_it_is_told_by_the_loop_alone(tmp_path: pathlib.Path) -> None:
    """An end is told once: by a moment of its own, or by the condition that it brings about."""

    async def work(node: Node) -> None:
        limit, found = node.settings.alerts.loop_count, []
        for _ in range(limit):
            feed(node, change(node, "RUNNING", "EXITED"), change(node, "EXITED", "STARTING"))
            feed(node, change(node, "STARTING", "RUNNING"))
            found += of_programs(await told(node, 0.1))
        found += of_programs(await told(node, 11.0))
        assert [code for _, code in found].count("program-looping") == 1
        restarts = [n for n in node.records.notes if n.code == "program-restarted"]
        assert sum(n.details.get("ends", 0) + n.details.get("merged", 0) for n in restarts) == limit - 1

    on_standby(tmp_path, work)


def test_what_has_happened_is_told_by_the_next_look_where_one_fails(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.alerting = node.make_alerting(BrokenAccountant(node.accountant))
        node.alerting.hear_event({"code": "stalled", "text": "did nothing", "at": 1.0, "node": "a"})
        feed(node, change(node, "RUNNING", "EXITED"), change(node, "EXITED", "RUNNING"))
        node.summary.hear_transition(transition(Role.RELEASING, Role.STANDBY))
        with pytest.raises(RuntimeError):
            await node.alerting.step()
        found = {code for kind, code in await told(node) if kind is Kind.MOMENT}
        assert {"stalled", "program-restarted", "role-standby"} <= found

    on_standby(tmp_path, work)


def test_a_program_that_is_down_lasts_until_it_runs(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        feed(node, change(node, "RUNNING", "EXITED"))
        assert of_programs(await told(node)) == []
        assert of_programs(await told(node, 3.0)) == [(Kind.BEGIN, "program-exited")]
        feed(node, change(node, "EXITED", "RUNNING"))
        assert of_programs(await told(node, 1.0)) == [(Kind.END, "program-exited")]

    on_standby(tmp_path, work)


def test_a_program_that_is_down_and_is_unloaded_is_no_alert_any_more(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.client.add("db", state="FATAL")
        feed(node, change(node, "BACKOFF", "FATAL"))
        assert of_programs(await told(node)) == [(Kind.BEGIN, "program-fatal")]
        assert of_programs(await told(node, FALLEN_LOOK_S)) == [], "supervisord still has it"
        node.client.do_removeProcessGroup("db")
        assert of_programs(await told(node, FALLEN_LOOK_S)) == [(Kind.END, "program-fatal")]

    on_standby(tmp_path, work)


def test_what_a_takeover_does_to_the_registrys_programs_is_not_told_and_what_it_does_to_others_is(
    tmp_path: pathlib.Path,
) -> None:
    async def work(node: Node) -> None:
        node.group.loaded.remember(["web"])
        node.client.add("web")
        await told(node)
        node.standing.note_plan(Plan())
        for group in ("web", "db"):
            feed(node, change(node, "RUNNING", "EXITED", group=group), change(node, "EXITED", "RUNNING", group=group))
        node.standing.note_plan(None)
        node.watcher.hear_transition(transition(Role.TAKING_OVER, Role.ACTIVE))
        feed(node, change(node, "RUNNING", "EXITED", group="web"), change(node, "EXITED", "RUNNING", group="web"))
        assert of_programs(await told(node)) == [(Kind.MOMENT, "program-restarted")]
        assert node.records.notes[-1].subjects == ("db",) and node.watcher.watch.swallowed == 2
        node.watcher.plan_ended(verifying=False)
        node.wall.now += AFTERMATH_S
        feed(node, change(node, "RUNNING", "EXITED", group="web"), change(node, "EXITED", "RUNNING", group="web"))
        assert of_programs(await told(node, 11.0)) == [(Kind.MOMENT, "program-restarted")]
        assert node.records.notes[-1].subjects == ("web",)

    on_standby(tmp_path, work)


def test_a_release_ends_the_silence_and_a_takeover_that_begins_does_not(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.group.loaded.remember(["web"])

        def is_quiet() -> bool:
            before = node.watcher.watch.swallowed
            feed(node, change(node, "RUNNING", "EXITED", group="web"))
            return node.watcher.watch.swallowed > before

        assert not is_quiet()
        node.watcher.plan_ended(verifying=True)
        assert is_quiet()
        node.watcher.hear_transition(transition(Role.STANDBY, Role.TAKING_OVER))
        node.wall.now += 1
        assert is_quiet()
        node.watcher.hear_transition(transition(Role.RELEASING, Role.STANDBY))
        assert is_quiet()
        node.wall.now += AFTERMATH_S
        assert not is_quiet()

    on_standby(tmp_path, work)


def test_supervisord_is_looked_at_now_and_then_and_at_once_where_events_were_lost(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        def looks() -> int:
            return len(node.client.named("getAllProcessInfo"))

        first = looks()
        assert first == 1
        await told(node, LOOK_S - PROBE_S)
        assert looks() == first
        await told(node, PROBE_S)
        assert looks() == first + 1
        feed(node, lost=3)
        assert (Kind.MOMENT, "events-lost") in await told(node)
        feed(node, began=True)
        assert (Kind.MOMENT, "events-lost") not in await told(node)
        assert looks() == first + 3 and node.watcher.lost == 3
        node.process.alive = False
        await told(node, LOOK_S)
        node.process.alive = True
        node.standing.note_plan(Plan())
        await told(node, LOOK_S)
        assert looks() == first + 3, "nobody is asked during a takeover, nor where there is nobody to ask"

    on_standby(tmp_path, work)


def test_supervisord_is_down_when_several_looks_had_no_answer_and_up_with_the_first_that_has(
    tmp_path: pathlib.Path,
) -> None:
    async def work(node: Node) -> None:
        node.client.problem = "refused"
        await told(node, PROBE_S)
        for _ in range(FAILURES - 1):
            assert node.watcher.silence is None
            await told(node, AGAIN_S)
        await told(node, AGAIN_S)
        assert node.watcher.silence == "refused"
        assert (Kind.BEGIN, "supervisord-down") in await told(node, 60.0)
        node.client.problem = None
        await told(node, AGAIN_S)
        assert node.watcher.silence is None

    on_standby(tmp_path, work)


def test_a_program_whose_events_were_missed_is_found_by_two_looks_that_agree(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.client.put(ProcessInfo("db", "db", "EXITED", 0, 0, "", 1))
        await told(node, LOOK_S)
        await told(node, AGAIN_S)
        assert node.watcher.watch.lives["db", "db"].state == "EXITED"
        assert of_programs(await told(node, 3.0)) == [(Kind.BEGIN, "program-exited")]

    on_standby(tmp_path, work)


def test_the_listener_that_says_nothing_for_long_is_an_alert_unless_supervisord_is_gone(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        def is_silent() -> bool:
            return "listener-silent" in [c.code for c in node.watcher.conditions(node.wall())]

        node.clock.now += SILENT_S
        assert not is_silent()
        node.clock.now += 1
        assert is_silent()
        node.process.alive = False
        assert not is_silent()
        node.process.alive = True
        feed(node)
        assert not is_silent()

    on_standby(tmp_path, work)


def test_memory_beyond_its_limit_is_an_alert_by_the_name_that_the_limit_has(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        own = os.getpid()
        for name in ("big", "small", "large"):
            node.client.put(ProcessInfo(name, name, "RUNNING", own, 1, "", 0))
        feed(node, began=True)
        await told(node, 60.0)
        found = [c for c in node.watcher.conditions(node.wall()) if c.code == "program-memory"]
        assert [c.subject for c in found] == ["big"] and found[0].details["limit_bytes"] == 1024
        node.client.put(ProcessInfo("big", "big", "STOPPED", 0, 0, "", 0))
        feed(node, change(node, "RUNNING", "STOPPED", group="big"))
        await told(node, 60.0)
        assert [c for c in node.watcher.conditions(node.wall()) if c.code == "program-memory"] == []

    on_standby(tmp_path, work)


def test_of_many_programs_that_end_at_once_the_logs_of_some_are_read_and_all_are_told(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        names = [f"p{number:02}" for number in range(ASKED_AT_ONCE + 5)]
        node.client.main_log = "".join(f"exited: {name} (terminated by SIGKILL; not expected)\n" for name in names)
        feed(node, *(change(node, "RUNNING", "EXITED", group=name) for name in names))
        await node.watcher.update()
        assert len(node.client.named("tailProcessStderrLog")) == ASKED_AT_ONCE
        found = [c for c in node.watcher.conditions(node.wall() + 5) if c.code == "program-exited"]
        assert [c.details["exit"] for c in found] == ["terminated by SIGKILL"] * len(names)

    on_standby(tmp_path, work)


def test_logs_that_cannot_be_read_keep_no_alert_back(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        feed(node, change(node, "RUNNING", "EXITED"))
        node.client.problem = "hangs"
        assert of_programs(await told(node, 3.0)) == [(Kind.BEGIN, "program-exited")]
        assert node.records.notes[-1].details["exit"] is None

    on_standby(tmp_path, work)


def test_what_is_shown_is_asked_once_as_long_as_nothing_has_changed(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        def looks() -> int:
            return len(node.client.named("getAllProcessInfo"))

        first = await node.watcher.read_shown()
        count = looks()
        assert first is not None and await node.watcher.read_shown() is first and looks() == count
        feed(node, change(node, "RUNNING", "EXITED"))
        await node.watcher.read_shown()
        assert looks() == count + 1, "an event"
        node.clock.now += GLIMPSE_S
        await node.watcher.read_shown()
        assert looks() == count + 2, "a while"
        node.standing.become(Role.RELEASING)
        await node.watcher.read_shown()
        assert looks() == count + 3, "the role"
        node.clock.now += SILENT_S + 1
        await node.watcher.read_shown()
        await node.watcher.read_shown()
        assert looks() == count + 5, "a listener that is silent tells of no change"
        node.client.problem = "down"
        assert await node.watcher.read_shown() is None

    on_standby(tmp_path, work)


def test_how_a_process_ended_is_read_from_supervisords_own_log() -> None:
    log = "x exited: web (exit status 2; not expected)\nexited: db (exit status 0; expected)\nexited: web (killed; expected)"
    assert read_endings(log) == {"web": "killed", "db": "exit status 0"}
    assert read_endings("") == {}
    assert last_lines(["a\n \nb\nc\n", 0, False], 2) == ["b", "c"]
    assert last_lines(["a"], 0) == [] == last_lines(None, 3)
    assert last_lines(["x" * 1000, 0, False], 1) == ["x" * 500]


# ---- events of the history, maintenance, plans ----------------------------------------------------------------


def test_an_event_is_an_alert_where_it_is_on_the_list_and_nothing_that_is_heard_raises(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        for code in (*PASSED_ON, "takeover-step", "agent-started"):
            node.alerting.hear_event({"code": code, "text": "x", "at": 1.0, "node": "a", "by": "alice"})
        found = [code for kind, code in await told(node) if kind is Kind.MOMENT]
        assert sorted(found) == sorted(PASSED_ON)
        assert node.records.notes[-1].details == {"by": "alice"}
        node.alerting.hear_event({})
        bad: Any = None
        node.alerting.hear_transition(bad)
        node.alerting.hear_verification(bad)

    on_standby(tmp_path, work)


def test_maintenance_holds_back_what_it_silences_and_what_lasts_is_told_after_it(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.maintenance.begin(60.0, "", "alice")
        feed(node, change(node, "RUNNING", "EXITED"), change(node, "EXITED", "RUNNING"))
        feed(node, change(node, "RUNNING", "EXITED", group="mq"))
        node.alerting.hear_event({"code": "stalled", "text": "x", "at": 1.0, "node": "a"})
        assert [code for _, code in await told(node, 3.0)] == ["stalled"]
        node.maintenance.end("alice")
        assert of_programs(await told(node, 1.0)) == [(Kind.BEGIN, "program-exited")]
        assert node.records.notes[-1].subjects == ("mq",), "what has happened meanwhile and is over is not told any more"

    on_standby(tmp_path, work)


async def spin(node: Node, until: Callable[[], bool]) -> None:
    """Has the task of the alerts look until something holds."""
    for _ in range(200):
        node.alerting.wake()
        await asyncio.sleep(0.001)
        if until():
            return
    raise AssertionError("it never came")


def test_while_a_takeover_is_under_way_nothing_is_told_for_a_stated_time_at_most(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.standing.note_plan(Plan())
        node.alerting.hear_event({"code": "stalled", "text": "x", "at": 1.0, "node": "a"})
        node.start(node.alerting.run())
        for _ in range(10):
            node.alerting.wake()
            await asyncio.sleep(0.001)
        assert "stalled" not in [note.code for note in node.records.notes]
        node.clock.now += PLAN_PATIENCE_S
        await spin(node, lambda: "stalled" in [note.code for note in node.records.notes])

    on_standby(tmp_path, work)


def test_a_defect_in_a_look_does_not_end_the_looking(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.alerting = node.make_alerting(BrokenAccountant(node.accountant))
        node.start(node.alerting.run())
        node.alerting.hear_event({"code": "stalled", "text": "x", "at": 1.0, "node": "a"})
        await spin(node, lambda: "stalled" in [note.code for note in node.records.notes])
        await node.alerting.close()

    on_standby(tmp_path, work)


def test_an_agent_that_is_started_again_keeps_what_lasts_until_it_has_looked(tmp_path: pathlib.Path) -> None:
    async def first(node: Node) -> None:
        feed(node, change(node, "RUNNING", "EXITED"))
        await told(node, 3.0)
        await node.alerting.close()

    on_standby(tmp_path, first)

    async def again(node: Node) -> None:
        await node.group.view.start()
        node.client.add("db", state="EXITED")
        node.alerting.load()
        node.client.problem = "not yet"
        assert of_programs(await told(node)) == []
        node.client.problem = None
        assert of_programs(await told(node, AGAIN_S + 3)) == [], "it was told by the agent before this one"
        node.client.put(ProcessInfo("db", "db", "RUNNING", 9, 1, "", 0))
        feed(node, change(node, "EXITED", "RUNNING"))
        assert of_programs(await told(node, 3.0)) == [(Kind.END, "program-exited")]

    on_node(tmp_path, again)


# ---- the summary of a takeover --------------------------------------------------------------------------------


def summary_texts(summary: TakeoverSummary) -> list[str]:
    return [f"{moment.code}: {moment.text}" for moment in summary.take_moments()]


def test_a_takeover_is_one_alert_with_its_cause_the_peers_word_and_its_programs() -> None:
    summary = TakeoverSummary("a", Clock())
    summary.hear_transition(transition(Role.STANDBY, Role.TAKING_OVER))
    steps = ({"step": "claim"}, {"step": "interlock", "interlock": "released"})
    summary.hear_transition(transition(Role.TAKING_OVER, Role.ACTIVE, steps=steps))
    assert summary_texts(summary) == []
    summary.hear_verification(Verification(3, {"web": "cannot be spawned"}, 2.0))
    (text,) = summary_texts(summary)
    assert text == (
        "role-active: a is active after 1.50 s (why; the peer's word: released): "
        "3 programs running, 1 failed; web: cannot be spawned"
    )
    summary.hear_verification(Verification(3, {}, 2.0))
    assert summary_texts(summary) == [], "once"


def test_a_takeover_whose_programs_do_not_settle_is_summed_up_without_them() -> None:
    clock = Clock()
    summary = TakeoverSummary("a", clock)
    summary.hear_transition(transition(Role.TAKING_OVER, Role.ACTIVE))
    clock.now += SUMMARY_S - 0.1
    assert not summary.is_due
    clock.now += 0.1
    assert summary.is_due
    summary.sum_up_late()
    (text,) = summary_texts(summary)
    assert text.endswith("programs are still starting") and not summary.is_due
    summary.hear_verification(Verification(3, {}, 2.0))
    assert summary_texts(summary) == []


@pytest.mark.parametrize(
    ("before", "after", "codes"),
    [
        (Role.RELEASING, Role.STANDBY, ["role-standby"]),
        (Role.FENCED, Role.STANDBY, ["role-standby"]),
        (Role.RELEASING, Role.FENCED, []),
        (Role.ACTIVE, Role.RELEASING, []),
        (Role.STANDBY, Role.TAKING_OVER, []),
    ],
)
def test_a_release_is_told_when_it_has_led_to_standby(before: Role, after: Role, codes: list[str]) -> None:
    summary = TakeoverSummary("a", Clock())
    summary.hear_transition(transition(before, after))
    assert [moment.code for moment in summary.take_moments()] == codes


@pytest.mark.parametrize(
    ("last", "was_told", "age_s", "count"),
    [
        (transition(Role.TAKING_OVER, Role.ACTIVE, at=1000.0), False, 60.0, 1),
        (transition(Role.TAKING_OVER, Role.ACTIVE, at=1000.0), True, 60.0, 0),
        (transition(Role.TAKING_OVER, Role.ACTIVE, at=1000.0), False, OLD_S, 0),
        (transition(Role.RELEASING, Role.STANDBY, at=1000.0), False, 60.0, 0),
        (None, False, 0.0, 0),
    ],
)
def test_a_takeover_of_which_no_agent_lived_to_tell_is_made_up_for_once(
    last: Transition | None, was_told: bool, age_s: float, count: int
) -> None:
    summary = TakeoverSummary("a", Clock())
    summary.make_up_for(last, Verification(2, {}, 0.0, True), 1000.0 + age_s, told=was_told)
    assert len(summary.take_moments()) == count


def test_alerting_makes_one_alert_of_a_takeover_and_makes_up_for_one_that_was_not_told(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.alerting.hear_transition(transition(Role.TAKING_OVER, Role.ACTIVE, at=node.wall()))
        assert "role-active" not in [code for _, code in await told(node)]
        node.alerting.hear_verification(Verification(1, {}, 1.0))
        assert (Kind.MOMENT, "role-active") in await told(node)
        event: Mapping[str, Any] = transition(Role.TAKING_OVER, Role.ACTIVE, at=node.wall() - 5).event
        node.standing.note_transition(event)
        node.alerting.hear_verification(Verification(1, {}, 1.0, resumed=True))
        assert (Kind.MOMENT, "role-active") not in await told(node, 20.0), "it was told"
        node.standing.note_transition({**event, "at": node.wall() - 1})
        node.alerting.hear_verification(Verification(1, {}, 1.0, resumed=True))
        assert (Kind.MOMENT, "role-active") in await told(node, 20.0)

    on_standby(tmp_path, work)


def test_a_takeover_that_is_late_is_told_by_the_next_look(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.alerting.hear_transition(transition(Role.TAKING_OVER, Role.ACTIVE, at=node.wall()))
        assert (Kind.MOMENT, "role-active") in await told(node, SUMMARY_S)

    on_standby(tmp_path, work)
