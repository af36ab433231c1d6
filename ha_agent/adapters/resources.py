"""Finds the files that are shipped beside the code: keepalived's template and hook, systemd's units."""

from __future__ import annotations

import os
import sys

_SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def find_resource(name: str) -> str:
    """The path of the shipped file ``name`` (as "keepalived/keepalived.conf.template"). Raises ``FileNotFoundError``."""
    places = (_SOURCE, os.path.join(sys.prefix, "share/ha-agent"), "/usr/share/ha-agent")
    for place in places:
        path = os.path.join(place, name)
        if os.path.isfile(path):
            return path
    raise FileNotFoundError(f"{name} is not installed; looked in {', '.join(places)}")


def read_module_text(name: str) -> str:
    """The source of the module ``name`` on top of the package: some are sent to other machines. Raises ``OSError``."""
    with open(os.path.join(_SOURCE, "ha_agent", f"{name}.py"), encoding="utf-8") as file:
        return file.read()
