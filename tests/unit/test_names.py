"""Which names are replicated, and what they are called in the active set."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_agent.core.names import active_name, is_loadable_name, is_parked_name, is_registry_path, path_problem


@pytest.mark.parametrize(
    "path", ["a.conf", "sub/a.ini", "a b\n.conf", "-x.conf", "é.conf", "a.conf.parked", "a/b/c.ini.parked"]
)
def test_plain_relative_conf_paths_are_replicated(path: str) -> None:
    assert path_problem(path) is None


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/a.conf",
        "../a.conf",
        "a/../b.conf",
        "a//b.conf",
        ".a.conf",
        ".git/a.conf",
        "./a.conf",
        "a.conf~",
        "a.txt",
        "a.conf.swp",
        "a\0.conf",
        "x" * 300 + ".conf",
        "d/" * 600 + "a.conf",
        "a.conf/",
    ],
)
def test_everything_else_is_refused(path: str) -> None:
    assert path_problem(path)
    assert not is_registry_path(path)


def test_a_parked_conf_is_never_loadable() -> None:
    assert is_parked_name("a.conf.parked")
    assert not is_loadable_name("a.conf.parked")
    assert is_loadable_name("a.ini")


@given(
    st.lists(st.text(alphabet="ab/%.é\n\udc80", min_size=1, max_size=8).map(lambda s: s + ".conf"), unique=True, max_size=8)
)
def test_different_paths_have_different_names_in_the_active_set(paths: list[str]) -> None:
    names = [active_name(path) for path in paths]
    assert len(set(names)) == len(paths)
    assert all("/" not in name and name.endswith(".conf") for name in names)


def test_an_ini_and_a_conf_of_one_name_do_not_meet_in_the_active_set() -> None:
    assert active_name("x.ini") != active_name("x.conf")
