"""What README, the guides and the man pages say of commands is true: they exist, with their options, and with --json."""

from __future__ import annotations

import argparse
import pathlib
import re
from collections.abc import Iterator

import pytest

from ha_agent.cli.grammar import complete_words
from ha_agent.cli.parser import build_parser
from ha_agent.web.main import build_parser as build_web_parser

ROOT = pathlib.Path(__file__).parents[2]
PAGES = (
    ROOT / "README.md",
    ROOT / "README.zh-CN.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.name != "install-transcript.md"),
    *sorted((ROOT / "share" / "man").glob("*.[158]")),
)
MESSAGES = sorted((ROOT / "ha_agent").rglob("*.py"))


def leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    below = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not below:
        yield parser
    for action in below:
        for part in action.choices.values():
            yield from leaves(part)


def find_parser(parser: argparse.ArgumentParser, words: list[str]) -> tuple[argparse.ArgumentParser, list[str]]:
    """The parser that ``words`` lead to, and the words that are left."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction) and words:
            if words[0] in action.choices:
                return find_parser(action.choices[words[0]], words[1:])
            raise AssertionError(f"{parser.prog} has no command {words[0]}")
    return parser, words


def mentions(text: str, command: str) -> Iterator[list[str]]:
    """The command lines of ``command`` in ``text``, as words: those in quotes of Markdown, and indented ones."""
    spans = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)
    spans += [line.strip() for line in text.splitlines() if line.startswith("    ")]
    for span in spans:
        for part in re.split(r"\s(?:\||&&|;|>)\s|;|\s#", span):
            found = re.match(rf"(?:[\w./-]*/|\$ |root@[\w-]+:~# )?{command}((?: +[^ ]+)+)$", part.strip())
            if found:
                yield [word.strip("'\"") for word in found[1].split()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_a_page_names_exists_with_its_options(page: pathlib.Path) -> None:
    text = page.read_text(encoding="utf-8").replace("\\-", "-")
    for command, parser in (("ha-agent", build_parser()), ("ha-agent-web", build_web_parser())):
        for words in mentions(text, command):
            if words[0] == "lab" or words[0][0] in "-<[(" or words[0].isupper():
                continue
            names = [word for word in complete_words(words) if not word.startswith("-")]
            try:
                found, _ = find_parser(parser, names)
            except AssertionError as error:
                raise AssertionError(f"{page.name}: {' '.join(words)}: {error}") from None
            for word in words:
                if word.startswith("--"):
                    assert word.partition("=")[0] in found._option_string_actions, f"{page.name}: {' '.join(words)}"


def test_every_command_that_prints_has_json_but_those_that_the_page_names() -> None:
    text = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")
    sentence = re.search(r"Without `--json` are (.*?)\.\n", text, re.DOTALL)
    assert sentence is not None
    without = set(re.findall(r"`([a-z -]+)`", sentence[1]))
    lacking = {
        parser.prog.removeprefix("ha-agent ")
        for parser in leaves(build_parser())
        if "--json" not in parser._option_string_actions
    }
    assert lacking == without
    for page in ("README.md", "docs/operations.md"):
        claim = (ROOT / page).read_text(encoding="utf-8")
        assert "json.md" in claim
