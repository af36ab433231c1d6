"""What states of programs mean: one alert for what happened once, none for what was done on purpose, one for a storm."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ha_agent.core.events import StateEvent, merge_state_events
from ha_agent.core.program_watch import GRACE_S, Key, Life, ProgramWatch, Rules, SeenProcess

RULES = Rules(loop_count=5, loop_window_s=60.0)


def watch(quiet: set[str] | None = None) -> ProgramWatch:
    groups = quiet if quiet is not None else set()
    return ProgramWatch(RULES, lambda group, _at: group in groups)


def change(before: str, after: str, at: float, *, name: str = "web", pid: int = 7, expected: bool = False) -> StateEvent:
    bad = after == "EXITED" and not expected
    return StateEvent(name, name, before, after, at, pid, expected, int(bad), int(after == "BACKOFF"))


def nothing(_key: object) -> dict[str, Any]:
    return {}


def test_a_program_that_is_killed_and_started_again_is_told_once() -> None:
    one = watch()
    one.feed([change("STARTING", "RUNNING", 0.0)])
    one.feed([change("RUNNING", "EXITED", 10.0), change("EXITED", "STARTING", 10.1, pid=8)])
    assert one.take_fresh() == [("web", "web")] and one.take_fresh() == []
    assert one.moments(10.2, nothing) == [] == one.conditions(10.2, nothing)
    one.feed([change("STARTING", "RUNNING", 11.1, pid=8)])
    (moment,) = one.moments(11.2, lambda _key: {"exit": "terminated by SIGKILL"})
    assert moment.code == "program-restarted"
    assert moment.text == "web ended unexpectedly (terminated by SIGKILL) and runs again"
    assert one.moments(11.3, nothing) == []


def test_a_program_that_nobody_starts_again_is_down_until_it_runs() -> None:
    one = watch()
    one.feed([change("RUNNING", "EXITED", 10.0)])
    assert one.conditions(10.0 + GRACE_S / 2, nothing) == []
    (condition,) = one.conditions(10.0 + GRACE_S, nothing)
    assert condition.code == "program-exited" and one.moments(13.0, nothing) == []
    one.feed([change("EXITED", "STARTING", 20.0), change("STARTING", "RUNNING", 21.0)])
    assert one.conditions(22.0, nothing) == [] == one.moments(22.0, nothing)


def test_an_end_that_was_expected_or_ordered_is_no_alert() -> None:
    one = watch()
    one.feed([change("RUNNING", "EXITED", 1.0, expected=True)])
    one.feed([change("RUNNING", "STOPPING", 1.0, name="b"), change("STOPPING", "STOPPED", 2.0, name="b")])
    assert one.conditions(60.0, nothing) == [] == one.moments(60.0, nothing)


def test_a_program_that_is_given_up_is_one_alert_and_not_its_attempts_too() -> None:
    one = watch()
    for at in range(4):
        one.feed([change("STOPPED", "STARTING", float(at)), change("STARTING", "BACKOFF", at + 0.5)])
    one.feed([change("BACKOFF", "FATAL", 4.0)])
    assert [c.code for c in one.conditions(4.1, nothing)] == ["program-fatal"] and one.moments(4.1, nothing) == []


def test_a_restart_storm_is_one_alert_until_a_quiet_window_has_passed() -> None:
    one, moments = watch(), 0
    for at in range(0, 40, 2):
        one.feed([change("RUNNING", "EXITED", float(at)), change("EXITED", "STARTING", at + 0.1)])
        one.feed([change("STARTING", "RUNNING", at + 1.2)])
        codes = [c.code for c in one.conditions(at + 1.3, nothing)]
        assert codes == (["program-looping"] if at >= 8 else [])
        moments += len(one.moments(at + 1.3, nothing))
    assert moments == 4
    assert [c.code for c in one.conditions(90.0, nothing)] == ["program-looping"]
    assert one.conditions(100.0, nothing) == []


def test_what_a_takeover_does_is_left_to_its_summary_and_what_stays_down_is_told_after_it() -> None:
    quiet = {"web", "bad"}
    one = watch(quiet)
    one.feed([change("STARTING", "BACKOFF", 1.0, name="bad"), change("BACKOFF", "FATAL", 2.0, name="bad")])
    one.feed([change("RUNNING", "EXITED", 1.0), change("EXITED", "STARTING", 1.1), change("STARTING", "RUNNING", 2.1)])
    assert one.conditions(3.0, nothing) == [] == one.moments(3.0, nothing) and one.take_fresh() == []
    assert one.swallowed == 2
    quiet.clear()
    assert [(c.code, c.subject) for c in one.conditions(4.0, nothing)] == [("program-fatal", "bad")]
    assert one.down(4.0) == [("bad", "bad")] and one.moments(4.0, nothing) == []


def test_a_look_finds_what_no_event_told_when_the_next_one_agrees() -> None:
    one = watch()
    start = [
        SeenProcess("web", "web", "RUNNING", 7, 0.0),
        SeenProcess("b", "b", "RUNNING", 9, 0.0),
        SeenProcess("c", "c", "RUNNING", 3, 0.0),
    ]
    assert one.resync(start, 100.0, 100.1) == []
    after = [SeenProcess("web", "web", "RUNNING", 8, 0.0), SeenProcess("b", "b", "EXITED", 0, 0.0)]
    assert one.resync(after, 200.0, 200.1) == [] and one.doubts, "the events may be on their way"
    assert one.resync(after, 202.0, 202.1) == ["web", "b"] and not one.doubts
    assert [m.subject for m in one.moments(205.0, nothing)] == ["web"]
    assert [(c.code, c.subject) for c in one.conditions(205.0, nothing)] == [("program-exited", "b")]
    assert ("c", "c") not in one.lives, "what was unloaded is no loss"


def test_a_look_that_is_overtaken_by_events_counts_nothing_twice() -> None:
    one = watch()
    one.resync([SeenProcess("web", "web", "RUNNING", 7, 0.0)], 100.0, 100.1)
    one.resync([SeenProcess("web", "web", "RUNNING", 8, 0.0)], 200.0, 200.1)
    one.feed([change("RUNNING", "EXITED", 199.0), change("EXITED", "STARTING", 199.1, pid=8)])
    one.feed([change("STARTING", "RUNNING", 200.2, pid=8)])
    assert one.resync([SeenProcess("web", "web", "RUNNING", 8, 0.0)], 202.0, 202.1) == []
    (moment,) = one.moments(203.0, nothing)
    assert moment.details["ends"] == 1
    one.resync([SeenProcess("web", "web", "RUNNING", 7, 0.0)], 150.0, 204.0)
    assert not one.doubts, "an old look says nothing about what came after it"


def test_one_that_begins_anew_goes_on_with_what_was_told() -> None:
    one = watch()
    one.adopt(["down"], ["loop", "g:x"])
    assert not one.is_synced
    # An event may come before the first look.
    one.feed([change("EXITED", "STARTING", 99.9, name="loop")])
    seen = [SeenProcess(n, n, "EXITED", 0, 0.0) for n in ("down", "done")]
    seen += [SeenProcess("loop", "loop", "RUNNING", 7, 0.0), SeenProcess("g", "x", "STARTING", 8, 0.0)]
    one.resync(seen, 100.0, 100.0)
    found = {(c.code, c.subject) for c in one.conditions(101.0 + GRACE_S, nothing)}
    assert one.is_synced
    assert found == {("program-exited", "down"), ("program-looping", "loop"), ("program-looping", "g:x")}
    after = {(c.code, c.subject) for c in one.conditions(100.0 + RULES.loop_window_s, nothing)}
    assert after == {("program-exited", "down")}
    one.resync([], 200.0, 200.0)
    one.resync([SeenProcess("loop", "loop", "RUNNING", 9, 0.0), SeenProcess("down", "down", "EXITED", 0, 0.0)], 300.0, 300.0)
    assert one.conditions(310.0, nothing) == [], "what is loaded again later is another life"


STORY = st.lists(st.sampled_from(("EXITED", "RUNNING", "BACKOFF", "STARTING")), min_size=1, max_size=60)


@given(STORY)
def test_a_backlog_that_was_merged_counts_the_same_ends(states: list[str]) -> None:
    events, before = [], "RUNNING"
    for at, after in enumerate(states):
        events.append(change(before, after, at / 100))
        before = after
    plain, merged = watch(), watch()
    plain.feed(events)
    merged.feed(merge_state_events(events))
    key = ("web", "web")
    assert plain.lives[key].state == merged.lives[key].state
    assert len(plain.lives[key].ends) == len(merged.lives[key].ends)
    assert sum(e.count for e in plain.lives[key].untold) == sum(e.count for e in merged.lives[key].untold)
    assert [c.code for c in plain.conditions(5.0, nothing)] == [c.code for c in merged.conditions(5.0, nothing)]


class WatchThatLooksAtAll(ProgramWatch):
    """What the watch must agree with: it asks every life whether something is to tell of it."""

    def _noted_lives(self) -> list[tuple[Key, Life]]:
        return list(self.lives.items())


STEPS = st.lists(
    st.tuples(
        st.sampled_from(("a", "b", "c")),
        st.sampled_from(("EXITED", "FATAL", "RUNNING", "BACKOFF", "STARTING", "STOPPED", "look")),
        st.booleans(),
        st.sampled_from((0.1, 1.0, 30.0)),
    ),
    max_size=40,
)


@given(STEPS)
def test_a_life_at_rest_needs_no_look(steps: list[tuple[str, str, bool, float]]) -> None:
    one, thorough, now = watch(), WatchThatLooksAtAll(RULES, lambda _group, _at: False), 0.0
    states: dict[str, str] = {}
    for name, after, expected, pause in steps:
        now += pause
        for it in (one, thorough):
            if after == "look":
                it.resync([SeenProcess(n, n, s, 7, now) for n, s in states.items()], now, now)
            else:
                it.feed([change(states.get(name, "STOPPED"), after, now, name=name, expected=expected)])
        if after != "look":
            states[name] = after
        assert sorted(one.down(now)) == sorted(thorough.down(now))
        assert sorted(map(str, one.conditions(now, nothing))) == sorted(map(str, thorough.conditions(now, nothing)))
        assert sorted(map(str, one.moments(now, nothing))) == sorted(map(str, thorough.moments(now, nothing)))
