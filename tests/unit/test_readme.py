"""The two READMEs say the same in two languages, and every link of the pages leads somewhere."""

from __future__ import annotations

import pathlib
import re
from collections import Counter

import pytest

ROOT = pathlib.Path(__file__).parents[2]
ENGLISH, CHINESE = (ROOT / name for name in ("README.md", "README.zh-CN.md"))
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")],
    key=lambda page: page.relative_to(ROOT).as_posix(),
)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def read(page: pathlib.Path) -> str:
    return page.read_text(encoding="utf-8")


def split_code(text: str) -> tuple[str, list[str]]:
    """The text without its blocks of code, and the lines of these."""
    prose, code, fenced = [], [], False
    for line in text.splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            code.append(line)
        else:
            prose.append(line)
    return "\n".join(prose), code


def anchors_of(page: pathlib.Path) -> set[str]:
    """The anchors that a forge gives headings: lower case, no punctuation, dashes for blanks, numbered where doubled."""
    counted: Counter[str] = Counter()
    found = set()
    for heading in re.findall(r"^#+ (.+?)\s*$", split_code(read(page))[0], re.M):
        plain = LINK.sub(lambda link: link[0].partition("](")[0].lstrip("!["), heading).replace("`", "")
        anchor = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        found.add(anchor if not counted[anchor] else f"{anchor}-{counted[anchor]}")
        counted[anchor] += 1
    return found


def links_of(text: str) -> list[str]:
    return LINK.findall(split_code(text)[0])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_of_a_page_leads_to_a_file_and_to_a_heading(page: pathlib.Path) -> None:
    lost = []
    for link in links_of(read(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            lost.append(link)
    assert lost == []


def test_both_readmes_have_the_same_headings_by_level() -> None:
    levels = [re.findall(r"^(#+) ", split_code(read(page))[0], re.M) for page in (ENGLISH, CHINESE)]
    assert levels[0] == levels[1]


def test_both_readmes_have_the_same_blocks_of_code_but_for_the_remarks_in_them() -> None:
    commands = [[line.partition("  #")[0].rstrip() for line in split_code(read(page))[1]] for page in (ENGLISH, CHINESE)]
    assert commands[0] == commands[1]


def test_both_readmes_name_the_same_commands_files_and_keys() -> None:
    named = [Counter(re.findall(r"`([^`\n]+)`", split_code(read(page))[0])) for page in (ENGLISH, CHINESE)]
    assert named[0] - named[1] == Counter() and named[1] - named[0] == Counter()


def test_both_readmes_have_the_same_links() -> None:
    def outward(page: pathlib.Path) -> Counter[str]:
        return Counter(link for link in links_of(read(page)) if not link.startswith(("#", "README")))

    assert outward(ENGLISH) == outward(CHINESE)
    within = [sum(link.startswith("#") for link in links_of(read(page))) for page in (ENGLISH, CHINESE)]
    assert within[0] == within[1] >= 10


def test_both_readmes_have_the_same_rows_in_their_tables_and_the_same_figures() -> None:
    shapes = [
        [line.count("|") for line in split_code(read(page))[0].splitlines() if line.startswith("|")]
        for page in (ENGLISH, CHINESE)
    ]
    assert shapes[0] == shapes[1]
    figures = [Counter(re.findall(r"\d+(?:\.\d+)+|\b\d{2,}\b", split_code(read(page))[0])) for page in (ENGLISH, CHINESE)]
    assert figures[0] == figures[1]


def test_the_index_of_docs_names_every_page() -> None:
    listed = set(links_of(read(ROOT / "docs" / "README.md")))
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages <= listed and "adr/README.md" in listed
