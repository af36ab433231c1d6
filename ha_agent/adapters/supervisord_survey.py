"""Looks at the supervisords of this machine, before a pair is made of it. Changes nothing."""

from __future__ import annotations

import os
import posixpath

from ha_agent.adapters.cgroups import parse_groups
from ha_agent.adapters.procs import parent_of
from ha_agent.core.host_profile import DEBIAN, RED_HAT
from ha_agent.core.supervisor_survey import Running, is_supervisord_line, main_conf_in


def find_running() -> tuple[Running, ...]:
    """Every supervisord in this process namespace that no other supervisord has started, the oldest first.

    One in a container is that container's own.
    """
    own = _namespace("self")
    found: dict[int, list[str]] = {}
    for name in os.listdir("/proc"):
        words = _words(name) if name.isdigit() else []
        if is_supervisord_line(words) and _namespace(name) == own:
            found[int(name)] = words
    return tuple(_describe(pid, found[pid]) for pid in sorted(found) if parent_of(pid) not in found)


def _describe(pid: int, words: list[str]) -> Running:
    try:
        uid = os.stat(f"/proc/{pid}").st_uid
        cwd = os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        uid, cwd = -1, "/"
    named = main_conf_in(words)
    if named is not None:
        return Running(pid, uid, posixpath.normpath(posixpath.join(cwd, named)), unit_of(pid))
    script = next((word for word in words if posixpath.basename(word) == "supervisord"), "/usr/bin/supervisord")
    return Running(pid, uid, _default_main_conf(cwd, posixpath.join(cwd, script)), unit_of(pid))


def _default_main_conf(cwd: str, script: str) -> str:
    """Where supervisord looks without -c (supervisor's documentation, Configuration File); empty where nothing is there."""
    above = posixpath.dirname(posixpath.dirname(script))
    places = (
        posixpath.join(above, "etc", "supervisord.conf"),
        posixpath.join(above, "supervisord.conf"),
        posixpath.join(cwd, "supervisord.conf"),
        posixpath.join(cwd, "etc", "supervisord.conf"),
        RED_HAT.main_conf,
        DEBIAN.main_conf,
    )
    return next((posixpath.normpath(place) for place in places if os.path.exists(place)), "")


def _words(pid: str) -> list[str]:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return [os.fsdecode(word) for word in file.read().split(b"\0")[:-1]]
    except OSError:
        return []


def _namespace(pid: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


def unit_of(pid: int) -> str:
    """The systemd service that ``pid`` is in, without its ending; empty where it is in none, or only in a login's."""
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            groups = parse_groups(file.read())
    except OSError:
        return ""
    name = posixpath.basename(groups[0][1]) if groups else ""
    ends = name.endswith(".service") and not name.startswith("user@")
    return name.removesuffix(".service") if ends else ""
