"""Which files a command names, as far as its text says: what it runs, and every word that may be a path. Pure.

Whoever asks the disk sees which of them are there. Of a shell's script only plain words count, and nothing is expanded.
"""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ha_agent.core.commands import simple_commands, split_command


class Part(StrEnum):
    """What a file is to a program."""

    BINARY = "binary"
    """The first word of the command, which supervisord starts."""
    PROGRAM = "program"
    """What that starts in turn: behind ``env``, in a shell's script."""
    INTERPRETER = "interpreter"
    """What a script's first line names."""
    ARGUMENT = "argument"
    """A further word that is a file."""
    DIRECTORY = "directory"
    """Where the program starts (``directory=``)."""
    LISTED = "listed"
    """What ``files=`` names."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A word of a command, and where it may lie: the first path that exists is meant."""

    part: Part
    word: str
    paths: tuple[str, ...]


_PLAIN = re.compile(r"[^\x00-\x1f\x7f$`*?\[\]{}<>|&;()\"'\\!~]+")
"""Words of which a shell makes nothing else."""

_GLUED = re.compile(r"-[A-Za-z](/.*)", re.DOTALL)
_WRITTEN_BELOW = (
    "/proc/", "/sys/", "/dev/", "/run/", "/tmp/",
    "/var/run/", "/var/tmp/", "/var/log/", "/var/cache/", "/var/spool/", "/var/lib/", "/var/lock/",
)  # fmt: skip
_WRITTEN_ENDINGS = (
    ".log", ".pid", ".lock", ".sock", ".out", ".err", ".db", ".sqlite", ".sqlite3", ".pyc", ".swp", ".tmp",
)  # fmt: skip

MOST_WORDS = 500
"""Words of one command that are looked at."""


def is_written(path: str) -> bool:
    """Whether a path looks like one that programs write, and that differs on two nodes by its nature: logs, pid files, data.

    It is asked of words of a command and of what lies in a listed directory; what ``files=`` names itself is compared.
    """
    return path.startswith(_WRITTEN_BELOW) or path.endswith(_WRITTEN_ENDINGS) or "/__pycache__/" in path


def is_ignored(path: str, patterns: Iterable[str]) -> bool:
    """Whether one of ``payload.ignore`` fits."""
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


def find_candidates(command: str, directory: str, search: Sequence[str]) -> list[Candidate]:
    """What ``command`` may name, each once, the binary first; nothing where its quotes do not end.

    ``directory``: where it starts, empty where supervisord does not say it; ``search``: the PATH by which supervisord
    looks for a first word without a slash, of which the first file that is there counts (``supervisor/process.py``,
    ``get_execv_args``).
    """
    try:
        words = split_command(command)[:MOST_WORDS]
    except ValueError:
        return []
    if not words:
        return []
    found = [Candidate(Part.BINARY, words[0], _places(words[0], directory, search))]
    for simple in simple_commands(command):
        inner = list(simple.words[:MOST_WORDS])
        if inner and inner[0] != words[0] and _PLAIN.fullmatch(inner[0]):
            found.append(Candidate(Part.PROGRAM, inner[0], _places(inner[0], directory, search)))
        found += _arguments(inner[1:], directory)
    # What stands before the program, such as sudo's or a shell's own options, may name files as well.
    found += _arguments(words[1:], directory)
    seen: dict[tuple[str, ...], Candidate] = {}
    for candidate in found:
        if candidate.paths:
            seen.setdefault(candidate.paths, candidate)
    return list(seen.values())


def find_interpreter(line: bytes, script: str, directory: str, search: Sequence[str]) -> Candidate | None:
    """What the first line of ``script`` has it run by: ``#!/usr/bin/python3 -u``, ``#!/usr/bin/env -S python3``; else None.

    The kernel takes what follows the interpreter as one word (execve(2)); ``env`` finds the program on the PATH.
    """
    if not line.startswith(b"#!"):
        return None
    words = line[2:].split(b"\n", 1)[0].decode("utf-8", "surrogateescape").split()
    if not words:
        return None
    name = words[0]
    if posixpath.basename(name) == "env":
        rest = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
        name = rest[0] if rest else name
    paths = _places(name, directory, search)
    return Candidate(Part.INTERPRETER, f"#! of {script}", paths) if paths else None


def _places(word: str, directory: str, search: Sequence[str]) -> tuple[str, ...]:
    if "/" in word:
        return _absolute(word, directory)
    return tuple(path for folder in search for path in _absolute(word, folder))


def _absolute(word: str, directory: str) -> tuple[str, ...]:
    """The path; nothing where it is relative to what nobody knows."""
    path = posixpath.join(directory, word)
    if not path.startswith("/") or "\0" in path:
        return ()
    # ".." is left to whoever walks the path: behind a link it leads elsewhere.
    return (re.sub(r"/(\./|/)+", "/", path),)


def _arguments(words: Sequence[str], directory: str) -> Iterator[Candidate]:
    for word in words:
        for text in _pieces(word):
            if not _PLAIN.fullmatch(text):
                continue
            paths = _absolute(text, directory)
            if paths and not is_written(paths[0]):
                yield Candidate(Part.ARGUMENT, text, paths)


def _pieces(word: str) -> Iterator[str]:
    """The texts of a word that may be paths: ``--config=/etc/x``, ``-c/etc/x``, ``@/opt/args``, ``/a.jar:/b.jar``."""
    if word.startswith("-"):
        if glued := _GLUED.fullmatch(word):
            yield glued[1]
        _, equals, word = word.partition("=")
        if not equals:
            return
    elif "=" in word:
        yield word
        word = word.rpartition("=")[2]
    word = re.sub(r"^(@|file:(//)?)(?=/)", "", word)
    if not word:
        return
    yield word
    if ":" in word:
        yield from (piece for piece in word.split(":") if piece.startswith("/"))
