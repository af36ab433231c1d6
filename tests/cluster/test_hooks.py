"""Hooks on a real pair: a file system that follows the address, a redis that is promoted, and an agent killed in between."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import time
from collections.abc import Callable, Mapping
from typing import Any

from ha_agent.lab.control import Lab
from ha_agent.lab.layout import ADDRESSES, NODES, VIP
from tests.lab_support import Pair, sleepers, stays, wait_for

MOUNT = """\
#!/bin/sh
set -eu
case $HA_AGENT_HOOK in
before_start) mkdir -p /mnt/data; mountpoint -q /mnt/data || mount -o loop {image} /mnt/data;;
after_stop) ! mountpoint -q /mnt/data || umount /mnt/data;;
esac
"""
"""The image is a disk that both machines could reach, and that only one may have mounted."""

WRITER = """\
[program:writer]
command=/bin/sh -c 'hostname >>/mnt/data/who; exec sleep infinity'
startsecs=0
"""

PROMOTE = """\
#!/bin/sh
set -eu
case $HA_AGENT_HOOK in
before_start) redis-cli REPLICAOF NO ONE;;
after_stop) redis-cli REPLICAOF {peer} 6379;;
esac | grep OK
"""

REDIS = """\
[program:local-redis]
command=/usr/bin/redis-server --bind 0.0.0.0 --protected-mode no --dir /var/lib/ha-agent --repl-diskless-sync-delay 0{more}
"""

SLOW = """\
#!/bin/sh
echo "$HA_AGENT_HOOK begins" >>/var/log/supervisor/hook
sleep 1
echo "$HA_AGENT_HOOK ends" >>/var/log/supervisor/hook
"""


def install(scripts: Mapping[str, str], more: Callable[[Lab, str], None] | None = None) -> Callable[[Lab], None]:
    """Puts scripts into /etc/ha-agent of both nodes before they boot; ``{peer}`` is the other node's address."""

    def write(lab: Lab) -> None:
        for node, other in zip(NODES, reversed(NODES), strict=True):
            for name, text in scripts.items():
                with open(os.path.join(lab.paths.disk(node, "etc-ha-agent"), name), "w", encoding="ascii") as file:
                    file.write(text.replace("{peer}", ADDRESSES[other]))
                    os.fchmod(file.fileno(), 0o755)
            if more is not None:
                more(lab, node)

    return write


def hook(name: str, *at: str, **more: Any) -> dict[str, Any]:
    """A section [hooks.NAME] for a script of /etc/ha-agent."""
    return {f"hooks.{name}": {"at": list(at), "command": [f"/etc/ha-agent/{name}"], **more}}


def says_yes(pair: Pair, node: str, script: str) -> bool:
    """Whether a shell script on a node says so."""
    return pair.shell(node, script).strip() == "yes"


def mounted(pair: Pair, node: str) -> bool:
    """Whether the file system is mounted on a node."""
    return says_yes(pair, node, "mountpoint -q /mnt/data && echo yes || echo no")


def test_a_file_system_follows_the_address(pair: Pair) -> None:
    """A file system on a disk that both machines reach, mounted by a hook; then switchovers and a power cut.

    Fault: node-a hands over and gets it back; its power is cut; its disk is away when it is to take over once more.
    Answer: the file system is mounted on the active node alone, before its programs start, and has what was written before.
    A node that cannot mount it starts nothing, gives the address to the standby that can, and does not ask for it again.
    Bound: 15 s each.
    """
    image = os.path.join(pair.lab.paths.directory, "shared.img")

    def make_image(lab: Lab, node: str) -> None:
        if node == NODES[0]:
            subprocess.run(["truncate", "-s", "8M", image], check=True)
            subprocess.run(["mkfs.ext4", "-q", image], check=True)

    scripts = {"data": MOUNT.format(image=image)}
    overrides = hook("data", "before_start", "after_stop", timeout_s=5.0)
    pair.up({"writer.conf": WRITER}, overrides=overrides, prepare=install(scripts, make_image))
    pair.await_role("node-a", "active")
    for to in ("node-b", "node-a"):
        source = NODES[1 - NODES.index(to)]
        done = pair.ha(source, "switchover", "--yes")
        assert done.returncode == 0, done.stdout + done.stderr
        pair.await_role(to, "active")
        assert (mounted(pair, to), mounted(pair, source)) == (True, False)
    wait_for("three lines", lambda: pair.shell("node-a", "cat /mnt/data/who").split() == ["node-a", "node-b", "node-a"])
    shown = pair.ha("node-a", "history", "-n", "30").stdout
    assert re.search(r"before-start \d+ ms \(data \d+ ms\)", shown), shown
    pair.shell("node-a", "sync")
    pair.lab.power_off("node-a")
    pair.await_role("node-b", "active")
    wait_for("a fourth", lambda: pair.shell("node-b", "cat /mnt/data/who").split()[-1] == "node-b")

    pair.power_on("node-a")
    pair.await_in_sync("node-b")
    pair.shell("node-a", "chmod 644 /etc/ha-agent/data")
    checked = pair.ha("node-a", "doctor").stdout
    assert "hooks.data: /etc/ha-agent/data cannot be run" in checked, checked
    pair.shell("node-a", f"chmod 755 /etc/ha-agent/data; sed -i 's|{image}|/nonexistent|' /etc/ha-agent/data")
    pair.lab.unit("node-b", "stop", "keepalived")
    wait_for("it was tried", lambda: pair.history("node-a", "hook-failed"), 20.0, 0.1)
    pair.await_role("node-b", "standby")
    pair.lab.unit("node-b", "start", "keepalived")
    pair.await_role("node-b", "active", 30.0)
    pair.await_role("node-a", "standby")
    assert mounted(pair, "node-b") and not mounted(pair, "node-a")
    stays("it stays there", lambda: pair.role("node-b") == "active", 3.0)


def test_a_redis_is_promoted_and_no_acknowledged_write_is_lost(pair: Pair) -> None:
    """A redis on each node, one the other's replica, promoted and put back by a hook; a client counts with WAIT 1.

    Fault: two switchovers while the client works.
    Answer: every write that both had is there afterwards, on both nodes.
    Bound: none lost.
    """

    def local(lab: Lab, node: str) -> None:
        more = f" --replicaof {ADDRESSES['node-a']} 6379" if node == "node-b" else ""
        text = REDIS.format(more=more)
        folder = os.path.join(lab.paths.disk(node, "etc-supervisor"), "local.d")
        with open(os.path.join(folder, "local-redis.conf"), "w", encoding="ascii") as file:
            file.write(text)

    overrides = hook("promote", "before_start", "after_stop", timeout_s=5.0)
    pair.up(sleepers(1), overrides=overrides, prepare=install({"promote": PROMOTE}, local))
    pair.await_role("node-a", "active")
    acknowledged = 0

    def await_replica(node: str) -> None:
        wait_for("a replica", lambda: "connected_slaves:1" in pair.shell(node, "redis-cli INFO replication"), 20.0)

    await_replica("node-a")

    def count(moment: float) -> None:
        nonlocal acknowledged
        while time.monotonic() < moment:
            words = f"printf 'INCR n\\nWAIT 1 500\\n' | timeout 2 redis-cli -h {VIP} 2>/dev/null || true"
            said = pair.lab.run("node-b", "sh", "-c", words).split()
            if len(said) == 2 and said[0].isdigit() and said[1] == "1":
                acknowledged = max(acknowledged, int(said[0]))

    for to in ("node-b", "node-a"):
        source = NODES[1 - NODES.index(to)]
        count(time.monotonic() + 1.0)
        assert pair.ha(source, "switchover", "--yes").returncode == 0
        pair.await_role(to, "active")
        await_replica(to)
    count(time.monotonic() + 1.0)
    assert acknowledged > 10
    for node in NODES:
        words = f"test $(redis-cli GET n) -ge {acknowledged} && echo yes || echo no"
        wait_for("all of them", functools.partial(says_yes, pair, node, words))


def test_an_agent_killed_in_a_hook_never_has_two_of_them_run(pair: Pair) -> None:
    """The agent is killed while a hook runs, at each moment.

    Fault: kill -9 of the agent within each of the four moments of a hook that takes a second.
    Answer: the next agent begins the step again; never are two hooks under way; the plan reaches its end.
    Bound: 15 s.
    """
    everywhere = hook("slow", "before_start", "after_start", "before_stop", "after_stop", timeout_s=10.0)
    pair.up(sleepers(2), overrides=everywhere, prepare=install({"slow": SLOW}))
    pair.await_role("node-a", "active", 30.0)

    def lines(node: str) -> list[str]:
        return pair.shell(node, "cat /var/log/supervisor/hook 2>/dev/null || true").splitlines()

    def kill_within(moment: str, node: str) -> None:
        """Moves the pair from node-a to node-b, with the agent of ``node`` killed while its hook runs, and back."""
        before = len(lines(node))
        pair.shell("node-a", "echo 1 > /run/ha-agent/track")
        wait_for(moment, lambda: f"{moment} begins" in lines(node)[before:], 20.0, 0.02)
        pair.kill_agent(node)
        pair.await_role("node-b", "active", 30.0)
        pair.await_role("node-a", "standby", 30.0)
        pair.shell("node-a", "echo 0 > /run/ha-agent/track")
        pair.shell("node-b", "echo 1 > /run/ha-agent/track")
        pair.await_role("node-a", "active", 30.0)
        pair.await_role("node-b", "standby", 30.0)
        pair.shell("node-b", "echo 0 > /run/ha-agent/track")

    for moment, node in (
        ("before_stop", "node-a"), ("after_stop", "node-a"), ("before_start", "node-b"), ("after_start", "node-b"),
    ):  # fmt: skip
        kill_within(moment, node)
    for node in NODES:
        said = lines(node)
        ends = [number for number, line in enumerate(said) if line.endswith("ends")]
        assert ends and all(said[number - 1] == said[number].replace("ends", "begins") for number in ends), said
