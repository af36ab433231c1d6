"""What supervisord's own parser said of a conf on a node, with a code, a line and what to do. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ha_agent.core.conf_options import is_wrong_type
from ha_agent.core.conf_text import Option, Section, read_sections
from ha_agent.core.findings import Finding, Severity
from ha_agent.core.remarks import error

_DOES_NOT_BELONG = re.compile(
    r"^section \[.*\] (does not belong in the registry|would change the programs of all other confs)$"
)
_MOST_PIECES = 20
_MISSING: tuple[tuple[str, str, tuple[str, ...], str], ...] = (
    ("directory ", "missing-directory", ("directory",), "create it on {node}"),
    ("log ", "log-device", ("stdout_logfile", "stderr_logfile"), "name a file, or NONE and stdout_syslog=true"),
    ("executable ", "missing-binary", ("command",), "install it on {node}"),
)
"""What a program lacks on a node: how it begins (``conf_check.finish``), code, options, remedy."""

UNREADABLE = "command cannot be read"
"""What is missing where supervisord cannot tell the program (``conf_check.find_missing``)."""

PROBLEMS: tuple[tuple[str, str, str], ...] = (
    (r"[Ii]nvalid user |user .*not found|No such user|Invalid socket_owner", "missing-user", "create the user on {node}"),
    (r"directory named as part of the path", "missing-log-directory", "create the directory on {node}"),
    (r"is not an existing directory", "missing-directory", "create the directory on {node}"),
    (
        r"nothing that %\(ENV_",
        "conf-not-loadable",
        "set it in supervisord's environment on {node} (environment= of [supervisord]), or write its value here",
    ),
    (r"nothing that %\(", "conf-not-loadable", "correct the name; a percent sign is written %%"),
    (r"percent sign is written %%", "conf-not-loadable", "write %% for each percent sign that is meant"),
    (r"byte order mark", "conf-not-loadable", "save it as UTF-8 without a byte order mark"),
    (r"neither a section nor an option", "conf-not-loadable", "write name=value; what goes on with a value is indented"),
)
"""Messages that have a code or a remedy of their own: pattern, code, remedy."""


def lint_verdict(
    path: str, text: str, verdict: Mapping[str, Any], node: str, *, is_registered: bool = True
) -> list[Finding]:
    """The findings of a parser's verdict (``conf_check.py``) on ``node``; nothing of what ``lint_conf`` says itself.

    ``is_registered``: whether the conf is in the registry, whose last good content runs on.
    """
    sections = read_sections(text)
    problem = verdict.get("problem")
    if not problem:
        return [f for program in verdict.get("programs", ()) for f in _lint_missing(path, sections, program, node)]
    if _DOES_NOT_BELONG.match(problem):
        return []
    row = next((row for row in PROBLEMS if re.search(row[0], problem)), None)
    code, fix = (row[1], row[2].format(node=node)) if row else ("conf-not-loadable", "correct it")
    if code == "conf-not-loadable" and is_registered:
        fix += "; until then the last good content runs on"
    return [error(code, path, find_line(sections, problem), f"{node} cannot load it: {problem}", fix)]


def _lint_missing(path: str, sections: Sequence[Section], program: Mapping[str, Any], node: str) -> Iterator[Finding]:
    section = next((s for s in sections if s.is_program and s.program == program["name"]), None)
    for missing in program.get("missing", ()):
        if missing == UNREADABLE:
            continue
        code, options, fix = next((row[1:] for row in _MISSING if missing.startswith(row[0])), _MISSING[-1][1:])
        line = _line_of_missing(section, options, missing) if section else 0
        fix = "write the whole path" if " is relative: " in missing else fix.format(node=node)
        yield error(code, path, line, f"{node} cannot start {program['name']}: {missing}", fix)


def _line_of_missing(section: Section, options: Sequence[str], missing: str) -> int:
    found = [option for name in options if (option := section.find(name)) is not None]
    lines = [option.line for option in found if _has_value(missing, option.value)] + [option.line for option in found]
    return lines[0] if lines else section.line


def drop_doubts(findings: Sequence[Finding]) -> list[Finding]:
    """The findings without a warning of what a node has said for certain of the same line."""
    certain = {(f.code, f.where, f.line) for f in findings if f.severity is Severity.ERROR}
    return [f for f in findings if f.severity is not Severity.WARNING or (f.code, f.where, f.line) not in certain]


def find_line(sections: Sequence[Section], problem: str) -> int:
    """The line that a message of supervisord's parser is about; that of the section where no option is to blame, or 0."""
    if parsed := re.match(r"line (\d+) is ", problem):
        return int(parsed[1])
    named = _named_sections(sections, problem)
    for find in (_by_prefix, _by_subject, _by_type, _by_name, _by_value):
        for section in named or sections:
            option = find(section, problem)
            if option is not None:
                return option.line
    return named[0].line if named else next((s.line for s in sections if s.is_program), 0)


def _named_sections(sections: Sequence[Section], problem: str) -> list[Section]:
    """The sections that the message names. Supervisor puts them at the end; in between they may be part of a value."""
    for pattern in (r".*in section '(.+?)'(?: \(file:|;|$)", r".*in section \"(.+?)\"(?: \(file:|;|$)", r".*\[([^\]]+)\]"):
        match = re.match(pattern, problem, re.DOTALL)
        if match is not None and (found := [s for s in sections if s.name == match[1]]):
            return found
    return []


def _by_prefix(section: Section, problem: str) -> Option | None:
    """The message begins with the option's name: ``program:x.command: ...``, ``environment: ...``."""
    match = re.match(r"(?:\S*\.)?([a-z_]+): ", problem)
    return section.find(match[1]) if match is not None else None


_SUBJECTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"Invalid user ", ("user",)),
    (r"Invalid socket_owner ", ("socket_owner",)),
    (r"directory named as part of the path", ("stdout_logfile", "stderr_logfile")),
    (r"is not an existing directory", ("directory",)),
    (r"Invalid name: ", ("process_name",)),
)


def _by_subject(section: Section, problem: str) -> Option | None:
    """The message is of a kind that only some options have, and has the option's value in it."""
    names = next((names for pattern, names in _SUBJECTS if re.search(pattern, problem)), ())
    options = (section.find(name) for name in names)
    return next((o for o in options if o is not None and _has_value(problem, o.value)), None)


def _by_type(section: Section, problem: str) -> Option | None:
    wrong = [o for o in section.options if is_wrong_type(o) and section.find(o.name) is o]
    return next((option for option in wrong if _has_value(problem, option.value)), None)


def _by_name(section: Section, problem: str) -> Option | None:
    """The message has the option's name in it, of those that are no words of English."""
    for word in re.findall(r"[a-z_]+", problem):
        option = section.find(word) if "_" in word or word in ("numprocs", "stopasgroup", "killasgroup") else None
        if option is not None:
            return option
    return None


def _by_value(section: Section, problem: str) -> Option | None:
    options = (o for o in section.options if len(o.value) > 1 and section.find(o.name) is o)
    return next((option for option in options if _has_value(problem, option.value)), None)


def _has_value(problem: str, value: str) -> bool:
    """Whether the message has a value in it as a whole, with whatever stands for its ``%(...)s``."""
    pieces = re.split(r"%\([^)]*\)\d*[a-z]", value.replace("%%", "%"))
    if len(pieces) > _MOST_PIECES:
        return False
    begins = [match.start() for match in re.finditer(re.escape(pieces[0]), problem)]
    return any(_has_pieces(problem, pieces, begin) for begin in begins)


def _has_pieces(problem: str, pieces: Sequence[str], begin: int) -> bool:
    at = begin
    for piece in pieces:
        at = problem.find(piece, at)
        if at < 0:
            return False
        at += len(piece)
    opens = not pieces[0] or re.match(r"[\w/.-]", problem[:begin][-1:]) is None
    return opens and (not pieces[-1] or re.match(r"[\w/-]", problem[at : at + 1]) is None)
