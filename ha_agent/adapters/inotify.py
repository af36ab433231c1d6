"""Hints that something changed below a directory, from inotify(7) itself, with a word for every hint that was lost.

The kernel says when its queue ran over, when a watch ended, and when a directory cannot be watched: each of them becomes the
hint EVERYTHING. Must not decide what is done then.
"""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import logging
import os
import select
import struct
import termios
import threading
import time
from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)

EVERYTHING = ""
"""The hint that any path may have changed."""

HintSink = Callable[[str], None]

# linux/inotify.h
IN_ATTRIB = 0x4
IN_CLOSE_WRITE = 0x8
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_MOVE_SELF = 0x800
IN_UNMOUNT = 0x2000
IN_Q_OVERFLOW = 0x4000
IN_IGNORED = 0x8000
IN_ONLYDIR = 0x01000000
IN_DONT_FOLLOW = 0x02000000
IN_ISDIR = 0x40000000

CAME, WENT = IN_CREATE | IN_MOVED_TO, IN_DELETE | IN_MOVED_FROM
ENDED = IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT | IN_IGNORED
WANTED = IN_ATTRIB | IN_CLOSE_WRITE | CAME | WENT | IN_DELETE_SELF | IN_MOVE_SELF
"""A file is looked at when its writer closes it, not at every write; reading it is nobody's business."""

_HEAD = struct.Struct("iIII")
READ_BYTES = 65536

GATHER_S = 0.002
"""An edit makes five events within a millisecond, which are read together. watchdog's threads tell of it at once; to wake
this thread for each of them as well made the commit of the edit wait for the interpreter.
"""

_libc = ctypes.CDLL(None, use_errno=True)
"""For inotify_init1(2) and its like, which ``os`` does not have."""


def parse_events(data: bytes) -> Iterator[tuple[int, int, str]]:
    """Watch descriptor, mask and name of each event of one read."""
    at = 0
    while at < len(data):
        wd, mask, _, length = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        yield wd, mask, os.fsdecode(data[at : at + length].rstrip(b"\0"))
        at += length


def is_hidden(path: str) -> bool:
    """Whether nothing follows from a change of the file at ``path``: the registry has no hidden files (``core/names``).

    Editors and this agent write under such a name first, several events each time; the rename is an event of its own.
    """
    return path.rpartition("/")[2].startswith(".")


class _Tree:
    """One directory with everything below it. ``problem``: why a part of it is not watched."""

    def __init__(self, root: str, sink: HintSink) -> None:
        self.root, self.sink = root, sink
        self.problem: str | None = None


class TreeReader:
    """Watches directories and all below them; sinks are called from its thread, with paths below the directory."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._trees: dict[str, _Tree] = {}
        self._places: dict[int, tuple[_Tree, str]] = {}
        """By watch descriptor: the tree, and the directory below its root ("" or "a/b/")."""
        self._fd = -1
        self._closing = -1
        self._thread: threading.Thread | None = None
        self._handing_over = False
        self._failure: str | None = None

    # ---- for the owner ------------------------------------------------------------------------------------

    def watch(self, root: str, sink: HintSink) -> None:
        """Begins (or begins again) to report changes below ``root``. Raises ``OSError``; it is not watched then."""
        with self._lock:
            self.unwatch(root)
            self._start()
            tree = _Tree(root, sink)
            self._add(tree, "")
            self._trees[root] = tree
            self._add_below(tree, "")

    def unwatch(self, root: str) -> None:
        """Forgets ``root``. Idempotent."""
        with self._lock:
            tree = self._trees.pop(root, None)
            if tree is not None:
                self._forget(tree, "")

    def problem(self, root: str) -> str | None:
        """Why changes below ``root`` may go unnoticed; None where none can."""
        tree = self._trees.get(root)
        return f"{root} is not watched" if tree is None else self._failure or tree.problem

    def has_unread(self) -> bool:
        """Whether the kernel holds events that no sink has heard of."""
        if self._fd < 0:
            return False
        count = array.array("i", [0])
        fcntl.ioctl(self._fd, termios.FIONREAD, count)
        return self._handing_over or count[0] > 0

    def close(self) -> None:
        """Ends the thread."""
        thread = self._thread
        if thread is not None:
            os.eventfd_write(self._closing, 1)
            thread.join(timeout=2)
        with self._lock:
            self._trees.clear()
            self._places.clear()
            for fd in (self._fd, self._closing):
                if fd >= 0:
                    os.close(fd)
            self._fd = self._closing = -1

    # ---- watches ------------------------------------------------------------------------------------------

    def _start(self) -> None:
        if self._fd >= 0:
            return
        self._fd = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise _error("inotify_init1")
        self._closing = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="inotify", daemon=True)
        self._thread.start()

    def _add(self, tree: _Tree, below: str) -> None:
        path = os.path.join(tree.root, below)
        mask = WANTED | IN_ONLYDIR | (IN_DONT_FOLLOW if below else 0)
        wd = _libc.inotify_add_watch(self._fd, os.fsencode(path.rstrip("/") or "/"), mask)
        if wd < 0:
            raise _error(path)
        self._places[wd] = (tree, below)

    def _add_below(self, tree: _Tree, below: str) -> None:
        """Watches every directory below ``below``, itself watched: what comes later is told by its events."""
        pending = [below]
        while pending:
            place = pending.pop()
            try:
                with os.scandir(os.path.join(tree.root, place)) as listing:
                    names = [item.name for item in listing if item.is_dir(follow_symlinks=False)]
            except OSError as error:
                self._note(tree, error)
                continue
            for name in names:
                if name.startswith("."):
                    continue
                try:
                    self._add(tree, f"{place}{name}/")
                except OSError as error:
                    self._note(tree, error)
                else:
                    pending.append(f"{place}{name}/")

    @staticmethod
    def _note(tree: _Tree, error: OSError) -> None:
        """A directory that is gone needs no watch; one that cannot be watched is a problem."""
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            tree.problem = f"{error.filename} cannot be watched: {error.strerror}; see fs.inotify.max_user_watches"

    def _forget(self, tree: _Tree, below: str) -> None:
        for wd, (owner, place) in list(self._places.items()):
            if owner is tree and place.startswith(below):
                del self._places[wd]
                _libc.inotify_rm_watch(self._fd, wd)

    # ---- reading ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._read_all()
        except Exception:  # what cannot be read any more is said, and compared all the time
            log.exception("inotify cannot be read any more")
            with self._lock:
                self._failure = "inotify cannot be read any more"
                sinks = [tree.sink for tree in self._trees.values()]
            for sink in sinks:
                sink(EVERYTHING)

    def _read_all(self) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(self._closing, select.POLLIN)
        while True:
            if any(fd == self._closing for fd, _ in poll.poll()):
                return
            time.sleep(GATHER_S)
            self._handing_over = True
            with self._lock:
                hints = self._take(self._read())
            for sink, path in hints:
                sink(path)
            self._handing_over = False

    def _read(self) -> bytes:
        try:
            return os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return b""

    def _take(self, data: bytes) -> list[tuple[HintSink, str]]:
        hints: dict[tuple[HintSink, str], None] = {}
        for wd, mask, name in parse_events(data):
            if mask & IN_Q_OVERFLOW:
                log.warning("inotify ran over: everything is compared")
                for tree in self._trees.values():
                    self._watch_again(tree)
                    hints[tree.sink, EVERYTHING] = None
            elif wd in self._places:
                tree, below = self._places[wd]
                hint = self._take_one(tree, wd, mask, below, name)
                if hint is not None:
                    hints[tree.sink, hint] = None
        return list(hints)

    def _watch_again(self, tree: _Tree) -> None:
        """After a loss: directories may have come and gone. The old watches stay until the new ones stand."""
        tree.problem = None
        try:
            self._add(tree, "")
        except OSError as error:
            self._note(tree, error)
        self._add_below(tree, "")

    def _take_one(self, tree: _Tree, wd: int, mask: int, below: str, name: str) -> str | None:
        """The hint of one event; None where there is nothing to look at."""
        if mask & ENDED:
            if mask & (IN_IGNORED | IN_UNMOUNT):
                self._places.pop(wd, None)
            return EVERYTHING
        if not mask & IN_ISDIR:
            return None if is_hidden(name) else below + name
        if mask & IN_ATTRIB:
            return None
        if mask & WENT:
            self._forget(tree, f"{below}{name}/")
        elif mask & CAME and not name.startswith("."):
            try:
                self._add(tree, f"{below}{name}/")
            except OSError as error:
                self._note(tree, error)
            else:
                self._add_below(tree, f"{below}{name}/")
        return EVERYTHING


def _error(what: str) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code), what)
