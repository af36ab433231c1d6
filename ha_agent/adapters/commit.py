"""The receiver's disk side: verifies, decides by the journal, applies, keeps what is replaced, rolls forward.

The only code that writes into a registry. It never follows a symbolic link and never leaves the registry: every
component of a path is opened by itself below its parent.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from ha_agent.adapters.files import free_bytes, make_dir, sync_file_system, write_all
from ha_agent.adapters.journal import Journal
from ha_agent.adapters.registry import read_file
from ha_agent.core.manifest import Entry, Manifest
from ha_agent.core.transaction import BadTransaction, Transaction, parse_transaction

RESERVE_BYTES = 1024 * 1024
"""Left free on both file systems: a commit that would eat into it is refused before anything is touched."""

CHECKPOINT_BYTES = 4 * 1024 * 1024

_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class NoSpace(Exception):
    """There is not room enough for the change; nothing was touched."""


@dataclass(slots=True)
class Kept:
    """One content that a commit replaced or deleted."""

    path: str
    reason: str
    divergence: bool


@dataclass(slots=True)
class Committed:
    """What a commit did besides what it was asked for. ``failed`` names paths that could not be written yet."""

    kept: list[Kept] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


class Committer:
    """Applies transactions to one registry. Not for several threads at once."""

    def __init__(self, root: str, state_dir: str) -> None:
        self.root = root
        self._staging = os.path.join(state_dir, "staging")
        self._kept = os.path.join(state_dir, "kept")
        self._state_dir = state_dir
        self.journal = Journal(os.path.join(state_dir, "journal"))

    def commit(self, txn: Transaction, agreed: Manifest) -> Committed:
        """Makes ``txn`` durable and then true. When this returns, the change survives any crash.

        Raises ``BadTransaction`` (a staged content is missing or has another digest), ``NoSpace`` and ``OSError`` before
        anything of the registry was touched. What can not be written after the decision stands in ``failed`` and is
        written by the next roll-forward.
        """
        self._check_space(txn)
        if txn.staging is not None:
            self._check_staged(txn)
            sync_file_system(self._staging)
        self.journal.append(txn.to_dict())
        return self._apply(txn, agreed)

    def recover(self, agreed: Manifest) -> tuple[list[Transaction], Committed]:
        """Rolls every journaled transaction forward (again). Idempotent. Raises ``OSError`` where the journal can not be read."""
        done: list[Transaction] = []
        total = Committed()
        for record in self.journal.read():
            with contextlib.suppress(BadTransaction):
                txn = parse_transaction(record)
                report = self._apply(txn, agreed)
                agreed = agreed.changed(txn.puts, txn.deletes)
                total.kept += report.kept
                total.failed.update(report.failed)
                done.append(txn)
        return done, total

    def settle(self) -> None:
        """Puts the registry itself on disk, so that the journal may be cleared once the agreed manifest is. Raises ``OSError``."""
        sync_file_system(self.root)

    def clear_staging(self) -> None:
        """Removes everything staged. Only between transactions."""
        for name in os.listdir(self._staging):
            shutil.rmtree(os.path.join(self._staging, name), ignore_errors=True)

    def _check_space(self, txn: Transaction) -> None:
        inline = sum(map(len, txn.contents.values()))
        needed = inline + 4096 * len(txn.puts)
        for path, factor in ((self.root, 1), (self._state_dir, 2)):
            if free_bytes(path) < RESERVE_BYTES + factor * needed:
                raise NoSpace(f"{free_bytes(path)} bytes free at {path}, {RESERVE_BYTES + factor * needed} needed")

    def _check_staged(self, txn: Transaction) -> None:
        for sha in {entry.sha256 for entry in txn.puts} - set(txn.contents):
            if hashlib.sha256(self._staged(txn, sha)).hexdigest() != sha:
                raise BadTransaction(f"staged content {sha} has another digest")

    def _staged(self, txn: Transaction, sha: str) -> bytes:
        path = os.path.join(self._staging, txn.staging or "", sha)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise BadTransaction(f"content {sha} was not staged: {error.strerror}") from None
        with open(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise BadTransaction(f"staged content {sha} is no regular file")
            return file.read()

    def _apply(self, txn: Transaction, agreed: Manifest) -> Committed:
        report = Committed()
        keeper = _Keeper(os.path.join(self._kept, f"{txn.epoch}.{txn.generation}"), agreed, report)
        for path in txn.deletes:
            with _collect_failure(report, path):
                self._delete(path, keeper)
        for entry in txn.puts:
            with _collect_failure(report, entry.path):
                self._put(entry, txn, keeper)
        return report

    def _put(self, entry: Entry, txn: Transaction, keeper: _Keeper) -> None:
        present = self._present(entry.path)
        if present is not None and present.entry == entry:
            return
        data = txn.contents[entry.sha256] if entry.sha256 in txn.contents else self._staged(txn, entry.sha256)
        with _open_parent(self.root, entry.path, create=True) as (parent, name):
            if present is not None:
                keeper.keep(parent, name, present.entry, present.content, "replaced")
            else:
                _clear_way(parent, name)
            _replace(parent, name, data, entry.mode)

    def _delete(self, path: str, keeper: _Keeper) -> None:
        present = self._present(path)
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            with _open_parent(self.root, path, create=False) as (parent, name):
                if present is not None:
                    keeper.keep(parent, name, present.entry, present.content, "deleted")
                os.unlink(name, dir_fd=parent)
            _remove_empty_parents(self.root, path)

    def _present(self, path: str) -> _Present | None:
        try:
            found = read_file(self.root, path)
        except (OSError, ValueError):
            return None
        return _Present(found.entry, found.content) if found else None


@dataclass(slots=True)
class _Present:
    entry: Entry
    content: bytes


@contextlib.contextmanager
def _collect_failure(report: Committed, path: str) -> Iterator[None]:
    try:
        yield
    except (OSError, BadTransaction) as error:
        report.failed[path] = str(error)


class _Keeper:
    """Stores replaced contents of one generation, with a line on each in ``.kept.jsonl``."""

    def __init__(self, directory: str, agreed: Manifest, report: Committed) -> None:
        self._directory = directory
        self._agreed = agreed
        self._report = report

    def keep(self, parent: int, name: str, entry: Entry, content: bytes, reason: str) -> None:
        """Stores the file ``name`` in ``parent``. Raises ``OSError``: what can not be kept is not replaced."""
        target = os.path.join(self._directory, entry.path)
        if os.path.exists(target):
            with open(target, "rb") as file:
                if file.read() == content:
                    return
            target += "." + entry.sha256[:12]
        make_dir(self._directory, 0o700)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        try:
            os.link(name, target, src_dir_fd=parent, follow_symlinks=False)
        except FileExistsError:
            return
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK):
                raise
            _write_durable(target, content, entry.mode)
        known = self._agreed.find(entry.path)
        divergence = known is None or known.sha256 != entry.sha256
        self._note(entry, reason, divergence)
        self._report.kept.append(Kept(entry.path, reason, divergence))

    def _note(self, entry: Entry, reason: str, divergence: bool) -> None:
        line = {
            "at": round(time.time(), 3),
            "path": entry.path,
            "mode": entry.mode,
            "sha256": entry.sha256,
            "reason": reason,
            "divergence": divergence,
        }
        with open(os.path.join(self._directory, ".kept.jsonl"), "a", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(json.dumps(line) + "\n")


def _write_durable(path: str, data: bytes, mode: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        write_all(fd, data)
        os.fchmod(fd, mode)
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def _open_parent(root: str, path: str, *, create: bool) -> Iterator[tuple[int, str]]:
    """The directory of ``path`` as a descriptor and the last component; symbolic links on the way are refused."""
    *parents, name = path.split("/")
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parents:
            try:
                below = os.open(part, _DIR, dir_fd=fd)
            except FileNotFoundError:
                if not create:
                    raise
                os.mkdir(part, 0o755, dir_fd=fd)
                below = os.open(part, _DIR, dir_fd=fd)
                os.fchmod(below, 0o755)
            os.close(fd)
            fd = below
        yield fd, name
    finally:
        os.close(fd)


def _clear_way(parent: int, name: str) -> None:
    """Makes room for a file where something else stands: a symbolic link goes, an empty directory goes."""
    try:
        info = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return
    if stat.S_ISDIR(info.st_mode):
        os.rmdir(name, dir_fd=parent)
    elif stat.S_ISLNK(info.st_mode):
        os.unlink(name, dir_fd=parent)


def _replace(parent: int, name: str, data: bytes, mode: int) -> None:
    temporary = f".ha-agent.{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(temporary, flags, 0o600, dir_fd=parent)
    try:
        try:
            write_all(fd, data)
            os.fchmod(fd, mode)
        finally:
            os.close(fd)
        os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
    except OSError:
        os.unlink(temporary, dir_fd=parent)
        raise


def _remove_empty_parents(root: str, path: str) -> None:
    parts = path.split("/")[:-1]
    while parts:
        try:
            os.rmdir(os.path.join(root, *parts))
        except OSError:
            return
        parts.pop()




def sweep_temporaries(root: str) -> int:
    """Removes files in the making that a crash left below ``root``; says how many."""
    removed = 0
    for directory, _, names in os.walk(root):
        for name in names:
            if name.startswith(".ha-agent."):
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(directory, name))
                    removed += 1
    return removed


def prune_kept(state_dir: str, keep_generations: int) -> int:
    """Removes the oldest kept generations beyond ``keep_generations``, never one with a divergence; says how many."""
    kept = os.path.join(state_dir, "kept")
    names = [n for n in os.listdir(kept) if n.replace(".", "").isdigit()]
    if len(names) <= keep_generations:
        return 0
    names.sort(key=lambda n: tuple(map(int, n.split("."))))
    removed = 0
    for name in names[: len(names) - keep_generations]:
        with contextlib.suppress(OSError), open(os.path.join(kept, name, ".kept.jsonl"), encoding="utf-8") as file:
            if '"divergence": true' in file.read():
                continue
        shutil.rmtree(os.path.join(kept, name), ignore_errors=True)
        removed += 1
    return removed
