"""Hooks as real processes: how they end, what they say, and what an agent that was killed leaves of one."""

from __future__ import annotations

import asyncio
import functools
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

import pytest

from ha_agent.adapters.hook_runner import GRACE_S, LAST_LINES, MOST_LINES, HookRunner
from ha_agent.adapters.procs import start_ticks
from ha_agent.core.hooks import HookEnd
from tests.lab_support import wait_for


def has_ended(pid: int) -> bool:
    """Whether a process has ended."""
    return start_ticks(pid) is None


class Place:
    """A runner with its note, and what the hooks said."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.note, self.lines = folder / "hook", list[str]()
        self.runner = HookRunner(str(self.note))
        self.tell: Callable[[], None] = lambda: None

    async def sh(self, script: str, timeout_s: float = 10.0, env: Mapping[str, str] | None = None) -> HookEnd:
        """Runs a shell script as a hook."""
        return await self.runner.run(["/bin/sh", "-c", script], timeout_s, env or {}, self._take)

    def _take(self, line: str) -> None:
        self.lines.append(line)
        self.tell()


@pytest.fixture
def place(tmp_path: pathlib.Path) -> Place:
    return Place(tmp_path)


def test_its_lines_are_told_fit_to_be_read_and_its_status_counts(place: Place) -> None:
    end = asyncio.run(
        place.sh("echo one; printf 'two\\033[31m' >&2; echo $HA_AGENT_HOOK; exit 7", env={"HA_AGENT_HOOK": "x"})
    )
    assert (end.code, end.is_good) == (7, False)
    assert place.lines == ["one", "two\\x1b[31mx"]
    assert end.describe() == "ended with exit status 7: two\\x1b[31mx" and not place.note.exists()
    assert asyncio.run(place.sh('test -z "$HOME$USER" && pwd')).is_good and place.lines[-1] == "/"


def test_a_command_that_is_not_there_is_a_failure_with_its_reason(place: Place) -> None:
    end = asyncio.run(place.runner.run(["/nonexistent/x"], 5.0, {}, place.lines.append))
    assert end.code == 127 and "not found" in end.describe()


def test_one_that_takes_too_long_is_told_to_end_then_killed_with_all_that_it_started(place: Place) -> None:
    polite = asyncio.run(place.sh("trap 'echo bye; exit 0' TERM; sleep 30 & wait", 0.3))
    assert (polite.code, polite.why, place.lines) == (None, "no end after 0.3 s", ["bye"])
    began = time.monotonic()
    deaf = asyncio.run(place.sh("trap '' TERM; echo $$; sleep 31 & echo $!; while :; do wait; done", 0.3))
    assert deaf.code is None and time.monotonic() - began >= GRACE_S
    for pid in map(int, place.lines[-2:]):
        wait_for("it has ended", functools.partial(has_ended, pid), 2.0, 0.05)


def test_a_flood_of_lines_is_cut_and_the_last_ones_are_kept(place: Place) -> None:
    end = asyncio.run(place.sh("seq 100000; head -c 300000 /dev/zero | tr '\\0' x; echo; echo last; exit 1"))
    assert len(place.lines) == MOST_LINES + 1 and place.lines[-1].startswith("(more lines")
    assert end.last[-1] == "last" and len(end.last) == LAST_LINES


def test_nobody_waits_for_a_daemon_that_a_hook_has_started(place: Place) -> None:
    began = time.monotonic()
    end = asyncio.run(place.sh("setsid sleep 5 & echo $!"))
    assert end.is_good and time.monotonic() - began < 2.0
    os.kill(int(place.lines[0]), signal.SIGKILL)


def test_a_run_that_is_cancelled_leaves_nothing_running(place: Place) -> None:
    async def main() -> None:
        begun = asyncio.Event()
        place.tell = begun.set
        running = asyncio.ensure_future(place.sh("echo $$; sleep 32"))
        await asyncio.wait_for(begun.wait(), 10.0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert start_ticks(int(place.lines[0])) is None and not place.note.exists()

    asyncio.run(main())


AGENT = """
import asyncio, sys
from ha_agent.adapters.hook_runner import HookRunner
words = ["/bin/sh", "-c", "trap '' TERM HUP; echo $$ >" + sys.argv[2] + "; sleep 33"]
asyncio.run(HookRunner(sys.argv[1]).run(words, 60.0, {}, print))
"""


def test_what_a_killed_agent_left_of_a_hook_is_ended_before_another_one_runs(place: Place, tmp_path: pathlib.Path) -> None:
    told = tmp_path / "pid"
    agent = subprocess.Popen([sys.executable, "-c", AGENT, str(place.note), str(told)], start_new_session=True)
    wait_for("the hook runs", lambda: told.exists() and told.read_text().strip(), 10.0, 0.02)
    pid = int(told.read_text())
    agent.kill()
    agent.wait()
    assert start_ticks(pid) is not None, "no test of anything else"
    assert asyncio.run(place.sh(f"! grep -s '^State:.*[SR] (' /proc/{pid}/status")).is_good


def test_a_stranger_with_the_number_of_a_former_hook_is_left_alone(place: Place) -> None:
    stranger = subprocess.Popen(["sleep", "34"], start_new_session=True)
    try:
        for note in (f"{stranger.pid} 12345\n", "x y\n", "", "1\n"):
            place.note.write_text(note, encoding="ascii")
            assert asyncio.run(place.sh("exit 0")).is_good
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_hook_that_cannot_be_written_down_does_not_begin(tmp_path: pathlib.Path) -> None:
    began = tmp_path / "began"
    runner = HookRunner("/proc/self/hook")
    end = asyncio.run(runner.run(["/usr/bin/touch", str(began)], 5.0, {}, print))
    assert end.code is None and "could not be run" in end.describe() and not began.exists()
