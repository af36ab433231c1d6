"""The listener's conf, and what doctor finds of one that an earlier version installed."""

from __future__ import annotations

import pytest

from ha_agent.core.listener_conf import missing_events, render_listener


@pytest.mark.parametrize(
    ("events", "missing"),
    [
        ("PROCESS_STATE", ["SUPERVISOR_STATE_CHANGE"]),
        ("SUPERVISOR_STATE_CHANGE , TICK_5", ["PROCESS_STATE"]),
        ("EVENT", []),
        ("PROCESS_STATE,SUPERVISOR_STATE_CHANGE ; both", []),
    ],
)
def test_what_a_conf_does_not_ask_for_is_named(events: str, missing: list[str]) -> None:
    conf = render_listener().replace("PROCESS_STATE,SUPERVISOR_STATE_CHANGE", events)
    assert missing_events(conf) == missing


@pytest.mark.parametrize("conf", [None, "", "[eventlistener:ha-agent-listener]\n", render_listener("/opt/listener")])
def test_ours_and_one_that_cannot_be_read_lack_nothing(conf: str | None) -> None:
    assert missing_events(conf) == []
