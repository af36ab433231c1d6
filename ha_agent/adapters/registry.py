"""Reads the registry directory: one file or all of it, never through a symbolic link.

Must not write there: that is the receiver's commit alone.
"""

from __future__ import annotations

import grp
import hashlib
import os
import pwd
import stat
import time
from dataclasses import dataclass, field

from ha_agent.core.manifest import EMPTY, Entry, Manifest
from ha_agent.core.names import is_registry_path
from ha_agent.core.reasons import reason_of

MAX_CONF_BYTES = 4 * 1024 * 1024
RACY_NS = 50_000_000
"""A file changed so recently may change again within the same time stamp, so its signature proves nothing yet."""

Signature = tuple[int, int, int, int, int]


class RegistryUnavailable(Exception):
    """The registry cannot be read as a whole: nothing follows from what is not seen in it."""


@dataclass(frozen=True, slots=True)
class Found:
    """One file as it was read."""

    entry: Entry
    content: bytes
    signature: Signature | None
    links: int
    """How many names the file has: inotify reports a write only for the name that it went through."""
    problem: str | None = None
    """Why nothing may be taken from it: somebody else than root could have written it, and what it says runs as root."""


@dataclass(slots=True)
class Scan:
    """The outcome of a full compare."""

    manifest: Manifest
    signatures: dict[str, Signature] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    identity: tuple[int, int] = (0, 0)


def signature_of(info: os.stat_result) -> Signature:
    """What a stat says of a file's content without reading it. Includes ctime, which no program can set back."""
    return (info.st_mtime_ns, info.st_ctime_ns, info.st_size, info.st_ino, info.st_mode)


def _settled(info: os.stat_result, now_ns: int) -> Signature | None:
    return signature_of(info) if now_ns - info.st_ctime_ns > RACY_NS else None


def find_stranger(info: os.stat_result) -> str | None:
    """Why the file may say what root did not write, or None: its owner, others, or a group but root's may write it.

    Whoever runs the agent counts as root, which is root but in tests.
    """
    if info.st_uid not in (0, os.geteuid()):
        return f"belongs to {_name_of(info.st_uid)} and not to root: chown root"
    if info.st_mode & stat.S_IWOTH:
        return "may be written by everybody: chmod o-w"
    if info.st_mode & stat.S_IWGRP and info.st_gid not in (0, os.getegid()):
        return f"may be written by group {_group_name_of(info.st_gid)}: chmod g-w"
    return None


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _group_name_of(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def open_beneath(root: str, path: str) -> int:
    """A read-only descriptor of ``path`` below ``root``, no component of it a symbolic link. Raises ``OSError``."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        *parents, name = path.split("/")
        for part in parents:
            below = os.open(part, flags | os.O_DIRECTORY, dir_fd=directory)
            os.close(directory)
            directory = below
        return os.open(name, flags, dir_fd=directory)
    finally:
        os.close(directory)


def read_file(root: str, path: str) -> Found | None:
    """The registry file ``path`` as it is now; None where there is no such regular file.

    Raises ``OSError`` where it is there and cannot be read (a symbolic link gives ELOOP), and ``ValueError`` where
    it is longer than a conf may be.
    """
    try:
        fd = open_beneath(root, path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return read_open(fd, path)
    finally:
        os.close(fd)


def read_open(fd: int, path: str) -> Found | None:
    """What the open file ``fd`` holds, as the registry file ``path``; None where it is something else than a regular file.

    Raises ``OSError`` where it cannot be read, and ``ValueError`` where it is longer than a conf may be.
    """
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode):
        return None
    if info.st_size > MAX_CONF_BYTES:
        raise ValueError(f"{info.st_size} bytes; a conf may have {MAX_CONF_BYTES}")
    content = _read_all(fd, info.st_size)
    entry = Entry(path, stat.S_IMODE(info.st_mode) & 0o777, hashlib.sha256(content).hexdigest())
    return Found(entry, content, _settled(info, time.time_ns()), info.st_nlink, find_stranger(info))


def _read_all(fd: int, size: int) -> bytes:
    chunks = []
    while chunk := os.read(fd, max(size + 1, 4096)):
        chunks.append(chunk)
        size = 65536
    return b"".join(chunks)


def identify(root: str) -> tuple[int, int] | None:
    """Device and inode of the directory ``root``; None where it is not there (or no directory)."""
    try:
        info = os.stat(root)
    except OSError:
        return None
    return (info.st_dev, info.st_ino) if stat.S_ISDIR(info.st_mode) else None


def scan_registry(root: str, known: Manifest, signatures: dict[str, Signature], agreed: Manifest = EMPTY) -> Scan:
    """A full compare: the manifest of what is there now. Reads only files whose signature is not among ``signatures``.

    Of a file that is refused the entry of ``known`` stays, or that of ``agreed``: it is there, so it was not deleted.

    Raises ``RegistryUnavailable`` where the directory or a part of it cannot be listed, because then a missing file
    cannot be told from a deleted one.
    """
    identity = identify(root)
    if identity is None:
        raise RegistryUnavailable(f"{root} is not there")
    scan = Scan(known, identity=identity)
    entries: list[Entry] = []
    pending = [""]
    while pending:
        below = pending.pop()
        try:
            with os.scandir(os.path.join(root, below)) as listing:
                found = list(listing)
        except FileNotFoundError:
            if below:
                continue
            raise RegistryUnavailable(f"{root} is not there") from None
        except OSError as error:
            raise RegistryUnavailable(f"{os.path.join(root, below)}: {error.strerror}") from None
        for item in found:
            _look_at(root, below + item.name, item, known, signatures, scan, entries, pending)
    entries += [e for path in scan.refused if (e := known.find(path) or agreed.find(path)) is not None]
    scan.manifest = (
        known if len(entries) == len(known) and all(known.find(e.path) == e for e in entries) else Manifest.of(entries)
    )
    return scan


def _look_at(
    root: str,
    path: str,
    item: os.DirEntry[str],
    known: Manifest,
    signatures: dict[str, Signature],
    scan: Scan,
    entries: list[Entry],
    pending: list[str],
) -> None:
    if item.is_dir(follow_symlinks=False):
        if not item.name.startswith("."):
            pending.append(path + "/")
        return
    if not is_registry_path(path):
        return
    if item.is_symlink():
        scan.refused[path] = "is a symbolic link; put the file itself here"
        return
    try:
        info = item.stat(follow_symlinks=False)
        old = known.find(path)
        if old is not None and signatures.get(path) == signature_of(info):
            entries.append(old)
            scan.signatures[path] = signatures[path]
            return
        got = read_file(root, path)
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        scan.refused[path] = f"cannot be read: {reason_of(error)}"
        return
    if got is not None and got.problem is not None:
        scan.refused[path] = got.problem
    elif got is not None:
        entries.append(got.entry)
        if got.signature is not None:
            scan.signatures[path] = got.signature
