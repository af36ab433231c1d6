"""The lab itself: labs do not collide, and nothing is left behind."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from ha_agent.lab import cgroups
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


def test_what_a_node_writes_is_its_own(pair: Pair) -> None:
    """The help of `ha-agent lab` says that the machine itself sees nothing of it."""
    pair.up({})
    folders = [
        f for f in ("/", "/boot", "/home", "/media", "/opt", "/root", "/srv", "/usr/local", "/var") if os.path.isdir(f)
    ]
    names = [os.path.join(folder, f"of-{os.path.basename(pair.lab.paths.directory)}") for folder in folders]
    for name in names:
        done = subprocess.run(pair.lab.words_inside("node-a", ["touch", name]), capture_output=True, text=True)
        assert done.returncode == 0 or "Read-only file system" in done.stderr
    assert [name for name in names if os.path.exists(name)] == []
    assert pair.shell("node-b", f"for name in {' '.join(names)}; do test ! -e $name || echo $name; done") == ""


def test_what_the_lab_says_to_do_next_is_of_the_same_lab(pair: Pair) -> None:
    pair.up({})
    root, name = os.path.split(pair.lab.paths.directory)
    command = [sys.executable, "-m", "ha_agent", "lab", "--root", root, "--name", name]
    done = subprocess.run([*command, "up"], capture_output=True, text=True)
    assert done.returncode == 1 and f"lab {name} exists already; take it down with: " in done.stderr
    assert done.stderr.strip().endswith(f"lab --name {name} down")
    listed = subprocess.run([*command, "ls"], capture_output=True, text=True).stdout
    assert any(row.split() == [name, "up:", "node-a,", "node-b"] for row in listed.splitlines()), listed


def test_a_lab_that_is_being_taken_down_keeps_no_other_from_being_listed(tmp_path: pathlib.Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    command = [sys.executable, "-m", "ha_agent", "lab", "--root", str(tmp_path), "ls"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert [row.split()[0] for row in done.stdout.splitlines()] == ["first", "second"]


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


def groups_of_labs() -> list[str]:
    """The control groups of labs that there are now."""
    root = cgroups.find_hierarchy()
    return [] if root is None else glob.glob(os.path.join(root, "ha-agent-lab.*"))


def test_each_unit_has_a_control_group_as_on_a_real_machine_and_down_removes_it(pair: Pair) -> None:
    assert cgroups.find_hierarchy() is not None, "the sandbox has control groups to give"
    pair.up()
    group = "/sys/fs/cgroup/system.slice/supervisor.service/cgroup.procs"
    members = pair.shell("node-a", f"cat {group}").split()
    assert pair.shell("node-a", "cat /run/supervisord.pid").strip() in members and len(members) >= 4
    mine = [path for path in groups_of_labs() if os.path.basename(pair.lab.paths.directory) in path]
    assert len(mine) == 2
    pair.lab.power_off("node-b")
    assert [path for path in mine if os.path.exists(path)] == [path for path in mine if ".node-a." in path]
    pair.down()
    assert not any(os.path.exists(path) for path in mine)


def test_a_stop_ends_what_has_wiped_its_environment_and_left_its_session(pair: Pair) -> None:
    """The rule of KillMode=control-group: no process leaves its unit's control group."""
    escape = "/bin/sh -c 'env -i setsid -f /bin/sleep 7654321; exec sleep infinity'"
    pair.up({"p0.conf": f"[program:p0]\ncommand={escape}\nstartsecs=0\n"})
    wait_for("it", lambda: pair.lab.run("node-a", "pgrep", "-f", "[s]leep 7654321", check=False))
    pair.lab.unit("node-a", "stop", "supervisord")
    assert not pair.lab.run("node-a", "pgrep", "-f", "[s]leep 7654321", check=False)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_sandbox_leaves_no_control_group_however_it_ends(number: int) -> None:
    words = [sys.executable, "-m", "ha_agent.lab.sandbox", "--", "sh", "-c", "echo in; exec sleep 60"]
    sandbox = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert sandbox.stdout is not None and sandbox.stdout.readline() == "in\n"
    with open(f"/proc/{sandbox.pid}/task/{sandbox.pid}/children", encoding="ascii") as file:
        inside = set(map(int, file.read().split()))
    root = cgroups.find_hierarchy()
    assert root is not None
    mine = [p for p in glob.glob(os.path.join(root, "ha-agent-sandbox.*")) if inside & set(cgroups.members(p))]
    assert len(mine) == 1
    sandbox.send_signal(number)
    sandbox.wait()
    sandbox.stdout.close()
    wait_for("its end", lambda: not any(map(os.path.exists, mine)), 10)


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
