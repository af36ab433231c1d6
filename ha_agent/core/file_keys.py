"""Which files belong to a program, as its conf says in comments that supervisord ignores. Pure.

A line ``; ha-agent: files = /opt/app/app.toml, %(here)s/rules`` in a program's section, beside the keys of
``core/order_keys.py``: files and directories that the program needs besides those that its command names.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass

from ha_agent.core.order_keys import FILES, Mistake, read_key_lines

MOST_FILES = 200
LONGEST_PATH = 4095
"""Bytes of a path without its end (PATH_MAX of linux/limits.h counts that as well)."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class FileKeys:
    """What one section names: absolute paths without ``..``, each once, in the order of the conf.

    ``lines``: on which line each of them stands. A path may lead to a file, to a directory (all that is in it is meant), or
    to nothing; whoever asks the disk sees that.
    """

    files: tuple[str, ...] = ()
    lines: tuple[int, ...] = ()


def read_files(text: str, here: str = "/") -> tuple[dict[str, FileKeys], list[Mistake]]:
    """The files of each program of a conf, by its section's name, and all that is wrong with them. Takes any text.

    ``here``: the directory of the conf in the registry, which ``%(here)s`` means, as in supervisord's own values. What is
    wrong is left out; its code is ``bad-files``. A section that names no file is not there.
    """
    found: dict[str, dict[str, int]] = {}
    mistakes: list[Mistake] = []
    for said in read_key_lines(text):
        if said.key != FILES or said.section is None:
            continue
        if said.section.startswith("group:"):
            text_ = "files= stands in a group's section, and no program has these files"
            mistakes.append(Mistake("bad-files", said.line, text_, "move it below [program:NAME]"))
            continue
        words = [word for part in said.value.split(",") if (word := part.strip())]
        if not words:
            mistakes.append(Mistake("bad-files", said.line, "files= names nothing", "name a file: files=/opt/app/app.toml"))
        mine = found.setdefault(said.section, {})
        for word in words:
            _take(mine, word.replace("%(here)s", here), said.line, mistakes)
    return {name: FileKeys(tuple(mine), tuple(mine.values())) for name, mine in found.items() if mine}, mistakes


def read_own_files(text: str, directory: str) -> tuple[list[str], list[str]]:
    """The files that a program.ini in ``directory`` names in such comments, and what is wrong with them, in words.

    A path that is relative begins at the program's folder. Each is absolute in the result, and stands there once.
    """
    found: dict[str, None] = {}
    problems: list[str] = []
    for said in read_key_lines(text):
        if said.key != FILES:
            continue
        for word in (part.strip() for part in said.value.split(",")):
            path = posixpath.join(directory, word.replace("%(here)s", directory))
            if word and (problem := path_problem(path)):
                problems.append(f"{word[:80]!r} in files= {problem}")
            elif word:
                found[posixpath.normpath(path)] = None
    if len(found) > MOST_FILES:
        problems.append(f"files= names more than {MOST_FILES}")
    return list(found), problems


def _take(mine: dict[str, int], word: str, line: int, mistakes: list[Mistake]) -> None:
    if problem := path_problem(word):
        text = f"{word[:80]!r} in files= {problem}"
        mistakes.append(Mistake("bad-files", line, text, "an absolute path: /opt/app/app.toml"))
        return
    path = posixpath.normpath(word).replace("//", "/")
    if path not in mine and len(mine) >= MOST_FILES:
        mistakes.append(Mistake("bad-files", line, f"files= names more than {MOST_FILES}", "name their directory"))
        return
    mine.setdefault(path, line)


def path_problem(path: str) -> str | None:
    """Why a path cannot be one of a program's files, or None where it can."""
    if not path.startswith("/"):
        return "is not an absolute path"
    if _CONTROL.search(path):
        return "has a control character"
    if len(path.encode("utf-8", "surrogateescape")) > LONGEST_PATH:
        return f"is longer than {LONGEST_PATH} bytes"
    if ".." in path.split("/"):
        return "has .. in it"
    if posixpath.normpath(path).strip("/") == "":
        return "means everything"
    return None
