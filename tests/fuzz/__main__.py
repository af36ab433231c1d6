"""``make fuzz COUNT=1000000 SEED=n``: random inputs for everything that reads what strangers wrote, with their bounds.

One in forty inputs is a conf for supervisord's parser, which needs a hundred times as long as the others. The first input
that breaks a rule ends the run, with the seed and the number that make it again.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import resource
import sys
import tempfile
import time
from collections import Counter

from ha_agent.adapters.conf_checker import ConfChecker
from ha_agent.core.settings import SupervisorSettings
from tests.fuzz.targets import PURE, check_verdict, make_conf

SLOW_S = 2.0
"""Processor time that no single input of the pure targets may take."""

GROWTH_MIB = 200
CONF_SHARE = 40
CONF_BATCH = 100


def feed_pure(seed: int, number: int) -> str:
    """Gives one pure target its input; the target's name. Raises what breaks a rule."""
    chance = random.Random(f"{seed}/{number}")
    name = chance.choice(list(PURE))
    began = time.process_time()
    PURE[name](chance)
    took = time.process_time() - began
    assert took < SLOW_S, f"{name} took {took:.1f} s"
    return name


async def feed_confs(checker: ConfChecker, seed: int, first: int, count: int) -> int:
    """Has the parser judge ``count`` confs and checks what it says; how many can be loaded. Raises what breaks a rule."""
    texts = {f"{n}.conf": make_conf(random.Random(f"{seed}/conf/{n}")) for n in range(first, first + count)}
    verdicts = await checker.judge(texts, dict.fromkeys(texts, "/etc/supervisor/conf.d"))
    with tempfile.TemporaryDirectory() as directory:
        for path, text in texts.items():
            check_verdict(text, verdicts[path], directory)
    return sum(v.problem is None for v in verdicts.values())


def resident_mib() -> float:
    """The most memory that this process has had, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def run(count: int, seconds: float, seed: int) -> Counter[str]:
    """Feeds until ``count`` inputs or ``seconds`` are over; how many each target had."""
    settings = SupervisorSettings(socket="/nonexistent", config="/nonexistent", python=sys.executable)
    checker, done, before, until = ConfChecker(settings), Counter[str](), resident_mib(), time.monotonic() + seconds
    number = confs = 0
    try:
        while sum(done[n] for n in (*PURE, "confs")) < count and time.monotonic() < until:
            for _ in range(CONF_BATCH * (CONF_SHARE - 1)):
                try:
                    done[feed_pure(seed, number)] += 1
                except Exception:
                    print(f"input {number} of seed {seed} breaks a rule:", file=sys.stderr)
                    raise
                number += 1
            try:
                done["confs that load"] += await feed_confs(checker, seed, confs, CONF_BATCH)
            except Exception:
                print(f"one of the confs {confs} to {confs + CONF_BATCH} of seed {seed} breaks a rule:", file=sys.stderr)
                raise
            confs += CONF_BATCH
            done["confs"] = confs
    finally:
        await checker.close()
    grown = resident_mib() - before
    assert grown < GROWTH_MIB, f"memory grew by {grown:.0f} MiB"
    done["MiB grown"] = round(grown)
    return done


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    os.environ.setdefault("LC_ALL", "C.UTF-8")
    if sys.version_info < (3, 12):
        asyncio.set_child_watcher(asyncio.PidfdChildWatcher())
    began = time.monotonic()
    done = asyncio.run(run(options.count, options.seconds, options.seed))
    inputs = sum(done[name] for name in (*PURE, "confs"))
    print(f"{inputs} inputs in {time.monotonic() - began:.0f} s, seed {options.seed}: {dict(sorted(done.items()))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
