"""What watching costs: an event at the listener, an alert at a sink, a page; beside what one would use instead."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import IO

from bench.measure import CONF, BenchLab, p50, percentile
from ha_agent.adapters.control import ask_daemon

CONFS = 300
EVENTS = 3000
ROUNDS = 40
PORT = 8420
PASSWORD = "for the benchmark"

# What superlance's listeners, and those that people write, are made of.
CHILDUTILS = """\
import sys
from supervisor import childutils
while True:
    headers, payload = childutils.listener.wait(sys.stdin, sys.stdout)
    childutils.eventdata(payload + "\\n")
    childutils.listener.ok(sys.stdout)
"""


def _resident_kib(pid: int) -> int:
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return int(next(line.split()[1] for line in file if line.startswith("VmRSS")))


def _listener(words: list[str]) -> tuple[list[float], int]:
    """Seconds that each event keeps supervisord's buffer waiting, and the memory of the process."""
    env = {**os.environ, "SUPERVISOR_SERVER_URL": "unix:///x"}
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env)
    assert process.stdin is not None and process.stdout is not None
    took = []
    try:
        _expect(process.stdout, b"READY\n")
        for number in range(EVENTS):
            payload = f"processname:p{number % 50} groupname:p{number % 50} from_state:RUNNING expected:0 pid:9"
            head = f"ver:3.0 server:s serial:{number} pool:l poolserial:{number} "
            head += f"eventname:PROCESS_STATE_EXITED len:{len(payload)}\n"
            began = time.perf_counter()
            process.stdin.write((head + payload).encode())
            process.stdin.flush()
            _expect(process.stdout, b"RESULT 2\nOKREADY\n")
            took.append(time.perf_counter() - began)
        return took, _resident_kib(process.pid)
    finally:
        process.kill()
        process.wait()


def _expect(stream: IO[bytes], text: bytes) -> None:
    found = stream.read(len(text))
    if found != text:
        raise RuntimeError(f"{found!r} instead of {text!r}")


def _row(name: str, took: list[float], more: str) -> tuple[str, ...]:
    return name, f"{p50(took) * 1e3:.2f} ms", f"{percentile(took, 0.95) * 1e3:.2f} ms", more


def run(say: Callable[[str], None]) -> list[tuple[str, ...]]:
    """Rows for the table."""
    say("alerts: the listener")
    theirs, memory = _listener([sys.executable, "-c", CHILDUTILS])
    rows = [_row("an event, a listener made of supervisor.childutils", theirs, f"{memory / 1024:.1f} MiB")]
    ours, memory = _listener([os.path.join(sys.prefix, "bin", "ha-agent-listener"), "--config", "/nowhere"])
    rows.append(_row("an event, ha-agent-listener", ours, f"{memory / 1024:.1f} MiB"))
    lab = BenchLab("alerts")
    try:
        lab.up(
            confs={f"b{n}.conf": CONF.format(number=n, autostart="true", stamp=0) for n in range(CONFS)},
            overrides={"sinks.void": {"kind": "command", "command": ["/bin/true"]}},
            owner_pid=os.getpid(),
        )
        say("alerts: a delivery")
        run_dir = f"/proc/{lab.init_pid('node-a')}/root/run/ha-agent"
        took = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            ask_daemon(run_dir, {"op": "alert-test"}, 30.0)
            took.append(time.perf_counter() - began)
        rows.append(_row("an alert, delivered to /bin/true by a process of its own", took, ""))
        say("alerts: the dashboard")
        rows += _pages(lab)
    finally:
        lab.down()
    return rows


def _pages(lab: BenchLab) -> list[tuple[str, ...]]:
    add = f"echo '{PASSWORD}' | ha-agent-web user add bench --operator --password-stdin"
    lab.run("node-a", "sh", "-c", add)
    words = lab.words_inside("node-a", ["ha-agent-web", "serve"])
    web = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        time.sleep(5.0)
        inside = [sys.executable, "-m", "bench.pages", str(ROUNDS), str(PORT), "bench", PASSWORD]
        outcome = subprocess.run(
            lab.words_inside("node-a", ["env", f"PYTHONPATH={os.getcwd()}", *inside]), capture_output=True, check=True
        )
        found = json.loads(outcome.stdout)
        pid = "$(pgrep -f '[h]a-agent-web serve' | tail -1)"
        memory = int(lab.run("node-a", "sh", "-c", f"grep VmRSS /proc/{pid}/status").split()[1])
        return [
            _row(
                f"supervisord's own page, {CONFS} programs, one node", found["supervisord"], "supervisord is busy meanwhile"
            ),
            _row(f"the dashboard's page, {CONFS} programs, both nodes", found["page"], f"{memory / 1024:.1f} MiB"),
            _row("a scrape of /metrics", found["metrics"], ""),
            _row("/active", found["active"], ""),
        ]
    finally:
        lab.run("node-a", "pkill", "-f", "[h]a-agent-web serve", check=False)
        web.wait(10)
