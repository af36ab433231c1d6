"""What ``ha-agent setup`` sees of one node's supervisord and of its confs, before it changes anything."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from ha_agent.adapters.conf_checker import ConfChecker
from ha_agent.adapters.files import read_or_none
from ha_agent.adapters.local_confs import expand_words
from ha_agent.adapters.registry import find_stranger
from ha_agent.adapters.setup_changes import ADOPTING, SetupChanges
from ha_agent.adapters.supervisord import RereadRefused, Supervisord, SupervisordDown, environment_of
from ha_agent.adapters.supervisord_survey import find_running
from ha_agent.cli.lint_cmd import judge_directly
from ha_agent.core.adoption import (
    NOT_INCLUDED,
    Adoption,
    Conf,
    Loaded,
    defined_sections,
    left_out_name,
    name_in_registry,
    parked_name,
    plan_adoption,
)
from ha_agent.core.confs import resolve_here
from ha_agent.core.host_profile import LOCAL_DIR, PROFILES, choose_profile, choose_registry
from ha_agent.core.inline_programs import InlinePrograms, take_programs_out
from ha_agent.core.listener_conf import GROUP
from ha_agent.core.main_conf import Door, UnusableConf, groups_in, included_patterns, parse_main_conf, read_door
from ha_agent.core.names import is_loadable_name, is_parked_name
from ha_agent.core.settings import Settings
from ha_agent.core.setup_plan import FileChange
from ha_agent.core.supervisor_survey import Running, Survey
from ha_agent.core.supervisor_words import LIVE_STATES

ANSWER_S = 5.0


def read_text(path: str) -> str | None:
    """The text of a file, whatever its bytes are; None where there is none. Raises ``OSError``."""
    raw = read_or_none(path)
    return None if raw is None else raw.decode("utf-8", "surrogateescape")


# ---- supervisord -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Look:
    """A node's supervisord and where its confs are. ``registry``: the directory that is, or becomes, the registry.

    ``original``: the main conf as it was before setup, ``patterns``: what that includes; ``is_adopting``: whether the confs
    are not the pair's yet.
    """

    survey: Survey
    original: str
    patterns: tuple[str, ...]
    registry: str
    unit: str
    is_adopting: bool

    @property
    def client(self) -> Supervisord:
        """To ask supervisord."""
        return Supervisord(self.survey.door.socket, ANSWER_S, self.survey.main_conf)


def look_at_supervisord(configured: str | None, registry: str | None, active: str, changes: SetupChanges) -> Look:
    """Looks at the supervisord of this node. Changes nothing. Raises ``OSError`` and ``UnusableConf``.

    ``configured`` and ``registry``: what agent.toml says, None where it says nothing; ``active``: pattern of the active set.
    """
    running = find_running()
    main_conf = configured or _choose_main_conf(running)
    profile = choose_profile(main_conf, os.path.exists)
    path = main_conf or profile.main_conf
    text = read_text(path)
    try:
        parse_main_conf(text or "")
    except UnusableConf as error:
        raise UnusableConf(f"{path}: {error}") from None
    record = changes.read()
    includes_active = text is not None and active in included_patterns(parse_main_conf(text), path)
    kept = changes.kept(path) if includes_active else None
    original = (text or "") if kept is None else kept.decode("utf-8", "surrogateescape")
    door = _resolve(read_door(parse_main_conf(text or ""), path))
    answering, silence = _ask(door, path)
    environment = environment_of(answering) if answering is not None else {}
    patterns = tuple(included_patterns(parse_main_conf(expand_words(original, environment)), path))
    chosen = registry or choose_registry(profile, patterns, (os.path.dirname(active), LOCAL_DIR))
    is_adopting = not includes_active or ADOPTING in record
    ours = next((one for one in running if one.pid == answering), None)
    survey = Survey(
        profile, path, text is not None, door, running, answering, silence, is_adopting and has_confs(patterns, chosen)
    )
    return Look(survey, original, patterns, chosen, (ours.unit if ours else "") or profile.unit, is_adopting)


def _choose_main_conf(running: Sequence[Running]) -> str | None:
    """Of several supervisords that of the distribution is meant, else the oldest."""
    usual = [one.main_conf for one in running if one.main_conf in [profile.main_conf for profile in PROFILES]]
    return next(iter([*usual, *(one.main_conf for one in running if one.main_conf)]), None)


def _resolve(door: Door) -> Door:
    folder, name = os.path.split(door.socket)
    socket = os.path.join(os.path.realpath(folder), name) if door.socket else ""
    return Door(socket, door.username, door.password, door.port, door.has_hash)


def _ask(door: Door, main_conf: str) -> tuple[int | None, str]:
    if not door.socket:
        return None, "no socket"
    try:
        return Supervisord(door.socket, ANSWER_S, main_conf).read_pid(), ""
    except SupervisordDown as error:
        return None, str(error)


def has_confs(patterns: Sequence[str], registry: str) -> bool:
    """Whether anything is included, or lies in the registry."""
    return any(glob.glob(pattern) for pattern in patterns) or any(
        is_loadable_name(name) for _, _, names in os.walk(registry) for name in names
    )


def read_running(look: Look) -> list[str]:
    """The programs that run here, by full name, without the event listener. What does not answer runs none."""
    try:
        return sorted(i.full_name for i in look.client.read_processes() if i.pid and i.group != GROUP)
    except SupervisordDown:
        return []


def read_loaded(look: Look) -> tuple[Loaded, list[str]]:
    """What supervisord has loaded, and what is in the way of comparing it with the files; it reads these again for that."""
    try:
        infos = [info for info in look.client.read_processes() if info.group != GROUP]
        changed: frozenset[str] = frozenset()
        problems = []
        if read_text(look.survey.main_conf) == look.original:
            try:
                changed = frozenset(look.client.reread()[1])
            except RereadRefused as error:
                problems.append(
                    f"supervisord refuses its own configuration ({error}): correct it, supervisorctl update, and again"
                )
    except SupervisordDown:
        return Loaded(), []
    groups: dict[str, dict[str, bool]] = {}
    for info in infos:
        groups.setdefault(info.group, {})[info.full_name] = info.state in LIVE_STATES
    return Loaded(groups, changed), problems


# ---- confs -----------------------------------------------------------------------------------------------------


def find_confs(look: Look, run_dir: str) -> list[Conf]:
    """Every conf that lies in the registry, and those that supervisord included from elsewhere before setup."""
    registry = os.path.realpath(look.registry)
    apart = (LOCAL_DIR, os.path.realpath(run_dir))
    included = {_plain(path): path for pattern in look.patterns for path in glob.glob(pattern)}
    included = {real: path for real, path in included.items() if not real.startswith(tuple(f"{one}/" for one in apart))}
    below = {os.path.join(folder, name) for folder, _, names in os.walk(registry) for name in names}
    found = {path: _conf(path, registry, is_included=path in included) for path in below if _may_be_conf(path, included)}
    for path in sorted(included.keys() - below):
        conf = _conf(path, registry, is_included=True)
        # There %(here)s means another directory: the one by which supervisord knows the file.
        conf = replace(conf, text=resolve_here(conf.text, os.path.dirname(included[path])))
        there = os.path.join(registry, conf.name)
        if there in found and found[there].text == conf.text:
            # An earlier setup has brought it.
            found[there] = Conf(conf.name, there, conf.text, is_included=True)
        else:
            found[path] = conf
    return list(found.values())


def _may_be_conf(path: str, included: Collection[str]) -> bool:
    return path in included or (is_loadable_name(path) and not os.path.basename(path).startswith("."))


def _plain(path: str) -> str:
    """The path with its directory as the kernel resolves it; a link at its end stays one."""
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))


def _conf(path: str, registry: str, *, is_included: bool) -> Conf:
    target = os.path.realpath(path) if os.path.islink(path) else ""
    return Conf(name_in_registry(path, registry), path, read_text(path) or "", is_included, target)


@dataclass(frozen=True, slots=True)
class ConfPlan:
    """What becomes of the confs of a node: the changes, what people are told, what is refused, the main conf's new text."""

    changes: tuple[FileChange, ...] = ()
    said: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    main: str = ""


def plan_confs(look: Look, settings: Settings, *, start_all: bool, move_programs: bool) -> ConfPlan:
    """What becomes of the confs of the node that is to be active, so that what runs goes on and nothing else starts.

    Raises ``OSError`` and ``UnusableConf``.
    """
    main = read_text(look.survey.main_conf) or ""
    inline = take_programs_out(look.original, look.survey.main_conf)
    refused = [] if move_programs or not inline.confs else [_inline_refusal(look, settings, inline)]
    refused += [
        f"[include] of {look.survey.main_conf} has {pattern}, whose expansion is not known here: write the path itself"
        for pattern in look.patterns
        if "%(" in pattern
    ]
    confs = find_confs(look, settings.paths.run_dir)
    if move_programs:
        confs += _moved_confs(inline, confs, look)
    loaded, problems = read_loaded(look)
    local = groups_in(inline.main if move_programs else look.original) | _local_groups()
    plan = plan_adoption(confs, loaded, local, start_all=start_all)
    refused += [*problems, *plan.refused, *_strangers(confs, plan, look), *_unloadable(confs, plan, loaded, settings)]
    changes, said = _conf_changes(confs, plan, os.path.realpath(look.registry))
    text = take_programs_out(main, look.survey.main_conf).main if move_programs else main
    return ConfPlan(tuple(changes), tuple(said), tuple(refused), text)


def _inline_refusal(look: Look, settings: Settings, inline: InlinePrograms) -> str:
    return (
        f"{look.survey.main_conf} has programs of its own ({', '.join(sorted(inline.confs))}), which would run on both "
        f"nodes: --move-programs makes each a conf of {settings.registry.path}; what is meant to run on both nodes, move by "
        f"hand to a file of {LOCAL_DIR}"
    )


def _moved_confs(inline: InlinePrograms, confs: list[Conf], look: Look) -> list[Conf]:
    """The programs of the main conf, as confs. One that an earlier setup has brought already stands in the registry."""
    texts = {conf.name: conf for conf in confs}
    for name, text in inline.confs.items():
        there = texts.get(name)
        if there is not None and there.text == text:
            confs.remove(there)
    path = look.survey.main_conf
    return [Conf(name, path, text, is_included=True, is_inline=True) for name, text in inline.confs.items()]


def _local_groups() -> frozenset[str]:
    texts = [read_text(path) or "" for path in glob.glob(f"{LOCAL_DIR}/*.conf")]
    return frozenset({GROUP}).union(*(groups_in(text) for text in texts))


def _strangers(confs: list[Conf], plan: Adoption, look: Look) -> list[str]:
    """Confs that stay where they are and that the agent would not take."""
    registry = os.path.realpath(look.registry)
    return [
        f"{conf.path} {problem}, else the agent does not take it"
        for conf in confs
        if conf.name in plan.live
        and conf.path == os.path.join(registry, conf.name)
        and not conf.target
        and (problem := find_stranger(os.stat(conf.path))) is not None
    ]


def _unloadable(confs: list[Conf], plan: Adoption, loaded: Loaded, settings: Settings) -> list[str]:
    """Confs whose programs run, and that the agent would keep out: they would be gone with the next supervisord."""
    texts = {conf.name: conf.text for conf in confs if conf.name in plan.live}
    if not texts or not loaded.groups:
        return []
    registry = settings.registry.path
    directories = {name: os.path.dirname(os.path.join(registry, name)) for name in texts}
    answer = judge_directly(ConfChecker(settings.supervisor), texts, directories)
    if answer["failure"]:
        return [f"supervisord's own parser cannot be asked about the confs: {answer['failure']}"]
    return [
        f"{name} runs now and cannot be loaded as a conf of the registry: {verdict['problem']}"
        for name, verdict in sorted(answer["verdicts"].items())
        if verdict["problem"]
    ]


def _conf_changes(confs: list[Conf], plan: Adoption, registry: str) -> tuple[list[FileChange], list[str]]:
    changes, said = [], []
    for conf in sorted(confs, key=lambda one: one.name):
        there = os.path.join(registry, conf.name)
        if conf.name in plan.live:
            changes.append(_brought(conf, there))
            if conf.target:
                said.append(f"{conf.path} is a link to {conf.target}: it is copied to {there}, which is edited from now on")
            elif conf.is_inline:
                said.append(f"{' and '.join(sorted(defined_sections(conf.text)))} of {conf.path} moves to {there}")
            elif conf.path != there:
                said.append(f"{conf.path} is copied to {there}, which is edited from now on")
        elif (why := plan.parked.get(conf.name)) is not None:
            where, changed = _set_aside(conf, there, why)
            changes += changed
            name = conf.name if conf.is_inline else conf.path
            fate = f"parked, as {where}" if is_parked_name(where) else "left out" + (f", as {where}" if changed else "")
            said.append(f"{name} is {fate}: {why}")
    return changes, said


def _brought(conf: Conf, there: str) -> FileChange:
    """The conf as a file of its own in the registry."""
    present = read_text(there)
    return FileChange(there, present, conf.text, _mode_of(conf), conf.target if conf.path == there else "", True)


def _set_aside(conf: Conf, there: str, why: str) -> tuple[str, list[FileChange]]:
    """A conf of the registry gets a name that is not live; one that lies elsewhere is not included any more, and stays.

    What supervisord includes is parked. What it never did is no conf of the pair: it is neither replicated nor listed.
    """
    if conf.path != there and not conf.is_inline:
        return conf.path, []
    where = left_out_name(there) if why == NOT_INCLUDED else parked_name(there)
    present = read_text(where)
    if present not in (None, conf.text):
        where = left_out_name(there, again=True)
        present = read_text(where)
    new = FileChange(where, present, conf.text, _mode_of(conf), "", True)
    if conf.is_inline:
        return where, [new]
    return where, [new, FileChange(there, conf.text, None, 0o644, conf.target, True)]


def _mode_of(conf: Conf) -> int:
    """As before, but for who else may write; what stood in the main conf is root's alone to read."""
    if conf.is_inline:
        return 0o600
    try:
        return stat.S_IMODE(os.stat(conf.path).st_mode) & 0o755 | 0o600
    except OSError:
        return 0o600


def links_as_files(look: Look) -> list[FileChange]:
    """Of the node that stands by: links in its registry as files, because what arrives replaces files alone."""
    registry = os.path.realpath(look.registry)
    found = find_confs(look, "/run")
    return [_brought(conf, conf.path) for conf in found if conf.target and conf.path.startswith(registry + "/")]
