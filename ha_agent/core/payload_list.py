"""What a node holds of the payload: a list of directories, files and links, and how it travels. Pure.

A file is known by the sha256 of its content, a link by its target. Owner and group are names, because numbers differ
between machines; a number without a name there is ``#N``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import posixpath
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

from ha_agent.core.payload_rules import LONGEST_PATH, PayloadRules
from ha_agent.core.reasons import reason_of

MOST_BYTES = 32 << 20
"""A list that is longer than this when it is unpacked is no list of a node's."""

_SHA = re.compile(r"[0-9a-f]{64}")
_OWNER = re.compile(r"[^\s/:\0]{1,64}")
SETUID, SETGID = 0o4000, 0o2000
LARGEST = 1 << 62


class BadListing(ValueError):
    """Something that is no list of payload, or holds what may not be payload here."""


class Kind(StrEnum):
    """What an entry is."""

    DIR = "d"
    FILE = "f"
    LINK = "l"


class PayloadAnswer(StrEnum):
    """What the receiving node says to an offer."""

    COMMITTED = "COMMITTED"
    WANTS = "WANTS"
    NEED_LIST = "NEED_LIST"
    HELD = "HELD"
    STALE = "STALE"
    ACTIVE = "ACTIVE"
    OFF = "OFF"
    NO_SPACE = "NO_SPACE"
    BAD = "BAD"


@dataclass(frozen=True, slots=True)
class PayloadEntry:
    """One directory, file or link. ``content``: a file's sha256, a link's target, nothing of a directory.

    ``mtime_ns`` travels with a file and is not compared: a file that was only touched is the same.
    """

    path: str
    kind: Kind
    mode: int
    owner: str
    group: str
    content: str = ""
    size: int = 0
    mtime_ns: int = 0

    @property
    def key(self) -> tuple[str, int, str, str, str]:
        """What two entries of one path are compared by."""
        return (self.kind.value, self.mode, self.owner, self.group, self.content)

    def to_row(self) -> list[Any]:
        """The entry as a JSON-able row."""
        return [self.path, self.kind.value, self.mode, self.owner, self.group, self.content, self.size, self.mtime_ns]


class Listing:
    """An immutable list of entries, at most one a path, sorted by path.

    ``left_out``: paths that are there and do not travel, or cannot be looked at: nothing is said about them, nor about what
    lies below. ``scope``: the rules by which it was made; it says nothing about what these do not hold.
    """

    def __init__(
        self, entries: Iterable[PayloadEntry], left_out: Iterable[str] = (), scope: PayloadRules | None = None
    ) -> None:
        self.scope = scope
        self.by_path: Mapping[str, PayloadEntry] = {entry.path: entry for entry in sorted(entries, key=lambda e: e.path)}
        self.left_out = frozenset(left_out)

    def __iter__(self) -> Iterator[PayloadEntry]:
        return iter(self.by_path.values())

    def __len__(self) -> int:
        return len(self.by_path)

    def find(self, path: str) -> PayloadEntry | None:
        """The entry of ``path``; None where there is none."""
        return self.by_path.get(path)

    def is_silent_about(self, path: str) -> bool:
        """Whether ``path``, or a directory that it lies in, was left out, or was not looked at."""
        if self.scope is not None and not self.scope.may_hold(path):
            return True
        return bool(self.left_out) and any(one in self.left_out for one in _upwards(path))

    @cached_property
    def hash(self) -> str:
        """A digest of everything that is compared."""
        rows = [[entry.path, *entry.key] for entry in self]
        text = json.dumps([rows, sorted(self.left_out), self._scope_row()], separators=(",", ":"))
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    @property
    def files(self) -> int:
        """How many files and links there are."""
        return sum(entry.kind is not Kind.DIR for entry in self)

    @property
    def bytes(self) -> int:
        """The size of all files."""
        return sum(entry.size for entry in self)

    def _scope_row(self) -> list[list[str]] | None:
        return None if self.scope is None else [list(self.scope.patterns), list(self.scope.exclude)]

    def encode(self) -> str:
        """The list as a text for a frame."""
        raw = {"rows": [entry.to_row() for entry in self], "left_out": sorted(self.left_out), "scope": self._scope_row()}
        text = json.dumps(raw, separators=(",", ":"))
        return base64.b64encode(zlib.compress(text.encode("ascii"), 6)).decode("ascii")


def _upwards(path: str) -> Iterator[str]:
    while path != "/":
        yield path
        path = posixpath.dirname(path)


def decode_listing(text: object) -> Listing:
    """The inverse of ``Listing.encode``. Raises ``BadListing`` for anything else."""
    try:
        raw = json.loads(_unpack(str(text)))
        entries = [_read_row(row) for row in raw["rows"]]
        left_out = [_read_path(path) for path in raw["left_out"]]
        scope = _read_scope(raw["scope"])
    except (ValueError, KeyError, TypeError, zlib.error, RecursionError) as error:
        raise BadListing(f"not a list of payload: {reason_of(error)}") from None
    listing = Listing(entries, left_out, scope)
    if len(listing) != len(entries):
        raise BadListing("not a list of payload: a path stands there twice")
    return listing


def _unpack(text: str) -> bytes:
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(base64.b64decode(text, validate=True), MOST_BYTES)
    if not unpacker.eof:
        raise ValueError(f"cut off, or more than {MOST_BYTES} bytes")
    return data


def _read_path(path: object) -> str:
    if not isinstance(path, str) or not path.startswith("/") or "\0" in path or len(path) > LONGEST_PATH:
        raise ValueError(f"{path!r:.100} is not an absolute path")
    if posixpath.normpath(path) != path or path.startswith("//") or path == "/":
        raise ValueError(f"{path!r:.100} is not a plain path")
    return path


def _read_scope(raw: Any) -> PayloadRules | None:
    if raw is None:
        return None
    patterns, exclude = raw
    for word in (*patterns, *exclude):
        if not isinstance(word, str) or len(word) > LONGEST_PATH:
            raise ValueError(f"{word!r:.100} is not a pattern")
    return PayloadRules(tuple(patterns), tuple(exclude))


def _read_row(row: Any) -> PayloadEntry:
    path, kind, mode, owner, group, content, size, mtime_ns = row
    entry = PayloadEntry(_read_path(path), Kind(kind), mode, owner, group, content, size, mtime_ns)
    numbers = all(type(n) is int and 0 <= n < LARGEST for n in (mode, size)) and type(mtime_ns) is int
    names = all(isinstance(name, str) and _OWNER.fullmatch(name) for name in (owner, group))
    if not numbers or not names or abs(mtime_ns) > LARGEST or mode > 0o7777 or not isinstance(content, str):
        raise ValueError(f"a bad entry for {path!r:.100}")
    if entry.kind is Kind.FILE and not _SHA.fullmatch(content):
        raise ValueError(f"no digest for {path!r:.100}")
    if entry.kind is Kind.LINK and (not content or "\0" in content or len(content) > LONGEST_PATH):
        raise ValueError(f"no target for {path!r:.100}")
    return entry


def judge_listing(listing: Listing, rules: PayloadRules) -> str | None:
    """Why a list that the peer sent cannot be taken by a node with ``rules``; None where it can.

    The receiving node's own rules count, so that nobody chooses for it where its files may come to lie.
    """
    if len(listing) > rules.limits.entries:
        return f"{len(listing)} entries; at most {rules.limits.entries} are allowed (payload.max_entries)"
    for entry in listing:
        if rules.find_root(entry.path) is None:
            return f"{entry.path} is not below payload.paths here"
        if rules.is_excluded(entry.path):
            return f"{entry.path} is excluded here"
        fault = judge_entry(entry, rules)
        if fault is not None:
            return f"{entry.path}: {fault}"
        parent = listing.find(posixpath.dirname(entry.path))
        if rules.find_root(posixpath.dirname(entry.path)) is not None and (parent is None or parent.kind is not Kind.DIR):
            return f"{entry.path} lies in no directory of the list"
    if listing.bytes > rules.limits.total_bytes:
        return f"{listing.bytes} bytes in all; at most {rules.limits.total_bytes} are allowed (payload.max_total_bytes)"
    return None


def judge_entry(entry: PayloadEntry, rules: PayloadRules) -> str | None:
    """Why one entry does not travel; None where it does.

    A file with a setuid or setgid bit does not: it is a right that root of each machine gives, and not a program's content.
    """
    if entry.kind is Kind.FILE and entry.mode & (SETUID | SETGID):
        return "has a setuid or setgid bit, which does not travel: install it on both nodes by hand"
    if entry.kind is Kind.DIR and entry.mode & SETUID:
        return "a directory with a setuid bit does not travel"
    if entry.size > rules.limits.file_bytes:
        return f"{entry.size} bytes; a file may have {rules.limits.file_bytes} (payload.max_file_bytes)"
    return None
