"""How long an operator waits for a command, beside supervisorctl, with a registry of some size."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable

from bench.measure import CONF, BenchLab, p50, percentile

ROUNDS = 20
CONFS = 500

COMMANDS: tuple[tuple[str, ...], ...] = (
    ("supervisorctl", "-c", "/etc/supervisor/supervisord.conf", "status"),
    ("ha-agent", "status"),
    ("ha-agent", "status", "--json"),
    ("ha-agent", "history"),
    ("ha-agent", "diff"),
    ("ha-agent", "sync"),
    ("ha-agent", "kept", "list"),
    ("ha-agent", "switchover", "--dry-run"),
    ("ha-agent", "lint", "--registry"),
    ("ha-agent", "doctor"),
)


def _time(lab: BenchLab, words: tuple[str, ...]) -> float:
    began = time.perf_counter()
    subprocess.run(lab.words_inside("node-a", list(words)), stdin=subprocess.DEVNULL, capture_output=True)
    return time.perf_counter() - began


def run(say: Callable[[str], None]) -> list[tuple[str, ...]]:
    """Rows for the table. What it costs to enter the node and start nothing is taken off."""
    lab = BenchLab("commands")
    try:
        confs = {f"b{n}.conf": CONF.format(number=n, autostart="true", stamp=0) for n in range(CONFS)}
        lab.up(confs=confs, owner_pid=os.getpid())
        time.sleep(10.0)
        bare = p50([_time(lab, ("true",)) for _ in range(ROUNDS)])
        rows: list[tuple[str, ...]] = []
        reference = 0.0
        for words in COMMANDS:
            name = " ".join(w for w in words if not w.startswith(("/etc", "-c")))
            say(f"commands: {name}")
            took = [max(0.0, _time(lab, words) - bare) for _ in range(ROUNDS)]
            reference = reference or p50(took)
            ratio = f"{p50(took) / reference:.2f}x"
            rows.append((name, f"{p50(took) * 1e3:.0f} ms", f"{percentile(took, 0.95) * 1e3:.0f} ms", ratio))
        return rows
    finally:
        lab.down()
