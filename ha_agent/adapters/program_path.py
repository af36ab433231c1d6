"""Where outer programs lie. Apart from the runner, because who only asks for a path must not pay for asyncio."""

from __future__ import annotations

import os

SAFE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class ProgramMissing(Exception):
    """There is no such program on this node."""


def find_program(name: str) -> str:
    """The absolute path of ``name`` on the fixed search path. Raises ``ProgramMissing``."""
    for directory in SAFE_PATH.split(":"):
        path = os.path.join(directory, name)
        if os.access(path, os.X_OK):
            return path
    raise ProgramMissing(f"{name} is not installed (looked in {SAFE_PATH})")
