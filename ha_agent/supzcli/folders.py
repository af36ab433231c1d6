"""A program's own folder: reading it for ``register``, making its two files for ``new``."""

from __future__ import annotations

import argparse
import getpass
import os
import pwd
import stat
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from ha_agent.core.names import PARKED
from ha_agent.core.program_ini import name_problem, sample_ini
from ha_agent.supzcli.errors import BadUsage

INI, RUN = "program.ini", "sup_run.sh"
MOST_INI_BYTES = 1024 * 1024
"""Read at most; the agent refuses a file that is much shorter."""

TEMPLATE = os.path.join(os.path.dirname(os.path.abspath(__file__)), RUN)


class _Parser(argparse.ArgumentParser):
    """A parser that raises instead of ending the process: an interactive session continues."""

    def error(self, message: str) -> NoReturn:
        raise BadUsage(f"{message}; {' '.join(self.format_usage().split())}")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        raise BadUsage(message or "")


def folder_of(path: str) -> tuple[str, str]:
    """The absolute path of a program's folder, and the program's name. Raises ``BadUsage``."""
    directory = os.path.realpath(path)
    if not os.path.isdir(directory):
        raise BadUsage(f"{path}: no such folder")
    name = os.path.basename(directory)
    if problem := name_problem(name):
        raise BadUsage(f"{directory}: the program is named as its folder, and {problem}")
    return directory, name


def parse_register(words: Sequence[str]) -> argparse.Namespace:
    """The options of ``register``. Raises ``BadUsage``."""
    parser = _Parser(prog="supzcli register", add_help=False)
    parser.add_argument("directory")
    parser.add_argument("--update", action="store_true")
    parser.add_argument("--no-start", action="store_true")
    parser.add_argument("--user")
    return parser.parse_args(words)


def registration(options: argparse.Namespace) -> dict[str, Any]:
    """The request that registers a folder. Raises ``BadUsage``."""
    directory, name = folder_of(options.directory)
    path = os.path.join(directory, INI)
    try:
        text, owner, writers = _read_ini(directory)
    except FileNotFoundError:
        raise BadUsage(f"{path}: no such file; supzcli new {options.directory} makes it") from None
    except KeyError:
        raise BadUsage(
            f"{directory} belongs to a user without a name: chown it to the one that the program runs as"
        ) from None
    except OSError as error:
        raise BadUsage(f"{path}: {error.strerror}") from None
    start = not options.no_start and not options.update
    message = {"op": "program-register", "name": name, "directory": directory, "text": text, "owner": owner}
    message = {**message, "writers": writers, "user": options.user or ""}
    return {**message, "start": start, "update": options.update}


def _read_ini(directory: str) -> tuple[str, str, str]:
    """The text of the folder's program.ini, the folder's owner, and who else could have written it, in words.

    Both are looked at as they were opened, so that nobody exchanges them meanwhile. Raises ``OSError``, and ``KeyError``
    where the owner has no name.
    """
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        owner = pwd.getpwuid(os.fstat(folder).st_uid)
        with open(os.open(INI, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder), "rb") as file:
            writers = [_writers(os.fstat(fd), owner) for fd in (file.fileno(), folder)]
            text = file.read(MOST_INI_BYTES).decode("utf-8", "surrogateescape")
    finally:
        os.close(folder)
    return text, owner.pw_name, next((w for w in writers if w), "")


def _writers(info: os.stat_result, owner: pwd.struct_passwd) -> str:
    """Who besides root and ``owner`` may write what ``info`` tells of; empty where nobody may.

    The owner's own group is no more than the owner.
    """
    if info.st_uid not in (0, owner.pw_uid):
        return f"user {info.st_uid}"
    if info.st_mode & stat.S_IWOTH:
        return "everybody"
    if info.st_mode & stat.S_IWGRP and info.st_gid not in (0, owner.pw_gid):
        return f"group {info.st_gid}"
    return ""


def register_lines(name: str, answer: dict[str, Any]) -> list[str]:
    """What a registration did to the registry."""
    where = (
        f"{answer['node']} and {answer['peer']}" if answer["ack"] and answer["ack"]["on_peer"] else f"{answer['node']} only"
    )
    if not answer["changed"] and not answer["unparked"]:
        return [f"{name}: is registered as {answer['path']}, nothing has changed"]
    parked = ", parked" if answer["path"].endswith(PARKED) else ""
    verb = "updated" if answer["changed"] and answer["was_registered"] else "registered"
    return [f"{name}: {verb} as {answer['path']}{parked} on {where}"]


def run_new(words: Sequence[str]) -> list[str]:
    """Makes the two files of a new program; returns what to say. Raises ``BadUsage``; no existing file is changed."""
    parser = _Parser(prog="supzcli new", add_help=False)
    parser.add_argument("directory")
    parser.add_argument("--command")
    parser.add_argument("--user")
    parser.add_argument("--numprocs", type=int, default=1)
    parser.add_argument("--workdir", default=".")
    options = parser.parse_args(words)
    if not 1 <= options.numprocs <= 1000:
        raise BadUsage(f"--numprocs {options.numprocs}: 1 to 1000 are possible")
    directory = os.path.abspath(options.directory)
    if problem := name_problem(os.path.basename(directory)):
        raise BadUsage(f"{directory}: the program is named as its folder, and {problem}")
    there = [p for n in (INI, RUN) if os.path.lexists(p := os.path.join(directory, n))]
    if there:
        raise BadUsage(f"{there[0]} is there already; nothing was written")
    command = options.command or _ask("Command that starts the program, in the foreground", "--command")
    user = options.user or (_ask("User that it runs as", "--user", getpass.getuser()))
    text = sample_ini(command, user, options.numprocs, options.workdir)
    try:
        os.makedirs(directory, exist_ok=True)
        with open(TEMPLATE, encoding="ascii") as file:
            script = file.read()
        for name, content, mode in ((INI, text, 0o644), (RUN, script, 0o755)):
            with open(os.path.join(directory, name), "x", encoding="utf-8") as file:
                file.write(content)
                os.fchmod(file.fileno(), mode)
    except OSError as error:
        raise BadUsage(f"{error.filename or directory}: {error.strerror}") from None
    return [f"{directory}/{INI} and {RUN} are written; look at the first one, then: cd {options.directory} && ./{RUN} start"]


def _ask(question: str, option: str, default: str = "") -> str:
    if not sys.stdin.isatty():
        if default:
            return default
        raise BadUsage(f"{option} is missing, and there is no terminal to ask at")
    shown = f" [{default}]" if default else ""
    try:
        answer = input(f"{question}{shown}: ").strip() or default
    except EOFError:
        answer = ""
    if not answer:
        raise BadUsage(f"{option} is needed; nothing was written")
    return answer
