"""Files that a conf says belong to its program: what is read, and all that is wrong with it at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_agent.core.file_keys import MOST_FILES, FileKeys, read_files
from ha_agent.core.lint import lint_conf
from ha_agent.core.order_keys import read_order


def conf(*lines: str, section: str = "program:web") -> str:
    """A conf of one program with these lines of ha-agent in it, which begin on line 2."""
    said = "".join(f"; ha-agent: {line}\n" for line in lines)
    return f"[{section}]\n{said}command=/bin/web\n"


def test_a_section_names_files_and_directories_each_once() -> None:
    text = conf("files=/opt/app/app.toml, /opt/app//rules/,", "after=db", "files = %(here)s/x.toml, /opt/app/rules")
    keys = FileKeys(("/opt/app/app.toml", "/opt/app/rules", "/etc/registry/x.toml"), (2, 2, 4))
    assert read_files(text, "/etc/registry") == ({"program:web": keys}, [])


def test_files_and_the_order_leave_each_other_alone() -> None:
    text = conf("files=/a", "after=db")
    assert list(read_files(text)[0]) == list(read_order(text)[0]) == ["program:web"]
    assert read_order(conf("files=/a")) == ({}, []) and read_files(conf("after=db")) == ({}, [])


@pytest.mark.parametrize("path", ["app.toml", "/opt/../etc/shadow", "/", "//", "/./", "/a\tb", "/" + "a" * 4095])
def test_what_is_no_plain_absolute_path_is_refused_and_the_rest_taken(path: str) -> None:
    found, mistakes = read_files(conf(f"files=/good, {path}"))
    assert found["program:web"].files == ("/good",)
    assert [(m.code, m.line) for m in mistakes] == [("bad-files", 2)]


def test_all_that_is_wrong_with_a_conf_is_told_by_lint() -> None:
    text = conf("files=", "files=x, y") + conf("files=/a", section="group:shop").replace("command=/bin/web", "programs=web")
    assert [(f.code, f.line) for f in lint_conf("web.conf", text) if f.code == "bad-files"] == [
        ("bad-files", 2), ("bad-files", 3), ("bad-files", 3), ("bad-files", 6),
    ]  # fmt: skip


def test_there_is_a_most() -> None:
    text = conf(*(f"files=/f{n}" for n in range(MOST_FILES + 1)))
    found, mistakes = read_files(text)
    assert len(found["program:web"].files) == MOST_FILES and len(mistakes) == 1


@given(st.text(max_size=60), st.sampled_from(["program:a", "fcgi-program:a", "group:a", "x"]))
def test_whatever_is_written_there_every_path_is_absolute_and_plain(value: str, section: str) -> None:
    found, _ = read_files(conf(f"files={value}", section=section))
    for keys in found.values():
        assert len(keys.files) == len(keys.lines) == len(set(keys.files))
        assert all(path.startswith("/") and ".." not in path.split("/") and path.strip("/") for path in keys.files)
