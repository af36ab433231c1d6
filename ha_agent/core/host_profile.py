"""Where a distribution keeps supervisord: main conf, conf directory, systemd unit, the words that install it. Pure.

Setup takes these as defaults where nothing runs that says otherwise; whatever runs is asked first. The paths and units are
those of the packages ``supervisor`` of Debian 12 and of EPEL.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Sequence
from dataclasses import dataclass

LOCAL_DIR = "/etc/supervisor/local.d"
"""Confs of programs that run on both nodes, on every distribution: setup makes it, and supervisord includes it."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One layout. ``unit``: without ``.service``. ``install``: the command that brings supervisord."""

    name: str
    main_conf: str
    registry: str
    unit: str
    install: str


DEBIAN = Profile(
    "Debian", "/etc/supervisor/supervisord.conf", "/etc/supervisor/conf.d", "supervisor", "apt install supervisor"
)
RED_HAT = Profile(
    "Red Hat",
    "/etc/supervisord.conf",
    "/etc/supervisord.d",
    "supervisord",
    "dnf install epel-release, then dnf install supervisor",
)
PROFILES = (DEBIAN, RED_HAT)


def choose_profile(main_conf: str | None, exists: Callable[[str], bool]) -> Profile:
    """The layout of a machine whose supervisord runs with ``main_conf``; None: by the main conf that is on the disk."""
    for profile in PROFILES:
        if main_conf == profile.main_conf:
            return profile
    if main_conf is None:
        for profile in PROFILES:
            if exists(profile.main_conf):
                return profile
    return RED_HAT if exists("/etc/redhat-release") else DEBIAN


def choose_registry(profile: Profile, patterns: Sequence[str], foreign: Sequence[str]) -> str:
    """The directory that becomes the registry: the profile's where supervisord includes it, else the first that it includes.

    ``patterns``: of ``[include]``, absolute. ``foreign``: directories that are no registry, such as the active set's. A
    pattern with a wildcard in its directory names none.
    """
    folders = [posixpath.dirname(pattern) for pattern in patterns]
    usable = [folder for folder in folders if not set("*?[%") & set(folder) and folder not in foreign]
    return profile.registry if profile.registry in usable or not usable else usable[0]
