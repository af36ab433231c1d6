"""In what the files and users that the programs need differ on the two nodes, in words. Pure.

A program is compared where both nodes have the same conf of it. A binary or a directory that one node lacks is told by that
node's readiness already (``missing`` of ``core/confs.Program``), and is no drift.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from ha_agent.core.payload import Kind, Mark, Named, Payload, ProgramPayload, UserMark
from ha_agent.core.payload_words import Part, is_ignored
from ha_agent.core.width import count_text

BUILD = frozenset({Part.BINARY, Part.PROGRAM, Part.INTERPRETER})
SHOWN_REASONS = 3
SHOWN_PROGRAMS = 3


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that is not the same. ``kind``: differs, missing, elsewhere, link, mode, owner, kind, user or group.

    ``changed_on``: the node on which it changed last, at ``changed_at`` by that node's clock; empty where that is unknown.
    ``is_build``: a file that is run.
    """

    kind: str
    subject: str
    text: str
    changed_on: str = ""
    changed_at: float = 0.0
    is_build: bool = False


@dataclass(frozen=True, slots=True)
class Drift:
    """Why the standby would not start these programs as the other node runs them. ``programs`` share all reasons."""

    programs: tuple[str, ...]
    reasons: tuple[Reason, ...]

    @property
    def subject(self) -> str:
        """The programs in a few words."""
        shown, rest = self.programs[:SHOWN_PROGRAMS], len(self.programs) - SHOWN_PROGRAMS
        return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")

    @property
    def is_build(self) -> bool:
        """Whether it is another program that would run, or another version of it."""
        return any(reason.is_build for reason in self.reasons)

    @property
    def changed(self) -> Reason | None:
        """The reason that came last, where that is known."""
        known = [reason for reason in self.reasons if reason.changed_on]
        return max(known, key=lambda reason: reason.changed_at, default=None)

    @property
    def why(self) -> str:
        """The reasons in a few words, without ages."""
        rest = len(self.reasons) - SHOWN_REASONS
        why = "; ".join(reason.text for reason in self.reasons[:SHOWN_REASONS])
        return why + (f"; and {rest} more" if rest > 0 else "")

    def say(self, starter: str, other: str) -> str:
        """One sentence. ``starter``: the node that would start the programs."""
        if self.is_build:
            return f"{starter} would start another build of {self.subject}: {self.why}"
        return f"{starter} would start {self.subject} otherwise than {other}: {self.why}"


@dataclass(frozen=True, slots=True)
class Sides:
    """The two nodes, in the order of their names: both tell a drift in the same words."""

    names: tuple[str, str]
    payloads: tuple[Payload, Payload]


def find_drifts(own: Payload, peer: Payload, own_name: str, peer_name: str) -> list[Drift]:
    """What differs, in the order of the programs' names; programs with the same reasons together.

    What one of the nodes ignores is not compared.
    """
    ignore = frozenset((*own.ignore, *peer.ignore))
    ordered = sorted(((own_name, own), (peer_name, peer)), key=lambda pair: pair[0])
    sides = Sides((ordered[0][0], ordered[1][0]), (ordered[0][1], ordered[1][1]))
    found: dict[tuple[Reason, ...], list[str]] = {}
    # Hundreds of programs share an interpreter: it is compared once.
    memo: dict[tuple[Named, Named], tuple[Reason, ...]] = {}
    for name in sorted(own.programs.keys() & peer.programs.keys()):
        one, two = (payload.programs[name] for payload in sides.payloads)
        if one.conf != two.conf:
            continue
        reasons = tuple(dict.fromkeys(_compare_program(sides, one, two, ignore, memo)))
        if reasons:
            found.setdefault(reasons, []).append(name)
    return [Drift(tuple(programs), reasons) for reasons, programs in found.items()]


def count_compared(own: Payload, peer: Payload) -> tuple[int, int]:
    """How many programs are compared, and how many paths of them."""
    programs = [
        name for name in own.programs.keys() & peer.programs.keys() if own.programs[name].conf == peer.programs[name].conf
    ]
    return len(programs), len({named.path for name in programs for named in own.programs[name].files})


def _compare_program(
    sides: Sides,
    one: ProgramPayload,
    two: ProgramPayload,
    ignore: Collection[str],
    memo: dict[tuple[Named, Named], tuple[Reason, ...]],
) -> Iterator[Reason]:
    found: list[Reason] = []
    both = [{(named.part, named.word): named for named in side.files} for side in (one, two)]
    for key in dict.fromkeys([*both[0], *both[1]]):
        first, second = both[0].get(key), both[1].get(key)
        some = first or second
        if some is None or is_ignored(some.path, ignore) or (second is not None and is_ignored(second.path, ignore)):
            continue
        if first is None or second is None:
            found += _compare_lacking(sides, some, 0 if first is None else 1, (one, two))
            continue
        if (first, second) not in memo:
            memo[first, second] = tuple(_compare_named(sides, first, second))
        found += memo[first, second]
    yield from _drop_consequences(found)
    for user in dict.fromkeys([*one.users, *two.users]):
        yield from _compare_user(sides, user)


def _drop_consequences(found: list[Reason]) -> Iterator[Reason]:
    """Without what only follows from a link that points elsewhere: all that lies behind it is another thing.

    Each link is told once, with the newest change behind it.
    """
    links: dict[str, Reason] = {}
    for reason in (one for one in found if one.kind == "link"):
        known = links.get(reason.subject, reason)
        newest = max(known, reason, key=lambda one: one.changed_at)
        links[reason.subject] = replace(newest, is_build=known.is_build or reason.is_build)
    yield from links.values()
    for reason in found:
        if reason.kind != "link" and not any(f"{reason.subject}/".startswith(f"{link}/") for link in links):
            yield reason


def _compare_lacking(
    sides: Sides, named: Named, side: int, programs: tuple[ProgramPayload, ProgramPayload]
) -> Iterator[Reason]:
    """A file that the program names on one node and not on the other one, number ``side``."""
    if named.part not in (Part.ARGUMENT, Part.PROGRAM, Part.LISTED) or not programs[side].is_whole:
        return
    mark = sides.payloads[1 - side].marks.get(named.path)
    lacking = sides.payloads[side].marks.get(named.path)
    if mark is None or mark.kind in (Kind.MISSING, Kind.UNREAD, Kind.OTHER):
        return
    if lacking is not None and lacking.kind is not Kind.MISSING:
        return
    yield _missing(sides, named, side, mark)


def _missing(sides: Sides, named: Named, side: int, mark: Mark) -> Reason:
    text = f"{named.path} is missing on {sides.names[side]}"
    return Reason("missing", named.path, text, sides.names[1 - side], mark.changed, named.part in BUILD)


def _compare_named(sides: Sides, first: Named, second: Named) -> Iterator[Reason]:
    one, two = sides.payloads[0].marks.get(first.path), sides.payloads[1].marks.get(second.path)
    if one is None or two is None or one.is_unread or two.is_unread:
        return
    if one.kind is Kind.MISSING or two.kind is Kind.MISSING:
        if one.kind is two.kind or first.part in (Part.BINARY, Part.DIRECTORY):
            return
        side = 0 if one.kind is Kind.MISSING else 1
        yield _missing(sides, (second, first)[side], side, (two, one)[side])
        return
    content = list(_compare_content(sides, first, second, one, two))
    if content or first.part is Part.DIRECTORY:
        links = list(_compare_links(sides, one, two, first.part in BUILD or first.part is Part.DIRECTORY))
        content = links or content
    yield from content
    if one.kind is two.kind and first.path == second.path:
        yield from _compare_rights(sides, first.path, one, two)


def _compare_content(sides: Sides, first: Named, second: Named, one: Mark, two: Mark) -> Iterator[Reason]:
    a, b = sides.names
    is_build = first.part in BUILD
    on, at = _changed_last(sides, one, two)
    if one.kind is not two.kind:
        words = {Kind.FILE: "a file", Kind.DIRECTORY: "a directory", Kind.OTHER: "neither a file nor a directory"}
        text = f"{first.path} is {words[one.kind]} on {a} and {words[two.kind]} on {b}"
        yield Reason("kind", first.path, text, on, at, is_build)
    elif one.kind is Kind.FILE and (difference := _differ(one, two)):
        if first.path != second.path:
            text = f"{posixpath.basename(first.path)} is {first.path} on {a} and {second.path} on {b}"
            yield Reason("elsewhere", first.path, text, on, at, is_build)
        else:
            yield Reason("differs", first.path, f"{first.path} {difference}", on, at, is_build)


def _differ(one: Mark, two: Mark) -> str:
    """In what two files differ; empty where in nothing."""
    if one.digest and two.digest:
        return "differs" if one.digest != two.digest else ""
    if one.size != two.size:
        return "differs in size"
    if one.mtime != two.mtime:
        return "has another time stamp (it is large, and compared by size and time alone)"
    return ""


def _compare_links(sides: Sides, one: Mark, two: Mark, is_build: bool) -> Iterator[Reason]:
    """Links on the way to it that point to different places."""
    (a, b), first, second = sides.names, *({path: (target, made) for path, target, made in m.links} for m in (one, two))
    for link in dict.fromkeys([*first, *second]):
        (here, made_here), (there, made_there) = first.get(link, (None, 0.0)), second.get(link, (None, 0.0))
        if here == there:
            continue
        on, at = _last(sides, made_here, made_there)
        if here is None or there is None:
            where, target, other = (a, here, b) if there is None else (b, there, a)
            text = f"{link} points to {target} on {where} and is no link on {other}"
        else:
            text = f"{link} points to {here} on {a} and {there} on {b}"
        yield Reason("link", link, text, on, at, is_build)
        # What lies behind it has other links of its own.
        return


def _compare_rights(sides: Sides, path: str, one: Mark, two: Mark) -> Iterator[Reason]:
    a, b = sides.names
    on, at = _changed_last(sides, one, two)
    if one.mode != two.mode:
        yield Reason("mode", path, f"{path} has mode {one.mode:04o} on {a} and {two.mode:04o} on {b}", on, at)
    if one.owner != two.owner:
        yield Reason("owner", path, f"{path} belongs to {one.owner} on {a} and {two.owner} on {b}", on, at)


def _changed_last(sides: Sides, one: Mark, two: Mark) -> tuple[str, float]:
    return _last(sides, one.changed, two.changed)


def _last(sides: Sides, first: float, second: float) -> tuple[str, float]:
    """The node of the later time; none where both are unknown."""
    if not first and not second:
        return "", 0.0
    return (sides.names[0], first) if first >= second else (sides.names[1], second)


def _compare_user(sides: Sides, name: str) -> Iterator[Reason]:
    (a, b), one, two = sides.names, *(payload.users.get(name) for payload in sides.payloads)
    if one is None or two is None:
        if one is not None or two is not None:
            has, lacks = (a, b) if two is None else (b, a)
            yield Reason("user", name, f"its user is {name} on {has} and not on {lacks}")
        return
    if one.uid != two.uid:
        yield Reason("user", name, f"its user {name} has uid {one.uid} on {a} and {two.uid} on {b}")
    yield from _compare_groups(sides, name, one, two)


def _compare_groups(sides: Sides, name: str, one: UserMark, two: UserMark) -> Iterator[Reason]:
    a, b = sides.names
    for group in sorted(one.groups.keys() | two.groups.keys()):
        here, there = one.groups.get(group), two.groups.get(group)
        if here is None or there is None:
            has, lacks = (a, b) if there is None else (b, a)
            yield Reason("group", name, f"its user {name} is in group {group} on {has} and not on {lacks}")
        elif here != there:
            yield Reason("group", name, f"its group {group} has gid {here} on {a} and {there} on {b}")


def say_compared(programs: int, files: int) -> str:
    """What is said where nothing differs."""
    return f"the same on both nodes: {count_text(files, 'file')} of {count_text(programs, 'program')}"


def programs_of(drifts: Iterable[Drift]) -> dict[str, Drift]:
    """The first drift of each program."""
    found: dict[str, Drift] = {}
    for drift in drifts:
        for program in drift.programs:
            found.setdefault(program, drift)
    return found
