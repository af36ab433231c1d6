"""Degraded states, and what each face says of them: status, doctor, its line for Nagios, check, alerts. All agree."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from ha_agent.lab.layout import NODES, fresh_directory
from tests.lab_support import Pair, wait_for

THREE = {"p0", "p1", "p2"}
TOML = "/etc/ha-agent/agent.toml"
CONFS = "/etc/supervisor/conf.d"


@dataclass(frozen=True, slots=True)
class State:
    """How a state is made and lifted on a node, and what must be said of it on the other one.

    ``also``: codes that may be said besides. ``part``: which ``ha-agent check`` is not well.
    """

    code: str
    node: str
    make: str
    lift: str
    severity: str
    part: str
    word: str
    also: frozenset[str] = frozenset()


RESTART = "systemctl restart ha-agent"
STATES = {
    "keepalived of the standby is down": State(
        "standby-unfit",
        "node-b",
        "systemctl stop keepalived",
        "systemctl start keepalived",
        "error",
        "standby",
        "node-b could not take over: keepalived is not running",
        frozenset({"keepalived-down"}),
    ),
    "supervisord of the standby is down": State(
        "standby-unfit",
        "node-b",
        "systemctl stop supervisord",
        "systemctl start supervisord",
        "error",
        "standby",
        "node-b could not take over",
        frozenset({"supervisord-down"}),
    ),
    "the agent of the standby is down": State(
        "peer-lost",
        "node-b",
        "systemctl stop ha-agent",
        "systemctl start ha-agent",
        "error",
        "standby",
        "node-b does not answer",
    ),
    "a setting of the standby differs": State(
        "config-differs",
        "node-b",
        f"cp {TOML} /tmp/good; sed -i 's/^#*router_id = .*/router_id = 99/' {TOML}; {RESTART}",
        f"cp /tmp/good {TOML}; {RESTART}",
        "error",
        "standby",
        "vrrp.router_id must be the same on both nodes: 51 on node-a, 99 on node-b",
    ),
    "its registry is gone": State(
        "standby-unfit",
        "node-b",
        f"mv {CONFS} {CONFS}.gone",
        f"mv {CONFS}.gone {CONFS}",
        "error",
        "standby",
        "node-b could not take over",
        frozenset({"registry-unavailable", "standby-edit", "replication-lag", "standby-not-ready"}),
    ),
    "deletions are held": State(
        "registry-held",
        "node-a",
        f"mkdir -p /tmp/away; mv {CONFS}/p0.conf {CONFS}/p1.conf {CONFS}/p2.conf /tmp/away/",
        f"mv /tmp/away/*.conf {CONFS}/",
        "error",
        "replication",
        "replication is held",
        frozenset({"program-stopped"}),
    ),
}


@pytest.fixture(scope="module")
def shared() -> Iterator[Pair]:
    """One pair for all states: each is lifted again."""
    made = Pair(fresh_directory("degraded"))
    try:
        made.up()
        made.await_runs("node-a", THREE)
        made.await_in_sync("node-a")
        yield made
    finally:
        made.down()
    made.check_invariant()


def codes(pair: Pair, *words: str) -> dict[str, str]:
    document = json.loads(pair.ha("node-a", *words, "--json").stdout)
    rows = document["problems"] if "problems" in document else document["nodes"][0]["findings"]
    return {row["code"]: row["severity"] for row in rows if row["severity"] != "ok"}


def is_well(pair: Pair) -> bool:
    done = pair.ha("node-a", "status", "--check")
    return done.returncode == 0 and done.stdout.startswith("OK: node-a active, node-b ready, in sync")


@pytest.mark.parametrize("name", STATES)
def test_every_face_says_what_is_wrong_and_none_is_green_meanwhile(shared: Pair, name: str) -> None:
    """Design, truth in the degraded states: one judgement.

    Fault: keepalived, supervisord, the agent or the registry of the standby is gone, settings differ, deletions are held.
    Answer: status, its first line and its exit status, doctor, the line for Nagios, `check` and the alerts say the same.
    Bound: 15 s; a well pair is "OK" on every face before and after.
    """
    state = STATES[name]
    wait_for("a well pair", lambda: is_well(shared), 20, 0.2, lambda: shared.ha("node-a", "status").stdout)
    shared.shell(state.node, state.make)
    try:
        wait_for(
            "status", lambda: state.code in codes(shared, "status"), 15, 0.2, lambda: shared.ha("node-a", "status").stdout
        )
        screen = shared.ha("node-a", "status", "--check")
        assert screen.stdout.startswith("CRITICAL: ") and state.word in screen.stdout and screen.returncode == 2
        assert set(codes(shared, "status")) <= {state.code, *state.also}
        assert codes(shared, "doctor")[state.code] == state.severity, codes(shared, "doctor")
        nagios = shared.ha("node-a", "doctor", "--nagios")
        assert nagios.returncode == 2 and nagios.stdout.startswith("HA-AGENT CRITICAL")
        check = shared.ha("node-a", "check", state.part)
        assert check.returncode == 2 and check.stdout.startswith("HA-AGENT CRITICAL"), check
        wait_for("the alert", lambda: state.code in shared.ha("node-a", "alert", "list").stdout, 20, 0.2)
        if state.part == "standby":
            assert shared.ha("node-a", "switchover", "--dry-run").returncode != 0, (
                "a switchover would go, or fail, all the same"
            )
    finally:
        shared.shell(state.node, state.lift)
    wait_for("a well pair again", lambda: is_well(shared), 30, 0.2, lambda: shared.ha("node-a", "status").stdout)
    assert shared.ha("node-a", "check", state.part).returncode == 0
    wait_for("no alert", lambda: "no alert lasts" in shared.ha("node-a", "alert", "list").stdout, 40, 0.5)


def test_a_node_without_its_agent_says_what_else_is_seen_of_it(pair: Pair) -> None:
    """Design, truth: the agent of the active node is gone.

    Fault: the agent of the active node is stopped; later keepalived, supervisord and the peer's machine, too.
    Answer: status says role, VIP, keepalived, supervisord and programs as /proc and the interface have them, and ends with
    5; nobody who lacks the permission is told a state that he cannot see.
    Bound: none needed.
    """
    pair.up()
    pair.await_runs("node-a", THREE)
    pair.await_in_sync("node-a")
    pair.shell("node-a", "systemctl stop ha-agent")
    screen = pair.ha("node-a", "status")
    assert screen.returncode == 5 and not screen.stderr
    assert screen.stdout.startswith("CRITICAL: node-a has no agent: the VIP is here, 4 programs of supervisord run\n")
    assert "active as its agent noted" in screen.stdout and "node-a became active" in screen.stdout
    assert "its machine answers" in screen.stdout and "keepalived    runs (pid" in screen.stdout
    asked = "runuser -u nobody -- ha-agent status || test $? = 5"
    assert "supervisord's socket is not for this user" in " ".join(pair.shell("node-a", asked).split())
    seen = json.loads(pair.ha("node-a", "status", "--json").stdout)["without_agent"]
    assert {name for name, state in seen["programs"].items() if state == "RUNNING"} > THREE
    assert seen["vip_here"] == ("10.77.0.100" in pair.shell("node-a", "ip -4 addr"))
    assert str(seen["supervisord_pid"]) in pair.shell("node-a", "pgrep -f supervisord").split()
    pair.shell("node-a", "systemctl stop keepalived; systemctl stop supervisord")
    pair.lab.power_off("node-b")
    screen = pair.ha("node-a", "status")
    assert screen.stdout.startswith("CRITICAL: node-a has no agent: the VIP is not here, supervisord does not run\n")
    assert "its machine gives no sign of life" in " ".join(screen.stdout.split())
    assert "  -> systemctl start keepalived" in screen.stdout
    pair.shell("node-a", "systemctl start supervisord; systemctl start ha-agent; systemctl start keepalived")
    wait_for("status of the agent", lambda: "VRRP" in pair.ha("node-a", "status").stdout, 15, 0.2)


def test_a_partition_is_told_while_it_lasts_and_afterwards(pair: Pair) -> None:
    """Design, truth: neither node reaches the other, by adverts or by IP.

    Fault: the switch forwards nothing from or to node-b for 8 s.
    Answer: each side says that the other one may run the same programs, or that its word is missing; afterwards the node
    that took over later says for how long both ran, in status, in the history and as an alert.
    Bound: what guarantees.md says of a partition.
    """
    pair.allowed_overlap_s = 40.0
    pair.up()
    pair.await_runs("node-a", THREE)
    pair.await_in_sync("node-a")
    pair.lab.isolate("node-b")
    try:
        pair.await_runs("node-b", THREE, 15)
        wait_for("node-b says so", lambda: "may-run-twice" in codes_of(pair, "node-b"), 15, 0.2)
        wait_for("node-a says so", lambda: "peer-lost" in codes_of(pair, "node-a"), 15, 0.2)
        assert "no node is active" not in pair.ha("node-a", "status").stdout + pair.ha("node-b", "status").stdout
    finally:
        pair.lab.rejoin("node-b")
    wait_for("one of them stops", lambda: sorted(map(pair.role, NODES)) == ["active", "standby"], 40, 0.2)
    told = wait_for(
        "what happened", lambda: pair.history("node-b", "ran-twice") + pair.history("node-a", "ran-twice"), 15, 0.2
    )
    assert len(told) == 1 and told[0]["took_s"] > 1 and "were both active" in told[0]["text"]
    teller = told[0]["node"]
    assert "! 3 groups of programs ran on both nodes for" in pair.ha(teller, "status").stdout
    wait_for("both say so", lambda: all("ran-twice" in codes_of(pair, node) for node in NODES), 20, 0.2)
    wait_for("the alert", lambda: "ran-twice" in pair.ha(teller, "alert", "list").stdout, 15, 0.2)


def has_no_service(pair: Pair, node: str) -> bool:
    return "no-service" in codes_of(pair, node)


def codes_of(pair: Pair, node: str) -> set[str]:
    return {row["code"] for row in json.loads(pair.ha(node, "status", "--json").stdout)["problems"]}


def test_programs_that_a_takeover_has_still_to_start_are_no_stopped_ones(pair: Pair) -> None:
    """Design, truth: transitions are no faults.

    Fault: a switchover with programs that need 6 s to be RUNNING.
    Answer: status says how many are starting, never that they were stopped and should be parked.
    Bound: until the takeover is verified.
    """
    slow = {f"s{n}.conf": f"[program:s{n}]\ncommand=/bin/sleep infinity\nstartsecs=6\n" for n in range(8)}
    pair.up(slow)
    pair.await_runs("node-a", {f"s{n}" for n in range(8)})
    wait_for("the first takeover", lambda: pair.history("node-a", "takeover-verified"), 20, 0.2)
    pair.shell("node-a", "echo 1 > /run/ha-agent/track")
    pair.await_role("node-b", "active")
    said = []
    while not pair.history("node-b", "takeover-verified"):
        said.append(pair.lab.run("node-b", "ha-agent", "status", check=False))
    pair.shell("node-a", "echo 0 > /run/ha-agent/track")
    assert any("starting 8 of 8" in text for text in said), said
    assert not any("stopped but registered" in text for text in said)


def test_the_vip_without_the_programs_is_no_service(pair: Pair) -> None:
    """Hazard 50 and design, truth: no service.

    Fault: in maintenance, in which no role changes, keepalived of the active node stops; the VIP moves.
    Answer: status says so in its first line on both nodes, before the maintenance, and an alert does.
    Bound: 15 s.
    """
    pair.up()
    pair.await_runs("node-a", THREE)
    pair.await_in_sync("node-a")
    assert pair.ha("node-a", "maintenance", "on", "--for", "10m").returncode == 0
    pair.shell("node-a", "systemctl stop keepalived")
    for node in NODES:
        wait_for("no service", functools.partial(has_no_service, pair, node), 10, 0.1)
        screen = pair.ha(node, "status").stdout
        assert screen.startswith("CRITICAL: no service: the VIP is on node-b, the programs run on node-a"), screen
    wait_for("the alert", lambda: "no-service" in pair.ha("node-a", "alert", "list").stdout, 20, 0.2)
    pair.shell("node-a", "systemctl start keepalived")
    assert pair.ha("node-a", "maintenance", "off").returncode == 0
