"""Makes this node's payload what the active node's is: prepares everything out of sight, then swaps by renames alone.

Whatever is new is first written under hidden names beside its target, so that a full disk, a user that is not known here or
a content with another digest is found before anything has changed. Follows no symbolic link: each component of a path is
opened below its parent. A crash leaves each path old or new, and hidden files that ``sweep`` takes away.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import grp
import hashlib
import json
import logging
import os
import posixpath
import pwd
import secrets
import shutil
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ha_agent.adapters.commit import RENAME_EXCHANGE, RESERVE_BYTES, libc
from ha_agent.adapters.files import free_bytes, make_dir, read_or_none, sync_file_system, write_all, write_atomic
from ha_agent.adapters.kept import Kept, prune_kept, write_kept
from ha_agent.adapters.payload_scan import CHUNK, open_directory
from ha_agent.core.payload_list import Kind, Listing, PayloadEntry
from ha_agent.core.payload_plan import Act, Move, PayloadPlan
from ha_agent.core.payload_rules import TEMPORARY
from ha_agent.core.places import StatePlaces
from ha_agent.core.reasons import reason_of

log = logging.getLogger(__name__)

KEPT_BYTES = 1 << 20
"""Larger files are replaced and deleted without a kept copy."""

KEEP_GENERATIONS = 100
RENAME_NOREPLACE = 1
"""renameat2(2), linux/fs.h"""

_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class PayloadRefused(Exception):
    """The change cannot be made here; nothing of it was, or what was made is whole. The text says why."""


class PayloadNoSpace(PayloadRefused):
    """There is not room enough; nothing was changed."""


@dataclass(slots=True)
class PayloadReport:
    """What a commit did. ``left``: why it ended before its last step, None where it did not."""

    done: int = 0
    kept: list[str] = field(default_factory=list)
    diverged: list[str] = field(default_factory=list)
    left: str | None = None


@dataclass(slots=True)
class _Ready:
    """A step whose new content lies under the hidden name ``temporary`` beside its target."""

    move: Move
    temporary: str


class PayloadCommitter:
    """Works below ``state_dir``, and on the paths of plans. One commit at a time; it may run in a thread."""

    def __init__(self, state_dir: str) -> None:
        self._staging, self._dir = StatePlaces(state_dir).staging, StatePlaces(state_dir).payload
        self._intent = os.path.join(self._dir, "intent.json")
        self._agreed = os.path.join(self._dir, "agreed.json")
        self.kept = StatePlaces(self._dir).kept
        """The directory of kept copies."""

    # ---- what is known ------------------------------------------------------------------------------------

    def read_agreed(self) -> dict[str, str]:
        """The contents that both nodes had in common at last, by path; nothing where that is not known."""
        try:
            raw = json.loads(read_or_none(self._agreed) or b"{}")
            return {str(path): str(content) for path, content in raw.items()}
        except (OSError, ValueError, AttributeError) as error:
            text = "%s cannot be read (%s): nothing of the payload is deleted before both nodes agree again"
            log.warning(text, self._agreed, reason_of(error))
            return {}

    def write_agreed(self, agreed: Mapping[str, str]) -> None:
        """Notes, durably, what both nodes have. Raises ``OSError``; the old note stays then."""
        make_dir(self._dir, 0o700)
        write_atomic(self._agreed, json.dumps(dict(agreed), separators=(",", ":")).encode("ascii"))

    # ---- what is staged -----------------------------------------------------------------------------------

    def find_lacking(self, staging: str, wants: Mapping[str, int]) -> dict[str, int]:
        """Which of the contents ``wants`` are not staged with their whole size."""
        return {sha: size for sha, size in wants.items() if _size_of(self._staged(staging, sha)) != size}

    def adopt_staged(self, staging: str, wants: Iterable[str]) -> None:
        """Brings what an earlier offer has staged to ``staging``, and removes the rest. Raises ``OSError``."""
        target = os.path.join(self._staging, staging)
        make_dir(target, 0o700)
        marker = os.path.join(self._dir, "staging")
        former = (read_or_none(marker) or b"").decode("ascii", "replace")
        if former != staging:
            make_dir(self._dir, 0o700)
            write_atomic(marker, staging.encode("ascii"), durable=False)
        if len(former) != len(staging) or former == staging or not former.isalnum():
            return
        for sha in wants:
            with contextlib.suppress(OSError):
                os.rename(os.path.join(self._staging, former, sha), os.path.join(target, sha))
        shutil.rmtree(os.path.join(self._staging, former), ignore_errors=True)

    def drop_staged(self, staging: str) -> None:
        """Removes what was staged for an offer."""
        shutil.rmtree(os.path.join(self._staging, staging), ignore_errors=True)

    def _staged(self, staging: str, sha: str) -> str:
        return os.path.join(self._staging, staging, sha)

    def check_room(self, plan: PayloadPlan, wanted: Listing, lacking: Mapping[str, int]) -> None:
        """Raises ``PayloadNoSpace`` where what is lacking, or what is made of it, finds no room. Raises ``OSError``."""
        _need(self._staging, sum(lacking.values()))
        device = os.stat(self._staging).st_dev
        needed: Counter[int] = Counter()
        places: dict[int, str] = {}
        for entry in _entries_of(plan, wanted):
            place = _existing_parent(entry.path)
            on = os.stat(place).st_dev
            places.setdefault(on, place)
            # What was staged on the same file system is moved, and not written once more.
            if on != device or entry.content not in plan.wants:
                needed[on] += entry.size + 4096
        for on, count in needed.items():
            _need(places[on], count + (sum(lacking.values()) if on == device else 0))

    # ---- committing ---------------------------------------------------------------------------------------

    def sweep(self) -> int:
        """Removes hidden files that a crash left; returns how many. Idempotent."""
        try:
            parents = json.loads(read_or_none(self._intent) or b"[]")
        except (OSError, ValueError):
            return 0
        swept = 0
        for parent in parents if isinstance(parents, list) else ():
            with contextlib.suppress(OSError), _open(str(parent)) as fd:
                for name in os.listdir(fd):
                    if name.startswith(TEMPORARY):
                        _discard(fd, name)
                        swept += 1
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._intent)
        return swept

    def commit(
        self,
        plan: PayloadPlan,
        wanted: Listing,
        here: Listing,
        staging: str,
        epoch: int,
        wall: float,
        should_stop: Callable[[], str | None],
    ) -> PayloadReport:
        """Does the steps of ``plan``. ``should_stop``: why no further step may be done, asked before each.

        ``here``: what this node was seen to hold. Raises ``PayloadRefused`` and ``OSError``; then nothing was changed, or a
        beginning of the plan was done.
        """
        report = PayloadReport()
        if not plan.moves:
            return report
        owners = _Owners()
        for entry in _entries_of(plan, wanted):
            owners.find(entry)
        make_dir(self._dir, 0o700)
        self.sweep()
        parents = sorted({posixpath.dirname(move.path) for move in plan.moves})
        write_atomic(self._intent, json.dumps(parents).encode("ascii"))
        try:
            maker = _Maker(self._staging, staging, wanted, here, owners)
            ready = [_Ready(move, maker.prepare(move)) for move in plan.moves]
            self._keep(plan, f"{epoch}.{int(wall)}", report)
            _sync(parents)
            self._swap(ready, wanted, owners, should_stop, report)
            _sync(parents)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise PayloadNoSpace(f"{error.strerror}: {error.filename or 'the payload'}") from None
            raise
        finally:
            self.sweep()
        return report

    def _swap(
        self,
        ready: list[_Ready],
        wanted: Listing,
        owners: _Owners,
        should_stop: Callable[[], str | None],
        report: PayloadReport,
    ) -> None:
        for step in ready:
            report.left = should_stop()
            if report.left is not None:
                return
            with _open(posixpath.dirname(step.move.path)) as parent:
                _do(parent, step, wanted, owners)
            report.done += 1

    def _keep(self, plan: PayloadPlan, generation: str, report: PayloadReport) -> None:
        """Keeps small files that will be replaced or deleted. Raises ``OSError``."""
        agreed = self.read_agreed()
        for move in plan.moves:
            old = move.old
            if old is None or old.kind is not Kind.FILE or old.size > KEPT_BYTES:
                continue
            content = _read_small(move.path)
            if content is None:
                continue
            sha = hashlib.sha256(content).hexdigest()
            reason = "deleted" if move.act is Act.DELETE else "replaced"
            diverged = agreed.get(move.path) != sha
            kept = Kept(move.path[1:], old.mode, sha, content, reason, diverged)
            write_kept(os.path.join(self.kept, generation), kept)
            report.kept.append(move.path)
            if diverged:
                report.diverged.append(move.path)
        prune_kept(self._dir, KEEP_GENERATIONS)


class _Owners:
    """Numbers of users and groups on this node by their names."""

    def __init__(self) -> None:
        self._users: dict[str, int] = {}
        self._groups: dict[str, int] = {}

    def find(self, entry: PayloadEntry) -> tuple[int, int]:
        """The numbers of an entry's owner and group. Raises ``PayloadRefused`` where this node has no such name."""
        for name, known, find, what in (
            (entry.owner, self._users, _find_user, "user"),
            (entry.group, self._groups, _find_group, "group"),
        ):
            if name in known:
                continue
            try:
                known[name] = int(name[1:]) if name.startswith("#") else find(name)
            except (KeyError, ValueError):
                raise PayloadRefused(f"{entry.path} belongs to {what} {name}, whom this node does not have") from None
        return self._users[entry.owner], self._groups[entry.group]


def _find_user(name: str) -> int:
    return pwd.getpwnam(name).pw_uid


def _find_group(name: str) -> int:
    return grp.getgrnam(name).gr_gid


class _Maker:
    """Writes what is new under hidden names."""

    def __init__(self, staging_dir: str, staging: str, wanted: Listing, here: Listing, owners: _Owners) -> None:
        self._staging = os.path.join(staging_dir, staging)
        self._wanted, self._owners = wanted, owners
        self._uses = Counter(entry.content for entry in wanted if entry.kind is Kind.FILE)
        self._local = {entry.content: entry.path for entry in here if entry.kind is Kind.FILE}
        self._below: dict[str, list[PayloadEntry]] = {}
        for entry in wanted:
            self._below.setdefault(posixpath.dirname(entry.path), []).append(entry)

    def prepare(self, move: Move) -> str:
        """Makes what ``move`` puts, under a hidden name beside its target, and returns that. Raises as ``commit`` does."""
        if move.act in (Act.DIRECTORY, Act.DELETE, Act.REMOVE):
            return ""
        directory, temporary = posixpath.dirname(move.path), TEMPORARY + secrets.token_hex(8)
        try:
            parent = open_directory(directory)
        except FileNotFoundError:
            raise PayloadRefused(f"there is no directory {directory} here") from None
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                raise
            raise PayloadRefused(f"{directory} cannot be had as a directory: a link or a file is on its way") from None
        try:
            self._make(parent, temporary, self._wanted.by_path[move.path])
        finally:
            os.close(parent)
        return temporary

    def _make(self, parent: int, name: str, entry: PayloadEntry) -> None:
        if entry.kind is Kind.FILE:
            self._make_file(parent, name, entry)
        elif entry.kind is Kind.LINK:
            os.symlink(entry.content, name, dir_fd=parent)
            os.chown(name, *self._owners.find(entry), dir_fd=parent, follow_symlinks=False)
        else:
            os.mkdir(name, 0o700, dir_fd=parent)
            fd = os.open(name, _DIR, dir_fd=parent)
            try:
                for below in self._below.get(entry.path, ()):
                    self._make(fd, posixpath.basename(below.path), below)
                _dress(fd, entry, self._owners)
            finally:
                os.close(fd)

    def _make_file(self, parent: int, name: str, entry: PayloadEntry) -> None:
        sha = entry.content
        staged = os.path.join(self._staging, sha)
        source = staged if os.path.lexists(staged) else self._local.get(sha)
        if source is None:
            raise PayloadRefused(f"the content of {entry.path} was not staged")
        file = _Source(source)
        try:
            if source == staged and self._uses[sha] == 1 and file.identity[0] == os.fstat(parent).st_dev:
                file.check(sha)
                os.rename(staged, name, dst_dir_fd=parent)
                if _identity(os.stat(name, dir_fd=parent, follow_symlinks=False)) != file.identity:
                    raise PayloadRefused(f"the content of {entry.path} was replaced while it was looked at")
                _dress(file.fd, entry, self._owners)
                return
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            target = os.open(name, flags, 0o600, dir_fd=parent)
            try:
                file.check(sha, target)
                _dress(target, entry, self._owners)
            finally:
                os.close(target)
        finally:
            file.close()


class _Source:
    """A file whose content is needed. Raises ``PayloadRefused`` where it cannot be had."""

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            with _open(os.path.dirname(path)) as parent:
                self.fd = os.open(os.path.basename(path), _READ, dir_fd=parent)
        except OSError as error:
            raise PayloadRefused(f"{path}: {error.strerror}") from None
        seen = os.fstat(self.fd)
        self.identity = _identity(seen)
        """Device and inode."""
        if not stat.S_ISREG(seen.st_mode):
            self.close()
            raise PayloadRefused(f"{path} is not a regular file")

    def check(self, sha: str, target: int | None = None) -> None:
        """Reads all, into ``target`` where that is given. Raises ``PayloadRefused`` where it has another digest."""
        digest = hashlib.sha256()
        while chunk := os.read(self.fd, CHUNK):
            digest.update(chunk)
            if target is not None:
                write_all(target, chunk)
        if digest.hexdigest() != sha:
            with contextlib.suppress(OSError):
                if os.path.basename(self._path) == sha:
                    os.unlink(self._path)
            raise PayloadRefused(f"{self._path} has another digest than was announced")

    def close(self) -> None:
        """Closes the file."""
        os.close(self.fd)


def _identity(seen: os.stat_result) -> tuple[int, int]:
    return seen.st_dev, seen.st_ino


def _do(parent: int, step: _Ready, wanted: Listing, owners: _Owners) -> None:
    """One step that others can see. Raises ``OSError``."""
    move, name = step.move, posixpath.basename(step.move.path)
    if move.act is Act.DELETE:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=parent)
    elif move.act is Act.REMOVE:
        try:
            os.rmdir(name, dir_fd=parent)
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
    elif move.act is Act.DIRECTORY:
        fd = os.open(name, _DIR, dir_fd=parent)
        try:
            _dress(fd, wanted.by_path[move.path], owners)
        finally:
            os.close(fd)
    elif move.old is None:
        _rename(parent, step.temporary, move.path, RENAME_NOREPLACE)
    elif move.act is Act.TREE:
        _rename(parent, step.temporary, move.path, RENAME_EXCHANGE)
    else:
        os.rename(step.temporary, name, src_dir_fd=parent, dst_dir_fd=parent)


def _rename(parent: int, old: str, path: str, flag: int) -> None:
    name = posixpath.basename(path)
    if libc.renameat2(parent, os.fsencode(old), parent, os.fsencode(name), flag) == 0:
        return
    code = ctypes.get_errno()
    if code == errno.EINVAL and flag == RENAME_NOREPLACE:
        # A file system that knows no flags (renameat2(2)).
        os.rename(old, name, src_dir_fd=parent, dst_dir_fd=parent)
        return
    raise OSError(code, os.strerror(code), path)


def _dress(fd: int, entry: PayloadEntry, owners: _Owners) -> None:
    """Owner, mode and a file's time. The mode last: a change of owner takes bits away (chown(2))."""
    os.fchown(fd, *owners.find(entry))
    os.fchmod(fd, entry.mode)
    if entry.kind is Kind.FILE:
        os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))


@contextlib.contextmanager
def _open(path: str) -> Iterator[int]:
    fd = open_directory(path)
    try:
        yield fd
    finally:
        os.close(fd)


def _discard(parent: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=parent)
    except IsADirectoryError:
        shutil.rmtree(name, ignore_errors=True, dir_fd=parent)


def _entries_of(plan: PayloadPlan, wanted: Listing) -> list[PayloadEntry]:
    """Everything that ``plan`` puts, what lies in new directories included."""
    puts = {move.path for move in plan.moves if move.act not in (Act.DELETE, Act.REMOVE)}
    trees = tuple(f"{move.path}/" for move in plan.moves if move.act is Act.TREE)
    return [entry for entry in wanted if entry.path in puts or entry.path.startswith(trees)]


def _existing_parent(path: str) -> str:
    while not os.path.isdir(path):
        path = posixpath.dirname(path)
    return path


def _need(place: str, count: int) -> None:
    free = free_bytes(place)
    if count and free < RESERVE_BYTES + count:
        raise PayloadNoSpace(f"{free} bytes free at {place}, {RESERVE_BYTES + count} needed")


def _size_of(path: str) -> int | None:
    try:
        seen = os.stat(path, follow_symlinks=False)
    except OSError:
        return None
    return seen.st_size if stat.S_ISREG(seen.st_mode) else None


def _read_small(path: str) -> bytes | None:
    """What stands at ``path``; None where it is not a small regular file (any more)."""
    with contextlib.suppress(OSError), _open(posixpath.dirname(path)) as parent:
        fd = os.open(posixpath.basename(path), _READ, dir_fd=parent)
        with open(fd, "rb") as file:
            seen = os.fstat(fd)
            if stat.S_ISREG(seen.st_mode) and seen.st_size <= KEPT_BYTES:
                return file.read()
    return None


def _sync(parents: Iterable[str]) -> None:
    """Puts the file systems of ``parents`` on disk. Raises ``OSError``."""
    done: set[int] = set()
    for parent in parents:
        with contextlib.suppress(FileNotFoundError):
            device = os.stat(parent).st_dev
            if device not in done:
                done.add(device)
                sync_file_system(parent)
