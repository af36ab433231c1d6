"""The history of this node and who hears of it: each event goes to the file, and then to those who asked for it.

What others have written, such as a reason or a conf's name, stands in an event made visible (``core/visible``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ha_agent.adapters.journald import JournalSink
from ha_agent.adapters.store import History, HistoryPage, Place
from ha_agent.core.history_codes import ALARMING
from ha_agent.core.visible import visible, visible_data
from ha_agent.core.words import Role

NOTICE, WARNING = 5, 4
"""Severities of syslog(3)."""

Event = Mapping[str, Any]
Listener = Callable[[Event], None]


class Events:
    """Adds events. Listeners hear of each one, also of one that the disk does not take; they must not raise or block."""

    def __init__(self, history: History, group: str | None = None) -> None:
        """``group``: the label that each event carries; None where the node has one group."""
        self._history = history
        self._group = group
        self._listeners: list[Listener] = []

    def labelled(self, group: str) -> Events:
        """The same history and listeners, for the events of one of several groups."""
        labelled = Events(self._history, group)
        labelled._listeners = self._listeners
        return labelled

    def listen(self, listener: Listener) -> None:
        """Has ``listener`` called with every event from now on."""
        self._listeners.append(listener)

    def add(self, code: str, text: str, **details: Any) -> Event:
        """Appends an event and returns it. A full disk loses the line, not the agent."""
        if self._group is not None:
            details["group"] = self._group
        event = self._history.add(code, visible(text), **visible_data(details))
        for listener in self._listeners:
            listener(event)
        return event

    def read(self, count: int, since_wall: float = 0.0) -> list[dict[str, Any]]:
        """The newest ``count`` events that are not older than ``since_wall``, oldest first. Raises ``OSError``."""
        return self._history.read(count, since_wall)

    def read_page(self, count: int, since_wall: float, before: Place | None) -> HistoryPage:
        """As ``read``, before a place, and with the place where the next page ends. Raises ``OSError``."""
        return self._history.read_page(count, since_wall, before)


class JournalTeller:
    """Puts events into systemd's journal, with code, role and epoch as fields.

    ``standing``: the role and the epoch at the moment of the call.
    """

    def __init__(self, journal: JournalSink, node: str, standing: Callable[[], tuple[Role, int]]) -> None:
        self._journal, self._node, self._standing = journal, node, standing

    def tell(self, event: Event) -> None:
        """Sends one event."""
        role, epoch = self._standing()
        fields = {
            "HA_AGENT_CODE": str(event["code"]),
            "HA_AGENT_NODE": self._node,
            "HA_AGENT_ROLE": role.value,
            "HA_AGENT_EPOCH": str(epoch),
        }
        if "by" in event:
            fields["HA_AGENT_BY"] = str(event["by"])
        text = f"{event['from']} -> {event['to']}: {event['text']}" if "from" in event and "to" in event else event["text"]
        severity = WARNING if event["code"] in ALARMING else NOTICE
        self._journal.send(f"{text} [{event['code']}]", severity, **fields)
