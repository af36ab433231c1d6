"""Phrases that must not come back into what people read: documentation, docstrings, comments and messages."""

from __future__ import annotations

import functools
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PLACES = ("docs", "ha_agent", "tests", "tools", "bench", "systemd", "keepalived", "debian", "share/prometheus", "examples")
FILES = ("README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md", "Makefile", "pyproject.toml")
NOT_READ = {".png", ".svg", ".json", ".js", ".css", ".pyc"}

INSTEAD = {
    r"can not": "cannot",
    r"(give|gives|gave|given|giving)( \w+)? back": "return (of a function or a command), put back (of a file)",
    r"belongs? into": "belong in",
    r"(?<!there )is no (duration|number|time|text|name|probe|identifier|directory|TOML|JSON|regular file)": "is not a ...",
    r"(look|looks|looked) whether": "check whether",
    r"rehearse|rehearses|rehearsed|rehearsing|rehearsal|rehearsals": "failover-test; drill in modules and settings",
    r"mend|mends|mended|mending": "fix, repair or correct",
    r"[Ww]ho wants more": "a reader that wants more",
    r"[Ss]o (much|many) [^.]{0,80}at most": "the limit as a noun: largest number of ...",
    r"by way of": "through",
    r"of late": "recent, recently",
    r"(begins?|began|begun|starts?|started|counts?|written|makes?|made|fails?|sent|loading|loaded) anew": "again, from zero",
    r"checks? (is|are) well": "N checks passed",
    r"gives? MASTER up": "gives up MASTER",
    r"no alert lasts": "no active alerts",
    r"the right address": "each real client's address",
    r"for (one|a) \w+'s sake": "say who does what, and never for the sake of",
    r"\{len\([^{}]*\)\} (confs|programs|errors|warnings|checks|files|nodes)": "count_text(count, 'conf')",
    r"(goes|go|went) on to (be|say|watch|take|answer)": "still, or keep ...ing",
    r"the own (node|agent|one|side|name|registry|epoch)": "this node, its own agent, its own epoch",
}
"""What not to write, as a pattern of whole words, and what to write instead."""

EXCEPT = ("docs/install-transcript.md", "tests/unit/test_words.py")
"""A transcript shows what was printed when it was made; this table names what it forbids."""


@functools.cache
def texts_that_people_read() -> dict[str, str]:
    found = [ROOT / name for name in FILES]
    for place in PLACES:
        found += [path for path in (ROOT / place).rglob("*") if path.is_file() and path.suffix not in NOT_READ]
    paths = {path.relative_to(ROOT).as_posix(): path for path in found}
    return {name: path.read_text(encoding="utf-8") for name, path in sorted(paths.items()) if not name.startswith(EXCEPT)}


def test_there_is_something_to_read() -> None:
    assert {"README.md", "docs/architecture.md", "ha_agent/core/rules.py", "tools/make-deb"} <= set(texts_that_people_read())


@pytest.mark.parametrize("phrase", INSTEAD)
def test_a_phrase_does_not_come_back(phrase: str) -> None:
    pattern = re.compile(rf"\b(?:{phrase})\b")
    found = [
        f"{path}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]}"
        for path, text in texts_that_people_read().items()
        for match in pattern.finditer(text)
    ]
    assert found == [], f"write instead: {INSTEAD[phrase]}"
