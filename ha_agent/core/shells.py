"""Shells that stay between supervisord and a program: a stop ends the shell alone, and the program runs on. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass

from ha_agent.core.commands import SHELLS, Simple, read_script, shell_call, split_command, unwrap
from ha_agent.core.surroundings import read_nothing

Reader = Callable[[str], str | None]

_SHEBANG = re.compile(r"#!\s*(\S+)(?:\s+-\S+)*(?:\s+(\S+))?")
_EXECS = re.compile(r"(?:^|[;&|(){}]|\b(?:then|else|do)\s)[ \t]*exec[ \t]+(?![\d&]*[<>])\S", re.MULTILINE)
_TRAPS = re.compile(r"^[^#\n]*\btrap[ \t]", re.MULTILINE)
_ENDS = frozenset({"done", "fi", "esac", "}"})
"""The last word of a compound command, which a shell stays for."""

_KNOWN = re.compile(
    r"^(\S*/)?("
    r"(kafka|zookeeper)-server-start\.sh|connect-(standalone|distributed)\.sh|catalina\.sh\s+run\b"
    r"|zkServer\.sh\s+start-foreground\b|jenkins\.sh|standalone\.sh|docker-entrypoint\.sh)"
)
"""Scripts that hand over with ``exec``, or that end what they started when they are ended, in the releases of their projects
(Apache Kafka, Tomcat and ZooKeeper, Jenkins' and other images, WildFly)."""

_DEEPEST = 4


@dataclass(frozen=True, slots=True)
class Wrapper:
    """A shell that stays. ``script``: the path of what it runs, empty for ``-c``. ``is_certain``: the script was read."""

    script: str = ""
    is_certain: bool = True


def find_wrapper(command: str, directory: str = "", read: Reader = read_nothing) -> Wrapper | None:
    """The shell that stays between supervisord and the program; None where there is none, as far as can be told.

    ``directory``: where the program starts, for scripts by a relative path; ``read``: as in ``Surroundings``.
    """
    try:
        words = split_command(command)
    except ValueError:
        return None
    return _judge(unwrap(words), directory, read, _DEEPEST)


def _judge(words: tuple[str, ...], directory: str, read: Reader, depth: int) -> Wrapper | None:
    if not words or not depth:
        return None
    call = shell_call(words)
    if call is None:
        return _judge_script(words, directory, read)
    if call.script is None:
        return _judge_script(words[words.index(call.path) :], directory, read, is_shell=True) if call.path else Wrapper()
    return _judge_text(call.shell, call.script, directory, read, depth)


def _judge_text(shell: str, script: str, directory: str, read: Reader, depth: int) -> Wrapper | None:
    """What ``SHELL -c`` comes to. bash (from 5.1 on) becomes its last command where that is a simple one; dash does not."""
    commands = read_script(script)
    if not commands:
        return None if _EXECS.search(script) or not script.strip() else Wrapper()
    if any(one.words[:1] == ("trap",) for one in commands):
        return None
    last = commands[-1]
    handing = [one for one in commands if one.execs] or ([last] if shell == "bash" and _is_plain(commands) else [])
    if not handing:
        return Wrapper()
    return _judge(handing[-1].words, _directory_of(commands, directory), read, depth - 1)


def _is_plain(commands: list[Simple]) -> bool:
    last, before = commands[-1], commands[-2].after if len(commands) > 1 else ""
    return not (last.is_redirected or last.after or last.name in _ENDS or before in ("|", "|&", "(", ";;"))


def _directory_of(commands: list[Simple], directory: str) -> str:
    for one in commands:
        if one.name == "cd" and len(one.words) == 2:
            directory = posixpath.join(directory, one.words[1])
    return directory


def _judge_script(words: tuple[str, ...], directory: str, read: Reader, *, is_shell: bool = False) -> Wrapper | None:
    """What a script comes to. One that cannot be read, and does not look like a shell's, is taken for a program."""
    path = posixpath.normpath(posixpath.join(directory, words[0]))
    text = read(path) if path.startswith("/") and "/" in words[0] else None
    if text is None:
        looks_so = is_shell or words[0].endswith((".sh", ".bash"))
        return Wrapper(words[0], is_certain=False) if looks_so and not _KNOWN.match(" ".join(words)) else None
    if not is_shell and not _is_shells(text, words[0]):
        return None
    return None if _EXECS.search(text) or _TRAPS.search(text) else Wrapper(words[0])


def _is_shells(text: str, name: str) -> bool:
    shebang = _SHEBANG.match(text)
    if shebang is None:
        return name.endswith((".sh", ".bash"))
    program = posixpath.basename(shebang[1])
    return (posixpath.basename(shebang[2] or "") if program == "env" else program) in SHELLS
