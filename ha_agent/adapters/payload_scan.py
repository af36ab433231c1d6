"""Looks at what this node holds of the payload: a stat for each file, and its digest where that has changed.

Follows no symbolic link, neither on the way to a file nor at its end, and leaves the file system of a root nowhere: whoever
may write below a root cannot have something else read.
"""

from __future__ import annotations

import fnmatch
import grp
import hashlib
import os
import pwd
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ha_agent.core.payload_list import Kind, Listing, PayloadEntry, judge_entry
from ha_agent.core.payload_rules import PayloadRules, find_fault, has_wildcard, split
from ha_agent.core.reasons import reason_of

CHUNK = 1 << 20
SETTLED_NS = 100_000_000
"""A file whose ctime is younger may change once more within the clock's grain: its digest is not remembered."""

MOST_PROBLEMS = 50
_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class ScanFailed(Exception):
    """The payload is too large to be looked at, or changes while it is."""


@dataclass(frozen=True, slots=True)
class Scan:
    """What is there, and what is not replicated, in words."""

    listing: Listing
    problems: tuple[str, ...]


def open_directory(path: str) -> int:
    """The directory ``path`` as a descriptor. Raises ``OSError``, also where a part of the path is a symbolic link."""
    fd = os.open("/", _DIR)
    try:
        for part in split(path):
            below = os.open(part, _DIR, dir_fd=fd)
            os.close(fd)
            fd = below
    except OSError:
        os.close(fd)
        raise
    return fd


class PayloadScanner:
    """Remembers digests between looks. One look at a time; it may be made in a thread. ``own``: never payload here."""

    def __init__(self, own: tuple[str, ...] = ()) -> None:
        self._own = own
        self._digests: dict[tuple[int, int], tuple[tuple[int, int, int], str]] = {}

    def scan(self, rules: PayloadRules) -> Scan:
        """What ``rules`` name on this node. Raises ``ScanFailed``."""
        look = _Look(rules, self._own, self._digests)
        try:
            for pattern in rules.patterns:
                look.take_pattern(pattern)
        except RecursionError:
            raise ScanFailed("directories lie too deep in each other") from None
        self._digests = look.fresh
        return Scan(Listing(look.entries.values(), look.left_out, rules), tuple(look.problems))


class _Look:
    """One look."""

    def __init__(
        self,
        rules: PayloadRules,
        own: tuple[str, ...],
        digests: dict[tuple[int, int], tuple[tuple[int, int, int], str]],
    ) -> None:
        self._rules, self._own, self._digests = rules, own, digests
        self.fresh: dict[tuple[int, int], tuple[tuple[int, int, int], str]] = {}
        self.entries: dict[str, PayloadEntry] = {}
        self.left_out: set[str] = set()
        self.problems: list[str] = []
        self._bytes = 0
        self._users: dict[int, str] = {}
        self._groups: dict[int, str] = {}

    def _leave_out(self, path: str, why: str | None) -> None:
        self.left_out.add(path)
        if why is not None and len(self.problems) < MOST_PROBLEMS:
            self.problems.append(f"{path}: {why}")

    def take_pattern(self, pattern: str) -> None:
        """Looks at everything that ``pattern`` matches."""
        for parent, name in self._expand(pattern):
            path = f"{parent.rstrip('/')}/{name}"
            fault = find_fault(path, self._own)
            if self._rules.is_excluded(path):
                continue
            if fault is not None:
                self._leave_out(path, f"never payload: it {fault}")
                continue
            try:
                fd = open_directory(parent)
            except OSError as error:
                self._leave_out(path, error.strerror)
                continue
            try:
                self._take(fd, name, path, None)
            finally:
                os.close(fd)

    def _expand(self, pattern: str) -> Iterator[tuple[str, str]]:
        """Parents and names of what matches. What cannot be looked at on the way is left out as a whole."""
        parents = ["/"]
        *ways, last = split(pattern)
        for part in ways:
            found = [f"{parent.rstrip('/')}/{name}" for parent in parents for name in self._matching(parent, part)]
            parents = [path for path in found if self._is_way(path, pattern)]
        for parent in parents:
            for name in self._matching(parent, last):
                yield parent, name

    def _matching(self, parent: str, part: str) -> list[str]:
        if not has_wildcard(part):
            if not os.path.lexists(f"{parent.rstrip('/')}/{part}"):
                self._leave_out(f"{parent.rstrip('/')}/{part}", "is not there, so nothing of it is deleted on the peer")
                return []
            return [part]
        try:
            return sorted(name for name in os.listdir(parent) if fnmatch.fnmatchcase(name, part))
        except OSError as error:
            self._leave_out(parent, error.strerror)
            return []

    def _is_way(self, path: str, pattern: str) -> bool:
        if os.path.islink(path):
            self._leave_out(path, f"is a link on the way of {pattern}: name the real place")
            return False
        return os.path.isdir(path)

    def _take(self, parent: int, name: str, path: str, device: int | None) -> None:
        """Takes in ``name`` in ``parent`` with all below. ``device``: the root's file system, None for the root itself."""
        if self._rules.is_excluded_here(path, name) or path in self.entries:
            return
        try:
            seen = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return
        except OSError as error:
            self._leave_out(path, error.strerror)
            return
        if stat.S_ISDIR(seen.st_mode):
            self._take_directory(parent, name, path, seen, device)
        elif stat.S_ISLNK(seen.st_mode):
            self._take_link(parent, name, path, seen)
        elif stat.S_ISREG(seen.st_mode):
            self._take_file(parent, name, path, seen)
        else:
            # Sockets, pipes and devices are made by programs and not deployed.
            self._leave_out(path, None)

    def _add(self, entry: PayloadEntry) -> bool:
        fault = judge_entry(entry, self._rules)
        if fault is not None:
            self._leave_out(entry.path, fault)
            return False
        limits = self._rules.limits
        self.entries[entry.path] = entry
        self._bytes += entry.size
        if len(self.entries) > limits.entries:
            raise ScanFailed(f"more than {limits.entries} files, links and directories (payload.max_entries)")
        if self._bytes > limits.total_bytes:
            raise ScanFailed(f"more than {limits.total_bytes} bytes in all (payload.max_total_bytes)")
        return True

    def _take_directory(self, parent: int, name: str, path: str, seen: os.stat_result, device: int | None) -> None:
        if device is not None and seen.st_dev != device:
            self._leave_out(path, "is another file system: name it by itself")
            return
        try:
            fd = os.open(name, _DIR, dir_fd=parent)
        except OSError as error:
            self._leave_out(path, error.strerror)
            return
        try:
            if not self._add(self._entry(path, Kind.DIR, seen)):
                return
            for below in sorted(os.listdir(fd)):
                self._take(fd, below, f"{path}/{below}", seen.st_dev)
        finally:
            os.close(fd)

    def _take_link(self, parent: int, name: str, path: str, seen: os.stat_result) -> None:
        try:
            target = os.readlink(name, dir_fd=parent)
        except OSError as error:
            self._leave_out(path, error.strerror)
            return
        self._add(self._entry(path, Kind.LINK, seen, target))

    def _take_file(self, parent: int, name: str, path: str, seen: os.stat_result) -> None:
        if judge_entry(self._entry(path, Kind.FILE, seen), self._rules) is None:
            try:
                digest = self._find_digest(parent, name, seen)
            except OSError as error:
                self._leave_out(path, error.strerror or reason_of(error))
                return
            if digest is None:
                self._leave_out(path, "is being written")
                return
            self._add(self._entry(path, Kind.FILE, seen, digest))
        else:
            self._add(self._entry(path, Kind.FILE, seen))

    def _find_digest(self, parent: int, name: str, seen: os.stat_result) -> str | None:
        """The digest of a file that ``seen`` describes; None where it changes meanwhile. Raises ``OSError``."""
        key, now = (seen.st_dev, seen.st_ino), _signature(seen)
        known = self._digests.get(key)
        if known is not None and known[0] == now:
            self.fresh[key] = known
            return known[1]
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
        with open(fd, "rb", buffering=0) as file:
            begun = time.time_ns()
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            after = os.fstat(fd)
        if (after.st_dev, after.st_ino) != key or _signature(after) != now:
            return None
        if begun - seen.st_ctime_ns > SETTLED_NS:
            self.fresh[key] = (now, digest)
        return digest

    def _entry(self, path: str, kind: Kind, seen: os.stat_result, content: str = "") -> PayloadEntry:
        owner = _name_of(seen.st_uid, self._users, lambda n: pwd.getpwuid(n).pw_name)
        group = _name_of(seen.st_gid, self._groups, lambda n: grp.getgrgid(n).gr_name)
        mode = 0o777 if kind is Kind.LINK else stat.S_IMODE(seen.st_mode)
        is_file = kind is Kind.FILE
        return PayloadEntry(
            path, kind, mode, owner, group, content, seen.st_size if is_file else 0, seen.st_mtime_ns if is_file else 0
        )


def _signature(seen: os.stat_result) -> tuple[int, int, int]:
    return seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns


def _name_of(number: int, known: dict[int, str], find: Callable[[int], str]) -> str:
    if number not in known:
        try:
            known[number] = find(number)
        except KeyError:
            known[number] = f"#{number}"
    return known[number]
