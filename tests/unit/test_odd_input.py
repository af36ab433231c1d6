"""Commands that get what nobody meant: one line that says what is wrong, without a word of Python's, and nothing else."""

from __future__ import annotations

import argparse
import configparser
import os
import pathlib
import re
import subprocess
import sys

import pytest

from ha_agent.adapters.settings_file import read_settings
from ha_agent.cli.grammar import misplaced_option
from ha_agent.cli.options import positive_count
from ha_agent.core.ini_texts import ini_problem
from ha_agent.core.main_conf import UnusableConf, parse_main_conf
from ha_agent.core.program_ini import LogRules, ProgramIniError, Registrant, render_program
from ha_agent.core.schema import SettingsError
from ha_agent.core.words import Exit
from ha_agent.lab.cli import lab_name

PYTHON = re.compile(r"Traceback|\[Errno|<string>|\\ud[89a-f]|codec can't|File contains|While reading from|Source contains")
BYTES = os.fsdecode(b"bill\xffing")


def run(program: str, *words: str) -> tuple[int, str, str]:
    """The exit status of a command, and what it printed, as a process of its own: nothing here may import the daemon."""
    main = {"ha-agent": "ha_agent.cli.main", "supzcli": "ha_agent.supzcli.main", "ha-agent-web": "ha_agent.web.main"}[
        program
    ]
    begin = f"import sys, {main}; sys.exit({main}.main())"
    done = subprocess.run([sys.executable, "-c", begin, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


INI = [
    ("command=/bin/x\n", "line 1 stands before any section; the first line that counts is one like [program]"),
    ("[program]\ncommand=/bin/x\nhere it is\n", "line 3 is neither a section nor an option (name=value)"),
    ("[program]\ncommand=/a\ncommand=/b\n", "line 3: command is set twice in [program]"),
    ("[program]\ncommand=/a\n[program]\n", "line 3: section [program] is there twice"),
]


@pytest.mark.parametrize(("text", "said"), INI)
def test_a_program_ini_that_cannot_be_read_is_described_by_its_line(text: str, said: str) -> None:
    with pytest.raises(ProgramIniError) as refused:
        render_program("x", "/opt/x", text, Registrant("alice", None, is_root=False), LogRules("/var/log", "50MB", 10))
    assert list(refused.value.problems) == [said]


def test_a_main_conf_that_cannot_be_read_is_described_by_its_line() -> None:
    with pytest.raises(UnusableConf, match="line 1 stands before any section"):
        parse_main_conf("file=/run/supervisor.sock\n")


def test_bytes_that_are_not_text_are_named_by_their_line() -> None:
    with pytest.raises(SettingsError) as refused:
        read_settings(b'[node]\nname = "\xff"\n')
    assert str(refused.value.problems[0]) == "(file): line 2: byte 0xff is not UTF-8; allowed: TOML 1.0"


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("ha-agent", ["explain", BYTES]),
        ("ha-agent", ["history", "--since", BYTES]),
        ("ha-agent", [BYTES]),
        ("supzcli", ["stop", BYTES]),
        ("ha-agent-web", ["user", "add", BYTES]),
    ],
)
def test_an_argument_that_is_not_text_is_refused_as_the_bytes_that_it_is(program: str, words: list[str]) -> None:
    assert run(program, *words) == (Exit.USAGE, "", f"{program}: 'bill\\xffing' is not text in UTF-8\n")


def test_a_file_may_have_a_name_that_is_not_text(tmp_path: pathlib.Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.conf")
    pathlib.Path(path).write_text("[program:x]\ncommand=/bin/x\n", encoding="ascii")
    _, out, err = run("ha-agent", "lint", path)
    assert "\\xff.conf" in out and PYTHON.search(out + err) is None


@pytest.mark.parametrize("words", [["--config", "/x", "status"], ["--config=/x", "status"], ["--json"]])
def test_an_option_before_the_command_is_told_where_it_belongs(words: list[str]) -> None:
    option = words[0].partition("=")[0]
    assert misplaced_option(words) == f"{option} stands behind the command, as in: ha-agent status {option}"


@pytest.mark.parametrize("words", [["status"], ["--version"], ["-h"], ["--help"]])
def test_what_may_stand_first_is_no_misplaced_option(words: list[str]) -> None:
    assert misplaced_option(words) is None


@pytest.mark.parametrize("text", ["0", "x", "-1", "1.5", ""])
def test_a_number_that_cannot_be_is_refused_with_what_can(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r": must be 1 or more$"):
        positive_count(text)


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "/tmp/x", "a/b", "-x", "x" * 33, "ü"])
def test_a_lab_lies_below_the_folder_of_labs(name: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="must be 1 to 32 letters"):
        lab_name(name)


CONTENTS = {
    "broken": b"[a\n",
    "bytes": b'x = "\xff"\n',
    "nul": b"[node]\n\0",
    "empty": b"",
    "of another kind": b"[node]\nname = 3\n",
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=list(CONTENTS))
@pytest.mark.parametrize("command", [["config", "check"], ["status"]])
def test_a_configuration_that_cannot_be_used_is_refused_in_words(
    content: bytes, command: list[str], tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "agent.toml"
    path.write_bytes(content)
    code, out, err = run("ha-agent", *command, "--config", str(path))
    assert (code, out) == (Exit.USAGE, "") and err.startswith(f"ha-agent: {path}: ") and PYTHON.search(err) is None


def test_a_configuration_that_is_a_directory_is_not_to_be_made(tmp_path: pathlib.Path) -> None:
    said = f"ha-agent: {tmp_path}: Is a directory; name another with --config\n"
    assert run("ha-agent", "status", "--config", str(tmp_path)) == (Exit.USAGE, "", said)


def test_an_unknown_error_of_the_parser_keeps_its_text() -> None:
    assert ini_problem(configparser.Error("two\n lines")) == "two lines"
