"""Hooks on a real pair: one that fails, and an agent killed in between. What they are for is tried by test_examples."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from ha_agent.lab.control import Lab
from ha_agent.lab.examples import add_examples
from ha_agent.lab.layout import NODES
from tests.lab_support import Pair, sleepers, stays, wait_for

SLOW = """\
#!/bin/sh
echo "$HA_AGENT_HOOK begins" >>/var/log/supervisor/hook
sleep 1
echo "$HA_AGENT_HOOK ends" >>/var/log/supervisor/hook
"""


NO_DISK = '#!/bin/sh\n[ "$HA_AGENT_HOOK" != before_start ]'


def install(scripts: Mapping[str, str]) -> Callable[[Lab], None]:
    """Puts scripts into /etc/ha-agent of both nodes before they boot."""

    def write(lab: Lab) -> None:
        for node in NODES:
            for name, text in scripts.items():
                with open(os.path.join(lab.paths.disk(node, "etc-ha-agent"), name), "w", encoding="ascii") as file:
                    file.write(text)
                    os.fchmod(file.fileno(), 0o755)

    return write


def hook(name: str, *at: str, **more: Any) -> dict[str, Any]:
    """A section [hooks.NAME] for a script of /etc/ha-agent."""
    return {f"hooks.{name}": {"at": list(at), "command": [f"/etc/ha-agent/{name}"], **more}}


def mounted(pair: Pair, node: str) -> bool:
    """Whether the disk of the examples is mounted on a node."""
    return pair.shell(node, "mountpoint -q /mnt/data && echo yes || echo no").strip() == "yes"


def test_a_node_that_cannot_mount_gives_the_address_to_the_one_that_can(pair: Pair) -> None:
    """The shipped example of a disk; its hook fails on the node that is to take over.

    Fault: the hook of node-a cannot be run, and then cannot mount; keepalived of node-b is stopped.
    Answer: doctor names it; node-a starts nothing, gives the address to the standby that can mount, and does not ask for it
    again. The history has how long the hook took.
    Bound: 30 s.
    """
    added = add_examples(pair.lab, ["disk"])
    pair.up(added.confs, overrides=added.overrides, prepare=added.prepare)
    pair.await_role("node-a", "active")
    shown = pair.ha("node-a", "history", "-n", "30").stdout
    assert re.search(r"before-start \d+ ms \(data \d+ ms\)", shown), shown
    pair.await_in_sync("node-a")
    pair.hand_over("node-b")
    pair.await_in_sync("node-b")
    pair.shell("node-a", "chmod 644 /etc/ha-agent/examples/data-disk")
    checked = pair.ha("node-a", "doctor").stdout
    assert "hooks.data: /etc/ha-agent/examples/data-disk cannot be run" in checked, checked
    pair.shell("node-a", f"cd /etc/ha-agent/examples; echo '{NO_DISK}' >data-disk; chmod 755 data-disk")
    pair.lab.unit("node-b", "stop", "keepalived")
    wait_for("it was tried", lambda: pair.history("node-a", "hook-failed"), 20.0, 0.1)
    pair.await_role("node-b", "standby")
    pair.lab.unit("node-b", "start", "keepalived")
    pair.await_role("node-b", "active", 30.0)
    pair.await_role("node-a", "standby")
    assert mounted(pair, "node-b") and not mounted(pair, "node-a")
    stays("it stays there", lambda: pair.role("node-b") == "active", 3.0)


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
