"""The man pages and the completion know every command, option and key: `make manuals` was not forgotten."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import re
import subprocess
from collections.abc import Iterator

import pytest

from ha_agent.adapters.settings_file import read_settings
from ha_agent.adapters.settings_paths import DEFAULT_PATH
from ha_agent.cli.grammar import complete_words
from ha_agent.cli.parser import MODULES, build_parser
from ha_agent.core.places import DEFAULT_RUN_DIR, DEFAULT_STATE_DIR
from ha_agent.core.settings import NAMED_SECTIONS, SECTIONS

SHARE = pathlib.Path(__file__).parents[2] / "share"


def every_parser(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from every_parser(below)


def every_option() -> list[tuple[str, str]]:
    return [
        (parser.prog, option)
        for parser in every_parser(build_parser())
        for action in parser._actions
        for option in action.option_strings
        if option.startswith("--") and action.help is not argparse.SUPPRESS
    ]


def test_every_command_and_option_is_in_the_man_page_and_the_completion() -> None:
    page = (SHARE / "man" / "ha-agent.8").read_text(encoding="utf-8").replace("\\-", "-")
    completions = [(SHARE / path).read_text(encoding="utf-8") for path in ("bash-completion/ha-agent", "zsh/_ha-agent")]
    fish = (SHARE / "fish" / "ha-agent.fish").read_text(encoding="utf-8")
    for prog, option in every_option():
        assert f"'{prog}'" in page or prog == "ha-agent", prog
        assert option in page and all(option in text for text in completions), f"{prog} {option}: make manuals"
        assert f"-l {option.removeprefix('--')} " in fish, f"{prog} {option}: make manuals"


def test_the_man_page_has_an_example_of_each_command_and_the_files() -> None:
    page = (SHARE / "man" / "ha-agent.8").read_text(encoding="utf-8").replace("\\-", "-").replace("\\(aq", "'")
    examples, files = page.split(".SH EXAMPLES", 1)[1].split(".SH FILES", 1)
    commands = next(a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    listed = {choice.dest for choice in commands._choices_actions}
    given = [command.epilog or "" for name, command in commands.choices.items() if name in listed]
    wanted = [text.removeprefix("example: ").splitlines()[0] for text in given if text.startswith("example: ")]
    assert len(wanted) > 20
    assert [text for text in wanted if f"\\fB{text}\\fR" not in examples] == [], "make manuals"
    for path in (DEFAULT_PATH, DEFAULT_RUN_DIR, DEFAULT_STATE_DIR):
        assert path in files


PAGES = {page.name: page.read_text(encoding="utf-8") for page in sorted((SHARE / "man").iterdir())}
INTERNAL = {"ha-agent-keeper.8", "ha-agent-listener.8", "ha-agent-peer.8", "ha-agent-witness.8"}
"""What no hand starts: there is no example of it."""


def section_of(page: str, name: str) -> str:
    return PAGES[page].partition(f".SH {name}\n")[2].split("\n.SH", 1)[0]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_says_what_to_type_which_files_how_it_ends_and_what_messages_mean(page: str) -> None:
    wanted = {"FILES", "DIAGNOSTICS", "SEE ALSO"}
    wanted |= {"EXAMPLES"} if page not in INTERNAL else set()
    wanted |= {"EXIT STATUS"} if not page.endswith(".5") else set()
    assert {name for name in wanted if not section_of(page, name)} == set()


SOURCE = " ".join(path.read_text(encoding="utf-8") for path in sorted((SHARE.parent / "ha_agent").rglob("*.py")))


@pytest.mark.parametrize("page", PAGES)
def test_a_message_that_a_page_explains_is_one_that_the_code_prints(page: str) -> None:
    plain = section_of(page, "DIAGNOSTICS").replace("\\-", "-").replace("\\(aq", "'")
    for message in re.findall(r"^\\fB(.*)\\fR$", plain, re.M):
        # Words in capitals stand for what is put in, and so do the nodes of an example.
        pieces = re.split(r"\b[A-Z][A-Z.]+\b|node-[ab]|[()\[\]<>;:,]|\bstandby\b", message)
        for piece in (piece.strip(" :;,\"'") for piece in pieces):
            assert len(piece) < 8 or piece in SOURCE.replace('" \n', ""), (message, piece)


def test_the_example_of_the_configuration_is_one_that_can_be_used() -> None:
    example = section_of("ha-agent.toml.5", "EXAMPLES").replace("\\-", "-").replace("\\(aq", "'")
    text = "\n".join(line for line in example.splitlines() if line not in (".nf", ".fi"))
    assert read_settings(text.encode()).sinks["mail"].severity == "critical"


def test_every_key_of_the_configuration_is_in_its_man_page() -> None:
    page = (SHARE / "man" / "ha-agent.toml.5").read_text(encoding="utf-8")
    for name, cls in {**SECTIONS, **{f"{kind}.NAME": named for kind, named in NAMED_SECTIONS.items()}}.items():
        section = page.split(f".SH [{name}]", 1)[1].split(".SH", 1)[0]
        for spec in dataclasses.fields(cls):
            assert f"\\fB{spec.name}\\fR" in section, f"{name}.{spec.name}: make manuals"


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("sta",), "status"),
        (("fail",), "failover-test"),
        (("kept", "re"), "restore"),
        (("status", "--wa"), "--watch"),
        (("failover-test", "--and"), "--and-back"),
        (("failover-test", "--mode", "keep"), "keepalived-kill"),
    ],
)
def test_bash_completes_commands_options_and_values(words: tuple[str, ...], wanted: str) -> None:
    line = " ".join(f"'{w}'" for w in ("ha-agent", *words))
    script = f"""
        source '{SHARE}/bash-completion/ha-agent'
        COMP_WORDS=({line}); COMP_CWORD={len(words)}; COMP_LINE="ha-agent {" ".join(words)}"
        _shtab_ha_agent ha-agent '{words[-1]}' '{words[-2] if len(words) > 1 else "ha-agent"}'
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True)
    assert wanted in done.stdout.split(), done


def test_every_command_has_help_with_an_example_that_it_understands() -> None:
    for parser in every_parser(build_parser()):
        if parser.prog in ("ha-agent", "ha-agent lab"):
            continue
        match = re.match(r"example: (.*)", parser.epilog or "")
        assert match, f"{parser.prog} has no example"
        example = re.split(r" (?:\||>|&&) ", match[1])[0]
        words = re.findall(r"'[^']*'|\S+", example)
        if words[0] == "ha-agent":
            build_parser().parse_args(complete_words([w.strip("'") for w in words[1:]]))


def test_a_command_that_is_named_imports_no_other() -> None:
    for command, module in MODULES.items():
        parser = build_parser(command)
        choices = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction)).choices
        assert command in choices and set(choices) <= {c for c, m in MODULES.items() if m == module}


def supzcli_actions() -> set[str]:
    from ha_agent.supzcli.plugin import GuardedPlugin

    return {name.removeprefix("do_") for name in dir(GuardedPlugin) if name.startswith("do_")}


def test_every_action_and_option_of_supzcli_is_in_its_page_its_completion_and_its_help() -> None:
    page = (SHARE / "man" / "supzcli.1").read_text(encoding="utf-8").replace("\\-", "-")
    completion = (SHARE / "bash-completion" / "supzcli").read_text(encoding="utf-8")
    guide = (SHARE.parent / "docs" / "supzcli.md").read_text(encoding="utf-8")
    listed = re.search(r'actions="([^"]*)"', completion)
    assert listed is not None and supzcli_actions() == set(listed[1].replace("\\\n", " ").split())
    for action in supzcli_actions() - {"quit", "exit", "help"}:
        assert f"\\fB{action}\\fR" in page, action
        assert re.search(rf"`[^`]*\b{action}\b", guide) or action == "open", action
    source = (SHARE.parent / "ha_agent" / "supzcli" / "plugin.py").read_text(encoding="utf-8")
    zsh = (SHARE / "zsh" / "_supzcli").read_text(encoding="utf-8")
    fish = (SHARE / "fish" / "supzcli.fish").read_text(encoding="utf-8")
    assert supzcli_actions() == set(re.findall(r"['\"](\w+):", zsh))
    assert supzcli_actions() <= set(re.findall(r"\w+", fish.partition("set -l actions")[2].partition("complete")[0]))
    for option in set(re.findall(r'"(--[a-z-]+)"', source)):
        assert option in page and option in completion and option in zsh, option
        assert f"-l {option.removeprefix('--')} " in fish, option


def test_the_completion_of_supzcli_is_good_bash_and_completes(tmp_path: pathlib.Path) -> None:
    fake = tmp_path / "supzcli"
    fake.write_text("#!/bin/sh\necho 'billing   RUNNING pid 1'\necho 'web:a PARKED'\n", encoding="ascii")
    fake.chmod(0o755)
    script = (
        f'. {SHARE}/bash-completion/supzcli; complete_it() {{ COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _supzcli;'
        ' echo "${COMPREPLY[@]}"; }; complete_it supzcli sta; complete_it supzcli stop bil; complete_it supzcli stop --k'
    )
    done = subprocess.run(
        ["bash", "-euc", script], capture_output=True, text=True, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=True
    )
    assert done.stdout.splitlines() == ["start status", "billing", "--keep"]
