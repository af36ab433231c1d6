"""The keeper of the deadline over a real control group: it kills when no newer deadline comes, and only then."""

from __future__ import annotations

import asyncio
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

import ha_agent.keeper as keeper_module
from ha_agent.adapters.keeper import KeeperClient, KeeperFailed, KeeperState
from ha_agent.keeper import read_clock
from ha_agent.lab import cgroups

KILL_S = 0.5
"""From the deadline until everything has ended, on a machine with other work. The margin's defaults leave 0.2 s."""

FORKS = "while :; do sleep 60 & sleep 60 & wait -n; done & while :; do setsid sleep 0.01; done"
"""A shell's script that starts process after process, some of them in sessions of their own."""


class Node:
    """A keeper, and a control group with programs in it, as supervisord's is."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.run_dir = directory
        self.active = directory / "active"
        self.fill()
        made = cgroups.make("ha-agent-keeper-test")
        assert made is not None, "no control groups of version 2 that can be written here"
        self.group = made
        self.kill_path = os.path.join(made, "cgroup.kill")
        self.programs: list[subprocess.Popen[bytes]] = []
        self.keeper: subprocess.Popen[bytes] | None = None
        self.client = KeeperClient(str(directory))

    def fill(self) -> None:
        self.active.mkdir(exist_ok=True)
        (self.active / "a.conf").write_text("[program:a]\n", encoding="ascii")

    def start_keeper(self) -> None:
        words = [sys.executable, "-IS", keeper_module.__file__, "--run-dir", str(self.run_dir)]
        with open(self.run_dir / "keeper.log", "ab") as log:
            self.keeper = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.wait(lambda: self.try_state() is not None)

    def start_watched_keeper(self, granted_s: int | None = None) -> None:
        """One whose watchdog is a file, for a kernel that takes every time, or ``granted_s`` at least."""
        takes = f"struct.pack('i', {granted_s})" if granted_s else "data"
        fake = f"import ha_agent.keeper as k, struct, sys; k.fcntl.ioctl = lambda fd, op, data: {takes}; sys.exit(k.main())"
        (self.run_dir / "watchdog").touch()
        words = [sys.executable, "-c", fake, "--run-dir", str(self.run_dir), "--watchdog", str(self.run_dir / "watchdog")]
        with open(self.run_dir / "keeper.log", "ab") as log:
            self.keeper = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.wait(lambda: self.try_state() is not None)

    def arm_watched(self, after_s: float) -> None:
        deadline = read_clock() + after_s

        async def ask() -> None:
            client = KeeperClient(str(self.run_dir), 1)
            try:
                await client.arm(deadline, self.kill_path)
            finally:
                client.close()

        asyncio.run(ask())

    def written(self) -> bytes:
        """What the watchdog was given."""
        return (self.run_dir / "watchdog").read_bytes()

    def signal_keeper(self, number: signal.Signals) -> None:
        assert self.keeper is not None
        self.keeper.send_signal(number)
        if number is signal.SIGKILL:
            self.keeper.wait()

    def run(self, script: str = "sleep 100") -> subprocess.Popen[bytes]:
        """Starts a program in the group."""
        started = subprocess.Popen([*cgroups.enter_words(self.group), "/bin/bash", "-c", script], start_new_session=True)
        self.programs.append(started)
        self.wait(lambda: bool(self.members()))
        return started

    def members(self) -> list[int]:
        return cgroups.members(self.group)

    def arm(self, after_s: float) -> float:
        deadline = read_clock() + after_s
        asyncio.run(self.with_client(lambda c: c.arm(deadline, self.kill_path)))
        return deadline

    async def with_client(self, do: Callable[[KeeperClient], object]) -> object:
        """One question over a connection of its own: each asyncio.run has another loop."""
        client = KeeperClient(str(self.run_dir))
        try:
            return await do(client)  # type: ignore[misc]
        finally:
            client.close()

    def disarm(self) -> None:
        asyncio.run(self.with_client(lambda c: c.disarm()))

    def try_state(self) -> KeeperState | None:
        try:
            found = asyncio.run(self.with_client(lambda c: c.read_state()))
        except KeeperFailed:
            return None
        return found if isinstance(found, KeeperState) else None

    def state(self) -> KeeperState:
        found = self.try_state()
        assert found is not None
        return found

    def log(self) -> str:
        return (self.run_dir / "keeper.log").read_text(encoding="utf-8")

    def wait(self, is_so: Callable[[], bool], limit_s: float = 10.0) -> None:
        until = time.monotonic() + limit_s
        while not is_so():
            assert time.monotonic() < until, self.log()
            time.sleep(0.005)

    def wait_killed(self, deadline: float) -> float:
        """Until nothing is left in the group; how long after the deadline that was."""
        self.wait(lambda: not self.members())
        return read_clock() - deadline

    def down(self) -> None:
        if self.keeper is not None and self.keeper.poll() is None:
            self.keeper.kill()
            self.keeper.wait()
        cgroups.remove(self.group)
        for program in self.programs:
            program.wait()


@pytest.fixture
def bare(tmp_path: pathlib.Path) -> Iterator[Node]:
    """Without a keeper."""
    made = Node(tmp_path)
    yield made
    made.down()


@pytest.fixture
def node(tmp_path: pathlib.Path) -> Iterator[Node]:
    made = Node(tmp_path)
    made.start_keeper()
    yield made
    made.down()


def test_at_the_deadline_everything_is_killed_and_nothing_can_be_loaded_again(node: Node) -> None:
    node.run()
    node.run(FORKS)
    late = node.wait_killed(node.arm(0.3))
    assert 0 <= late < KILL_S
    assert not node.active.exists() and [p.name for p in node.run_dir.glob("active.lapsed.*/*")] == ["a.conf"]
    assert node.state().word == "lapsed" and "ms after it" in node.log()


def test_newer_deadlines_keep_everything_running(node: Node) -> None:
    program = node.run()
    for _ in range(20):
        node.arm(0.5)
        time.sleep(0.05)
    assert program.poll() is None and node.state().acts == 0
    assert 0 <= node.wait_killed(node.arm(0.2)) < KILL_S


def test_whoever_fed_it_may_be_dead_or_stopped(node: Node) -> None:
    """The connection is closed, or open and silent: the deadline is the keeper's."""
    node.run()
    silent = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    silent.connect(str(node.run_dir / "keeper.sock"))
    assert 0 <= node.wait_killed(node.arm(0.3)) < KILL_S
    silent.close()


def test_a_disarmed_keeper_kills_nothing(node: Node) -> None:
    program = node.run()
    node.arm(0.2)
    node.disarm()
    time.sleep(0.5)
    assert program.poll() is None and node.state() == KeeperState("idle", 0.0, 0, True, node.state().is_realtime)


def test_an_active_set_that_is_filled_after_the_deadline_is_killed_again(node: Node) -> None:
    """An agent that was stopped between its check and its act goes on."""
    node.run()
    node.wait_killed(node.arm(0.1))
    node.run()
    time.sleep(0.2)
    assert node.members(), "a local program that was started again is left alone"
    node.fill()
    node.wait(lambda: not node.members() and not node.active.exists())
    node.active.mkdir()
    node.run()
    time.sleep(0.2)
    assert node.members(), "an empty active set is that of a standby"


def test_a_new_deadline_after_the_old_one_lets_programs_start_and_removes_what_was_moved_away(node: Node) -> None:
    node.run()
    node.wait_killed(node.arm(0.1))
    node.fill()
    node.wait(lambda: not node.active.exists())
    deadline = node.arm(5.0)
    node.fill()
    program = node.run()
    time.sleep(0.2)
    assert program.poll() is None and node.state().deadline == deadline
    assert list(node.run_dir.glob("active.lapsed.*")) == []


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_keeper_that_is_killed_and_started_again_holds_the_same_deadline(node: Node, moment: str) -> None:
    node.run()
    # A keeper that is to be there before the deadline has time to start on a busy machine.
    deadline = node.arm(0.6 if moment == "after" else 5.0)
    node.signal_keeper(signal.SIGKILL)
    if moment == "after":
        time.sleep(0.8)
        assert node.members()
        node.start_keeper()
        node.wait(lambda: not node.members(), 1.0)
    else:
        node.start_keeper()
        assert node.state().deadline == deadline
        assert 0 <= node.wait_killed(deadline) < KILL_S


def test_a_keeper_that_was_never_armed_touches_nothing_when_it_starts(node: Node) -> None:
    """The first start of a keeper on a node whose programs run already."""
    program = node.run()
    node.signal_keeper(signal.SIGKILL)
    node.start_keeper()
    time.sleep(0.2)
    assert program.poll() is None and (node.active / "a.conf").exists()


def test_a_deadline_that_has_passed_or_makes_no_sense_is_refused_and_the_one_that_is_held_stays(node: Node) -> None:
    node.run()
    held = node.arm(5.0)
    kill = node.kill_path
    cases = [
        (read_clock() - 0.1, kill, "had passed"),
        (read_clock() + 10_000, kill, "more than 600 s"),
        (float("nan"), kill, "more than 600 s"),
        (read_clock() + 1, "/etc/passwd", "not the path"),
        (read_clock() + 1, "relative/cgroup.kill", "not the path"),
        (read_clock() + 1, "/nowhere/cgroup.kill", "cannot be written"),
    ]
    for deadline, path, said in cases:
        with pytest.raises(KeeperFailed, match=said):
            asyncio.run(node.with_client(lambda c, d=deadline, p=path: c.arm(d, p)))  # type: ignore[misc]
    assert node.state().deadline == held and node.members()


def test_a_keeper_that_hangs_or_is_gone_is_said_within_a_moment(node: Node) -> None:
    node.signal_keeper(signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(KeeperFailed, match="did not answer"):
        node.arm(5.0)
    assert time.monotonic() - began < 2.0
    node.signal_keeper(signal.SIGKILL)
    with pytest.raises(KeeperFailed, match="cannot be reached"):
        node.arm(5.0)


def test_rubbish_on_the_socket_costs_nothing(node: Node) -> None:
    held = node.arm(5.0)
    for data in (b"arm", b"arm x y", b"\xff" * 900, b"arm 1 2 3 4", b"disarm now"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.connect(str(node.run_dir / "keeper.sock"))
            sock.send(data)
            assert sock.recv(1000).startswith((b"refused", b"lapsed"))
    many = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(20)]
    for sock in many[:4]:
        sock.connect(str(node.run_dir / "keeper.sock"))
    assert node.state().deadline == held
    for sock in many:
        sock.close()


def test_a_socket_and_a_state_file_that_were_removed_are_made_again_and_hold_the_deadline(node: Node) -> None:
    held = node.arm(30.0)
    for name in ("keeper.sock", "keeper.state"):
        (node.run_dir / name).unlink()
    until = time.monotonic() + 5.0
    while not ((node.run_dir / "keeper.sock").exists() and (node.run_dir / "keeper.state").exists()):
        assert time.monotonic() < until
        time.sleep(0.05)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.connect(str(node.run_dir / "keeper.sock"))
        sock.send(b"state")
        assert sock.recv(1000).split()[1:3] == [b"armed", repr(held).encode()]
    assert (node.run_dir / "keeper.state").read_text(encoding="ascii").split()[0] == repr(held)


def test_it_is_roots_alone_and_locked_in_memory_within_24_mib(node: Node) -> None:
    assert (node.run_dir / "keeper.sock").stat().st_mode & 0o777 == 0o600
    assert node.state().is_locked and node.keeper is not None
    status = pathlib.Path(f"/proc/{node.keeper.pid}/status").read_text(encoding="ascii")
    fields = {line.split(":")[0]: line.split()[1] for line in status.splitlines() if line.startswith("Vm")}
    assert int(fields["VmLck"]) > 0.9 * int(fields["VmRSS"]) and int(fields["VmRSS"]) < 24 * 1024
    assert int(fields["VmSwap"]) == 0


def test_it_is_in_time_on_a_machine_whose_processors_are_busy(node: Node) -> None:
    busy = [subprocess.Popen(["/bin/sh", "-c", "while :; do :; done"]) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        node.run()
        assert 0 <= node.wait_killed(node.arm(0.5)) < KILL_S
        late = float(node.log().rsplit(", ", 1)[1].split()[0])
        assert late < 100
    finally:
        for process in busy:
            process.kill()
            process.wait()


# ---- the machine's watchdog behind it --------------------------------------------------------------------------


def test_the_watchdog_is_written_to_until_the_deadline_and_switched_off_when_the_kill_has_worked(bare: Node) -> None:
    bare.start_watched_keeper()
    bare.run(FORKS)
    bare.arm_watched(1.2)
    time.sleep(1.0)
    assert bare.written().count(b"\0") >= 4 and b"V" not in bare.written(), "the machine runs on"
    bare.wait(lambda: not bare.members())
    bare.wait(lambda: bare.written().endswith(b"V"))


def test_a_disarmed_keeper_leaves_the_watchdog_off_and_so_does_one_without_a_watchdog(bare: Node) -> None:
    bare.start_watched_keeper()
    bare.run()
    bare.arm_watched(5.0)
    bare.disarm()
    assert bare.written().endswith(b"V")
    before = bare.written()
    bare.arm(5.0)
    time.sleep(0.6)
    assert bare.written() == before and bare.members()
    bare.disarm()


def test_a_kill_that_does_not_work_leaves_the_machine_to_its_watchdog(bare: Node) -> None:
    """Somebody has taken the control group's file away: what runs goes on, and nobody writes to the watchdog any more."""
    bare.start_watched_keeper()
    bare.arm_watched(0.6)
    os.rmdir(bare.group)
    time.sleep(1.0)
    assert "THE KILL FAILED" in bare.log() and b"V" not in bare.written()
    before = bare.written()
    time.sleep(0.6)
    assert bare.written() == before
    os.mkdir(bare.group)


def test_a_keeper_that_was_killed_takes_the_watchdog_up_again(bare: Node) -> None:
    bare.start_watched_keeper()
    bare.run()
    bare.arm_watched(4.0)
    bare.signal_keeper(signal.SIGKILL)
    assert b"V" not in bare.written(), "it ticks on"
    bare.start_watched_keeper()
    (bare.run_dir / "watchdog").write_bytes(b"")
    time.sleep(0.6)
    assert bare.written().strip(b"\0") == b"" and bare.written()
    bare.disarm()


@pytest.mark.parametrize("granted_s", [None, 30])
def test_a_watchdog_that_cannot_be_had_as_asked_for_refuses_the_deadline(bare: Node, granted_s: int | None) -> None:
    """No program is started then, where the keeper is required. A file is no watchdog; nor is one that waits longer."""
    if granted_s is None:
        (bare.run_dir / "watchdog").touch()
        words = [sys.executable, "-IS", keeper_module.__file__, "--run-dir", str(bare.run_dir)]
        bare.keeper = subprocess.Popen([*words, "--watchdog", str(bare.run_dir / "watchdog")])
        bare.wait(lambda: bare.try_state() is not None)
    else:
        bare.start_watched_keeper(granted_s)
    with pytest.raises(KeeperFailed, match="takes no 1 s" if granted_s is None else "waits 30 s at least"):
        bare.arm_watched(5.0)
    assert bare.state().word == "idle"
