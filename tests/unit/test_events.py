"""supervisord's event protocol: lengths in characters, however bytes are cut; lost events counted, backlogs merged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from supervisor import events as theirs
from supervisor.process import EventListenerPool
from supervisor.states import ProcessStates

from ha_agent.core.events import (
    EventDecoder,
    ProtocolError,
    StateEvent,
    lost_between,
    merge_state_events,
    state_event,
)


class Named:
    """As much of a supervisord process as its events ask for."""

    def __init__(self, name: str, group: str) -> None:
        self.config, self.pid, self.backoff = self, 42, 3
        self.name, self.group = name, type("G", (), {"config": type("C", (), {"name": group})})


def envelope(event: object, serial: int) -> bytes:
    """The bytes that supervisord itself writes for ``event``."""
    pool = EventListenerPool.__new__(EventListenerPool)
    options = type("O", (), {"identifier": "supervisor"})
    pool.config = type("C", (), {"name": "ha-agent-listener", "options": options})
    text: str = pool._eventEnvelope(type(event), serial, serial, event.payload())  # type: ignore[attr-defined]
    return text.encode("utf-8")


def exited(name: str, *, expected: bool = False) -> theirs.ProcessStateExitedEvent:
    return theirs.ProcessStateExitedEvent(Named(name, name), ProcessStates.RUNNING, expected)


@given(st.lists(st.text(st.characters(blacklist_categories=("Cs", "Z", "Cc")), min_size=1).filter(str.strip), max_size=8))
def test_supervisords_own_bytes_are_read_however_they_are_cut(names: list[str]) -> None:
    """Hazard 23: the event protocol's ``len`` counts characters, not bytes.

    Fault: names of programs that are longer in bytes than in characters, read one byte at a time and all at once.
    Answer: the events come out as supervisord meant them.
    Bound: none is lost or torn.
    """
    names = [name for name in names if ":" not in name and len(name.split()) == 1]
    data = b"".join(envelope(exited(name), number) for number, name in enumerate(names))
    decoder = EventDecoder()
    slowly = [event for byte in data for event in decoder.feed(bytes([byte]))]
    assert slowly == EventDecoder().feed(data)
    found = [state_event(raw, 0.0) for raw in slowly]
    assert [(e.name, e.before, e.after, e.expected, e.exits) for e in found if e] == [
        (name, "RUNNING", "EXITED", False, 1) for name in names
    ]


def test_every_change_of_state_is_understood() -> None:
    process = Named("web", "shop")
    for kind, after, counts in (
        (theirs.ProcessStateStartingEvent, "STARTING", (0, 0)),
        (theirs.ProcessStateBackoffEvent, "BACKOFF", (0, 1)),
        (theirs.ProcessStateFatalEvent, "FATAL", (0, 0)),
        (theirs.ProcessStateRunningEvent, "RUNNING", (0, 0)),
        (theirs.ProcessStateStoppedEvent, "STOPPED", (0, 0)),
    ):
        (raw,) = EventDecoder().feed(envelope(kind(process, ProcessStates.STARTING), 0))
        event = state_event(raw, 1.0)
        assert event is not None
        assert (event.group, event.name, event.before, event.after) == ("shop", "web", "STARTING", after)
        assert (event.exits, event.backoffs) == counts
    (raw,) = EventDecoder().feed(envelope(exited("a", expected=True), 0))
    event = state_event(raw, 1.0)
    assert event is not None and event.expected and event.exits == 0


def test_other_events_are_none_of_ours() -> None:
    (raw,) = EventDecoder().feed(envelope(theirs.Tick5Event(5, None), 7))
    assert raw.pool_serial == 7 and state_event(raw, 0.0) is None


@pytest.mark.parametrize(
    "bad",
    [
        b"hello\n",
        b"len:x poolserial:1\n",
        b"len:5 eventname:A\n",
        b"len:-1 poolserial:1 eventname:A\n",
        b"len:16000000 poolserial:1 eventname:A\n",
    ],
)
def test_what_is_no_event_is_refused(bad: bytes) -> None:
    with pytest.raises(ProtocolError):
        EventDecoder().feed(bad)


def test_a_header_without_an_end_does_not_fill_the_memory() -> None:
    with pytest.raises(ProtocolError):
        EventDecoder().feed(b"x" * 5000)


@pytest.mark.parametrize(("last", "fresh", "lost"), [(None, 7, 0), (3, 4, 0), (3, 8, 4), (9, 0, 0), (5, 5, 0)])
def test_a_jump_of_the_serial_is_a_number_of_lost_events(last: int | None, fresh: int, lost: int) -> None:
    assert lost_between(last, fresh) == lost


STATES = ("STARTING", "RUNNING", "BACKOFF", "EXITED", "FATAL", "STOPPED")
EVENTS = st.builds(
    lambda name, before, after, at, bad: StateEvent(
        name, name, before, after, at, 1, not bad, int(bad and after == "EXITED"), int(after == "BACKOFF")
    ),
    st.sampled_from("abc"),
    st.sampled_from(STATES),
    st.sampled_from(STATES),
    st.floats(0, 1e9),
    st.booleans(),
)


@given(st.lists(EVENTS, max_size=30), st.integers(0, 30))
def test_merging_keeps_the_newest_state_and_every_count_also_in_two_steps(events: list[StateEvent], cut: int) -> None:
    merged = merge_state_events(events)
    assert merge_state_events([*merge_state_events(events[:cut]), *events[cut:]]) == merged
    for name in {e.name for e in events}:
        own = [e for e in events if e.name == name]
        (one,) = (e for e in merged if e.name == name)
        assert (one.before, one.after, one.at, one.expected) == (own[0].before, own[-1].after, own[-1].at, own[-1].expected)
        assert (one.exits, one.backoffs) == (sum(e.exits for e in own), sum(e.backoffs for e in own))
        assert one.merged == len(own) - 1
    assert [StateEvent.from_dict(e.to_dict()) for e in merged] == merged
