"""Hints that something changed below a directory, from inotify, through watchdog and read by ourselves.

A hint is never trusted to be complete: the kernel's queue overflows, and a watched directory can be removed or
replaced. The owner of a ``Watcher`` compares the whole directory now and then, and whenever a hint says so.
"""

from __future__ import annotations

import inspect
import os
from typing import Any

from watchdog import events
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers.api import EventQueue, ObservedWatch
from watchdog.observers.inotify import InotifyEmitter

from ha_agent.adapters.inotify import EVERYTHING, HintSink, TreeReader, is_hidden
from ha_agent.core.reasons import reason_of

__all__ = ["EVERYTHING", "HintSink", "WatchError", "Watcher"]

_IGNORED = {"opened", "closed_no_write"} | ({"modified"} if hasattr(events, "FileAttribEvent") else set())
"""A file is looked at when its writer closes it, not at every write. Older watchdogs call a chmod "modified", too."""


class WatchError(Exception):
    """The directory cannot be watched; the text says why (not there, or inotify limits reached)."""


class _Hints(FileSystemEventHandler):
    """Translates watchdog's events into relative paths. Runs in watchdog's thread."""

    def __init__(self, root: str, sink: HintSink) -> None:
        self._prefix = root.rstrip("/") + "/"
        self._sink = sink

    def dispatch(self, event: FileSystemEvent) -> None:
        if event.event_type in _IGNORED:
            return
        if event.is_directory:
            if event.event_type != "modified":
                self._sink(EVERYTHING)
            return
        for raw in (event.src_path, getattr(event, "dest_path", "")):
            path = os.fsdecode(raw)
            if path.startswith(self._prefix) and not is_hidden(path):
                self._sink(path[len(self._prefix) :])


class _RootOnly(FileSystemEventHandler):
    """Listens at the parent for the watched directory itself being made, moved or removed."""

    def __init__(self, root: str, sink: HintSink) -> None:
        self._root = root
        self._sink = sink

    def dispatch(self, event: FileSystemEvent) -> None:
        if event.event_type in ("created", "moved", "deleted") and self._root in (
            os.fsdecode(event.src_path),
            os.fsdecode(getattr(event, "dest_path", "")),
        ):
            self._sink(EVERYTHING)


def _wanted_events() -> dict[str, Any]:
    """The filter that keeps the kernel from reporting our own reads, where this watchdog has one."""
    if "event_filter" not in inspect.signature(InotifyEmitter.__init__).parameters:
        return {}
    names = ["FileClosedEvent", "FileDeletedEvent", "FileMovedEvent"]
    names += ["DirCreatedEvent", "DirDeletedEvent", "DirMovedEvent"]
    return {"event_filter": [getattr(events, name) for name in names if hasattr(events, name)]}


class _DirectEmitter(InotifyEmitter):
    """Hands events over in the thread that reads them, without watchdog's queue and second thread in between."""

    def __init__(self, handler: FileSystemEventHandler, watch: ObservedWatch, **options: Any) -> None:
        super().__init__(EventQueue(), watch, **options)
        self._handler = handler

    def queue_event(self, event: FileSystemEvent) -> None:
        """Called by watchdog for every event of this watch."""
        self._handler.dispatch(event)


class Watcher:
    """Watches directories and calls sinks from threads: watchdog's, and that of a reader of our own.

    Each hints at what it sees. watchdog does not tell in all of its versions that the kernel's queue ran over, that a
    directory could not be watched, or that its thread has died; the other reader does, and uses no name of watchdog's.
    """

    def __init__(self) -> None:
        self._emitters: dict[str, list[_DirectEmitter]] = {}
        self._reader = TreeReader()

    def watch(self, root: str, sink: HintSink, *, replaceable: bool = True) -> None:
        """Begins (or begins again, after the directory was replaced) to report changes below ``root``.

        ``replaceable``: the directory itself may come and go, so its parent is watched as well. Raises ``WatchError``. What
        was watched there before is forgotten either way.
        """
        self.unwatch(root)
        emitters = self._emitters.setdefault(root, [])
        try:
            self._reader.watch(root, sink)
            if replaceable:
                parent = os.path.dirname(root.rstrip("/"))
                emitters.append(_start_emitter(_RootOnly(root, sink), ObservedWatch(parent, recursive=False)))
            emitters.append(_start_emitter(_Hints(root, sink), ObservedWatch(root, recursive=True)))
        except OSError as error:
            self.unwatch(root)
            raise WatchError(f"cannot watch {root}: {reason_of(error)}; see fs.inotify.max_user_watches") from None

    def unwatch(self, root: str) -> None:
        """Forgets ``root``. Idempotent."""
        self._reader.unwatch(root)
        for emitter in self._emitters.pop(root, []):
            emitter.stop()

    def problem(self, root: str) -> str | None:
        """Why changes below ``root`` may go unnoticed; None where none can. Watching it again may help."""
        return self._reader.problem(root)

    def has_unread(self) -> bool:
        """Whether something has happened that no sink has heard of yet."""
        return self._reader.has_unread()

    def close(self) -> None:
        """Ends the threads."""
        emitters = [emitter for found in self._emitters.values() for emitter in found]
        for root in list(self._emitters):
            self.unwatch(root)
        self._reader.close()
        for emitter in emitters:
            emitter.join(timeout=2)


def _start_emitter(handler: FileSystemEventHandler, watch: ObservedWatch) -> _DirectEmitter:
    emitter = _DirectEmitter(handler, watch, **_wanted_events())
    emitter.start()
    return emitter
