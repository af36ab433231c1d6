"""What setup does with the confs of a server that runs already, so that what runs goes on and nothing else starts. Pure.

A takeover starts every conf of the registry, also what an operator has stopped. So a conf stays live only where all of its
programs run now; one of which nothing runs is parked, and what can be neither is refused before anything is written.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ha_agent.core.conf_text import Section, read_sections
from ha_agent.core.names import PARKED, path_problem

NOT_INCLUDED = "supervisord does not include it today"
NOT_LOADED = "supervisord has not loaded it"
STOPPED = "none of its programs runs"


@dataclass(frozen=True, slots=True)
class Conf:
    """A conf that lies in the registry, or that supervisord includes from elsewhere.

    ``name``: its path in the registry, now or afterwards. ``path``: where it lies, absolute. ``target``: what it leads to
    where it is a symbolic link, else empty. ``is_inline``: it stands in the main conf, which ``path`` names then.
    """

    name: str
    path: str
    text: str
    is_included: bool
    target: str = ""
    is_inline: bool = False

    @property
    def key(self) -> str:
        """What tells it from every other one."""
        return f"{self.path}\0{self.name}" if self.is_inline else self.path


@dataclass(frozen=True, slots=True)
class Loaded:
    """What supervisord has loaded: per group its processes, by full name, and whether each lives.

    ``changed``: groups that it runs with another definition than their conf has by now.
    """

    groups: Mapping[str, Mapping[str, bool]] = field(default_factory=dict)
    changed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Adoption:
    """The plan. ``live``: names that stay or become live; ``parked``: names with the reason; ``refused``: one text each."""

    live: tuple[str, ...] = ()
    parked: Mapping[str, str] = field(default_factory=dict)
    refused: tuple[str, ...] = ()


def defined_groups(texts: Mapping[str, str]) -> dict[str, frozenset[str]]:
    """Per conf the groups that supervisord makes of it: a program outside every ``[group:]`` is its own group."""
    sections = {name: [s for s in read_sections(text) if ":" in s.name] for name, text in texts.items()}
    member_of = {
        member: section.program
        for found in sections.values()
        for section in found
        if section.kind == "group"
        for member in _members(section)
    }
    return {
        name: frozenset(
            section.program
            if section.kind in ("group", "eventlistener")
            else member_of.get(section.program, section.program)
            for section in found
            if section.is_program or section.kind in ("group", "eventlistener")
        )
        for name, found in sections.items()
    }


def defined_sections(text: str) -> list[str]:
    """The programs and groups that a conf defines, as its sections call them."""
    return [section.name for section in read_sections(text) if section.is_program or section.kind == "group"]


def _members(section: Section) -> list[str]:
    return [word.strip() for word in section.value("programs").split(",") if word.strip()]


def plan_adoption(confs: Iterable[Conf], loaded: Loaded, local: Iterable[str], *, start_all: bool) -> Adoption:
    """What becomes of ``confs`` on the server whose supervisord has ``loaded``.

    ``local``: groups that are defined outside the registry and stay there. ``start_all``: an operator wants everything that
    is included to run.
    """
    found = sorted(confs, key=lambda conf: conf.name)
    problems = [*_bad_names(found), *_defined_twice(found)]
    groups = defined_groups({conf.key: conf.text for conf in found if conf.is_included})
    live, parked = [], {}
    for conf in found:
        if path_problem(conf.name) is not None:
            continue
        fate = _fate(conf, groups.get(conf.key, frozenset()), loaded, start_all)
        if fate is None:
            live.append(conf.name)
        elif fate.startswith("!"):
            problems.append(fate[1:])
        else:
            parked[conf.name] = fate
    problems += _changed(found, groups, loaded)
    known = frozenset().union(*groups.values()) | frozenset(local)
    problems += [
        f"{', '.join(running)} runs, and no conf defines {group} any more: put its conf back, or stop it"
        for group, states in sorted(loaded.groups.items())
        if group not in known and (running := sorted(name for name, lives in states.items() if lives))
    ]
    return Adoption(tuple(live), parked, tuple(problems))


def _fate(conf: Conf, groups: frozenset[str], loaded: Loaded, start_all: bool) -> str | None:
    """None: it is live. A reason: it is parked. With a "!": it is refused."""
    if not conf.is_included:
        return NOT_INCLUDED
    if start_all:
        return None
    states = {name: lives for group in groups for name, lives in loaded.groups.get(group, {}).items()}
    idle = sorted(name for name, lives in states.items() if not lives)
    unloaded = sorted(group for group in groups if group not in loaded.groups)
    if states and not idle and not unloaded:
        return None
    if all(not lives for lives in states.values()):
        return STOPPED if states else NOT_LOADED
    return (
        f"!of {conf.path} some programs run and {', '.join(idle + unloaded)} does not, and a takeover starts all of a conf: "
        "move what is not to run into a conf of its own, start it, or --start-all"
    )


def _bad_names(confs: list[Conf]) -> list[str]:
    return [
        f"{conf.path} is included and cannot be a conf of the registry ({problem}): give it a plain name that ends in .conf "
        "or .ini, supervisorctl update, and again"
        for conf in confs
        if conf.is_included and (problem := path_problem(conf.name)) is not None
    ]


def _defined_twice(confs: list[Conf]) -> list[str]:
    """Two confs of one name in the registry, and two definitions of one program, which supervisord reads as one."""
    problems = []
    names: dict[str, Conf] = {}
    owners: dict[str, Conf] = {}
    for conf in confs:
        other = names.setdefault(conf.name, conf)
        if other is not conf:
            problems.append(
                f"{conf.path} and {other.path} would both become {conf.name} in the registry: rename one of them"
            )
        if not conf.is_included:
            continue
        for section in read_sections(conf.text):
            if section.is_program and owners.setdefault(section.program, conf) != conf:
                problems.append(
                    f"program {section.program} is defined in {owners[section.program].path} and in {conf.path}, which "
                    "supervisord reads as one: leave it in one of them, supervisorctl update, and again"
                )
    return problems


def _changed(confs: list[Conf], groups: Mapping[str, frozenset[str]], loaded: Loaded) -> list[str]:
    problems = []
    for conf in confs:
        different = sorted(groups.get(conf.key, frozenset()) & loaded.changed)
        if different:
            problems.append(
                f"{conf.path} was changed since supervisord loaded {', '.join(different)}, which would be restarted: "
                "supervisorctl update, at a time that suits, and again"
            )
    return problems


def name_in_registry(path: str, registry: str) -> str:
    """What the conf at ``path`` is called in the registry: its path below it, or its own name where it lies elsewhere."""
    return posixpath.relpath(path, registry) if path.startswith(registry + "/") else posixpath.basename(path)


def parked_name(name: str) -> str:
    """The parked form of a conf's name."""
    return name + PARKED


def left_out_name(name: str, *, again: bool = False) -> str:
    """A name under which a file of the registry's directory is no conf; ``again``: another one, where that is taken."""
    return f"{name}.not-included{'.2' if again else ''}"
