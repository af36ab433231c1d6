"""What may be payload: the patterns of an operator, what they leave out, and the places that never travel. Pure.

A pattern is an absolute path; ``*``, ``?`` and ``[...]`` stand for a part of one name (fnmatch), never for a slash. It
covers what it matches and everything below.
"""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

TEMPORARY = ".ha-agent-payload-"
"""Begins the names of what is in the making beside its target. Never payload itself."""

LONGEST_PATH = 4096

WHOLE: tuple[str, ...] = (
    *("/", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/home", "/root", "/var", "/var/lib", "/var/log"),
    *(
        "/usr",
        "/usr/bin",
        "/usr/sbin",
        "/usr/lib",
        "/usr/lib32",
        "/usr/lib64",
        "/usr/libexec",
        "/usr/share",
        "/usr/local/bin",
    ),
    *("/usr/local/sbin", "/tmp", "/var/tmp", "/mnt", "/media"),
)
"""Places that are not payload as a whole, nor anything that holds them: they are the machine's own. Names within may be."""

NEVER: tuple[str, ...] = (
    *("/proc", "/sys", "/dev", "/run", "/var/run", "/boot", "/lost+found"),
    *("/etc/passwd", "/etc/shadow", "/etc/group", "/etc/gshadow", "/etc/sudoers", "/etc/sudoers.d", "/etc/pam.d"),
    *(
        "/etc/pam.conf",
        "/etc/nsswitch.conf",
        "/etc/security",
        "/etc/ssh",
        "/etc/ld.so.preload",
        "/etc/ld.so.conf",
        "/etc/ld.so.conf.d",
        "/etc/fstab",
    ),
    *("/etc/hostname", "/etc/hosts", "/etc/machine-id", "/etc/network", "/etc/systemd", "/etc/init.d", "/etc/apt"),
    *(
        "/etc/rc.local",
        "/etc/profile",
        "/etc/profile.d",
        "/etc/environment",
        "/etc/bash.bashrc",
        "/etc/udev",
        "/etc/modprobe.d",
    ),
    *("/etc/logrotate.conf", "/etc/logrotate.d", "/etc/anacrontab", "/etc/polkit-1", "/etc/dbus-1", "/etc/rsyslog.d"),
    *("/root/.bashrc", "/root/.bash_profile", "/root/.profile"),
    *("/etc/crontab", "/etc/cron.d", "/etc/cron.hourly", "/etc/cron.daily", "/etc/cron.weekly", "/etc/cron.monthly"),
    *("/var/spool/cron", "/etc/keepalived", "/etc/supervisor", "/etc/supervisord.conf", "/etc/supervisord.d"),
    *("/etc/ha-agent", "/var/lib/ha-agent", "/usr/lib/ha-agent", "/usr/share/ha-agent"),
    *("/var/lib/dpkg", "/var/lib/apt", "/var/lib/systemd", "/usr/lib/systemd", "/lib/systemd", "/usr/local/lib/systemd"),
    *("/root/.ssh", "/home/*/.ssh", "/root/.gnupg", "/home/*/.gnupg"),
)
"""Places of which nothing is payload: the kernel's, who may log in, what is started as root, the pair's own."""

NEVER_NAMES = frozenset({".ssh"})
"""Names that are left out wherever they are: keys let somebody in on one machine, and are not a program's files."""


def find_fault(pattern: str, own: Iterable[str] = ()) -> str | None:
    """Why ``pattern`` cannot be payload; None where it can. ``own``: further places of which nothing may be."""
    if not pattern.startswith("/") or len(pattern) > LONGEST_PATH or "\0" in pattern or "\n" in pattern:
        return "is not an absolute path"
    parts = split(pattern)
    if pattern != "/" + "/".join(parts):
        return "is not a plain path: no slash at its end, none doubled"
    if {".", ".."} & set(parts):
        return "has a part . or .."
    if NEVER_NAMES & set(parts):
        return "names keys of ssh"
    for place in (*NEVER, *own):
        if _meet(parts, split(place)):
            return f"touches {place}, of which nothing is payload"
    for place in WHOLE:
        if len(parts) <= len(split(place)) and _meet(parts, split(place)):
            return f"would be {place} as a whole"
    return None


def split(path: str) -> list[str]:
    """The names of an absolute path."""
    return [part for part in path.split("/") if part]


def _meet(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether something may lie below both patterns, or one is the other's parent."""
    return all(fnmatch.fnmatchcase(a, b) or fnmatch.fnmatchcase(b, a) for a, b in zip(one, other, strict=False))


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest payload. ``file_bytes``: of one file, ``total_bytes``: of all, ``entries``: files, links, directories."""

    file_bytes: int = 1 << 30
    total_bytes: int = 10 << 30
    entries: int = 100_000


@dataclass(frozen=True, slots=True)
class PayloadRules:
    """What is payload on one node: ``patterns`` without those that ``exclude`` names.

    A pattern of ``exclude`` without a slash is a name, wherever it stands; one with a slash a path and all below.
    """

    patterns: tuple[str, ...]
    exclude: tuple[str, ...] = ()
    limits: Limits = Limits()

    def find_root(self, path: str) -> str | None:
        """The pattern that covers ``path``; None where none does."""
        return next((pattern for pattern in self.patterns if _covers(pattern, path)), None)

    def is_excluded(self, path: str) -> bool:
        """Whether ``path``, or a directory that it lies in, is left out."""
        is_left_out = _names_left_out(self.exclude).fullmatch
        return any(map(is_left_out, split(path))) or self._is_excluded_place(path)

    def is_excluded_here(self, path: str, name: str) -> bool:
        """As ``is_excluded`` for ``path``, whose last part is ``name`` and whose directory is known not to be left out."""
        return _names_left_out(self.exclude).fullmatch(name) is not None or self._is_excluded_place(path)

    def _is_excluded_place(self, path: str) -> bool:
        return any("/" in pattern and _covers(pattern, path) for pattern in self.exclude)

    def may_hold(self, path: str) -> bool:
        """Whether ``path`` is payload by these rules."""
        return self.find_root(path) is not None and not self.is_excluded(path)


@functools.lru_cache(maxsize=16)
def _names_left_out(exclude: tuple[str, ...]) -> re.Pattern[str]:
    names = [pattern for pattern in exclude if "/" not in pattern]
    never = [*map(re.escape, NEVER_NAMES), f"{re.escape(TEMPORARY)}.*"]
    return re.compile("|".join([*map(fnmatch.translate, names), *never]), re.DOTALL)


def _covers(pattern: str, path: str) -> bool:
    if not has_wildcard(pattern):
        return path.startswith(pattern) and (len(path) == len(pattern) or path[len(pattern)] == "/" or pattern == "/")
    wanted, names = split(pattern), split(path)
    return len(wanted) <= len(names) and all(
        fnmatch.fnmatchcase(name, part) for part, name in zip(wanted, names, strict=False)
    )


def has_wildcard(pattern: str) -> bool:
    """Whether ``pattern`` stands for any number of paths."""
    return any(sign in pattern for sign in "*?[")


def find_faults(patterns: Iterable[str], own: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Every pattern that cannot be payload, and why."""
    places = tuple(own)
    for pattern in patterns:
        fault = find_fault(pattern, places)
        if fault is not None:
            yield pattern, fault
