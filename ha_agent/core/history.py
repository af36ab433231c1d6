"""Events of the history, as both nodes tell them. Pure."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Event = Mapping[str, Any]


def merge_events(*lists: Iterable[Event]) -> list[Event]:
    """The events of both nodes in the order in which they happened, each once."""
    found: dict[str, Event] = {}
    for events in lists:
        for event in events:
            found.setdefault(json.dumps(event, sort_keys=True), event)
    return sorted(found.values(), key=lambda event: float(event["at"]))


@dataclass(frozen=True, slots=True)
class Choice:
    """Which events are wanted; an empty part wants all. ``codes`` may have the wildcards of a shell."""

    codes: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()

    @property
    def is_all(self) -> bool:
        """Whether every event is wanted."""
        return not (self.codes or self.programs or self.nodes)

    def takes(self, event: Event) -> bool:
        """Whether ``event`` is wanted. A code is also known by what it was called before."""
        called = [str(event.get(key)) for key in ("code", "alias") if event.get(key)]
        return (
            (not self.codes or any(fnmatch.fnmatchcase(word, code) for word in called for code in self.codes))
            and (not self.nodes or event.get("node") in self.nodes)
            and (not self.programs or any(mentions(event, program) for program in self.programs))
        )


def mentions(event: Event, program: str) -> bool:
    """Whether ``event`` is about ``program``, or about a conf that is called so: by its text and its paths."""
    paths = [event.get("path"), *(event.get("paths") or ())]
    said = " ".join(str(word) for word in (event.get("text"), *paths) if word)
    return re.search(rf"(?<![\w.-]){re.escape(program)}(?![\w-])", said) is not None
