"""Durable files: what is written here is on disk, or not there at all, whatever happens in between.

And notes: small files in /run that must be right again soon, whatever somebody has made of them or of their directory.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import secrets
import shutil
import stat
from dataclasses import dataclass

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


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

    ``durable`` also waits for the disk (temporary file, fsync, rename, fsync of the directory). A directory that has taken
    the file's place is put aside. A failure raises ``OSError`` and leaves the old file as it was.
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
        try:
            os.rename(temporary, path)
        except IsADirectoryError:
            put_aside(path)
            os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise
    if durable:
        fsync_dir(directory)


def put_aside(path: str) -> None:
    """Makes the name ``path`` free: an empty directory goes, anything else is renamed ``NAME.aside-XXXXXXXX``.

    Raises ``OSError``, also where nothing is there.
    """
    with contextlib.suppress(OSError):
        os.rmdir(path)
        return
    os.rename(path, f"{path}.aside-{secrets.token_hex(4)}")


def make_dir(path: str, mode: int) -> bool:
    """Makes sure that the directory ``path`` exists with exactly ``mode``, whatever the umask is.

    Something else in its place is put aside. Says whether it had to be made. Raises ``OSError``.
    """
    made = not os.path.isdir(path)
    if made and os.path.lexists(path):
        put_aside(path)
    os.makedirs(path, exist_ok=True)
    if stat.S_IMODE(os.stat(path).st_mode) != mode:
        os.chmod(path, mode)
    return made


def write_note(path: str, data: bytes, mode: int = 0o644) -> None:
    """Replaces the note ``path``, and makes its directory where that is missing. Not durable: notes lie in /run.

    Where there is no room for a second file the note is overwritten in place: a reader may then see half of it, which is no
    worse than an old one. Raises ``OSError``; the note is the old one then, or damaged.
    """
    try:
        write_atomic(path, data, mode, durable=False)
    except (FileNotFoundError, NotADirectoryError):
        make_dir(os.path.dirname(path), 0o755)
        write_atomic(path, data, mode, durable=False)
    except OSError as error:
        if error.errno not in NO_ROOM or not os.path.isfile(path):
            raise
        _overwrite(path, data)


def _overwrite(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
    try:
        write_all(fd, data)
        os.ftruncate(fd, len(data))
    finally:
        os.close(fd)


def read_note(path: str) -> bytes | None:
    """The content of the note ``path``; None where it cannot be had, whatever the reason."""
    try:
        return read_or_none(path)
    except OSError:
        return None


def keep_note(path: str, data: bytes, mode: int = 0o644) -> bool:
    """Makes sure that the note ``path`` holds ``data``; says whether it had to be written. Raises ``OSError``."""
    if read_note(path) == data:
        return False
    write_note(path, data, mode)
    return True


def discard(path: str) -> None:
    """Takes away whatever stands at ``path``, with all that it holds: for directories that are the agent's alone.

    Raises ``OSError``; nothing where nothing is there.
    """
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except IsADirectoryError:
        shutil.rmtree(path)


def remove_note(path: str) -> None:
    """Removes the note ``path``, or what has taken its place. Raises ``OSError``; nothing where there is none."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except IsADirectoryError:
        put_aside(path)


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


@dataclass(frozen=True, slots=True)
class Room:
    """What a file system still takes: bytes, and new files (None where it does not count them)."""

    bytes: int
    files: int | None


def read_room(path: str) -> Room:
    """The room that is left in the file system of ``path``. Raises ``OSError``."""
    seen = os.statvfs(path)
    return Room(seen.f_bavail * seen.f_frsize, seen.f_favail if seen.f_files else None)


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
