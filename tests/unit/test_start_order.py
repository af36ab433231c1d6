"""The order of starts: who waits for what, when each is started, and that no wait goes on for ever."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_agent.core.order_keys import OrderKeys
from ha_agent.core.start_plan import NOBODY, Known, StartPlan, plan_start
from ha_agent.core.start_run import MISSING_S, STARTED, How, Sight, StartRun, critical_path, next_stops, say_path

LIMIT_S = 30.0


def plan(
    after: Mapping[str, str | OrderKeys],
    groups: Mapping[str, tuple[str, ...]] | None = None,
    processes: Mapping[str, tuple[str, ...]] | None = None,
    not_started: frozenset[str] = frozenset(),
) -> StartPlan:
    """The plan of programs ``a`` to ``e`` (each its own group unless ``groups`` says otherwise); words by commas."""
    keys = {
        name if ":" in name else f"program:{name}": OrderKeys(tuple(said.split(","))) if isinstance(said, str) else said
        for name, said in after.items()
    }
    known = Known(groups or {name: (name,) for name in "abcde"}, processes or {}, not_started)
    return plan_start(keys, known, LIMIT_S, "start")


def words(made: StartPlan) -> dict[str, list[str]]:
    """What each group waits for."""
    return {group: [need.word for need in needs] for group, needs in made.needs.items()}


def up(*programs: str) -> frozenset[tuple[str, str]]:
    """The processes of programs that are their own groups."""
    return frozenset((name, name) for name in programs)


def sight(now: float, running: str = "", loaded: str = "", answering: int = 0, groups: str = "abcde") -> Sight:
    """A look at programs with names of one letter; ``answering``: the port of 127.0.0.1 that does."""
    found = frozenset({("127.0.0.1", answering)}) if answering else frozenset()
    return Sight(now, frozenset(groups), frozenset(loaded), up(*running), found)


# ---- the plan ---------------------------------------------------------------------------------------------------


def test_a_pair_without_an_order_has_no_plan() -> None:
    assert plan({}) is NOBODY and NOBODY.held == frozenset()


def test_a_name_that_is_not_there_is_not_waited_for() -> None:
    made = plan({"b": "a,gone", "c": "gone"})
    assert words(made) == {"b": ["a"]}
    assert set(made.ignored) == {("b", "gone"), ("c", "gone")} and "not there" in made.ignored["c", "gone"]


def test_what_no_takeover_starts_is_not_waited_for_and_does_not_wait() -> None:
    made = plan({"b": "a", "a": "c"}, not_started=frozenset({"a"}))
    assert words(made) == {} and "autostart=false" in made.ignored["b", "a"]


def test_a_circle_is_not_waited_for_and_what_is_behind_it_is() -> None:
    made = plan({"a": "b", "b": "c", "c": "a,e", "d": "a"})
    assert words(made) == {"c": ["e"], "d": ["a"]}
    assert made.ignored["a", "b"] == "a circle: a, b, c would wait for each other"


def test_all_processes_of_a_program_are_waited_for_and_of_a_group_all_programs() -> None:
    groups = {"shop": ("web", "db"), "x": ("x",), "y": ("y",)}
    made = plan({"x": "db", "y": "shop"}, groups, {"db": ("db_0", "db_1")})
    (db,), (shop,) = made.needs["x"], made.needs["y"]
    assert db.group == "shop" and db.processes == {("shop", "db_0"), ("shop", "db_1")}
    assert shop.processes == db.processes | {("shop", "web")}


def test_a_member_that_waits_has_its_whole_group_wait_by_the_stricter_word() -> None:
    groups = {"shop": ("web", "db"), "x": ("x",)}
    made = plan({"web": OrderKeys(("x",), 5.0, "skip"), "group:shop": OrderKeys(("x",), 9.0, "start")}, groups)
    (need,) = made.needs["shop"]
    assert (need.limit_s, need.on_timeout) == (9.0, "skip")


def test_a_program_comes_before_a_group_of_the_same_name() -> None:
    made = plan({"y": "web"}, {"web": ("db",), "shop": ("web",), "y": ("y",)})
    assert made.needs["y"][0].group == "shop"


# ---- a run ------------------------------------------------------------------------------------------------------


def test_each_starts_as_soon_as_all_that_it_waits_for_is_up() -> None:
    made = plan({"b": "a", "c": "b,tcp://127.0.0.1:80"})
    run = StartRun(made.held, 10.0)
    assert run.step(made, sight(10.1)) == {}
    assert [(w.group, w.words, w.since, w.until) for w in run.waiting(made)] == [
        ("b", ("a",), 10.0, 40.0), ("c", ("b", "tcp://127.0.0.1:80"), 10.0, None),
    ]  # fmt: skip
    assert run.step(made, sight(11.0, "a"))["b"].how is How.READY
    assert run.step(made, sight(12.0, "ab")) == {} and run.waiting(made)[0].words == ("tcp://127.0.0.1:80",)
    assert run.step(made, sight(13.0, "ab", answering=80))["c"].how is How.READY
    assert run.is_over and run.step(made, sight(14.0, "ab", answering=80)) == {}
    path = critical_path(run, made)
    assert path == [("tcp://127.0.0.1:80", 3.0), ("c", 3.0)]
    assert say_path(path).endswith("c 3.0 s")


def test_the_path_goes_through_what_came_last() -> None:
    made = plan({"b": "a", "c": "b", "d": "a"})
    run = StartRun(made.held, 0.0)
    for now, running in ((1.0, "a"), (4.0, "ab"), (5.0, "abc")):
        run.step(made, sight(now, running, running))
    assert critical_path(run, made) == [("a", 1.0), ("b", 4.0), ("c", 4.0)]


@pytest.mark.parametrize(("on_timeout", "how"), [("start", How.LATE), ("skip", How.SKIPPED), ("fail", How.FAILED)])
def test_a_wait_ends_when_its_time_is_over(on_timeout: str, how: How) -> None:
    made = plan({"b": OrderKeys(("a",), 5.0, on_timeout)})
    run = StartRun(made.held, 0.0)
    assert run.step(made, sight(4.9)) == {}
    end = run.step(made, sight(5.0))["b"]
    assert (end.how, end.words) == (how, ("a",))


def test_time_begins_to_run_when_what_is_waited_for_was_started() -> None:
    made = plan({"b": OrderKeys(("a",), 20.0), "c": OrderKeys(("b",), 5.0)})
    run = StartRun(made.held, 0.0)
    assert run.step(made, sight(19.0)) == {}
    assert set(run.step(made, sight(20.0))) == {"b"}, "c waits on: b was started just now"
    assert run.step(made, sight(24.9)) == {}
    assert run.step(made, sight(25.0))["c"].how is How.LATE


def test_who_waits_for_one_that_is_not_started_does_not_wait_its_time() -> None:
    made = plan({"b": OrderKeys(("a",), 5.0, "skip"), "c": "b", "d": OrderKeys(("c", "e"), 9.0, "skip")})
    run = StartRun(made.held, 0.0)
    found = run.step(made, sight(5.0))
    assert {g: e.how for g, e in found.items()} == {"b": How.SKIPPED, "c": How.LATE}
    assert run.step(made, sight(13.9)) == {} and run.step(made, sight(14.0))["d"].how is How.SKIPPED


def test_one_that_comes_late_is_waited_for_beside_one_that_does_not() -> None:
    made = plan({"b": OrderKeys(("a",), 5.0), "d": OrderKeys(("a", "b"), 5.0)})
    run = StartRun(made.held, 0.0)
    run.step(made, sight(5.0))
    assert run.step(made, sight(6.0, "b", "b")) == {}
    end = run.step(made, sight(10.0, "b", "b"))["d"]
    assert (end.how, end.words) == (How.LATE, ("a",))


def test_what_somebody_started_by_hand_is_not_started_again() -> None:
    made = plan({"b": "a"})
    run = StartRun(made.held, 0.0)
    assert run.step(made, sight(1.0, "a", loaded="b"))["b"].how is How.BY_HAND


def test_what_left_the_registry_is_not_started() -> None:
    made = plan({"b": "a"})
    run = StartRun(made.held, 0.0)
    assert run.step(plan({}), sight(1.0, "a", groups="a")) == {}, "it may be in the middle of an edit"
    assert run.step(plan({}), sight(1.0 + MISSING_S, "a", groups="a"))["b"].how is How.GONE


def test_a_conf_that_waits_for_nothing_any_more_is_started_at_once() -> None:
    made = plan({"b": "a"})
    run = StartRun(made.held, 0.0)
    assert run.step(plan({}), sight(1.0))["b"].how is How.READY


def test_one_that_was_skipped_and_is_started_by_hand_is_told_no_longer() -> None:
    made = plan({"b": OrderKeys(("a",), 5.0, "skip")})
    run = StartRun(made.held, 0.0)
    run.step(made, sight(5.0))
    assert set(run.not_started()) == {"b"}
    run.note_loaded({"b"}, 9.0)
    assert not run.not_started()


def test_what_could_not_be_done_is_waited_for_on_and_what_is_refused_is_not() -> None:
    made = plan({"b": "a", "c": "b"})
    run = StartRun(made.held, 0.0)
    run.step(made, sight(1.0, "a"))
    run.put_back("b")
    assert set(run.step(made, sight(2.0, "a"))) == {"b"}
    run.refuse("b", 2.0, "no")
    assert run.step(made, sight(2.1, "a"))["c"].how is How.LATE


@pytest.mark.parametrize("raw", [{}, {"open": 5, "began": 1.0, "ended": {}, "came": {}}, {"open": [], "began": "x"}])
def test_a_damaged_note_is_refused(raw: dict[str, object]) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        StartRun.from_note(raw)


# ---- stops ------------------------------------------------------------------------------------------------------


def test_stops_go_the_other_way_round() -> None:
    made = plan({"b": "a", "c": "b"})
    assert next_stops(made, "abcd") == {"c", "d"}
    assert next_stops(made, "ab") == {"b"}
    assert next_stops(made, "ac") == {"a", "c"}, "only what runs is waited for"
    assert next_stops(NOBODY, "abc") == set("abc")


# ---- whatever happens -------------------------------------------------------------------------------------------

NAMES = "abcdef"
RULES = st.dictionaries(
    st.sampled_from(NAMES),
    st.builds(
        OrderKeys,
        st.lists(st.sampled_from([*NAMES, "gone", "tcp://127.0.0.1:1"]), min_size=1, max_size=4, unique=True).map(tuple),
        st.one_of(st.none(), st.floats(0.1, 10.0)),
        st.sampled_from([None, "start", "skip", "fail"]),
    ),
)


@dataclass
class World:
    """Programs that come up ``delay_s`` after their start, or never, and an address that answers from ``answers_s`` on."""

    delay_s: Mapping[str, float | None]
    answers_s: float | None
    started: dict[str, float] = field(default_factory=dict)

    def look(self, now: float) -> Sight:
        """What is seen of it."""
        running = {g for g, at in self.started.items() if (d := self.delay_s.get(g, 0.0)) is not None and now - at >= d}
        answering = 1 if self.answers_s is not None and now >= self.answers_s else 0
        return sight(now, "".join(running), "".join(self.started), answering, NAMES)


TIMES = st.one_of(st.none(), st.floats(0.0, 12.0))


@given(RULES, st.dictionaries(st.sampled_from(NAMES), TIMES), TIMES, st.sets(st.integers(0, 200)))
def test_every_wait_ends_in_its_time_and_nothing_starts_twice_or_before_what_it_waits_for(
    rules: dict[str, OrderKeys], delay_s: dict[str, float | None], answers_s: float | None, killed: set[int]
) -> None:
    known = Known({name: (name,) for name in NAMES}, {})
    made = plan_start({f"program:{name}": said for name, said in rules.items()}, known, 10.0, "start")
    world, run = World(delay_s, answers_s), StartRun(made.held, 0.0)
    for group in set(NAMES) - made.held:
        world.started[group] = 0.0
    # Each of a chain has its own time after the one before it.
    limit_s = 10.0 * (len(NAMES) + 1)
    number, now = 0, 0.0
    while now < limit_s + 1 and not run.is_over:
        seen = world.look(now)
        for group, end in run.step(made, seen).items():
            assert group not in world.started, "never twice"
            if end.how is How.READY:
                assert all(n.address in seen.answering if n.address else n.processes <= seen.up for n in made.needs[group])
            if end.how in STARTED:
                world.started[group] = now
        if number in killed:
            # The agent ends, and another one takes the note up; what it had started is loaded.
            run = StartRun.from_note(json.loads(json.dumps(run.to_note())))
        number, now = number + 1, now + 0.5
    assert run.is_over, f"waits on after {limit_s} s: {run.waiting(made)}"
    assert set(run.ended) == made.held
    assert set(world.started) | set(run.not_started()) == set(NAMES), "nothing is lost"
    assert len({word for word, _ in critical_path(run, made)}) == len(critical_path(run, made))


@given(RULES, st.sets(st.sampled_from(NAMES)))
def test_stops_come_to_an_end_and_nothing_stops_before_what_waits_for_it(
    rules: dict[str, OrderKeys], live: set[str]
) -> None:
    known = Known({name: (name,) for name in NAMES}, {})
    made = plan_start({f"program:{name}": said for name, said in rules.items()}, known, 10.0, "start")
    left = set(live)
    while left:
        told = next_stops(made, left)
        assert told, left
        for group in told:
            assert not made.find_users({group}) & left
        left -= told
