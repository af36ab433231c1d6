"""The receiver's disk side: verifies, decides by the journal, applies, keeps what is replaced, rolls forward.

The only code that writes into a registry. It never follows a symbolic link and never leaves the registry: every
component of a path is opened by itself below its parent. What a change replaces goes into the journal with the change
itself, so that one fsync makes both safe; the kept copies are written from there at the next checkpoint.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import secrets
import shutil
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from ha_agent.adapters.files import free_bytes, sync_file_system
from ha_agent.adapters.journal import FIRST_BYTES, Journal, JournalPlace
from ha_agent.adapters.kept import Kept, write_kept, write_new
from ha_agent.adapters.registry import Found, read_file, read_open
from ha_agent.core.manifest import Entry, Manifest
from ha_agent.core.places import StatePlaces
from ha_agent.core.reasons import reason_of
from ha_agent.core.transaction import MODE_MASK, BadTransaction, Transaction, parse_transaction

RESERVE_BYTES = 1024 * 1024
"""Left free on both file systems: a commit that would eat into it is refused before anything is touched."""

CHECKPOINT_BYTES = 2 * 1024 * 1024
"""Size of the journal from which a checkpoint is due at once."""

RENAME_EXCHANGE = 2
"""renameat2(2), linux/fs.h"""

TEMPORARY = ".ha-agent."
"""Beginning of the names of files in the making: hidden, so never part of a registry."""

libc = ctypes.CDLL(None, use_errno=True)
"""For renameat2(2), which ``os`` does not have."""

_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class NoSpace(Exception):
    """There is not room enough for the change; nothing was touched."""


@dataclass(slots=True)
class Committed:
    """What a commit did besides what it was asked for.

    ``failed`` names paths that could not be written yet, ``skipped`` those that a roll-forward left alone because they
    were changed by someone else after the crash's transaction.
    """

    kept: list[Kept] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


class Committer:
    """Applies transactions to one registry. Not for several threads at once. ``journal_bytes``: as a new journal begins."""

    def __init__(self, root: str, state_dir: str, journal_bytes: int = FIRST_BYTES) -> None:
        self.root = root
        places = StatePlaces(state_dir)
        self._staging, self._kept_dir = places.staging, places.kept
        self._state_dir = state_dir
        self._unkept: list[tuple[str, Kept]] = []
        self._keeping = threading.Lock()
        """A claim may write kept copies while a checkpoint does: each copy is made once."""
        self._one_mount = True
        """Whether staging and registry are one mount, so that a file can be moved from one to the other; found by trying."""
        self.journal = Journal(places.journal, journal_bytes)
        self.spared: set[str] = set()
        """Names in the staging directory that are not the registry's, and stay."""

    def unkept(self) -> list[tuple[str, Kept]]:
        """The copies that the journal alone holds until the next checkpoint, with their generation. From any thread."""
        return list(self._unkept)

    def commit(self, txn: Transaction, agreed: Manifest) -> Committed:
        """Makes ``txn`` durable and then true. When this returns, the change survives any crash.

        Raises ``BadTransaction`` (a staged content is missing or has another digest), ``NoSpace`` and ``OSError`` before
        anything of the registry was touched. What cannot be written after the decision stands in ``failed`` and is
        written by the next roll-forward.
        """
        self._check_space(txn)
        if txn.staging is not None:
            self._check_staged(txn)
            sync_file_system(self._staging)
        report = Committed(kept=self._find_replaced(txn, agreed))
        self.journal.append({"txn": txn.to_dict(), "kept": [kept.to_row() for kept in report.kept]})
        self._remember_kept(txn, report.kept)
        self._apply(txn, report)
        return report

    def recover(self) -> tuple[list[Transaction], Committed]:
        """Rolls every journaled transaction forward (again). Idempotent.

        Only a file that is still as the transaction found it, or that a power failure left without its content, is
        written: anything else is a later edit. Raises ``OSError`` where the journal cannot be read.
        """
        done: list[Transaction] = []
        total = Committed()
        for record in self.journal.read():
            with contextlib.suppress(BadTransaction):
                txn = parse_transaction(record["txn"])
                report = Committed(kept=[Kept.from_row(row) for row in record["kept"]])
                self._remember_kept(txn, report.kept)
                self._apply(self._still_due(txn, report), report)
                total.kept += report.kept
                total.skipped += report.skipped
                total.failed.update(report.failed)
                done.append(txn)
        return done, total

    def _still_due(self, txn: Transaction, report: Committed) -> Transaction:
        """``txn`` reduced to the paths that it has not changed yet and that nobody else has changed since."""
        found = {kept.path: kept.sha256 for kept in report.kept}

        def is_due(path: str, wanted: str | None) -> bool:
            try:
                present = read_file(self.root, path)
            except (OSError, ValueError):
                return True
            if present is None:
                return wanted is not None and path not in found
            if present.entry.sha256 == wanted or present.entry.sha256 == found.get(path):
                return True
            if not present.content.strip(b"\0"):
                return True
            report.skipped.append(path)
            return False

        puts = tuple(entry for entry in txn.puts if is_due(entry.path, entry.sha256))
        return replace(txn, puts=puts, deletes=tuple(path for path in txn.deletes if is_due(path, None)))

    def write(self, path: str, data: bytes, mode: int, generation: str, reason: str) -> Kept | None:
        """Puts ``data`` at ``path`` of the registry for an operator; what stood there is kept and returned.

        Durable when it returns. Raises ``OSError``; the registry is as it was then. Not everybody may write the file,
        whatever ``mode`` says.
        """
        mode &= MODE_MASK
        with contextlib.suppress(ValueError):
            present = read_file(self.root, path)
            if present is not None and present.content == data:
                return None
        replaced = self._keep(path, generation, reason)
        with _open_parent(self.root, path, create=True) as (parent, name):
            _clear_way(parent, name)
            self._install(parent, name, data, mode)
            _sync_file(parent, name)
            os.fsync(parent)
        return replaced

    def rename(self, path: str, target: str, generation: str, reason: str) -> Kept | None:
        """Gives a conf another name in its directory, for an operator; what stood there is kept and returned.

        Durable when it returns, with the content. Raises ``OSError``; the registry is as it was then.
        """
        if os.path.dirname(path) != os.path.dirname(target):
            raise ValueError("a conf is renamed within its directory")
        replaced = self._keep(target, generation, reason)
        with _open_parent(self.root, path, create=False) as (parent, name):
            _sync_file(parent, name)
            os.rename(name, os.path.basename(target), src_dir_fd=parent, dst_dir_fd=parent)
            os.fsync(parent)
        return replaced

    def remove(self, path: str, generation: str, reason: str) -> Kept | None:
        """Takes a conf out of the registry for an operator; it is kept and returned. Durable. Raises ``OSError``."""
        removed = self._keep(path, generation, reason)
        with _open_parent(self.root, path, create=False) as (parent, name):
            os.unlink(name, dir_fd=parent)
            os.fsync(parent)
        _remove_empty_parents(self.root, path)
        return removed

    def _keep(self, path: str, generation: str, reason: str) -> Kept | None:
        """Stores what stands at ``path``, durably."""
        present = None
        with contextlib.suppress(ValueError):
            present = read_file(self.root, path)
        if present is None:
            return None
        kept = Kept(path, present.entry.mode, present.entry.sha256, present.content, reason, False)
        write_kept(os.path.join(self._kept_dir, generation), kept)
        sync_file_system(self._kept_dir)
        return kept

    def flush(self) -> None:
        """Puts the kept copies and the registry on disk, as they are by now, while others commit. Raises ``OSError``.

        syncfs(2) takes as long as it takes for what any program has written to the file system.
        """
        with self._keeping:
            for generation, kept in list(self._unkept):
                write_kept(os.path.join(self._kept_dir, generation), kept)
        sync_file_system(self._state_dir)
        if os.path.isdir(self.root):
            sync_file_system(self.root)

    def settle(self, flushed: JournalPlace | None = None) -> None:
        """Sees to it that the journal may be cleared. Only between transactions. Raises ``OSError``.

        ``flushed``: the journal's place before the last ``flush``; where nothing was committed since, nothing is left to do.
        """
        if flushed != self.journal.place:
            self.flush()
        self._unkept.clear()

    def clear_staging(self) -> None:
        """Removes what was staged for the registry, and what replaced files left there. Only between transactions."""
        for name in set(os.listdir(self._staging)) - self.spared:
            path = os.path.join(self._staging, name)
            if os.path.isdir(path):
                shutil.rmtree(path, ignore_errors=True)
            else:
                os.unlink(path)

    def _remember_kept(self, txn: Transaction, kept: list[Kept]) -> None:
        self._unkept += [(f"{txn.epoch}.{txn.generation}", one) for one in kept]

    def _check_space(self, txn: Transaction) -> None:
        inline = sum(map(len, txn.contents.values()))
        needed = inline + 4096 * len(txn.puts)
        for path, factor in ((self.root, 1), (self._state_dir, 3)):
            free = free_bytes(path)
            if free < RESERVE_BYTES + factor * needed:
                raise NoSpace(f"{free} bytes free at {path}, {RESERVE_BYTES + factor * needed} needed")

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
                raise BadTransaction(f"staged content {sha} is not a regular file")
            return file.read()

    def _find_replaced(self, txn: Transaction, agreed: Manifest) -> list[Kept]:
        found = []
        wanted: list[tuple[str, Entry | None]] = [(path, None) for path in txn.deletes]
        wanted += [(entry.path, entry) for entry in txn.puts]
        for path, entry in wanted:
            try:
                present = read_file(self.root, path)
            except (OSError, ValueError):
                continue
            if present is None or (entry is not None and present.entry.sha256 == entry.sha256):
                continue
            old = present.entry
            known = agreed.find(path)
            divergence = known is None or known.sha256 != old.sha256
            reason = "deleted" if entry is None else "replaced"
            found.append(Kept(path, old.mode, old.sha256, present.content, reason, divergence))
        return found

    def _apply(self, txn: Transaction, report: Committed) -> None:
        known = {kept.path: kept.sha256 for kept in report.kept}
        for path in txn.deletes:
            with _collect_failure(report, path):
                self._keep_late(path, self._delete(path), {known.get(path)}, txn, report)
        for entry in txn.puts:
            with _collect_failure(report, entry.path):
                self._keep_late(entry.path, self._put(entry, txn), {known.get(entry.path), entry.sha256}, txn, report)

    def _keep_late(self, path: str, gone: Found | None, known: set[str | None], txn: Transaction, report: Committed) -> None:
        """Keeps what left the registry where somebody wrote it after the journal had taken the old content.

        What a power failure left without its content is nothing to keep. Raises ``OSError``.
        """
        if gone is None or gone.entry.sha256 in known or not gone.content.strip(b"\0"):
            return
        kept = Kept(path, gone.entry.mode, gone.entry.sha256, gone.content, "written while it was replaced", True)
        write_kept(os.path.join(self._kept_dir, f"{txn.epoch}.{txn.generation}"), kept)
        report.kept.append(kept)

    def _put(self, entry: Entry, txn: Transaction) -> Found | None:
        data = txn.contents[entry.sha256] if entry.sha256 in txn.contents else self._staged(txn, entry.sha256)
        with _open_parent(self.root, entry.path, create=True) as (parent, name):
            _clear_way(parent, name)
            return self._install(parent, name, data, entry.mode)

    def _install(self, parent: int, name: str, data: bytes, mode: int) -> Found | None:
        """Puts ``data`` at ``name`` in one step; returns what stood there, None where that cannot be told.

        The new file is made in the staging directory, where no watcher looks, and exchanged with the old one: a rename
        over an existing file makes ext4 write the new one's data first, an exchange does not (the journal has it).
        """
        if self._one_mount:
            staging = os.open(self._staging, _DIR)
            try:
                # What was exchanged out of the registry stays here until the next checkpoint.
                return _read_leftover(staging, _install_from(staging, parent, name, data, mode))
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                self._one_mount = False
            finally:
                os.close(staging)
        leftover = _install_from(parent, parent, name, data, mode)
        found = _read_leftover(parent, leftover)
        if leftover is not None:
            os.unlink(leftover, dir_fd=parent)
        return found

    def _delete(self, path: str) -> Found | None:
        """Removes a file; returns what it held at last."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            with _open_parent(self.root, path, create=False) as (parent, name):
                found = _unlink(parent, name)
            _remove_empty_parents(self.root, path)
            return found
        return None


@contextlib.contextmanager
def _collect_failure(report: Committed, path: str) -> Iterator[None]:
    try:
        yield
    except (OSError, BadTransaction) as error:
        report.failed[path] = reason_of(error)


def _install_from(workshop: int, parent: int, name: str, data: bytes, mode: int) -> str | None:
    """Makes the new file in directory ``workshop`` and exchanges it with ``name`` in ``parent``.

    Returns the name in ``workshop`` under which the old file now stands, None where there was none. Raises ``OSError``.
    """
    temporary = f"{TEMPORARY}{secrets.token_hex(8)}"
    write_new(temporary, data, mode, dir_fd=workshop)
    try:
        if _exchange(workshop, temporary, parent, name):
            return temporary
        os.rename(temporary, name, src_dir_fd=workshop, dst_dir_fd=parent)
        return None
    except OSError:
        os.unlink(temporary, dir_fd=workshop)
        raise


def _read_leftover(workshop: int, name: str | None) -> Found | None:
    """What a file that left the registry holds; None where there is none, or none that can be read as a conf."""
    if name is None:
        return None
    with contextlib.suppress(OSError, ValueError), open(_open_file(name, workshop), "rb") as file:
        return read_open(file.fileno(), name)
    return None


def _unlink(parent: int, name: str) -> Found | None:
    """Removes ``name`` and returns what it held when its name was gone. Raises ``OSError``."""
    try:
        fd = _open_file(name, parent)
    except OSError:
        os.unlink(name, dir_fd=parent)
        return None
    with open(fd, "rb"):
        os.unlink(name, dir_fd=parent)
        with contextlib.suppress(OSError, ValueError):
            return read_open(fd, name)
    return None


def _open_file(name: str, directory: int) -> int:
    return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)


def _exchange(workshop: int, temporary: str, parent: int, name: str) -> bool:
    """Exchanges the two names (renameat2(2)); False where only a plain rename is possible. Raises ``OSError``."""
    if libc.renameat2(workshop, os.fsencode(temporary), parent, os.fsencode(name), RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOENT, errno.EINVAL, errno.ENOSYS):
        return False
    raise OSError(code, os.strerror(code), name)


def _sync_file(parent: int, name: str) -> None:
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
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


def _remove_empty_parents(root: str, path: str) -> None:
    parts = path.split("/")[:-1]
    while parts:
        try:
            os.rmdir(os.path.join(root, *parts))
        except OSError:
            return
        parts.pop()


def sweep_temporaries(root: str) -> int:
    """Removes files in the making that a crash left below ``root``; returns how many."""
    removed = 0
    for directory, _, names in os.walk(root):
        for name in names:
            if name.startswith(TEMPORARY):
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(directory, name))
                    removed += 1
    return removed
