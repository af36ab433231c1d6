"""This agent's own figures as JSON, without its contestants: what two trees are compared by (``bench/compare.py``).

It is run in another tree, too, with that tree's ``bench`` and ``ha_agent``: it calls only what has long been there.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time

from bench import edit, programs
from bench.measure import CONF, Arrivals, BenchLab, p50, percentile


def time_edits() -> dict[str, float]:
    """Milliseconds until an edit of one of 1,000 confs is on the peer."""
    lab = BenchLab("edit")
    confs = {f"b{n}.conf": CONF.format(number=n, autostart="false", stamp=0) for n in range(edit.CONFS)}
    try:
        lab.up(confs=confs, owner_pid=os.getpid())
        time.sleep(3.0)
        took = time_edits_at_random(lab, 400)
    finally:
        lab.down()
    return {"edit, p50": p50(took) * 1e3, "edit, p95": percentile(took, 0.95) * 1e3}


def time_edits_at_random(lab: BenchLab, count: int) -> list[float]:
    """Seconds that each of ``count`` edits took, with pauses of no rhythm, whatever the tree's own bench does."""
    arrivals = Arrivals(lab.paths.registry("node-a"), lab.paths.registry("node-b"))
    pauses, took = random.Random(1), []
    try:
        for number in range(-10, count):
            text = CONF.format(number=number % 50, autostart="false", stamp=time.time_ns())
            took.append(arrivals.edit(f"b{number % 50}.conf", text))
            time.sleep(pauses.uniform(0.001, 0.039))
    finally:
        arrivals.close()
    return took[10:]


def time_programs(count: int) -> dict[str, float]:
    """Milliseconds of takeover and release of ``count`` programs, from their hooks."""
    lab = BenchLab(f"programs-{count}")
    confs = {f"b{n}.conf": CONF.format(number=n, autostart="true", stamp=0) for n in range(count)}
    try:
        lab.up(confs=confs, owner_pid=os.getpid())
        time.sleep(3.0)
        lab.unit(programs.NODE, "stop", "keepalived")
        lab.unit("node-a", "stop", "keepalived")
        programs.await_role(lab, "node-a", "standby")
        rounds = [programs.agent_round(lab, count) for _ in range(programs.ROUNDS[count])]
    finally:
        lab.down()
    return {
        f"takeover of {count}, first spawned": p50([taken.first for taken, _ in rounds]) * 1e3,
        f"takeover of {count}, last spawned": p50([taken.last for taken, _ in rounds]) * 1e3,
        f"release of {count}, verified": p50([gone.last + gone.verified for _, gone in rounds]) * 1e3,
    }


def main() -> int:
    """Prints one object: name of a figure to milliseconds."""
    figures = time_edits()
    for count in (10, 100):
        figures |= time_programs(count)
    json.dump(figures, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
