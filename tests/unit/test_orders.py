"""When an operator's word on a machine is refused, and what is said then."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ha_agent.core.orders import PeerOff, TakeoverFacts, why_no_takeover_waits, why_not_off
from ha_agent.core.transaction import Watermark
from ha_agent.core.words import Role, VrrpState

HELD = TakeoverFacts("a", "b", Role.TAKING_OVER, VrrpState.MASTER, True, "no word of the peer")


def test_a_takeover_that_is_held_beside_a_dead_machine_may_go_on() -> None:
    assert why_no_takeover_waits(HELD) is None
    assert why_not_off(HELD, agent_answers=False, machine_answers=False) is None


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (replace(HELD, needs_votes=True), "no word stands for two of the three votes"),
        (replace(HELD, in_maintenance=True), "ha-agent maintenance off"),
        (replace(HELD, role=Role.ACTIVE, held=None), "a is active already"),
        (replace(HELD, role=Role.STANDBY, stays_standby=True, unfit="by order"), "ha-agent unstandby a"),
        (replace(HELD, role=Role.STANDBY, vrrp_state=VrrpState.FAULT, unfit="supervisord is gone"), "supervisord is gone"),
        (replace(HELD, role=Role.STANDBY, vrrp_state=VrrpState.BACKUP), "says BACKUP, not MASTER"),
        (replace(HELD, role=Role.STANDBY, vrrp_state=VrrpState.UNKNOWN), "journalctl -u keepalived"),
        (replace(HELD, vip_here=False), "the VIP is not on a"),
        (replace(HELD, role=Role.STANDBY), "has not begun"),
        (replace(HELD, role=Role.RELEASING), "a is releasing"),
        (replace(HELD, role=Role.FENCED), "a is fenced"),
    ],
)
def test_where_no_takeover_waits_it_is_said_what_is_so_and_what_to_do(facts: TakeoverFacts, said: str) -> None:
    assert said in str(why_no_takeover_waits(facts))


@pytest.mark.parametrize(
    ("facts", "agent", "machine", "said"),
    [
        (HELD, True, False, "b is not off: its agent answers"),
        (HELD, False, True, "b is not off: its machine answers"),
        (replace(HELD, held=None), False, True, "its machine answers"),
        (replace(HELD, held=None, failure="load: supervisord: no answer"), False, False, "supervisord: no answer"),
        (replace(HELD, held=None), False, False, "it is under way"),
    ],
)
def test_a_sign_of_life_and_a_takeover_that_waits_for_something_else_refuse_the_word(
    facts: TakeoverFacts, agent: bool, machine: bool, said: str
) -> None:
    assert said in str(why_not_off(facts, agent_answers=agent, machine_answers=machine))


def test_a_word_is_told_with_who_and_why() -> None:
    assert PeerOff(Watermark(1, "a"), "alice", "burnt").text == "alice says that it is off (burnt)"
    assert PeerOff(Watermark(1, "a"), "alice", "").text == "alice says that it is off"
