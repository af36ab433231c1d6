"""What lint says of a program's ``command=``: does it stay in the foreground, does a stop reach it, is it found. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from ha_agent.core.commands import SHELLS, split_command, unwrap
from ha_agent.core.conf_options import is_false, is_true
from ha_agent.core.conf_text import Option, Section
from ha_agent.core.daemons import find_daemon
from ha_agent.core.findings import Finding
from ha_agent.core.remarks import error, warning
from ha_agent.core.shells import Wrapper, find_wrapper
from ha_agent.core.surroundings import Surroundings

LONGEST = 64 * 1024
"""Characters of a command that is looked into; a longer value is refused when confs are judged (``conf_check.py``)."""

_QUOTED = re.compile(r"'[^']*'|\"(?:\\.|[^\"\\])*\"")
_OPERATOR = re.compile(r"(?:&&|\|\|?|;|&|\d?&?>{1,2}\S*|<{1,2}\S*)")
_EXPANSION = re.compile(r"(?<![\w.])\$(?:[A-Za-z_]\w*|\{[A-Za-z_][^}\s]*\}?|\()|`")
"""Not the $ within a word, as Java's names of inner classes have it."""
_ASKS_A_SHELL = re.compile(r"(?:^|[\s/\"'])(?:su|ssh|runuser|eval|watch|xargs|flock|docker|podman|chroot)\s")


def is_relative(path: str) -> bool:
    """Whether a path depends on where supervisord was started; one that begins with ``%(...)s`` is taken not to."""
    return bool(path) and not path.startswith(("/", "%(", "~"))


def lint_command(path: str, section: Section, command: Option, around: Surroundings) -> Iterator[Finding]:
    """What can be said of a command that is there. ``path``: the conf's."""
    if len(command.value) > LONGEST:
        return
    try:
        words = split_command(command.value)
    except ValueError as why:
        yield _unreadable(path, command, str(why))
        return
    if not words:
        return
    here = posixpath.join(around.cwd, posixpath.dirname(path))
    here = here if here.startswith("/") else "%(here)s"
    meant = command.value.replace("%(here)s", here)
    proxied = _behind_pidproxy(words)
    yield from _lint_pidproxy(path, section, command, words, around)
    if not proxied:
        yield from _lint_foreground(path, command, meant, around)
        yield from _lint_shell(path, section, command, meant, here, around)
    yield from _lint_words(path, section, command, words)


def _unreadable(path: str, command: Option, why: str) -> Finding:
    if command.comment:
        text = f"command ends before {command.comment.split()[0]!r}, which begins a comment behind a blank, also in quotes"
        return error(
            "bad-command", path, command.line, text, "take away the blank before it, or put the command into a script"
        )
    return error("bad-command", path, command.line, f"command cannot be read: {why}", "correct the quotes")


def _lint_foreground(path: str, command: Option, meant: str, around: Surroundings) -> Iterator[Finding]:
    departure = find_daemon(meant, around.read)
    if departure is not None:
        unless = f", {departure.unless}" if departure.unless else ""
        text = f"{departure.name} leaves the foreground{unless}: supervisord loses it, and no release can rely on its stop"
        yield warning("daemonises", path, command.line, text, departure.fix)


def _behind_pidproxy(words: list[str]) -> bool:
    return posixpath.basename(words[0]) == "pidproxy"


def _lint_pidproxy(
    path: str, section: Section, command: Option, words: list[str], around: Surroundings
) -> Iterator[Finding]:
    if not _behind_pidproxy(words):
        return
    program = " ".join(words[2:])
    departure = find_daemon(program, around.read) if program else None
    fix = "drop pidproxy where the program stays in the foreground"
    if departure is not None:
        fix = f"drop pidproxy, and have {departure.name} stay in the foreground: {departure.fix}"
    if not is_false(section, "autorestart", "unexpected"):
        text = "pidproxy sees a pid file only: it is restarted while the daemon may still run, and a second one starts"
        yield warning("pidproxy-restarts", path, command.line, text, f"{fix}; or autorestart=false")
    if not is_false(section, "autostart"):
        text = "pidproxy starts with supervisord though a daemon of before may still run"
        yield warning("pidproxy-autostart", path, command.line, text, fix)
    if len(words) < 3 or words[1].endswith("/"):
        text = "pidproxy needs the path of a pid file, and then the program: a stop finds no process otherwise"
        yield warning("pidproxy-file", path, command.line, text, "pidproxy /path/of/pid-file /path/of/program")


def _lint_shell(
    path: str, section: Section, command: Option, meant: str, here: str, around: Surroundings
) -> Iterator[Finding]:
    # stopasgroup implies killasgroup (supervisor's docs).
    if is_true(section, "stopasgroup"):
        return
    wrapper = find_wrapper(meant, section.value("directory").replace("%(here)s", here), around.read)
    if wrapper is not None:
        fix = "add stopasgroup=true and killasgroup=true, or have the shell `exec` the program"
        yield warning("shell-wrapper", path, command.line, _describe(wrapper), fix)
    elif is_true(section, "killasgroup") and (option := section.find("killasgroup")) is not None:
        text = "killasgroup=true without stopasgroup: a stop is told to the program alone, and what it started may run on"
        yield warning("killasgroup-alone", path, option.line, text, "add stopasgroup=true")


def _describe(wrapper: Wrapper) -> str:
    if not wrapper.script:
        return "a shell runs the program: a stop ends the shell alone, and the program runs on"
    name = posixpath.basename(wrapper.script)
    if wrapper.is_certain:
        return f"{name} does not hand over with exec: a stop ends its shell alone, and what it started runs on"
    return f"{name} runs the program: unless it hands over with exec, a stop ends its shell alone, and the program runs on"


def _lint_words(path: str, section: Section, command: Option, words: list[str]) -> Iterator[Finding]:
    first = words[0]
    if "/" in first and is_relative(first):
        directory = section.value("directory")
        whole = posixpath.normpath(posixpath.join(directory or "/path/of", first))
        text = f"supervisord looks for {first} from where it was started itself, not from directory=: it would not find it"
        yield warning("relative-path", path, command.line, text, f"write {whole}")
    if not _has_shell(words) and not _ASKS_A_SHELL.search(command.value):
        yield from _lint_shell_words(path, command)


def _has_shell(words: list[str]) -> bool:
    return bool({posixpath.basename(word) for word in words} & SHELLS) or not unwrap(words)


def _lint_shell_words(path: str, command: Option) -> Iterator[Finding]:
    """Words that only a shell understands, in a command that supervisord starts without one."""
    bare = _QUOTED.sub(lambda quoted: "_" * len(quoted[0]), command.value)
    found = next((word for word in bare.split() if _OPERATOR.fullmatch(word) or word.startswith("~/")), None)
    if found is None and (match := _EXPANSION.search(re.sub(r"'[^']*'", "", command.value))) is not None:
        found = match[0]
    if found is None and re.match(r"[A-Za-z_]\w*=", bare):
        text = f"supervisord starts no shell: it takes {bare.split('=')[0]}=... for the program"
        yield warning("shell-syntax", path, command.line, text, "write it into environment=")
    elif found is not None:
        text = f"supervisord starts no shell: the program gets {found!r} as it stands"
        fix = "bash -c 'exec ...', or what it stands for; environment= for variables, stdout_logfile= for >"
        yield warning("shell-syntax", path, command.line, text, fix)
