"""Replication over broken disks, broken links and broken tools: nothing lost, everything said."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterable

import pytest

from tests.lab_support import DISK, SLEEPER, Pair, empty, fill, sleepers, stays, wait_for

REGISTRY = "/etc/supervisor/conf.d"


def test_a_full_disk_on_the_standby_is_said_and_the_change_arrives_when_there_is_room(pair: Pair) -> None:
    """Hazard 31: disk full on the peer.

    Fault: the standby's disk is full when a conf is edited.
    Answer: NO_SPACE before anything is touched; the active node shows it, tries again, and the edit arrives.
    Bound: 2 s after there is room.
    """
    pair.up(disk_bytes=DISK)
    fill(pair, "node-b")
    before = pair.files("node-b")
    pair.shell("node-a", f"echo '; waits for room' >> {REGISTRY}/p0.conf")
    wait_for("the refusal", lambda: "NO_SPACE" in str(pair.lab.status("node-a")["replication"]["reason"]), 5, 0.05)
    assert pair.files("node-b") == before
    empty(pair, "node-b")
    pair.await_equal(5)


def test_a_full_disk_does_not_keep_the_standby_from_taking_over(pair: Pair) -> None:
    """Hazard 31: disk full, and then a failover.

    Fault: the standby's disk is full when the active node loses its power.
    Answer: a reserve in the state directory makes room for the new epoch; the programs start.
    Bound: as any failover.
    """
    pair.up(disk_bytes=DISK)
    pair.await_runs("node-a", {"p0", "p1", "p2"})
    fill(pair, "node-b")
    pair.lab.power_off("node-a")
    pair.await_runs("node-b", {"p0", "p1", "p2"}, 5)
    assert pair.lab.status("node-b")["epoch"] == 2
    empty(pair, "node-b")
    reserve = os.path.join(pair.lab.paths.disk("node-b", "state"), "reserve")
    pair.power_on("node-a")
    pair.lab.wait_settled()
    pair.shell("node-b", f"echo '; on' >> {REGISTRY}/p0.conf")
    pair.await_equal()
    wait_for("the reserve is there again", lambda: os.path.exists(reserve), 8, 0.1)


def test_a_full_disk_on_the_active_node_stops_nothing(pair: Pair) -> None:
    """Hazard 31: disk full on this side.

    Fault: the active node's disk is full while its agent is killed, and at a hand-over.
    Answer: nothing stops; the history loses lines, the agent continues; release and takeover work.
    Bound: no overlap.
    """
    pair.up(disk_bytes=DISK)
    pair.await_runs("node-a", {"p0", "p1", "p2"})
    fill(pair, "node-a")
    pair.kill_agent("node-a")
    pair.await_role("node-a", "active")
    pair.hand_over("node-b")
    pair.await_runs("node-b", {"p0", "p1", "p2"})
    empty(pair, "node-a")
    pair.await_equal()
    pair.hand_over("node-a")
    pair.await_runs("node-a", {"p0", "p1", "p2"})


def test_a_read_only_registry_on_the_standby_is_said(pair: Pair) -> None:
    """Hazard 31: read-only file system.

    Fault: the standby's registry is mounted read-only when a conf is edited.
    Answer: the refusal with its reason is shown on the active node; the edit arrives when the mount is writable.
    Bound: 2 s after that.
    """
    pair.up()
    pair.shell("node-b", f"mount --bind {REGISTRY} {REGISTRY}; mount -o remount,ro,bind {REGISTRY}")
    time.sleep(2.5)
    pair.shell("node-a", f"echo '; later' >> {REGISTRY}/p0.conf")
    wait_for("the refusal", lambda: "Read-only" in str(pair.lab.status("node-a")["replication"]["reason"]), 8, 0.05)
    pair.shell("node-b", f"mount -o remount,rw,bind {REGISTRY}")
    pair.await_equal(10)


@pytest.mark.shared_lab
def test_a_changed_host_key_ends_the_link_and_is_named(pair: Pair) -> None:
    """Hazard 31: host key changed.

    Fault: the peer's sshd has another host key than the pinned one.
    Answer: no connection; status says so. With the right key the link is back.
    Bound: none needed.
    """
    pair.up()
    pair.shell("node-b", "cd /etc/ssh; ssh-keygen -q -t ed25519 -N '' -f new; cp ssh_host_ed25519_key good")
    pair.shell("node-b", "cp /etc/ssh/new /etc/ssh/ssh_host_ed25519_key")
    pair.lab.unit("node-b", "restart", "sshd")
    pair.shell("node-b", "pkill -f 'sshd.*: roo[t]' || true")
    said = wait_for(
        "the refusal",
        lambda: "verification failed" in (text := pair.lab.run("node-a", "ha-agent", "status", check=False)) and text,
        15,
        0.2,
        lambda: pair.lab.run("node-a", "ha-agent", "status", check=False),
    )
    assert "node-b does not answer" in str(said)
    pair.shell("node-b", "cp /etc/ssh/good /etc/ssh/ssh_host_ed25519_key")
    pair.lab.unit("node-b", "restart", "sshd")
    pair.shell("node-a", f"echo '; again' >> {REGISTRY}/p0.conf")
    pair.await_equal(15)


def bulk(pair: Pair, node: str, count: int, size: int, mark: str) -> None:
    """Confs that are too much for one frame, so that rsync takes them."""
    for number in range(count):
        with open(pair.path(node, f"bulk{number}.conf"), "w", encoding="ascii") as file:
            file.write(SLEEPER.format(name=f"bulk{number}") + "autostart=false\n" + f"; {mark} {'x' * size}\n")


def test_a_peer_without_rsync_is_named_and_small_changes_still_arrive(pair: Pair) -> None:
    """Hazard 31: rsync missing.

    Fault: the peer has no rsync when a bulk change is made.
    Answer: the reason is shown; what fits into a frame still arrives; with rsync back the bulk arrives.
    Bound: 2 s after that.
    """
    pair.up()
    pair.shell("node-b", "mount --bind /dev/null /usr/bin/rsync")
    # Each of them is too much for a frame: none can go alone before the others are seen.
    bulk(pair, "node-a", 3, 80000, "bulk")
    wait_for("the reason", lambda: "rsync" in str(pair.lab.status("node-a")["replication"]["reason"]), 10, 0.1)
    pair.shell("node-b", "umount /usr/bin/rsync")
    pair.await_equal(15)


def assert_whole(pair: Pair, names: Iterable[str]) -> None:
    """The standby holds every conf, and each is one of those that were made, not a part of it."""
    files = pair.files("node-b")
    assert files.keys() == set(names)
    for name, (_, content) in files.items():
        assert not name.startswith("bulk") or content.endswith(b"x" * 20000 + b"\n"), f"{name} is cut off"


def test_a_transfer_that_is_cut_half_way_changes_nothing_and_is_done_again(pair: Pair) -> None:
    """Hazards 31 and 32: transfer cut half way; failover in the middle of a transfer.

    Fault: rsync is killed in the middle of a bulk change, again and again; then the link is cut in it; then the power.
    Answer: the peer's registry holds the old set or the new one, never a mixture.
    Bound: nothing is lost that was acknowledged.
    """
    pair.up()
    bulk(pair, "node-a", 40, 20000, "first")
    pair.await_equal(15)
    first = pair.files("node-b")
    killing = "for n in $(seq 100); do pkill -9 rsync; sleep 0.01; done"
    with subprocess.Popen(pair.lab.words_inside("node-b", ["sh", "-c", killing])):
        bulk(pair, "node-a", 40, 20000, "second")
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline:
            assert_whole(pair, first)
            time.sleep(0.02)
    pair.await_equal(20)
    assert b"; second" in pair.files("node-b")["bulk7.conf"][1]
    bulk(pair, "node-a", 40, 20000, "third")
    pair.lab.power_off("node-a")
    pair.await_role("node-b", "active", 10)
    assert_whole(pair, first)


def test_a_change_of_the_same_size_and_time_stamp_arrives(pair: Pair) -> None:
    """Hazard 28: clock skew and same-size-same-mtime changes defeat rsync's quick check.

    Fault: a conf gets other content of the same size, and its old time stamp back; another one a time stamp in the future.
    Answer: comparison is by sha256.
    Bound: a second.
    """
    pair.up()
    script = "cp -p p0.conf /tmp/old; sed -i s/infinity/1234567_/ p0.conf; touch -r /tmp/old p0.conf"
    pair.shell("node-a", f"cd {REGISTRY}; {script}; echo '; future' >> p1.conf; touch -d 2040-01-01 p1.conf")
    pair.await_equal(1.0)
    assert b"1234567_" in pair.files("node-b")["p0.conf"][1]


def test_a_clock_that_is_wrong_changes_nothing(pair: Pair) -> None:
    """Hazard 28: clock skew. Nothing of a transaction or a decision is a wall clock's: the frames hold none.

    Fault: every time stamp in the registry lies ten years back or ahead.
    Answer: deletions and new files are recognised nevertheless: no decision looks at a clock.
    Bound: a second.
    """
    pair.up(sleepers(6))
    script = "touch -d 2016-01-01 p0.conf; touch -d 2036-01-01 p1.conf; rm p2.conf; mv p3.conf n.conf"
    pair.shell("node-a", f"cd {REGISTRY}; {script}")
    pair.await_equal(1.5)


def test_what_inotify_lost_is_found_by_a_full_compare(pair: Pair) -> None:
    """Hazard 29: inotify overflows; watchdog does not tell the handler (watchdog #654).

    Fault: the agent is stopped (SIGSTOP) while more changes are made than inotify's queue holds.
    Answer: the overflow asks for a full compare, and every change arrives.
    Bound: a few seconds.
    """
    # In memory, and by a shell of its own: the agent's watchdog must not find the time long.
    pair.up(disk_bytes=DISK)
    agent = pair.agent_pid("node-a")
    limit = int(pair.shell("node-a", "cat /proc/sys/fs/inotify/max_queued_events"))
    root = pair.path("node-a")
    changes = f"n=0; while [ $n -lt {limit // 3 + 200} ]; do n=$((n + 1)); echo x > {REGISTRY}/o$((n % 50)).txt; done"
    pair.shell("node-a", f"kill -STOP {agent}; {changes}")
    with open(os.path.join(root, "last.conf"), "w", encoding="ascii") as file:
        file.write(SLEEPER.format(name="last"))
    os.unlink(os.path.join(root, "p0.conf"))
    pair.shell("node-a", f"kill -CONT {agent}; rm {REGISTRY}/*.txt")
    pair.await_equal(15)
    assert "last.conf" in pair.files("node-b") and "p0.conf" not in pair.files("node-b")


@pytest.mark.parametrize("mask", ["0177", "0000"])
def test_files_have_the_right_modes_whatever_the_umask_is(pair: Pair, mask: str) -> None:
    """Hazard 8: the hook runs with umask 0177; and others have none.

    Fault: the hook and an operator's commands run under umask 0177, or 0000.
    Answer: modes are set, not inherited.
    Bound: none needed.
    """
    pair.up()
    hook = "sh /etc/keepalived/ha-agent-notify INSTANCE HA_AGENT MASTER 1"
    pair.shell("node-a", f"umask {mask}; rm -rf /run/ha-agent/notify; {hook}")
    assert pair.shell("node-a", "stat -c %a /run/ha-agent/notify").strip() == "755"
    pair.shell("node-a", f"cd {REGISTRY}; umask {mask}; sed s/p0/masked/ p0.conf > masked.conf; chmod 640 masked.conf")
    pair.await_equal(2)
    assert pair.files("node-b")["masked.conf"][0] == 0o640
    for node in ("node-a", "node-b"):
        state = os.path.join(pair.lab.paths.disk(node, "state"), "state.json")
        wait_for("the first checkpoint", lambda: os.path.exists(state), 8, 0.1)  # noqa: B023
        modes = pair.shell(node, "stat -c '%a %n' /run/ha-agent/*.sock /var/lib/ha-agent /var/lib/ha-agent/state.json")
        assert "660 /run/ha-agent/control.sock" in modes and "600 /run/ha-agent/peer.sock" in modes
        assert "700 /var/lib/ha-agent\n" in modes and "600 /var/lib/ha-agent/state.json" in modes


def test_a_registry_that_is_edited_all_the_time_leaves_the_loop_idle_afterwards(pair: Pair) -> None:
    """Hazard 27: a no-op rsync raises directory ATTRIB events: a watcher that reacts to them loops for ever.

    Fault: files are replicated, and afterwards touched without a change of content.
    Answer: nothing is sent, and the two agents do not wake each other.
    Bound: not one push.
    """
    pair.up()
    pair.shell("node-a", f"echo '; one' >> {REGISTRY}/p0.conf")
    pair.await_equal()
    pair.await_in_sync("node-a")
    pushed = pair.lab.status("node-a")["replication"]["pushed"]
    for node in ("node-a", "node-b"):
        pair.shell(node, f"touch {REGISTRY}; touch {REGISTRY}/*.conf; rsync -a {REGISTRY}/ {REGISTRY}/")
    stays("nothing is pushed", lambda: pair.lab.status("node-a")["replication"]["pushed"] == pushed, 2.0)
