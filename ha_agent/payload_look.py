"""Looks at the files that programs need, as a process of its own: ``python -m ha_agent.payload_look``, JSON on its input.

A disk that does not answer (a dead NFS server) holds whoever asks it, and no signal ends that: the agent must not be the
one. This process has the lowest priority, opens regular files alone, and reads ``HASHED_BYTES`` of each and ``budget`` bytes
in all at most. It writes nothing, and says nothing of any content but its digest.

    {"programs": {"web": {"conf": "...", "runs": [["command", "/directory", ["/bin"], 1000]], "listed": ["/path"]}},
     "known": {"/path": [dev, inode, size, mtime_ns, ctime_ns, "digest", "#! line"]}, "ignore": [], "avoid": [],
     "budget": 268435456}

It answers with a JSON object a line: ``{"at": "/path"}`` before it asks the disk for a path, and last of all
``{"payload": {...}, "known": {...}}``.
"""

from __future__ import annotations

import functools
import json
import os
import stat
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ha_agent.core.payload import (
    HASHED_BYTES,
    LONGEST_TEXT,
    MOST_OF_A_PROGRAM,
    MOST_PATHS,
    Kind,
    Link,
    Mark,
    Named,
    Payload,
    ProgramPayload,
    UserMark,
    payload_message,
)
from ha_agent.core.payload_words import Candidate, Part, find_candidates, find_interpreter, is_ignored, is_written
from ha_agent.core.reasons import reason_of

CHUNK = 1 << 20
MOST_LINKS = 40
"""On one way; more are a circle to the kernel as well (path_resolution(7))."""

MOST_BYTES_OF_PATHS = 4 * 1024 * 1024
"""What all paths may take together: they travel in one frame."""

RACY_S = 2.0
"""A file that changed so shortly before it was read may change again without another time stamp."""

DEEPEST = 4
"""Interpreters of interpreters: the kernel has no more either (execve(2))."""

Known = list[Any]


class Looker:
    """One look at everything. ``known``: what was found of each path before, by which unchanged files are not read again."""

    def __init__(self, known: Mapping[str, Known], ignore: Sequence[str], avoid: Sequence[str], budget: int) -> None:
        self._before, self._ignore, self._avoid, self._budget = known, tuple(ignore), frozenset(avoid), budget
        self._marks: dict[str, Mark] = {}
        self._users: dict[str, UserMark] = {}
        self._lines: dict[str, bytes] = {}
        self._bytes = 0
        self._left_out = 0
        self._unread = 0
        self.known: dict[str, Known] = {}

    def look(self, programs: Mapping[str, Mapping[str, Any]]) -> Payload:
        """What there is of all that ``programs`` need."""
        found = {name: self._look_at_program(one) for name, one in programs.items()}
        return Payload(found, self._marks, self._users, tuple(self._remarks()), self._ignore)

    def _remarks(self) -> Iterator[str]:
        if self._left_out:
            yield f"{self._left_out} files are not compared: a node compares {MOST_PATHS}"
        for path, mark in self._marks.items():
            if mark.is_unread:
                yield f"{path}: {mark.problem}"

    # ---- programs -----------------------------------------------------------------------------------------

    def _look_at_program(self, one: Mapping[str, Any]) -> ProgramPayload:
        found: dict[tuple[Part, str], Named] = {}
        users: dict[str, None] = {}
        is_whole = True
        for named in self._find_named(one):
            if len(found) >= MOST_OF_A_PROGRAM or not self._take(named.path):
                is_whole = False
                break
            found.setdefault((named.part, named.word), named)
        for _, _, _, uid in one["runs"]:
            if uid is not None:
                users[self._look_at_user(uid)] = None
        return ProgramPayload(str(one["conf"]), tuple(found.values()), tuple(users), is_whole)

    def _find_named(self, one: Mapping[str, Any]) -> Iterator[Named]:
        for command, directory, search, _ in one["runs"]:
            if directory:
                yield Named(Part.DIRECTORY, directory, directory)
            for candidate in find_candidates(command, directory, search):
                yield from self._find_one(candidate, directory, search)
        for path in one["listed"]:
            yield from self._find_listed(path)

    def _find_one(
        self, candidate: Candidate, directory: str, search: Sequence[str], depth: int = DEEPEST
    ) -> Iterator[Named]:
        """The file that a candidate comes to, and its interpreter. A word that is no file on this node names nothing."""
        part = candidate.part
        path = next((path for path in candidate.paths if self._exists(path)), None)
        if part is Part.ARGUMENT:
            if path is None or self._mark(path).kind is not Kind.FILE:
                return
        elif path is None:
            path = candidate.paths[0]
        if is_ignored(path, self._ignore):
            return
        yield Named(part, candidate.word, path)
        if depth and (inner := find_interpreter(self._lines.get(path, b""), path, directory, search)):
            yield from self._find_one(inner, directory, search, depth - 1)

    def _find_listed(self, path: str) -> Iterator[Named]:
        """A path of ``files=``; of a directory all that is in it, but what programs write there."""
        yield Named(Part.LISTED, path, path)
        if self._mark(path).kind is not Kind.DIRECTORY:
            return
        for folder, folders, names in os.walk(path):
            _tell(folder)
            folders[:] = sorted(name for name in folders if name not in ("__pycache__", ".git"))
            for name in (*sorted(names), *folders):
                inner = os.path.join(folder, name)
                if not is_written(inner[len(path) :]) and not is_ignored(inner, self._ignore):
                    yield Named(Part.LISTED, inner, inner)

    def _take(self, path: str) -> bool:
        """Has the path marked; False where there are too many."""
        if path not in self._marks and (len(self._marks) >= MOST_PATHS or self._bytes > MOST_BYTES_OF_PATHS):
            self._left_out += 1
            return False
        self._mark(path)
        return True

    # ---- users --------------------------------------------------------------------------------------------

    @functools.cache  # noqa: B019 one look lives as long as its process
    def _look_at_user(self, uid: int) -> str:
        """The user's name, whose mark is kept; a number that no user has stands for itself."""
        import grp
        import pwd

        try:
            entry = pwd.getpwuid(uid)
        except KeyError:
            self._users[f"uid {uid}"] = UserMark(uid)
            return f"uid {uid}"
        groups = {}
        for gid in os.getgrouplist(entry.pw_name, entry.pw_gid):
            try:
                groups[grp.getgrgid(gid).gr_name] = gid
            except KeyError:
                groups[f"gid {gid}"] = gid
        self._users[entry.pw_name] = UserMark(entry.pw_uid, groups)
        return entry.pw_name

    # ---- files --------------------------------------------------------------------------------------------

    def _exists(self, path: str) -> bool:
        return self._mark(path, keep=False).kind is not Kind.MISSING

    def _mark(self, path: str, *, keep: bool = True) -> Mark:
        mark = self._marks.get(path)
        if mark is None:
            mark = self._seen(path)
            if keep:
                self._marks[path] = mark
                self._bytes += len(path) + 200
        return mark

    @functools.cache  # noqa: B019
    def _seen(self, path: str) -> Mark:
        if any(path == one or path.startswith(f"{one}/") for one in self._avoid):
            return Mark(Kind.UNREAD, problem="the disk did not answer lately")
        if len(path) > LONGEST_TEXT or not path.isprintable():
            return Mark(Kind.UNREAD, problem="its name cannot be told")
        _tell(path)
        try:
            links = tuple(find_links(path))
            return self._look_at(path, links)
        except (FileNotFoundError, NotADirectoryError):
            return Mark(Kind.MISSING)
        except OSError as error:
            return Mark(Kind.UNREAD, problem=error.strerror or reason_of(error))

    def _look_at(self, path: str, links: tuple[Link, ...]) -> Mark:
        # Not opened: a FIFO would wait, and a device may act (open(2), O_PATH).
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            info = os.fstat(fd)
            kind = _kind_of(info.st_mode)
            digest, problem = "", ""
            if kind is Kind.FILE:
                digest, problem = self._digest_of(path, fd, info)
        finally:
            os.close(fd)
        if problem:
            return Mark(Kind.UNREAD, problem=problem)
        is_file = kind is Kind.FILE
        return Mark(
            kind,
            digest,
            info.st_size if is_file else 0,
            int(info.st_mtime) if is_file else 0,
            # What lies in a directory changes it, and is no change of what a program needs.
            info.st_ctime if is_file else 0.0,
            stat.S_IMODE(info.st_mode),
            _owner_of(info.st_uid),
            links,
        )

    def _digest_of(self, path: str, fd: int, info: os.stat_result) -> tuple[str, str]:
        """The digest of a regular file, and why there is none; both are empty where it is too large for one."""
        look = [info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns]
        before = self._before.get(path)
        if before is not None and before[:5] == look:
            self.known[path] = before
            self._lines[path] = str(before[6]).encode("utf-8", "surrogateescape")
            return str(before[5]), ""
        is_large = info.st_size > HASHED_BYTES
        if not is_large and info.st_size > self._budget:
            return "", "it is read with one of the next looks: too many have changed at once"
        with open(f"/proc/self/fd/{fd}", "rb", buffering=0) as file:
            digest, line = _hash(path, file, is_large)
            after = os.fstat(file.fileno())
        self._budget -= 0 if is_large else info.st_size
        if look != [after.st_dev, after.st_ino, after.st_size, after.st_mtime_ns, after.st_ctime_ns]:
            return "", "it changes while it is read"
        self._lines[path] = line
        if time.time() - info.st_ctime > RACY_S:
            self.known[path] = [*look, digest, line.decode("utf-8", "surrogateescape")]
        return digest, ""


def _hash(path: str, file: Any, is_large: bool) -> tuple[str, bytes]:
    """The digest, empty of a large file, and the first line where it is that of a script."""
    import hashlib

    first = file.read(CHUNK)
    line = first[:256].split(b"\n", 1)[0] if first.startswith(b"#!") else b""
    if is_large:
        return "", line
    hashed = hashlib.sha256(first)
    while chunk := file.read(CHUNK):
        hashed.update(chunk)
        _tell(path)
    return hashed.hexdigest(), line


def _kind_of(mode: int) -> Kind:
    if stat.S_ISREG(mode):
        return Kind.FILE
    return Kind.DIRECTORY if stat.S_ISDIR(mode) else Kind.OTHER


@functools.cache
def _owner_of(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def find_links(path: str) -> Iterator[Link]:
    """Every symbolic link on the way that ``path`` is. Raises ``OSError``.

    Those in the root directory are left out: /bin is one on some systems and none on others.
    """
    todo, here, count = path.split("/")[::-1], "/", 0
    while todo:
        part = todo.pop()
        if part in ("", "."):
            continue
        if part == "..":
            here = os.path.dirname(here)
            continue
        there = os.path.join(here, part)
        info = os.lstat(there)
        if not stat.S_ISLNK(info.st_mode):
            here = there
            continue
        count += 1
        if count > MOST_LINKS:
            raise OSError(40, "too many links on the way")
        target = os.readlink(there)
        if here != "/":
            yield there, target, info.st_ctime
        todo += target.split("/")[::-1]
        here = "/" if target.startswith("/") else here


def _tell(path: str) -> None:
    """Says what is asked of the disk now: what is said last is what did not answer."""
    sys.stdout.write(json.dumps({"at": path}) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Looks once."""
    os.nice(19)
    request = json.load(sys.stdin)
    looker = Looker(request["known"], request["ignore"], request["avoid"], int(request["budget"]))
    payload = looker.look(request["programs"])
    sys.stdout.write(json.dumps({"payload": payload_message(payload), "known": looker.known}) + "\n")
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
