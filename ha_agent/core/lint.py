"""Warnings about confs: what supervisord would take and yet is not what is meant, with line, code and fix. Pure.

What supervisord itself says of a conf on a node comes from its own parser (a ``Verdict``); here it gets a line and a code,
and everything that experience adds.
"""

from __future__ import annotations

import difflib
import posixpath
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ha_agent.core.faults import Face, former_code
from ha_agent.core.findings import Finding, Severity
from ha_agent.core.names import PARKED

_HEADER = re.compile(r"^\[([^\]]+)\]")
_OPTION = re.compile(r"^([^\s=:][^=:]*?)\s*[=:]\s*(.*)$")
_INLINE_COMMENT = re.compile(r"\s[;#].*$")

FOREIGN = ("supervisord", "supervisorctl", "unix_http_server", "inet_http_server", "include")
FOREIGN_PREFIXES = ("rpcinterface:", "ctlplugin:", "eventlistener:")
PROGRAM_PREFIXES = ("program:", "fcgi-program:")

_TRUE = frozenset({"yes", "true", "on", "1"})
_FALSE = frozenset({"no", "false", "off", "0"})
_SIGNALS = frozenset({"TERM", "HUP", "INT", "QUIT", "KILL", "USR1", "USR2", "ABRT", "ALRM", "CONT", "STOP", "WINCH"})


def _is_count(text: str) -> bool:
    return re.fullmatch(r"-?\d+", text) is not None


def _is_bool(text: str) -> bool:
    return text.lower() in _TRUE | _FALSE


def _is_size(text: str) -> bool:
    return re.fullmatch(r"\d+\s*([kmg]b)?", text.lower()) is not None


def _is_signal(text: str) -> bool:
    return text.upper().removeprefix("SIG") in _SIGNALS or text.isdigit()


Type = tuple[Callable[[str], bool], str]
COUNT: Type = (_is_count, "a whole number")
BOOL: Type = (_is_bool, "true or false")
SIZE: Type = (_is_size, "a size such as 50MB")
TYPES: dict[str, Type] = {
    "numprocs": COUNT,
    "numprocs_start": COUNT,
    "priority": COUNT,
    "startsecs": COUNT,
    "startretries": COUNT,
    "stopwaitsecs": COUNT,
    "stdout_logfile_backups": COUNT,
    "stderr_logfile_backups": COUNT,
    "autostart": BOOL,
    "stopasgroup": BOOL,
    "killasgroup": BOOL,
    "redirect_stderr": BOOL,
    "stdout_events_enabled": BOOL,
    "stderr_events_enabled": BOOL,
    "stdout_syslog": BOOL,
    "stderr_syslog": BOOL,
    "autorestart": (lambda t: _is_bool(t) or t.lower() == "unexpected", "true, false or unexpected"),
    "exitcodes": (lambda t: re.fullmatch(r"\d+(\s*,\s*\d+)*|", t) is not None, "numbers, separated by commas"),
    "umask": (lambda t: re.fullmatch(r"[0-7]{1,4}", t) is not None, "an octal number such as 022"),
    "stopsignal": (_is_signal, "a signal such as TERM, INT or QUIT"),
    "stdout_logfile_maxbytes": SIZE,
    "stderr_logfile_maxbytes": SIZE,
    "stdout_capture_maxbytes": SIZE,
    "stderr_capture_maxbytes": SIZE,
}
"""Options of a program whose values have a form (supervisord.org/configuration.html, [program:x])."""

PROGRAM_OPTIONS = frozenset(TYPES) | {
    "command",
    "process_name",
    "user",
    "directory",
    "environment",
    "serverurl",
    "stdout_logfile",
    "stderr_logfile",
    "socket",
    "socket_owner",
    "socket_mode",
    "socket_backlog",
}
GROUP_OPTIONS = frozenset({"programs", "priority"})


@dataclass(frozen=True, slots=True)
class Daemonises:
    """A command that leaves the foreground, so that supervisord loses it: ``unless`` it says so."""

    pattern: str
    unless: str | None
    fix: str


DAEMONS: tuple[Daemonises, ...] = (
    Daemonises(r"(^|/|\s)service\s+\S+\s+(re)?start\b", None, "run the program itself, in the foreground"),
    Daemonises(r"\bsystemctl\s+(re)?start\b", None, "run the program itself, in the foreground"),
    Daemonises(r"/init\.d/\S+\s+(re)?start\b", None, "run the program itself, in the foreground"),
    Daemonises(r"(^|/)nginx(\s|$)", r"daemon\s+off", "add: -g 'daemon off;'"),
    Daemonises(r"(^|/)php-fpm[\d.]*(\s|$)", r"(^|\s)(-F|--nodaemonize)\b", "add: -F"),
    Daemonises(r"\bmysqld_safe\b", r"\bpidproxy\b", "run mysqld itself, or: pidproxy PIDFILE mysqld_safe"),
    Daemonises(r"\bapache(ctl|2ctl)\s+(re)?start\b", None, "use: apachectl -D FOREGROUND"),
    Daemonises(r"(^|/)(httpd|apache2)(\s|$)", r"FOREGROUND", "add: -D FOREGROUND"),
    Daemonises(r"\bcatalina\.sh\s+start\b|/startup\.sh\b", None, "use: catalina.sh run"),
    Daemonises(r"\bzkServer\.sh\s+start(\s|$)", None, "use: zkServer.sh start-foreground"),
    Daemonises(r"\bkafka-server-start\.sh\b.*\s-daemon\b", None, "remove: -daemon"),
    Daemonises(r"\bredis-server\b.*--daemonize\s+yes\b", None, "use: --daemonize no"),
    Daemonises(r"(^|/)lighttpd(\s|$)", r"(^|\s)-D\b", "add: -D"),
    Daemonises(r"(^|/)sshd(\s|$)", r"(^|\s)-[a-zA-Z]*D", "add: -D"),
    Daemonises(r"(^|/)crond?(\s|$)", r"(^|\s)-[fn]\b", "add: -f"),
    Daemonises(r"\bmemcached\b.*\s-d\b", None, "remove: -d"),
    Daemonises(r"\bhaproxy\b.*\s-D\b", None, "remove: -D"),
    Daemonises(r"\buwsgi\b.*--daemonize\b", None, "remove: --daemonize"),
    Daemonises(r"\bgunicorn\b.*\s(--daemon|-D)\b", None, "remove: --daemon"),
    Daemonises(r"\bcelery\b.*(\bmulti\s+start\b|--detach\b)", None, "use: celery worker, without --detach"),
    Daemonises(r"\bpg_ctl\b.*\bstart\b", None, "run postgres itself"),
    Daemonises(r"(^|/)rsyslogd(\s|$)", r"(^|\s)-n\b", "add: -n"),
    Daemonises(r"(^|/)supervisord(\s|$)", r"(^|\s)(-n|--nodaemon)\b", "add: -n"),
    Daemonises(r"(^|\s)nohup\s", None, "remove nohup: supervisord keeps the program"),
    Daemonises(r"(?<![&>|])&\s*[\"']?\s*$", None, "remove the & at the end"),
)


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a section; ``line`` counts from 1."""

    name: str
    value: str
    line: int


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


def read_sections(text: str) -> list[Section]:
    """The sections of a conf with the lines on which everything stands. Takes any text; other lines are left out."""
    sections: list[tuple[str, int, list[Option]]] = []
    for number, raw in enumerate(text.splitlines(), 1):
        if not raw.strip() or raw.lstrip().startswith((";", "#")):
            continue
        header = _HEADER.match(raw)
        if header:
            sections.append((header[1], number, []))
        elif sections and raw[:1] in (" ", "\t") and sections[-1][2]:
            last = sections[-1][2].pop()
            more = _INLINE_COMMENT.sub("", raw).strip()
            sections[-1][2].append(Option(last.name, f"{last.value} {more}".strip(), last.line))
        elif sections and (option := _OPTION.match(raw)):
            value = _INLINE_COMMENT.sub("", " " + option[2]).strip()
            sections[-1][2].append(Option(option[1].strip().lower(), value, number))
    return [Section(name, line, tuple(options)) for name, line, options in sections]


def lint_conf(path: str, text: str) -> list[Finding]:
    """What can be said of a conf by its text alone."""
    found: list[Finding] = []
    sections = read_sections(text)
    for section in sections:
        if section.name in FOREIGN or section.name.startswith(FOREIGN_PREFIXES):
            fix = "move it to supervisord's main conf, or to /etc/supervisor/local.d for what runs on both nodes"
            found.append(_error("foreign-section", path, section.line, f"[{section.name}] does not belong here", fix))
        elif section.is_program:
            found += _lint_program(path, section)
        elif section.name.startswith("group:"):
            found += _lint_options(path, section, GROUP_OPTIONS)
        else:
            fix = "a conf of the registry has [program:NAME], [fcgi-program:NAME] and [group:NAME]"
            found.append(
                _error("unknown-section", path, section.line, f"[{section.name}] means nothing to supervisord", fix)
            )
    programs = [s for s in sections if s.is_program]
    if len(programs) == 1 and not any(s.name.startswith("group:") for s in sections):
        found += _lint_file_name(path, programs[0])
    return found


def _error(code: str, path: str, line: int, text: str, fix: str) -> Finding:
    return Finding(code, Severity.ERROR, text, fix, path, line, former_code(code, Face.LINT) or "")


def _warning(code: str, path: str, line: int, text: str, fix: str) -> Finding:
    return Finding(code, Severity.WARNING, text, fix, path, line)


def _stem(path: str) -> str:
    name = posixpath.basename(path).removesuffix(PARKED)
    return name.rsplit(".", 1)[0]


def _lint_file_name(path: str, section: Section) -> Iterator[Finding]:
    stem = _stem(path)
    if stem != section.program:
        text = f"the file is called {stem}, its program {section.program}"
        fix = f"rename the file to {section.program}.conf, or the section to [program:{stem}] if it was copied"
        yield _warning("name-differs", path, section.line, text, fix)


def _lint_program(path: str, section: Section) -> Iterator[Finding]:
    yield from _lint_options(path, section, PROGRAM_OPTIONS)
    command = section.find("command")
    if command is None or not command.value:
        yield _error("no-command", path, section.line, f"[{section.name}] has no command", "add: command=/path/to/program")
        return
    yield from _lint_command(path, section, command)
    yield from _lint_numprocs(path, section)
    yield from _lint_logs(path, section)


def _lint_options(path: str, section: Section, known: frozenset[str]) -> Iterator[Finding]:
    for option in section.options:
        if option.name not in known:
            close = difflib.get_close_matches(option.name, known, 1)
            fix = f"did you mean {close[0]}?" if close else "remove it"
            yield _warning("unknown-option", path, option.line, f"{option.name} means nothing to supervisord", fix)
        elif option.name in TYPES and "%(" not in option.value:
            check, wanted = TYPES[option.name]
            if not check(option.value):
                text = f"{option.name}={option.value}: not {wanted}"
                yield _error("wrong-type", path, option.line, text, f"write {wanted}")


def _lint_command(path: str, section: Section, command: Option) -> Iterator[Finding]:
    try:
        words = shlex.split(command.value)
    except ValueError as error:
        yield _error("bad-command", path, command.line, f"command cannot be read: {error}", "correct the quotes")
        return
    is_proxied = bool(words) and posixpath.basename(words[0]) == "pidproxy"
    daemon = find_daemon(command.value)
    if daemon is not None:
        name = posixpath.basename(words[0])
        text = f"{name} leaves the foreground: supervisord loses it, and no release can rely on its stop"
        yield _warning("daemonises", path, command.line, text, daemon.fix)
    if is_proxied and section.value("autorestart", "unexpected").lower() not in _FALSE:
        text = "pidproxy sees a pid file only: it is restarted while the daemon may still run, and a second one starts"
        yield _warning(
            "pidproxy-restarts", path, command.line, text, "run the program in the foreground, or autorestart=false"
        )
    if is_proxied and section.value("autostart", "true").lower() not in _FALSE:
        text = "pidproxy starts with supervisord though a daemon of before may still run"
        yield _warning("pidproxy-autostart", path, command.line, text, "run the program in the foreground")
    if words and is_shell_wrapper(words) and not _stops_as_group(section):
        text = "a shell runs the program: a stop ends the shell alone, and the program runs on"
        fix = "add stopasgroup=true and killasgroup=true, or have the shell `exec` the program"
        yield _warning("shell-wrapper", path, command.line, text, fix)


def find_daemon(command: str) -> Daemonises | None:
    """The row of ``DAEMONS`` that applies to a command; None where it stays in the foreground as far as is known."""
    for row in DAEMONS:
        if re.search(row.pattern, command) and not (row.unless and re.search(row.unless, command)):
            return row
    return None


def is_shell_wrapper(words: Sequence[str]) -> bool:
    """Whether a shell stays between supervisord and the program."""
    name = posixpath.basename(words[0])
    if name in ("env", "nice", "ionice", "setpriv", "stdbuf"):
        rest = [w for w in words[1:] if not w.startswith("-") and "=" not in w]
        return bool(rest) and is_shell_wrapper(rest)
    if name in ("sh", "bash", "dash", "ash", "ksh", "zsh"):
        script = " ".join(words[1:])
        return not re.search(r"(^|[\s;&])exec\s", script)
    return name.endswith((".sh", ".bash"))


def _stops_as_group(section: Section) -> bool:
    # stopasgroup implies killasgroup (supervisor's docs).
    return section.value("stopasgroup", "false").lower() in _TRUE


def _lint_numprocs(path: str, section: Section) -> Iterator[Finding]:
    option = section.find("numprocs")
    if option is None or not option.value.isdigit() or int(option.value) <= 1:
        return
    name = section.find("process_name")
    if name is None or "%(process_num)" not in name.value:
        line = (name or option).line
        text = f"numprocs={option.value}, but the processes' names are not told apart"
        yield _error("no-process-num", path, line, text, "process_name=%(program_name)s_%(process_num)02d")
    for channel in ("stdout", "stderr"):
        log = section.find(f"{channel}_logfile")
        if log is not None and log.value.startswith("/") and not log.value.startswith("/dev/"):
            if "%(process_num)" not in log.value and "%(process_name)" not in log.value:
                text = f"all {option.value} processes write and rotate the same {channel}_logfile"
                yield _warning("shared-log", path, log.line, text, "put %(process_num)d into its name")


def _lint_logs(path: str, section: Section) -> Iterator[Finding]:
    for channel in ("stdout", "stderr"):
        limit, log = section.find(f"{channel}_logfile_maxbytes"), section.find(f"{channel}_logfile")
        is_file = log is not None and log.value.startswith("/") and not log.value.startswith("/dev/")
        if is_file and limit is not None and re.fullmatch(r"0+\s*([kmg]b)?", limit.value.lower()):
            text = f"{channel}_logfile grows without limit"
            yield _warning("log-unlimited", path, limit.line, text, "remove it (50MB is the default), or name a size")


# ---- several confs, and the parser's verdicts -------------------------------------------------------------------


def lint_together(texts: Mapping[str, str]) -> list[Finding]:
    """What can only be seen with the other confs beside: names that are defined twice."""
    owners: dict[str, list[tuple[str, Section]]] = {}
    for path in sorted(texts):
        if path.endswith(PARKED):
            continue
        for section in read_sections(texts[path]):
            if section.is_program:
                owners.setdefault(section.program, []).append((path, section))
    found = []
    for name, places in owners.items():
        right = next((path for path, _ in places if _stem(path) == name), places[0][0])
        for path, section in places:
            if len(places) < 2 or path == right:
                continue
            if _stem(path) != name:
                text = f"program {name} is defined in {right} already: this looks like a copy whose section was not renamed"
                found.append(_error("copied", path, section.line, text, f"rename the section to [program:{_stem(path)}]"))
            else:
                text = f"program {name} is defined in {right}, too: only the first one is loaded"
                found.append(_error("duplicate-program", path, section.line, text, "rename one of them"))
        if len([p for p, _ in places if p == right]) > 1:
            second = [s for p, s in places if p == right][1]
            text = f"program {name} is defined twice in this file: supervisord merges the two silently"
            found.append(_error("duplicate-program", right, second.line, text, "remove or rename one of them"))
    return found


_PROBLEMS: tuple[tuple[str, str, str | None, str], ...] = (
    (r"[Ii]nvalid user name|user .*not found|No such user", "missing-user", "user", "create the user on {node}"),
    (r"directory named as part of the path", "missing-log-directory", "stdout_logfile", "create the directory on {node}"),
    (r"is not an existing directory", "missing-directory", "directory", "create the directory on {node}"),
)


def lint_verdict(path: str, text: str, verdict: Mapping[str, Any], node: str) -> list[Finding]:
    """What supervisord's own parser said of a conf on ``node``, with the line where the parser names one."""
    sections = read_sections(text)
    problem = verdict.get("problem")
    if problem:
        for pattern, code, option, fix in _PROBLEMS:
            if re.search(pattern, problem):
                line = _line_of(sections, problem, option)
                return [_error(code, path, line, f"{node} cannot load it: {problem}", fix.format(node=node))]
        line = _line_of(sections, problem, None)
        fix = "fix it; until then the last good content runs on"
        return [_error("conf-not-loadable", path, line, f"{node} cannot load it: {problem}", fix)]
    found = []
    for program in verdict.get("programs", ()):
        section = next((s for s in sections if s.is_program and s.program == program["name"]), None)
        for missing in program.get("missing", ()):
            is_directory = missing.startswith("directory")
            code, option = ("missing-directory", "directory") if is_directory else ("missing-binary", "command")
            line = (section.find(option) or section).line if section else 0
            fix = f"install it on {node}" if not is_directory else f"create it on {node}"
            found.append(_error(code, path, line, f"{node} cannot start {program['name']}: {missing}", fix))
    return found


def _line_of(sections: Sequence[Section], problem: str, option: str | None) -> int:
    """The line that a message of supervisord's parser is about: the option that it names in the section that it names."""
    parsed = re.search(r"line[s ]*:?\s*\[?(\d+)", problem)
    named = [s for s in sections if s.name in problem] or [s for s in sections if s.is_program][:1]
    for section in named:
        for candidate in section.options:
            if option is not None and candidate.name in (option, option.replace("stdout", "stderr")):
                return candidate.line
            if option is None and re.match(rf"(\S+\.)?{re.escape(candidate.name)}\b", problem):
                return candidate.line
            if option is None and (candidate.value and len(candidate.value) > 1 and candidate.value in problem):
                return candidate.line
    if parsed:
        return int(parsed[1])
    return named[0].line if named else 0
