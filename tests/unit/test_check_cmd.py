"""``ha-agent check``: one line, an exit status, and never "OK" for what is not known."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from ha_agent.adapters.control import NoDaemon
from ha_agent.cli import check_cmd
from tests.unit.test_problems import silent
from tests.unit.test_status_text import node


def check(monkeypatch: pytest.MonkeyPatch, part: str, seen: Any) -> int:
    class Asked:
        def __init__(self, _settings: object) -> None: ...

        def status(self) -> Any:
            if isinstance(seen, Exception):
                raise seen
            return seen

    monkeypatch.setattr(check_cmd, "Nodes", Asked)
    monkeypatch.setattr(check_cmd, "settings_of", lambda _options: None)
    return check_cmd.run(argparse.Namespace(part=part, json=False))


@pytest.mark.parametrize(
    ("part", "seen", "code", "said"),
    [
        ("role", [node("a", "active"), node("b")], 0, "OK - exactly one node is active"),
        ("standby", [node("a", "active"), node("b")], 0, "OK - the standby could take over"),
        ("standby", [node("a", "active"), node("b", keepalived="down")], 2, "CRITICAL - b could not take over"),
        ("role", [node("a", "active"), node("b", keepalived="down")], 0, "OK"),
        ("role", [node("a", "active"), silent()], 3, "UNKNOWN - one node does not answer"),
        ("replication", [node("a", "active"), silent()], 3, "UNKNOWN - one node does not answer"),
        ("standby", [node("a", "active"), silent()], 2, "CRITICAL - b does not answer"),
        ("role", [node("a", "releasing"), node("b", "taking_over")], 0, "OK - the roles are changing"),
        ("standby", [node("a", vip=True), node("b")], 3, "UNKNOWN - the pair does not have one active node"),
        ("replication", [node("a"), node("b")], 3, "a is standby, b is standby"),
        ("standby", [node("a", "active"), node("b", "active")], 3, "a is active, b is active"),
        ("standby", [node("a", "releasing"), node("b", "taking_over")], 0, "OK - the roles are changing"),
        ("role", NoDaemon("no agent here"), 3, "UNKNOWN - no agent here"),
    ],
)
def test_a_part_is_judged_by_its_own_problems(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], part: str, seen: Any, code: int, said: str
) -> None:
    assert check(monkeypatch, part, seen) == code
    line = capsys.readouterr().out
    assert line.startswith("HA-AGENT ") and said in line and line.count("\n") == 1
