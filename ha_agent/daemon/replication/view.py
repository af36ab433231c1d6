"""What the daemon knows of its own registry: the manifest, kept right by hints and full compares.

Must not decide anything about the peer, and must not write into the registry.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence

from ha_agent.adapters.registry import (
    RegistryUnavailable,
    Scan,
    Signature,
    identify,
    read_file,
    scan_registry,
)
from ha_agent.adapters.watch import EVERYTHING, Watcher, WatchError
from ha_agent.core.manifest import EMPTY, Entry, Manifest
from ha_agent.core.names import is_registry_path
from ha_agent.core.reasons import reason_of
from ha_agent.core.settings import RegistrySettings

log = logging.getLogger(__name__)

MANY_HINTS = 500
"""From so many hinted paths on, one full compare is cheaper than looking at each."""

CACHE_BYTES = 256 * 1024


class RegistryView:
    """The manifest of the registry and the recent contents."""

    def __init__(self, settings: RegistrySettings, watcher: Watcher) -> None:
        self._settings = settings
        self._watcher = watcher
        self.on_change: list[Callable[[], None]] = []
        """Called after every change of the manifest, and when the registry becomes available or not."""
        self.agreed: Callable[[], Manifest] = lambda: EMPTY
        """What both nodes held last: what is known of a file that is refused before it was ever read."""
        self._loop = asyncio.get_running_loop()
        self._hints: set[str] = set()
        self._hint_scheduled = False
        self._signatures: dict[str, Signature] = {}
        self._contents: OrderedDict[str, bytes] = OrderedDict()
        self._content_bytes = 0
        self._device: int | None = None
        self._watched: tuple[int, int] | None = None
        self._scanning: asyncio.Task[None] | None = None
        self._scan_again = False
        self._landed: list[tuple[Sequence[Entry], Sequence[str]]] | None = None
        """What was committed since the compare under way began, which may have read what was there before."""
        self._doubts = 0
        self._settled_doubts = 0
        self._watch_problem: str | None = None
        self.manifest: Manifest = EMPTY
        self.refused: dict[str, str] = {}
        self.unavailable: str | None = "not read yet"
        self.foreign_device = False
        self.last_deletion_mono = 0.0

    async def start(self) -> None:
        """Watches the registry and reads it for the first time."""
        self._rewatch()
        await self.compare()

    def _tell_change(self) -> None:
        for listener in self.on_change:
            listener()

    def _rewatch(self) -> None:
        identity = identify(self._settings.path)
        if identity is None:
            self._watched = None
            return
        try:
            self._watcher.watch(self._settings.path, self.hint)
            self._watched = identity
        except WatchError as error:
            self._watched = None
            log.error("%s", error)

    def hint(self, path: str) -> None:
        """Notes that ``path`` (or EVERYTHING) may have changed. May be called from any thread."""
        self._hints.add(path)
        if not self._hint_scheduled:
            self._hint_scheduled = True
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._take_hints)

    def _take_hints(self) -> None:
        self._hint_scheduled = False
        if self._scanning is not None:
            self._doubts += 1
            self._scan_again = True
            return
        hints, self._hints = self._hints, set()
        if EVERYTHING in hints or len(hints) > MANY_HINTS or self.unavailable:
            self._doubts += 1
            self.check_identity(force=True)
            return
        self._look_at(hints)

    async def refresh(self, paths: set[str]) -> None:
        """Takes in what this agent has just done to ``paths``, without waiting for inotify."""
        if self._scanning is not None or self.unavailable:
            await self.compare_now()
        else:
            self._look_at(paths)

    def _look_at(self, paths: set[str]) -> None:
        before = self.manifest
        puts, deletes = [], []
        for path in paths:
            if not is_registry_path(path):
                continue
            try:
                found = read_file(self._settings.path, path)
            except (OSError, ValueError) as error:
                self.refused[path] = f"cannot be read: {reason_of(error)}"
                continue
            if found is not None and found.problem is not None:
                self.refused[path] = found.problem
                continue
            self.refused.pop(path, None)
            self._signatures.pop(path, None)
            if found is None:
                deletes.append(path)
            else:
                puts.append(found.entry)
                if found.links > 1:
                    self.request_compare()
                self._remember(found.entry.sha256, found.content)
        if any(path in before for path in deletes):
            if identify(self._settings.path) != self._watched:
                self.check_identity(force=True)
                return
            self.last_deletion_mono = self._loop.time()
        self._set(before.changed(puts, deletes))

    def _set(self, manifest: Manifest) -> None:
        if manifest is not self.manifest and manifest != self.manifest:
            self.manifest = manifest
            self._tell_change()

    def _remember(self, sha: str, content: bytes) -> None:
        if sha in self._contents or len(content) > CACHE_BYTES // 4:
            return
        self._contents[sha] = content
        self._content_bytes += len(content)
        while self._content_bytes > CACHE_BYTES:
            _, old = self._contents.popitem(last=False)
            self._content_bytes -= len(old)

    def read_content(self, path: str, sha: str) -> bytes | None:
        """The content of ``path`` where it (still) has the digest ``sha``, else None and a hint that it has not."""
        cached = self._contents.get(sha)
        if cached is not None:
            return cached
        try:
            found = read_file(self._settings.path, path)
        except (OSError, ValueError):
            found = None
        if found is None or found.entry.sha256 != sha:
            self.hint(path)
            return None
        return found.content

    def check_identity(self, *, force: bool = False) -> None:
        """Finds out whether the directory was removed or replaced, and compares everything if so (or if ``force``)."""
        identity = identify(self._settings.path)
        if identity != self._watched or identity is None:
            self._rewatch()
            force = force or identity is not None or self.unavailable is None
        elif self._watcher.problem(self._settings.path) is not None:
            self._rewatch()
            force = True
        self._note_watch()
        if force:
            self.request_compare()

    def _note_watch(self) -> None:
        problem = self._watcher.problem(self._settings.path)
        if problem != self._watch_problem and problem is not None:
            log.error("%s; everything is compared every few seconds until it can be", problem)
        self._watch_problem = problem

    @property
    def doubt(self) -> str | None:
        """Why the registry may have changed in a way that ``manifest`` does not show yet; None where it cannot have."""
        if self._watch_problem is not None:
            return self._watch_problem
        unseen = bool(self._hints) or self._watcher.has_unread() or self._doubts != self._settled_doubts
        return "changes of the registry are being looked at" if unseen else None

    def cast_doubt(self) -> None:
        """Compares everything, because hints may have been lost."""
        self._doubts += 1
        self.check_identity(force=True)

    def request_compare(self) -> None:
        """Begins a full compare, or another one after that under way."""
        if self._scanning is not None:
            self._scan_again = True
            return
        self._scanning = self._loop.create_task(self._compare_and_more())

    async def _compare_and_more(self) -> None:
        try:
            self._scan_again = True
            while self._scan_again:
                self._scan_again = False
                self._hints.clear()
                doubts = self._doubts
                await self.compare()
                self._settled_doubts = doubts
        finally:
            self._scanning = None

    def forget(self) -> None:
        """Has the next full compare read every file, whatever its signature says."""
        self._signatures.clear()
        self._contents.clear()
        self._content_bytes = 0

    async def compare_now(self) -> None:
        """Compares everything and returns when what is on the disk now is known."""
        self.request_compare()
        await self.settled()

    async def settled(self) -> None:
        """Waits until no full compare is under way."""
        while self._scanning is not None:
            await asyncio.wait({self._scanning})

    async def compare(self) -> None:
        """One full compare, in a thread."""
        before, landed = self.manifest, list[tuple[Sequence[Entry], Sequence[str]]]()
        self._landed = landed
        try:
            scan = await asyncio.to_thread(scan_registry, self._settings.path, before, self._signatures, self.agreed())
        except RegistryUnavailable as error:
            if self.unavailable != str(error):
                log.error("registry: %s", error)
                self.unavailable = str(error)
                self._tell_change()
            return
        finally:
            self._landed = None
        self._accept(scan, landed)

    def _accept(self, scan: Scan, landed: Sequence[tuple[Sequence[Entry], Sequence[str]]]) -> None:
        """Takes over what a compare has found, with what was ``landed`` since; of that the disk has the last word."""
        manifest = scan.manifest
        for puts, deletes in landed:
            manifest = manifest.changed(puts, deletes)
            self._scan_again = True
        was_unavailable, self.unavailable = self.unavailable, None
        device = scan.identity[0]
        self._device = self._device if self._device is not None else device
        self.foreign_device = device != self._device
        self._signatures, self.refused = scan.signatures, scan.refused
        if any(entry.path not in manifest for entry in self.manifest):
            self.last_deletion_mono = self._loop.time()
        if manifest != self.manifest or was_unavailable:
            self.manifest = manifest
            self._tell_change()

    def accept_device(self) -> None:
        """Takes the file system on which the registry is now for the right one (an operator's word)."""
        identity = identify(self._settings.path)
        self._device = identity[0] if identity else None
        self.foreign_device = False

    def committed(self, manifest: Manifest, puts: Sequence[Entry], deletes: Sequence[str]) -> None:
        """Takes over what the receiver has just written itself, as a whole and as the changes that it made."""
        if self._landed is not None:
            self._landed.append((puts, deletes))
        self.manifest = manifest
        self._tell_change()
