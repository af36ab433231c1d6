"""What an operator means by a program's name, and what a stop or a start of it does to the registry. Pure.

A conf is parked or registered as a whole, so a plan either covers everything that a conf defines or is refused with the
choices that there are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ha_agent.core.confs import split_sections
from ha_agent.core.names import PARKED, is_parked_name

PROGRAM_PREFIXES = ("program:", "fcgi-program:")
ALL = "all"
_PROGRAMS = re.compile(r"programs\s*[=:]\s*(.*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Conf:
    """One conf of the registry: what it defines, and whether supervisord could be given it."""

    path: str
    programs: tuple[str, ...] = ()
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Its ``[group:]`` sections with their members as they are written."""
    processes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The process names of each program; known only of a conf that can be loaded."""
    problem: str | None = None

    @property
    def is_parked(self) -> bool:
        """Whether it is never loaded."""
        return is_parked_name(self.path)

    @property
    def is_registered(self) -> bool:
        """Whether the next failover would start what it defines."""
        return not self.is_parked and self.problem is None


def read_headers(path: str, text: str, problem: str | None = None) -> Conf:
    """What a conf defines by its section headers alone; works for a conf that supervisord would refuse, too."""
    programs: list[str] = []
    groups: dict[str, tuple[str, ...]] = {}
    for name, body in split_sections(text):
        if name is None:
            continue
        if name.startswith(PROGRAM_PREFIXES):
            programs.append(name.split(":", 1)[1].strip())
        elif name.startswith("group:"):
            groups[name.split(":", 1)[1].strip()] = _members(body)
    return Conf(path, tuple(programs), groups, problem=problem)


def _members(body: str) -> tuple[str, ...]:
    words: list[str] = []
    inside = False
    for line in body.splitlines()[1:]:
        if line[:1] in (" ", "\t"):
            words += line.split(",") if inside else []
            continue
        match = _PROGRAMS.match(line)
        inside = match is not None
        words += match[1].split(",") if match else []
    return tuple(word.strip() for word in words if word.strip())


@dataclass(frozen=True, slots=True)
class Target:
    """What a word means: programs, or one process of a program that has several."""

    programs: frozenset[str]
    process: str | None = None


class Catalogue:
    """All confs of a registry, to be asked by the names that operators use."""

    def __init__(self, confs: Iterable[Conf], groups: Mapping[str, tuple[str, ...]]) -> None:
        """``groups``: the groups as they are loaded, each with its programs."""
        self.confs = sorted(confs, key=lambda conf: conf.path)
        self._groups = groups
        self.registered = {p: c for c in reversed(self.confs) if c.is_registered for p in c.programs}
        self.unloadable = {p: c for c in self.confs if c.problem is not None and not c.is_parked for p in c.programs}

    def parked(self, program: str) -> list[Conf]:
        """The parked confs that define ``program``."""
        return [c for c in self.confs if c.is_parked and program in c.programs]

    def names(self) -> frozenset[str]:
        """Every program that some conf defines."""
        return frozenset(p for c in self.confs for p in c.programs)

    def group_of(self, program: str) -> str:
        """The supervisord group of ``program``: that of a ``[group:]`` which names it, else its own."""
        for conf in self.confs:
            if not conf.is_parked or program in conf.programs:
                for group, members in conf.groups.items():
                    if program in members:
                        return group
        return program

    def members(self, group: str) -> frozenset[str]:
        """The programs of ``group``, loaded or not."""
        named = {p for c in self.confs for p in c.groups.get(group, ())} & self.names()
        own = {group} if group in self.names() and self.group_of(group) == group else set()
        return frozenset(named | own | set(self._groups.get(group, ())))

    def processes(self, program: str) -> tuple[str, ...]:
        """The process names of ``program``; its own name where they are not known."""
        conf = self.registered.get(program)
        return (conf.processes.get(program) if conf else None) or (program,)

    def resolve(self, word: str) -> Target | None:
        """What ``word`` (NAME, GROUP:NAME, GROUP:*) means; None where nothing has that name."""
        group, colon, process = word.partition(":")
        if not colon:
            if word in self.names():
                return Target(frozenset({word}))
            return Target(found) if (found := self.members(word)) else None
        members = self.members(group)
        if process in ("*", ""):
            return Target(members) if members else None
        if process in members:
            return Target(frozenset({process}))
        for program in sorted(members):
            names = self.processes(program)
            if process in names:
                return Target(frozenset({program}), process if len(names) > 1 else None)
        return None


@dataclass(slots=True)
class StopPlan:
    """What a stop comes to. ``programs`` are stopped and ``park`` is renamed; ``refused`` explains why nothing is done."""

    programs: list[str] = field(default_factory=list)
    processes: list[tuple[str, str]] = field(default_factory=list)
    """(program, process) where only some processes of a program are meant."""
    park: list[str] = field(default_factory=list)
    parked_before: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


@dataclass(slots=True)
class StartPlan:
    """What a start comes to. ``unpark`` is renamed first; ``refused`` explains why nothing is done."""

    programs: list[str] = field(default_factory=list)
    processes: list[tuple[str, str]] = field(default_factory=list)
    unpark: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def _targets(words: Sequence[str], catalogue: Catalogue, unknown: list[str]) -> list[Target]:
    if ALL in words:
        return [Target(frozenset({p})) for p in sorted(catalogue.registered)]
    found = []
    for word in words:
        target = catalogue.resolve(word)
        if target is None:
            unknown.append(word)
        else:
            found.append(target)
    return found


def _covered(conf: Conf, catalogue: Catalogue) -> set[str]:
    """Every program that goes, or changes its group, when ``conf`` is taken out of the registry."""
    elsewhere = {m for members in conf.groups.values() for m in members if m in catalogue.registered}
    return set(conf.programs) | elsewhere


def plan_stop(words: Sequence[str], catalogue: Catalogue, *, keep: bool = False, whole_file: bool = False) -> StopPlan:
    """What to stop and which confs to park for ``words``. ``keep``: stop alone; ``whole_file``: all that a conf defines."""
    plan = StopPlan()
    targets = _targets(words, catalogue, plan.unknown)
    wanted = {p for t in targets if t.process is None for p in t.programs}
    for target in targets:
        if target.process is not None and not target.programs <= wanted:
            program = next(iter(target.programs))
            if keep:
                plan.processes.append((program, target.process))
            else:
                plan.refused.append(
                    f"{target.process} is one of {len(catalogue.processes(program))} processes of {program}, which has one "
                    f"conf: stop {program} stops and parks all of them, stop --keep {catalogue.group_of(program)}:"
                    f"{target.process} only this one (the next failover would start it again)"
                )
    confs: dict[str, Conf] = {}
    for program in sorted(wanted):
        conf = catalogue.registered.get(program) or catalogue.unloadable.get(program)
        if conf is None:
            plan.parked_before.append(program)
        else:
            confs[conf.path] = conf
    for conf in confs.values():
        rest = sorted(_covered(conf, catalogue) - wanted)
        if rest and not keep and not whole_file:
            plan.refused.append(_shared(conf, sorted(set(conf.programs) & wanted), rest, "stop", "parks"))
        elif not keep:
            plan.park.append(conf.path)
            wanted |= set(conf.programs) if whole_file else set()
    plan.park.sort()
    plan.programs = sorted(p for p in wanted if p in catalogue.registered or p in catalogue.unloadable)
    return plan


def _shared(conf: Conf, named: list[str], rest: list[str], verb: str, does: str) -> str:
    all_names = " ".join(sorted({*named, *rest}))
    text = f"{conf.path} defines {', '.join(rest)}, too: {verb} {all_names} {does} it, as {verb} --file {named[0]} does"
    return text + (f"; stop --keep {named[0]} does not last over a failover" if verb == "stop" else "")


def plan_start(words: Sequence[str], catalogue: Catalogue, *, whole_file: bool = False) -> StartPlan:
    """What to start and which parked confs to register for ``words``. ``all`` means what is registered, nothing parked."""
    plan = StartPlan()
    targets = _targets(words, catalogue, plan.unknown)
    wanted = {p for t in targets if t.process is None for p in t.programs}
    plan.processes = [(p, t.process) for t in targets if t.process is not None for p in t.programs if p not in wanted]
    confs: dict[str, Conf] = {}
    for program in sorted(wanted - set(catalogue.registered)):
        if (unloadable := catalogue.unloadable.get(program)) is not None:
            plan.refused.append(f"{unloadable.path} cannot be loaded: {unloadable.problem}")
            continue
        parked = catalogue.parked(program)
        if len(parked) > 1:
            plan.refused.append(f"{program} is defined in {' and '.join(c.path for c in parked)}: remove all but one")
        elif parked:
            confs[parked[0].path] = parked[0]
    for conf in confs.values():
        refusal = _may_unpark(conf, catalogue, wanted, whole_file=whole_file)
        if refusal is not None:
            plan.refused.append(refusal)
            continue
        plan.unpark.append(conf.path)
        wanted |= set(conf.programs)
    plan.programs = sorted(wanted)
    return plan


def _may_unpark(conf: Conf, catalogue: Catalogue, wanted: set[str], *, whole_file: bool) -> str | None:
    target = conf.path.removesuffix(PARKED)
    if any(other.path == target for other in catalogue.confs):
        return f"{conf.path}: there is a {target}, too; remove one of them"
    taken = [p for p in conf.programs if p in catalogue.registered]
    if taken:
        return f"{conf.path}: {taken[0]} is already defined in {catalogue.registered[taken[0]].path}"
    rest = sorted(set(conf.programs) - wanted)
    if rest and not whole_file:
        return _shared(conf, sorted(set(conf.programs) & wanted), rest, "start", "registers")
    return None
