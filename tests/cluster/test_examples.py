"""The shipped examples, as `ha-agent lab up --with` builds them: what docs/examples.md says of each is what happens."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from typing import Any

from ha_agent.lab import cloud
from ha_agent.lab.examples import REDIS_PORT, add_examples, can_loop
from ha_agent.lab.layout import ADDRESSES, NODES, VIP
from tests.lab_support import Pair, stays, wait_for

RUN_HOOK = "env HA_AGENT_HOOK={moment} HA_AGENT_EPOCH=1 HA_AGENT_NODE=node-b /etc/ha-agent/examples/{words}"


def up(pair: Pair, *names: str) -> None:
    """A pair with these examples, node-a active."""
    added = add_examples(pair.lab, names)
    pair.up(added.confs, overrides=added.overrides, prepare=added.prepare)
    pair.await_role("node-a", "active")


def switch_over(pair: Pair, to: str) -> None:
    """A switchover to ``to``, which ends when that node is active and the other one its standby."""
    source = NODES[1 - NODES.index(to)]
    wait_for("it can be done", lambda: pair.ha(source, "switchover", "--dry-run").returncode == 0, 30.0, 0.2)
    done = pair.ha(source, "switchover", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    pair.await_role(to, "active")
    pair.await_role(source, "standby")


def redis(pair: Pair, node: str, words: str) -> str:
    """What the redis of a node answers; an empty text where none does."""
    return pair.shell(node, f"timeout 2 redis-cli {words} 2>/dev/null || true").strip()


def has_copy(pair: Pair, node: str) -> bool:
    """Whether the redis of a node is written to, and copied."""
    return "state=online" in redis(pair, node, "INFO replication")


class Writes:
    """The client of `ha-agent lab writes`, at work."""

    def __init__(self, pair: Pair, seconds: float) -> None:
        words = [sys.executable, "-m", "ha_agent.lab.writes", VIP, str(REDIS_PORT), str(seconds)]
        self._client = subprocess.Popen(
            pair.lab.words_in_switch(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def account(self) -> dict[str, dict[str, Any]]:
        """Waits until it ends; what it has to say."""
        said, errors = self._client.communicate(timeout=90.0)
        assert self._client.returncode == 0, errors
        account: dict[str, dict[str, Any]] = json.loads(said)
        return account


def announced(pair: Pair) -> list[dict[str, Any]]:
    """Every request that the fake cloud was sent."""
    try:
        with open(os.path.join(pair.lab.paths.directory, cloud.FOLDER, "requests.jsonl"), encoding="utf-8") as file:
            return [json.loads(line) for line in file]
    except FileNotFoundError:
        return []


def states(pair: Pair, node: str) -> dict[str, str]:
    """The programs that supervisord of a node has of the registry, and how each is."""
    return {program["name"]: program["state"] for program in pair.lab.status(node)["programs"]}


def mounted(pair: Pair, node: str) -> bool:
    """Whether the disk is mounted on a node."""
    return pair.shell(node, "mountpoint -q /mnt/data && echo yes || echo no").strip() == "yes"


def test_one_command_builds_a_pair_with_all_examples(pair: Pair) -> None:
    root, name = os.path.split(pair.lab.paths.directory)
    command = [sys.executable, "-m", "ha_agent", "lab", "--root", root, "--name", name]
    done = subprocess.run([*command, "up", "--with", "examples", "--programs", "0"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    try:
        running = dict.fromkeys(("a", "b", "shop", "writer"), "RUNNING")
        wait_for("all run", lambda: states(pair, "node-a") == running, 30.0, 0.2)
        wait_for("a copy", lambda: has_copy(pair, "node-a"), 20.0)
        wait_for("all is well", lambda: pair.ha("node-a", "status").stdout.startswith("OK"), 20.0, 0.5)
        for node in NODES:
            doctor = pair.ha(node, "doctor")
            assert doctor.returncode == 0, doctor.stdout
        written = subprocess.run([*command, "writes", "--for", "1"], capture_output=True, text=True)
        assert re.search(r"confirmed by a second redis: [1-9]\d*, of these lost: 0", written.stdout), written
    finally:
        down = subprocess.run([*command, "down"], capture_output=True, text=True)
    assert (down.returncode, down.stderr) == (0, "")


def test_no_confirmed_write_is_lost_when_the_redis_moves_and_comes_back(pair: Pair) -> None:
    """The example of a redis pair: a client outside writes through the VIP all the time, one half of it with WAIT 1.

    Fault: a switchover to node-b and one back while it writes.
    Answer: the redis of the active node is the one that is written to, the other one its replica; no write that a second
    redis has confirmed is lost, and none that was answered at all, as the last one is waited for.
    Bound: none lost.
    """
    up(pair, "redis")
    wait_for("a copy", lambda: has_copy(pair, "node-a"), 20.0)
    client = Writes(pair, 12.0)
    for to in ("node-b", "node-a"):
        switch_over(pair, to)
        wait_for("a copy", lambda: has_copy(pair, to), 20.0)  # noqa: B023
    account = client.account()
    for one in account.values():
        assert one["answered"] > 100 and one["lost_confirmed"] == one["lost_answered"] == 0, account
    assert account["careful"]["confirmed"] > 100
    assert redis(pair, "node-b", "ROLE").startswith(f"slave\n{ADDRESSES['node-a']}")


def test_what_a_crash_costs_the_redis_is_counted(pair: Pair) -> None:
    """The same with a power cut; then the node comes back, and a switchover leads to it.

    Fault: node-a's power is cut while a client writes; it is switched on again; its redis is killed on the active node.
    Answer: no write that a second redis has confirmed is lost; those that one redis alone had answered may be, and the
    client says how many. The one that comes back is a replica before anybody asks it for a write. A redis that is started
    again on the active node is the one that is written to, with all that it had.
    Bound: none of the confirmed ones.
    """
    up(pair, "redis")
    wait_for("a copy", lambda: has_copy(pair, "node-a"), 20.0)
    client = Writes(pair, 8.0)
    wait_for("writes", lambda: redis(pair, "node-a", "DBSIZE") not in ("", "0", "1"), 10.0)
    time.sleep(2.0)
    pair.lab.power_off("node-a")
    pair.await_role("node-b", "active")
    account = client.account()
    assert all(one["lost_confirmed"] == 0 for one in account.values()) and account["careful"]["confirmed"] > 50, account
    assert account["hurried"]["pause_s"] < 7.0, account
    print(f"answered, and lost by the crash: {account['hurried']['lost_answered']} of {account['hurried']['answered']}")

    redis(pair, "node-b", "SET kept yes")
    pair.power_on("node-a")
    wait_for("a copy", lambda: has_copy(pair, "node-b"), 30.0)
    pair.await_in_sync("node-b")
    pid = redis(pair, "node-b", "INFO server").partition("process_id:")[2].split()[0]
    pair.shell("node-b", f"kill -9 {pid}")
    wait_for("another one", lambda: redis(pair, "node-b", "ROLE").startswith("master"), 20.0)
    wait_for("what it had", lambda: redis(pair, "node-b", "GET kept") == "yes", 20.0)
    wait_for("a copy", lambda: has_copy(pair, "node-b"), 30.0)
    switch_over(pair, "node-a")
    assert redis(pair, "node-a", "GET kept") == "yes"


def stop_copying(pair: Pair, node: str, active: str) -> None:
    """Has the redis of ``node`` copy nothing more from that of ``active``, and waits until it does not."""
    pair.shell(node, "redis-cli CONFIG SET masteruser nobody; redis-cli CONFIG SET masterauth wrong")
    pair.shell(active, "redis-cli CLIENT KILL TYPE replica")
    wait_for("no copy", lambda: not has_copy(pair, active), 20.0)


def test_the_client_counts_what_the_replica_did_not_have(pair: Pair) -> None:
    """The redis of the standby copies nothing any more while a client writes, and then the active node dies.

    Fault: the redis of node-b may not copy; a second later node-a's power is cut.
    Answer: node-b serves, as nobody is left who has more. The client says that writes are lost which one redis alone had
    answered, and that none is that a second one had confirmed.
    Bound: what was written without a copy.
    """
    up(pair, "redis")
    wait_for("a copy", lambda: has_copy(pair, "node-a"), 20.0)
    client = Writes(pair, 9.0)
    wait_for("writes", lambda: redis(pair, "node-a", "DBSIZE") not in ("", "0", "1"), 10.0)
    time.sleep(2.0)
    stop_copying(pair, "node-b", "node-a")
    time.sleep(1.0)
    pair.lab.power_off("node-a")
    pair.await_role("node-b", "active")
    account = client.account()
    assert account["careful"]["lost_confirmed"] == 0 < account["careful"]["confirmed"], account
    assert account["hurried"]["lost_answered"] > 100, account


def test_a_redis_that_lacks_writes_is_not_promoted(pair: Pair) -> None:
    """A replica is cut off from the redis that is written to, and a switchover leads to it all the same.

    Fault: the redis of node-b may not copy any more; a switchover to it.
    Answer: node-b's hook refuses to promote it, node-a gets the address again, and nothing is lost.
    Bound: 60 s.
    """
    up(pair, "redis")
    wait_for("a copy", lambda: has_copy(pair, "node-a"), 20.0)
    stop_copying(pair, "node-b", "node-a")
    assert redis(pair, "node-a", "SET kept yes") == "OK"
    wait_for("it can be done", lambda: pair.ha("node-a", "switchover", "--dry-run").returncode == 0, 30.0, 0.2)
    done = pair.ha("node-a", "switchover", "--yes", "--timeout", "20")
    assert done.returncode != 0, done.stdout
    event = wait_for("it was refused", lambda: pair.history("node-b", "hook-failed"), 30.0, 0.1)[0]
    assert "lacks what the one at 10.77.0.11 has" in json.dumps(event), event
    pair.await_role("node-a", "active", 60.0)
    pair.await_role("node-b", "standby", 30.0)
    assert redis(pair, "node-a", "ROLE").startswith("master") and redis(pair, "node-a", "GET kept") == "yes"


def test_the_disk_follows_the_address(pair: Pair) -> None:
    """The example of a file system that both nodes reach, with a program that writes on it.

    Fault: a switchover, a power cut, and the hook run once more at each place where its work is done already.
    Answer: it is mounted on the active node alone, and all that was written is there; to run the hook again changes
    nothing.
    Bound: 45 s after the power cut: where nobody has unmounted it the kernel waits 22 s for another machine's sign of life.
    """
    up(pair, "disk")
    switch_over(pair, "node-b")
    assert (mounted(pair, "node-a"), mounted(pair, "node-b")) == (False, True)
    disk = os.path.join(pair.lab.paths.directory, "shared-disk")
    pair.shell("node-b", RUN_HOOK.format(moment="before_start", words=f"data-disk {disk} /mnt/data"))
    pair.shell("node-a", RUN_HOOK.format(moment="after_stop", words=f"data-disk {disk} /mnt/data"))
    assert (mounted(pair, "node-a"), mounted(pair, "node-b")) == (False, True)
    wait_for("both wrote", lambda: pair.shell("node-b", "cat /mnt/data/who").split() == ["node-a", "node-b"], 10.0)
    pair.shell("node-b", "sync")
    pair.lab.power_off("node-b")
    pair.await_role("node-a", "active", 45.0)
    wait_for("a third", lambda: pair.shell("node-a", "cat /mnt/data/who").split() == ["node-a", "node-b", "node-a"], 10.0)


def test_no_second_node_mounts_the_disk(pair: Pair) -> None:
    """The active node is stopped with the disk mounted: it neither answers nor lets go.

    Fault: every process of node-a is stopped (SIGSTOP), its kernel still has the file system; later it goes on.
    Answer: node-b takes over and is refused by the kernel: it starts nothing and says so. When node-a goes on it lets go of
    everything, and the disk is mounted on one node, with what was written.
    Bound: 90 s.
    """
    assert can_loop(), "this needs loop devices and mkfs.ext4"
    up(pair, "disk")
    wait_for("it wrote", lambda: pair.shell("node-a", "cat /mnt/data/who").split() == ["node-a"], 10.0)
    pair.lab.freeze("node-a")
    event = wait_for("it was refused", lambda: pair.history("node-b", "hook-failed"), 60.0, 0.2)[0]
    assert "another machine may have it" in json.dumps(event), event
    assert not mounted(pair, "node-b") and pair.runs("node-b") == frozenset()
    pair.lab.thaw("node-a")
    wait_for("one has it", lambda: mounted(pair, "node-a") != mounted(pair, "node-b"), 60.0, 0.2)
    active = wait_for("one is active", lambda: [node for node in NODES if pair.role(node) == "active"], 60.0, 0.2)[0]
    wait_for("it is mounted there", lambda: mounted(pair, active), 10.0)
    assert pair.shell(active, "cat /mnt/data/who").split()[0] == "node-a"
    assert "error" not in pair.shell(active, f"tune2fs -l {pair.lab.paths.directory}/shared-disk | grep 'system state'")


def test_each_takeover_is_announced_and_a_late_word_is_refused(pair: Pair) -> None:
    """The example of a record at a name server or a cloud.

    Fault: the announcement is made twice; then a node announces an epoch that is over.
    Answer: the record has the node of the newest takeover; the second word changes nothing, the late one is refused.
    Bound: 15 s.
    """
    up(pair, "announce")
    first = wait_for("a record", lambda: announced(pair), 15.0)[-1]
    assert (first["name"], first["node"], first["address"], first["status"]) == ("shop", "node-a", VIP, 200)
    switch_over(pair, "node-b")
    second = wait_for("another one", lambda: announced(pair)[1:], 15.0)[-1]
    assert second["node"] == "node-b" and second["epoch"] > first["epoch"] and second["status"] == 200
    words = f"announce http://10.77.0.1:{cloud.PORT}/records/shop {VIP}"
    again = RUN_HOOK.format(moment="after_start", words=words).replace("EPOCH=1", f"EPOCH={second['epoch']}")
    pair.shell("node-b", again)
    late = subprocess.run(
        pair.lab.words_inside("node-a", ["sh", "-c", RUN_HOOK.format(moment="after_start", words=words)]),
        capture_output=True,
        text=True,
    )
    assert late.returncode == 1 and "has a later takeover than 1" in late.stderr
    assert [row["status"] for row in announced(pair)] == [200, 200, 200, 409]
    shown = json.loads(pair.shell("node-a", f"curl -s http://10.77.0.1:{cloud.PORT}/records/shop"))
    assert (shown["node"], shown["epoch"]) == ("node-b", second["epoch"])


def test_b_starts_only_when_a_answers(pair: Pair) -> None:
    """The example of an order: a needs three seconds until it answers, and b waits for that.

    Fault: a is slow, on either node.
    Answer: b is not started before a takes a connection.
    Bound: 10 s.
    """
    up(pair, "order")
    for node in NODES:
        if node == "node-b":
            switch_over(pair, node)
        wait_for("a", lambda: pair.runs(node) == {"a"}, 10.0)  # noqa: B023
        assert "b" not in pair.runs(node)
        wait_for("both", lambda: pair.runs(node) == {"a", "b"}, 10.0)  # noqa: B023
        pair.shell(node, "curl -s -o /dev/null http://127.0.0.1:8101/")
        (done,) = wait_for("the order is done", lambda: pair.history(node, "order-done"), 10.0)  # noqa: B023
        assert done["waits"][0]["took_s"] > 1.5, done


def test_a_service_that_does_not_answer_moves_once(pair: Pair) -> None:
    """The example of a health check, with a service that is broken on both nodes.

    Fault: it answers 503 on node-a, and on node-b when it has come there.
    Answer: one hand-over, and no second one.
    Bound: 20 s; 10 s without another one.
    """
    up(pair, "health")
    wait_for("it passes", lambda: pair.lab.status("node-a")["checks"][0]["health"] == "passing", 15.0, 0.1)
    for node in NODES:
        pair.shell(node, "touch /run/shop-is-broken")
    pair.await_role("node-b", "active", 20.0)
    held = wait_for("it is held back", lambda: pair.history("node-b", "check-held-back"), 20.0, 0.1)[-1]
    assert "not handed over again" in held["text"], held
    stays("it stays there", lambda: pair.role("node-b") == "active", 10.0)
    assert len(pair.history("node-a", "check-moves")) == 1 and not pair.history("node-b", "check-moves")
