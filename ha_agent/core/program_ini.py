"""A program's own ``program.ini`` turned into its conf of the registry. Pure.

The file lies in the program's folder, which gives the program its name, and holds supervisord's own keys in a section
``[program]``. Who is not root may neither choose another user than the allowed ones nor where supervisord, which is root,
writes its logs.
"""

from __future__ import annotations

import configparser
import difflib
import posixpath
import re
import shlex
from dataclasses import dataclass

from ha_agent.core.conf_options import PROGRAM_OPTIONS
from ha_agent.core.file_keys import read_own_files
from ha_agent.core.ini_texts import ini_problem
from ha_agent.core.order_keys import FILES, MARK

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
ORIGIN = "; registered from "
_ROOT_ONLY = frozenset({"stdout_logfile", "stderr_logfile", "serverurl", "stdout_syslog", "stderr_syslog"})
"""supervisord itself, as root, opens what these name."""

_RESERVED = {"all": "commands mean every program by it", "supervisord": "its log would be supervisord's own"}
_NOT_HERE = frozenset({"socket", "socket_owner", "socket_mode", "socket_backlog"})


class ProgramIniError(ValueError):
    """A program.ini that cannot be used; ``problems`` lists everything that is wrong with it."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Registrant:
    """Who registers: ``user`` is what the program runs as where the file does not say; ``allowed`` None means any user.

    ``is_root``: the file is root's own word, which may name files that supervisord opens as root.
    """

    user: str
    allowed: frozenset[str] | None
    is_root: bool


@dataclass(frozen=True, slots=True)
class LogRules:
    """Where logs go and how they are turned over."""

    directory: str
    maxbytes: str
    backups: int


def name_problem(name: str) -> str | None:
    """Why a folder of this name cannot give its name to a program, or None where it can."""
    if NAME.fullmatch(name) is None:
        return f"{name!r} cannot be a program's name: 1 to 63 letters, digits, '.', '_' or '-'"
    if name in _RESERVED:
        return f"{name!r} cannot be a program's name: {_RESERVED[name]}"
    return None


def render_program(name: str, directory: str, text: str, registrant: Registrant, logs: LogRules) -> str:
    """The conf of the program in folder ``directory``, from the ``text`` of its program.ini.

    Raises ``ProgramIniError`` with every problem found.
    """
    problems = [problem] if (problem := name_problem(name)) else []
    if not directory.startswith("/") or re.search(r"[\x00-\x1f;#%]|^\s|\s$", directory):
        problems.append(
            f"{directory!r}: the folder's path must be absolute and free of '%', ';', '#' and control characters"
        )
    values = _read_values(name, text, problems)
    if values is not None:
        _check_keys(values, registrant, problems)
        values = {key: value.replace("%(here)s", directory) for key, value in values.items()}
        _fill_in(values, directory, registrant, logs)
        if not values.get("command", "").strip():
            problems.append("command is missing: what the program is started with")
    files = _read_own_files(text, directory, registrant, problems)
    if problems or values is None:
        raise ProgramIniError(problems)
    order = ["command", "directory", "user", *sorted(values.keys() - {"command", "directory", "user"})]
    body = "".join(f"; {MARK} {FILES}={path}\n" for path in files)
    body += "".join(f"{key}={_value(values[key])}\n" for key in order)
    head = f"{ORIGIN}{directory} by supzcli; edit the program.ini there, then: ./sup_run.sh update\n"
    return f"{head}[program:{name}]\n{body}"


def _read_own_files(text: str, directory: str, registrant: Registrant, problems: list[str]) -> list[str]:
    """What ``; ha-agent: files=`` names. The agent, which is root, reads these files to compare them with the peer's."""
    files, wrong = read_own_files(text, directory)
    outside = [] if registrant.is_root else [path for path in files if not f"{path}/".startswith(f"{directory}/")]
    problems += [*wrong, *(f"{path} in files=: only root may name a file outside of {directory}" for path in outside)]
    return files


def registered_from(conf_text: str) -> str | None:
    """The folder that a conf was registered from; None where it was written by hand."""
    first = conf_text.split("\n", 1)[0]
    if not first.startswith(ORIGIN):
        return None
    return first.removeprefix(ORIGIN).rpartition(" by supzcli;")[0] or None


def _read_values(name: str, text: str, problems: list[str]) -> dict[str, str] | None:
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=True)
    try:
        parser.read_string(text)
    except configparser.Error as error:
        problems.append(ini_problem(error))
        return None
    wanted = [s for s in parser.sections() if s in ("program", f"program:{name}")]
    other = [s for s in parser.sections() if s not in wanted]
    if other:
        problems.append(f"section [{other[0]}] does not belong here; there is one, [program]")
    if len(wanted) != 1:
        problems.append("there must be one section [program]")
        return None
    return dict(parser.items(wanted[0]))


def _check_keys(values: dict[str, str], registrant: Registrant, problems: list[str]) -> None:
    known = PROGRAM_OPTIONS - _NOT_HERE
    for key in values.keys() - known:
        near = difflib.get_close_matches(key, known, 1)
        problems.append(f"{key}: no such key" + (f"; did you mean {near[0]}?" if near else ""))
    if not registrant.is_root:
        problems += [
            f"{key}: only root may set this; logs go to one standard place" for key in sorted(values.keys() & _ROOT_ONLY)
        ]
    user = values.get("user", registrant.user)
    if registrant.allowed is not None and user not in registrant.allowed:
        problems.append(
            f"user: you may register programs that run as {' or '.join(sorted(registrant.allowed))}, not as {user} "
            "(programs.run_as of agent.toml names more)"
        )


def _fill_in(values: dict[str, str], directory: str, registrant: Registrant, logs: LogRules) -> None:
    """Everything that the file does not say, and paths made absolute: supervisord knows nothing of the folder."""
    values["directory"] = posixpath.normpath(posixpath.join(directory, values.get("directory", ".") or "."))
    values["command"] = _absolute(values.get("command", ""), directory)
    values.setdefault("user", registrant.user)
    several = values.get("numprocs", "1").strip() not in ("1", "")
    if several:
        values.setdefault("process_name", "%(program_name)s_%(process_num)02d")
    instance = "%(program_name)s_%(process_num)02d" if several else "%(program_name)s"
    values.setdefault("stdout_logfile", f"{logs.directory}/{instance}.log")
    values.setdefault("stdout_logfile_maxbytes", logs.maxbytes)
    values.setdefault("stdout_logfile_backups", str(logs.backups))
    values.setdefault("redirect_stderr", "true")
    # Without these a shell that starts the program would leave it running when it is stopped.
    values.setdefault("stopasgroup", "true")
    values.setdefault("killasgroup", "true")


def _absolute(command: str, directory: str) -> str:
    """The command with a first word that is relative made absolute; a name without a slash is searched on the PATH."""
    match = re.match(r"\s*(\"[^\"]*\"|'[^']*'|\S+)", command)
    if match is None:
        return ""
    try:
        first = shlex.split(match[1])[0]
    except (ValueError, IndexError):
        return command.strip()
    if "/" not in first or first.startswith(("/", "%")):
        return command.strip()
    return shlex.quote(posixpath.normpath(posixpath.join(directory, first))) + command[match.end() :].rstrip()


def _value(text: str) -> str:
    """A value as it is written; what goes over several lines stays one value."""
    return "\n  ".join(line.strip() for line in text.splitlines() if line.strip())


def sample_ini(command: str, user: str, numprocs: int, directory: str) -> str:
    """The program.ini of a new program."""
    several = numprocs > 1
    return f"""\
; How supervisord runs this program; its name is that of this folder. Keys are supervisord's own
; (http://supervisord.org/configuration.html#program-x-section-settings). Relative paths are relative to this folder.
; After a change: ./sup_run.sh update

[program]
command = {command}
directory = {directory}
user = {user}
numprocs = {numprocs}
; With numprocs above 1 each process is told its number: command = bin/start --port=80%(process_num)02d
{"" if several else ";"}process_name = %(program_name)s_%(process_num)02d

; A release runs from the folder that the link "current" names. A new one: ln -sfn v2 current && ./sup_run.sh restart
;command = current/bin/start
;directory = current

; What it needs besides the files of its command is named here, to be the same on both nodes (docs/payload.md):
;   ; ha-agent: files = etc/app.toml, rules

autostart = true
autorestart = unexpected
startsecs = 1
stopwaitsecs = 10
;environment = KEY="value"
"""
