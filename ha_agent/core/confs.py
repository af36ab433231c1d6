"""What the active set is made of: pure treatment of conf texts and of the parser's verdicts on them.

supervisord's own parser judges each conf alone (``ha_agent/conf_check.py`` runs it); here the verdicts are put together: a
program name that two confs define goes to the first path, a ``[group:]`` keeps the members that can be loaded, and
``%(here)s`` becomes the registry's own directory, because supervisord would resolve it to the active set's.
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ha_agent.core.order_keys import OrderKeys

if TYPE_CHECKING:
    from ha_agent.core.file_keys import FileKeys

_HEADER = re.compile(r"^\[([^\]\n]+)\]", re.MULTILINE)
DEFAULT_PRIORITY = 999

LOCAL_NAME = "is the name of a local program or group here, in supervisord's configuration outside the registry: rename one"


@dataclass(frozen=True, slots=True)
class Run:
    """What supervisord would run: ``command`` with everything put in, where, by which PATH, as whom (None: as itself).

    It may hold what ``%(ENV_x)s`` stands for, and is shown to nobody.
    """

    command: str
    directory: str
    search: tuple[str, ...]
    uid: int | None = None


@dataclass(frozen=True, slots=True)
class Program:
    """One ``[program:]`` or ``[fcgi-program:]`` of a conf: its process names and what a start of it would need."""

    name: str
    processes: tuple[str, ...] = ()
    autostart: bool = True
    missing: tuple[str, ...] = ()
    """What this node lacks to start it (an executable, a directory). It is loaded nevertheless, and reported by name."""
    runs: tuple[Run, ...] = field(default=(), compare=False, repr=False)
    """Of its processes, each once."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What supervisord's parser says of one conf on this node. ``problem`` is None where it can be loaded."""

    problem: str | None = None
    programs: tuple[Program, ...] = ()
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    priorities: Mapping[str, int] = field(default_factory=dict)
    """Supervisor's ``priority`` of each program and group: lower ones are started first."""
    taken: tuple[str, ...] = ()
    """Names that a program or group outside the registry has on this node: the reason of the problem."""
    order_keys: Mapping[str, OrderKeys] = field(default_factory=dict)
    """What its sections say of the order of starts, by the section's name."""
    file_keys: Mapping[str, FileKeys] = field(default_factory=dict, compare=False)
    """Which files belong to its programs, by the section's name."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which confs can be loaded together, the others' problems by conf, and which programs make up which group."""

    loadable: tuple[str, ...] = ()
    problems: Mapping[str, str] = field(default_factory=dict)
    warnings: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Group name to its program names; a program outside any ``[group:]`` is its own group."""
    not_started: frozenset[str] = frozenset()
    """Programs that say ``autostart=false``."""
    order: tuple[str, ...] = ()
    """The groups in the order in which supervisor starts them: by priority, then by name."""
    order_keys: Mapping[str, OrderKeys] = field(default_factory=dict)
    """What sections of the loadable confs say of the order of starts."""
    processes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By program the names of its processes. Empty where no section says anything of an order."""


def as_lines(text: str) -> str:
    """The text with its lines as a file in text mode has them, which is how supervisord reads: a lone CR ends one, too."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def split_sections(text: str) -> list[tuple[str | None, str]]:
    """The text cut at its section headers: (section name, text with its header); the part before the first is named None."""
    cuts = [(m.start(), m[1]) for m in _HEADER.finditer(text)]
    parts: list[tuple[str | None, str]] = []
    first = cuts[0][0] if cuts else len(text)
    if first:
        parts.append((None, text[:first]))
    for index, (start, name) in enumerate(cuts):
        end = cuts[index + 1][0] if index + 1 < len(cuts) else len(text)
        parts.append((name, text[start:end]))
    return parts


def resolve_here(text: str, directory: str) -> str:
    """The text with ``%(here)s`` replaced as supervisord does it itself: verbatim, before any other expansion."""
    return text.replace("%(here)s", directory)


def _render_group(name: str, body: str, members: tuple[str, ...]) -> str:
    """The section anew, of what supervisord reads in it: nothing of how it was written can bring other members back."""
    lines = [f"[{name}]", f"programs={','.join(members)}"]
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False)
    try:
        parser.read_string(body)
        lines.append(f"priority={int(parser.get(name, 'priority'))}")
    except (configparser.Error, ValueError):
        pass
    return "\n".join(lines) + "\n"


def _apply_groups(text: str, groups: Mapping[str, tuple[str, ...]]) -> str:
    parts = []
    for name, body in split_sections(text):
        if name is not None and name.startswith("group:"):
            keep = groups.get(name.split(":", 1)[1].strip(), ())
            if not keep:
                continue
            body = _render_group(name, body, keep)
        parts.append(body)
    return "".join(parts)


def _first_come(verdicts: Mapping[str, Verdict], problems: dict[str, str]) -> dict[str, str]:
    owner: dict[str, str] = {}
    for path in sorted(verdicts):
        verdict = verdicts[path]
        if verdict.problem is not None:
            problems[path] = verdict.problem
            continue
        taken = [p.name for p in verdict.programs if p.name in owner]
        if taken:
            problems[path] = f"program {taken[0]} is already defined in {owner[taken[0]]}"
            continue
        owner.update((program.name, path) for program in verdict.programs)
    return owner


def refuse_local(verdicts: Mapping[str, Verdict], local: frozenset[str]) -> dict[str, Verdict]:
    """The verdicts, with a problem for each conf that has a name of a program or group outside the registry.

    supervisord would read both sections as one, or replace the local group by the registry's.
    """
    checked = dict(verdicts)
    for path in _using(verdicts, local):
        verdict = verdicts[path]
        taken = sorted(({program.name for program in verdict.programs} | set(verdict.groups)) & local)
        if verdict.problem is None:
            checked[path] = replace(verdict, problem=f"{taken[0]} {LOCAL_NAME}", taken=tuple(taken))
    return checked


def _using(verdicts: Mapping[str, Verdict], names: frozenset[str]) -> list[str]:
    """The confs that have one of ``names``. It is asked of all confs at every change: a plain loop takes a fifth of sets."""
    found = []
    for path, verdict in verdicts.items():
        for program in verdict.programs:
            if program.name in names:
                found.append(path)
        if verdict.groups and not names.isdisjoint(verdict.groups):
            found.append(path)
    return found


def select_confs(verdicts: Mapping[str, Verdict]) -> Selection:
    """Puts the verdicts on all confs together. A conf that cannot be loaded never keeps another one out."""
    problems: dict[str, str] = {}
    owner = _first_come(verdicts, problems)
    groups, warnings = _resolve_groups(verdicts, problems, owner)
    grouped = {program for members in groups.values() for program in members}
    groups.update((name, (name,)) for name in owner if name not in grouped)
    for path, verdict in verdicts.items():
        lacking = [f"{p.name}: {m}" for p in verdict.programs for m in p.missing]
        if lacking and path not in problems:
            warnings[path] = "; ".join(lacking)
    order_keys = {name: said for path, v in verdicts.items() if path not in problems for name, said in v.order_keys.items()}
    priorities = {name: p for path, v in verdicts.items() if path not in problems for name, p in v.priorities.items()}
    return Selection(
        loadable=tuple(path for path in sorted(verdicts) if path not in problems),
        problems=problems,
        warnings=warnings,
        groups=groups,
        order=tuple(sorted(groups, key=lambda name: (priorities.get(name, DEFAULT_PRIORITY), name))),
        not_started=frozenset(p.name for v in verdicts.values() for p in v.programs if not p.autostart and p.name in owner),
        order_keys=order_keys,
        processes=_list_processes(verdicts, owner) if order_keys else {},
    )


def _list_processes(verdicts: Mapping[str, Verdict], owner: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    return {p.name: p.processes for path, v in verdicts.items() for p in v.programs if owner.get(p.name) == path}


def _resolve_groups(
    verdicts: Mapping[str, Verdict], problems: Mapping[str, str], owner: Mapping[str, str]
) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    groups: dict[str, tuple[str, ...]] = {}
    warnings: dict[str, str] = {}
    for path in sorted(verdicts):
        if path in problems:
            continue
        for group, members in verdicts[path].groups.items():
            keep = tuple(m for m in members if m in owner)
            dropped = [m for m in members if m not in owner]
            if dropped:
                warnings[path] = f"group {group} is loaded without {', '.join(dropped)}"
            if keep:
                groups[group] = keep
    return groups, warnings


def render_conf(text: str, directory: str, groups: Mapping[str, tuple[str, ...]]) -> str:
    """A conf as it goes into the active set: ``%(here)s`` resolved, groups reduced to their loadable members.

    Its lines end as supervisord would read them, so that what was judged is what is read.
    """
    return resolve_here(_apply_groups(as_lines(text), groups), directory)
