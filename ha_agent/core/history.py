"""Events of the history, as both nodes tell them. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

Event = Mapping[str, Any]


def merge_events(*lists: Iterable[Event]) -> list[Event]:
    """The events of both nodes in the order in which they happened, each once."""
    found: dict[str, Event] = {}
    for events in lists:
        for event in events:
            found.setdefault(json.dumps(event, sort_keys=True), event)
    return sorted(found.values(), key=lambda event: float(event["at"]))
