"""What hands expect of the command line, on a real pair: short forms, one agent a node, history, logs, edit, bundle."""

from __future__ import annotations

import json
from typing import Any

from tests.lab_support import Pair, wait_for

THREE = {"p0", "p1", "p2"}


def up(pair: Pair, **options: Any) -> None:
    pair.up(**options)
    pair.lab.wait_settled()
    pair.await_runs("node-a", THREE)


def test_a_second_agent_by_hand_is_refused_and_touches_nothing_of_the_first(pair: Pair) -> None:
    """Somebody who looks for what is wrong runs `ha-agent daemon` on the active node.

    Fault: a second agent is started beside the running one.
    Answer: it names the first one's process id and ends with status 3; sockets, track file and programs stay the first's.
    Bound: none needed.
    """
    up(pair)
    before = pair.shell("node-a", "stat -c '%n %i %z' /run/ha-agent/*.sock /run/ha-agent/track")
    pid = pair.agent_pid("node-a")
    for _ in range(2):
        done = pair.ha("node-a", "daemon", timeout_s=20)
        assert done.returncode == 3 and f"an agent runs already (pid {pid})" in done.stderr
        assert done.stderr.count("\n") == 1 and "systemctl status ha-agent" in done.stderr
    pair.shell("node-a", "rm /run/ha-agent/agent.lock")
    wait_for("the lock is there again", lambda: "agent.lock" in pair.shell("node-a", "ls /run/ha-agent"), 10, 0.1)
    assert pair.ha("node-a", "daemon", timeout_s=20).returncode == 3
    assert pair.shell("node-a", "stat -c '%n %i %z' /run/ha-agent/*.sock /run/ha-agent/track") == before
    assert pair.ha("node-a", "status").returncode == 0 and pair.runs("node-a") == THREE
    # A restart by the service manager, a reload and an end by SIGKILL leave nothing locked.
    pair.kill_agent("node-a")
    pair.lab.unit("node-a", "restart", "ha-agent")
    wait_for("the agent is back", lambda: pair.ha("node-a", "status").returncode == 0, 15, 0.1)
    pair.lab.unit("node-a", "kill", "ha-agent", 1)
    pair.lab.wait_settled()
    assert pair.ha("node-a", "daemon", timeout_s=20).returncode == 3


def test_an_agent_that_was_started_by_hand_holds_the_service_off_without_a_fence(pair: Pair) -> None:
    """`systemctl start ha-agent` while somebody's own `ha-agent daemon` runs.

    Fault: the service is started beside an agent that was started by hand.
    Answer: it waits for that one's end, and the node is not fenced; then it is the node's agent.
    Bound: none needed.
    """
    up(pair)
    pair.lab.unit("node-a", "stop", "ha-agent")
    pair.shell("node-a", "setsid ha-agent daemon > /tmp/byhand 2>&1 & sleep 0.1")
    wait_for("the agent answers", lambda: pair.ha("node-a", "status").returncode == 0, 15, 0.2)
    pair.shell("node-a", "(timeout 60 systemctl start ha-agent > /tmp/started 2>&1 &) ; sleep 3")
    assert pair.ha("node-a", "status").returncode == 0 and pair.runs("node-a") == THREE
    pair.shell("node-a", "pkill -INT -f '[h]a-agent daemon$'")
    wait_for(
        "the service's agent", lambda: pair.agent_pid("node-a") and pair.ha("node-a", "status").returncode == 0, 15, 0.2
    )
    assert pair.runs("node-a") == THREE
    assert [e["code"] for e in pair.history("node-a")].count("agent-started") == 3


def test_what_hands_type_from_habit_is_understood(pair: Pair) -> None:
    up(pair)
    assert pair.ha("node-a", "list").stdout.splitlines()[:4] == pair.ha("node-a", "status").stdout.splitlines()[:4]
    shown = pair.ha("node-b", "maintenance")
    assert shown.returncode == 0 and shown.stdout == "node-b: not in maintenance\nnode-a: not in maintenance\n"
    paused = pair.ha("node-b", "pause", "--for", "5min", "--reason", "new switch")
    assert paused.returncode == 0 and paused.stdout.startswith("node-b and node-a: maintenance until "), paused
    document = json.loads(pair.ha("node-a", "maintenance", "--json").stdout)
    assert [(row["name"], row["on"], row["by"], row["reason"]) for row in document["nodes"]] == [
        ("node-a", True, "root", "new switch"),
        ("node-b", True, "root", "new switch"),
    ]
    assert "by root (new switch)" in pair.ha("node-a", "maintenance").stdout
    assert pair.ha("node-a", "resume").stdout == "node-a and node-b: maintenance is off\n"
    assert json.loads(pair.ha("node-a", "resume", "--json").stdout)["complete"] is True
    assert pair.ha("node-a", "alert").stdout == pair.ha("node-a", "alert", "list").stdout != ""
    assert pair.ha("node-a", "kept").stdout == pair.ha("node-a", "kept", "list").stdout != ""
