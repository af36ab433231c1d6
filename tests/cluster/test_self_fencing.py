"""A node that lost its right, or its means, to be active stops its programs without being told."""

from __future__ import annotations

import os

import pytest

from ha_agent.lab.layout import other
from tests.lab_support import Pair, stays, wait_for

THREE = {"p0", "p1", "p2"}
PIDS = "pgrep -f '[s]leep infinity' | sort"


@pytest.mark.shared_lab
def test_a_killed_keepalived_takes_vip_and_programs_with_it_before_the_peer_starts_any(pair: Pair) -> None:
    """Hazard 6: no notification comes, and the VIP stays on the interface.

    Fault: keepalived is killed on the active node.
    Answer: noticed through a pidfd; the VIP is removed and the programs stop at once; the peer starts them on its word.
    Bound: no overlap.
    """
    pair.up()
    pair.await_runs("node-a", THREE)
    pair.shell("node-a", "pkill -9 keepalived")
    pair.await_runs("node-b", THREE, 5)
    wait_for("the VIP is gone", lambda: "10.77.0.100" not in pair.shell("node-a", "ip -4 -o addr show eth0"), 3)
    assert pair.runs("node-a") == frozenset()
    assert any(e["code"] == "keepalived-down" for e in pair.history("node-a"))
    done = pair.history("node-b", "takeover-done")[-1]
    assert next(s for s in done["steps"] if s["step"] == "interlock")["interlock"] == "released"


@pytest.mark.shared_lab
def test_a_vip_that_is_missing_under_a_master_goes_to_the_peer(pair: Pair) -> None:
    """Design, self-fencing: VIP missing while MASTER.

    Fault: somebody deletes the VIP on the active node; keepalived does not put it back.
    Answer: the programs stop; where keepalived still says MASTER the track file tells it FAULT, and the peer takes over.
    Bound: 1 s until keepalived hears FAULT, then a hand-over; no overlap.
    """
    pair.up()
    pair.await_runs("node-a", THREE)
    pair.shell("node-a", "ip addr del 10.77.0.100/32 dev eth0")
    wait_for("it is noticed", lambda: pair.history("node-a", "vip-lost") or pair.history("node-a", "vrrp")[2:], 10, 0.05)

    def has_all(node: str) -> bool:
        """Whether ``node`` has the VIP and the programs, and the other one neither."""
        here, there = (pair.lab.status(n)["vip"] for n in (node, other(node)))
        return here is True and there is False and pair.runs(node) == THREE and not pair.runs(other(node))

    wait_for("all is on one node", lambda: has_all("node-a") or has_all("node-b"), 15, 0.1)


def test_what_a_killed_supervisord_left_running_is_ended_before_a_second_copy_starts(pair: Pair) -> None:
    """Hazard 19: after SIGKILL of supervisord its children live on, and the restarted one starts a second copy.

    Fault: supervisord is killed on the active node, under a unit that leaves its children alone (KillMode=process).
    Answer: the active set is emptied at once, the orphans are ended, and the programs start again in the new supervisord.
    Bound: never two copies of a program; the node stays active.
    """
    pair.up()
    pair.await_runs("node-a", THREE)
    pair.lab.unit("node-a", "set", "supervisord", restart_s=0.3, ends_group=False)
    before = pair.shell("node-a", PIDS)
    pair.lab.unit("node-a", "kill", "supervisord", 9)
    wait_for("programs are started again", lambda: pair.runs("node-a") == THREE and pair.shell("node-a", PIDS) != before, 10)
    pair.await_role("node-a", "active")
    assert len(pair.shell("node-a", PIDS).split()) == 3
    assert not set(before.split()) & set(pair.shell("node-a", PIDS).split())
    assert not pair.probe.doubles, "two copies of a program on one node"
    assert pair.history("node-a", "supervisord-replaced")
    assert pair.lab.status("node-a")["epoch"] == 1, "the pair did not change hands"


def test_orphans_of_a_supervisord_that_died_with_the_agent_are_ended_too(pair: Pair) -> None:
    """Hazards 19 and 37: supervisord and agent are killed at once.

    Fault: both are killed on the active node, KillMode=process.
    Answer: the agent comes back, sees that this is not the supervisord that it had loaded, ends the orphans, loads again.
    Bound: two copies only between the new supervisord's start and the agent's; none with the shipped drop-in.
    """
    pair.up()
    pair.await_runs("node-a", THREE)
    pair.lab.unit("node-a", "set", "supervisord", restart_s=1.0, ends_group=False)
    before = set(pair.shell("node-a", PIDS).split())
    pair.shell("node-a", "kill -9 $(cat /run/supervisord.pid) $(pgrep -f 'ha_agent daemo[n]')")
    wait_for("the orphans are gone", lambda: not before & set(pair.lab.run("node-a", "sh", "-c", PIDS).split()), 10)
    pair.await_runs("node-a", THREE)
    pair.await_role("node-a", "active")
    assert len(pair.shell("node-a", PIDS).split()) == 3


def test_a_release_ends_the_programs_without_a_supervisord_that_hangs(pair: Pair) -> None:
    """Design, self-fencing: supervisord hung.

    Fault: supervisord is frozen on the active node, then the VIP moves.
    Answer: after supervisor.hung_s it counts as hung: the programs are ended without it, then supervisord itself. However
    many ask for the status meanwhile, they do not hold that up.
    Bound: supervisor.hung_s (5 s) and the sweep's grace; no overlap.
    """
    pair.up(overrides={"supervisor": {"hung_s": 1.0}})
    pair.await_runs("node-a", THREE)
    pair.shell("node-a", "kill -STOP $(cat /run/supervisord.pid)")
    pair.shell("node-a", "for i in 1 2 3 4 5 6 7 8; do ha-agent status >/dev/null 2>&1 & done; sleep 0.5")
    pair.hand_over("node-b")
    pair.await_runs("node-b", THREE)
    assert pair.runs("node-a") == frozenset()
    assert pair.history("node-a", "supervisord-ended")
    wait_for("a new supervisord", lambda: pair.lab.status("node-a")["supervisord"] == "up", 5, 0.1)
    pair.hand_over("node-a")
    pair.await_runs("node-a", THREE)


def test_a_supervisord_that_hangs_in_the_middle_of_a_stop_is_not_waited_for(pair: Pair) -> None:
    """Design, self-fencing: supervisord hung, after it was told to stop the programs.

    Fault: supervisord freezes while a stubborn program has not ended yet.
    Answer: it is looked after every supervisor.hung_s; one that hangs is ended, and its programs without it.
    Bound: two times supervisor.hung_s and the sweep's grace.
    """
    command = "/bin/bash -c 'trap \"\" TERM; while :; do sleep 0.05; done'"
    stubborn = f"[program:stubborn]\ncommand={command}\nstartsecs=0\nstopwaitsecs=50\n"
    pair.up({"stubborn.conf": stubborn}, overrides={"supervisor": {"hung_s": 1.0}})
    pair.await_runs("node-a", {"stubborn"})
    pair.shell("node-a", "echo 1 > /run/ha-agent/track")
    pair.await_role("node-a", "releasing", 3)
    pair.shell("node-a", "kill -STOP $(cat /run/supervisord.pid)")
    pair.await_runs("node-b", {"stubborn"}, 12)


def test_a_takeover_replaces_a_supervisord_that_hangs(pair: Pair) -> None:
    """Principle 7: the standby's supervisord hangs when it is needed.

    Fault: supervisord is frozen on the standby, then the active node dies.
    Answer: it is ended after supervisor.hung_s, systemd starts a new one, and that gets the programs.
    Bound: supervisor.hung_s and the unit's RestartSec.
    """
    pair.up(overrides={"supervisor": {"hung_s": 1.0}})
    pair.await_runs("node-a", THREE)
    pair.shell("node-b", "kill -STOP $(cat /run/supervisord.pid)")
    pair.lab.power_off("node-a")
    pair.await_runs("node-b", THREE, 10)
    pair.await_role("node-b", "active")


def test_a_node_whose_supervisord_does_not_come_back_gives_the_vip_to_its_peer(pair: Pair) -> None:
    """Design, self-fencing: supervisord gone and not back.

    Fault: supervisord is stopped on the active node and stays away.
    Answer: after supervisor.restart_wait_s keepalived hears FAULT; when supervisord is back the node is a standby again.
    Bound: supervisor.restart_wait_s (5 s); no overlap.
    """
    pair.up(overrides={"supervisor": {"restart_wait_s": 1.0}})
    pair.await_runs("node-a", THREE)
    pair.lab.unit("node-a", "stop", "supervisord")
    pair.await_runs("node-b", THREE, 10)
    assert pair.history("node-a", "supervisord-down")
    assert pair.lab.status("node-a")["vrrp_state"] == "FAULT"
    pair.lab.unit("node-a", "start", "supervisord")
    wait_for("BACKUP again", lambda: pair.lab.status("node-a")["vrrp_state"] == "BACKUP", 5, 0.05)
    stays("the peer stays active", lambda: pair.runs("node-b") == THREE, 1.0)


@pytest.mark.shared_lab
def test_a_keepalived_that_hangs_moves_no_program_while_the_link_lives(pair: Pair) -> None:
    """Hazard 35: keepalived is frozen, not dead; its node keeps the VIP and answers.

    Fault: keepalived of the active node is stopped (SIGSTOP) for 3 s, so the peer's says MASTER.
    Answer: the peer asks, is refused by the node that is active and holds the VIP, and gives up MASTER: a dual master as any
    other.
    Bound: no overlap, no outage of the programs.
    """
    pair.up()
    pair.await_runs("node-a", THREE)
    before = pair.shell("node-a", PIDS)
    pair.shell("node-a", "pkill -STOP keepalived")
    wait_for("the refusal", lambda: pair.history("node-b", "interlock-refused"), 10)
    assert "active and MASTER itself" in pair.lab.status("node-b")["unfit"]
    stays("the programs stay", lambda: pair.runs("node-a") == THREE and not pair.runs("node-b"), 1.5)
    pair.shell("node-a", "pkill -CONT keepalived")
    wait_for("the programs run once", lambda: sorted(len(pair.runs(n)) for n in ("node-a", "node-b")) == [0, 3], 15)
    pair.lab.wait_settled()
    assert pair.shell("node-a", PIDS) == before


def test_an_agent_that_can_not_be_started_any_more_fences_its_node(pair: Pair) -> None:
    """Hazard 37: the agent is dead for good.

    Fault: the agent's configuration is broken and the agent killed; systemd gives it up after five starts.
    Answer: OnFailure runs ha-agent-fence: FAULT, an empty active set, programs ended. The peer waits for a word that never
    comes, takeover.silent_peer_s at most, and takes over.
    Bound: five starts and takeover.silent_peer_s; no overlap.
    """
    pair.up(overrides={"takeover": {"silent_peer_s": 3.0}})
    pair.await_runs("node-a", THREE)
    # The process name is one that the probe takes for a local program; the group's name is what the node goes by.
    left = "env SUPERVISOR_PROCESS_NAME=local-left SUPERVISOR_GROUP_NAME=p0 SUPERVISOR_SERVER_URL=unix:///var/run/"
    enter = "echo $$ > /sys/fs/cgroup/system.slice/supervisor.service/cgroup.procs"
    pair.shell("node-a", f"{enter}; {left}supervisor.sock setsid -f sleep 4711 >/dev/null 2>&1")
    pair.shell("node-a", f"{left}supervisor.sock setsid -f sleep 4712 >/dev/null 2>&1")
    pair.shell("node-a", "cp /etc/ha-agent/agent.toml /tmp/good; echo broken > /etc/ha-agent/agent.toml")
    # On a busy machine five starts take longer than the ten seconds in which systemd counts them.
    pair.lab.unit("node-a", "set", "ha-agent", interval_s=60.0)
    pair.lab.unit("node-a", "kill", "ha-agent", 9)
    pair.await_runs("node-b", THREE, 25)
    assert pair.runs("node-a") == frozenset()
    assert "10.77.0.100" not in pair.shell("node-a", "ip -4 -o addr show eth0")
    sleeping = pair.shell("node-a", "pgrep -af '[s]leep 471'")
    assert "4711" not in sleeping, "what our supervisord left, in a session of its own"
    assert "4712" in sleeping, "a stranger's, whatever its marks say"
    assert "4712" in sleeping, "another supervisord's program of the same name is not ours"
    with open(pair.lab.paths.log("node-a", "ha-agent"), encoding="utf-8") as file:
        assert "nothing of the registry is running" in file.read()
    pair.shell("node-a", "cp /tmp/good /etc/ha-agent/agent.toml; systemctl start ha-agent")
    pair.await_role("node-a", "standby")
    pair.await_equal()


@pytest.mark.shared_lab
def test_an_agent_that_hangs_is_ended_by_the_watchdog_and_goes_on_where_it_was(pair: Pair) -> None:
    """Design, self-fencing: agent hung.

    Fault: the agent of the active node is frozen (SIGSTOP) for good.
    Answer: systemd's watchdog ends it and starts it again; no program notices.
    Bound: WatchdogSec (8 s) and TimeoutAbortSec (2 s).
    """
    pair.up()
    pair.await_runs("node-a", THREE)
    before = pair.shell("node-a", PIDS)
    agent = pair.agent_pid("node-a")
    pair.lab.unit("node-a", "kill", "ha-agent", 19)
    wait_for("a new agent", lambda: pair.agent_pid("node-a") not in (None, agent), 15, 0.1)
    pair.await_role("node-a", "active")
    assert pair.shell("node-a", PIDS) == before


@pytest.mark.shared_lab
def test_a_peer_whose_agent_hangs_is_waited_for(pair: Pair) -> None:
    """Hazard 35: the peer's agent is frozen, not dead, and its programs run on.

    Fault: the active node's agent hangs, and keepalived dies there.
    Answer: the peer's machine answers, so it does not count as dead: the watchdog brings its agent back, and that releases.
    Bound: WatchdogSec, TimeoutAbortSec and a restart, within takeover.silent_peer_s (15 s); no overlap.
    """
    pair.up()
    pair.await_runs("node-a", THREE)
    pair.lab.unit("node-a", "kill", "ha-agent", 19)
    pair.shell("node-a", "pkill -9 keepalived")
    wait_for("the peer waits", lambda: pair.history("node-b", "peer-silent"), 5)
    pair.await_runs("node-b", THREE, 20)
    done = pair.history("node-b", "takeover-done")[-1]
    assert next(s for s in done["steps"] if s["step"] == "interlock")["interlock"] == "released"


def test_an_agent_that_is_killed_in_the_moment_of_a_failover_is_waited_for(pair: Pair) -> None:
    """Hazards 37 and 38: the agent is killed and at the same time keepalived.

    Fault: both are killed on the active node.
    Answer: the link is down, but the machine answers: its agent is back after 0.2 s and releases before the peer starts.
    Bound: the agent's start; no overlap.
    """
    pair.up()
    pair.await_runs("node-a", THREE)
    pair.shell("node-a", "kill -9 $(pgrep -f 'ha_agent daemo[n]') $(pgrep keepalived)")
    pair.await_runs("node-b", THREE, 10)
    assert pair.runs("node-a") == frozenset()


def test_programs_that_can_not_be_ended_fence_the_node_until_they_are_gone(pair: Pair) -> None:
    """Design, roles: fenced.

    Fault: a program of the active node hangs in the kernel (its file system is frozen), then the VIP moves.
    Answer: the node becomes fenced, stays FAULT, says "left-running"; under policy "hold" the peer starts nothing until the
    process is gone.
    Bound: no overlap.
    """
    stuck = "[program:stuck]\ncommand=/bin/sh -c 'while :; do echo x >> /mnt/disk/x; done'\nstartsecs=0\nstopwaitsecs=1\n"
    pair.up(overrides={"takeover": {"on_interlock_timeout": "hold"}, "release": {"retry_s": 4.0, "stop_timeout_s": 3.0}})
    for node in ("node-a", "node-b"):
        make = "truncate -s 16M /tmp/disk.img; mkfs.ext4 -q /tmp/disk.img; mkdir -p /mnt/disk"
        pair.shell(node, f"{make}; mount -o loop /tmp/disk.img /mnt/disk")
    with open(pair.path("node-a", "stuck.conf"), "w", encoding="ascii") as file:
        file.write(stuck)
    pair.await_equal()
    wait_for("the conf is active", lambda: "stuck" in pair.shell("node-a", "ls /run/ha-agent/active"), 5, 0.05)
    pair.shell("node-a", "supervisorctl update")
    pair.await_runs("node-a", THREE | {"stuck"})
    pair.shell("node-a", "fsfreeze --freeze /mnt/disk")
    try:
        pair.shell("node-a", "echo 1 > /run/ha-agent/track")
        pair.await_role("node-a", "fenced", 20)
        settled = wait_for("the decision", lambda: pair.history("node-b", "interlock-settled"), 6)[0]
        assert (settled["interlock"], settled["policy"], settled["started"]) == ("left-running", "hold", False)
        # It goes on trying to release, so that is what it says in between.
        wait_for("it says so", lambda: "is fenced" in pair.lab.run("node-a", "ha-agent", "status", check=False), 20)
        stays("nothing starts", lambda: not pair.runs("node-b"), 1.5)
    finally:
        pair.shell("node-a", "fsfreeze --unfreeze /mnt/disk")
    pair.await_role("node-a", "standby")
    pair.await_runs("node-b", THREE | {"stuck"})


def test_a_node_whose_agent_never_started_is_never_master(pair: Pair) -> None:
    """Hazards 11 and 38: the agent cannot start at boot, and keepalived can.

    Fault: a node boots with a broken agent.toml while its peer is off.
    Answer: the track file says 1 until an agent says 0, so keepalived is FAULT from its start. With a good
    file the agent takes over.
    Bound: none needed: a node without an agent never holds the VIP.
    """
    pair.up()
    pair.lab.power_off("node-b")
    pair.lab.power_off("node-a")
    path = os.path.join(pair.lab.paths.disk("node-a", "etc-ha-agent"), "agent.toml")
    with open(path, encoding="utf-8") as file:
        good = file.read()
    with open(path, "w", encoding="utf-8") as file:
        file.write("broken")
    pair.power_on("node-a")
    stays("no VIP", lambda: "10.77.0.100" not in pair.shell("node-a", "ip -4 -o addr show eth0"), 3.0)
    with open(path, "w", encoding="utf-8") as file:
        file.write(good)
    pair.shell("node-a", "systemctl start ha-agent")
    pair.await_runs("node-a", THREE, 10)


REDIS = """\
[program:redis{port}]
command=/usr/bin/redis-server --port {port} --save "" --dir /var/lib/redis
user=redis
"""


def redis_pids(pair: Pair, node: str, port: int) -> list[str]:
    return pair.shell(node, f"pgrep -f '[r]edis-server .*:{port}' || true").split()


def up_with_redis(pair: Pair) -> None:
    """redis writes its process title over its environment, and with that over supervisord's marks."""

    def local(lab: object) -> None:
        for node in ("node-a", "node-b"):
            path = os.path.join(pair.lab.paths.disk(node, "etc-supervisor"), "local.d", "local.conf")
            with open(path, "w", encoding="ascii") as file:
                file.write(REDIS.format(port=6390))

    pair.up({"redis.conf": REDIS.format(port=6379), "p0.conf": "[program:p0]\ncommand=/bin/sleep infinity\n"}, prepare=local)
    wait_for("redis runs", lambda: pair.lab.status("node-a")["programs"][-1]["state"] == "RUNNING")
    (pid,) = redis_pids(pair, "node-a", 6379)
    assert "SUPERVISOR" not in pair.shell("node-a", f"tr '\\0' ' ' < /proc/{pid}/environ"), "the marks are gone"


def test_programs_that_overwrite_their_environment_are_not_left_beside_a_second_copy(pair: Pair) -> None:
    """Hazard 19: after SIGKILL of supervisord its children live on, also those that show its marks no more.

    Fault: supervisord is killed, under a unit that leaves its children alone; one of them has set its process title.
    Answer: it is found by the session that it shares with the dead supervisord, and ended; then it starts again.
    Bound: none; one copy in the end, with another process id.
    """
    up_with_redis(pair)
    (before,) = redis_pids(pair, "node-a", 6379)
    pair.lab.unit("node-a", "set", "supervisord", restart_s=0.3, ends_group=False)
    pair.shell("node-a", "pkill -9 supervisord")

    def is_new() -> bool:
        found = redis_pids(pair, "node-a", 6379)
        return len(found) == 1 and found != [before] and "RUNNING" in str(pair.lab.status("node-a")["programs"][-1])

    wait_for("one redis, a new one", is_new, 20, 0.1, lambda: redis_pids(pair, "node-a", 6379))


def test_a_hung_supervisord_s_programs_are_all_ended_before_the_word_whatever_they_show(pair: Pair) -> None:
    """Design, releasing: nothing is left running, verified by looking at processes.

    Fault: supervisord hangs on the active node, whose unit leaves children alone; one program has set its process title.
    Answer: that one is ended, too, before the other node gets the word and starts it.
    Bound: no overlap.
    """
    up_with_redis(pair)
    pair.lab.unit("node-a", "set", "supervisord", restart_s=60.0, ends_group=False)
    pair.shell("node-a", "pkill -STOP supervisord; echo 1 > /run/ha-agent/track")
    pair.await_role("node-b", "active", 30)
    assert redis_pids(pair, "node-a", 6379) == []
    wait_for("redis on node-b", lambda: len(redis_pids(pair, "node-b", 6379)) == 1)


def test_a_local_program_that_overwrote_its_environment_outlives_a_release(pair: Pair) -> None:
    """Design, releasing: never the local ones.

    Fault: a switchover, with a local program that has set its process title.
    Answer: it continues with the same process on both nodes.
    Bound: none.
    """
    up_with_redis(pair)
    before = {node: redis_pids(pair, node, 6390) for node in ("node-a", "node-b")}
    assert [len(pids) for pids in before.values()] == [1, 1]
    assert pair.ha("node-a", "switchover", "--yes").returncode == 0
    assert redis_pids(pair, "node-a", 6379) == [] and len(redis_pids(pair, "node-b", 6379)) == 1
    assert {node: redis_pids(pair, node, 6390) for node in before} == before
