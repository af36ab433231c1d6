"""Which files a command names: a table of commands as people write them, and any text at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_agent.core.payload_words import Part, find_candidates, find_interpreter, is_ignored, is_written

SEARCH = ("/usr/local/bin", "/usr/bin")


def named(command: str, directory: str = "") -> list[tuple[str, str]]:
    """What a command names: the part, and where it is looked for first."""
    return [(str(one.part), one.paths[0]) for one in find_candidates(command, directory, SEARCH)]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("/opt/gw/gateway", [("binary", "/opt/gw/gateway")]),
        ("gateway -v", [("binary", "/usr/local/bin/gateway")]),
        ("/usr/bin/python3 /opt/app/x.py", [("binary", "/usr/bin/python3"), ("argument", "/opt/app/x.py")]),
        ("gw --config=/etc/gw.toml -p 80", [("binary", "/usr/local/bin/gw"), ("argument", "/etc/gw.toml")]),
        ("gw -c/etc/gw.toml", [("binary", "/usr/local/bin/gw"), ("argument", "/etc/gw.toml")]),
        ("/bin/env LANG=C gw /etc/a", [("binary", "/bin/env"), ("program", "/usr/local/bin/gw"), ("argument", "/etc/a")]),
        (
            "java -cp /a.jar:/b.jar -Dlog=file:/etc/l.xml Main",
            [
                ("binary", "/usr/local/bin/java"), ("argument", "/a.jar:/b.jar"), ("argument", "/a.jar"),
                ("argument", "/b.jar"), ("argument", "/etc/l.xml"),
            ],
        ),
        (
            "sh -c 'exec /opt/app/run /etc/app.conf'",
            [("binary", "/usr/local/bin/sh"), ("program", "/opt/app/run"), ("argument", "/etc/app.conf")],
        ),
        ("sh -c 'exec $HOME/run ~/x /etc/*.conf'", [("binary", "/usr/local/bin/sh")]),
        ("gw --log=/var/log/gw.log --pid /run/gw.pid /opt/gw/gw.pid", [("binary", "/usr/local/bin/gw")]),
        ("gw 'no end", []),
        ("", []),
    ],
)  # fmt: skip
def test_a_command_names(command: str, expected: list[tuple[str, str]]) -> None:
    assert named(command) == expected


def test_relative_words_are_looked_for_where_the_program_starts() -> None:
    assert named("python3 x.py", "/opt/app") == [("binary", "/usr/local/bin/python3"), ("argument", "/opt/app/x.py")]
    assert named("bin/start conf/x.toml", "/opt/app") == [
        ("binary", "/opt/app/bin/start"), ("argument", "/opt/app/conf/x.toml"),
    ]  # fmt: skip
    assert named("bin/start x") == []


def test_a_first_word_without_a_slash_is_looked_for_along_the_path() -> None:
    (one,) = find_candidates("gw", "/opt", SEARCH)
    assert one.paths == ("/usr/local/bin/gw", "/usr/bin/gw")


@pytest.mark.parametrize(
    ("line", "path"),
    [
        (b"#!/usr/bin/python3 -u\nimport os", "/usr/bin/python3"),
        (b"#! /bin/sh", "/bin/sh"),
        (b"#!/usr/bin/env python3\n", "/usr/local/bin/python3"),
        (b"#!/usr/bin/env -S A=1 node --x\n", "/usr/local/bin/node"),
        (b"#!/usr/bin/env\n", "/usr/bin/env"),
        (b"\x7fELF", None),
        (b"#!", None),
        (b"", None),
    ],
)
def test_a_script_names_its_interpreter(line: bytes, path: str | None) -> None:
    found = find_interpreter(line, "/opt/x", "", SEARCH)
    assert (found.paths[0] if found else None) == path
    assert found is None or (found.part, found.word) == (Part.INTERPRETER, "#! of /opt/x")


def test_what_programs_write_is_told_by_its_path() -> None:
    assert all(map(is_written, ["/var/log/x", "/run/x.conf", "/opt/x.pid", "/opt/a/__pycache__/x", "/var/lib/x/data"]))
    assert not any(map(is_written, ["/opt/x", "/etc/app/app.toml", "/usr/local/bin/catalog", "/var/www/index.php"]))


def test_patterns_of_what_differs_on_purpose() -> None:
    patterns = ("/etc/app/node.toml", "*/instance.id")
    assert [is_ignored(p, patterns) for p in ("/etc/app/node.toml", "/a/b/instance.id", "/etc/app/x")] == [True, True, False]
    assert not is_ignored("/x", ())


@given(st.text(max_size=80), st.sampled_from(["", "/opt/app", "relative"]))
def test_whatever_a_command_says_its_paths_are_absolute_and_each_is_named_once(command: str, directory: str) -> None:
    found = find_candidates(command, directory, SEARCH)
    assert len({one.paths for one in found}) == len(found)
    assert all(path.startswith("/") and "\0" not in path for one in found for path in one.paths)


@given(st.binary(max_size=80))
def test_whatever_a_file_begins_with_an_interpreter_is_an_absolute_path(line: bytes) -> None:
    found = find_interpreter(line, "/x", "/opt", SEARCH)
    assert found is None or all(path.startswith("/") for path in found.paths)
