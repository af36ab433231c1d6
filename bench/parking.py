"""What the pair adds to a stop and a start of a program that reacts at once: parking, and the peer's acknowledgement."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable

from bench.measure import CONF, BenchLab, p50, percentile

CONFS = 100
ROUNDS = 40
NAME = "b7"
THEIRS = ("supervisorctl", "-s", "unix:///run/supervisor.sock")


def _time(lab: BenchLab, words: tuple[str, ...]) -> float:
    began = time.perf_counter()
    done = subprocess.run(lab.words_inside("node-a", list(words)), stdin=subprocess.DEVNULL, capture_output=True, text=True)
    took = time.perf_counter() - began
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)}: {done.stdout}{done.stderr}")
    return took


def _row(name: str, took: list[float], reference: list[float] | None) -> tuple[str, ...]:
    more = f"{(p50(took) - p50(reference)) * 1e3:+.1f} ms" if reference is not None else ""
    return name, f"{p50(took) * 1e3:.1f} ms", f"{percentile(took, 0.95) * 1e3:.1f} ms", more


def run(say: Callable[[str], None]) -> list[tuple[str, ...]]:
    """Rows for the table."""
    lab = BenchLab("parking")
    try:
        lab.up(
            confs={f"b{n}.conf": CONF.format(number=n, autostart="true", stamp=0) for n in range(CONFS)},
            owner_pid=os.getpid(),
        )
        time.sleep(5.0)
        say("parking: calls")
        words = [sys.executable, "-m", "bench.inside", str(ROUNDS), NAME]
        outcome = subprocess.run(
            lab.words_inside("node-a", ["env", f"PYTHONPATH={os.getcwd()}", *words]), capture_output=True, check=True
        )
        calls = json.loads(outcome.stdout)
        both = [a + b for a, b in zip(calls["bare start"], calls["reread"], strict=True)]
        rows = [
            _row("stop, XML-RPC to supervisord alone", calls["bare stop"], None),
            _row("stop --keep, through the agent, verified by processes", calls["keep"], calls["bare stop"]),
            _row("stop, parked, unloaded, acknowledged by the peer", calls["stop"], calls["bare stop"]),
            _row("start, XML-RPC to supervisord alone", calls["bare start"], None),
            _row("supervisord's own reading of all confs, without which nothing is loaded", calls["reread"], None),
            _row("start, checked on both, registered, acknowledged", calls["start"], both),
        ]
        say("parking: whole commands")
        bare = p50([_time(lab, ("true",)) for _ in range(ROUNDS)])
        took: dict[str, list[float]] = {}
        for _ in range(ROUNDS // 2):
            for command in (
                (*THEIRS, "stop", NAME),
                (*THEIRS, "start", NAME),
                ("supzcli", "stop", NAME),
                ("supzcli", "start", NAME),
            ):
                key = f"{command[0]} {command[-2]}"
                took.setdefault(key, []).append(max(0.0, _time(lab, command) - bare))
        for verb in ("stop", "start"):
            theirs, ours = took[f"supervisorctl {verb}"], took[f"supzcli {verb}"]
            rows.append(_row(f"supervisorctl {verb}, the whole command", theirs, None))
            rows.append(_row(f"supzcli {verb}, the whole command", ours, theirs))
        return rows
    finally:
        lab.down()
