"""Notifications come back into the order in which keepalived caused them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_agent.core.notify import order_notifications, parse_dump, parse_notification
from ha_agent.core.words import VrrpState


def test_a_spool_name_tells_all() -> None:
    event = parse_notification("229589.13599.MASTER")
    assert event is not None
    assert (event.started_ticks, event.pid, event.state) == (229589, 13599, VrrpState.MASTER)


@pytest.mark.parametrize(
    "name", ["", "1.2", "1.2.master", "1.2.GONE", "x.2.MASTER", ".1.2.MASTER", "1.2.MASTER.tmp", "1" * 30 + ".2.MASTER"]
)
def test_other_names_are_not_notifications(name: str) -> None:
    assert parse_notification(name) is None


@given(
    st.lists(st.integers(min_value=0, max_value=2), min_size=1, max_size=50),
    st.integers(min_value=1, max_value=32000),
    st.randoms(),
)
def test_hooks_that_overtake_each_other_are_ordered_by_their_forks(
    gaps: list[int], first_pid: int, shuffle: random.Random
) -> None:
    pid_max, ticks, names = 32768, 1000, []
    for number, gap in enumerate(gaps):
        ticks += gap
        names.append(f"{ticks}.{(first_pid + number * 7) % pid_max or 1}.{'MASTER' if number % 2 else 'BACKUP'}")
    events = [event for event in map(parse_notification, names) if event]
    mixed = events[:]
    shuffle.shuffle(mixed)
    assert order_notifications(mixed, pid_max) == events


def test_process_ids_that_wrapped_within_one_tick_keep_their_order() -> None:
    events = [e for e in map(parse_notification, ["5.32760.MASTER", "5.12.BACKUP"]) if e]
    assert order_notifications(reversed(events), 32768)[-1].state is VrrpState.BACKUP


DUMP = """\
------< Global definitions >------
 Router ID = node-a
------< VRRP Topology >------
 VRRP Instance = OTHER
   VRRP Version = 3
   State = BACKUP
   Wantstate = BACKUP
 VRRP Instance = HA_AGENT
   VRRP Version = 3
   State = MASTER
   Flags:
     Using unicast
   Wantstate = BACKUP
   Interface = eth0
"""


@pytest.mark.parametrize(
    ("text", "instance", "state"),
    [
        (DUMP, "HA_AGENT", VrrpState.MASTER),
        (DUMP, "OTHER", VrrpState.BACKUP),
        (DUMP, "HA", None),
        (DUMP.replace("State = MASTER", "State = INIT"), "HA_AGENT", VrrpState.UNKNOWN),
        (DUMP[: DUMP.index("   State = MASTER")], "HA_AGENT", None),
        (DUMP[: DUMP.index("STER\n   Flags")], "HA_AGENT", None),
        ("", "HA_AGENT", None),
    ],
)
def test_a_dump_says_the_state_of_its_instance_or_nothing(text: str, instance: str, state: VrrpState | None) -> None:
    assert parse_dump(text, instance) is state
