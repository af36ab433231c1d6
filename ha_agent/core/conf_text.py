"""The sections and options of a conf with the lines on which they stand, read as supervisord reads them. Pure.

What supervisord itself makes of a conf is asked of its own parser (``ha_agent/conf_check.py``), which knows no lines.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ha_agent.core.confs import as_lines

PROGRAM_PREFIXES = ("program:", "fcgi-program:")
COMMENT_MARKS = (";", "#")

_HEADER = re.compile(r"\[(.+)\]")
_DELIMITER = re.compile(r"[=:]")


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a section; ``line`` counts from 1.

    ``spelled``: the name as it is written; supervisord takes it in lower case. ``comment``: what was cut off the value as
    an inline comment.
    """

    name: str
    value: str
    line: int
    spelled: str = ""
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """One section with its options, in the order in which they stand."""

    name: str
    line: int
    options: tuple[Option, ...]

    @property
    def is_program(self) -> bool:
        """Whether it defines a program."""
        return self.name.startswith(PROGRAM_PREFIXES)

    @property
    def kind(self) -> str:
        """What it defines: "program", "fcgi-program", "group"."""
        return self.name.partition(":")[0]

    @property
    def program(self) -> str:
        """The program's (or group's) name."""
        return self.name.partition(":")[2].strip()

    def find(self, name: str) -> Option | None:
        """The option ``name``; of two the last one counts, as for supervisord."""
        return next((o for o in reversed(self.options) if o.name == name), None)

    def value(self, name: str, default: str = "") -> str:
        """The value of an option."""
        option = self.find(name)
        return option.value if option else default


@dataclass(slots=True)
class _Draft:
    spelled: str
    line: int
    parts: list[str]
    comments: list[str] = field(default_factory=list)

    def finish(self) -> Option:
        value, comment = "\n".join(self.parts).rstrip(), "\n".join(part for part in self.comments if part)
        return Option(self.spelled.lower(), value, self.line, self.spelled, comment)


def read_sections(text: str) -> list[Section]:
    """The sections of a conf, read as Python's ``configparser`` does it for supervisord (``RawConfigParser._read``).

    A line that is indented more than its option goes on with the option's value. Takes any text: a line that is neither a
    section nor an option, which supervisord refuses, is left out. A section that stands twice is there twice.
    """
    sections: list[tuple[str, int, list[_Draft]]] = []
    indent, draft = 0, None
    for number, raw in enumerate(as_lines(text).split("\n"), 1):
        line, comment = cut_comment(raw)
        value = line.strip()
        if not value:
            if draft is not None and comment is None:
                draft.parts.append("")
            continue
        depth = len(raw) - len(raw.lstrip())
        if draft is not None and depth > indent:
            draft.parts.append(value)
            draft.comments.append(comment or "")
            continue
        indent = depth
        if header := _HEADER.match(value):
            sections.append((header[1], number, []))
            draft = None
        elif sections and (mark := _DELIMITER.search(value)) and mark.start():
            name, content = value[: mark.start()].rstrip(), value[mark.end() :].strip()
            draft = _Draft(name, number, [content], [comment or ""])
            sections[-1][2].append(draft)
    return [Section(name, line, tuple(d.finish() for d in drafts)) for name, line, drafts in sections]


def cut_comment(line: str) -> tuple[str, str | None]:
    """A line without its comment, and the comment, None where there is none. Quotes protect nothing from it.

    The order in which the marks are looked for is configparser's: of a line with both it need not be the first one.
    """
    if ";" not in line and "#" not in line:
        return line, None
    if line.lstrip().startswith(COMMENT_MARKS):
        return "", line.strip()
    places = dict.fromkeys(COMMENT_MARKS, -1)
    while places:
        places = {mark: at for mark, last in places.items() if (at := line.find(mark, last + 1)) >= 0}
        begins = [at for at in places.values() if at == 0 or line[at - 1].isspace()]
        if begins:
            return line[: min(begins)], line[min(begins) :]
    return line, None
