"""The lab itself: labs do not collide, and nothing is left behind."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from ha_agent.lab.control import Lab, LabFailed
from ha_agent.lab.layout import NODES, default_root, fresh_directory
from tests.lab_support import Pair, wait_for


def processes_mentioning(text: str) -> list[str]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                line = file.read().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if text in line and int(pid) != os.getpid():
            found.append(f"{pid}: {line}")
    return found


def test_two_labs_at_once_do_not_collide(pair: Pair) -> None:
    pair.up()
    other = Lab(pair.lab.paths.directory + "-other")
    try:
        other.up(owner_pid=os.getpid())
        assert other.status("node-a")["role"] == pair.lab.status("node-a")["role"] == "active"
    finally:
        other.down()
    assert pair.lab.status("node-a")["role"] == "active"


def test_a_node_runs_nothing_of_this_machines_own_shell_start_up(pair: Pair) -> None:
    """sshd runs the forced command by root's shell, and bash reads ~/.bashrc for that."""
    pair.up()
    for node in NODES:
        assert pair.shell(node, "getent passwd root").strip() == "root:x:0:0:root:/run/lab/home:/bin/sh"


def test_down_leaves_nothing(pair: Pair) -> None:
    links = sorted(os.listdir("/sys/class/net"))
    pair.up()
    directory = pair.lab.paths.directory
    assert sorted(os.listdir("/sys/class/net")) == links, "the lab shows in the machine's network"
    pair.down()
    assert processes_mentioning(directory) == []
    assert not os.path.exists(directory)
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        assert directory not in file.read()


def test_a_lab_goes_when_its_owner_was_killed() -> None:
    directory = fresh_directory("owned")
    up = f"Lab({directory!r}).up(owner_pid=os.getpid())"
    code = f"from ha_agent.lab.control import Lab; import os, time; {up}; time.sleep(60)"
    owner = subprocess.Popen([sys.executable, "-c", code])
    wait_for("the lab", lambda: os.path.exists(os.path.join(directory, "lab.json")), 20)
    time.sleep(0.5)
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    wait_for("the end of it", lambda: not os.path.exists(directory) and not processes_mentioning(directory), 20)


def lab_of_a_demo(part: str) -> str | None:
    """The directory of a demo's lab, once ``part`` of it was started."""
    for path in glob.glob(os.path.join(default_root(), "demo-*", "lab.json")):
        with contextlib.suppress(FileNotFoundError), open(path, encoding="ascii") as file:
            if part in json.load(file):
                return os.path.dirname(path)
    return None


@pytest.mark.xdist_group("demo")
@pytest.mark.parametrize("part", ["switch", "node-b"])
def test_an_interrupted_demo_leaves_nothing(part: str) -> None:
    words = [sys.executable, "-m", "ha_agent.lab.demo"]
    demo = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    directory = wait_for("its lab", lambda: lab_of_a_demo(part), 60)
    assert directory is not None
    demo.send_signal(signal.SIGINT)
    assert demo.wait(60) == 130
    wait_for("nothing of the demo", lambda: not processes_mentioning(directory), 10)
    assert not os.path.exists(directory)


def test_a_command_for_a_node_that_is_off_says_so(pair: Pair) -> None:
    pair.up()
    pair.lab.power_off("node-b")
    try:
        pair.lab.run("node-b", "true")
    except LabFailed as error:
        assert "power-on node-b" in str(error)
    else:
        raise AssertionError("a node without power answered")
    assert pair.lab.is_on(NODES[0])
