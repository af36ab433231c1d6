"""What a command really runs is found behind what only prepares it, and within shells."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_agent.core.commands import read_script, shell_call, simple_commands, unwrap


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        ("/usr/sbin/nginx -g x", "/usr/sbin/nginx -g x"),
        ("sudo -u www-data -E nginx", "nginx"),
        ("A=1 env -u X B=2 nice -n 5 ionice -c2 java -jar x", "java -jar x"),
        ("timeout -k 5 60 prog", "prog"),
        ("gosu redis redis-server", "redis-server"),
        ("setpriv --reuid=1 --regid 2 -- prog", "prog"),
        ("nohup prog", "prog"),
        ("env", ""),
        ("A=1", ""),
    ],
)
def test_what_only_prepares_a_program_is_left_out(command: str, wanted: str) -> None:
    assert " ".join(unwrap(command.split())) == wanted


def test_how_a_shell_is_called() -> None:
    script, path = shell_call(["/bin/bash", "-lc", "a b", "name"]), shell_call(["sh", "-e", "/x/run", "y"])
    assert script is not None and (script.shell, script.script, script.path) == ("bash", "a b", None)
    assert path is not None and (path.shell, path.script, path.path) == ("sh", None, "/x/run")
    assert shell_call(["bash", "-o", "pipefail", "-c", "a"]) == shell_call(["bash", "-c", "a"])
    assert shell_call(["/usr/bin/python3", "-c", "x"]) is None and shell_call([]) is None


def test_a_script_is_cut_into_simple_commands_with_what_stands_behind_them() -> None:
    found = read_script("cd /x && exec sudo prog a > /log 2>&1 &\nwhile true; do y | z; done")
    assert [(one.text, one.after) for one in found] == [
        ("cd /x", "&&"), ("prog a", "&"), ("true", ";"), ("y", "|"), ("z", ";"), ("done", "")
    ]  # fmt: skip
    assert [one.execs for one in found[:2]] == [False, True] and found[1].is_redirected
    assert read_script("exec > /log; a")[-1].text == "a" and not any(one.execs for one in read_script("exec > /log; a"))
    assert read_script("a 'b") == []


def test_shells_within_shells_are_looked_into() -> None:
    assert [one.text for one in simple_commands("sudo bash -c \"sh -c 'nginx; wait'\"")] == ["nginx", "wait"]
    assert simple_commands("a 'b") == [] and simple_commands("") == simple_commands("")


@given(st.text(alphabet="ab -;&|<>()'\"\\\n$=ecx{}", max_size=60))
def test_any_script_is_read_without_an_error(script: str) -> None:
    read_script(script)
    simple_commands(script)
    simple_commands(f"bash -c {script!r}")
