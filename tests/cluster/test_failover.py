"""Programs follow the VIP, never run twice, and a bad conf keeps no good one from running."""

from __future__ import annotations

import contextlib
import os
import time

import pytest

from tests.lab_support import SLEEPER, Pair, sleepers, stays, wait_for

THREE = {"p0", "p1", "p2"}


def test_a_crashed_active_node_is_taken_over_and_comes_back_as_standby(pair: Pair) -> None:
    """Hazards 14 and 36: a rebooted node runs nothing until it is MASTER.

    Fault: the active node loses its power and gets it back.
    Answer: the peer takes over; the node comes back as a standby with an empty active set, and gets what it missed.
    Bound: 0.6 s from the cut to all programs started; no overlap.
    """
    pair.up()
    pair.await_runs("node-a", THREE)
    pair.lab.power_off("node-a")
    pair.await_runs("node-b", THREE, 5)
    pair.power_on("node-a")
    pair.await_role("node-a", "standby")
    stays("the old node runs nothing", lambda: not pair.runs("node-a"), 1.0)
    pair.await_equal()
    assert pair.lab.status("node-b")["epoch"] == 2


def test_an_edit_made_just_before_the_crash_is_in_force_after_it(pair: Pair) -> None:
    """Hazard 32: failover around a change.

    Fault: the active node loses its power right after an edit arrived at the peer.
    Answer: the edit is in force there.
    Bound: acknowledged is on both disks.
    """
    pair.up()
    with open(pair.path("node-a", "late.conf"), "w", encoding="ascii") as file:
        file.write(SLEEPER.format(name="late"))
    wait_for("the late conf on the peer", lambda: os.path.exists(pair.path("node-b", "late.conf")), 1)
    pair.lab.power_off("node-a")
    pair.await_runs("node-b", THREE | {"late"}, 5)


def test_a_planned_hand_over_waits_until_the_old_node_has_stopped_everything(pair: Pair) -> None:
    """Hazard 5: MASTER on one node and BACKUP on the other within 10 ms, while programs take their time to stop.

    Fault: the VIP moves while a program needs a second to stop.
    Answer: the peer waits for the old node's word.
    Bound: the slowest program's time to stop; no overlap.
    """
    slow = "[program:slow]\ncommand=/bin/bash -c 'trap \"sleep 1; exit\" TERM; while :; do sleep 0.05; done'\nstartsecs=0\n"
    pair.up({**sleepers(2), "slow.conf": slow})
    pair.await_runs("node-a", {"p0", "p1", "slow"})
    pair.hand_over("node-b")
    pair.await_runs("node-b", {"p0", "p1", "slow"})
    done = pair.history("node-b", "takeover-done")[-1]
    interlock = next(s for s in done["steps"] if s["step"] == "interlock")
    assert interlock["interlock"] == "released"
    assert interlock["took_s"] > 0.1, "the interlock did not wait for the slow program"


@pytest.mark.shared_lab
def test_stopping_keepalived_releases_and_the_peer_takes_over(pair: Pair) -> None:
    """Hazards 1 and 2: systemctl stop runs notify_stop alone, and kills it soon.

    Fault: keepalived of the active node is stopped.
    Answer: the hook has handed STOP over by then; the node releases, the peer takes over, and keeps it.
    Bound: no overlap.
    """
    pair.up()
    pair.await_runs("node-a", THREE)
    pair.lab.unit("node-a", "stop", "keepalived")
    pair.await_runs("node-b", THREE, 5)
    assert pair.runs("node-a") == frozenset()
    pair.lab.unit("node-a", "start", "keepalived")
    stays("the peer stays active", lambda: pair.runs("node-b") == THREE, 1.5)
    assert pair.role("node-a") == "standby"


BAD = {
    "typed.conf": "[program:typed]\ncommand=/bin/sleep 9\nnumprocs=l\n",
    "cut.conf": "[program:cut]\ncommand=/bin/sleep 9\n[progr",
    "nouser.conf": "[program:nouser]\ncommand=/bin/sleep 9\nuser=nobody-here\n",
    "nodir.conf": "[program:nodir]\ncommand=/bin/sleep 9\nstdout_logfile=/var/log/only-on-a/x.log\n",
    "foreign.conf": "[supervisord]\nlogfile=/dev/null\n",
    "twice.conf": "[program:p0]\ncommand=/bin/sleep 9\n",
    "nobin.conf": "[program:nobin]\ncommand=/opt/not/here\nstartsecs=0\n",
    "group.conf": "[group:crew]\nprograms=p1,typed\n",
}


def test_bad_confs_block_only_themselves_and_are_reported_by_name_and_reason(pair: Pair) -> None:
    """Hazards 15, 16 and 21: confs that supervisord refuses, or that fail to start.

    Fault: eight bad confs: a typo, cut off, unknown user, missing directory, foreign section, a name twice, no such
    program, a group with a bad member.
    Answer: each is named with its reason while the node is still standby; all others run after the failover; what fails
    to start is found by its state.
    Bound: none needed.
    """
    pair.up()
    pair.shell("node-a", "mkdir /var/log/only-on-a")
    for name, text in BAD.items():
        with open(pair.path("node-a", name), "w", encoding="ascii") as file:
            file.write(text)
    pair.await_equal()

    def six_problems() -> dict[str, str]:
        found: dict[str, str] = pair.lab.status("node-b")["readiness"]["problems"]
        return found if len(found) == 6 else {}

    problems = wait_for(
        "the standby's verdicts",
        six_problems,
        10,
        0.1,
        lambda: pair.lab.status("node-b")["readiness"],
    )
    assert "typed.conf" in problems and "is not a whole number" in problems["typed.conf"]
    assert "no such directory" in problems["nodir.conf"].lower() or "does not exist" in problems["nodir.conf"]
    assert "nobody-here" in problems["nouser.conf"]
    assert "does not belong" in problems["foreign.conf"]
    assert "already defined" in problems["twice.conf"]
    assert "cut.conf" in problems
    assert "nodir.conf" not in pair.lab.status("node-a")["readiness"]["problems"], "its directory is there on node-a"
    pair.lab.power_off("node-a")
    pair.await_runs("node-b", THREE, 5)
    text = pair.lab.run("node-b", "ha-agent", "status", check=False)
    for name in problems:
        assert f"cannot load {name}" in text
    assert "/opt/not/here" in text
    assert any("nobin" in e["failed"] for e in pair.history("node-b", "takeover-verified")) or wait_for(
        "nobin reported", lambda: any("nobin" in e["failed"] for e in pair.history("node-b", "takeover-verified")), 10
    )


def test_local_programs_are_never_touched(pair: Pair) -> None:
    """Hazard 17: stop all stops event listeners too.

    Fault: the VIP goes to and fro.
    Answer: programs and event listeners of local.d keep their processes.
    Bound: none needed.
    """
    pair.up()
    local = (
        "[program:local]\ncommand=/bin/sleep infinity\nstartsecs=0\n"
        "[eventlistener:local-ear]\nevents=TICK_3600\nstartsecs=0\n"
        "command=/bin/sh -c 'echo READY; exec sleep infinity'\n"
    )
    ctl = "supervisorctl -c /etc/supervisor/supervisord.conf"
    for node in ("node-a", "node-b"):
        folder = os.path.join(pair.lab.paths.disk(node, "etc-supervisor"), "local.d")
        with open(os.path.join(folder, "local.conf"), "w", encoding="ascii") as file:
            file.write(local)
        pair.shell(node, f"{ctl} update")
    look = f"{ctl} pid local; {ctl} pid local-ear"
    before = {node: pair.shell(node, look) for node in ("node-a", "node-b")}
    assert "0" not in " ".join(before.values()).split()
    pair.hand_over("node-b")
    pair.hand_over("node-a")
    assert {node: pair.shell(node, look) for node in ("node-a", "node-b")} == before


def test_killing_the_agent_changes_nothing_for_the_programs(pair: Pair) -> None:
    """Hazard 37, and principle 6: the agent's own restart changes nothing.

    Fault: the agent of the active node is killed, stopped, and told to reload.
    Answer: it continues where it was; no program notices.
    Bound: 0.5 s.
    """
    pair.up()
    pair.await_runs("node-a", THREE)
    before = pair.shell("node-a", "pgrep -f '[s]leep infinity' | sort")
    for count, number in enumerate((9, 15, 1), start=2):
        pair.lab.unit("node-a", "kill", "ha-agent", number)
        wait_for("a new agent", lambda: len(pair.history("node-a", "agent-started")) == count, 5)  # noqa: B023
        pair.await_role("node-a", "active")
        assert pair.shell("node-a", "pgrep -f '[s]leep infinity' | sort") == before
    assert pair.lab.status("node-a")["epoch"] == 1
    pair.shell("node-a", "echo '; still replicated' >> /etc/supervisor/conf.d/p0.conf")
    pair.await_equal()


def test_a_takeover_that_was_killed_in_the_middle_is_finished_after_the_restart(pair: Pair) -> None:
    """Hazard 37: the agent is killed again and again within one takeover.

    Fault: four kills while 40 programs are being started.
    Answer: the next agent finishes the takeover under the same epoch.
    Bound: the agent's start.
    """
    pair.up(sleepers(40))
    everything = {f"p{n}" for n in range(40)}
    pair.await_runs("node-a", everything)
    pair.lab.power_off("node-a")
    role_file = f"/proc/{pair.lab.init_pid('node-b')}/root/run/ha-agent/role.json"

    def taking_over() -> bool:
        with contextlib.suppress(FileNotFoundError), open(role_file, "rb") as file:
            return b"taking_over" in file.read()
        return False

    wait_for("the takeover", taking_over, 5, 0.0005)
    for _ in range(4):
        pair.lab.unit("node-b", "kill", "ha-agent", 9)
        time.sleep(0.25)
    pair.await_runs("node-b", everything, 10)
    pair.await_role("node-b", "active")


def test_a_notification_is_not_lost_while_the_agent_is_down(pair: Pair) -> None:
    """Hazard 38: the agent is down when the notify comes.

    Fault: the standby has no agent when it becomes MASTER.
    Answer: the event waits in the spool.
    Bound: the agent's start.
    """
    pair.up()
    pair.await_runs("node-a", THREE)
    pair.lab.unit("node-b", "stop", "ha-agent")
    pair.lab.power_off("node-a")
    wait_for("the event in the spool", lambda: "MASTER" in pair.shell("node-b", "ls /run/ha-agent/notify"), 5)
    pair.lab.unit("node-b", "start", "ha-agent")
    pair.await_runs("node-b", THREE, 5)


def test_what_a_program_leaves_behind_is_ended_too(pair: Pair) -> None:
    """Hazard 20: grandchildren, and processes that changed session.

    Fault: a program has a child in a session of its own when the VIP moves.
    Answer: the sweep finds it by supervisord's marks in its environment.
    Bound: release.sweep_grace_s; no overlap.
    """
    orphan = "[program:orphan]\ncommand=/bin/sh -c 'setsid sleep 1000 & exec sleep 1001'\nstartsecs=0\n"
    pair.up({"orphan.conf": orphan})
    wait_for("the orphan", lambda: pair.lab.run("node-a", "pgrep", "-f", "sleep 1000", check=False).strip(), 5)
    pair.hand_over("node-b")
    assert pair.lab.run("node-a", "pgrep", "-f", "sleep 100", check=False).strip() == ""


@pytest.mark.shared_lab
def test_a_killed_supervisord_on_the_standby_starts_nothing(pair: Pair) -> None:
    """Hazards 14 and 19: supervisord starts every autostart program by itself.

    Fault: supervisord of the standby is killed and comes back.
    Answer: its active set is empty: it starts nothing.
    Bound: none needed.
    """
    pair.up()
    pair.lab.unit("node-b", "kill", "supervisord", 9)
    stays("the standby runs nothing", lambda: not pair.runs("node-b"), 2.5)


@pytest.mark.shared_lab
def test_a_conf_that_is_edited_on_the_active_node_is_there_for_supervisorctl_update(pair: Pair) -> None:
    """The active set follows edits that validate; one that does not leaves the last good content."""
    pair.up()
    active = "/run/ha-agent/active/p0.conf"
    pair.shell("node-a", "sed -i s/infinity/4242/ /etc/supervisor/conf.d/p0.conf")
    wait_for("the edit in the active set", lambda: "4242" in pair.shell("node-a", f"cat {active}"), 2)
    pair.shell("node-a", "echo 'numprocs=l' >> /etc/supervisor/conf.d/p0.conf")
    wait_for("the report", lambda: "p0.conf" in pair.lab.status("node-a")["readiness"]["problems"], 3, 0.05)
    assert "numprocs" not in pair.shell("node-a", f"cat {active}")
    assert "p0" in pair.shell("node-a", "supervisorctl -c /etc/supervisor/supervisord.conf update")
    pair.await_runs("node-a", THREE)


@pytest.mark.parametrize("start_all", [False, True])
def test_autostart_false_is_respected_unless_told_otherwise(pair: Pair, start_all: bool) -> None:
    """Hazard 17: start all starts autostart=false programs.

    Fault: a conf says autostart=false.
    Answer: it is loaded and not started, unless takeover.start_all says so.
    Bound: none needed.
    """
    batch = "[program:batch]\ncommand=/bin/sleep infinity\nautostart=false\nstartsecs=0\n"
    pair.up({**sleepers(1), "batch.conf": batch}, overrides={"takeover": {"start_all": start_all}})
    pair.await_runs("node-a", {"p0", "batch"} if start_all else {"p0"})
    stays("and nothing else", lambda: pair.runs("node-a") == ({"p0", "batch"} if start_all else {"p0"}), 0.5)


def test_in_a_dual_master_with_a_working_link_the_active_node_stays_active(pair: Pair) -> None:
    """Hazard 34: VRRP partitioned while ssh works.

    Fault: adverts do not get through, so both keepalived say MASTER.
    Answer: the node that is active stays it; the other one is refused, told FAULT, and says so.
    Bound: no overlap.
    """
    pair.up()
    pair.await_runs("node-a", THREE)
    before = pair.shell("node-a", "pgrep -f '[s]leep infinity' | sort")
    for node in ("node-a", "node-b"):
        pair.shell(node, "nft add table ip t; nft 'add chain ip t in { type filter hook input priority 0; }'")
        pair.shell(node, "nft add rule ip t in ip protocol 112 drop")
    wait_for("the refusal", lambda: pair.history("node-b", "interlock-refused"), 10)
    pair.await_role("node-b", "standby")
    wait_for("FAULT", lambda: pair.lab.status("node-b")["vrrp_state"] == "FAULT", 5, 0.05)
    assert pair.lab.status("node-b")["vip"] is False
    assert pair.role("node-a") == "active"
    assert pair.shell("node-a", "pgrep -f '[s]leep infinity' | sort") == before


@pytest.mark.shared_lab
def test_a_node_whose_cable_is_pulled_stops_its_programs(pair: Pair) -> None:
    """Hazard 34: everything dead on one side, and noticed there.

    Fault: the cable of the active node is pulled.
    Answer: keepalived sees it: FAULT; the node releases by itself while the peer, which cannot reach it, takes over.
    Bound: the programs' time to stop.
    """
    pair.up()
    pair.await_runs("node-a", THREE)
    pair.allowed_overlap_s = 0.5
    pair.lab.cut("node-a")
    pair.await_runs("node-b", THREE, 5)
    wait_for("nothing on node-a", lambda: not pair.runs("node-a"), 5)
    pair.shell("node-b", "echo '; while it was cut off' >> /etc/supervisor/conf.d/p0.conf")
    pair.lab.heal("node-a")
    pair.await_equal(15)
    pair.await_role("node-a", "standby")


def test_a_takeover_that_waits_for_its_peer_is_given_up_when_the_vip_goes_back(pair: Pair) -> None:
    """Hazard 11: a takeover must be cancellable; here while it waits for a peer that is slow to stop.

    Fault: the VIP comes and goes again while the old node still stops.
    Answer: the takeover is given up before anything was started.
    Bound: no overlap.
    """
    command = "/bin/bash -c 'trap \"\" TERM; while :; do sleep 0.05; done'"
    stubborn = f"[program:stubborn]\ncommand={command}\nstartsecs=0\nstopwaitsecs=6\n"
    pair.up({"stubborn.conf": stubborn})
    pair.await_runs("node-a", {"stubborn"})
    pair.shell("node-a", "echo 1 > /run/ha-agent/track")
    pair.await_role("node-b", "taking_over")
    pair.shell("node-b", "echo 1 > /run/ha-agent/track")
    pair.await_role("node-b", "standby", 3)
    assert pair.role("node-a") == "releasing", "it was still waiting"
    pair.shell("node-a", "echo 0 > /run/ha-agent/track")
    pair.await_role("node-a", "active", 15)
    pair.await_runs("node-a", {"stubborn"})
    assert not pair.runs("node-b")


@pytest.mark.shared_lab
def test_an_edit_right_after_a_takeover_survives_a_kill_of_the_agent(pair: Pair) -> None:
    """What was received just before must not be rolled forward over what is edited after."""
    pair.up()
    pair.shell("node-a", "echo '; from a' >> /etc/supervisor/conf.d/p0.conf")
    pair.await_equal(1)
    pair.hand_over("node-b")
    pair.shell("node-b", "echo '; from b' >> /etc/supervisor/conf.d/p0.conf; rm /etc/supervisor/conf.d/p1.conf")
    pair.lab.unit("node-b", "kill", "ha-agent", 9)
    pair.await_role("node-b", "active")
    pair.await_equal()
    content = pair.files("node-b")["p0.conf"][1]
    assert b"; from a" in content and b"; from b" in content
    assert "p1.conf" not in pair.files("node-a")
