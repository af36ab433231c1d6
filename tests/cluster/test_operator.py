"""The operator's commands on a real pair, in the states of the pair that they can meet."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import subprocess
import time
from typing import Any

import pytest

import ha_agent
from tests.lab_support import SLEEPER, Pair, stays, wait_for

THREE = {"p0", "p1", "p2"}


def document(pair: Pair, node: str, *words: str) -> Any:
    return json.loads(pair.ha(node, *words, "--json").stdout)


def up(pair: Pair, **options: Any) -> None:
    pair.up(**options)
    pair.lab.wait_settled()
    pair.await_runs("node-a", set(options.get("confs") or THREE) and THREE)


# ---- switchover ---------------------------------------------------------------------------------------------


@pytest.mark.shared_lab
def test_a_switchover_from_either_node_moves_everything_once_and_says_what_it_took(pair: Pair) -> None:
    """Hazard 10: the VIP moves on purpose under nopreempt.

    Fault: a switchover, three times, asked for on one node.
    Answer: the weight-0 track file says FAULT; the other node takes over when nothing is left, and the file is lifted.
    Bound: no overlap.
    """
    up(pair)
    for asked_on, target in (("node-b", "node-b"), ("node-b", "node-a"), ("node-b", "node-b")):
        result = document(pair, asked_on, "switchover", "--yes")
        assert (result["outcome"], result["to"], result["failed"]) == ("done", target, {})
        assert result["running"] == 3 and result["release"]["to"] == "standby" and result["takeover"]["to"] == "active"
        assert pair.runs(target) == THREE
        assert pair.lab.status(target)["vip"] is True
    assert [e["by"] for e in pair.history("node-a", "switchover")] == ["root", "root"]
    assert "hand-over" in [e["code"] for e in pair.history("node-a")]


@pytest.mark.shared_lab
def test_a_dry_run_shows_and_changes_nothing_and_without_a_terminal_nothing_is_assumed(pair: Pair) -> None:
    up(pair)
    shown = pair.ha("node-a", "switchover", "--dry-run")
    assert shown.returncode == 0 and "node-a stops 3 programs" in shown.stdout and "nothing was changed" in shown.stdout
    declined = pair.ha("node-a", "switchover")
    assert declined.returncode == 3 and "--yes" in declined.stderr
    assert pair.ha("node-a", "switchover", "--json").returncode == 2
    stays("nothing moves", lambda: pair.runs("node-a") == THREE and not pair.runs("node-b"), 0.5)


@pytest.mark.shared_lab
def test_a_switchover_waits_for_the_changes_of_the_last_moment_and_loses_none(pair: Pair) -> None:
    """What was there at the hand-over is on the new active node; what came later is in the old one's conf or kept there.

    Within a heartbeat the new active node's content replaces what was written on the standby.
    """
    up(pair)
    edit = 'for i in $(seq 200); do echo "; $i" >> /etc/supervisor/conf.d/p1.conf; sleep 0.01; done; touch /tmp/edited'
    pair.shell("node-a", f"({edit}) >/dev/null 2>&1 &")
    result = document(pair, "node-b", "switchover", "--yes")
    assert result["outcome"] == "done", result
    wait_for("the editor's end", lambda: pair.shell("node-a", "ls /tmp/edited 2>/dev/null || true"), 30, 0.1)

    def lines(content: str) -> set[int]:
        return {int(line[2:]) for line in content.splitlines() if line.startswith("; ")}

    handed = lines(pair.files("node-b")["p1.conf"][1].decode())
    assert handed == set(range(1, len(handed) + 1)) and handed, "the new active node has a conf without a gap"
    assert lines(pair.files("node-a")["p1.conf"][1].decode()) >= handed
    told = pair.history("node-a", "standby-edit") + pair.history("node-a", "divergence-kept")
    assert any("p1.conf" in event["paths"] for event in told), "what came later was made on a standby, and is said to be"
    pair.ha("node-b", "sync")
    assert pair.files("node-a")["p1.conf"] == pair.files("node-b")["p1.conf"]
    kept = {row["name"] for row in document(pair, "node-a", "kept", "list", "p1.conf")["kept"] if row["node"] == "node-a"}
    found = handed.union(*(lines(pair.ha("node-a", "kept", "show", name).stdout) for name in kept))
    assert found == set(range(1, 201)), f"lost: {sorted(set(range(1, 201)) - found)}"


def test_a_switchover_to_a_standby_that_can_not_run_everything_is_refused_with_the_reason(pair: Pair) -> None:
    up(pair)
    conf = "[program:only-a]\ncommand=/etc/ha-agent/only-a infinity\nstartsecs=0\n"
    pair.shell("node-a", "cp /bin/sleep /etc/ha-agent/only-a")
    with open(pair.path("node-a", "only-a.conf"), "w", encoding="ascii") as file:
        file.write(conf)
    pair.await_equal()
    wait_for("the verdict on node-b", lambda: pair.lab.status("node-b")["readiness"]["warnings"], 10, 0.1)
    done = pair.ha("node-b", "switchover", "--yes")
    assert done.returncode == 3
    assert "node-b: cannot start only-a.conf" in done.stdout and "/etc/ha-agent/only-a is missing" in done.stdout
    assert "--force" in done.stderr
    forced = pair.ha("node-b", "switchover", "--yes", "--force")
    assert "overridden by --force" in forced.stdout and "only-a.conf" in forced.stdout
    assert forced.returncode == 7 and "only-a" in forced.stderr
    assert pair.runs("node-b") == THREE


@pytest.mark.shared_lab
def test_a_switchover_that_leads_nowhere_ends_where_it_began(pair: Pair) -> None:
    """Design, switchover: a hand-over that the other node does not take.

    Fault: the standby's keepalived hangs when the active node gives up MASTER.
    Answer: the track file is lifted again by the node itself, and the node is active as before.
    Bound: 5 s and five adverts.
    """
    up(pair)
    pair.shell("node-b", "pkill -STOP keepalived")
    done = pair.ha("node-a", "switchover", "--yes", "--timeout", "3")
    assert done.returncode == 6 and "not finished after 3 s" in done.stderr
    pair.await_runs("node-a", THREE, 20)
    pair.await_role("node-a", "active")
    assert pair.shell("node-a", "cat /run/ha-agent/track").strip() == "0"
    pair.shell("node-b", "pkill -CONT keepalived")
    pair.lab.wait_settled()


def test_a_switchover_against_preemption_is_refused(pair: Pair) -> None:
    up(pair, overrides={"vrrp": {"nopreempt": False}})
    done = pair.ha("node-a", "switchover", "--yes")
    assert done.returncode == 3 and "[preempt]" in done.stdout and "nopreempt = true" in done.stdout


# ---- states of the pair -------------------------------------------------------------------------------------


def test_with_the_standby_down_every_command_says_so_at_once_and_with_its_exit_status(pair: Pair) -> None:
    up(pair)
    pair.lab.power_off("node-b")
    wait_for("the link is seen down", lambda: pair.is_alone("node-a"), 15, 0.2)
    status = pair.ha("node-a", "status")
    assert status.stdout.startswith("CRITICAL: node-b does not answer, heard last ")
    assert "standby when last heard" in status.stdout and "heard " in status.stdout
    for words, code in (
        (("history",), 4),
        (("diff",), 4),
        (("kept", "list"), 4),
        (("sync",), 4),
        (("switchover", "--yes"), 4),
        (("maintenance", "on", "--for", "1min"), 7),
        (("maintenance", "off"), 7),
    ):
        began = time.monotonic()
        done = pair.ha("node-a", *words)
        assert done.returncode == code, (words, done)
        assert "node-b" in done.stderr + done.stdout
        assert "Traceback" not in done.stderr
        assert time.monotonic() - began < 10, "a command that waited for the other node would take longer"


@pytest.mark.shared_lab
def test_without_a_daemon_every_command_says_so_in_one_line(pair: Pair) -> None:
    up(pair)
    pair.lab.unit("node-b", "stop", "ha-agent")
    for words in (
        ("history",),
        ("diff",),
        ("kept", "list"),
        ("sync",),
        ("switchover", "--yes"),
        ("maintenance", "on"),
    ):
        done = pair.ha("node-b", *words)
        assert done.returncode == 5
        assert done.stderr.count("\n") == 1 and "systemctl start ha-agent" in done.stderr


@pytest.mark.shared_lab
def test_both_nodes_standby_is_the_first_thing_said(pair: Pair) -> None:
    up(pair)
    for node in ("node-a", "node-b"):
        pair.shell(node, "echo 1 > /run/ha-agent/track")
    for node in ("node-a", "node-b"):
        # On a busy machine node-b has taken over before its own file says 1.
        pair.await_role(node, "standby")
    assert pair.ha("node-b", "status").stdout.startswith("CRITICAL: no node is active")
    done = pair.ha("node-b", "switchover", "--yes")
    assert done.returncode == 3 and "there is no active node with a standby" in done.stdout


def test_in_a_full_partition_each_node_says_that_it_is_active_and_can_not_reach_the_other(pair: Pair) -> None:
    pair.allowed_overlap_s = 30.0
    up(pair)
    pair.lab.isolate("node-b")
    pair.await_role("node-b", "active", 30)
    for node, peer in (("node-a", "node-b"), ("node-b", "node-a")):
        shown = pair.ha(node, "status")
        assert shown.returncode == 4 and f"! {peer} does not answer" in shown.stdout
        assert shown.stdout.startswith("CRITICAL: ")
        assert pair.lab.status(node)["role"] == "active"
        assert pair.ha(node, "switchover", "--yes").returncode == 4
    pair.lab.rejoin("node-b")
    wait_for("the pair is whole", lambda: pair.is_whole("node-a"), 30, 0.2)
    pair.lab.wait_settled(30)


@pytest.mark.shared_lab
def test_a_live_status_shows_what_changes_and_ends_with_ctrl_c(pair: Pair, tmp_path: pathlib.Path) -> None:
    up(pair)
    command = ["env", "--default-signal=INT", "timeout", "-s", "INT", "60", "ha-agent", "status", "--watch", "--json"]
    out, errors = tmp_path / "out", tmp_path / "errors"

    def shown() -> list[list[str]]:
        lines = [line for line in out.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
        return [[node.get("role") for node in json.loads(line)["nodes"]] for line in lines]

    with open(out, "wb") as stdout, open(errors, "wb") as stderr:
        watching = subprocess.Popen(pair.lab.words_inside("node-b", command), stdout=stdout, stderr=stderr)
    wait_for("the first account", lambda: ["standby", "active"] in shown(), 10)
    pair.kill_agent("node-b")
    wait_for("the new agent's account", lambda: shown().count(["standby", "active"]) >= 2, 10)
    assert pair.ha("node-a", "switchover", "--yes").returncode == 0
    wait_for("the new roles", lambda: ["active", "standby"] in shown(), 10, show=lambda: str(shown()))
    pair.shell("node-b", "pkill -INT -f '[h]a-agent status --watch'")
    watching.wait(20)
    assert errors.read_text(encoding="utf-8") == "", "Ctrl-C is no fault"
    assert len(shown()) <= 12, "a line a change"


@pytest.mark.shared_lab
def test_a_terminal_gets_colour_and_a_pipe_plain_text(pair: Pair) -> None:
    up(pair)
    pair.shell("node-b", "supervisorctl -c /etc/supervisor/supervisord.conf pid >/dev/null; echo 1 > /run/ha-agent/track")
    wait_for("a fault to show", lambda: "could not take over" in pair.ha("node-a", "status").stdout, 20, 0.1)
    assert "\033" not in pair.ha("node-a", "status").stdout
    pair.shell("node-a", "ha-agent maintenance on --for 1min --reason 'two words'")
    shown = pair.shell("node-a", "TERM=xterm script -qec 'ha-agent status' /dev/null")
    assert "\033[33m! both nodes are in maintenance" in shown and "(two words)" in shown
    assert shown.startswith("\033[31mCRITICAL: node-b could not take over")


# ---- maintenance --------------------------------------------------------------------------------------------


@pytest.mark.shared_lab
def test_in_maintenance_nothing_is_started_or_stopped_whatever_keepalived_does(pair: Pair) -> None:
    up(pair)
    done = pair.ha("node-b", "maintenance", "on", "--for", "10min", "--reason", "new switch")
    assert done.returncode == 0 and "node-b and node-a: maintenance until" in done.stdout
    pair.lab.unit("node-a", "stop", "keepalived")
    wait_for("MASTER moves", lambda: pair.lab.status("node-b")["vrrp_state"] == "MASTER", 10, 0.1)
    stays("nothing is decided", lambda: pair.runs("node-a") == THREE and not pair.runs("node-b"), 1.5)
    pair.lab.unit("node-a", "kill", "ha-agent", 9)
    wait_for("the agent is back", lambda: pair.is_whole("node-a"), 10, 0.1)
    said = pair.ha("node-a", "status").stdout
    assert said.startswith("CRITICAL: no service: the VIP is on node-b") and "! both nodes are in maintenance" in said
    stays("it survives a restart", lambda: pair.runs("node-a") == THREE and not pair.runs("node-b"), 0.5)
    path = pair.path("node-a", "more.conf")
    with open(path, "w", encoding="ascii") as file:
        file.write(SLEEPER.format(name="more"))
    pair.await_equal()
    assert pair.ha("node-b", "maintenance", "off").returncode == 0
    pair.await_runs("node-b", {*THREE, "more"})
    assert pair.runs("node-a") == frozenset()


@pytest.mark.shared_lab
@pytest.mark.parametrize("where", ["both", "at the standby alone"])
def test_no_force_takes_the_service_away_from_a_pair_in_maintenance(pair: Pair, where: str) -> None:
    """A word that is still in force: in maintenance the VIP would move, and the programs would stay.

    Fault: `switchover --yes --force` while maintenance is on, on both nodes or at the standby alone.
    Answer: refused, with the way to end the maintenance; nothing moves.
    Bound: none needed.
    """
    up(pair)
    assert pair.ha("node-a", "maintenance", "on", "--for", "10min").returncode == 0
    if where != "both":
        assert pair.ha("node-a", "maintenance", "off").returncode == 0
        pair.lab.cut("node-b")
        gone = lambda: pair.lab.status("node-b")["replication"]["state"] == "unreachable"  # noqa: E731
        wait_for("the link is seen down", gone, 15, 0.2)
        assert pair.ha("node-b", "maintenance", "on", "--for", "10min").returncode == 7
        pair.lab.heal("node-b")
        wait_for("the link is up again", lambda: pair.is_whole("node-a"), 15, 0.2)
        assert pair.lab.status("node-a")["maintenance"] is None
    began = time.time()
    for node in ("node-a", "node-b"):
        done = pair.ha(node, "switchover", "--yes", "--force", "--timeout", "10")
        assert done.returncode == 3, done
        assert "ha-agent maintenance off" in done.stdout + done.stderr
    stays("nothing moves", lambda: pair.runs("node-a") == THREE and not pair.runs("node-b"), 1.5)
    assert pair.lab.status("node-a")["vip"] is True
    assert [e for e in pair.history("node-a", "vrrp") if e["at"] > began] == []


def test_maintenance_ends_by_itself_and_with_a_reboot(pair: Pair) -> None:
    up(pair)
    pair.ha("node-a", "maintenance", "on", "--for", "2s")
    assert pair.lab.status("node-b")["maintenance"]["by"] == "root"
    wait_for("its end", lambda: pair.lab.status("node-a")["maintenance"] is None, 10, 0.1)
    pair.ha("node-a", "maintenance", "on", "--for", "1h")
    pair.lab.power_off("node-b")
    pair.power_on("node-b")
    assert pair.lab.status("node-b")["maintenance"] is None
    assert "started again" in pair.history("node-b", "maintenance-off")[-1]["text"]


@pytest.mark.shared_lab
def test_an_agent_that_is_started_again_in_maintenance_tells_keepalived_nothing(pair: Pair) -> None:
    """A word that is lost while its reason lasts: the track file of somebody who works on a node.

    Fault: the standby's track file says 1, maintenance begins, and the agent there is killed.
    Answer: the next agent leaves the file, so that keepalived stays FAULT; the end of the maintenance puts it right.
    Bound: none needed.
    """
    up(pair)
    pair.shell("node-b", "echo 1 > /run/ha-agent/track")
    wait_for("FAULT", lambda: pair.lab.status("node-b")["vrrp_state"] == "FAULT", 10, 0.1)
    assert pair.ha("node-a", "maintenance", "on", "--for", "10min").returncode == 0
    pair.kill_agent("node-b")
    stays("1", lambda: pair.shell("node-b", "cat /run/ha-agent/track").strip() == "1", 1.5)
    assert pair.lab.status("node-b")["vrrp_state"] == "FAULT"
    assert pair.ha("node-a", "maintenance", "off").returncode == 0
    wait_for("BACKUP", lambda: pair.lab.status("node-b")["vrrp_state"] == "BACKUP", 10, 0.1)
    assert pair.runs("node-a") == THREE


@pytest.mark.shared_lab
def test_a_node_in_maintenance_keeps_its_programs_from_a_peer_that_is_not(pair: Pair) -> None:
    up(pair)
    pair.lab.cut("node-b")
    link_down = lambda: pair.lab.status("node-a")["replication"]["state"] == "unreachable"  # noqa: E731
    wait_for("the link is seen down", link_down, 15, 0.2)
    assert pair.ha("node-a", "maintenance", "on", "--for", "10min").returncode == 7
    pair.lab.heal("node-b")
    wait_for("the link is up again", lambda: pair.is_whole("node-a"), 15, 0.2)
    pair.lab.unit("node-a", "stop", "keepalived")
    wait_for(
        "node-b was refused",
        lambda: pair.history("node-b", "interlock-refused"),
        10,
        0.1,
        lambda: "\n".join(f"{e['at']} {e['code']} {e['text']}" for e in pair.history("node-b")[-12:]),
    )
    stays("never twice", lambda: pair.runs("node-a") == THREE and not pair.runs("node-b"), 1.0)


# ---- history, diff, kept, sync ------------------------------------------------------------------------------


def test_the_history_of_both_nodes_is_one_list_with_causes_and_durations(pair: Pair) -> None:
    up(pair)
    pair.ha("node-a", "switchover", "--yes")
    for node in ("node-a", "node-b"):
        events = document(pair, node, "history", "-n", "100")["events"]
        assert [e["at"] for e in events] == sorted(e["at"] for e in events)
        codes = [(e["node"], e["code"]) for e in events]
        assert codes.index(("node-a", "switchover")) < codes.index(("node-a", "released"))
        assert codes.index(("node-a", "released")) < codes.index(("node-b", "takeover-done"))
        text = pair.ha(node, "history", "-n", "100").stdout
        assert "takeover took" in text and "interlock" in text and "(by root)" in text
    asked = time.time()
    assert all(e["at"] >= asked - 5.5 for e in document(pair, "node-a", "history", "--since", "5s")["events"])
    early = min(e["at"] for e in events)
    since = document(pair, "node-a", "history", "-n", "100", "--since", f"{time.time() - early + 30:.0f}s")["events"]
    assert [e["at"] for e in since if e["at"] == early], "what lies within the time is there"
    assert len(document(pair, "node-a", "history", "-n", "2")["events"]) == 2


@pytest.mark.shared_lab
def test_the_history_can_be_followed(pair: Pair) -> None:
    up(pair)
    pair.shell("node-a", "timeout 40 ha-agent history -n 1 --follow > /tmp/followed 2>&1 & sleep 1.5")
    pair.ha("node-b", "maintenance", "on", "--for", "1min")
    wait_for("the event", lambda: pair.shell("node-a", "cat /tmp/followed").count("maintenance-on") == 2, 20, 0.2)


@pytest.mark.shared_lab
def test_what_replication_replaced_is_found_compared_and_brought_back(pair: Pair) -> None:
    """An edit on the standby that the active node overwrote, found and brought back by the commands alone.

    The first edit is put right within a heartbeat, those that follow later and later: then there is time to compare.
    """
    up(pair)
    lost, shown, names = "", "", ""

    def edit_and_compare() -> bool:
        nonlocal lost, shown, names
        lost = SLEEPER.format(name="p0") + f"; only on node-b, {time.time()}\n"
        with open(pair.path("node-b", "p0.conf"), "w", encoding="ascii") as file:
            file.write(lost)
        shown, names = pair.ha("node-a", "diff").stdout, pair.ha("node-b", "diff", "--names").stdout
        return "-; only on node-b" in shown and names == "content\tp0.conf\n"

    wait_for("a difference that lasts long enough", edit_and_compare, 60, 0.1, lambda: shown + names)
    assert "--- node-b/p0.conf" in shown
    with open(pair.path("node-a", "p0.conf"), "w", encoding="ascii") as file:
        file.write(SLEEPER.format(name="p0") + "; of node-a\n")
    assert pair.ha("node-a", "sync").returncode == 0
    assert pair.ha("node-a", "diff").stdout == "both registries are equal\n"
    rows = [r for r in document(pair, "node-a", "kept", "list", "p0.conf")["kept"] if r["divergence"]]
    (row,) = [r for r in rows if r["sha256"] == hashlib.sha256(lost.encode()).hexdigest()]
    assert row["node"] == "node-b" and "DIVERGENCE" in pair.ha("node-b", "kept", "list", "--divergences").stdout
    assert pair.ha("node-b", "kept", "show", row["name"]).stdout == lost
    assert "-; only on node-b" in pair.ha("node-a", "kept", "diff", row["name"]).stdout
    refused = pair.ha("node-b", "kept", "restore", row["name"])
    assert refused.returncode == 3 and "run it on the active one" in refused.stderr
    restored = pair.ha("node-a", "kept", "restore", row["name"])
    assert restored.returncode == 0, restored
    assert pair.files("node-a")["p0.conf"][1].decode() == pair.files("node-b")["p0.conf"][1].decode() == lost
    assert (
        "of node-a" in pair.ha("node-a", "kept", "list", "p0.conf").stdout or restored.stdout.count("what stood there") == 1
    )
    assert pair.ha("node-a", "kept", "restore", "9.9/none.conf").returncode == 1
    assert pair.ha("node-a", "kept", "restore", row["name"], "--as", "../evil.conf").returncode == 3
    assert pair.ha("node-a", "kept", "prune", "--older", "1d").returncode == 3
    assert "0 generations removed" in pair.ha("node-a", "kept", "prune", "--older", "1d", "--yes").stdout


@pytest.mark.shared_lab
def test_a_full_sync_finds_what_no_signature_tells(pair: Pair) -> None:
    up(pair)
    path = pair.path("node-b", "p1.conf")
    with open(path, "rb") as file:
        good = file.read()
    pair.lab.unit("node-b", "kill", "ha-agent", 19)
    with open(path, "wb") as file:
        file.write(good.replace(b"infinity", b"infinitx"))
    pair.lab.unit("node-b", "kill", "ha-agent", 18)
    assert pair.ha("node-a", "sync", "--full").returncode == 0
    wait_for("the old content is back", lambda: pair.files("node-b")["p1.conf"][1] == good, 5, 0.1)


# ---- who may ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("member", [True, False])
def test_a_member_of_the_group_may_and_another_user_is_told_why_not(pair: Pair, member: bool) -> None:
    up(pair)
    pair.shell("node-a", "groupadd -f ha-agent; useradd -m op || true" + ("; usermod -aG ha-agent op" if member else ""))
    pair.lab.unit("node-a", "kill", "ha-agent", 15)
    wait_for("the agent is back", lambda: pair.is_whole("node-a"), 10, 0.1)
    # The user may not be able to read where this project lies, nor its virtual environment.
    code = os.path.dirname(os.path.dirname(ha_agent.__file__))
    pair.shell("node-a", f"mkdir /tmp/code && cp -r {code}/ha_agent /tmp/code/ && chmod -R a+rX /tmp/code")
    script = "cd / && PYTHONPATH=/tmp/code runuser -u op -- /usr/bin/python3 -m ha_agent status --json 2>&1 || true"
    shown = pair.shell("node-a", script)
    assert ('"role": "active"' in shown) is member
    assert ("run as root or as a member of group ha-agent" in shown) is not member


# ---- doctor and lint ----------------------------------------------------------------------------------------


def codes(pair: Pair, node: str, *words: str) -> dict[str, set[str]]:
    """By node the codes of what doctor does not find well."""
    report = document(pair, node, "doctor", *words)
    return {n["name"]: {f["code"] for f in n["findings"] if f["severity"] != "ok"} for n in report["nodes"]}


def test_doctor_is_content_with_a_healthy_pair_and_finds_what_is_broken_on_either_node(pair: Pair) -> None:
    """Hazard 9: what keepalived -t does not tell.

    Fault: a hook that others may write, a key at the peer without its forced command, an include of the registry itself.
    Answer: doctor names each on the node where it is, with the remedy; its exit status is that of a Nagios plugin.
    Bound: none; nothing is changed.
    """
    up(pair)
    assert codes(pair, "node-a", "--peer") == {"node-a": set(), "node-b": set()}
    assert pair.ha("node-b", "doctor", "--nagios").returncode == 0
    before = pair.shell("node-b", "find /etc /var/lib/ha-agent -type f | xargs sha256sum | sort")
    pair.shell("node-b", "chmod 777 /etc/keepalived/ha-agent-notify")
    pair.shell("node-b", 'sed -i \'s|^restrict,command="[^"]*" ||\' /etc/ssh/ha-agent_authorized_keys')
    pair.shell("node-b", "sed -i 's|/etc/supervisor/local.d|/etc/supervisor/conf.d|' /etc/supervisor/supervisord.conf")
    pair.shell("node-b", "sed -i 's/^PermitRootLogin .*/PermitRootLogin prohibit-password/' /etc/ssh/sshd_config")
    pair.lab.unit("node-b", "restart", "sshd")
    wait_for("the link is up again", lambda: pair.is_whole("node-b"), 15, 0.2)
    found = codes(pair, "node-b")["node-b"]
    assert {"hook-unsafe", "include-registry"} <= found
    wait_for("the shell is found", lambda: "ssh-unrestricted" in codes(pair, "node-a")["node-a"], 10, 0.5)
    line = pair.ha("node-b", "doctor", "--nagios")
    assert line.returncode == 2 and line.stdout.startswith("HA-AGENT CRITICAL - ") and line.stdout.count("\n") == 1
    text = pair.ha("node-b", "doctor").stdout
    assert "chmod go-w /etc/keepalived/ha-agent-notify" in text and "Traceback" not in text
    after = pair.shell("node-b", "find /etc /var/lib/ha-agent -type f | xargs sha256sum | sort")
    assert {row.split()[1] for row in set(before.splitlines()) ^ set(after.splitlines())} <= {
        "/etc/ssh/ha-agent_authorized_keys",
        "/etc/supervisor/supervisord.conf",
        "/etc/ssh/sshd_config",
        "/var/lib/ha-agent/history.jsonl",
        "/var/lib/ha-agent/state.json",
        "/var/lib/ha-agent/agreed.json",
        "/var/lib/ha-agent/journal",
    }, "doctor changes nothing"


def test_lint_asks_both_nodes_and_needs_no_daemon(pair: Pair) -> None:
    """Hazard 15: a conf that one of the nodes could not load, before it is in the registry.

    Fault: a conf with a user that node-b lacks, a wrong type, and a command that leaves the foreground.
    Answer: lint names each with its line and the fix, for the node where it is so; without an agent it asks the parser.
    Bound: none; nothing is changed.
    """
    up(pair)
    pair.shell("node-a", "useradd only-here 2>/dev/null || true")
    lines = ["[program:x]", "command=nginx", "user=only-here", "numprocs=l"]
    text = "\\n".join(lines[:3])
    pair.shell("node-a", f"printf '{text}\\n' > /tmp/x.conf")
    done = pair.ha("node-a", "lint", "/tmp/x.conf", "--peer", "--format", "lines")
    assert done.returncode == 1
    assert "/tmp/x.conf:3: error: node-b cannot load it" in done.stdout and "[missing-user]" in done.stdout
    assert "node-a cannot load it" not in done.stdout
    assert "/tmp/x.conf:2: warning: nginx leaves the foreground" in done.stdout
    pair.lab.unit("node-a", "stop", "ha-agent")
    pair.shell("node-a", f"printf '{text}\\n{lines[3]}\\n' > /tmp/x.conf")
    alone = pair.ha("node-a", "lint", "/tmp/x.conf", "--json")
    found = {f["code"]: f["line"] for f in json.loads(alone.stdout)["findings"]}
    assert found["wrong-type"] == 4 and "conf-not-loadable" in found and "not-checked" not in found
    assert pair.ha("node-a", "lint", "/nowhere.conf").stderr == "ha-agent: /nowhere.conf: No such file or directory\n"
    assert pair.ha("node-a", "lint").returncode == 2
    assert pair.ha("node-b", "lint", "--registry").returncode == 0


@pytest.mark.shared_lab
def test_a_defect_shows_one_line_with_a_reference_and_leaves_the_traceback_elsewhere(pair: Pair) -> None:
    up(pair)
    config = "/tmp/other.toml"
    pair.shell(
        "node-a", f"mkdir /tmp/other; sed 's#.*run_dir = .*#run_dir = \"/tmp/other\"#' /etc/ha-agent/agent.toml > {config}"
    )
    server = (
        "import socket,struct;s=socket.socket(socket.AF_UNIX);s.bind('/tmp/other/control.sock');s.listen(1);"
        "c,_=s.accept();c.recv(9999);b=b'{}';c.sendall(struct.pack('>I',len(b))+b);c.recv(1)"
    )
    pair.shell("node-a", f'python3 -c "{server}" >/dev/null 2>&1 & sleep 0.5')
    done = pair.ha("node-a", "status", "--config", config)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    assert "this is a defect of ha-agent" in done.stderr
    path = done.stderr.strip().rsplit(" ", 1)[1]
    assert "Traceback" in pair.shell("node-a", f"cat {path}")


# ---- every command in every state ---------------------------------------------------------------------------

READING: tuple[tuple[tuple[str, ...], set[int]], ...] = (
    (("status",), {0, 4}),
    (("status", "--json"), {0, 4}),
    (("history",), {0, 4}),
    (("switchover", "--dry-run"), {0, 3, 4}),
    (("failover-test", "--dry-run"), {0, 3, 4}),
    (("failover-test", "--list"), {0}),
    (("diff",), {0, 1, 4}),
    (("kept", "list"), {0, 4}),
    (("sync", "--timeout", "2"), {0, 3, 4, 6, 7}),
    (("lint", "--registry", "--peer"), {0, 1, 4}),
    (("doctor", "--nagios"), {0, 1, 2, 3}),
    (("config", "check"), {0}),
)
"""Commands that change nothing, with the exit statuses that they may have where the agent runs."""


def standby_down(pair: Pair) -> set[str]:
    pair.lab.power_off("node-b")
    return {"node-a"}


def active_down(pair: Pair) -> set[str]:
    pair.lab.power_off("node-a")
    pair.await_role("node-b", "active")
    return {"node-b"}


def both_standby(pair: Pair) -> set[str]:
    for node in ("node-a", "node-b"):
        pair.shell(node, "echo 1 > /run/ha-agent/track")
    pair.await_role("node-a", "standby")
    return {"node-a", "node-b"}


def partitioned(pair: Pair) -> set[str]:
    pair.allowed_overlap_s = 60.0
    pair.lab.isolate("node-b")
    pair.await_role("node-b", "active", 30)
    return {"node-a", "node-b"}


def peer_without_daemon(pair: Pair) -> set[str]:
    pair.lab.unit("node-b", "stop", "ha-agent")
    return {"node-a"}


def both_without_daemon(pair: Pair) -> set[str]:
    pair.lab.unit("node-a", "stop", "ha-agent")
    pair.lab.unit("node-b", "stop", "ha-agent")
    return set()


def maintained(pair: Pair) -> set[str]:
    assert pair.ha("node-a", "maintenance", "on").returncode == 0
    return {"node-a", "node-b"}


def supervisord_hung(pair: Pair) -> set[str]:
    pair.lab.unit("node-a", "kill", "supervisord", 19)
    return {"node-a", "node-b"}


def disk_full(pair: Pair) -> set[str]:
    pair.shell("node-a", "cat /dev/zero > /var/lib/ha-agent/filler 2>/dev/null || true")
    return {"node-a", "node-b"}


STATES = (
    standby_down,
    active_down,
    both_standby,
    partitioned,
    peer_without_daemon,
    both_without_daemon,
    maintained,
    supervisord_hung,
    disk_full,
)


@pytest.mark.shared_lab
@pytest.mark.parametrize("state", STATES, ids=lambda s: s.__name__)
def test_every_command_answers_soon_and_clearly_in_every_state_of_the_pair(pair: Pair, state: Any) -> None:
    up(pair, **({"disk_bytes": 40 * 1024 * 1024} if state is disk_full else {}))
    serving = state(pair)
    for node in ("node-a", "node-b"):
        if not pair.lab.is_on(node):
            continue
        for words, allowed in READING:
            began = time.monotonic()
            done = pair.ha(node, *words)
            took = time.monotonic() - began
            alone = node not in serving and words[0] not in ("config", "doctor")
            # lint asks supervisord's parser itself where there is no agent.
            expected = {5} if alone and words[0] != "lint" else allowed
            said = (node, words, done.returncode, done.stdout[-800:], done.stderr)
            assert done.returncode in expected, said
            assert "Traceback" not in done.stderr + done.stdout and "defect" not in done.stderr, said
            assert done.stderr.count("\n") <= 3, said
            # On an idle machine it is a tenth of that; a command that waits for what does not come takes longer.
            assert took < (30.0 if words[0] in ("doctor", "sync", "lint", "kept", "diff") else 9.0), said
