"""From what the active node holds and what this one holds to the steps that make this one equal. Pure.

The order is safe wherever it ends: whole new directories come first, then files, then links, then what is to go. A link that
says which version counts is moved when everything that it may lead to is there; what it led to before goes when no link of
this plan leads there any more. Each step can be planned again from whatever the last one left.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from ha_agent.core.payload_list import Kind, Listing, PayloadEntry
from ha_agent.core.payload_rules import PayloadRules


class Act(IntEnum):
    """What a step does, in the order in which a plan does it."""

    TREE = 1
    """A directory that was not there appears with all that it holds, in one step."""
    DIRECTORY = 2
    """Owner and mode of a directory are set."""
    FILE = 3
    """A file appears, or takes the place of another one."""
    LINK = 4
    """A link appears, or takes the place of another one or of a file."""
    DELETE = 5
    """A file or a link goes."""
    REMOVE = 6
    """A directory goes, if nothing is in it by then."""


@dataclass(frozen=True, slots=True)
class Move:
    """One step. ``old`` is what it replaces or takes away, None where nothing was there."""

    act: Act
    path: str
    old: PayloadEntry | None = None


@dataclass(frozen=True, slots=True)
class PayloadPlan:
    """The steps, in order.

    ``wants``: digests of contents that this node does not hold, with their sizes. ``blocked``: what no step does by itself,
    because a directory would have to make room for something else. ``foreign``: paths that only this node has and that were
    never the peer's: they stay.
    """

    moves: tuple[Move, ...] = ()
    wants: Mapping[str, int] = field(default_factory=dict)
    blocked: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()

    @property
    def deletes(self) -> tuple[str, ...]:
        """Files and links that would go."""
        return tuple(move.path for move in self.moves if move.act is Act.DELETE)

    @property
    def is_done(self) -> bool:
        """Whether there is nothing to do."""
        return not self.moves and not self.blocked


def plan_payload(wanted: Listing, here: Listing, agreed: Collection[str]) -> PayloadPlan:
    """What makes ``here`` equal to ``wanted``. ``agreed``: paths that the two nodes had in common at some time.

    What is here and not there is deleted where it was agreed on: a file that a program wrote here is not the peer's to
    delete. What ``wanted`` is silent about stays as it is.
    """
    blocked = tuple(_find_blocked(wanted, here))
    gone = [e for e in here if wanted.find(e.path) is None and not wanted.is_silent_about(e.path)]
    foreign = tuple(e.path for e in gone if e.path not in agreed)
    moves = [*_plan_puts(wanted, here), *_plan_deletes(e for e in gone if e.path in agreed)]
    if blocked:
        moves = []
    moves.sort(key=lambda m: (m.act, m.path if m.act is not Act.REMOVE else _deepest_first(m.path)))
    held = {e.content for e in here if e.kind is Kind.FILE}
    touched = {m.path for m in moves}
    wants = {
        e.content: e.size for e in wanted if e.kind is Kind.FILE and e.content not in held and _is_touched(e.path, touched)
    }
    return PayloadPlan(tuple(moves), wants, blocked, foreign)


def _deepest_first(path: str) -> str:
    # One parent is a prefix of its children: among the removed directories these must go before it.
    return "".join(chr(0x10FFFF - ord(letter)) for letter in path) + chr(0x10FFFF)


def _is_touched(path: str, touched: Collection[str]) -> bool:
    while path != "/":
        if path in touched:
            return True
        path = posixpath.dirname(path)
    return False


def _find_blocked(wanted: Listing, here: Listing) -> Iterator[str]:
    for entry in wanted:
        old = here.find(entry.path)
        if old is not None and old.kind is Kind.DIR and entry.kind is not Kind.DIR:
            yield entry.path


def _plan_puts(wanted: Listing, here: Listing) -> Iterator[Move]:
    trees: set[str] = set()
    for entry in wanted:
        # The list is sorted by path, so that a parent comes before what it holds.
        if _is_touched(posixpath.dirname(entry.path), trees):
            continue
        old = here.find(entry.path)
        if old is not None and old.key == entry.key:
            continue
        if entry.kind is Kind.DIR:
            if old is not None and old.kind is Kind.DIR:
                yield Move(Act.DIRECTORY, entry.path, old)
            else:
                trees.add(entry.path)
                yield Move(Act.TREE, entry.path, old)
        else:
            yield Move(Act.LINK if entry.kind is Kind.LINK else Act.FILE, entry.path, old)


def _plan_deletes(gone: Iterable[PayloadEntry]) -> Iterator[Move]:
    for entry in gone:
        yield Move(Act.REMOVE if entry.kind is Kind.DIR else Act.DELETE, entry.path, entry)


@dataclass(frozen=True, slots=True)
class DeleteLimits:
    """Deletions of more than ``fraction`` of a root's files are held; fewer than ``minimum`` never are."""

    fraction: float = 0.5
    minimum: int = 3


def find_held(plan: PayloadPlan, here: Listing, rules: PayloadRules, limits: DeleteLimits) -> str | None:
    """Why the deletions of ``plan`` wait for an operator's word; None where they do not.

    Counted for each pattern of the rules by itself: an empty mount point is a root that lost everything.
    """
    there: dict[str, int] = {}
    for entry in here:
        root = rules.find_root(entry.path)
        if root is not None and entry.kind is not Kind.DIR:
            there[root] = there.get(root, 0) + 1
    lost: dict[str, int] = {}
    for path in plan.deletes:
        root = rules.find_root(path)
        if root is not None:
            lost[root] = lost.get(root, 0) + 1
    for root, count in lost.items():
        whole = there.get(root, 0)
        if count >= limits.minimum and count > limits.fraction * whole:
            return f"{count} of {whole} files of {root} would be deleted"
    return None


@dataclass(frozen=True, slots=True)
class Running:
    """One process of this node: the file that it runs, its working directory, and the absolute paths of its command line."""

    pid: int
    name: str
    exe: str
    cwd: str
    words: tuple[str, ...] = ()


def find_in_use(plan: PayloadPlan, running: Iterable[Running]) -> str | None:
    """Which process runs from what ``plan`` would replace or take away; None where none does.

    What is added disturbs nobody, and a link that is moved leaves what runs where it is.
    """
    files = {m.path for m in plan.moves if m.old is not None and m.old.kind is Kind.FILE}
    removed = {m.path for m in plan.moves if m.act is Act.REMOVE}
    for process in running:
        for path in (process.exe, *process.words):
            if path in files:
                return f"process {process.pid} ({process.name}) runs from {path}"
        if _is_touched(process.cwd, removed):
            return f"process {process.pid} ({process.name}) is in {process.cwd}"
    return None
