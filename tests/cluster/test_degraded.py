"""Degraded states, and what each face says of them: status, doctor, its line for Nagios, check, switchover and alerts.

All agree, in every state of the table and in some on pairs of their own. What is said is compared with the machine
itself, and written down in docs/degraded.md.
"""

from __future__ import annotations

import functools
import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from ha_agent.lab.layout import NODES, fresh_directory
from tests.cluster.degraded_states import BY_STANDBY, NAMES, OF_PAIR, SLOW, THREE, State, has_vip, seen_pids
from tests.degraded_page import IS_WRITTEN, Row, keep, read_sections, render, steady
from tests.lab_support import Pair, wait_for

SAID = {"error": (2, "CRITICAL"), "warning": (1, "WARNING"), "unknown": (3, "UNKNOWN"), "ok": (0, "OK")}
"""Exit status and first word by severity."""

FACES = (
    ("status",),
    ("status", "--check"),
    ("doctor", "--nagios"),
    ("check", "role"),
    ("check", "standby"),
    ("check", "replication"),
    ("switchover", "--dry-run"),
)
"""In the order of the page's columns."""

DISK = 48 << 20


@pytest.fixture(scope="module")
def well_pair() -> Iterator[Pair]:
    """One pair for all states of a group: each is lifted again."""
    made = Pair(fresh_directory("degraded"))
    try:
        made.up({f"{name}.conf": SLOW.format(name=name) for name in sorted(THREE)}, disk_bytes=DISK)
        made.await_runs("node-a", THREE)
        made.await_in_sync("node-a")
        yield made
    finally:
        made.down()
    made.check_invariant()


def is_well(pair: Pair) -> bool:
    """By the agents, and then by the command itself."""
    seen = pair.document("node-a")
    if seen is None or seen["severity"] != "ok":
        return False
    done = pair.ha("node-a", "status", "--check")
    return done.returncode == 0 and done.stdout.startswith("OK: node-a active, node-b ready, in sync")


def read_status(pair: Pair, node: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(pair.ha(node, "status", "--json").stdout)
    return document


SPELLS = 12


def is_said(pair: Pair, state: State, node: str) -> bool:
    """Whether ``node`` says what is wrong and nothing else but what may be said besides: its agent, and then the command."""
    seen = pair.document(node)
    return (seen is None or _says(seen, state, node)) and _says(read_status(pair, node), state, node)


def _says(document: dict[str, Any], state: State, node: str) -> bool:
    said = {row["code"] for row in document["problems"]}
    if node == state.asked[0] and state.word not in document["verdict"]:
        return False
    return state.code in said if state.code else not said


def compare_with_machine(pair: Pair, document: dict[str, Any]) -> None:
    """What each node that answers says of itself is so by /proc and the interface."""
    for node in document["nodes"]:
        if not node["reachable"]:
            continue
        name = node["name"]
        assert node["vip"] is has_vip(pair, name), node
        assert (node["keepalived"] == "up") is bool(seen_pids(pair, name, "keepalived -n")), node
        assert (node["supervisord"] == "up") is bool(seen_pids(pair, name, "supervisord -n")), node
        running = {row["name"] for row in node["programs"] if row["state"] == "RUNNING"} & THREE
        assert running <= pair.runs(name) and (node["role"] != "active" or pair.runs(name) >= THREE), (node, pair.runs(name))


def hear(pair: Pair, state: State, node: str) -> Row:
    """Asks every face of ``node``, which must agree; returns what the page has of it."""
    severity = state.severity if state.code else "ok"
    status, word = SAID[severity]
    screen = pair.ha(node, "status", "--check")
    first = screen.stdout.splitlines()[0]
    assert first.startswith(f"{word}: ") and screen.returncode == status, screen
    plain = pair.ha(node, "status", "--json")
    document = json.loads(plain.stdout)
    said = steady(f"{word}: {document['verdict']}")
    assert document["severity"] == severity and said.startswith(steady(first).rstrip()), (said, first)
    assert {row["code"] for row in document["problems"]} <= {state.code, *state.also} - {""}, document["problems"]
    joined = steady(" ".join(screen.stdout.split()))
    for row in document["problems"]:
        assert row["remedy"] and steady(f"! {row['text']}") in joined and f"-> {row['remedy']}" in joined, row
    compare_with_machine(pair, document)
    doctor = json.loads(pair.ha(node, "doctor", "--json").stdout)
    found = {row["code"]: row["severity"] for row in doctor["nodes"][0]["findings"] if row["severity"] != "ok"}
    if state.code:
        assert found.get(state.code) == severity, found
    nagios = pair.ha(node, "doctor", "--nagios")
    assert nagios.returncode >= status and nagios.stdout.startswith("HA-AGENT "), nagios
    if severity == "error":
        assert nagios.returncode == 2 and nagios.stdout.startswith("HA-AGENT CRITICAL"), nagios
    checks = [pair.ha(node, "check", part) for part in ("role", "standby", "replication")]
    for check in checks:
        assert check.stdout.startswith(f"HA-AGENT {('OK', 'WARNING', 'CRITICAL', 'UNKNOWN')[check.returncode]} - "), check
    dry = pair.ha(node, "switchover", "--dry-run")
    statuses = [plain.returncode, screen.returncode, nagios.returncode, *(c.returncode for c in checks), dry.returncode]
    if node == state.asked[0]:
        assert state.word in first, first
        assert tuple(c.returncode for c in checks) == state.checks and dry.returncode == state.refuses, statuses
    return Row(node, first, statuses)


def hear_all(pair: Pair, state: State) -> tuple[list[Row], dict[str, Any]]:
    """What all faces of all nodes say, and status' document of the first one."""
    for left in range(SPELLS if state.comes_and_goes else 1, 0, -1):
        try:
            rows = [hear(pair, state, node) for node in state.asked]
            document = read_status(pair, state.asked[0])
            codes = {row["code"] for row in document["problems"]}
            assert not state.code or state.code in codes, codes
            # The faces of one node were asked one after the other, too.
            assert not state.comes_and_goes or all(row.statuses[-1] == state.refuses for row in rows), rows
        except AssertionError:
            if left == 1:
                raise
        else:
            return rows, document
    raise AssertionError("unreachable")


def ask_faces(pair: Pair, node: str) -> Row:
    """What the page has of ``node``, whatever it is."""
    said = [pair.ha(node, *words) for words in FACES]
    return Row(node, said[1].stdout.splitlines()[0], [done.returncode for done in said])


def has_alert(pair: Pair, state: State) -> bool:
    """Whether the alert of ``state`` was told and lasts, by the list at the node where it should."""
    document = json.loads(pair.ha(state.alert_at, "alert", "list", "--json").stdout)
    lasting = next(entry["lasting"] for entry in document["nodes"] if entry["node"] == state.alert_at)
    return any(row["code"] == state.told and row["told"] for row in lasting)


def try_state(pair: Pair, state: State) -> None:
    def show(node: str = state.asked[0]) -> str:
        return pair.ha(node, "status").stdout

    wait_for("a well pair", lambda: is_well(pair), 60, 0.2, lambda: pair.ha("node-a", "status").stdout)
    if state.alert_at:
        wait_for("no such alert", lambda: not has_alert(pair, state), 90, 0.5)
    state.make(pair)
    try:
        for node in state.asked:
            wait_for(
                f"{node} says so", functools.partial(is_said, pair, state, node), 40, 0.2, functools.partial(show, node)
            )
        state.truth(pair)
        rows, document = hear_all(pair, state)
        if state.alert_at:
            wait_for("the alert", lambda: has_alert(pair, state), 60, 0.3)
    finally:
        state.lift(pair)
    wait_for("a well pair again", lambda: is_well(pair), 90, 0.2, lambda: pair.ha("node-a", "status").stdout)
    problem = next((row for row in document["problems"] if row["code"] == state.code), {"text": "", "remedy": ""})
    alert = f"`{state.told}` at {state.alert_at}" if state.alert_at else "none that lasts"
    section = render(state.name, state.what, rows, state.code, state.severity, problem["text"], problem["remedy"], alert)
    compare_page(state.name, section)


def compare_page(name: str, section: str) -> None:
    if IS_WRITTEN:
        keep(name, section, NAMES)
    assert read_sections()[name.lower()] == section, "docs/degraded.md has it otherwise"


@pytest.mark.xdist_group("degraded standby")
@pytest.mark.parametrize("state", BY_STANDBY, ids=lambda s: s.name)
def test_every_face_says_what_is_wrong_at_the_standby_and_none_is_green_meanwhile(well_pair: Pair, state: State) -> None:
    """Design, truth in the degraded states: one judgement.

    Fault: settings or versions differ; keepalived, the agent, supervisord, its parser, the registry or the disk of the
    standby fails; it is edited, frozen or off; it cannot load a conf.
    Answer: status, its first line and its exit status, doctor, the line for Nagios, `check`, a switchover's checks and the
    alerts say the same, which is so by /proc and the interface, and say what to do (docs/degraded.md).
    Bound: 40 s; a well pair is "OK" on every face before and after.
    """
    try_state(well_pair, state)


@pytest.mark.xdist_group("degraded pair")
@pytest.mark.parametrize("state", OF_PAIR, ids=lambda s: s.name)
def test_every_face_says_what_is_wrong_with_the_pair_and_none_is_green_meanwhile(well_pair: Pair, state: State) -> None:
    """Design, truth in the degraded states: one judgement.

    Fault: the agent or supervisord of the active node is down, the link or the cable; maintenance, a failover-test or a
    hand-over is under way; deletions are held, a conf is bad, a watch is lost; both nodes are FAULT.
    Answer: as at the standby; what is no fault is called none.
    Bound: 40 s; a well pair is "OK" on every face before and after.
    """
    try_state(well_pair, state)


@pytest.mark.xdist_group("degraded pair")
def test_who_may_not_ask_is_told_that_and_no_state(well_pair: Pair) -> None:
    """Design, truth in the degraded states: what is not known is said to be unknown.

    Fault: somebody asks who is in none of the agent's groups.
    Answer: every face refuses with 3 and says what it takes; none says how the pair is.
    Bound: none needed.
    """
    wait_for("a well pair", lambda: is_well(well_pair), 60, 0.2)
    assert well_pair.shell("node-a", "runuser -u nobody -- test -w /run/ha-agent/control.sock || echo no") == "no\n"
    said = {}
    for words in FACES:
        command = well_pair.lab.words_inside("node-a", ["runuser", "-u", "nobody", "--", "ha-agent", *words])
        said[words] = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        text = said[words].stdout + said[words].stderr
        assert "is active" not in text and (words[0] == "doctor" or "no permission for /run/ha-agent/" in text), said[words]
    first = said[FACES[0]].stderr.splitlines()[0]
    row = Row("node-a", first, [done.returncode for done in said.values()])
    what = "Somebody asks who is in none of the agent's groups. The pair is well."
    compare_page("no permission", render("no permission", what, [row], "", "", "", "", "none"))
    assert set(row.statuses) == {3}, (row, said[FACES[2]])


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
    watched = pair.shell("node-a", "timeout -s INT 3 ha-agent status --watch --json || true").splitlines()
    assert [json.loads(line)["without_agent"] for line in watched] == [seen], "one line, as nothing changes"
    assert "node-a has no agent" in pair.shell("node-a", "timeout -s INT 2 ha-agent status --watch || true")
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
        wait_for("node-b says so", lambda: tells(pair, "node-b", "may-run-twice"), 15, 0.2)
        wait_for("node-a says so", lambda: tells(pair, "node-a", "peer-lost"), 15, 0.2)
        assert "no node is active" not in pair.ha("node-a", "status").stdout + pair.ha("node-b", "status").stdout
        rows = [ask_faces(pair, node) for node in ("node-b", "node-a")]
        problem = read_status(pair, "node-b")["problems"][0]
        assert problem["code"] == "may-run-twice" and all(has_vip(pair, node) for node in NODES), problem
        what = "The switch forwards nothing between the nodes: the standby has taken over, and the active node runs on."
        said = (problem["code"], problem["severity"], problem["text"], problem["remedy"])
        compare_page("dual master", render("dual master", what, rows, *said, "`peer-lost` at node-a and node-b"))
    finally:
        pair.lab.rejoin("node-b")
    wait_for("one of them stops", lambda: sorted(map(pair.role, NODES)) == ["active", "standby"], 40, 0.2)
    told = wait_for(
        "what happened", lambda: pair.history("node-b", "ran-twice") + pair.history("node-a", "ran-twice"), 15, 0.2
    )
    assert len(told) == 1 and told[0]["took_s"] > 1 and "were both active" in told[0]["text"]
    teller = told[0]["node"]
    shown = pair.ha(teller, "status").stdout
    assert "! programs ran on both nodes for" in shown and "(groups: 3)" in shown, shown
    wait_for("both say so", lambda: all(tells(pair, node, "ran-twice") for node in NODES), 20, 0.2)
    wait_for("the alert", lambda: pair.has_told(teller, "ran-twice"), 15, 0.2)


def tells(pair: Pair, node: str, code: str) -> bool:
    """Whether ``node`` says ``code``: its agent, where one answers, and then ``ha-agent status``."""
    seen = pair.document(node)
    return (seen is None or code in _codes(seen)) and code in _codes(read_status(pair, node))


def _codes(document: dict[str, Any]) -> set[str]:
    return {row["code"] for row in document["problems"]}


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
        wait_for("no service", functools.partial(tells, pair, node, "no-service"), 10, 0.1)
        screen = pair.ha(node, "status").stdout
        assert screen.startswith("CRITICAL: no service: the VIP is on node-b, the programs run on node-a"), screen
    wait_for("the alert", lambda: pair.has_told("node-a", "no-service"), 20, 0.2)
    pair.shell("node-a", "systemctl start keepalived")
    assert pair.ha("node-a", "maintenance", "off").returncode == 0
