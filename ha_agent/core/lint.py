"""Warnings about confs: what supervisord would take and yet is not what is meant, with line, code and fix. Pure.

What supervisord itself says of a conf on a node comes from its own parser and is in ``core/lint_verdict.py``.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from ha_agent.core.conf_options import (
    GROUP_OPTIONS,
    PROGRAM_OPTIONS,
    TYPES,
    advise_unknown,
    as_number,
    is_false,
    is_signal,
    is_wrong_type,
)
from ha_agent.core.conf_text import Section, read_sections
from ha_agent.core.findings import Finding
from ha_agent.core.host_profile import LOCAL_DIR
from ha_agent.core.lint_command import is_relative, lint_command
from ha_agent.core.lint_logs import lint_logs
from ha_agent.core.lint_order import lint_order, lint_orders
from ha_agent.core.names import PARKED
from ha_agent.core.remarks import error, note, warning
from ha_agent.core.surroundings import TEXT_ALONE, Surroundings

FOREIGN = ("supervisord", "supervisorctl", "unix_http_server", "inet_http_server", "include")
FOREIGN_PREFIXES = ("rpcinterface:", "ctlplugin:", "eventlistener:")

_MOST_STOP_S = 3600
"""Seconds that release.stop_timeout_s and takeover.interlock_timeout_s take at most (``core/settings.py``)."""


def lint_conf(path: str, text: str, around: Surroundings = TEXT_ALONE) -> list[Finding]:
    """What can be said of one conf."""
    sections = read_sections(text)
    found = [*_lint_foreign(path, sections), *_lint_unknown(path, sections), *lint_order(path, text)]
    for section in sections:
        if section.is_program:
            found += _lint_program(path, section, around)
        elif section.name.startswith("group:"):
            found += _lint_values(path, section)
    programs = [s for s in sections if s.is_program]
    if len(programs) == 1 and not any(s.name.startswith("group:") for s in sections):
        found += _lint_file_name(path, programs[0], around)
    return found


def lint_stops(path: str, text: str, around: Surroundings) -> list[Finding]:
    """What ``lint_conf`` says of the stops of a conf's programs, and nothing else."""
    programs = (s for s in read_sections(text) if s.is_program and s.value("command"))
    return [finding for section in programs for finding in _lint_stop(path, section, around)]


def _is_foreign(section: Section) -> bool:
    return section.name in FOREIGN or section.name.startswith(FOREIGN_PREFIXES)


def _lint_foreign(path: str, sections: Sequence[Section]) -> Iterator[Finding]:
    """Sections that a conf of the registry may not have. A main conf is said to be one, once."""
    foreign = [s for s in sections if _is_foreign(s)]
    main = next((s for s in foreign if s.name == "supervisord"), None)
    if main is not None:
        text = "this is a main conf of supervisord, not a conf of the registry: it has [supervisord]"
        others = [f"[{s.name}]" for s in foreign if s is not main]
        text += f", and {', '.join(dict.fromkeys(others))}" if others else ""
        fix = "a conf of the registry has nothing but [program:NAME], [fcgi-program:NAME] and [group:NAME]"
        yield error("foreign-section", path, main.line, text, fix)
    else:
        fix = f"move it to supervisord's main conf, or to {LOCAL_DIR} for what runs on both nodes"
        for section in foreign:
            yield error("foreign-section", path, section.line, f"[{section.name}] does not belong here", fix)
    for section in sections:
        if section.name == "DEFAULT":
            text = "[DEFAULT] would give its options to the programs of all other confs"
            yield error("foreign-section", path, section.line, text, "write them into each program's own section")
        elif not _is_foreign(section) and not section.is_program and not section.name.startswith("group:"):
            fix = "a conf of the registry has [program:NAME], [fcgi-program:NAME] and [group:NAME]"
            yield error("unknown-section", path, section.line, f"[{section.name}] means nothing to supervisord", fix)


def _lint_unknown(path: str, sections: Sequence[Section]) -> Iterator[Finding]:
    """Options that mean nothing, each once with the lines on which it stands again."""
    lines: dict[tuple[str, str], list[int]] = {}
    for section in sections:
        known = PROGRAM_OPTIONS if section.is_program else GROUP_OPTIONS if section.kind == "group" else None
        for option in section.options:
            if known is not None and option.name not in known:
                lines.setdefault((option.spelled, advise_unknown(option, known)), []).append(option.line)
    for (name, fix), places in lines.items():
        again = f" (also on {_say_lines(places[1:])})" if len(places) > 1 else ""
        yield warning("unknown-option", path, places[0], f"{name} means nothing to supervisord{again}", fix)


def _say_lines(lines: Sequence[int], most: int = 5) -> str:
    shown = ", ".join(str(line) for line in lines[:most])
    rest = f" and {len(lines) - most} more" if len(lines) > most else ""
    return f"line{'s' if len(lines) > 1 else ''} {shown}{rest}"


def _stem(path: str) -> str:
    name = posixpath.basename(path).removesuffix(PARKED)
    return name.rsplit(".", 1)[0]


def _lint_file_name(path: str, section: Section, around: Surroundings) -> Iterator[Finding]:
    stem = _stem(path)
    if stem == section.program:
        return
    if not around.is_registered and stem.lower().startswith("supervisor"):
        # What a repository calls its conf; it gets its name when it is deployed.
        return
    ending = posixpath.basename(path)[len(stem) :]
    text = f"the file is called {stem}, its program {section.program}"
    fix = f"rename the file to {section.program}{ending}, or the section to [{section.kind}:{stem}] if it was copied"
    yield warning("name-differs", path, section.line, text, fix)


def _lint_program(path: str, section: Section, around: Surroundings) -> Iterator[Finding]:
    yield from _lint_values(path, section)
    command = section.find("command")
    if command is None or not command.value:
        yield error("no-command", path, section.line, f"[{section.name}] has no command", "add: command=/path/to/program")
        return
    yield from lint_command(path, section, command, around)
    yield from _lint_numprocs(path, section)
    yield from lint_logs(path, section)
    yield from _lint_directory(path, section)
    yield from _lint_stop(path, section, around)
    yield from _lint_autostart(path, section, around)


def _lint_values(path: str, section: Section) -> Iterator[Finding]:
    for option in section.options:
        if is_wrong_type(option):
            wanted = TYPES[option.name][1]
            yield error("wrong-type", path, option.line, f"{option.name}={option.value}: not {wanted}", f"write {wanted}")
    yield from _lint_repeated(path, section)


def _lint_repeated(path: str, section: Section) -> Iterator[Finding]:
    """Options that stand twice in a section with different values."""
    counts = Counter(option.name for option in section.options)
    for name in (name for name, count in counts.items() if count > 1):
        places = [option for option in section.options if option.name == name]
        if len({option.value for option in places}) < 2:
            continue
        text = f"{name} stands on {_say_lines([o.line for o in places])}: the last one counts"
        other = {"stdout_logfile": "stderr_logfile", "stderr_logfile": "stdout_logfile"}.get(name, "")
        fix = f"was one of them meant to be {other}?" if other and section.find(other) is None else "remove the others"
        yield warning("option-twice", path, places[-1].line, text, fix)


def _lint_numprocs(path: str, section: Section) -> Iterator[Finding]:
    option = section.find("numprocs")
    count = as_number(option.value) if option is not None else None
    if option is None or count is None or count <= 1:
        return
    name = section.find("process_name")
    if name is None or "%(process_num)" not in name.value:
        text = f"numprocs={option.value}, but the processes' names are not told apart"
        fix = "process_name=%(program_name)s_%(process_num)02d"
        yield error("no-process-num", path, (name or option).line, text, fix)


def _lint_directory(path: str, section: Section) -> Iterator[Finding]:
    option = section.find("directory")
    if option is not None and is_relative(option.value):
        text = f"directory={option.value} is looked for from where supervisord was started"
        yield warning("relative-path", path, option.line, text, "write the whole path")


def _lint_stop(path: str, section: Section, around: Surroundings) -> Iterator[Finding]:
    """Whether a release can end the program cleanly, and in time."""
    signal = section.find("stopsignal")
    if signal is not None and is_signal(signal.value) and signal.value.strip().upper() in ("KILL", "SIGKILL", "9"):
        text = f"stopsignal={signal.value}: the program is killed at every stop, and cannot end cleanly at a switchover"
        yield warning("stop-kills", path, signal.line, text, "TERM (the default), with a stopwaitsecs that is long enough")
    wait = section.find("stopwaitsecs")
    seconds = as_number(wait.value) if wait is not None else None
    limit = min(around.stop_timeout_s, around.interlock_timeout_s)
    if wait is None or seconds is None or seconds <= limit:
        return
    text = (
        f"stopwaitsecs={seconds} is more than a release waits (release.stop_timeout_s, {around.stop_timeout_s:g} s), or "
        f"the other node's takeover (takeover.interlock_timeout_s, {around.interlock_timeout_s:g} s): the program is killed "
        "before, or is still running when the other node starts its own"
    )
    fix = f"lower it, or set both above {seconds} in agent.toml of both nodes"
    yield warning(
        "stop-too-long", path, wait.line, text, fix if seconds < _MOST_STOP_S else f"lower it below {_MOST_STOP_S}"
    )


def _lint_autostart(path: str, section: Section, around: Surroundings) -> Iterator[Finding]:
    option = section.find("autostart")
    if option is None or not is_false(section, "autostart") or around.starts_all:
        return
    unless = ", unless takeover.start_all is true in agent.toml" if around.starts_all is None else ""
    text = f"autostart={option.value}: no failover starts {section.program}{unless}"
    yield note("not-started", path, option.line, text, "autostart=true, where it is to run after a failover")


# ---- several confs ----------------------------------------------------------------------------------------------


def lint_together(texts: Mapping[str, str]) -> list[Finding]:
    """What can only be seen with the other confs beside: names that are defined twice, or not at all, and the order."""
    confs = {path: read_sections(texts[path]) for path in sorted(texts) if not path.endswith(PARKED)}
    owners: dict[str, list[tuple[str, Section]]] = {}
    for path, sections in confs.items():
        for section in sections:
            if section.is_program:
                owners.setdefault(section.program, []).append((path, section))
    found = [finding for name, places in owners.items() for finding in _lint_owners(name, places)]
    parked = {s.program for path in texts if path.endswith(PARKED) for s in read_sections(texts[path]) if s.is_program}
    for path, sections in confs.items():
        found += _lint_members(path, sections, owners.keys() | parked)
    return found + lint_orders(texts)


def _lint_owners(name: str, places: Sequence[tuple[str, Section]]) -> Iterator[Finding]:
    right = next((path for path, _ in places if _stem(path) == name), places[0][0])
    for path, section in places:
        if len(places) < 2 or path == right:
            continue
        if _stem(path) != name:
            text = f"program {name} is defined in {right} already: this looks like a copy whose section was not renamed"
            fix = f"rename the section to [{section.kind}:{_stem(path)}]"
            yield error("copied", path, section.line, text, fix)
        else:
            text = f"program {name} is defined in {right}, too: only the first one is loaded"
            yield error("duplicate-program", path, section.line, text, "rename one of them")
    if len([p for p, _ in places if p == right]) > 1:
        second = [s for p, s in places if p == right][1]
        text = f"program {name} is defined twice in this file: supervisord merges the two silently"
        yield error("duplicate-program", right, second.line, text, "remove or rename one of them")


def _lint_members(path: str, sections: Sequence[Section], known: set[str]) -> Iterator[Finding]:
    for section in sections:
        programs = section.find("programs") if section.kind == "group" else None
        members = [word.strip() for word in programs.value.split(",")] if programs is not None else []
        lacking = [member for member in members if member and member not in known]
        if programs is not None and lacking:
            text = f"group {section.program} has {', '.join(lacking)}, which none of the confs defines: it is loaded without"
            yield warning("unknown-member", path, programs.line, text, "correct the name, or add the conf")
