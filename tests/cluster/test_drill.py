"""failover-test on a real pair: every mode with its report, refusals, and a clean end whatever becomes of the command."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from typing import Any

import pytest

from tests.lab_support import Pair, wait_for

THREE = {"p0", "p1", "p2"}
PROBE = "tcp://10.77.0.100:22"


def up(pair: Pair) -> None:
    pair.up()
    pair.lab.wait_settled()
    pair.await_runs("node-a", THREE)
    wait_for(
        "all RUNNING",
        lambda: [p["state"] for p in pair.lab.status("node-a")["programs"]] == ["RUNNING"] * 3,
        10,
        0.1,
    )


def run_test(pair: Pair, node: str, mode: str, *words: str) -> dict[str, Any]:
    done = pair.ha(node, "failover-test", "--yes", "--json", "--mode", mode, *words, timeout_s=150)
    assert done.returncode == 0, (done.stdout[-3000:], done.stderr)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def pair_is_whole(pair: Pair) -> bool:
    done = pair.ha("node-b", "switchover", "--dry-run")
    return done.returncode == 0


def check_report(report: dict[str, Any], mode: str, source: str, target: str) -> None:
    assert (report["mode"], report["from"], report["to"], report["passed"]) == (mode, source, target, True)
    assert report["overlap_s"] == {} and report["failed"] == {} and report["registry_equal"] is True
    assert set(report["program_gap_s"]) == THREE
    assert report["timeline"] and report["figures"]["all_running_s"] > 0


@pytest.mark.parametrize("mode", ["switchover", "keepalived-kill"])
def test_a_fault_that_moves_the_vip_is_reported_from_both_nodes_and_handed_back(pair: Pair, mode: str) -> None:
    up(pair)
    report = run_test(pair, "node-a", mode, "--and-back", "--probe", PROBE, "--report", "/var/log/report.html")
    check_report(report, mode, "node-a", "node-b")
    figures = report["figures"]
    assert 0 < figures["detection_s"] < figures["takeover_done_s"] <= figures["all_running_s"]
    assert figures["vip_moved_s"] > 0 and 0 < figures["first_program_s"] <= figures["last_program_s"]
    assert figures["released_s"] <= figures["first_program_s"], "never twice, as the nodes themselves saw it"
    assert all(gap > 0 for gap in report["program_gap_s"].values())
    assert set(report["outage_s"]) == {PROBE}
    assert report["back"]["outcome"] == "done", report["back"]
    assert pair.runs("node-a") == THREE
    page = pair.shell("node-a", "cat /var/log/report.html")
    assert page.startswith("<!DOCTYPE html>") and "<svg" in page and "Verdict: passed" in page
    assert "http://" not in page and "https://" not in page, "the page needs nothing but itself"
    listed = pair.ha("node-a", "failover-test", "--list").stdout
    assert report["id"] in listed and mode in listed and "passed" in listed
    again = pair.ha("node-a", "failover-test", "--show", report["id"], "--json")
    assert json.loads(again.stdout)["figures"] == figures


@pytest.mark.shared_lab
@pytest.mark.parametrize("mode", ["agent-kill", "supervisord-kill"])
def test_a_fault_that_stays_on_its_node_is_reported_too(pair: Pair, mode: str) -> None:
    up(pair)
    before = pair.shell("node-a", "pgrep -x sleep | sort | tr '\\n' ' '")
    report = run_test(pair, "node-b", mode)
    check_report(report, mode, "node-a", "node-a")
    same = pair.shell("node-a", "pgrep -x sleep | sort | tr '\\n' ' '") == before
    assert same is (mode == "agent-kill"), "no program notices the death of the agent, all that of supervisord"
    assert max(report["program_gap_s"].values()) == 0.0 or mode == "supervisord-kill"


@pytest.mark.shared_lab
def test_a_link_that_goes_down_comes_back_by_itself_with_its_routes(pair: Pair) -> None:
    up(pair)
    pair.shell("node-a", "ip route add 192.0.2.0/24 via 10.77.0.12; ip route add 198.51.100.0/24 dev eth0 metric 7")
    refused = pair.ha("node-a", "failover-test", "--yes", "--mode", "link-down")
    assert refused.returncode == 3 and "run it on node-b" in refused.stderr
    report = run_test(pair, "node-b", "link-down", "--probe", PROBE)
    check_report(report, "link-down", "node-a", "node-b")
    assert any(row["code"] == "drill-undone" for row in report["timeline"])
    routes = pair.shell("node-a", "ip route")
    assert "192.0.2.0/24 via 10.77.0.12" in routes and "198.51.100.0/24 dev eth0" in routes and "metric 7" in routes


def test_a_power_cut_is_waited_for_until_the_node_is_back(pair: Pair) -> None:
    up(pair)
    words = pair.lab.words_inside("node-b", ["ha-agent", "failover-test", "--yes", "--json", "--mode", "power"])
    command = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        wait_for("node-a is off", lambda: not pair.lab.is_on("node-a"), 20)
        pair.await_runs("node-b", THREE)
        pair.power_on("node-a")
        out, _ = command.communicate(timeout=60)
    finally:
        command.kill()
        command.wait()
    report = json.loads(out)
    check_report(report, "power", "node-a", "node-b")
    assert report["recovered"] is True
    assert all(0 < gap < 5 for gap in report["program_gap_s"].values())


# ---- refusals -----------------------------------------------------------------------------------------------


def test_a_failover_test_on_a_pair_that_is_not_healthy_is_refused_with_reasons(pair: Pair) -> None:
    """Hazard 39: a failover test on a broken pair.

    Fault: the standby's supervisord is stopped, or its power cut; or a probe does not answer to begin with.
    Answer: the test refuses, with the reasons, and changes nothing.
    Bound: none; nothing is touched.
    """
    up(pair)
    dead = pair.ha("node-a", "failover-test", "--yes", "--probe", "tcp://10.77.0.100:4711")
    assert dead.returncode == 1 and "does not answer even now; nothing was changed" in dead.stderr
    pair.lab.unit("node-b", "stop", "supervisord")
    wait_for("it is seen", lambda: pair.lab.status("node-b")["supervisord"] != "up", 10, 0.1)
    done = pair.ha("node-a", "failover-test", "--yes")
    assert done.returncode == 3 and "[supervisord-down]" in done.stdout and "nothing was changed" in done.stderr
    pair.lab.power_off("node-b")
    wait_for("it is seen", lambda: pair.ha("node-a", "failover-test", "--yes").returncode == 4, 15, 0.2)
    assert pair.runs("node-a") == THREE
    assert pair.role("node-a") == "active"
    assert not os.path.exists(os.path.join(pair.lab.paths.disk("node-a", "state"), "drills"))


@pytest.mark.shared_lab
def test_bad_words_get_one_clear_line(pair: Pair) -> None:
    up(pair)
    for words, text in (
        (("--probe", "10.77.0.100:22"), "tcp://HOST:PORT"),
        (("--probe", "tcp://10.77.0.100"), "tcp://HOST:PORT"),
        (("--probe", "ftp://10.77.0.100"), "tcp://HOST:PORT"),
        (("--json",), "add --yes"),
        (("--mode", "earthquake"), "invalid choice"),
    ):
        done = pair.ha("node-a", "failover-test", *words)
        assert done.returncode == 2 and text in done.stderr and "Traceback" not in done.stderr
    nowhere = pair.ha("node-a", "failover-test", "--yes", "--report", "/nowhere/x.html")
    assert nowhere.returncode == 1 and "/nowhere/x.html: No such file or directory" in nowhere.stderr
    assert pair.ha("node-a", "failover-test", "--show", "none").returncode == 1
    assert pair.role("node-a") == "active", "nothing was done"
    assert "no reports" in pair.ha("node-a", "failover-test", "--list").stdout
    assert pair.ha("node-a", "failover-test", "--dry-run", "--mode", "power").returncode == 3


# ---- whatever becomes of the command ------------------------------------------------------------------------


def begin(pair: Pair, node: str, mode: str) -> subprocess.Popen[str]:
    """Starts a test in the background; with Ctrl-C in force, also where these tests run without it (nohup, CI)."""
    command = ["env", "--default-signal=INT", "ha-agent", "failover-test", "--yes", "--mode", mode]
    words = pair.lab.words_inside(node, command)
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def send(pair: Pair, node: str, number: signal.Signals) -> None:
    """Signals the command itself, within the node."""
    subprocess.run(pair.lab.words_inside(node, ["pkill", f"-{int(number)}", "-f", "failover-[t]est"]), check=False)


@pytest.mark.parametrize("mode", ["switchover", "keepalived-kill", "agent-kill", "supervisord-kill"])
def test_a_command_that_is_killed_at_any_moment_leaves_a_whole_pair(pair: Pair, mode: str) -> None:
    """Hazard 39: a failover test that is interrupted.

    Fault: SIGKILL of the command at four moments of every mode: before the fault, at it, during the takeover, afterwards.
    Answer: the nodes end the fault by themselves; one node is active with every program, the other one its standby.
    Bound: 20 s, for which a fault lasts at most, and what its end needs.
    """
    up(pair)
    chance = random.Random(mode)
    for after_s in (0.5, 1.6, 1.9 + chance.random() * 0.5, 2.5 + chance.random()):
        command = begin(pair, "node-b", mode)
        time.sleep(after_s)
        send(pair, "node-b", signal.SIGKILL)
        command.communicate(timeout=30)
        wait_for(f"the pair is whole after {after_s:.2f} s", lambda: pair_is_whole(pair), 40, 0.2, lambda: _tell(pair))
        active = "node-a" if pair.role("node-a") == "active" else "node-b"
        pair.await_runs(active, THREE)
    for node in ("node-a", "node-b"):
        assert pair.shell(node, "cat /run/ha-agent/track").strip() == "0"


def _tell(pair: Pair) -> str:
    done = pair.ha("node-b", "switchover", "--dry-run")
    return done.stdout + done.stderr


@pytest.mark.shared_lab
@pytest.mark.parametrize("who", ["command", "agent"])
def test_a_link_that_was_taken_down_comes_back_though_its_command_or_agent_died(pair: Pair, who: str) -> None:
    """Hazard 39: a failover test whose node cannot be reached any more.

    Fault: mode link-down; the command, or the agent that took the link down, gets SIGKILL meanwhile.
    Answer: the node, or the agent that comes after, brings the link up again by itself.
    Bound: 20 s after the fault.
    """
    up(pair)
    command = begin(pair, "node-b", "link-down")
    wait_for("the link is down", lambda: "state DOWN" in pair.shell("node-a", "ip link show eth0"), 20)
    if who == "agent":
        # Nobody else releases the programs of a node that nobody reaches.
        wait_for("node-a has released", lambda: not pair.runs("node-a"), 20)
        pair.lab.unit("node-a", "kill", "ha-agent", 9)
    else:
        send(pair, "node-b", signal.SIGKILL)
    wait_for("the link is up", lambda: "state UP" in pair.shell("node-a", "ip link show eth0"), 40, 0.1)
    command.communicate(timeout=60)
    wait_for("the pair is whole", lambda: pair_is_whole(pair), 40, 0.2, lambda: _tell(pair))


@pytest.mark.shared_lab
def test_ctrl_c_ends_the_fault_at_once(pair: Pair) -> None:
    up(pair)
    command = begin(pair, "node-b", "keepalived-kill")
    wait_for("the fault", lambda: pair.history("node-a", "drill-fault"), 20)
    send(pair, "node-b", signal.SIGINT)
    _, errors = command.communicate(timeout=30)
    assert command.returncode == 130 and "interrupted: the fault is over" in errors
    wait_for("keepalived is back", lambda: pair.lab.status("node-a")["keepalived"] == "up", 5, 0.1)
    wait_for("the pair is whole", lambda: pair_is_whole(pair), 20, 0.2, lambda: _tell(pair))


@pytest.mark.shared_lab
def test_two_tests_at_once_are_refused(pair: Pair) -> None:
    up(pair)
    words = pair.lab.words_inside("node-b", ["ha-agent", "failover-test", "--yes", "--mode", "supervisord-kill"])
    first = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    stopped: int | None = None
    try:
        path = f"/proc/{pair.lab.init_pid('node-a')}/root/run/ha-agent/drill.json"
        wait_for("the first has begun", lambda: os.path.exists(path), 20, 0.001)
        # However long the second one takes to start, it finds the first under way.
        with open(f"/proc/{first.pid}/task/{first.pid}/children", encoding="ascii") as file:
            stopped = int(file.read())
        os.kill(stopped, signal.SIGSTOP)
        second = pair.ha("node-a", "failover-test", "--yes", "--mode", "agent-kill")
        assert second.returncode in (1, 3)
        assert "under way" in second.stderr or "refused" in second.stderr
    finally:
        if stopped is not None:
            # nsenter stops with what it waits for.
            for pid in (first.pid, stopped):
                os.kill(pid, signal.SIGCONT)
        out, errors = first.communicate(timeout=60)
    assert first.returncode == 0, (out, errors)


# ---- cuts of a pair with a witness -----------------------------------------------------------------------------


def up_with_witness(pair: Pair) -> None:
    """A whole pair with a witness, whose active node has all three votes."""
    pair.up(witness="ssh")
    pair.lab.wait_settled()
    pair.await_runs("node-a", THREE)
    wait_for("all three votes", lambda: len((pair.lab.status("node-a")["votes"] or {})["promised"]) == 3, 15, 0.1)
    wait_for("the pair is whole", lambda: pair_is_whole(pair), 20, 0.2, lambda: _tell(pair))


CUT_TABLE = "nft list table inet ha_agent_drill 2>/dev/null || true"


def is_cut(pair: Pair) -> bool:
    """Whether the kernel of node-a drops anything of the other two now."""
    return "timeout" in pair.shell("node-a", "nft list table inet ha_agent_drill 2>/dev/null | grep elements || true")


@pytest.mark.parametrize(("mode", "node"), [("partition", "node-a"), ("partition", "node-b"), ("witness-cut", "node-b")])
def test_a_cut_that_leaves_two_votes_stops_nothing_and_is_proven_from_both_sides(pair: Pair, mode: str, node: str) -> None:
    """Hazard 58.

    Fault: failover-test cuts the active node off from its peer, or from the witness, by rules of its own that end.
    Answer: no program stops, none runs twice; the report has both nodes' word for it; nothing is left of the rules.
    Bound: none needed; the cut is over after 20 s.
    """
    up_with_witness(pair)
    pids = pair.shell("node-a", "pgrep -x sleep | sort | tr '\\n' ' '")
    shown = pair.ha(node, "failover-test", "--mode", mode, "--dry-run")
    assert shown.returncode == 0 and "nothing was changed" in shown.stdout and "for 20 s" in shown.stdout, shown.stderr
    report = run_test(pair, node, mode)
    assert (report["mode"], report["from"], report["to"], report["passed"]) == (mode, "node-a", "node-a", True)
    assert report["overlap_s"] == {} and set(report["program_gap_s"].values()) == {0.0}
    assert 19.0 < report["figures"]["cut_s"] < 23.0
    assert {row["name"]: row["met"] for row in report["objectives"]}["stay_s"] is True
    assert (report["figures"]["vip_both_s"] > 0) is (mode == "partition"), "keepalived knows of no votes"
    assert pair.shell("node-a", "pgrep -x sleep | sort | tr '\\n' ' '") == pids
    assert pair.shell("node-a", CUT_TABLE) == ""


def test_a_cut_is_refused_where_nobody_would_have_two_votes(pair: Pair) -> None:
    up_with_witness(pair)
    pair.lab.freeze("witness")
    wait_for("it is missed", lambda: len((pair.lab.status("node-a")["votes"] or {})["promised"]) == 2, 15, 0.1)
    done = pair.ha("node-a", "failover-test", "--mode", "partition", "--yes")
    assert done.returncode == 3 and "nothing was changed" in done.stderr, done.stdout + done.stderr
    pair.lab.thaw("witness")
    assert pair.shell("node-a", CUT_TABLE) == "" and pair.runs("node-a") == THREE


@pytest.mark.shared_lab
def test_a_pair_without_a_witness_is_not_partitioned(pair: Pair) -> None:
    up(pair)
    for mode in ("partition", "witness-cut"):
        done = pair.ha("node-a", "failover-test", "--mode", mode, "--yes")
        assert done.returncode == 3 and "needs a pair with a witness" in done.stderr, done.stderr
    assert not pair.history("node-a", "drill-fault")


@pytest.mark.parametrize("who", ["command", "agent"])
def test_a_cut_ends_by_itself_though_its_command_or_its_agent_died(pair: Pair, who: str) -> None:
    """Hazard 39: a failover test that nobody can end.

    Fault: mode partition; the command gets SIGKILL, or the agent that made the cut is stopped for good (SIGSTOP) meanwhile.
    Answer: the kernel's own timer ends the cut. An agent that is stopped has its programs killed, and the peer takes over.
    Bound: 21 s after the fault.
    """
    up_with_witness(pair)
    command = begin(pair, "node-b", "partition")
    wait_for("the cut", lambda: is_cut(pair), 20, 0.05)
    began = time.monotonic()
    if who == "command":
        send(pair, "node-b", signal.SIGKILL)
        command.communicate(timeout=30)
    else:
        pair.lab.unit("node-a", "kill", "ha-agent", signal.SIGSTOP)
    wait_for("the cut is over", lambda: not is_cut(pair), 30, 0.1)
    assert time.monotonic() - began < 22.0
    if who == "agent":
        pair.lab.unit("node-a", "kill", "ha-agent", signal.SIGCONT)
        send(pair, "node-b", signal.SIGKILL)
        command.communicate(timeout=30)
    wait_for("the pair is whole", lambda: pair_is_whole(pair), 60, 0.2, lambda: _tell(pair))
    assert pair.shell("node-a", "nft list tables").count("ha_agent_drill") <= 1
