"""What lint says of shells is what the shells of this machine do."""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
import subprocess

import pytest

from ha_agent.core.shells import find_wrapper
from tests.lab_support import wait_for

SCRIPTS = (
    "sleep 30",
    "cd / && sleep 30",
    "cd /; A=1 sleep 30",
    "export A=1; sleep 30",
    "sleep 30 | cat",
    "sleep 30 > /dev/null",
    "(sleep 30)",
    "{ sleep 30; }",
    "if true; then sleep 30; fi",
    "false || sleep 30",
    "exec sleep 30",
    "cd / && exec nice sleep 30",
)


def comm_of(pid: int) -> str:
    return pathlib.Path(f"/proc/{pid}/comm").read_text(encoding="ascii").strip()


def has_sleep(pid: int) -> bool:
    """Whether the script has come to its program, in the shell's own process or below it."""
    children = subprocess.run(["pgrep", "-g", str(pid), "-x", "sleep"], capture_output=True)
    return children.returncode == 0


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_a_shell_stays_or_hands_over_as_lint_says(shell: str, script: str) -> None:
    path = shutil.which(shell)
    assert path is not None, f"{shell} is not installed"
    process = subprocess.Popen([path, "-c", script], stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_for("the program runs", lambda: has_sleep(process.pid), 10, 0.02)
        hands_over = comm_of(process.pid) == "sleep"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert (find_wrapper(f"{shell} -c '{script}'") is None) is hands_over
