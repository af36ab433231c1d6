"""The interlock under all conditions, and what is edited while the two nodes cannot speak."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

from ha_agent.lab.layout import NODES
from tests.lab_support import SLEEPER, Pair, sleepers, stays, wait_for

THREE = {"p0", "p1", "p2"}


def interlock_of(pair: Pair, node: str) -> dict[str, Any]:
    """The interlock's step of the last takeover that ``node`` finished."""
    done = pair.history(node, "takeover-done")[-1]
    step: dict[str, Any] = next(s for s in done["steps"] if s["step"] == "interlock")
    return step


@pytest.mark.shared_lab
def test_a_link_that_is_dead_while_vrrp_lives_moves_nothing(pair: Pair) -> None:
    """Hazard 34: ssh dead while VRRP works.

    Fault: nothing but VRRP adverts gets through between the nodes.
    Answer: the programs stay where they are; what cannot be replicated is pending and shown.
    Bound: none needed.
    """
    pair.up()
    pair.await_runs("node-a", THREE)
    pair.lab.block("node-a", "ip")
    pair.shell("node-a", "echo '; pending' >> /etc/supervisor/conf.d/p0.conf")
    stays("the active node stays active", lambda: pair.runs("node-a") == THREE and not pair.runs("node-b"), 2.0)
    wait_for("the lag is shown", lambda: pair.lab.status("node-a")["replication"]["state"] != "in_sync", 10, 0.1)
    pair.lab.unblock("node-a", "ip")
    pair.await_equal(20)


@pytest.mark.shared_lab
def test_without_a_link_the_old_node_still_releases_when_vrrp_leaves_it(pair: Pair) -> None:
    """Hazard 34: ssh dead while VRRP works, and then the VIP moves.

    Fault: the link is dead and keepalived of the active node is stopped.
    Answer: the peer cannot ask and counts the machine as off; the old node releases by itself at the same time.
    Bound: the programs' own time to stop; without fence_command the pair cannot do better.
    """
    pair.up()
    pair.await_runs("node-a", THREE)
    pair.allowed_overlap_s = 1.0
    pair.lab.block("node-a", "ip")
    pair.lab.unit("node-a", "stop", "keepalived")
    pair.await_runs("node-b", THREE, 10)
    wait_for("nothing on node-a", lambda: not pair.runs("node-a"), 3)
    assert interlock_of(pair, "node-b")["interlock"] in ("dead", "link-down")


def test_a_link_that_is_dead_to_a_machine_that_answers_a_ping_is_waited_for_before_a_start(pair: Pair) -> None:
    """Hazard 34: ssh alone is dead, and then the VIP moves.

    Fault: TCP does not get through, ping and VRRP do; keepalived of the active node is stopped.
    Answer: the machine is up, so the peer gives its agent takeover.silent_peer_s; meanwhile the old node releases by itself.
    Bound: takeover.silent_peer_s (here 3 s) without the programs; no overlap.
    """
    pair.up(overrides={"takeover": {"silent_peer_s": 3.0}})
    pair.await_runs("node-a", THREE)
    pair.lab.block("node-a", "tcp")
    pair.lab.unit("node-a", "stop", "keepalived")
    wait_for("the peer waits", lambda: pair.history("node-b", "peer-silent"), 6)
    pair.await_runs("node-b", THREE, 10)
    assert interlock_of(pair, "node-b")["interlock"] == "silent"


def test_lost_packets_are_no_dead_machine(pair: Pair) -> None:
    """Hazard 45: packets are lost at random, in both directions.

    Fault: half of the packets are lost either way, and the VIP moves three times; a program needs 1.5 s to stop.
    Answer: the machine is asked fifty times in takeover.peer_probe_s and one answer is enough: the node that gets the VIP
    waits for the word of the other one.
    Bound: takeover.silent_peer_s without the programs where ssh does not come through; no overlap.
    """
    command = "/bin/bash -c 'trap \"sleep 1.5; exit\" TERM; while :; do sleep 0.05; done'"
    pair.up({"slow.conf": f"[program:slow]\ncommand={command}\nstartsecs=0\nstopwaitsecs=5\n"})
    pair.await_runs("node-a", {"slow"})
    pair.lab.block("node-a", "loss", 50)
    for source, target in (NODES, NODES[::-1], NODES):
        pair.shell(source, "echo 1 > /run/ha-agent/track")
        pair.await_runs(target, {"slow"}, 40)
        pair.shell(source, "echo 0 > /run/ha-agent/track")
    pair.lab.unblock("node-a", "loss")
    pair.lab.wait_settled()


def test_a_full_partition_runs_twice_and_heals_to_one_active_node_with_every_edit_safe(pair: Pair) -> None:
    """Hazards 34 and 36: both dead; edits on either side.

    Fault: nothing gets through between two nodes that live. Both are MASTER; both are edited.
    Answer: availability: both run the programs. Healed, one of them releases, the registries become equal, and the content
    that lost is a kept copy marked as a divergence.
    Bound: the partition, and 15 s after it; never with a fence_command that succeeds.
    """
    pair.up()
    pair.await_runs("node-a", THREE)
    pair.allowed_overlap_s = 60.0
    pair.lab.block("node-a", "all")
    pair.await_runs("node-b", THREE, 5)
    assert pair.runs("node-a") == THREE, "two nodes cannot tell a dead peer from one that they cannot reach"
    for node in NODES:
        pair.shell(node, f"echo '; only on {node}' >> /etc/supervisor/conf.d/p0.conf")
        with open(pair.path(node, f"{node}.conf"), "w", encoding="ascii") as file:
            file.write(SLEEPER.format(name=node))
    pair.lab.unblock("node-a", "all")
    wait_for("one node", lambda: sorted(len(pair.runs(n)) > 0 for n in NODES) == [False, True], 15)
    pair.await_equal(20)
    stays("one node", lambda: sum(bool(pair.runs(n)) for n in NODES) == 1, 1.0)
    content = pair.files("node-a")["p0.conf"][1].decode()
    loser = "node-b" if "only on node-a" in content else "node-a"
    wait_for("the kept copy", lambda: f"only on {loser}" in kept_text(pair, "p0.conf"), 8, 0.1)
    assert pair.history(loser, "divergence-kept")
    everything = pair.files(loser).keys() | {os.path.basename(p) for p in kept_paths(pair)}
    assert {"node-a.conf", "node-b.conf"} <= everything, "a conf that was made on one side only must be somewhere"


def kept_paths(pair: Pair) -> list[str]:
    """Every kept copy on both nodes."""
    found = []
    for node in NODES:
        for folder, _, names in os.walk(os.path.join(pair.lab.paths.disk(node, "state"), "kept")):
            found += [os.path.join(folder, name) for name in names if not name.startswith(".")]
    return found


def kept_text(pair: Pair, name: str) -> str:
    """All kept contents of one conf."""
    texts = []
    for path in kept_paths(pair):
        if os.path.basename(path).startswith(name):
            with open(path, encoding="utf-8") as file:
                texts.append(file.read())
    return "".join(texts)


def test_edits_that_never_travelled_come_back_with_the_old_node_as_kept_copies(pair: Pair) -> None:
    """Hazard 36: the old MASTER comes back after a crash with an older epoch and confs that never travelled.

    Fault: the active node is edited while the link is dead, and loses its power; the peer takes over and is edited, too.
    Answer: the old node returns as a standby, gets the new truth, and keeps what it had as divergences.
    Bound: nothing is lost.
    """
    pair.up()
    pair.await_runs("node-a", THREE)
    pair.lab.block("node-a", "ip")
    edits = "echo '; never sent' >> p0.conf; sed s/p1/p7/ p1.conf > p7.conf; rm p2.conf"
    pair.shell("node-a", f"cd /etc/supervisor/conf.d; {edits}")
    wait_for("the edits are seen", lambda: pair.lab.status("node-a")["replication"]["pending"], 5, 0.05)
    pair.lab.power_off("node-a")
    pair.await_runs("node-b", THREE, 5)
    pair.shell("node-b", "echo '; the new truth' >> /etc/supervisor/conf.d/p0.conf")
    pair.power_on("node-a")
    pair.await_role("node-a", "standby")
    pair.await_equal(20)
    files = pair.files("node-a")
    assert b"the new truth" in files["p0.conf"][1] and "p2.conf" in files and "p7.conf" not in files
    wait_for("the kept copies", lambda: "never sent" in kept_text(pair, "p0.conf") and kept_text(pair, "p7.conf"), 8, 0.1)
    assert pair.history("node-a", "divergence-kept")


@pytest.mark.shared_lab
def test_an_edit_against_a_deletion_keeps_the_active_nodes_word_and_the_others_content(pair: Pair) -> None:
    """Hazard 32: edited here and deleted there.

    Fault: one conf is deleted on the active node and edited on the standby, another one the other way round.
    Answer: the active node's word counts; the standby's content is kept.
    Bound: nothing is lost.
    """
    pair.up()
    pair.await_runs("node-a", THREE)
    pair.lab.block("node-a", "ip")
    pair.shell("node-a", "cd /etc/supervisor/conf.d; rm p0.conf; echo '; here' >> p1.conf")
    pair.shell("node-b", "cd /etc/supervisor/conf.d; echo '; edited there' >> p0.conf; rm p1.conf")
    pair.lab.unblock("node-a", "ip")
    pair.await_equal(20)
    files = pair.files("node-b")
    assert "p0.conf" not in files and b"; here" in files["p1.conf"][1]
    wait_for("the kept copy", lambda: "edited there" in kept_text(pair, "p0.conf"), 8, 0.1)


def test_what_was_deleted_while_the_peer_was_away_does_not_return_and_what_was_made_does_not_vanish(pair: Pair) -> None:
    """Hazard 25: two-way rsync --delete deletes a conf created in between; without it deleted confs return.

    Fault: the link is dead while the active node makes one conf and deletes another.
    Answer: deletions are recognised against the last agreed manifest, so both arrive as they were meant.
    Bound: the link's return.
    """
    pair.up(sleepers(8))
    pair.lab.block("node-b", "ip")
    pair.shell("node-a", "cd /etc/supervisor/conf.d; rm p0.conf; sed s/p1/made/ p1.conf > made.conf")
    pair.lab.unblock("node-b", "ip")
    pair.await_equal(20)
    assert "made.conf" in pair.files("node-a") and "p0.conf" not in pair.files("node-b")


def test_two_nodes_that_boot_at_once_end_as_one_active_node(pair: Pair) -> None:
    """Hazard 34: both boot at once.

    Fault: both nodes lose their power and get it back in the same moment.
    Answer: VRRP elects one; a rebooted node runs nothing before that.
    Bound: vrrp.startup_delay_s and the election; no overlap.
    """
    pair.up()
    pair.await_runs("node-a", THREE)
    for node in NODES:
        pair.lab.power_off(node)
    for node in NODES:
        pair.lab.power_on(node, wait=False)
    for node in NODES:
        pair.lab.wait_booted(node)
        pair.probe.watch_node(node, pair.lab.init_pid(node))
    wait_for("the programs run", lambda: sorted(len(pair.runs(n)) for n in NODES) == [0, 3], 15)
    pair.lab.wait_settled()


@pytest.mark.shared_lab
def test_two_nodes_that_take_over_at_once_end_as_one_active_node(pair: Pair) -> None:
    """Hazard 34: VRRP partitioned while ssh works, and both boot.

    Fault: both boot while adverts do not get through, so both are MASTER and both take over.
    Answer: the lower claim gives way: its keepalived hears FAULT, the other node stays active.
    Bound: no overlap.
    """
    pair.up()
    for node in NODES:
        pair.lab.unit(node, "stop", "keepalived")
    wait_for("nothing runs", lambda: not pair.runs("node-a") and not pair.runs("node-b"), 15)
    pair.lab.block("node-a", "vrrp")
    for node in NODES:
        pair.lab.unit(node, "start", "keepalived")
    wait_for("the programs run", lambda: sorted(len(pair.runs(n)) for n in NODES) == [0, 3], 20)
    stays("one node", lambda: sorted(len(pair.runs(n)) for n in NODES) == [0, 3], 2.0)


@pytest.mark.shared_lab
def test_a_frozen_peer_whose_kernel_answers_is_not_taken_for_dead(pair: Pair) -> None:
    """Hazard 35: the peer is frozen (SIGSTOP), not dead, and wakes up with its programs running.

    Fault: every process of the active node is stopped for 4 s.
    Answer: the peer gets the VIP, finds that the machine answers, and waits; the node wakes, releases, gives its word.
    Bound: takeover.silent_peer_s (15 s); no overlap.
    """
    pair.up()
    pair.await_runs("node-a", THREE)
    pair.lab.freeze("node-a")
    wait_for("the peer waits", lambda: pair.history("node-b", "peer-silent"), 6)
    stays("nothing starts", lambda: not pair.runs("node-b"), 3.0)
    pair.lab.thaw("node-a")
    wait_for("the programs run once", lambda: sorted(len(pair.runs(n)) for n in NODES) == [0, 3], 15)
    pair.lab.wait_settled()


@pytest.mark.shared_lab
def test_a_paused_machine_that_wakes_up_releases_as_soon_as_it_hears_of_the_other(pair: Pair) -> None:
    """Hazard 35: a virtual machine that its host pauses answers nothing, and continues as if nothing had been.

    Fault: the active node is cut off and stopped for 4 s, then continues with its programs running.
    Answer: it looked dead, so the peer runs the programs. The agent notices that time passed without it, asks, and one node
    releases.
    Bound: 2 s after the wake-up and the programs' time to stop; never with a fence_command that succeeds.
    """
    pair.up()
    pair.await_runs("node-a", THREE)
    pair.allowed_overlap_s = 3.0
    pair.lab.isolate("node-a")
    pair.lab.freeze("node-a")
    pair.await_runs("node-b", THREE, 5)
    time.sleep(3.0)
    pair.lab.rejoin("node-a")
    pair.lab.thaw("node-a")
    woke = time.monotonic()
    wait_for("one node", lambda: time.monotonic() - woke > 0.3 and sum(bool(pair.runs(n)) for n in NODES) <= 1, 8)
    wait_for("the programs run once", lambda: sorted(len(pair.runs(n)) for n in NODES) == [0, 3], 15)
    assert any(e["code"] == "stalled" for e in pair.history("node-a"))


def test_hold_starts_nothing_on_a_dead_peers_behalf_and_says_so(pair: Pair) -> None:
    """Design, interlock: on_interlock_timeout = "hold" without a fence_command.

    Fault: the active node loses its power.
    Answer: nothing is started before the peer's word, although its machine answers nothing; status and doctor say why, and
    what to do. The machine boots, its agent gives the word, and the programs start where the VIP is.
    Bound: the repair of the peer; no overlap.
    """
    pair.up(overrides={"takeover": {"on_interlock_timeout": "hold"}})
    pair.await_runs("node-a", THREE)
    pair.lab.power_off("node-a")
    settled = wait_for("the decision", lambda: pair.history("node-b", "interlock-settled"), 6)[0]
    assert settled["interlock"] in ("dead", "link-down") and settled["started"] is False
    stays("nothing starts", lambda: not pair.runs("node-b"), 3.0)
    for face in ("status", "doctor"):
        said = " ".join(pair.ha("node-b", face).stdout.split())
        assert "starts nothing" in said and "bring node-a or the link to it back" in said
    wait_for("the alert", lambda: pair.has_told("node-b", "takeover-held"), 15, 0.3)
    pair.power_on("node-a")
    pair.await_runs("node-b", THREE, 15)
    assert pair.lab.status("node-b")["held"] is None


ALONE = """\
table ip alone {
  chain input { type filter hook input priority 0; iifname eth0 drop; }
  chain output { type filter hook output priority 0; oifname eth0 drop; }
}
"""


def test_a_node_that_is_cut_off_from_everything_stays_down(pair: Pair) -> None:
    """Design, takeover.require_any: one of these must answer before a start without the peer's word.

    Fault: the standby's own port of the switch passes nothing any more; later the active node loses its power as well.
    Answer: the standby starts nothing, and says which addresses do not answer; when the port works again, it starts.
    Bound: no overlap; the programs run within the time of a crash failover after the port works.
    """
    pair.up(overrides={"takeover": {"require_any": ["10.77.0.1", "10.77.0.254"]}})
    pair.await_runs("node-a", THREE)
    assert "10.77.0.254 does not answer" in " ".join(pair.ha("node-b", "doctor").stdout.split())
    pair.lab.run("node-b", "nft", ALONE)
    settled = wait_for("the decision", lambda: pair.history("node-b", "interlock-settled"), 10)[0]
    assert settled["started"] is False and settled["cut_off"] is True
    stays("nothing starts", lambda: not pair.runs("node-b") and pair.runs("node-a") == THREE, 3.0)
    said = " ".join(pair.ha("node-b", "status").stdout.split())
    assert "none of takeover.require_any answers (10.77.0.1, 10.77.0.254)" in said
    pair.lab.power_off("node-a")
    pair.shell("node-b", "nft delete table ip alone")
    pair.await_runs("node-b", THREE, 10)


def test_an_operators_word_that_the_peer_is_off_starts_what_is_held_once(pair: Pair) -> None:
    """The stuck hour: "hold", and the other machine is off for good.

    Fault: the active node loses its power. The operator says so too early, with a wrong name, and then rightly; the machine
    comes back, the programs move, and the power fails once more.
    Answer: status names the command; it is refused while the machine answers; with the word the programs start once, and the
    history says whose word it was. The next takeover waits again.
    Bound: no overlap.
    """
    pair.up(overrides={"takeover": {"on_interlock_timeout": "hold"}})
    pair.await_runs("node-a", THREE)
    notices = [pair.history(node, "hold-notice") for node in NODES]
    assert [len(found) for found in notices] == [1, 1] and "hold-if-alive" in notices[0][0]["text"]
    word = ("takeover", "--peer-is-off", "--reason", "burnt")
    for node, peer, said in (("node-a", "node-b", "active already"), ("node-b", "node-a", "says BACKUP, not MASTER")):
        refused = pair.ha(node, *word, "--yes", peer)
        assert refused.returncode == 3 and said in refused.stderr, refused
    pair.lab.power_off("node-a")
    wait_for("the decision", lambda: pair.lab.status("node-b")["held"], 6, 0.1)
    assert "ha-agent takeover --peer-is-off" in pair.ha("node-b", "status").stdout
    assert pair.ha("node-b", *word, "--yes", "node-b").returncode == 2, "another name"
    unasked = pair.ha("node-b", *word)
    assert unasked.returncode == 3 and "every program will run twice" in unasked.stdout
    stays("nothing starts", lambda: not pair.runs("node-b"), 1.0)
    done = pair.ha("node-b", *word, "--yes", "node-a")
    assert done.returncode == 0 and "3 programs RUNNING" in done.stdout, done
    assert pair.runs("node-b") == THREE
    (given,) = pair.history("node-b", "peer-declared-off")
    assert (given["by"], given["reason"]) == ("root", "burnt")
    decided = [e["started"] for e in pair.history("node-b", "interlock-settled")]
    assert decided[-1] is True and decided.count(True) == 1
    assert pair.lab.status("node-b")["held"] is None
    pair.power_on("node-a")
    wait_for("the pair is whole", lambda: pair.is_whole("node-b"), 20, 0.3)
    assert pair.ha("node-b", "switchover", "--yes").returncode == 0
    pair.await_runs("node-a", THREE)
    pair.lab.power_off("node-a")
    wait_for("it holds again", lambda: pair.lab.status("node-b")["held"], 6, 0.1)
    stays("the word is of no use a second time", lambda: not pair.runs("node-b"), 2.0)
    assert pair.history("node-b", "hold-notice") == notices[1], "said once"


def test_a_word_that_the_peer_is_off_is_refused_while_its_machine_or_its_agent_answers(pair: Pair) -> None:
    """A word that can be seen to be wrong.

    Fault: the active node's agent hangs while the VIP moves: the takeover waits for a machine that answers; then the agent
    answers, and its program does not end.
    Answer: the word is refused each time, with what to do; nothing starts twice.
    Bound: no overlap.
    """
    command = "/bin/bash -c 'trap \"\" TERM; while :; do sleep 0.05; done'"
    stubborn = f"[program:stubborn]\ncommand={command}\nstartsecs=0\nstopwaitsecs=12\n"
    limits = {"interlock_timeout_s": 1.0, "silent_peer_s": 1.0, "on_interlock_timeout": "hold"}
    pair.up({"stubborn.conf": stubborn}, overrides={"takeover": limits})
    pair.await_runs("node-a", {"stubborn"})
    word = ("takeover", "--peer-is-off", "--yes", "node-a")
    pair.shell("node-a", "echo 1 > /run/ha-agent/track")
    wait_for("it holds", lambda: pair.lab.status("node-b")["held"], 6, 0.1)
    refused = pair.ha("node-b", *word)
    assert refused.returncode == 3 and "its agent answers" in refused.stderr, refused
    pair.lab.unit("node-a", "stop", "ha-agent")
    wait_for("the link is seen down", lambda: "silent (" in str(pair.lab.status("node-b")["held"]), 15, 0.1)
    refused = pair.ha("node-b", *word)
    assert refused.returncode == 3 and "its machine answers" in refused.stderr, refused
    assert not pair.history("node-b", "peer-declared-off")
    pair.lab.unit("node-a", "start", "ha-agent")
    pair.await_runs("node-b", {"stubborn"}, 30)


@pytest.mark.parametrize("policy", ["start", "hold"])
def test_when_the_interlocks_time_is_over_the_stated_policy_decides_and_is_written_down(pair: Pair, policy: str) -> None:
    """Design, interlock: deadline reached.

    Fault: the old node needs longer to stop a program than takeover.interlock_timeout_s.
    Answer: "start": the peer starts the programs; "hold": it starts nothing until it has the word. The history says which
    and why.
    Bound: "start": the rest of the program's time to stop; "hold": no overlap.
    """
    command = "/bin/bash -c 'trap \"\" TERM; while :; do sleep 0.05; done'"
    stubborn = f"[program:stubborn]\ncommand={command}\nstartsecs=0\nstopwaitsecs=5\n"
    limits = {"interlock_timeout_s": 1.0, "on_interlock_timeout": policy}
    pair.up({"stubborn.conf": stubborn}, overrides={"takeover": limits})
    pair.await_runs("node-a", {"stubborn"})
    pair.allowed_overlap_s = 5.0 if policy == "start" else 0.0
    pair.shell("node-a", "echo 1 > /run/ha-agent/track")
    settled = wait_for("the decision", lambda: pair.history("node-b", "interlock-settled"), 6)[0]
    assert (settled["interlock"], settled["policy"], settled["started"]) == ("timeout", policy, policy == "start")
    if policy == "start":
        pair.await_runs("node-b", {"stubborn"}, 2)
    pair.await_runs("node-b", {"stubborn"}, 15)
    wait_for("nothing on node-a", lambda: not pair.runs("node-a"), 10)


def test_a_dead_peer_is_fenced_before_the_programs_start(pair: Pair) -> None:
    """Design, interlock: fence_command.

    Fault: the active node loses its power; a fence_command is configured.
    Answer: it runs before anything starts, and its exit status is in the history.
    Bound: takeover.fence_timeout_s.
    """
    log = "/var/log/fenced"
    words = ["/bin/sh", "-c", f"sleep 0.5; date > {log}"]
    pair.up(overrides={"takeover": {"fence_command": words}})
    pair.await_runs("node-a", THREE)
    pair.lab.power_off("node-a")
    wait_for("the fence ran", lambda: os.path.exists(os.path.join(pair.lab.paths.disk("node-b", "log"), "fenced")), 5)
    pair.await_runs("node-b", THREE, 5)
    settled = pair.history("node-b", "interlock-settled")[-1]
    assert settled["fence_exit"] == 0 and settled["started"] is True
    fence_done = os.stat(os.path.join(pair.lab.paths.disk("node-b", "log"), "fenced")).st_mtime
    assert pair.history("node-b", "takeover-done")[-1]["at"] >= fence_done


@pytest.mark.parametrize(("words", "policy"), [(["/bin/sleep", "60"], "hold"), (["/bin/false"], "start")])
def test_a_fence_command_that_fails_leaves_the_decision_to_the_policy(pair: Pair, words: list[str], policy: str) -> None:
    """Design, interlock: fence_command with its own time-out.

    Fault: the active node loses its power; fence_command fails, or does not end in takeover.fence_timeout_s.
    Answer: it is ended; "start" starts nevertheless, "hold" tries again and starts nothing until it succeeds.
    Bound: takeover.fence_timeout_s.
    """
    limits = {"fence_command": words, "fence_timeout_s": 0.5, "on_interlock_timeout": policy}
    pair.up(overrides={"takeover": limits})
    pair.await_runs("node-a", THREE)
    pair.lab.power_off("node-a")
    settled = wait_for("the decision", lambda: pair.history("node-b", "interlock-settled"), 6)[0]
    assert settled["fence_exit"] == (None if policy == "hold" else 1)
    assert settled["started"] is (policy == "start")
    if policy == "start":
        pair.await_runs("node-b", THREE, 3)
    else:
        stays("nothing starts", lambda: not pair.runs("node-b"), 2.0)
