"""What keepalived reports, in whatever order and however often, leads to the role of its last report."""

from __future__ import annotations

import random

import pytest

from ha_agent.lab.layout import NODES
from tests.lab_support import Pair, sleepers, stays, wait_for

THREE = {"p0", "p1", "p2"}
PIDS = "pgrep -f '[s]leep infinity' | sort"
HOOK = "/etc/keepalived/ha-agent-notify"


@pytest.mark.shared_lab
def test_a_reload_of_keepalived_changes_nothing(pair: Pair) -> None:
    """Hazard 7: HUP emits no notify and yet resets last_transition.

    Fault: keepalived of the active node reads its configuration again.
    Answer: nothing happens: the newest report still counts.
    Bound: none needed.
    """
    pair.up()
    pair.await_runs("node-a", THREE)
    before = pair.shell("node-a", PIDS)
    pair.shell("node-a", "kill -HUP $(cat /run/keepalived.pid)")
    stays("still active", lambda: pair.runs("node-a") == THREE and not pair.runs("node-b"), 2.0)
    assert pair.shell("node-a", PIDS) == before


@pytest.mark.shared_lab
def test_a_vrrp_process_that_keepalived_starts_again_ends_in_one_active_node(pair: Pair) -> None:
    """Hazard 4: every start of keepalived, and every respawn of its VRRP child, emits BACKUP and then MASTER.

    Fault: the VRRP child of the active node is killed; keepalived starts another one.
    Answer: BACKUP releases; whichever node is MASTER then takes over.
    Bound: no overlap.
    """
    pair.up()
    pair.await_runs("node-a", THREE)
    child = "pgrep -P $(cat /run/keepalived.pid)"
    before = pair.shell("node-a", child)
    pair.shell("node-a", f"kill -9 {before}")
    wait_for("a new child", lambda: pair.shell("node-a", f"{child} || true") not in ("", before), 10)
    wait_for("the programs run once", lambda: sorted(len(pair.runs(n)) for n in NODES) == [0, 3], 15)
    pair.lab.wait_settled()


@pytest.mark.shared_lab
def test_a_restart_of_keepalived_on_the_active_node_ends_in_one_active_node(pair: Pair) -> None:
    """Hazards 1 and 4: systemctl restart keepalived.

    Fault: keepalived of the active node is stopped and started again at once.
    Answer: STOP releases, the peer takes over on this node's word; the restarted keepalived is BACKUP.
    Bound: no overlap.
    """
    pair.up()
    pair.await_runs("node-a", THREE)
    pair.shell("node-a", "systemctl restart keepalived")
    wait_for("the programs run once", lambda: sorted(len(pair.runs(n)) for n in NODES) == [0, 3], 15)
    pair.lab.wait_settled()


def report(pair: Pair, node: str, states: list[str], *, pause_s: float, seed: int) -> None:
    """Has hooks started in the order of ``states``, ``pause_s`` apart, that overtake each other.

    Each waits for a random time between its start, which is what counts, and its word.
    """
    rng = random.Random(seed)
    lines = []
    for state in states:
        delay = rng.choice((0, 0, 0.02, 0.15, 0.3))
        lines.append(f"sh -c 'sleep {delay}; exec /bin/sh {HOOK} INSTANCE HA_AGENT {state} 100' & sleep {pause_s}")
    pair.shell(node, "\n".join(lines) + "\nwait")


def test_fifty_role_changes_in_five_seconds_with_overtaking_hooks_end_in_the_last_one(pair: Pair) -> None:
    """Hazards 3, 11 and 12: flapping; hooks in any order; the same event twice; FAULT to MASTER; DELETED.

    Fault: fifty reports in five seconds for the active node, from hooks that overtake each other; the last one is MASTER.
    Answer: the newest report by the hooks' starts counts; a takeover whose state is gone is given up; nothing starts twice.
    Bound: settled 2 s after the last report.
    """
    pair.up(sleepers(6))
    six = {f"p{n}" for n in range(6)}
    pair.await_runs("node-a", six)
    rng = random.Random(5)
    choice = ("MASTER", "BACKUP", "FAULT", "MASTER", "DELETED", "MASTER", "STOP")
    states = [rng.choice(choice) for _ in range(49)] + ["MASTER"]
    report(pair, "node-a", states, pause_s=0.1, seed=7)
    wait_for("active", lambda: pair.role("node-a") == "active" and pair.runs("node-a") == six, 5, 0.05)
    stays("and stays so", lambda: pair.runs("node-a") == six, 1.0)
    assert not pair.probe.doubles, f"started twice: {pair.probe.doubles}"
    pids = pair.shell("node-a", PIDS).split()
    assert len(pids) == 6
    stale = [e for e in pair.history("node-a", "takeover-done") if e["vrrp_state"] != "MASTER"]
    assert not stale, f"a takeover was finished for a state that was gone: {stale}"


@pytest.mark.shared_lab
def test_fifty_role_changes_that_end_in_backup_end_with_nothing_running(pair: Pair) -> None:
    """Hazards 3 and 12: flapping that ends with the loss of the VIP.

    Fault: fifty reports in five seconds for the active node, from hooks that overtake each other; the last one is BACKUP.
    Answer: everything is stopped in the end, whatever was begun meanwhile.
    Bound: settled 2 s after the last report.
    """
    pair.up()
    pair.await_runs("node-a", THREE)
    states = ["BACKUP", "MASTER"] * 24 + ["MASTER", "BACKUP"]
    report(pair, "node-a", states, pause_s=0.1, seed=3)
    wait_for("nothing runs", lambda: not pair.runs("node-a") and pair.role("node-a") == "standby", 5, 0.05)
    stays("and stays so", lambda: not pair.runs("node-a"), 1.0)
    assert not pair.probe.doubles


def test_a_flapping_track_file_moves_the_programs_to_where_the_vip_ends(pair: Pair) -> None:
    """Hazards 3, 5 and 10: real role changes, faster than programs can follow.

    Fault: the active node's keepalived hears FAULT and fit again twenty times within five seconds.
    Answer: the node that is MASTER in the end runs the programs.
    Bound: no overlap.
    """
    command = "/bin/bash -c 'trap \"sleep 0.4; exit\" TERM; while :; do sleep 0.05; done'"
    slow = f"[program:slow]\ncommand={command}\nstartsecs=0\n"
    pair.up({**sleepers(2), "slow.conf": slow})
    pair.await_runs("node-a", {"p0", "p1", "slow"})
    pair.shell("node-a", f"for v in {'1 0 ' * 10}; do echo $v >/run/ha-agent/track; sleep 0.25; done")
    wait_for("the programs run once", lambda: sorted(len(pair.runs(n)) for n in NODES) == [0, 3], 15)
    pair.lab.wait_settled()
    assert not pair.probe.doubles


def test_programs_that_ignore_term_are_stopped_all_at_once(pair: Pair) -> None:
    """Hazard 18: update stops groups one after the other: three programs that ignore TERM took 10.0 s against 3.4 s.

    Fault: three programs ignore TERM for their stopwaitsecs of 3 s, then the VIP moves.
    Answer: all are signalled at once.
    Bound: one stopwaitsecs and supervisord's own second, not three.
    """
    command = "/bin/bash -c 'trap \"\" TERM; while :; do sleep 0.05; done'"
    confs = {f"s{n}.conf": f"[program:s{n}]\ncommand={command}\nstartsecs=0\nstopwaitsecs=3\n" for n in range(3)}
    pair.up(confs)
    pair.await_runs("node-a", {"s0", "s1", "s2"})
    pair.hand_over("node-b")
    released = pair.history("node-a", "released")[-1]
    assert released["took_s"] < 8.0, released
    pair.await_runs("node-b", {"s0", "s1", "s2"})


@pytest.mark.shared_lab
def test_a_shutdown_typed_for_stop_brings_everything_back(pair: Pair) -> None:
    """Hazards 21 and 22: supervisorctl shutdown gets typed for stop (supervisor issue 1522).

    Fault: an operator shuts supervisord down on the active node.
    Answer: systemd starts it again, and the agent loads and starts every program again; the VIP stays.
    Bound: the unit's RestartSec and the programs' start.
    """
    pair.up()
    pair.await_runs("node-a", THREE)
    before = pair.shell("node-a", PIDS)
    pair.shell("node-a", "supervisorctl shutdown")
    wait_for("new processes", lambda: pair.runs("node-a") == THREE and pair.shell("node-a", PIDS) != before, 10, 0.05)
    pair.await_role("node-a", "active")
    assert not pair.probe.doubles
    assert not pair.runs("node-b")


def test_here_in_a_conf_is_the_registrys_own_directory(pair: Pair) -> None:
    """Hazard 24: in an included conf it is the directory of the included path.

    Fault: a conf says %(here)s, and supervisord includes a copy of it from another directory.
    Answer: the copy has it resolved to the registry's directory.
    Bound: none needed.
    """
    pair.up({"here.conf": "[program:here]\ncommand=/bin/sh %(here)s/../run-here.sh\nstartsecs=0\n"})
    for node in NODES:
        pair.shell(node, "echo 'exec sleep 1000' > /etc/supervisor/run-here.sh")
    pair.hand_over("node-b")
    pair.await_runs("node-b", {"here"})
    command = pair.shell("node-b", "cat /run/ha-agent/active/here.conf")
    assert "/etc/supervisor/conf.d/../run-here.sh" in command
