"""SIGKILL swept over both procedures, and agents that find their state damaged."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time

import pytest

from ha_agent.lab.layout import NODES
from tests.lab_support import Pair, sleepers, wait_for

MOMENTS = 14
"""Number of moments of each procedure that are tried, from its first step to beyond its last."""


def agent_on_machine(pair: Pair, node: str) -> int:
    """The agent's process id as this machine numbers it."""
    init = pair.lab.init_pid(node)
    space = os.stat(f"/proc/{init}/ns/pid").st_ino
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().split(b"\0")
            if os.stat(f"/proc/{pid}/ns/pid").st_ino == space and b"daemon" in words and b"ha_agent" in words:
                return int(pid)
    raise AssertionError(f"no agent on {node}")


def role_on_disk(pair: Pair, node: str) -> str:
    """The role that an agent which is started now would go on with."""
    path = f"/proc/{pair.lab.init_pid(node)}/root/run/ha-agent/role.json"
    with contextlib.suppress(OSError, ValueError), open(path, encoding="ascii") as file:
        return str(json.load(file)["role"])
    return ""


@pytest.mark.parametrize("procedure", ["taking_over", "releasing"])
def test_a_procedure_that_is_killed_at_any_moment_is_finished_by_the_next_agent(pair: Pair, procedure: str) -> None:
    """Hazard 37: the agent is killed at any point of a takeover or release.

    Fault: hand-overs to and fro; in each the agent that takes over (or releases) is killed a little later than in the last.
    Answer: the next agent finds the role in /run and the epoch on disk and continues; every step can be done again.
    Bound: the agent's start (0.5 s); no overlap, no second copy.
    """
    command = "/bin/bash -c 'trap \"sleep 0.15; exit\" TERM; while :; do sleep 0.02; done'"
    pair.up({**sleepers(20), "slow.conf": f"[program:slow]\ncommand={command}\nstartsecs=0\n"})
    everything = {f"p{n}" for n in range(20)} | {"slow"}
    pair.await_runs("node-a", everything)
    for number in range(MOMENTS):
        source, target = NODES[number % 2], NODES[1 - number % 2]
        victim = target if procedure == "taking_over" else source
        agent = agent_on_machine(pair, victim)
        pair.shell(source, "echo 1 > /run/ha-agent/track")
        wait_for(procedure, lambda: role_on_disk(pair, victim) == procedure, 5, 0.001)  # noqa: B023
        time.sleep(0.02 * number)
        with contextlib.suppress(ProcessLookupError):
            os.kill(agent, signal.SIGKILL)
        pair.await_runs(target, everything, 15)
        pair.await_role(target, "active")
        pair.await_role(source, "standby")
        pair.shell(source, "echo 0 > /run/ha-agent/track")
        wait_for("BACKUP", lambda: pair.lab.status(source)["vrrp_state"] == "BACKUP", 5, 0.05)  # noqa: B023
    assert not pair.probe.doubles


@pytest.mark.parametrize(
    ("content", "word"),
    [("", "empty"), ('{"version": 1, "epo', "damaged"), ("\0\0\0\0garbage", "damaged")],
    ids=["empty", "truncated", "garbage"],
)
def test_an_agent_with_a_damaged_state_says_so_and_learns_the_epoch_from_its_peer(
    pair: Pair, content: str, word: str
) -> None:
    """Hazard 37: the state file is empty, truncated or garbage.

    Fault: the standby's state.json is damaged and its agent killed.
    Answer: the file is put aside, the history says what was found, and the epoch comes from the peer and the journal.
    Bound: a takeover afterwards has a newer epoch than the one before.
    """
    pair.up()
    pair.hand_over("node-b")
    pair.hand_over("node-a")
    epoch = pair.lab.status("node-a")["epoch"]
    state = os.path.join(pair.lab.paths.disk("node-b", "state"), "state.json")
    pair.lab.unit("node-b", "stop", "ha-agent")
    with open(state, "w", encoding="ascii") as file:
        file.write(content)
    pair.lab.unit("node-b", "start", "ha-agent")
    pair.await_role("node-b", "standby")
    assert any(word in e["text"] for e in pair.history("node-b", "state-damaged"))
    assert any(name.startswith("state.json.damaged-") for name in os.listdir(os.path.dirname(state)))
    wait_for("the epoch", lambda: pair.lab.status("node-b")["epoch"] == epoch, 5, 0.05)
    pair.hand_over("node-b")
    assert pair.lab.status("node-b")["epoch"] == epoch + 1


def test_an_agent_whose_state_is_of_a_newer_version_refuses_to_start_and_its_node_is_fenced(pair: Pair) -> None:
    """Hazard 37: the state file is from a newer version.

    Fault: the active node's agent finds a state.json of version 99.
    Answer: it names the file and the versions, touches nothing, and does not start; systemd gives it up, ha-agent-fence ends
    the programs, the peer takes over.
    Bound: five starts and takeover.silent_peer_s; no overlap.
    """
    pair.up(overrides={"takeover": {"silent_peer_s": 3.0}})
    pair.await_runs("node-a", {"p0", "p1", "p2"})
    # On a busy machine five starts take longer than the ten seconds in which systemd counts them.
    pair.lab.unit("node-a", "set", "ha-agent", interval_s=60.0)
    state = os.path.join(pair.lab.paths.disk("node-a", "state"), "state.json")
    with open(state, "w", encoding="ascii") as file:
        file.write('{"version": 99, "epoch": 4}')
    pair.lab.unit("node-a", "kill", "ha-agent", 9)
    pair.await_runs("node-b", {"p0", "p1", "p2"}, 25)
    with open(pair.lab.paths.log("node-a", "ha-agent"), encoding="utf-8") as file:
        assert "state.json is of version 99, this agent knows 1" in file.read()
    with open(state, encoding="ascii") as file:
        assert "99" in file.read()
