"""What the agent starts is as likely to be ended as any other process when the machine has no memory left."""

from __future__ import annotations

import asyncio
import pathlib

from ha_agent.adapters.runner import run_program

OWN = pathlib.Path("/proc/self/oom_score_adj")
LOOK = """
left=200; score=
while [ $left -gt 0 ] && [ "$score" != 0 ]; do read score </proc/$$/oom_score_adj; left=$((left - 1)); sleep 0.02; done
echo $score
"""


def test_a_child_does_not_inherit_the_agents_score() -> None:
    before = OWN.read_text()
    OWN.write_text("300")
    try:
        ended = asyncio.run(run_program(["/bin/sh", "-c", LOOK], 20.0))
    finally:
        OWN.write_text(before)
    assert ended.output.strip() == "0"
