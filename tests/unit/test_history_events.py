"""Events: each is in the history and heard by everybody once, and the journal has its code, role and epoch."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

from ha_agent.adapters.journald import JournalSink
from ha_agent.adapters.store import History
from ha_agent.core.history_codes import ALARMING
from ha_agent.core.words import Role
from ha_agent.daemon.events import NOTICE, WARNING, Event, Events, JournalTeller


class FakeJournal(JournalSink):
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, int, dict[str, str]]] = []

    def send(self, message: str, priority: int, **fields: str) -> bool:
        self.sent.append((message, priority, fields))
        return True


def test_each_event_is_in_the_file_and_heard_by_every_listener_once_in_order(tmp_path: pathlib.Path) -> None:
    events = Events(History(str(tmp_path), "a", 10**6))
    first: list[Event] = []
    second: list[Event] = []
    events.listen(first.append)
    events.add("one", "x", path="p")
    events.listen(second.append)
    events.labelled("blue").add("two", "y")
    assert [(e["code"], e.get("group")) for e in first] == [("one", None), ("two", "blue")]
    assert [e["code"] for e in second] == ["two"]
    assert events.read(10) == first and first[0]["path"] == "p" and first[0]["node"] == "a"


def test_a_listener_that_comes_by_way_of_one_group_hears_of_all(tmp_path: pathlib.Path) -> None:
    events = Events(History(str(tmp_path), "a", 10**6))
    heard: list[Event] = []
    events.labelled("blue").listen(heard.append)
    events.add("one", "x")
    events.labelled("green").add("two", "y")
    assert [e["code"] for e in heard] == ["one", "two"]


def test_a_disk_that_takes_nothing_costs_the_line_and_not_the_listeners(tmp_path: pathlib.Path) -> None:
    events = Events(History(str(tmp_path / "missing"), "a", 10**6))
    heard: list[Event] = []
    events.listen(heard.append)
    assert events.add("one", "x") == heard[0]
    assert events.read(10) == []


@pytest.mark.parametrize("count", [-1, 0, 1, 2, 3, 9])
def test_as_many_events_are_read_as_were_asked_for(tmp_path: pathlib.Path, count: int) -> None:
    events = Events(History(str(tmp_path), "a", 10**6))
    for code in ("one", "two", "three"):
        events.add(code, "x")
    assert [e["code"] for e in events.read(count)] == ["one", "two", "three"][3 - max(0, min(3, count)) :]


@pytest.mark.parametrize("code", [*sorted(ALARMING), "agent-started", "takeover-done", "operator"])
def test_the_journal_is_told_the_standing_of_the_moment_and_warned_where_somebody_should_look(code: str) -> None:
    journal, standing = FakeJournal(), [(Role.STANDBY, 3), (Role.ACTIVE, 4)]
    teller = JournalTeller(journal, "a", lambda: standing.pop(0))
    teller.tell({"code": code, "text": "x"})
    changed: dict[str, Any] = {"code": code, "text": "x", "from": "standby", "to": "active", "by": "alice"}
    teller.tell(changed)
    severity = WARNING if code in ALARMING else NOTICE
    own = {"HA_AGENT_CODE": code, "HA_AGENT_NODE": "a"}
    assert journal.sent == [
        (f"x [{code}]", severity, {**own, "HA_AGENT_ROLE": "standby", "HA_AGENT_EPOCH": "3"}),
        (
            f"standby -> active: x [{code}]",
            severity,
            {**own, "HA_AGENT_ROLE": "active", "HA_AGENT_EPOCH": "4", "HA_AGENT_BY": "alice"},
        ),
    ]
