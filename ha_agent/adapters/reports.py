"""The reports of failover-tests, one JSON file each below the state directory."""

from __future__ import annotations

import contextlib
import json
import os
import re
from typing import Any

from ha_agent.adapters.files import make_dir, write_atomic
from ha_agent.core.places import StatePlaces

_NAME = re.compile(r"[0-9]{8}T[0-9]{6}-[0-9a-f]{4}")


def save_report(state_dir: str, identifier: str, report: dict[str, Any], keep: int) -> None:
    """Stores a report, removes the oldest beyond ``keep``. Raises ``OSError``, and ``ValueError`` for a bad identifier."""
    if not _NAME.fullmatch(identifier):
        raise ValueError(f"{identifier!r:.40} is not an identifier of a failover-test")
    folder = StatePlaces(state_dir).reports
    make_dir(folder, 0o700)
    write_atomic(os.path.join(folder, f"{identifier}.json"), json.dumps(report).encode() + b"\n")
    for name in _names(folder)[:-keep]:
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(folder, f"{name}.json"))


def read_reports(state_dir: str, count: int) -> list[dict[str, Any]]:
    """The newest ``count`` reports, oldest first; damaged ones are left out."""
    folder = StatePlaces(state_dir).reports
    reports = []
    for name in _names(folder)[-count:] if count > 0 else []:
        with contextlib.suppress(OSError, ValueError), open(os.path.join(folder, f"{name}.json"), encoding="utf-8") as file:
            reports.append(json.load(file))
    return reports


def _names(folder: str) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return sorted(name[:-5] for name in os.listdir(folder) if name.endswith(".json") and _NAME.fullmatch(name[:-5]))
    return []
