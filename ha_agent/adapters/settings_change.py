"""Sets values in the configuration file, whose other lines stay as somebody has written them."""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Mapping
from typing import Any

from ha_agent.adapters.files import write_atomic
from ha_agent.adapters.settings_file import read_settings
from ha_agent.core.settings import ALTERNATIVES, Settings
from ha_agent.core.settings_edit import set_values

FORMER = ".former"
"""Ends the name of the file as it was before values were set in it."""


def plan_settings(path: str, values: Mapping[str, Any]) -> tuple[Settings, bytes]:
    """What the file ``path`` would say with ``values`` set, by names such as ``vrrp.vip``, and its new content.

    The key for a single value becomes a comment where the one for several is set, and the other way round. Raises
    ``SettingsError``, also where the file is not right as it is, ``UneditableText`` and ``OSError``.
    """
    with open(path, "rb") as file:
        content = file.read()
    read_settings(content)
    text = content.decode("utf-8")
    edited = set_values(text, values, _find_replaced(tomllib.loads(text), values)).encode()
    return read_settings(edited), edited


def _find_replaced(tables: Mapping[str, Any], values: Mapping[str, Any]) -> list[str]:
    """The keys of the file in whose places others are set."""
    return [
        f"{section}.{former}"
        for section, *pair in ALTERNATIVES
        for former, taken in (pair, pair[::-1])
        if f"{section}.{taken}" in values and f"{section}.{former}" not in values and former in tables.get(section, {})
    ]


def replace_settings(path: str, content: bytes) -> str:
    """Puts ``content`` in the place of the file ``path``, in one step and with its mode; returns where that one is kept.

    One former file is kept, the last. Raises ``OSError``; the file is as it was then.
    """
    path = os.path.realpath(path)
    with open(path, "rb") as file:
        former, mode = file.read(), stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    write_atomic(path + FORMER, former, mode)
    write_atomic(path, content, mode)
    return path + FORMER
