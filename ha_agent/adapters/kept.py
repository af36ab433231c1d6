"""Kept copies: every content that replication (or a restore) replaced or deleted, with its reason, by generation.

They lie in ``kept/EPOCH.GENERATION/`` below the state directory under their paths in the registry, each with a line in that
directory's ``.kept.jsonl``.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ha_agent.adapters.files import make_dir, write_all
from ha_agent.core.names import is_registry_path
from ha_agent.core.places import StatePlaces

_INDEX = ".kept.jsonl"
_NAME_ERRORS = frozenset({errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTDIR, errno.EISDIR})
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Kept:
    """One content that was replaced or deleted."""

    path: str
    mode: int
    sha256: str
    content: bytes
    reason: str
    divergence: bool

    def to_row(self) -> list[Any]:
        """The kept content as it stands in the journal."""
        text = base64.b64encode(self.content).decode("ascii")
        return [self.path, self.mode, self.sha256, text, self.reason, self.divergence]

    @classmethod
    def from_row(cls, row: list[Any]) -> Kept:
        """The inverse of ``to_row``."""
        path, mode, sha256, text, reason, divergence = row
        return cls(path, mode, sha256, base64.b64decode(text), reason, divergence)


@dataclass(frozen=True, slots=True)
class KeptEntry:
    """What is known of one kept copy without reading it. ``at`` is a wall clock time."""

    generation: str
    path: str
    at: float
    mode: int
    sha256: str
    reason: str
    divergence: bool
    size: int


def write_kept(directory: str, kept: Kept) -> None:
    """Stores one replaced content, with a line on it in the directory's index. Idempotent. Raises ``OSError``."""
    make_dir(directory, 0o700)
    for name in _names_of(kept.path, kept.sha256)[::-1]:
        target = os.path.join(directory, name)
        if os.path.isfile(target):
            with open(target, "rb") as file:
                if file.read() == kept.content:
                    return
            continue
        try:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            write_new(target, kept.content, kept.mode)
            break
        except OSError as error:
            # A name that became too long, or a file where this path needs a directory: the next name has neither.
            if error.errno not in _NAME_ERRORS:
                raise
    line = {
        "at": round(time.time(), 3),
        "path": kept.path,
        "mode": kept.mode,
        "sha256": kept.sha256,
        "reason": kept.reason,
        "divergence": kept.divergence,
    }
    with open(os.path.join(directory, _INDEX), "a", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(json.dumps(line) + "\n")


def write_new(path: str, data: bytes, mode: int, dir_fd: int | None = None) -> None:
    """Makes a new file with exactly ``mode``, of this process's user and group. Raises ``OSError``; no file is left then."""
    fd = os.open(path, _NEW, 0o600, dir_fd=dir_fd)
    try:
        write_all(fd, data)
        # In a directory with the setgid bit the file has that one's group.
        os.fchown(fd, -1, os.getegid())
        os.fchmod(fd, mode)
    except OSError:
        os.unlink(path, dir_fd=dir_fd)
        raise
    finally:
        os.close(fd)


def _generation_names(kept: str) -> list[str]:
    """The generations there are, oldest first."""
    try:
        names = [n for n in os.listdir(kept) if n.replace(".", "").isdigit() and n.count(".") == 1]
    except FileNotFoundError:
        return []
    return sorted(names, key=lambda n: tuple(map(int, n.split("."))))


def _read_index(kept: str, generation: str) -> Iterator[KeptEntry]:
    directory = os.path.join(kept, generation)
    with contextlib.suppress(OSError), open(os.path.join(directory, _INDEX), encoding="utf-8") as file:
        for line in file:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                row = json.loads(line)
                path, sha256 = str(row["path"]), str(row["sha256"])
                found = _find_file(directory, path, sha256)
                if found is not None:
                    at, mode, divergence = float(row["at"]), int(row["mode"]), bool(row["divergence"])
                    yield KeptEntry(generation, path, at, mode, sha256, str(row["reason"]), divergence, found[1])


def _names_of(path: str, sha256: str) -> tuple[str, ...]:
    """The names that a kept content may have in its generation's directory, the rarest first.

    A second content of the same path has its digest behind the path's own name. Where neither can be a file there, the
    content lies under its digest, a hidden name that no path of a registry has.
    """
    return f".{sha256}", f"{path}.{sha256[:12]}", path


def _find_file(directory: str, path: str, sha256: str) -> tuple[str, int] | None:
    """The file that holds a kept content, and its size."""
    for name in _names_of(path, sha256):
        target = os.path.join(directory, name)
        with contextlib.suppress(OSError):
            return target, os.stat(target, follow_symlinks=False).st_size
    return None


def list_kept(state_dir: str) -> list[KeptEntry]:
    """Every kept copy, oldest generation first."""
    kept = StatePlaces(state_dir).kept
    return [entry for name in _generation_names(kept) for entry in _read_index(kept, name)]


def find_kept(state_dir: str, generation: str, path: str, sha256: str) -> KeptEntry | None:
    """What is known of one kept copy; None where there is none."""
    kept = StatePlaces(state_dir).kept
    if generation not in _generation_names(kept):
        return None
    return next((e for e in _read_index(kept, generation) if (e.path, e.sha256) == (path, sha256)), None)


def read_kept(state_dir: str, generation: str, path: str, sha256: str) -> bytes | None:
    """The content of one kept copy; None where there is none (any more) with this digest. Raises ``OSError``."""
    kept = StatePlaces(state_dir).kept
    if generation not in _generation_names(kept) or not is_registry_path(path):
        return None
    for name in _names_of(path, sha256):
        target = os.path.join(kept, generation, name)
        try:
            with open(target, "rb", opener=_open_no_link) as file:
                content = file.read()
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno not in _NAME_ERRORS:
                raise
            continue
        if hashlib.sha256(content).hexdigest() == sha256:
            return content
    return None


def _open_no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)


def prune_kept(state_dir: str, keep_generations: int, *, before_wall: float | None = None, divergences: bool = False) -> int:
    """Removes the oldest kept generations beyond ``keep_generations``; says how many.

    Where ``before_wall`` is given, only generations whose newest copy is older. A generation with a divergence stays unless
    ``divergences``.
    """
    kept = StatePlaces(state_dir).kept
    names = _generation_names(kept)
    removed = 0
    for name in names[: max(0, len(names) - keep_generations)]:
        entries = list(_read_index(kept, name))
        if not divergences and any(entry.divergence for entry in entries):
            continue
        if before_wall is not None and any(entry.at >= before_wall for entry in entries):
            continue
        shutil.rmtree(os.path.join(kept, name), ignore_errors=True)
        removed += 1
    return removed
