"""What a ``command=`` really runs: without what only prepares a program (sudo, env, nice), and within ``sh -c``. Pure.

Nothing is run, and nothing is looked up: everything is said by the text alone.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

SHELLS = frozenset({"sh", "bash", "dash", "ash", "ksh", "zsh"})
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_GRAMMAR = frozenset({"if", "then", "elif", "else", "while", "until", "do", "!", "{"})
"""Words of the shell that stand before a command."""

_DEEPEST = 4
"""Shells within shells that are looked into."""


@dataclass(frozen=True, slots=True)
class _Prefix:
    """A program that becomes another one, or waits for it: ``takes`` are its options with a value of their own.

    ``words``: how many words stand before the program.
    """

    takes: frozenset[str] = frozenset()
    words: int = 0


def _prefix(takes: str = "", words: int = 0) -> _Prefix:
    return _Prefix(frozenset(takes.split()), words)


_PREFIXES = {
    "authbind": _prefix("--depth"),
    "chpst": _prefix("-u -U -b -/ -n -l -L -m -d -o -p -f -c -r -t -e"),
    "chrt": _prefix("-T -P -D", 1),
    "dumb-init": _prefix("-r --rewrite"),
    "env": _prefix("-u -C --unset --chdir"),
    "exec": _prefix("-a"),
    "gosu": _prefix("", 1),
    "ionice": _prefix("-c -n --class --classdata"),
    "nice": _prefix("-n --adjustment"),
    "nohup": _prefix(),
    "setpriv": _prefix("--reuid --regid --groups --inh-caps --ambient-caps --bounding-set --securebits --pdeathsig"),
    "stdbuf": _prefix("-i -o -e --input --output --error"),
    "su-exec": _prefix("", 1),
    "sudo": _prefix("-u -g -h -p -C -T -D -R -r -t -U --user --group --host --prompt --chdir --chroot"),
    "taskset": _prefix("", 1),
    "time": _prefix("-f -o"),
    "timeout": _prefix("-s -k --signal --kill-after", 1),
    "tini": _prefix("-p -e"),
    "unbuffer": _prefix(),
}


@dataclass(frozen=True, slots=True)
class Simple:
    """One simple command.

    ``words`` are those of the program that it comes to; ``execs``: it replaces the shell that runs it; ``after``: the
    operator that stands behind it, such as "&&"; ``is_redirected``: its input or output goes elsewhere.
    """

    words: tuple[str, ...]
    execs: bool = False
    after: str = ""
    is_redirected: bool = False

    @property
    def name(self) -> str:
        """The program's name without its path; empty where there is none."""
        return posixpath.basename(self.words[0]) if self.words else ""

    @property
    def text(self) -> str:
        """The words as one text."""
        return " ".join(self.words)


@dataclass(frozen=True, slots=True)
class ShellCall:
    """How a shell is called: with a script as text (``-c``), or with the path of one. Both None: it reads its input."""

    shell: str
    script: str | None = None
    path: str | None = None


def split_command(command: str) -> list[str]:
    """The words of a ``command=`` as supervisord splits it. Raises ``ValueError`` for quotes that do not end."""
    return shlex.split(command)


def unwrap(words: Sequence[str]) -> tuple[str, ...]:
    """The words without the programs before that only prepare it: ``sudo -u x nice nginx -g y`` is ``nginx -g y``."""
    rest = list(words)
    while rest:
        if _ASSIGNMENT.match(rest[0]):
            del rest[0]
            continue
        prefix = _PREFIXES.get(posixpath.basename(rest[0]))
        if prefix is None:
            break
        del rest[0]
        while rest and rest[0].startswith("-") and rest[0] != "-":
            option = rest.pop(0)
            if option == "--":
                break
            if option in prefix.takes and rest:
                del rest[0]
        del rest[: prefix.words]
    return tuple(rest)


def shell_call(words: Sequence[str]) -> ShellCall | None:
    """How ``words`` call a shell; None where they run something else."""
    if not words or posixpath.basename(words[0]) not in SHELLS:
        return None
    name = posixpath.basename(words[0])
    rest = list(words[1:])
    while rest and rest[0][:1] in "-+" and rest[0] not in ("-", "--"):
        option = rest.pop(0)
        if re.fullmatch(r"-[a-zA-Z]*c[a-zA-Z]*", option):
            return ShellCall(name, script=rest[0] if rest else "")
        if option in ("-o", "-O", "+o", "+O", "--rcfile", "--init-file") and rest:
            del rest[0]
    if rest and rest[0] in ("-", "--"):
        del rest[0]
    return ShellCall(name, path=rest[0] if rest else None)


def read_script(script: str) -> list[Simple]:
    """The simple commands of a shell's script, in order; nothing where its quotes do not end.

    The words that end a compound one (``done``, ``fi``) count as commands.
    """
    lexer = shlex.shlex(script.replace("\n", " ; "), posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        tokens = list(lexer)
    except ValueError:
        return []
    found: list[Simple] = []
    words: list[str] = []
    is_redirected = skip = False
    for token in [*tokens, ""]:
        if token and not set(token) - set("<>&") and set(token) & set("<>"):
            if words and words[-1].isdigit():
                words.pop()
            is_redirected = skip = True
        elif skip:
            skip = False
        elif token and set(token) - set("();&|"):
            words.append(token)
        else:
            while words and words[0] in _GRAMMAR:
                del words[0]
            if words:
                execs = words[0] == "exec" and len(words) > 1
                found.append(Simple(unwrap(words), execs, token, is_redirected))
            words, is_redirected = [], False
    return found


def simple_commands(command: str) -> list[Simple]:
    """Everything that a ``command=`` runs, as far as its text says; within shells what these are told to run.

    Nothing where the quotes do not end.
    """
    try:
        words = split_command(command)
    except ValueError:
        return []
    return _expand(Simple(unwrap(words)), _DEEPEST)


def _expand(simple: Simple, depth: int) -> list[Simple]:
    call = shell_call(simple.words)
    if call is None or call.script is None or not depth:
        return [simple]
    return [inner for part in read_script(call.script) for inner in _expand(part, depth - 1)]
