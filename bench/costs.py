"""What the hook costs, and what the daemon costs while nothing happens."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from bench.measure import CONF, BenchLab, p50

HOOK_CALLS = 200
IDLE_S = 300.0
"""A whole round of the look at all processes: less would have it in one figure and not in the next."""
CONFS = 1000


def time_hook(lab: BenchLab) -> float:
    """Seconds for one call of the hook from a shell, fork and exec included (median of five series)."""
    script = (
        "export HA_AGENT_SPOOL=/tmp/spool; mkdir -p $HA_AGENT_SPOOL; began=$(date +%s%N); "
        f"for i in $(seq {HOOK_CALLS}); do /etc/keepalived/ha-agent-notify INSTANCE X BACKUP 1; done; "
        "ended=$(date +%s%N); rm -rf $HA_AGENT_SPOOL; echo $((ended - began))"
    )
    series = []
    for _ in range(5):
        text = lab.run("node-a", "bash", "-c", script)
        series.append(int(text) / 1e9 / HOOK_CALLS)
    return p50(series)


def read_cost(lab: BenchLab, node: str) -> tuple[float, float, float]:
    """The agent's memory (MiB), its CPU seconds so far, and the parser process's memory (MiB, 0 where there is none)."""
    pid = lab.unit(node, "show", "ha-agent")["ha-agent"]
    root = f"/proc/{lab.init_pid(node)}/root/proc/{pid}"
    children = lab.run(node, "sh", "-c", f"pgrep -P {pid} -f conf_check || true").split()
    parser = sum(_rss(f"/proc/{lab.init_pid(node)}/root/proc/{child}") for child in children)
    with open(f"{root}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    return _rss(root), (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), parser


def _rss(root: str) -> float:
    with open(f"{root}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmRSS"))


def run(say: Callable[[str], None]) -> list[tuple[str, ...]]:
    """Rows for the table."""
    lab = BenchLab("costs")
    try:
        confs = {f"b{n}.conf": CONF.format(number=n, autostart="false", stamp=0) for n in range(CONFS)}
        lab.up(confs=confs, owner_pid=os.getpid())
        say("costs: the hook")
        hook = time_hook(lab)
        say(f"costs: the idle daemon with {CONFS} confs, {IDLE_S:.0f} s after things have settled")
        time.sleep(75.0)
        before = {node: read_cost(lab, node) for node in ("node-a", "node-b")}
        time.sleep(IDLE_S)
        after = {node: read_cost(lab, node) for node in ("node-a", "node-b")}
    finally:
        lab.down()
    rows: list[tuple[str, ...]] = [("notify hook, from fork to end", f"{hook * 1e3:.2f} ms", "", "")]
    for node, role in (("node-a", "active"), ("node-b", "standby")):
        cpu = (after[node][1] - before[node][1]) / IDLE_S * 100
        helper = f"and {after[node][2]:.1f} MiB for supervisord's parser" if after[node][2] else "no helper process"
        rows.append((f"idle daemon, {role}, {CONFS} confs", f"{after[node][0]:.1f} MiB", f"{cpu:.2f} % CPU", helper))
    return rows
