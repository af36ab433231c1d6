"""What lint says of the agent's comments in confs: lines that mean nothing, names that no conf has, circles. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ha_agent.core.conf_text import Section, read_sections
from ha_agent.core.file_keys import read_files
from ha_agent.core.findings import Finding
from ha_agent.core.nearest import did_you_mean
from ha_agent.core.order_keys import MARK, is_address, lines_of, read_order
from ha_agent.core.remarks import error
from ha_agent.core.start_plan import find_circles


def lint_order(path: str, text: str) -> Iterator[Finding]:
    """What can be said of one conf alone."""
    for mistake in read_order(text)[1]:
        if mistake.code == "bad-order-address":
            yield error("bad-order-address", path, mistake.line, mistake.text, mistake.fix)
        else:
            yield error("bad-order-key", path, mistake.line, mistake.text, mistake.fix)
    for mistake in read_files(text)[1]:
        yield error("bad-files", path, mistake.line, mistake.text, mistake.fix)


@dataclass(frozen=True, slots=True)
class _Wait:
    """One word of one section, and where it stands. ``group``: what is started as a whole with that section."""

    path: str
    line: int
    section: str
    word: str
    group: str


def lint_orders(texts: Mapping[str, str]) -> list[Finding]:
    """What can only be seen with the other confs beside: names that no conf defines, and waits that go in a circle.

    A parked conf defines its names too: nothing waits for it as long as it is parked.
    """
    if not any(MARK in text for text in texts.values()):
        return []
    owners = _find_owners([section for text in texts.values() for section in read_sections(text)])
    waits = list(_find_waits(texts, owners))
    found = list(_lint_names(waits, owners))
    return found + list(_lint_circles(waits, owners))


def _find_owners(sections: Sequence[Section]) -> dict[str, str]:
    """By the name of each program and each group the group that it is started with."""
    groups = [section for section in sections if section.kind == "group"]
    members = {word.strip(): group.program for group in groups for word in group.value("programs").split(",")}
    programs = [section.program for section in sections if section.is_program]
    return {**{group.program: group.program for group in groups}, **{name: members.get(name, name) for name in programs}}


def _find_waits(texts: Mapping[str, str], owners: Mapping[str, str]) -> Iterator[_Wait]:
    for path in sorted(texts):
        keys = read_order(texts[path])[0]
        for (section, word), line in lines_of(keys).items():
            name = section.partition(":")[2].strip()
            yield _Wait(path, line, name, word, owners.get(name, name))


def _lint_names(waits: Sequence[_Wait], owners: Mapping[str, str]) -> Iterator[Finding]:
    for wait in waits:
        if is_address(wait.word) or wait.word in owners:
            continue
        text = f"{wait.section} is after {wait.word}, which no conf of the registry defines: nothing waits for it"
        fix = did_you_mean(wait.word, owners, "name a program or group of the registry, or tcp://ADDRESS:PORT")
        yield error("unknown-in-order", wait.path, wait.line, text, fix)


def _lint_circles(waits: Sequence[_Wait], owners: Mapping[str, str]) -> Iterator[Finding]:
    edges: dict[str, set[str]] = {}
    for wait in waits:
        if wait.word in owners:
            edges.setdefault(wait.group, set()).add(owners[wait.word])
    circles = find_circles({group: frozenset(needed) for group, needed in edges.items()})
    for wait in waits:
        needed = owners.get(wait.word)
        circle = next((c for c in circles if wait.group in c and needed in c), None)
        if circle is None:
            continue
        if wait.group == needed:
            text = f"{wait.section} is after {wait.word}, and both are started together, as group {needed}"
            text = f"{wait.section} is after itself" if wait.section == wait.word else text
            fix = "take one of them out of the group, or the word out of after="
        else:
            text = f"{wait.section} is after {wait.word}, in a circle of {', '.join(sorted(circle))}"
            fix = "take one after= of the circle away"
        yield error("order-circle", wait.path, wait.line, f"{text}: a takeover waits for none of it", fix)
