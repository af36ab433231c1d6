"""Durable files: what is written here is on disk, or not there at all, whatever happens in between."""

from __future__ import annotations

import ctypes
import os
import secrets


def fsync_dir(path: str) -> None:
    """Puts the directory's own entries on disk. Raises ``OSError``."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes) -> None:
    """Writes all of ``data``, however often the kernel takes only a part. Raises ``OSError``."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def write_atomic(path: str, data: bytes, mode: int = 0o600, *, durable: bool = True) -> None:
    """Replaces ``path`` by ``data`` in one step, with exactly ``mode`` whatever the umask is.

    ``durable`` also waits for the disk (temporary file, fsync, rename, fsync of the directory). A failure raises
    ``OSError`` and leaves the old file as it was.
    """
    directory = os.path.dirname(path) or "."
    temporary = os.path.join(directory, f".ha-agent.{secrets.token_hex(8)}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        try:
            os.fchmod(fd, mode)
            write_all(fd, data)
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise
    if durable:
        fsync_dir(directory)


def make_dir(path: str, mode: int) -> None:
    """Makes sure that the directory ``path`` exists with exactly ``mode``, whatever the umask is. Raises ``OSError``."""
    os.makedirs(path, exist_ok=True)
    if (os.stat(path).st_mode & 0o7777) != mode:
        os.chmod(path, mode)


def sync_file_system(path: str) -> None:
    """Puts everything of the file system that holds ``path`` on disk (syncfs(2)), one call for any number of files."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if libc.syncfs(fd) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), path)
    finally:
        os.close(fd)


def free_bytes(path: str) -> int:
    """Bytes that the file system of ``path`` still takes from an unprivileged writer."""
    stat = os.statvfs(path)
    return stat.f_bavail * stat.f_frsize


def read_or_none(path: str) -> bytes | None:
    """The content of ``path``; None where there is no such file. Raises ``OSError`` for anything else."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
