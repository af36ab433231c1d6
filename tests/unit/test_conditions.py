"""What of a node's state is an alert: each condition alone, and none on a healthy pair."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ha_agent.core.alert_codes import CODES
from ha_agent.core.confs import Selection
from ha_agent.core.manifest import EMPTY
from ha_agent.core.words import OWNING_ROLES, Role, VrrpState
from ha_agent.daemon.conditions import gather_conditions

NOW = 1000.0


def healthy(role: Role = Role.ACTIVE) -> Any:
    """An agent on whose pair nothing is wrong."""
    other = Role.STANDBY if role is Role.ACTIVE else Role.ACTIVE
    return SimpleNamespace(
        node="a",
        standing=SimpleNamespace(
            role=role,
            owns=role in OWNING_ROLES,
            vrrp_state=VrrpState.MASTER if role is Role.ACTIVE else VrrpState.BACKUP,
            claim=SimpleNamespace(epoch=3),
            last_failure=None,
            plan=None,
            left_running=0,
        ),
        peer=SimpleNamespace(role=other, vrrp_state=VrrpState.BACKUP, mark=SimpleNamespace(epoch=2)),
        link=SimpleNamespace(is_up=True, problem=None),
        settings=SimpleNamespace(
            peer=SimpleNamespace(name="b"), registry=SimpleNamespace(path="/r"), alerts=SimpleNamespace(lag_s=30.0)
        ),
        programs=SimpleNamespace(process=SimpleNamespace(is_alive=True)),
        program_alerts=SimpleNamespace(unanswered=None),
        keepalived=SimpleNamespace(is_alive=True),
        view=SimpleNamespace(unavailable=None, manifest=EMPTY),
        replicator=SimpleNamespace(
            state=SimpleNamespace(held=None, refused=None, pending_since_wall=None), pending=lambda: ["x"]
        ),
        ledger=SimpleNamespace(local_edits=lambda manifest: ()),
        active_set=SimpleNamespace(selection=Selection()),
    )


def codes(agent: Any) -> set[tuple[str, str]]:
    found = gather_conditions(agent, NOW)
    assert all(one.code in CODES and one.text for one in found)
    assert len({one.key for one in found}) == len(found)
    return {one.key for one in found}


@pytest.mark.parametrize("role", list(Role))
def test_a_healthy_node_has_none(role: Role) -> None:
    agent = healthy(role)
    assert codes(agent) == ({("fenced", "a")} if role is Role.FENCED else set())


def test_the_pair() -> None:
    agent = healthy()
    agent.link.is_up, agent.link.problem = False, "Connection refused"
    assert codes(agent) == {("peer-lost", "b")}
    agent = healthy()
    agent.peer.role = Role.ACTIVE
    assert codes(agent) == {("split-brain", "pair")}
    agent = healthy(Role.STANDBY)
    agent.peer.role = Role.STANDBY
    assert codes(agent) == {("no-active-node", "pair")}
    agent.peer = None
    assert codes(agent) == set(), "nothing is known yet"


def test_the_node() -> None:
    agent = healthy()
    agent.programs.process.is_alive, agent.keepalived.is_alive = False, False
    assert codes(agent) == {("supervisord-down", "a"), ("keepalived-down", "a")}
    agent = healthy()
    agent.program_alerts.unanswered, agent.view.unavailable = "no answer within 5 s", "Stale file handle"
    assert codes(agent) == {("supervisord-down", "a"), ("registry-unavailable", "a")}
    agent = healthy()
    agent.standing.last_failure = "load: refused"
    assert codes(agent) == set(), "it was tried again, and is over"
    agent.standing.plan = SimpleNamespace(name="takeover")
    assert codes(agent) == {("plan-failed", "a")}


def test_replication() -> None:
    for field, code in (("held", "registry-held"), ("refused", "replication-refused")):
        agent = healthy()
        setattr(agent.replicator.state, field, "why")
        assert codes(agent) == {(code, "replication")}
    agent = healthy()
    agent.replicator.state.pending_since_wall = NOW - 29.0
    assert codes(agent) == set()
    agent.replicator.state.pending_since_wall = NOW - 30.0
    assert codes(agent) == {("replication-lag", "replication")}
    agent.standing.role = Role.STANDBY
    assert ("replication-lag", "replication") not in codes(agent), "a standby sends nothing"


def test_confs() -> None:
    selection = Selection(problems={"x.conf": "no such user"}, warnings={"y.conf": "no such file"})
    agent = healthy()
    agent.active_set.selection = selection
    assert codes(agent) == {("conf-not-loadable", "x.conf")}
    agent = healthy(Role.STANDBY)
    agent.active_set.selection = selection
    assert codes(agent) == {("standby-not-ready", "x.conf"), ("standby-not-ready", "y.conf")}
    agent = healthy(Role.STANDBY)
    agent.ledger.local_edits = lambda manifest: ("z.conf",)
    assert codes(agent) == {("standby-edit", "z.conf")}
