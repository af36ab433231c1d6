"""What a program uses of the machine is known with its descendants, and is not asked for more often than it changes much."""

from __future__ import annotations

import os
import subprocess
import sys

from ha_agent.adapters.procs import read_usage
from ha_agent.daemon.operations.usage import LOOK_S, ProgramUsage
from tests.unit.timeless import run_timeless

BUSY = "import time\nuntil = time.process_time() + 0.3\nwhile time.process_time() < until: pass\n"


def test_a_program_is_weighed_with_its_children_and_those_that_have_ended() -> None:
    waits = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {BUSY!r}])\nprint('x', flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", waits], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None and parent.stdin is not None
        parent.stdout.readline()
        found = read_usage({"busy": parent.pid, "gone": 2**22 - 3})
        parent.stdin.close()
    assert set(found) == {"busy"}
    assert found["busy"].cpu_s >= 0.3 and found["busy"].memory > 1 << 20


def test_the_processes_are_looked_at_once_for_all_who_ask() -> None:
    async def main() -> None:
        times = [0.0]
        usage = ProgramUsage(lambda: times[0], lambda: 1000.0 + times[0])
        own = os.getpid()
        first = (await usage.read({own}))[own]
        assert first["at"] == 1000.0 and first["memory"] > 0
        times[0] = LOOK_S / 2
        assert (await usage.read({own}))[own] == first
        assert await usage.read(set()) == {}
        times[0] = LOOK_S
        assert (await usage.read({own}))[own]["at"] == 1000.0 + LOOK_S

    run_timeless(main())
