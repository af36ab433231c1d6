"""What lint may know besides the text of a conf: a reader of the machine's files, and settings of the pair. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ha_agent.core.settings import Settings


def read_nothing(path: str) -> str | None:
    """Reads no file at all."""
    return None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is known around a conf.

    ``read``: the beginning of a text file by its absolute path, None where it cannot or may not be had
    (``adapters/peeks.py``); its content decides and is never quoted. ``starts_all``: ``takeover.start_all``, None where
    that is not known. ``is_registered``: whether the confs have the names that they have in the registry. ``cwd``: the
    directory that a conf's path begins from where it is relative; empty where that is not known.
    """

    read: Callable[[str], str | None] = read_nothing
    stop_timeout_s: float = 60.0
    interlock_timeout_s: float = 60.0
    starts_all: bool | None = None
    is_registered: bool = True
    cwd: str = ""


TEXT_ALONE = Surroundings()
"""Nothing but the text and the settings' defaults: for whoever lints on behalf of somebody else."""


def surroundings_of(settings: Settings, read: Callable[[str], str | None], cwd: str) -> Surroundings:
    """Those of a node with ``settings``."""
    release, takeover = settings.release, settings.takeover
    return Surroundings(read, release.stop_timeout_s, takeover.interlock_timeout_s, takeover.start_all, cwd=cwd)
