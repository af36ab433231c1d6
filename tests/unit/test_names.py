"""Which names are replicated, and what they are called in the active set."""

from __future__ import annotations

import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_agent.adapters.files import write_atomic
from ha_agent.core.names import (
    LONGEST_ACTIVE_NAME,
    active_name,
    former_active_name,
    is_loadable_name,
    is_parked_name,
    is_registry_path,
    path_problem,
)


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
        "\ud800.conf",
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
    st.lists(
        st.builds(
            lambda stem, times, suffix: stem * times + suffix,
            st.text(alphabet="ab/%-.é\n\udc80", min_size=1, max_size=8),
            st.sampled_from([1, 2, 40]),
            st.sampled_from([".conf", ".ini", ".ini.conf", "%2Eini.conf"]),
        ),
        unique=True,
        max_size=8,
    )
)
def test_different_paths_have_different_short_names_in_the_active_set(paths: list[str]) -> None:
    names = [active_name(path) for path in paths]
    assert len(set(names)) == len(paths)
    assert all("/" not in name and name.endswith(".conf") and name.isascii() for name in names)
    assert all(len(name) <= LONGEST_ACTIVE_NAME for name in names)


def test_an_ini_and_a_conf_of_one_name_do_not_meet_in_the_active_set() -> None:
    assert len({active_name("x.ini"), active_name("x.conf"), active_name("x.ini.conf")}) == 3


def test_the_names_of_ordinary_confs_are_those_of_older_agents() -> None:
    for path in ("redis.conf", "a b.conf", "team/web.conf"):
        assert active_name(path) == former_active_name(path)


def test_every_path_of_a_registry_has_a_name_that_a_file_system_takes(tmp_path: pathlib.Path) -> None:
    longest = ["\u6587" * 83 + ".conf", "a" * 250 + ".conf", "/".join(["d" * 200] * 5) + ".ini"]
    for path in longest:
        assert path_problem(path) is None
        write_atomic(str(tmp_path / active_name(path)), b"")
    assert len(list(tmp_path.iterdir())) == len(longest)


def test_a_file_with_the_longest_name_is_replaced_in_one_step(tmp_path: pathlib.Path) -> None:
    write_atomic(str(tmp_path / ("n" * 255)), b"x", 0o600)
    assert [p.name for p in tmp_path.iterdir()] == ["n" * 255]
