"""What of a node's account is an alert: each condition alone, and none on a healthy pair."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ha_agent.core.account import NodeAccount, PushAccount, WaitAccount
from ha_agent.core.alert_codes import CODES
from ha_agent.core.conditions import find_conditions
from ha_agent.core.confs import Selection
from ha_agent.core.peer_summary import PeerSummary
from ha_agent.core.transaction import Watermark
from ha_agent.core.words import Role, VrrpState

NOW = 1000.0
LATE = PushAccount(pending=1, pending_since_wall=NOW - 30, is_late=True)


def peer(role: Role) -> PeerSummary:
    return PeerSummary("b", role, VrrpState.BACKUP, Watermark(2, "b"), 0, "", NOW)


HEALTHY = NodeAccount(
    node="a",
    peer_name="b",
    at_wall=NOW,
    role=Role.ACTIVE,
    vrrp_state=VrrpState.MASTER,
    vip_here=True,
    claim=Watermark(3, "a"),
    known=Watermark(3, "a"),
    peer=peer(Role.STANDBY),
    registry_path="/r",
)
STANDBY = replace(HEALTHY, role=Role.STANDBY, vrrp_state=VrrpState.BACKUP, vip_here=False, peer=peer(Role.ACTIVE))


def codes(account: NodeAccount) -> set[tuple[str, str]]:
    found = find_conditions(account)
    assert all(one.code in CODES and one.text for one in found)
    assert len({one.key for one in found}) == len(found)
    return {one.key for one in found}


@pytest.mark.parametrize("role", list(Role))
def test_a_healthy_node_has_none(role: Role) -> None:
    base = HEALTHY if role is Role.ACTIVE else STANDBY
    assert codes(replace(base, role=role)) == ({("fenced", "a")} if role is Role.FENCED else set())


CASES: list[tuple[NodeAccount, dict[str, Any], set[tuple[str, str]]]] = [
    (HEALTHY, {"link_up": False, "link_problem": "Connection refused"}, {("peer-lost", "b")}),
    (HEALTHY, {"waits": (WaitAccount("b", ("b",), ("a",), NOW),)}, set()),
    (HEALTHY, {"waits": (WaitAccount("b", ("b",), ("a",), NOW, NOW),)}, {("order-unmet", "b")}),
    (HEALTHY, {"peer": peer(Role.ACTIVE)}, {("split-brain", "pair")}),
    (STANDBY, {"vip_here": True, "peer": replace(peer(Role.ACTIVE), vip_here=True)}, {("vip-on-both", "pair")}),
    (STANDBY, {"peer": replace(peer(Role.ACTIVE), vip_here=False)}, {("vip-on-neither", "pair")}),
    (HEALTHY, {"peer": replace(peer(Role.STANDBY), vip_here=False)}, set()),
    (STANDBY, {"vip_here": None, "peer": replace(peer(Role.ACTIVE), vip_here=False)}, set()),
    (
        STANDBY,
        {"role": Role.TAKING_OVER, "held": "no word", "last_failure": "interlock: no word", "plan": "takeover"},
        {("takeover-held", "a")},
    ),
    (STANDBY, {"peer": peer(Role.STANDBY)}, {("no-active-node", "pair")}),
    (STANDBY, {"peer": None}, set()),
    (
        HEALTHY,
        {"supervisord_alive": False, "keepalived_alive": False},
        {("supervisord-down", "a"), ("keepalived-down", "a")},
    ),
    (HEALTHY, {"supervisord_silence": "no answer within 5 s"}, {("supervisord-down", "a")}),
    (HEALTHY, {"registry_problem": "Stale file handle"}, {("registry-unavailable", "a")}),
    (HEALTHY, {"last_failure": "load: refused"}, set()),
    (HEALTHY, {"last_failure": "load: refused", "plan": "takeover"}, {("plan-failed", "a")}),
    (HEALTHY, {"push": PushAccount(held="why")}, {("registry-held", "replication")}),
    (HEALTHY, {"push": PushAccount(refused="why")}, {("replication-refused", "replication")}),
    (HEALTHY, {"push": PushAccount(pending=1, pending_since_wall=NOW - 29)}, set()),
    (
        HEALTHY,
        {"push": LATE},
        {("replication-lag", "replication")},
    ),
    (
        HEALTHY,
        {"push": replace(LATE, pending=None)},
        {("replication-lag", "replication")},
    ),
    (STANDBY, {"push": LATE}, set()),
    (STANDBY, {"local_edits": ("z.conf",)}, {("standby-edit", "z.conf")}),
    (HEALTHY, {"selection": Selection(problems={"x.conf": "no such user"})}, {("conf-not-loadable", "x.conf")}),
    (
        STANDBY,
        {"selection": Selection(problems={"x.conf": "no such user"}, warnings={"y.conf": "no such file"})},
        {("standby-not-ready", "x.conf"), ("standby-not-ready", "y.conf")},
    ),
]


@pytest.mark.parametrize(("base", "changes", "expected"), CASES)
def test_each_condition_alone(base: NodeAccount, changes: dict[str, Any], expected: set[tuple[str, str]]) -> None:
    assert codes(replace(base, **changes)) == expected


def test_a_thousand_bad_confs_are_not_a_thousand_alerts() -> None:
    many = {f"{number}.conf": "bad" for number in range(1000)}
    assert len(codes(replace(HEALTHY, selection=Selection(problems=many)))) == 200
