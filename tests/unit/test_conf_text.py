"""Confs are read as supervisord's parser reads them, with lines."""

from __future__ import annotations

import configparser
import random
import time

import pytest

from ha_agent.core.conf_text import cut_comment, read_sections
from tests.fuzz.targets import make_conf


def values(text: str) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for section in read_sections(text):
        found.setdefault(section.name, {}).update({o.name: o.value for o in section.options})
    return found


def indented(chance: random.Random, text: str) -> str:
    return "".join(chance.choice(("", "", " ", "  ", "\t")) + line for line in text.splitlines(keepends=True))


def test_the_sections_options_and_values_are_those_of_the_parser() -> None:
    """As UnhosedConfigParser of supervisor/options.py makes it: comments behind blanks, and the last of two counts."""
    compared = 0
    for number in range(4000):
        chance = random.Random(f"conf-text/{number}")
        text = make_conf(chance)
        text = indented(chance, text) if number % 3 == 0 else text
        parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False)
        try:
            parser.read_string(text.replace("\r\n", "\n").replace("\r", "\n"))
        except configparser.Error:
            continue
        wanted = {name: {k: v for k, v in parser.items(name) if k not in parser.defaults()} for name in parser.sections()}
        found = {name: options for name, options in values(text).items() if name != "DEFAULT"}
        if not parser.defaults():
            assert found == wanted, repr(text)
            compared += 1
    assert compared > 2000


def test_a_section_whose_options_are_all_indented_is_read() -> None:
    text = "[program:web]\n  command=/bin/true\n  autostart=false\n"
    assert values(text) == {"program:web": {"command": "/bin/true", "autostart": "false"}}
    assert values("  [program:web]\n  command=a\n")["program:web"] == {"command": "a"}


def test_options_have_their_lines_their_spelling_and_what_was_cut_off() -> None:
    (section,) = read_sections("\n[program:web]\ncommand=a \n  b ; c\nPYTHONPATH: /x\n")
    command, path = section.options
    assert (command.value, command.line, command.comment) == ("a\nb", 3, "; c")
    assert (path.name, path.spelled, path.line, section.line, section.kind) == ("pythonpath", "PYTHONPATH", 5, 2, "program")


@pytest.mark.parametrize(
    ("line", "kept"), [("a ; b", "a "), ("a;b", "a;b"), ("  # x", ""), ("a#b # c", "a#b "), ("'a ;b'", "'a "), ("", "")]
)
def test_a_comment_begins_behind_a_blank_and_quotes_do_not_protect_from_it(line: str, kept: str) -> None:
    assert cut_comment(line)[0] == kept


@pytest.mark.parametrize(
    "text",
    ["[program:x]\na" + " " * 400_000 + "b\n", "[program:x]\n" + "[" * 400_000, "[program:x]\na=" + "x;" * 300_000],
    ids=["blanks", "brackets", "semicolons"],
)
def test_a_line_that_is_made_to_take_for_ever_does_not(text: str) -> None:
    began = time.process_time()
    read_sections(text)
    assert time.process_time() - began < 2.0
