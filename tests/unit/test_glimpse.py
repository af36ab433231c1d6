"""What status says of a node without its agent: nothing is made up, and everything that is known is said."""

from __future__ import annotations

import dataclasses

from ha_agent.adapters.status_screen import render_glimpse
from ha_agent.core.findings import Severity
from ha_agent.core.glimpse import Glimpse, find_severity, list_remedies, list_rows, say_verdict

BARE = Glimpse("node-a", "node-b", "the agent is not running on this node (x); systemctl start ha-agent", vip="10.0.0.9/24")
FULL = dataclasses.replace(
    BARE,
    role="active",
    role_at=900.0,
    vip_here=True,
    keepalived_pid=7,
    supervisord_pid=8,
    programs={"web": "RUNNING", "mail": "FATAL"},
    confs=2,
    peer_up=True,
    standby_ordered=False,
    last_change={"at": 400.0, "node": "node-a", "to": "active", "text": "started", "code": "takeover-done"},
)


def test_the_first_line_says_where_the_vip_is_and_what_runs() -> None:
    assert say_verdict(FULL) == "node-a has no agent: the VIP is here, 1 program of supervisord runs"
    assert say_verdict(BARE) == "node-a has no agent: where the VIP is, is not known, supervisord does not run"
    asked = dataclasses.replace(FULL, programs=None, vip_here=False)
    assert say_verdict(asked) == "node-a has no agent: the VIP is not here, what its programs do is not known"
    hung = dataclasses.replace(FULL, agent_pid=12)
    assert say_verdict(hung).startswith("node-a has an agent that cannot be asked: ")
    assert (find_severity(FULL), find_severity(hung)) == (Severity.ERROR, Severity.UNKNOWN)


def test_each_row_says_its_age_or_that_it_is_not_known() -> None:
    rows = dict(list_rows(FULL, 1000.0))
    assert rows["role"] == "active as its agent noted 2 min ago: its programs run on without a guard"
    assert rows["programs"] == "1 FATAL, 1 RUNNING" and rows["node-b"].endswith("its machine answers")
    assert rows["last change"] == "node-a became active 10 min ago: started [takeover-done]"
    assert rows["registry"] == "2 confs; nothing is replicated"
    assert dict(list_rows(dataclasses.replace(FULL, standby_ordered=True), 1000.0))["role"].endswith("to stay standby")
    unknown = " ".join(text for _, text in list_rows(BARE, 1000.0))
    assert "whether its machine is up is not known" in unknown and "none that is noted here" in unknown
    assert "no agent of this boot has noted one that you may read" in unknown
    unread = dict(list_rows(dataclasses.replace(FULL, standby_ordered=None), 1000.0))["role"]
    assert unread.endswith("whether it is ordered to stay standby is not known")
    assert "10.0.0.9/24: not known" in unknown and "2 confs" not in unknown


def test_what_is_down_is_in_the_remedies_and_an_agent_that_runs_is_not_started_again() -> None:
    assert list_remedies(BARE)[0] == "systemctl start ha-agent" and "systemctl start keepalived" in list_remedies(BARE)
    assert not any("keepalived" in remedy or "supervisor" in remedy for remedy in list_remedies(FULL))
    assert not any("start" in remedy for remedy in list_remedies(dataclasses.replace(FULL, agent_pid=12)))


def test_the_remedy_is_said_once() -> None:
    assert render_glimpse(FULL, 1000.0).count("systemctl start ha-agent") == 1
