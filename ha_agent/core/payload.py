"""What one node has of the files that its programs need, as it tells the other node: marks, never contents. Pure.

It travels between the two agents alone: whoever may look at a node sees names and "differs", and no digest.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ha_agent.core.payload_words import Part
from ha_agent.core.reasons import reason_of

MOST_PATHS = 5000
"""Files of a node that are compared. A node says where it has more."""

MOST_OF_A_PROGRAM = 1000
LONGEST_TEXT = 4096
HASHED_BYTES = 64 * 1024 * 1024
"""Larger files are compared by their size and the second of their last change."""


Link = tuple[str, str, float]
"""A symbolic link: its path, what it says, and when it was made (st_ctime), wall clock seconds of its node."""


class Kind(StrEnum):
    """What there is at a path."""

    FILE = "file"
    DIRECTORY = "directory"
    MISSING = "missing"
    OTHER = "other"
    """A FIFO, a socket, a device: nobody opens it."""
    UNREAD = "unread"
    """It is not known: an error, or too much for one look."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What is told of one path, which links were followed to.

    ``digest``: sha256 of the content, empty where it is larger than ``HASHED_BYTES``. ``mtime`` and ``changed``: when the
    content and anything of it changed last (st_mtime, st_ctime), wall clock seconds of its node. ``links``: each link on the
    way, and what it says. ``problem``: why it is unread.
    """

    kind: Kind
    digest: str = ""
    size: int = 0
    mtime: int = 0
    changed: float = 0.0
    mode: int = 0
    owner: str = ""
    links: tuple[Link, ...] = ()
    problem: str = ""

    @property
    def is_unread(self) -> bool:
        """Whether nothing can be said of it."""
        return self.kind is Kind.UNREAD


@dataclass(frozen=True, slots=True)
class Named:
    """A file that a program names: as what, by which word, and the path that this leads to on the node."""

    part: Part
    word: str
    path: str


@dataclass(frozen=True, slots=True)
class ProgramPayload:
    """What one program needs. ``conf``: digest of its conf's content; ``user``: empty where it runs as supervisord does.

    ``is_whole``: everything that it names is there; not where it has more than ``MOST_OF_A_PROGRAM``.
    """

    conf: str
    files: tuple[Named, ...] = ()
    users: tuple[str, ...] = ()
    is_whole: bool = True


@dataclass(frozen=True, slots=True)
class UserMark:
    """A user as a node knows it: number, and the groups that a process of it is in, by name."""

    uid: int
    groups: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Payload:
    """All that a node tells, by program, path and user's name. ``remarks``: what it could not look at, for people.

    ``ignore``: its patterns of paths that differ on purpose, of which it tells nothing.
    """

    programs: Mapping[str, ProgramPayload] = field(default_factory=dict)
    marks: Mapping[str, Mark] = field(default_factory=dict)
    users: Mapping[str, UserMark] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()

    @property
    def hash(self) -> str:
        """Tells whether two are the same."""
        text = json.dumps(payload_message(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def payload_message(payload: Payload) -> dict[str, Any]:
    """A payload as JSON-able data."""
    return {
        "programs": {
            name: {
                "conf": one.conf,
                "files": [[named.part.value, named.word, named.path] for named in one.files],
                "users": list(one.users),
                "whole": one.is_whole,
            }
            for name, one in payload.programs.items()
        },
        "marks": {path: _mark_row(mark) for path, mark in payload.marks.items()},
        "users": {name: {"uid": user.uid, "groups": dict(user.groups)} for name, user in payload.users.items()},
        "remarks": list(payload.remarks),
        "ignore": list(payload.ignore),
    }


def _mark_row(mark: Mark) -> list[Any]:
    links = [[path, target, round(made, 3)] for path, target, made in mark.links]
    numbers = [mark.size, mark.mtime, round(mark.changed, 3), mark.mode]
    return [mark.kind.value, mark.digest, *numbers, mark.owner, links, mark.problem]


def read_payload(raw: object) -> Payload:
    """The payload in a message. Raises ``ValueError`` where it holds anything else; what is unknown in it is left out."""
    try:
        return _read(raw)
    except (KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
        raise ValueError(f"a payload is not of this form: {type(error).__name__}: {reason_of(error)}") from None


def _read(raw: Any) -> Payload:
    if len(raw["marks"]) > MOST_PATHS or len(raw["programs"]) > MOST_PATHS or len(raw["users"]) > MOST_PATHS:
        raise ValueError("a payload has more than there can be")
    return Payload(
        {_text(name): _read_program(one) for name, one in raw["programs"].items()},
        {_text(path): _read_mark(row) for path, row in raw["marks"].items()},
        {_text(name): _read_user(one) for name, one in raw["users"].items()},
        tuple(_text(remark) for remark in raw["remarks"][:100]),
        tuple(_text(pattern) for pattern in raw["ignore"]),
    )


def _read_program(raw: Any) -> ProgramPayload:
    parts = {part.value for part in Part}
    files = (Named(Part(part), _text(word), _text(path)) for part, word, path in raw["files"] if part in parts)
    return ProgramPayload(_text(raw["conf"]), tuple(files), tuple(map(_text, raw["users"])), bool(raw["whole"]))


def _read_mark(row: Any) -> Mark:
    kind, digest, size, mtime, changed, mode, owner, links, problem = row
    return Mark(
        Kind(kind),
        _text(digest),
        _number(size),
        _number(mtime),
        float(_number(changed)),
        _number(mode),
        _text(owner),
        tuple((_text(link), _text(target), float(_number(made))) for link, target, made in links),
        _text(problem),
    )


def _read_user(raw: Any) -> UserMark:
    return UserMark(_number(raw["uid"]), {_text(name): _number(gid) for name, gid in raw["groups"].items()})


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > LONGEST_TEXT:
        raise ValueError(f"{type(value).__name__} in place of a text")
    return value


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or abs(value) > 2**63:
        raise ValueError(f"{value!r:.40} in place of a number")
    return value
