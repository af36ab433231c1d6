"""The remedy for a silent peer is that of the cause that is known."""

from __future__ import annotations

import pytest

from ha_agent.core.link_causes import UNKNOWN, find_cause


@pytest.mark.parametrize(
    ("problem", "key"),
    [
        ("ha-agent-peer: the agent is not running on node-b (/run/ha-agent/peer.sock: Connection refused)", "agent-down"),
        ("root@10.0.0.2: Permission denied (publickey).", "key-refused"),
        ("Host key verification failed.", "host-key"),
        ("ssh: connect to host 10.0.0.2 port 22: Connection refused", "sshd-down"),
        ("ssh: connect to host 10.0.0.2 port 22: No route to host", "off"),
        ("silent for 6 s", "off"),
        ("no answer within 0.6 s", "off"),
        ("the peer speaks protocol version 3, this agent 2: install the same ha-agent on both nodes", "version"),
        ("something else", "unknown"),
    ],
)
def test_a_problem_names_its_cause(problem: str, key: str) -> None:
    cause = find_cause(problem)
    assert cause.key == key and cause.remedy.format(node="b") and (cause is UNKNOWN) is (key == "unknown")
