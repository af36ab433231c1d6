"""The rule table: what follows from which facts, and that the documentation shows the same table."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from ha_agent.core.rules import RULES, Cause, Facts, decide, has_right, roles_as_mermaid
from ha_agent.core.words import Action, Role, VrrpState
from tests.rules_doc import PAGE, with_rules

GOOD = Facts(1.0, VrrpState.MASTER, True, True)


def every_fact() -> list[Facts]:
    choices: dict[str, Iterable[Any]] = {
        "vrrp_state": VrrpState,
        "keepalived_alive": (True, False),
        "vip_here": (True, False, None),
        "superseded": (True, False),
        "gives_way": (None, *Cause),
        "plan_done": (True, False, None),
        "left_running": (0, 2),
        "retry_due": (True, False),
        "supervisord_replaced": (True, False),
        "supervisord_gone": (True, False),
        "stays_standby": (True, False),
    }
    return [Facts(1.0, **dict(zip(choices, chosen, strict=True))) for chosen in itertools.product(*choices.values())]


def test_a_standby_with_the_right_takes_over() -> None:
    decision = decide(Role.STANDBY, GOOD)
    assert decision is not None
    assert (decision.role, decision.action) == (Role.TAKING_OVER, Action.TAKE_OVER)


@pytest.mark.parametrize("role", [Role.ACTIVE, Role.TAKING_OVER])
@pytest.mark.parametrize(
    ("loss", "code"),
    [
        ({"votes_left_s": 0.0}, "votes-lost"),
        ({"votes_left_s": -1.0, "superseded": True}, "votes-lost"),
        ({"vrrp_state": VrrpState.BACKUP}, "vrrp-left-master"),
        ({"vrrp_state": VrrpState.FAULT}, "vrrp-left-master"),
        ({"vrrp_state": VrrpState.STOP}, "vrrp-left-master"),
        ({"vrrp_state": VrrpState.DELETED}, "vrrp-left-master"),
        ({"vrrp_state": VrrpState.UNKNOWN}, "vrrp-left-master"),
        ({"keepalived_alive": False}, "keepalived-down"),
        ({"vip_here": False}, "vip-lost"),
        ({"superseded": True}, "superseded"),
        *(({"gives_way": cause}, cause.value) for cause in Cause),
        ({"supervisord_gone": True}, "supervisord-down"),
        ({"stays_standby": True}, "stays-standby"),
    ],
)
def test_every_loss_of_the_right_releases_with_its_reason(role: Role, loss: dict[str, Any], code: str) -> None:
    decision = decide(role, replace(GOOD, **loss))
    assert decision is not None
    assert (decision.role, decision.action, decision.code) == (Role.RELEASING, Action.RELEASE, code)


def test_no_facts_make_a_node_active_that_has_no_right_to_be() -> None:
    for facts in every_fact():
        for role in Role:
            decision = decide(role, facts)
            reached = decision.role if decision else role
            if not has_right(facts):
                assert reached not in (Role.ACTIVE, Role.TAKING_OVER), (role, facts)


def test_a_release_ends_only_when_it_was_verified_that_nothing_is_left() -> None:
    for facts in every_fact():
        decision = decide(Role.RELEASING, facts)
        if decision is not None and decision.role is Role.STANDBY:
            assert facts.plan_done is True
            assert facts.left_running == 0


def test_a_supervisord_that_was_replaced_is_loaded_again_by_the_node_that_is_active() -> None:
    decision = decide(Role.ACTIVE, replace(GOOD, supervisord_replaced=True))
    assert decision is not None
    assert (decision.role, decision.action) == (Role.TAKING_OVER, Action.TAKE_OVER)
    assert decide(Role.STANDBY, replace(GOOD, vrrp_state=VrrpState.BACKUP, supervisord_replaced=True)) is None


def test_a_loss_of_the_right_counts_before_a_supervisord_that_was_replaced() -> None:
    decision = decide(Role.ACTIVE, replace(GOOD, keepalived_alive=False, supervisord_replaced=True))
    assert decision is not None and decision.action is Action.RELEASE


def test_master_again_during_a_release_waits_for_its_end() -> None:
    assert decide(Role.RELEASING, GOOD) is None


def test_an_address_that_could_not_be_looked_up_is_no_reason_to_stop_programs() -> None:
    assert decide(Role.ACTIVE, replace(GOOD, vip_here=None)) is None


def test_every_role_can_be_left() -> None:
    assert {rule.role for rule in RULES} == set(Role)


def test_codes_and_reasons_are_distinct_within_a_role() -> None:
    rows = [(rule.role, rule.code) for rule in RULES]
    assert len(set(rows)) == len(rows)


def test_the_documentation_shows_the_rules_in_force() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert with_rules(text) == text, "run `make docs`"


def test_the_documentation_is_not_written_where_its_markers_are_missing() -> None:
    with pytest.raises(ValueError, match="substring not found"):
        with_rules("a page without markers")


def test_the_drawing_has_each_arrow_once_with_every_code_of_the_table() -> None:
    arrows = [line.strip().split(" : ") for line in roles_as_mermaid().splitlines() if " : " in line]
    ends = [arrow for arrow, _ in arrows]
    assert len(ends) == len(set(ends))
    drawn = {(arrow, code) for arrow, label in arrows for code in label.split("<br/>")}
    assert drawn == {(f"{rule.role.value} --> {rule.to.value}", rule.code) for rule in RULES}
