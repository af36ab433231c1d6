"""One agent a node: the lock, against a real second process."""

from __future__ import annotations

import os
import pathlib
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from ha_agent.adapters.agent_lock import AgentLock, AgentRuns, is_doomed

HOLDER = """
import sys, time
from ha_agent.adapters.agent_lock import AgentLock
lock = AgentLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
time.sleep(1000)
"""

BEGINS_ANEW = """
import os, sys, time
from ha_agent.adapters.agent_lock import AgentLock
lock = AgentLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
sys.stdin.readline()
lock.hand_on()
os.execv(sys.executable, [sys.executable, "-c", sys.argv[2], *sys.argv[1:]])
"""

SUCCESSOR = """
import os, subprocess, sys, time
print("begun", flush=True)
sys.stdin.readline()
from ha_agent.adapters.agent_lock import AgentLock
lock = AgentLock(sys.argv[1])
lock.acquire()
child = subprocess.Popen(["/bin/sleep", "1000"], close_fds=False, stdout=subprocess.DEVNULL)
print("held", lock.keep(), child.pid, flush=True)
time.sleep(1000)
"""


@pytest.fixture
def path(tmp_path: pathlib.Path) -> str:
    return str(tmp_path / "run" / "agent.lock")


@pytest.fixture
def holder(path: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the lock."""
    with subprocess.Popen([sys.executable, "-c", HOLDER, path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_second_agent_is_refused_and_told_which_one_runs(path: str, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(AgentRuns, match=rf"an agent runs already \(pid {holder.pid}\)") as caught:
        AgentLock(path).acquire()
    assert caught.value.pid == holder.pid
    holder.send_signal(signal.SIGKILL)
    holder.wait(10)
    AgentLock(path).acquire()
    assert os.stat(path).st_mode & 0o777 == 0o600, "nobody else may hold an agent off"


def test_one_that_a_service_manager_starts_waits_for_the_end_of_the_other(path: str, holder: subprocess.Popen[str]) -> None:
    code = HOLDER.replace("acquire()", "acquire(wait=True)")
    with subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True) as waiting:
        try:
            assert waiting.stdout is not None
            assert select.select([waiting.stdout], [], [], 0.5)[0] == []
            holder.kill()
            assert select.select([waiting.stdout], [], [], 10)[0] and waiting.stdout.readline() == "held\n"
            with pytest.raises(AgentRuns, match=str(waiting.pid)):
                AgentLock(path).acquire()
        finally:
            waiting.kill()


@pytest.mark.parametrize("is_removed", [False, True])
def test_an_agent_that_begins_anew_holds_the_lock_all_the_time(path: str, is_removed: bool) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", BEGINS_ANEW, path, SUCCESSOR], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            assert process.stdout.readline() == "held\n"
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "begun\n"
            with pytest.raises(AgentRuns, match=str(process.pid)):
                AgentLock(path).acquire()
            if is_removed:
                os.unlink(path)
            process.stdin.write("\n")
            process.stdin.flush()
            held, was_made_again, child = process.stdout.readline().split()
            assert (held, was_made_again) == ("held", str(is_removed))
            with pytest.raises(AgentRuns, match=str(process.pid)):
                AgentLock(path).acquire()
        finally:
            process.kill()
        process.wait(10)
        try:
            AgentLock(path).acquire()  # The successor's own children have not inherited it.
        finally:
            os.kill(int(child), signal.SIGKILL)


def test_a_lock_is_taken_from_no_number_that_something_else_has_put_there(
    path: str, holder: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    other = os.open(tmp_path, os.O_RDONLY)
    for number in (str(other), "1000000", "-1", "word", ""):
        monkeypatch.setenv("HA_AGENT_LOCK_FD", number)
        with pytest.raises(AgentRuns, match=str(holder.pid)):
            AgentLock(path).acquire()
        assert "HA_AGENT_LOCK_FD" not in os.environ
    os.close(other)


def test_the_lock_is_made_again_where_its_file_is_removed_or_something_else(path: str) -> None:
    lock = AgentLock(path)
    lock.acquire()
    assert not lock.keep()
    os.unlink(path)
    assert lock.keep() and not lock.keep()
    os.unlink(path)
    os.mkdir(path)
    assert lock.keep()
    os.unlink(path)
    os.rmdir(os.path.dirname(path))
    assert lock.keep()
    with pytest.raises(AgentRuns, match=str(os.getpid())):
        AgentLock(path).acquire()


def test_a_lock_that_somebody_else_took_meanwhile_is_said(path: str) -> None:
    lock = AgentLock(path)
    lock.acquire()
    os.unlink(path)
    with subprocess.Popen([sys.executable, "-c", HOLDER, path], stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None and other.stdout.readline() == "held\n"
            with pytest.raises(OSError, match=f"pid {other.pid}"):
                lock.keep()
        finally:
            other.kill()


def test_an_agent_that_was_killed_and_hangs_in_the_kernel_keeps_nobody_off(path: str) -> None:
    # A zombie is as far as a test can go: one that hangs on a dead disk has SIGKILL pending.
    with subprocess.Popen(["/bin/sleep", "1000"]) as process:
        assert not is_doomed(process.pid) and not is_doomed(os.getpid())
        process.kill()
        deadline = time.monotonic() + 10
        while not is_doomed(process.pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert is_doomed(process.pid)
    assert not is_doomed(process.pid), "it is gone"
