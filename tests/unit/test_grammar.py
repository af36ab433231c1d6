"""What the command line says to a word that it does not know, and what a command does alone."""

from __future__ import annotations

import argparse

import pytest

from ha_agent.cli.grammar import ALONE, ELSEWHERE, complete_words
from ha_agent.cli.parser import GROUPS, OTHER_NAMES, build_parser


def commands_of(parser: argparse.ArgumentParser) -> list[str]:
    return [name for action in parser._actions if isinstance(action, argparse._SubParsersAction) for name in action.choices]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("stats",), "ha-agent: no command 'stats'; did you mean status?\n"),
        (("hist",), "ha-agent: no command 'hist'; did you mean history?\n"),
        (("mainten",), "ha-agent: no command 'mainten'; did you mean maintenance?\n"),
        (("xyzzy",), "ha-agent: no command 'xyzzy'; ha-agent --help lists all\n"),
        (("kept", "lst"), "ha-agent kept: no command 'lst'; did you mean list?\n"),
        (("maintenance", "x"), "ha-agent maintenance: no command 'x'; there is off, on, show\n"),
        (("start", "web"), "ha-agent: no command 'start'; programs are started with: supzcli start NAME\n"),
        (("sta\x1btus",), "ha-agent: no command 'sta\\\\x1btus'; did you mean status?\n"),
    ],
)
def test_a_word_that_is_no_command_gets_one_line_with_what_it_may_have_been(
    words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        build_parser(words[0]).parse_args(complete_words(words))
    assert (ended.value.code, capsys.readouterr().err) == (2, said)


@pytest.mark.parametrize(
    ("words", "usage", "said"),
    [
        (("status", "--foo"), "usage: ha-agent status ", "no option --foo; there is --check"),
        (("history", "--folow"), "usage: ha-agent history ", "no option --folow; did you mean --follow?"),
        (("kept", "prune", "--older", "1d", "--ye=1"), "usage: ha-agent kept prune ", "--ye"),
        (("status", "node-a"), "usage: ha-agent status ", "there is nothing to do with 'node-a' here"),
        (("alert", "--cont"), "usage: ha-agent alert list ", "no option --cont"),
    ],
)
def test_an_unknown_option_prints_the_usage_of_the_command_that_was_named(
    words: tuple[str, ...], usage: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        build_parser(words[0]).parse_args(complete_words(words))
    told = capsys.readouterr().err
    assert ended.value.code == 2 and told.startswith(usage) and said in told


def test_a_command_with_parts_shows_where_none_is_named() -> None:
    assert complete_words(["maintenance"]) == ["maintenance", "show"]
    assert complete_words(["alert", "-n", "5"]) == ["alert", "list", "-n", "5"]
    assert complete_words(["kept", "--config", "x"]) == ["kept", "list", "--config", "x"]
    assert complete_words(["kept", "--help"]) == ["kept", "--help"]
    assert complete_words(["maintenance", "on"]) == ["maintenance", "on"]
    for command, part in ALONE.items():
        build_parser(command).parse_args([command, part])
        assert part in ("show", "list", "render", "status"), "alone, nothing is changed"
    choices = next(a.choices for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    assert {name for name, parser in choices.items() if commands_of(parser)} == set(ALONE)


def test_the_help_has_every_command_once_and_in_a_group() -> None:
    shown = build_parser().format_help()
    names = commands_of(build_parser())
    listed = [name for group in GROUPS.values() for name in group]
    assert len(listed) == len(set(listed)) and set(names) <= set(listed) and "\nmore:" not in shown
    for name in names:
        assert shown.count(f"\n  {name} ") == 1, name
    assert shown.index("internal:") < shown.index("\n  daemon ") and shown.index("daily:") < shown.index("\n  status ")


def test_another_name_of_a_command_has_its_options() -> None:
    for name, (command, _, _) in OTHER_NAMES.items():
        one, other = build_parser(name).parse_args([name]), build_parser(command).parse_args([command])
        assert {**vars(one), "command": ""} == {**vars(other), "command": ""}
    pause = vars(build_parser("pause").parse_args(["pause", "--for", "2h"]))
    on = vars(build_parser("maintenance").parse_args(["maintenance", "on", "--for", "2h"]))
    assert pause["run"] is on["run"] and pause["for_s"] == on["for_s"] == 7200.0


def test_no_word_that_is_done_elsewhere_is_a_command() -> None:
    assert not set(ELSEWHERE) & set(commands_of(build_parser()))
