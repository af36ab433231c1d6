"""The status screen says what is wrong first."""

from __future__ import annotations

from typing import Any

from ha_agent.adapters.status_screen import render_status
from ha_agent.core.problems import age_text, find_problems, list_problems


def node(name: str, role: str = "standby", **changes: Any) -> Any:
    base: dict[str, Any] = {
        "name": name,
        "reachable": True,
        "role": role,
        "vrrp_state": "BACKUP",
        "vip": role == "active",
        "keepalived": "up",
        "supervisord": "up",
        "epoch": 2,
        "claimed_by": "a",
        "generation": 5,
        "left_running": 0,
        "registry": {"confs": 3, "hash": "abcdef0123456789", "parked": [], "refused": {}, "problem": None},
        "replication": {"state": "in_sync" if role == "active" else "receiving", "pending": 0},
        "readiness": {"loadable": 3, "problems": {}, "warnings": {}},
        "programs": [],
    }
    return {**base, **changes}


def test_a_healthy_pair_has_no_problems() -> None:
    assert list_problems([node("a", "active"), node("b")], 0.0) == []


def test_two_active_nodes_are_the_first_thing_said() -> None:
    text = render_status([node("a", "active", keepalived="down"), node("b", "active")])
    assert text.splitlines()[0].startswith("CRITICAL: SPLIT-BRAIN")


def test_a_node_that_is_not_reached_is_shown_with_the_age_of_what_is_known() -> None:
    gone: Any = {"name": "b", "reachable": False, "problem": "no route", "since": 40.0, "role": "standby", "heard_at": 10.0}
    text = render_status([node("a", "active"), gone], now=100.0)
    assert "b does not answer, heard last 2 min ago: no route" in text
    assert "standby when last heard" in text
    assert "heard 2 min ago" in text


def test_confs_that_can_not_be_loaded_are_named_with_their_reason() -> None:
    bad = node("b", readiness={"loadable": 2, "problems": {"x.conf": "Invalid user name y"}, "warnings": {}})
    assert "b cannot load x.conf: Invalid user name y" in "\n".join(list_problems([node("a", "active"), bad], 0.0))


def test_a_node_that_must_not_be_master_says_why() -> None:
    (text,) = list_problems([node("a", "active"), node("b", unfit="supervisord is gone")], 0.0)
    assert text == "b could not take over: must not be MASTER: supervisord is gone"
    (text,) = list_problems([node("a", "active", unfit="supervisord is gone"), node("b")], 0.0)
    assert text == "a must not be MASTER (FAULT by the track file): supervisord is gone"


def test_of_several_vips_those_are_said_that_are_missing_or_on_both_nodes() -> None:
    all_here, none_here = {"10.0.0.9": True, "fd00::9": True}, {"10.0.0.9": False, "fd00::9": False}
    one = {"10.0.0.9": True, "fd00::9": False}
    lines = list_problems([node("a", "active", vips=one), node("b", vips=none_here)], 0.0)
    assert any("a is active and lacks fd00::9, of 2 VIPs" in line for line in lines)
    assert "1 of 2 here" in render_status([node("a", "active", vips=one), node("b", vips=none_here)], 0.0)
    alone = list_problems([node("a", "active", vips=one)], 0.0)
    assert any("lacks fd00::9" in line for line in alone), "nobody else needs to be asked for that"
    both = list_problems([node("a", "active", vips=all_here), node("b", vip=True, vips=one)], 0.0)
    assert any("10.0.0.9 is on both nodes" in line for line in both)
    assert not any(
        "VIP" in line for line in list_problems([node("a", "active", vips=all_here), node("b", vips=none_here)], 0.0)
    )


def test_a_vip_on_both_nodes_or_on_neither_is_said_unless_a_role_changes() -> None:
    both, neither = [node("a", "active"), node("b", vip=True)], [node("a", "active", vip=False), node("b")]
    assert list_problems(both, 0.0)[0].startswith("the VIP is on both nodes")
    assert list_problems(neither, 0.0)[0].startswith("the VIP is on neither node")
    assert not any("VIP" in line for line in list_problems([both[0], node("b", "releasing", vip=True)], 0.0))
    assert not any("VIP" in line for line in list_problems([neither[0], node("b", vip=None)], 0.0))
    gone: Any = {"name": "b", "reachable": False}
    assert not any("VIP" in line for line in list_problems([neither[0], gone], 0.0))


def test_a_takeover_that_holds_says_why_and_what_to_do_now() -> None:
    gone: Any = {"name": "b", "reachable": False, "problem": "no route"}
    held = node("a", "taking_over", held='no word of the peer; nothing is started, policy is "hold"')
    problem = find_problems([held, gone], 0.0)[0]
    assert problem.text.startswith("a has taken over and starts nothing: no word of the peer")
    assert "bring b or the link to it back" in problem.remedy and "fence_command" in problem.remedy


def test_the_step_of_a_takeover_is_shown() -> None:
    assert "taking_over: interlock" in render_status([node("a", "taking_over", step="interlock"), node("b")], 0.0)


def test_a_program_that_was_stopped_by_hand_is_said_to_come_back_with_the_next_failover() -> None:
    programs = [
        {"name": "p", "state": "STOPPED", "pid": None, "starts": True, "problem": None},
        {"name": "q", "state": "STOPPED", "pid": None, "starts": False, "problem": None},
    ]
    (text,) = list_problems([node("a", "active", programs=programs), node("b")], 0.0)
    assert text.startswith("a: p is stopped but registered: the next failover would start it")


def test_a_batch_program_that_ended_well_is_no_problem_and_one_that_failed_is() -> None:
    def ended(status: int) -> list[dict[str, Any]]:
        return [{"name": "p", "state": "EXITED", "pid": None, "starts": True, "problem": f"exit status {status}"}]

    assert list_problems([node("a", "active", programs=ended(0)), node("b")], 0.0) == []
    assert "a: p is EXITED: exit status 3" in list_problems([node("a", "active", programs=ended(3)), node("b")], 0.0)


def test_an_order_to_stay_standby_is_said_once_with_who_and_why() -> None:
    order = {"by": "alice", "reason": "disks", "since": 0.0}
    ordered = node("b", standby_order=order, unfit="alice ordered it to stay standby (disks)")
    (problem,) = find_problems([node("a", "active"), ordered], 7200.0)
    assert problem.text.startswith("b is to stay standby (disks), by order of alice for 2 h now")
    assert "ha-agent unstandby b" in problem.remedy
    other = node("b", standby_order=order, unfit="supervisord is gone")
    assert len(list_problems([node("a", "active"), other], 7200.0)) == 2, "another reason is said as well"


def test_maintenance_and_its_end_are_shown_first() -> None:
    window = {"since": 0.0, "until": 7200.0, "reason": "kernel", "by": "alice"}
    text = render_status([node("a", "active", maintenance=window), node("b")], 0.0)
    assert text.splitlines()[0].startswith("WARNING: a is in maintenance for 2 h more (kernel), by alice")


def test_the_last_change_of_role_is_shown_with_its_reason() -> None:
    change = {"at": 40.0, "node": "b", "from": "taking_over", "to": "active", "code": "takeover-done", "text": "because"}
    text = render_status([node("a"), node("b", "active", last_transition=change)], 100.0)
    assert text.splitlines()[-1] == "last change: b became active 1 min ago: because [takeover-done]"


def test_ages_are_for_people() -> None:
    assert [age_text(s) for s in (3, 90, 7200, 200000)] == ["3 s", "2 min", "2 h", "2 d"]
