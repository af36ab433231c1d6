"""The screen and the alerts judge the same pair the same way: two renderings of one set of facts, compared code by code."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ha_agent.core.account import NodeAccount, PushAccount, Window
from ha_agent.core.account_json import describe_account, describe_obstacles
from ha_agent.core.conditions import find_conditions
from ha_agent.core.confs import Selection
from ha_agent.core.paths import Path
from ha_agent.core.peer_summary import PeerSummary, summary_message
from ha_agent.core.problems import find_problems
from ha_agent.core.transaction import Watermark
from ha_agent.core.words import Role, VrrpState

NOW = 1000.0
AGREED: dict[str, str | float | bool] = {"vrrp.vip": "192.0.2.9/24", "vrrp.nopreempt": True}
VIPS: dict[str, bool | None] = {"10.0.0.9": True, "fd00::9": True}
NO_VIPS: dict[str, bool | None] = dict.fromkeys(VIPS, False)
ONE_CUT = (Path("10.0.0.2", True, 1.0), Path("10.1.0.2", False, 2.0))
BAD = Selection(problems={"x.conf": "bad"})

STATES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "healthy": ({}, {}),
    "keepalived down at the standby": ({}, {"keepalived_alive": False}),
    "keepalived down at the active node": ({"keepalived_alive": False}, {}),
    "supervisord down at the standby": ({}, {"supervisord_alive": False}),
    "supervisord deaf at the standby": ({}, {"supervisord_silence": "no answer"}),
    "supervisord down at the active node": ({"supervisord_alive": False}, {}),
    "the standby is unfit": ({}, {"unfit": "refused", "vrrp_state": VrrpState.FAULT}),
    "the standby's VRRP state is unknown": ({}, {"vrrp_state": VrrpState.UNKNOWN}),
    "notes fail at the standby": ({}, {"notes_problem": "full"}),
    "/run nearly full": ({}, {"notes_low": "12 KiB left"}),
    "the standby's registry is gone": ({}, {"registry_problem": "gone"}),
    "the standby's parser is late": ({}, {"checker_failure": "late"}),
    "a vital setting differs": ({}, {"agreement": {**AGREED, "vrrp.vip": "192.0.2.10/24"}}),
    "another setting differs": ({}, {"agreement": {**AGREED, "vrrp.nopreempt": False}}),
    "the VIP is on both": ({}, {"vip_here": True}),
    "the VIP is on neither": ({"vip_here": False}, {}),
    "the VIP is with the standby": ({"vip_here": False}, {"vip_here": True}),
    "a VIP of two is missing": ({"vips": {"10.0.0.9": True, "fd00::9": False}}, {"vips": NO_VIPS}),
    "one VIP of two is on both": ({"vips": VIPS}, {"vip_here": True, "vips": {**NO_VIPS, "fd00::9": True}}),
    "each has one VIP of two": (
        {"vips": {**VIPS, "fd00::9": False}},
        {"vip_here": True, "vips": {**NO_VIPS, "fd00::9": True}},
    ),
    "a path is cut": ({"paths": ONE_CUT}, {}),
    "a path is cut at both ends": ({"paths": ONE_CUT}, {"paths": ONE_CUT}),
    "both active": ({}, {"role": Role.ACTIVE, "vrrp_state": VrrpState.MASTER}),
    "both standby": ({"role": Role.STANDBY, "vrrp_state": VrrpState.BACKUP}, {}),
    "fenced": ({}, {"role": Role.FENCED, "left_running": 2}),
    "deletions are held": ({"push": PushAccount(held="4 of 7 are gone")}, {}),
    "a change is refused": ({"push": PushAccount(refused="bad")}, {}),
    "a change waits": ({"push": PushAccount(pending=1, pending_since_wall=NOW - 60, is_late=True)}, {}),
    "edited on the standby": ({}, {"local_edits": ("x.conf",)}),
    "a conf is bad at the active node": ({"selection": BAD}, {}),
    "a conf is bad at the standby": ({}, {"selection": BAD}),
}

UNTOLD = {"unfit", "maintenance-on"}
"""What the screen says of a node that nobody needs to be woken for by itself: it is among a standby's reasons."""


def make_pair(own: dict[str, Any], peer: dict[str, Any]) -> tuple[NodeAccount, NodeAccount]:
    """Two accounts, each with the other one's signs of life."""
    common: dict[str, Any] = {"at_wall": NOW, "agreement": AGREED, "registry_path": "/r"}
    a = NodeAccount("a", "b", role=Role.ACTIVE, vrrp_state=VrrpState.MASTER, vip_here=True, **common)
    b = NodeAccount("b", "a", role=Role.STANDBY, vrrp_state=VrrpState.BACKUP, vip_here=False, **common)
    a, b = replace(a, **own), replace(b, **peer)
    return replace(a, peer=heard(b)), replace(b, peer=heard(a))


def heard(account: NodeAccount) -> PeerSummary:
    said = summary_message(
        account.node, account.role, account.vrrp_state, Watermark(1, "a"), 0, "h", account.vip_here,
        describe_obstacles(account), account.agreement, vips=account.vips,
    )  # fmt: skip
    return PeerSummary.parse(said, NOW)


def screen(account: NodeAccount) -> Any:
    supervisord = "up" if account.supervisord_alive else "down"
    return describe_account(account, account.supervisord_silence or supervisord, ())


@pytest.mark.parametrize("state", STATES)
def test_the_alerts_tell_what_the_screen_says_and_nothing_else(state: str) -> None:
    pair = make_pair(*STATES[state])
    told = {condition.code for account in pair for condition in find_conditions(account)}
    said = {problem.code for problem in find_problems([screen(account) for account in pair], NOW)}
    assert told == said - UNTOLD and bool(said) is (state != "healthy")


def test_maintenance_is_on_the_screen_alone() -> None:
    window = Window(0.0, NOW + 60, "", "root", "boot")
    a, b = make_pair({"maintenance": window}, {})
    assert find_conditions(a) == [] and [p.code for p in find_problems([screen(a), screen(b)], NOW)] == ["maintenance-on"]
