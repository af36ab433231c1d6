"""What speaks against a planned change of roles."""

from __future__ import annotations

from typing import Any

import pytest

from ha_agent.cli.switchover_cmd import is_settled
from ha_agent.core.faults import FAULTS
from ha_agent.core.findings import Finding, Severity, worst_first, worst_severity
from ha_agent.core.prechecks import RISKS, describe_override, find_active, find_obstacles, find_standby
from tests.unit.test_status_text import node

READY = {"loadable": 3, "problems": {}, "warnings": {}, "failure": None}


def pair(active: dict[str, Any] | None = None, standby: dict[str, Any] | None = None) -> list[Any]:
    more: dict[str, Any] = {"preempt": False, "priority": 100, "readiness": READY, "unfit": None, "maintenance": None}
    a = {**node("a", "active", vrrp_state="MASTER", vip=True, **more), **(active or {})}
    return [a, {**node("b", **more), **(standby or {})}]


def codes(nodes: list[Any]) -> list[str]:
    return [f.code for f in find_obstacles(nodes) if f.severity is Severity.ERROR]


def test_a_healthy_pair_is_fit_whichever_node_is_asked() -> None:
    assert codes(pair()) == codes(pair()[::-1]) == []


@pytest.mark.parametrize(
    ("active", "standby", "code"),
    [
        ({}, {"maintenance": {"until": 1}}, "maintenance-on"),
        ({}, {"keepalived": "down"}, "keepalived-down"),
        ({}, {"supervisord": "no answer"}, "supervisord-down"),
        ({}, {"notes_problem": "no room"}, "notes-failing"),
        ({}, {"unfit": "fenced"}, "unfit"),
        ({"agreement": {"vrrp.vip": "x"}}, {"agreement": {"vrrp.vip": "y"}}, "config-differs"),
        ({}, {"standby_order": {"by": "al", "reason": "", "since": 1}}, "standby-ordered"),
        ({}, {"vrrp_state": "FAULT"}, "vrrp-state"),
        ({"vrrp_state": "BACKUP"}, {}, "vrrp-state"),
        ({"replication": {"state": "pending", "pending": 3}}, {}, "replication-lag"),
        ({"replication": {"state": "held"}}, {}, "registry-held"),
        ({"replication": {"state": "refused"}}, {}, "replication-refused"),
        ({}, {"replication": {"state": "receiving", "local_changes": ["x.conf"]}}, "standby-edit"),
        ({}, {"readiness": {**READY, "problems": {"x.conf": "no user"}}}, "standby-not-ready"),
        ({}, {"readiness": {**READY, "warnings": {"x.conf": "executable missing"}}}, "standby-not-ready"),
        ({}, {"readiness": {**READY, "failure": "no parser"}}, "not-checked"),
        ({"preempt": True, "priority": 150}, {}, "preempt"),
        ({}, {"role": "fenced", "left_running": 1}, "fenced"),
        ({"role": "taking_over", "step": "interlock"}, {}, "role-changing"),
        ({"role": "taking_over", "held": "no word"}, {}, "takeover-held"),
        ({}, {"role": "active"}, "split-brain"),
        ({"role": "standby"}, {}, "no-active-node"),
    ],
)
def test_every_obstacle_has_its_code_and_a_remedy(active: dict[str, Any], standby: dict[str, Any], code: str) -> None:
    found = find_obstacles(pair(active, standby))
    assert code in [f.code for f in found]
    assert all(f.remedy and f.text for f in found if f.severity is Severity.ERROR)


def test_an_override_names_its_risk_and_maintenance_has_none() -> None:
    """What force may override is named one by one, so that a new obstacle is firm until somebody has thought of it."""
    assert describe_override(find_obstacles(pair({"maintenance": {"until": 1}}))[0]) is None
    ordered = {"standby_order": {"by": "al", "reason": "", "since": 1}, "unfit": "al ordered it to stay standby"}
    assert [describe_override(f) for f in find_obstacles(pair({}, ordered))] == [None], "said once, and firm"
    assert set(RISKS) <= set(FAULTS) and all(RISKS.values())
    overridable = [
        pair({}, {"keepalived": "down"}),
        pair({}, {"readiness": {**READY, "warnings": {"x.conf": "executable missing"}}}),
        pair({"preempt": True, "priority": 150}),
    ]
    for nodes in overridable:
        (found,) = find_obstacles(nodes)
        assert describe_override(found)


def test_an_unreachable_peer_is_all_that_is_said() -> None:
    nodes = [pair()[0], {"name": "b", "reachable": False, "problem": "no route"}]
    assert codes(nodes) == ["peer-lost"]
    assert "no route" in find_obstacles(nodes)[0].text


def test_a_conf_that_runs_on_neither_node_keeps_nobody_from_a_switchover() -> None:
    bad = {"readiness": {**READY, "problems": {"x.conf": "no user"}}}
    assert codes(pair(bad, bad)) == []
    assert [f.code for f in find_obstacles(pair(bad, bad))] == ["conf-not-loadable"]


def test_a_lower_priority_may_preempt() -> None:
    assert codes(pair({"preempt": True, "priority": 90}, {"priority": 100})) == []


def test_roles_are_found_only_where_they_are_unambiguous() -> None:
    active, standby = pair()
    nodes = [active, standby]
    assert find_active(nodes) is active and find_standby(nodes) is standby
    assert find_active(pair()[:1] * 2) is None and find_standby(pair()[:1]) is None


def test_findings_are_sorted_by_severity_and_survive_json() -> None:
    found = [
        Finding("c", s, "text", where=w) for s, w in ((Severity.OK, "a"), (Severity.ERROR, "b"), (Severity.WARNING, "a"))
    ]
    assert [f.severity for f in worst_first(found)] == [Severity.ERROR, Severity.WARNING, Severity.OK]
    assert worst_severity(found) is Severity.ERROR and worst_severity([]) is Severity.OK
    found.append(Finding("c", Severity.OK, "text", alias="before"))
    assert [Finding.from_dict(f.to_dict()) for f in found] == found


def test_a_node_is_settled_only_where_both_have_answered_and_every_program_has() -> None:
    nodes: dict[str, Any] = {n["name"]: n for n in pair()}
    assert is_settled(nodes, "b", "a")
    assert not is_settled(nodes, "a", "b") and not is_settled({"a": nodes["a"]}, "b", "a") and not is_settled({}, "b", "a")
    starting: Any = {**nodes["a"], "programs": [{"name": "p", "state": "STARTING"}]}
    assert not is_settled({**nodes, "a": starting}, "b", "a")
    assert not is_settled({**nodes, "b": {"name": "b", "reachable": False}}, "b", "a")


def test_a_sick_active_node_may_hand_over_and_little_room_at_the_standby_is_for_reading() -> None:
    assert find_obstacles(pair({"notes_problem": "no room", "notes_low": "12 KiB left"}, {})) == []
    (found,) = find_obstacles(pair({}, {"notes_low": "12 KiB left"}))
    assert (found.code, found.severity) == ("run-full", Severity.WARNING)
