"""Hints that something changed below a directory, from inotify by way of watchdog.

A hint is never trusted to be complete: the kernel's queue overflows, and a watched directory can be removed or
replaced. The owner of a ``Watcher`` compares the whole directory now and then, and whenever a hint says so.
"""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Callable
from typing import Any

from watchdog import events
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

EVERYTHING = ""
"""The hint that any path may have changed."""

HintSink = Callable[[str], None]


class WatchError(Exception):
    """The directory can not be watched; the text says why (not there, or inotify limits reached)."""


class _Hints(FileSystemEventHandler):
    """Translates watchdog's events into relative paths. Runs in watchdog's thread."""

    def __init__(self, root: str, sink: HintSink) -> None:
        self._prefix = root.rstrip("/") + "/"
        self._sink = sink

    def dispatch(self, event: FileSystemEvent) -> None:
        if event.event_type in ("opened", "closed_no_write"):
            return
        if event.is_directory:
            if event.event_type != "modified":
                self._sink(EVERYTHING)
            return
        for raw in (event.src_path, event.dest_path):
            path = os.fsdecode(raw)
            if path.startswith(self._prefix):
                self._sink(path[len(self._prefix) :])


class _RootOnly(FileSystemEventHandler):
    """Listens at the parent for the watched directory itself being made, moved or removed."""

    def __init__(self, root: str, sink: HintSink) -> None:
        self._root = root
        self._sink = sink

    def dispatch(self, event: FileSystemEvent) -> None:
        if event.event_type in ("created", "moved", "deleted") and self._root in (
            os.fsdecode(event.src_path),
            os.fsdecode(event.dest_path),
        ):
            self._sink(EVERYTHING)


class _OverflowHandler(logging.Handler):
    """watchdog tells of a queue overflow in its log alone (watchdog issue #654); older ones do not tell at all."""

    def __init__(self, sink: HintSink) -> None:
        super().__init__(logging.WARNING)
        self._sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        if "overflow" in record.getMessage():
            self._sink(EVERYTHING)


def _wanted_events() -> dict[str, Any]:
    """The filter that keeps the kernel from reporting our own reads, where this watchdog has one."""
    if "event_filter" not in inspect.signature(BaseObserver.schedule).parameters:
        return {}
    names = ["FileClosedEvent", "FileCreatedEvent", "FileDeletedEvent", "FileMovedEvent", "FileAttribEvent"]
    names += ["DirCreatedEvent", "DirDeletedEvent", "DirMovedEvent"]
    return {"event_filter": [getattr(events, name) for name in names if hasattr(events, name)]}


class Watcher:
    """Watches directories and calls sinks from its own threads. One inotify instance serves all of them."""

    def __init__(self) -> None:
        self._observer: Any = Observer()
        self._observer.start()
        self._watches: dict[str, list[Any]] = {}
        self._overflow: list[_OverflowHandler] = []

    def watch(self, root: str, sink: HintSink) -> None:
        """Begins (or begins anew, after the directory was replaced) to report changes below ``root``.

        Raises ``WatchError``. What was watched there before is forgotten either way.
        """
        self.unwatch(root)
        filters = _wanted_events()
        watches = self._watches.setdefault(root, [])
        try:
            parent = os.path.dirname(root.rstrip("/"))
            watches.append(self._observer.schedule(_RootOnly(root, sink), parent, recursive=False, **filters))
            watches.append(self._observer.schedule(_Hints(root, sink), root, recursive=True, **filters))
        except OSError as error:
            self.unwatch(root)
            raise WatchError(f"can not watch {root}: {error}; see fs.inotify.max_user_watches") from None
        handler = _OverflowHandler(sink)
        logging.getLogger("watchdog").addHandler(handler)
        self._overflow.append(handler)

    def unwatch(self, root: str) -> None:
        """Forgets ``root``. Idempotent."""
        for watch in self._watches.pop(root, []):
            try:
                self._observer.unschedule(watch)
            except (KeyError, OSError):
                continue

    def close(self) -> None:
        """Ends the threads."""
        for handler in self._overflow:
            logging.getLogger("watchdog").removeHandler(handler)
        self._observer.stop()
        self._observer.join(timeout=2)
