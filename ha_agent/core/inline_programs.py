"""Programs that stand in supervisord's main conf itself, taken out of it into confs of their own. Pure.

supervisord makes the same processes of them: what a section says stays as it is written, but for ``%(here)s``, which means
the directory of the file that it stands in.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ha_agent.core.conf_text import read_sections
from ha_agent.core.confs import as_lines, resolve_here, split_sections

_MOVED = ("program", "fcgi-program", "group")


@dataclass(frozen=True, slots=True)
class InlinePrograms:
    """``main``: the main conf without them; ``confs``: by file name, one a program, or one a group with its own."""

    main: str
    confs: Mapping[str, str] = field(default_factory=dict)


def take_programs_out(text: str, path: str) -> InlinePrograms:
    """The main conf ``text``, which lies at ``path`` (absolute), without its programs, and these as confs."""
    parts = split_sections(as_lines(text))
    home = _homes(text)
    taken: dict[str, str] = {}
    left = []
    for name, body in parts:
        kind, _, program = (name or "").partition(":")
        if kind not in _MOVED or not program.strip():
            left.append(body)
            continue
        owner = program.strip() if kind == "group" else home.get(program.strip(), program.strip())
        taken[owner] = taken.get(owner, "") + resolve_here(body, posixpath.dirname(path))
    if not taken:
        return InlinePrograms(text)
    return InlinePrograms("".join(left), {_file_name(owner): _tidy(body) for owner, body in sorted(taken.items())})


def _homes(text: str) -> dict[str, str]:
    """Which group a program belongs to: supervisord needs both in one reading, and so does a conf."""
    return {
        member.strip(): section.program
        for section in read_sections(text)
        if section.kind == "group"
        for member in section.value("programs").split(",")
        if member.strip()
    }


def _file_name(owner: str) -> str:
    return (re.sub(r"[^A-Za-z0-9._+=@-]", "-", owner).lstrip(".") or "program") + ".conf"


def _tidy(body: str) -> str:
    return body.rstrip("\n") + "\n"
