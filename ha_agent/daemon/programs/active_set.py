"""The active set in /run and this node's readiness: what supervisord is given, and what it would be given.

Must not talk to supervisord about programs: loading is the takeover's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from ha_agent.adapters.conf_checker import CheckerFailed, ConfChecker
from ha_agent.adapters.files import discard, make_dir, write_atomic
from ha_agent.core.confs import Selection, Verdict, refuse_local, render_conf, select_confs
from ha_agent.core.file_keys import read_files
from ha_agent.core.manifest import EMPTY, Manifest, diff_manifests
from ha_agent.core.names import active_name, former_active_name, is_loadable_name
from ha_agent.core.order_keys import MARK, read_order

log = logging.getLogger(__name__)

OF_ONE_FILE = frozenset({errno.ENAMETOOLONG, errno.EISDIR, errno.EILSEQ, errno.EINVAL})
"""Errors of writing one file that say nothing of the others. A full disk, or one that cannot be written, concerns all."""


FEW, ROUND = 64, 12
"""So many files, or this part of them, are looked at each time while nothing was added to their directory or taken away."""

SETTLED_NS = 1_000_000_000


class ActiveSet:
    """Verdicts on every conf of the registry, and the directory that supervisord includes."""

    def __init__(
        self,
        registry: str,
        directory: str,
        checker: ConfChecker,
        read_content: Callable[[str, str], bytes | None],
        local_names: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        """``registry``: the path of the registry; ``directory``: the one that supervisord includes.

        ``local_names``: of programs and groups outside the registry, read from files when something is judged.
        """
        self._registry = registry
        self._checker = checker
        self._read_content = read_content
        self._local_names = local_names
        self._local: frozenset[str] = frozenset()
        self._verdicts: dict[str, tuple[str, Verdict]] = {}
        self._followed: Manifest = EMPTY
        """The manifest that ``_verdicts`` and ``_lacking`` are about."""
        self._lacking: set[str] = set()
        """Confs without a verdict."""
        self._is_selected = True
        """Whether ``selection`` is what follows from the verdicts; not while they change."""
        self._whole: tuple[Manifest, Selection, frozenset[str]] | None = None
        """What the directory holds without any lack, with the names of its files; None where that is not known."""
        self._written: dict[str, str] = {}
        self._files_seen: dict[str, tuple[int, int, int]] = {}
        """What each file looked like when it was written."""
        self._lock = asyncio.Lock()
        self._writing = asyncio.Lock()
        self._files = threading.Lock()
        """Held for each change of the directory: a writing that began before must not fill what ``remove`` emptied."""
        self._removals = 0
        self._damages = 0
        self._changed_ns: int | None = None
        self._looked = 0
        self.directory = directory
        self.judged: Manifest = EMPTY
        self.selection = Selection()
        self.failure: str | None = None
        self.has_judged = False
        """Whether ``selection`` is about the registry at all: it is empty before the first judgement."""

    @property
    def is_current(self) -> bool:
        """Whether the last judgement could be made at all."""
        return self.failure is None

    async def judge(self, manifest: Manifest, *, afresh: bool = False) -> Selection:
        """The selection for ``manifest``. Asks the parser only about confs whose content it has not seen, unless ``afresh``.

        When the parser cannot be asked (``failure`` then says why), confs without a verdict are not loadable.
        """
        async with self._lock:
            former = self._follow(manifest, afresh=afresh)
            local_before = self._local
            lacking = sorted(self._lacking)
            if lacking:
                self._local = await asyncio.to_thread(self._local_names)
            verdicts = await self._ask(lacking) if lacking else {}
            # Most edits change nothing of what a conf defines: then the other thousand need not be put together again.
            if not self._is_selected or verdicts != former or self._local != local_before:
                merged = {**{p: v for p, (_, v) in self._verdicts.items()}, **verdicts}
                self.selection = select_confs(refuse_local(merged, self._local))
                self._is_selected = not self._lacking
            self.judged, self.has_judged = manifest, True
            return self.selection

    def _follow(self, manifest: Manifest, *, afresh: bool) -> dict[str, Verdict]:
        """Forgets the verdicts on what is changed or gone in ``manifest``; returns those on confs that are still there."""
        if afresh:
            self._verdicts.clear()
            self._lacking.clear()
            self._followed, self._is_selected = EMPTY, False
        change = diff_manifests(self._followed, manifest)
        self._followed = manifest
        former: dict[str, Verdict] = {}
        for path in filter(is_loadable_name, change.deletes):
            self._verdicts.pop(path, None)
            self._lacking.discard(path)
            self._is_selected = False
        for entry in change.puts:
            known = self._verdicts.get(entry.path)
            if is_loadable_name(entry.path) and (known is None or known[0] != entry.sha256):
                self._lacking.add(entry.path)
                if known is not None:
                    former[entry.path] = self._verdicts.pop(entry.path)[1]
        # Until all of them are judged ``selection`` says what was before.
        self._is_selected = self._is_selected and former.keys() == self._lacking
        return former

    async def _ask(self, paths: list[str]) -> dict[str, Verdict]:
        wanted = {path: entry.sha256 for path in paths if (entry := self._followed.find(path)) is not None}
        texts: dict[str, str] = {}
        for number, path in enumerate(paths):
            content = self._read_content(path, wanted[path])
            if content is not None:
                texts[path] = content.decode("utf-8", "surrogateescape")
            if number % 200 == 199:
                await asyncio.sleep(0)
        directories = {p: os.path.dirname(os.path.join(self._registry, p)) for p in texts}
        try:
            verdicts = await self._checker.judge(texts, directories)
            self.failure = None
        except CheckerFailed as error:
            self.failure = str(error)
            log.error("confs cannot be checked: %s", error)
            return {p: Verdict(problem=f"not checked: {error}") for p in paths}
        verdicts = {p: _with_keys(v, texts[p], directories[p]) for p, v in verdicts.items()}
        self._verdicts.update((p, (wanted[p], v)) for p, v in verdicts.items())
        self._lacking -= verdicts.keys()
        gone = {p: Verdict(problem="changed or vanished while it was read") for p in paths if p not in verdicts}
        return {**verdicts, **gone}

    def verdict_of(self, path: str) -> Verdict | None:
        """What was found of the conf at ``path`` when it was last judged."""
        known = self._verdicts.get(path)
        return known[1] if known else None

    async def write(self, *, keep_last_good: bool) -> None:
        """Makes the directory hold what was judged last; ``keep_last_good`` leaves the old content of confs with problems.

        A conf whose own file cannot be written becomes one with a problem, and the others are written without it. A
        ``remove`` that comes meanwhile wins. Raises ``OSError`` for what concerns all files.
        """
        async with self._writing:
            removals = self._removals
            while failed := await asyncio.to_thread(self._write, self.judged, self.selection, keep_last_good, removals):
                for path, problem in failed.items():
                    log.error("%s: %s", path, problem)
                    self._blame(path, problem)

    def _write(self, manifest: Manifest, selection: Selection, keep_last_good: bool, removals: int) -> dict[str, str]:
        """Writes everything; the problems of confs that could not be written, by path: then nothing was taken away yet."""
        make_dir(self.directory, 0o700)
        if keep_last_good and not self._written:
            self._rename_former(manifest, selection)
        keep: set[str] = set()
        failed: dict[str, str] = {}
        with self._files:
            whole, self._whole, damages = self._whole, None, self._damages
        paths: Iterable[str] = selection.loadable
        if keep_last_good and whole is not None and whole[1] is selection:
            changed = diff_manifests(whole[0], manifest).puts
            paths = [e.path for e in changed if is_loadable_name(e.path) and e.path not in selection.problems]
            keep |= whole[2]
        is_whole = True
        for path in paths:
            entry = manifest.find(path)
            if entry is None:
                continue
            name = active_name(path)
            keep.add(name)
            stamp = self._stamp(entry.sha256, path, selection)
            if self._written.get(name) == stamp:
                continue
            content = self._read_content(path, entry.sha256)
            is_whole = is_whole and content is not None
            try:
                if content is not None and not self._write_one(name, path, content, selection, removals, stamp):
                    return {}
            except OSError as error:
                if error.errno not in OF_ONE_FILE:
                    raise
                failed[path] = f"cannot be written into {self.directory}: {error.strerror}"
        if failed:
            return failed
        if keep_last_good:
            keep |= {active_name(p) for p in selection.problems}
        with self._files:
            if removals != self._removals:
                return {}
            for name in set(os.listdir(self.directory)) - keep:
                discard(os.path.join(self.directory, name))
                self._written.pop(name, None)
            # What was found damaged meanwhile has to be written by the next call, whatever the difference is by then.
            if is_whole and damages == self._damages:
                self._whole = manifest, selection, frozenset(keep)
        return {}

    def _rename_former(self, manifest: Manifest, selection: Selection) -> None:
        """Gives the last good content of a conf with a problem its present name, where an older agent used another.

        The content of a conf without one is written again anyway.
        """
        own = {active_name(entry.path) for entry in manifest}
        for path in selection.problems:
            former, name = former_active_name(path), active_name(path)
            if former != name and former not in own and not os.path.lexists(os.path.join(self.directory, name)):
                # Where the name is too long it is nobody's.
                with contextlib.suppress(OSError), self._files:
                    os.rename(os.path.join(self.directory, former), os.path.join(self.directory, name))

    def keep(self) -> bool:
        """Forgets that files were written which are not there as they were; says whether there are any.

        ``write`` must follow then. A file that is gone or replaced is noticed at once, one that was written into within
        ``ROUND`` looks. Raises ``OSError`` where the directory cannot be made.
        """
        made = make_dir(self.directory, 0o700)
        with self._files:
            looks = {name: _look_of(os.path.join(self.directory, name)) for name in self._names_to_look_at()}
            changed = [name for name, look in looks.items() if look != self._files_seen[name]]
            for name in changed:
                del self._written[name]
            if made or changed:
                self._damages += 1
                self._whole = None
        return made or bool(changed)

    def _names_to_look_at(self) -> list[str]:
        """All files where an entry of the directory has changed since the last look, else the next ones in turn.

        A directory's time says that; a young one may hide a second change within the same tick of the kernel's clock.
        """
        names = list(self._written)
        changed_ns = os.stat(self.directory).st_mtime_ns
        is_quiet = changed_ns == self._changed_ns
        self._changed_ns = changed_ns if time.time_ns() - changed_ns > SETTLED_NS else None
        if not is_quiet or len(names) <= FEW:
            return names
        count = max(FEW, -(-len(names) // ROUND))
        start, self._looked = self._looked, (self._looked + count) % len(names)
        return (names + names)[start : start + count]

    def _stamp(self, sha: str, path: str, selection: Selection) -> str:
        verdict = self._verdicts.get(path)
        members = [(g, selection.groups.get(g, ())) for g in verdict[1].groups] if verdict else []
        return sha + (hashlib.sha256(repr(members).encode()).hexdigest() if members else "")

    def _write_one(self, name: str, path: str, content: bytes, selection: Selection, removals: int, stamp: str) -> bool:
        """Writes one file, unless the set was removed since; says whether it did."""
        text = content.decode("utf-8", "surrogateescape")
        directory = os.path.dirname(os.path.join(self._registry, path))
        data = render_conf(text, directory, selection.groups).encode("utf-8", "surrogateescape")
        with self._files:
            if removals != self._removals:
                return False
            path_of_file = os.path.join(self.directory, name)
            write_atomic(path_of_file, data, 0o600, durable=False)
            self._written[name], self._files_seen[name] = stamp, _look_of(path_of_file)
        return True

    def drop(self, name: str, reason: str) -> str | None:
        """Takes the conf of active file ``name`` out, because supervisord refused it; returns its path."""
        for path in self.selection.loadable:
            if active_name(path) == name:
                self._blame(path, reason)
                return path
        return None

    def _blame(self, path: str, problem: str) -> None:
        """Notes ``problem`` of a conf that was judged loadable, until its content is another one or all is judged afresh."""
        known = self._verdicts.get(path)
        if known is not None:
            self._verdicts[path] = (known[0], Verdict(problem=problem))
        self.selection = select_confs(refuse_local({p: v for p, (_, v) in self._verdicts.items()}, self._local))
        self._is_selected = False

    def remove(self) -> None:
        """Empties the directory, so that a supervisord that starts now finds nothing of the registry. Raises ``OSError``."""
        with self._files:
            self._removals += 1
            self._written.clear()
            self._whole = None
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                for name in os.listdir(self.directory):
                    discard(os.path.join(self.directory, name))


def _with_keys(verdict: Verdict, text: str, here: str) -> Verdict:
    """The verdict with what the conf says in the agent's comments. What is wrong of that is lint's business."""
    if MARK not in text:
        return verdict
    return replace(verdict, order_keys=read_order(text)[0], file_keys=read_files(text, here)[0])


def _look_of(path: str) -> tuple[int, int, int]:
    """Inode, time and size of a file; zeros where there is none."""
    try:
        seen = os.stat(path)
    except OSError:
        return 0, 0, 0
    return seen.st_ino, seen.st_mtime_ns, seen.st_size
