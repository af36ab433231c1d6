"""Single edit to complete-on-the-peer, over 1,000 confs."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable

from bench.measure import CONF, Arrivals, BenchLab, p50, percentile
from ha_agent.lab.layout import REGISTRY

CONFS = 1000
EDITS = {"quick": 200, "slow": 30}

SHELL_LOOP = f"""
ssh -F /etc/ha-agent/bench_ssh_config peer true
inotifywait -q -m -r -e close_write,moved_to,delete {REGISTRY} | while read -r _; do
    rsync -a --delete -e 'ssh -F /etc/ha-agent/bench_ssh_config' {REGISTRY}/ peer:{REGISTRY}/
done
"""

LSYNCD = """
settings {{ nodaemon = true, insist = true }}
sync {{ default.rsync, source = "{registry}", target = "peer:{registry}", delay = {delay},
       rsync = {{ archive = true, rsh = "ssh -F /etc/ha-agent/bench_ssh_config" }} }}
"""

LIMIT_PEER = """
import os, sys, struct
root = sys.argv[1]
while head := os.read(0, 4):
    (size,) = struct.unpack(">I", head)
    data = b""
    while len(data) < size:
        data += os.read(0, size - len(data))
    name, _, text = data.partition(b"\\n")
    path = os.path.join(root, name.decode())
    fd = os.open(path + ".tmp", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.write(fd, text)
    os.fsync(fd)
    os.close(fd)
    os.rename(path + ".tmp", path)
    os.write(1, b"k")
"""

LIMIT_CLIENT = """
import struct, subprocess, sys, time
rounds = int(sys.argv[1])
words = ["ssh", "-F", "/etc/ha-agent/bench_ssh_config", "-T", "peer", "/usr/bin/python3", "/var/log/limit_peer.py"]
words.append(sys.argv[2])
peer = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
for number in range(rounds + 10):
    data = b"b%d.conf\\n" % (number % 50) + b"[program:x]\\ncommand=/bin/sleep infinity\\n" * 3
    began = time.perf_counter()
    peer.stdin.write(struct.pack(">I", len(data)) + data)
    peer.stdout.read(1)
    if number >= 10:
        print(time.perf_counter() - began)
    time.sleep(0.02)
"""


def time_edits(lab: BenchLab, count: int, pause_s: float) -> list[float]:
    """Edits one of fifty confs after the other; the first ones only warm up.

    The pauses are ``pause_s`` on average and no rhythm: what an agent does a fixed time after an edit could otherwise always
    fall into a pause, or always on the next edit.
    """
    pauses = random.Random(1)
    arrivals = Arrivals(lab.paths.registry("node-a"), lab.paths.registry("node-b"))
    took = []
    try:
        for number in range(-10, count):
            text = CONF.format(number=number % 50, autostart="false", stamp=time.time_ns())
            took.append(arrivals.edit(f"b{number % 50}.conf", text))
            time.sleep(pauses.uniform(0.05, 1.95) * pause_s)
    finally:
        arrivals.close()
    return took[10:]


def run_agent(lab: BenchLab) -> list[float]:
    """This agent."""
    return time_edits(lab, EDITS["quick"], 0.02)


def run_limit(lab: BenchLab) -> list[float]:
    """The bare limit: one frame over a persistent ssh channel; the peer writes, fsyncs, renames, answers."""
    with open(os.path.join(lab.paths.disk("node-b", "log"), "limit_peer.py"), "w", encoding="ascii") as file:
        file.write(LIMIT_PEER)
    out = lab.run("node-a", sys.executable, "-c", LIMIT_CLIENT, str(EDITS["quick"]), REGISTRY, timeout_s=120)
    return [float(line) for line in out.split()]


def run_beside(lab: BenchLab, words: list[str], count: int, pause_s: float) -> list[float]:
    """Edits while a contestant runs on node-a."""
    process = lab.spawn("node-a", *words)
    try:
        time.sleep(4.0)
        return time_edits(lab, count, pause_s)
    finally:
        process.terminate()
        lab.run("node-a", "sh", "-c", "pkill inotifywait; pkill lsyncd; true")
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def lsyncd_words(lab: BenchLab, delay: int) -> list[str]:
    """lsyncd with its configuration for this delay."""
    path = os.path.join(lab.paths.disk("node-a", "etc-ha-agent"), f"lsyncd-{delay}.lua")
    with open(path, "w", encoding="ascii") as file:
        file.write(LSYNCD.format(registry=REGISTRY, delay=delay))
    return ["lsyncd", f"/etc/ha-agent/lsyncd-{delay}.lua"]


def run(say: Callable[[str], None]) -> list[tuple[str, str, str, str]]:
    """All contestants on one lab; rows of (name, p50, p95, ratio to the limit)."""
    lab = BenchLab("edit")
    confs = {f"b{n}.conf": CONF.format(number=n, autostart="false", stamp=0) for n in range(CONFS)}
    results: dict[str, list[float]] = {}
    try:
        lab.up(confs=confs, owner_pid=os.getpid())
        lab.open_up()
        lab.run("node-a", "ha-agent", "sync", "--timeout", "60", timeout_s=90)
        time.sleep(3.0)
        say("edit: this agent")
        results["ha-agent"] = run_agent(lab)
        lab.stop_agents()
        say("edit: the bare limit")
        results["limit: frame over ssh, write, fsync, rename"] = run_limit(lab)
        say("edit: inotifywait and rsync")
        results["inotifywait | rsync over ControlMaster"] = run_beside(lab, ["sh", "-c", SHELL_LOOP], EDITS["slow"], 0.1)
        for delay in (0, 1):
            say(f"edit: lsyncd, delay {delay}")
            words = lsyncd_words(lab, delay)
            results[f"lsyncd, delay {delay}, over ControlMaster"] = run_beside(lab, words, EDITS["slow"], 0.1)
    finally:
        lab.down()
    limit = p50(results["limit: frame over ssh, write, fsync, rename"])
    return [
        (name, f"{p50(took) * 1e3:.2f} ms", f"{percentile(took, 0.95) * 1e3:.2f} ms", f"{p50(took) / limit:.1f}x")
        for name, took in results.items()
    ]
