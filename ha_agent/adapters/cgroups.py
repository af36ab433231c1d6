"""supervisord's control group (cgroups(7)): which one it is, and who is in it. Version 2, or systemd's named hierarchy.

No process leaves its service's control group by what it does itself, and none of an ordinary user enters one.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
from dataclasses import dataclass

SERVICES = ("supervisor.service", "supervisord.service")
"""What distributions call supervisord's unit."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted hierarchy: where, and which of its groups is seen there. ``is_unified``: version 2."""

    path: str
    root: str
    is_unified: bool

    def directory_of(self, group: str) -> str:
        """Where the files of ``group``, as /proc/PID/cgroup names it, are."""
        inner = posixpath.relpath(group, self.root) if group.startswith(self.root) else group.lstrip("/")
        return os.path.join(self.path, inner)


def parse_groups(text: str) -> list[tuple[bool, str]]:
    """/proc/PID/cgroup: of the hierarchies that systemd uses, whether it is version 2, and the group; that one first."""
    found = []
    for line in text.splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" or controllers == "name=systemd":
            found.append((number == "0", path))
    return sorted(found, reverse=True)


def parse_mounts(text: str) -> list[Mount]:
    """/proc/self/mountinfo: the hierarchies that systemd uses. Of several at one place the last one covers the others."""
    found: dict[str, Mount] = {}
    for line in text.splitlines():
        words = line.split()
        at = words.index("-")
        root, path, kind, options = words[3], words[4], words[at + 1], words[at + 3].split(",")
        if kind == "cgroup2" or (kind == "cgroup" and "name=systemd" in options):
            found[path] = Mount(path, root, kind == "cgroup2")
    return list(found.values())


def is_supervisors(group: str) -> bool:
    """Whether ``group`` is that of a service of supervisord's. A login's, or another service's, holds other things, too."""
    name = posixpath.basename(group)
    return name.endswith(".service") and "supervisor" in name and not name.startswith("user@")


def _read(path: str) -> str:
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()
    return ""


def group_directory(pid: int) -> str | None:
    """The directory of the service's control group that the supervisord ``pid`` is in; None where it has none of its own."""
    mounts = parse_mounts(_read("/proc/self/mountinfo"))
    for is_unified, group in parse_groups(_read(f"/proc/{pid}/cgroup")):
        for mount in mounts if is_supervisors(group) else ():
            path = mount.directory_of(group)
            if mount.is_unified == is_unified and os.path.exists(os.path.join(path, "cgroup.procs")):
                return path
    return None


def usual_directory() -> str | None:
    """Where the control group of supervisord's unit is while no supervisord tells: beside this process's own, or usually."""
    mounts = parse_mounts(_read("/proc/self/mountinfo"))
    for is_unified, group in parse_groups(_read("/proc/self/cgroup")):
        for slice_ in dict.fromkeys((posixpath.dirname(group), "/system.slice")):
            for mount in (m for m in mounts if m.is_unified == is_unified):
                for service in SERVICES:
                    path = mount.directory_of(posixpath.join(slice_, service))
                    if os.path.exists(os.path.join(path, "cgroup.procs")):
                        return path
    return None


def read_members(directory: str) -> list[int]:
    """Every process of the group and of those below it; none where it is gone, which it is only when it is empty."""
    found: list[int] = []
    for folder, _, _ in os.walk(directory):
        with contextlib.suppress(OSError), open(os.path.join(folder, "cgroup.procs"), encoding="ascii") as file:
            found += map(int, file.read().split())
    return [pid for pid in found if pid > 0]


class SupervisorsGroup:
    """The control group of this node's supervisord, remembered when it was seen."""

    def __init__(self) -> None:
        self._directory: str | None = None
        self._noted: tuple[int, int] | None = None

    def note(self, pid: int, started_ticks: int) -> None:
        """Remembers the group of a supervisord that is alive. Cheap for one that was noted already."""
        if self._noted != (pid, started_ticks):
            self._noted = (pid, started_ticks)
            self._directory = group_directory(pid) or self._directory

    @property
    def directory(self) -> str | None:
        """Where it is; None where supervisord has had none of its own, as far as is known."""
        return self._directory or usual_directory()

    def members(self) -> frozenset[int]:
        """Who is in it now."""
        directory = self.directory
        return frozenset(read_members(directory)) if directory else frozenset()
