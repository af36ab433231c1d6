"""What an operator's words mean, and when a stop or start of them is refused with the choices."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ha_agent.core.names import PARKED
from ha_agent.core.targets import Catalogue, Conf, plan_start, plan_stop, read_headers


def conf(
    path: str, *programs: str, groups: dict[str, tuple[str, ...]] | None = None, problem: str | None = None, **many: int
) -> Conf:
    processes = {p: tuple(f"{p}_{n:02d}" for n in range(many[p])) if p in many else (p,) for p in programs}
    return Conf(path, programs, groups or {}, {} if path.endswith(PARKED) or problem else processes, problem)


def catalogue(*confs: Conf) -> Catalogue:
    """With the groups as they would be loaded."""
    registered = {p for c in confs if c.is_registered for p in c.programs}
    groups = {g: tuple(m for m in ms if m in registered) for c in confs if c.is_registered for g, ms in c.groups.items()}
    grouped = {p for members in groups.values() for p in members}
    return Catalogue(confs, {**{p: (p,) for p in registered - grouped}, **{g: m for g, m in groups.items() if m}})


PLAIN = catalogue(
    conf("a.conf", "a"),
    conf("two.conf", "x", "y"),
    conf("many.conf", "worker", worker=3),
    conf("named.conf", "tomcat"),
    conf("g.conf", groups={"web": ("front", "back", "gone")}),
    conf("front.conf", "front"),
    conf("back.conf", "back"),
    conf("old.conf.parked", "old"),
    conf("pair.conf.parked", "left", "right"),
    conf("bad.conf", "broken", problem="no such user"),
)


def test_headers_of_a_conf_are_read_without_supervisord() -> None:
    text = (
        "; c\n[program:one]\ncommand=x\n programs=no\n[group:g]\nPrograms: one,two,\n  three\npriority=1\n[fcgi-program:f]\n"
    )
    found = read_headers("x.conf.parked", text)
    assert found.programs == ("one", "f") and found.groups == {"g": ("one", "two", "three")}
    assert found.is_parked and not found.is_registered


def test_a_name_is_a_program_a_group_or_one_process() -> None:
    table = {
        "a": ({"a"}, None),
        "a:a": ({"a"}, None),
        "a:*": ({"a"}, None),
        "web": ({"front", "back"}, None),
        "web:*": ({"front", "back"}, None),
        "web:front": ({"front"}, None),
        "worker": ({"worker"}, None),
        "worker:*": ({"worker"}, None),
        "worker:worker_01": ({"worker"}, "worker_01"),
        "old": ({"old"}, None),
        "broken": ({"broken"}, None),
    }
    for word, (programs, process) in table.items():
        target = PLAIN.resolve(word)
        assert target is not None and (set(target.programs), target.process) == (programs, process), word
    for word in ("nonesuch", "web:nonesuch", "a:b", "worker:worker_09", ":", "*", "gone", "--keep", ""):
        assert PLAIN.resolve(word) is None, word


def test_a_stop_parks_the_conf_of_what_it_stops() -> None:
    plan = plan_stop(["a", "web:*"], PLAIN)
    assert plan.programs == ["a", "back", "front"] and plan.park == ["a.conf", "back.conf", "front.conf"]
    assert not plan.refused and not plan.unknown


def test_one_of_several_programs_of_a_conf_is_refused_with_the_choices() -> None:
    plan = plan_stop(["x"], PLAIN)
    assert plan.park == [] and len(plan.refused) == 1
    for choice in ("two.conf", "stop x y", "stop --file x", "stop --keep x"):
        assert choice in plan.refused[0]
    assert plan_stop(["x", "y"], PLAIN).park == ["two.conf"]
    whole = plan_stop(["x"], PLAIN, whole_file=True)
    assert whole.park == ["two.conf"] and whole.programs == ["x", "y"]
    kept = plan_stop(["x"], PLAIN, keep=True)
    assert kept.park == [] and kept.programs == ["x"] and not kept.refused


def test_one_of_several_processes_can_only_be_stopped_without_parking() -> None:
    plan = plan_stop(["worker:worker_01"], PLAIN)
    assert "stop worker " in plan.refused[0] and "stop --keep worker:worker_01" in plan.refused[0]
    kept = plan_stop(["worker:worker_01"], PLAIN, keep=True)
    assert kept.processes == [("worker", "worker_01")] and kept.programs == [] and kept.park == []
    assert plan_stop(["worker"], PLAIN).park == ["many.conf"]


def test_a_conf_that_can_not_be_loaded_is_parked_all_the_same() -> None:
    plan = plan_stop(["broken"], PLAIN)
    assert plan.park == ["bad.conf"] and plan.programs == ["broken"]


def test_a_conf_with_the_group_of_others_is_not_parked_from_under_them() -> None:
    shared = catalogue(conf("g.conf", "a", groups={"g": ("a", "b")}), conf("b.conf", "b"))
    assert "b" in plan_stop(["a"], shared).refused[0]
    assert plan_stop(["g:*"], shared).park == ["b.conf", "g.conf"]


def test_what_is_parked_already_is_said_and_unknown_names_stop_nobody_else() -> None:
    plan = plan_stop(["old", "nonesuch", "a"], PLAIN)
    assert plan.parked_before == ["old"] and plan.unknown == ["nonesuch"] and plan.park == ["a.conf"]


def test_a_start_registers_what_is_parked() -> None:
    plan = plan_start(["old", "a"], PLAIN)
    assert plan.unpark == ["old.conf.parked"] and plan.programs == ["a", "old"]
    assert "start left right" in plan_start(["left"], PLAIN).refused[0]
    assert plan_start(["left", "right"], PLAIN).unpark == ["pair.conf.parked"]
    assert plan_start(["left"], PLAIN, whole_file=True).programs == ["left", "right"]
    assert "no such user" in plan_start(["broken"], PLAIN).refused[0]
    assert plan_start(["worker:worker_01"], PLAIN).processes == [("worker", "worker_01")]


def test_a_start_never_takes_a_name_or_a_file_from_another_conf() -> None:
    both = catalogue(conf("a.conf", "b"), conf("a.conf.parked", "a"))
    assert "there is a a.conf" in plan_start(["a"], both).refused[0]
    twice = catalogue(conf("one.conf.parked", "a"), conf("two.conf.parked", "a"))
    assert "one.conf.parked and two.conf.parked" in plan_start(["a"], twice).refused[0]
    taken = catalogue(conf("p.conf.parked", "a", "b"), conf("b.conf", "b"))
    assert "already defined in b.conf" in plan_start(["a", "b"], taken).refused[0]


def test_all_means_what_is_registered() -> None:
    assert plan_start(["all"], PLAIN).unpark == []
    plan = plan_stop(["all"], PLAIN)
    assert set(plan.programs) == {"a", "x", "y", "worker", "tomcat", "front", "back"} and not plan.refused


NAMES = st.sampled_from(["a", "b", "c", "d", "e"])


@st.composite
def registries(draw: st.DrawFn) -> Catalogue:
    left = list("abcde")
    confs = []
    for number in range(draw(st.integers(1, 4))):
        own = [left.pop() for _ in range(min(len(left), draw(st.integers(0, 2))))]
        parked = draw(st.booleans())
        groups = {f"g{number}": tuple(draw(st.lists(NAMES, max_size=3)))} if draw(st.booleans()) else {}
        confs.append(conf(f"f{number}.conf" + (PARKED if parked else ""), *own, groups=groups))
    return catalogue(*confs)


@given(registries(), st.lists(NAMES, min_size=1, max_size=3), st.booleans())
def test_a_stop_never_parks_what_was_not_named(found: Catalogue, words: list[str], whole: bool) -> None:
    plan = plan_stop(words, found, whole_file=whole)
    meant = {p for w in words if (t := found.resolve(w)) for p in t.programs}
    for path in plan.park:
        parked = next(c for c in found.confs if c.path == path)
        assert whole or set(parked.programs) <= meant
        assert set(parked.programs) <= set(plan.programs), "what is parked is stopped, too"


@given(registries(), st.lists(NAMES, min_size=1, max_size=3))
def test_a_stop_and_a_start_of_the_same_names_undo_each_other(found: Catalogue, words: list[str]) -> None:
    plan = plan_stop(words, found)
    if plan.refused or plan.unknown or plan.parked_before:
        return
    renamed = [Conf(c.path + PARKED, c.programs, c.groups) if c.path in plan.park else c for c in found.confs]
    back = plan_start(plan.programs, catalogue(*renamed))
    assert not back.refused and sorted(p.removesuffix(PARKED) for p in back.unpark) == sorted(plan.park)
