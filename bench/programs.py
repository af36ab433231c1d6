"""Takeover and release of 10, 100 and 500 programs: this agent, the usual script, and the limit."""

from __future__ import annotations

import calendar
import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from bench.measure import CONF, BenchLab, p50
from ha_agent.lab.layout import NODES

COUNTS = (10, 100, 500)
ROUNDS = {10: 5, 100: 5, 500: 3}
NODE = "node-b"
ACTIVE = "/run/ha-agent/active"
CTL = "supervisorctl -c /etc/supervisor/supervisord.conf"

LIMIT = """
import http.client, socket, sys, time, xmlrpc.client
class Unix(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX); self.sock.connect("/run/supervisor.sock")
calls = [{"methodName": "supervisor.reloadConfig", "params": []}]
calls += [{"methodName": "supervisor.addProcessGroup", "params": ["b%d" % n]} for n in range(int(sys.argv[1]))]
body = xmlrpc.client.dumps((calls,), "system.multicall")
print(time.time(), flush=True)
connection = Unix("localhost"); connection.request("POST", "/RPC2", body); connection.getresponse().read()
"""

_LINE = re.compile(r"(\d+-\d+-\d+ \d+:\d+:\d+),(\d+) \w+ (spawned|stopped|exited)")


@dataclass(slots=True)
class Times:
    """Seconds from the trigger to first and last event; ``verified`` from the last event to the word that it is so."""

    first: float
    last: float
    verified: float = 0.0


def read_events(lab: BenchLab, kind: str, after: float) -> list[float]:
    """Wall clock times of supervisord's own log lines of one kind."""
    path = os.path.join(lab.paths.disk(NODE, "log"), "supervisor", "supervisord.log")
    found = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            match = _LINE.match(line)
            if match and match[3] == kind:
                at = calendar.timegm(time.strptime(match[1], "%Y-%m-%d %H:%M:%S")) + int(match[2]) / 1000
                found.append(at)
    return [at for at in found if at >= after - 0.001]


def await_events(lab: BenchLab, kind: str, count: int, after: float) -> list[float]:
    """Waits until there are ``count`` of them."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        events = read_events(lab, kind, after)
        if len(events) >= count:
            return events
        time.sleep(0.1)
    raise RuntimeError(f"{len(read_events(lab, kind, after))} of {count} programs {kind}")


def await_role(lab: BenchLab, node: str, role: str) -> None:
    """Waits for a role."""
    deadline = time.monotonic() + 60
    while lab.status(node)["role"] != role:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{node} did not become {role}")
        time.sleep(0.1)


def hook_time(lab: BenchLab, state: str) -> float:
    """When the hook of the newest event with ``state`` left its file."""
    return float(lab.run(NODE, "sh", "-c", f"stat -c %.6Y /run/ha-agent/notify/*.{state}"))


def agent_round(lab: BenchLab, count: int) -> tuple[Times, Times]:
    """One takeover and one release of node-b, its peer having released before."""
    began = time.time()
    lab.unit(NODE, "start", "keepalived")
    spawned = await_events(lab, "spawned", count, began)
    await_role(lab, NODE, "active")
    hook = hook_time(lab, "MASTER")
    time.sleep(1.0)
    began = time.time()
    lab.unit(NODE, "stop", "keepalived")
    stopped = await_events(lab, "stopped", count, began)
    await_role(lab, NODE, "standby")
    gone = hook_time(lab, "STOP")
    released = float(lab.status(NODE)["last_transition"]["at"])
    takeover = Times(min(spawned) - hook, max(spawned) - hook)
    return takeover, Times(min(stopped) - gone, max(stopped) - gone, released - max(stopped))


def script_round(lab: BenchLab, count: int) -> tuple[Times, Times]:
    """The same by the usual script of supervisorctl calls."""
    began = time.time()
    lab.run(NODE, "bash", "-c", f"{CTL} reread; {CTL} update; {CTL} start all; true", timeout_s=120)
    spawned = await_events(lab, "spawned", count, began)
    began_stop = time.time()
    lab.run(NODE, "bash", "-c", f"{CTL} stop all", timeout_s=120)
    ended = time.time()
    stopped = await_events(lab, "stopped", count, began_stop)
    times = Times(min(stopped) - began_stop, max(stopped) - began_stop, ended - max(stopped))
    return Times(min(spawned) - began, max(spawned) - began), times


def limit_round(lab: BenchLab, count: int) -> Times:
    """The least that supervisord can do: everything in one system.multicall."""
    began = float(lab.run(NODE, sys.executable, "-c", LIMIT, str(count), timeout_s=120))
    spawned = await_events(lab, "spawned", count, began)
    return Times(min(spawned) - began, max(spawned) - began)


def unload(lab: BenchLab) -> None:
    """Leaves supervisord as it was before."""
    script = f"{CTL} stop all >/dev/null; mv {ACTIVE} {ACTIVE}.away; {CTL} update >/dev/null; mv {ACTIVE}.away {ACTIVE}"
    lab.run(NODE, "bash", "-c", script, timeout_s=120)


def run_count(count: int, say: Callable[[str], None]) -> list[tuple[str, ...]]:
    """All contestants with ``count`` programs."""
    lab = BenchLab(f"programs-{count}")
    taken: dict[str, list[Times]] = {"ha-agent": [], "script": [], "limit": []}
    released: dict[str, list[Times]] = {"ha-agent": [], "script": []}
    try:
        confs = {f"b{n}.conf": CONF.format(number=n, autostart="true", stamp=0) for n in range(count)}
        lab.up(confs=confs, owner_pid=os.getpid())
        time.sleep(3.0)
        lab.unit(NODE, "stop", "keepalived")
        lab.unit("node-a", "stop", "keepalived")
        await_role(lab, "node-a", "standby")
        say(f"programs: {count}, this agent")
        for _ in range(ROUNDS[count]):
            takeover, release = agent_round(lab, count)
            taken["ha-agent"].append(takeover)
            released["ha-agent"].append(release)
        for node in NODES:
            lab.unit(node, "stop", "ha-agent")
        lab.run(NODE, "sh", "-c", f"cp /etc/supervisor/conf.d/*.conf {ACTIVE}/")
        for _ in range(ROUNDS[count]):
            say(f"programs: {count}, script and limit")
            takeover, release = script_round(lab, count)
            taken["script"].append(takeover)
            released["script"].append(release)
            unload(lab)
            taken["limit"].append(limit_round(lab, count))
            unload(lab)
    finally:
        lab.down()
    names = {
        "ha-agent": "ha-agent",
        "script": "supervisorctl reread, update, start all",
        "limit": "limit: one system.multicall",
    }
    limit_last = p50([t.last for t in taken["limit"]])
    rows: list[tuple[str, ...]] = []
    for key, times in taken.items():
        first, last = p50([t.first for t in times]), p50([t.last for t in times])
        rows.append(
            (f"{count} programs, {names[key]}", f"{first * 1e3:.0f} ms", f"{last * 1e3:.0f} ms", f"{last / limit_last:.2f}x")
        )
    for key, times in released.items():
        word = "release" if key == "ha-agent" else "stop all"
        last, verified = p50([t.last for t in times]), p50([t.verified for t in times])
        rows.append(
            (f"{count} programs, {key}: {word}", "", f"{last * 1e3:.0f} ms", f"verified {verified * 1e3:.0f} ms later")
        )
    return rows
