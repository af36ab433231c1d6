"""Reads the configuration file."""

from __future__ import annotations

import tomllib

from ha_agent.core.schema import SettingsError, SettingsProblem
from ha_agent.core.settings import Settings, check_settings


def load_settings(path: str) -> Settings:
    """The checked settings in the TOML file ``path``. Raises ``SettingsError`` with all problems, and ``OSError``."""
    with open(path, "rb") as file:
        return read_settings(file.read())


def read_settings(content: bytes) -> Settings:
    """The checked settings in a TOML file's content. Raises ``SettingsError`` with all problems."""
    try:
        raw = tomllib.loads(content.decode("utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError([SettingsProblem("(file)", str(error), "TOML 1.0")]) from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        found = f"line {line}: byte 0x{content[error.start]:02x} is not UTF-8"
        raise SettingsError([SettingsProblem("(file)", found, "TOML 1.0")]) from None
    return check_settings(raw)
