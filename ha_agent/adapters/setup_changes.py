"""The files that ``ha-agent setup`` changes on one node, and their way back.

Each step is on disk before the next one begins, and each can be done again: cut off after any of them, by a kill, a power
cut or a full disk, the same call continues, and an undo leads back from wherever it was. Nothing is deleted that somebody
may want: what an undo would overwrite or remove, and setup has not written, is put aside.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ha_agent.adapters.files import fsync_dir, make_dir, read_or_none, write_atomic
from ha_agent.core.setup_plan import FileChange, remove_peer_key, unpin_host_key

SAVED = ".before-ha-agent"
PEER = "peer_name"
"""What the record has beside its paths: under which name the peer's host key is pinned."""
ADOPTING = "adopting"
"""And which main conf of supervisord was replaced, until the pair is at work: by the kept one it is known what is loaded."""
RAN_BEFORE = "ran_before"
"""And that keepalived ran before there was a pair: an undo leaves it running."""
_WORDS = (PEER, ADOPTING, RAN_BEFORE)


def is_of_trust(path: str) -> bool:
    """Whether ``path`` says whose key is let in, or known: nothing of it that was taken back since may return."""
    return os.path.basename(path) in ("authorized_keys", "known_hosts")


@dataclass(frozen=True, slots=True)
class Undone:
    """What an undo did: paths that are as they were, and where contents lie that somebody had made since."""

    restored: tuple[str, ...] = ()
    aside: tuple[str, ...] = ()


def _nothing(_what: str) -> None:
    pass


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class SetupChanges:
    """For one node. ``record``: the file that says what was changed; ``aside``: the directory of what an undo puts aside.

    ``step`` is called before each thing that changes the disk, with a word for it.
    """

    def __init__(self, record: str, aside: str, step: Callable[[str], None] = _nothing) -> None:
        self._path, self._aside, self._step = record, aside, step

    def read(self) -> dict[str, Any]:
        """The record; empty where there is none. Raises ``OSError``, and ``ValueError`` for what is no record."""
        raw = read_or_none(self._path)
        return dict(json.loads(raw)) if raw else {}

    def _write(self, record: dict[str, Any]) -> None:
        self._step("record")
        make_dir(os.path.dirname(self._path), 0o700)
        write_atomic(self._path, json.dumps(record, indent=1).encode())

    def kept(self, path: str) -> bytes | None:
        """What ``path`` held before setup; None where setup has not changed it, or it was not there. Raises ``OSError``."""
        saved = _saved(self.read().get(path))
        return None if saved is None else read_or_none(saved)

    # ---- there --------------------------------------------------------------------------------------------------

    def apply(self, changes: Sequence[FileChange], **words: str) -> list[str]:
        """Makes ``changes``, in their order; returns their paths. ``words`` are noted in the record. Raises ``OSError``.

        What stood there is kept, and the record says so, before the first of them is changed.
        """
        due = [change for change in changes if change.is_due]
        record = {**self.read(), **words}
        for change in due:
            if is_of_trust(change.path):
                record.setdefault(change.path, None)
                continue
            if change.path not in record or _was_put_back(change, record[change.path]):
                record[change.path] = _entry(self._save(change), None)
            written = None if change.new is None else _digest(change.new.encode("utf-8", "surrogateescape"))
            record[change.path] = _entry(_saved(record[change.path]), written)
        if due or words:
            self._write(record)
        for change in due:
            self._change(change)
        return [change.path for change in due]

    def _save(self, change: FileChange) -> str | None:
        if change.old is None:
            return None
        folder, name = os.path.split(change.path)
        # Hidden from an [include] that takes every name.
        saved = os.path.join(folder, f".{name}{SAVED}") if change.is_conf else change.path + SAVED
        self._step(f"keep {change.path}")
        if change.target:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(saved)
            os.symlink(os.readlink(change.path), saved)
            fsync_dir(folder)
        else:
            write_atomic(saved, change.old.encode("utf-8", "surrogateescape"), _mode(change.path))
        return saved

    def _change(self, change: FileChange) -> None:
        self._step(f"change {change.path}")
        if change.new is None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(change.path)
            fsync_dir(os.path.dirname(change.path))
            return
        os.makedirs(os.path.dirname(change.path), mode=0o700 if is_of_trust(change.path) else 0o755, exist_ok=True)
        # A main conf with a password in it is nobody else's to read, before and after.
        mode = change.mode if change.old is None else _mode(change.path)
        write_atomic(change.path, change.new.encode("utf-8", "surrogateescape"), mode)

    def note(self, word: str, value: str | None) -> None:
        """Notes ``word`` in the record, or takes it out. Raises ``OSError``."""
        record = self.read()
        if record.get(word) != value:
            record.pop(word, None)
            self._write({**record, word: value} if value is not None else record)

    # ---- and back -----------------------------------------------------------------------------------------------

    def undo(self, peer: str) -> Undone:
        """Puts back everything that the record names, each path as soon as it is out of the record. Raises ``OSError``.

        Of the files of trust the peer's own line is taken out of what they are now; ``peer``: its name, where the record
        does not say.
        """
        record = self.read()
        peer = str(record.get(PEER) or peer)
        restored, aside = [], []
        for path in [path for path in record if path not in _WORDS]:
            if is_of_trust(path):
                self._step(f"distrust {path}")
                _distrust(path, peer)
                _remove(path + SAVED)
            else:
                aside += self._restore(path, record[path])
            del record[path]
            self._write(record)
            restored.append(path)
        if record:
            self._step("forget")
            _remove(self._path)
        return Undone(tuple(restored), tuple(aside))

    def _restore(self, path: str, entry: Any) -> list[str]:
        saved = _saved(entry)
        before = None if saved is None else read_or_none(saved)
        now = _content(path)
        aside = []
        if now is not None and now != before and _digest(now) != _written(entry):
            aside.append(self._put_aside(path, now))
        self._step(f"restore {path}")
        if saved is None:
            _remove(path)
        elif os.path.lexists(saved):
            os.replace(saved, path)
            fsync_dir(os.path.dirname(path))
        return aside

    def _put_aside(self, path: str, content: bytes) -> str:
        """Copies what stands at ``path`` to a name of its own; another copy of the same content is enough."""
        self._step(f"put aside {path}")
        make_dir(self._aside, 0o700)
        name = os.path.join(self._aside, os.path.basename(path))
        for target in (name, *(f"{name}.{number}" for number in range(1, 1000))):
            if (there := read_or_none(target)) is None or there == content:
                write_atomic(target, content, _mode(path))
                return target
        raise FileExistsError(f"{name}: too many copies")


def _entry(saved: str | None, written: str | None) -> dict[str, str | None]:
    return {"saved": saved, "written": written}


def _saved(entry: Any) -> str | None:
    """Where the former content is. Before 0.2 the record held nothing else."""
    return entry.get("saved") if isinstance(entry, dict) else entry


def _written(entry: Any) -> str | None:
    """The digest of what setup has written; None where the record does not say, or nothing was to be there."""
    return entry.get("written") if isinstance(entry, dict) else None


def _was_put_back(change: FileChange, entry: Any) -> bool:
    """Whether an undo that was cut off has put the former content back, and the record does not know it yet."""
    saved, old = _saved(entry), change.old
    if saved is None or os.path.lexists(saved) or old is None:
        return False
    return bool(change.target) or _digest(old.encode("utf-8", "surrogateescape")) != _written(entry)


def _mode(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def _content(path: str) -> bytes | None:
    try:
        return read_or_none(path)
    except IsADirectoryError:
        return None


def _distrust(path: str, peer: str) -> None:
    raw = read_or_none(path)
    if raw is None:
        return
    text = raw.decode("utf-8", "surrogateescape")
    left = remove_peer_key(text) if os.path.basename(path) == "authorized_keys" else unpin_host_key(text, peer)
    if left:
        write_atomic(path, left.encode("utf-8", "surrogateescape"), _mode(path))
    else:
        _remove(path)


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
