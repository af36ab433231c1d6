"""What becomes of the confs of a server that runs already: what runs goes on, and nothing else starts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ha_agent.core.adoption import (
    NOT_INCLUDED,
    NOT_LOADED,
    STOPPED,
    Adoption,
    Conf,
    Loaded,
    defined_groups,
    name_in_registry,
    plan_adoption,
)

REGISTRY = "/etc/supervisor/conf.d"


def program(*names: str) -> str:
    return "".join(f"[program:{name}]\ncommand=/bin/sleep 9\n" for name in names)


def conf(name: str, text: str, *, included: bool = True, target: str = "", folder: str = REGISTRY) -> Conf:
    return Conf(name, f"{folder}/{name}", text, included, target)


def loaded(*running: str, idle: tuple[str, ...] = (), changed: tuple[str, ...] = ()) -> Loaded:
    groups = {name: {name: True} for name in running} | {name: {name: False} for name in idle}
    return Loaded(groups, frozenset(changed))


def plan(confs: list[Conf], state: Loaded, *, local: tuple[str, ...] = (), start_all: bool = False) -> Adoption:
    return plan_adoption(confs, state, local, start_all=start_all)


def test_a_backup_in_a_sub_directory_and_an_ini_are_parked_and_the_running_definition_stays() -> None:
    found = plan(
        [
            conf("app.conf", program("app")),
            conf("2023-backup/app.conf", program("app"), included=False),
            conf("old.ini", program("old"), included=False),
        ],
        loaded("app"),
    )
    assert found == Adoption(("app.conf",), {"2023-backup/app.conf": NOT_INCLUDED, "old.ini": NOT_INCLUDED}, ())


def test_what_was_stopped_or_never_loaded_is_parked_unless_everything_is_to_run() -> None:
    confs = [conf("run.conf", program("run")), conf("off.conf", program("off")), conf("new.conf", program("new"))]
    state = loaded("run", idle=("off",))
    assert plan(confs, state).parked == {"off.conf": STOPPED, "new.conf": NOT_LOADED}
    assert plan(confs, state, start_all=True).live == ("new.conf", "off.conf", "run.conf")


def test_a_conf_of_which_a_part_runs_is_refused_by_name() -> None:
    for state in (loaded("a", idle=("b",)), loaded("a")):
        found = plan([conf("two.conf", program("a", "b"))], state)
        assert len(found.refused) == 1 and "two.conf some programs run and b does not" in found.refused[0]
    assert plan([conf("two.conf", program("a", "b"))], loaded("a"), start_all=True).refused == ()


def test_a_group_and_its_members_are_known_by_the_group_also_over_two_confs() -> None:
    grouped = program("a", "b") + "[group:g]\nprograms=a,c\n"
    assert defined_groups({"one": grouped, "two": program("c")}) == {"one": {"g", "b"}, "two": {"g"}}
    state = Loaded({"g": {"g:a": True, "g:c": True}, "b": {"b:b_0": True, "b:b_1": True}})
    assert plan([conf("one.conf", grouped), conf("two.conf", program("c"))], state) == Adoption(("one.conf", "two.conf"))


def test_a_program_that_runs_without_a_conf_is_refused_and_a_local_one_is_not() -> None:
    assert "ghost runs, and no conf defines ghost" in plan([], loaded("ghost")).refused[0]
    assert plan([], loaded("monitor", idle=("gone",)), local=("monitor",)).refused == ()


def test_a_conf_that_was_edited_since_it_was_loaded_is_refused() -> None:
    found = plan([conf("app.conf", program("app"))], loaded("app", changed=("app",)))
    assert len(found.refused) == 1 and "app.conf was changed since supervisord loaded app" in found.refused[0]


def test_one_name_or_one_program_twice_is_refused() -> None:
    other = conf("app.conf", program("other"), folder="/srv/x")
    assert "would both become app.conf" in plan([conf("app.conf", program("app")), other], loaded("app", "other")).refused[0]
    twice = [conf("a.conf", program("app")), conf("b.conf", program("app"))]
    assert "program app is defined in" in plan(twice, loaded("app")).refused[0]


def test_an_included_file_that_cannot_be_a_conf_is_refused_and_another_one_is_no_matter() -> None:
    assert "README is included and cannot be a conf" in plan([conf("README", program("x"))], loaded()).refused[0]
    assert plan([conf("README", "", included=False)], loaded()) == Adoption()


def test_a_conf_is_called_by_its_path_below_the_registry_or_by_its_own_name() -> None:
    assert name_in_registry(f"{REGISTRY}/sub/a.conf", REGISTRY) == "sub/a.conf"
    assert name_in_registry("/srv/programs/s2.ini", REGISTRY) == "s2.ini"


NAMES = st.sampled_from(["a", "b", "c", "d"])


@given(
    st.dictionaries(st.sampled_from(["a.conf", "b.conf", "sub/a.conf", "x.ini"]), st.lists(NAMES, max_size=3, unique=True)),
    st.sets(st.sampled_from(["a.conf", "b.conf", "sub/a.conf", "x.ini"])),
    st.dictionaries(NAMES, st.booleans()),
)
def test_whatever_is_there_what_runs_goes_on_and_nothing_starts_or_it_is_refused(
    texts: dict[str, list[str]], included: set[str], states: dict[str, bool]
) -> None:
    confs = [conf(name, program(*names), included=name in included) for name, names in texts.items()]
    found = plan(confs, Loaded({name: {name: lives} for name, lives in states.items()}))
    if found.refused:
        return
    live = {name for path in found.live for name in texts[path]}
    running = {name for name, lives in states.items() if lives}
    assert live == running
    assert set(found.live).isdisjoint(found.parked) and set(found.live) | set(found.parked) == set(texts)
