"""The two places that a client needs of the configuration, without the time that checking all of it takes."""

from __future__ import annotations

import tomllib

from ha_agent.core.places import DEFAULT_RUN_DIR

DEFAULT_PATH = "/etc/ha-agent/agent.toml"
SOCKET = "/run/supervisor.sock"
"""The default of ``supervisor.socket``."""


def read_places(path: str) -> tuple[str, str]:
    """The agent's run directory and supervisord's socket. Raises ``OSError``, and ``ValueError`` for what is not TOML."""
    with open(path, "rb") as file:
        raw = tomllib.load(file)
    found = []
    for section, key, default in (("paths", "run_dir", DEFAULT_RUN_DIR), ("supervisor", "socket", SOCKET)):
        table = raw.get(section, {})
        value = table.get(key, default) if isinstance(table, dict) else default
        if not isinstance(value, str):
            raise ValueError(f"{section}.{key} is not a text")
        found.append(value)
    return found[0], found[1]
