"""What somebody who may only look costs those who work: a restart and a move, with and without him beside."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from bench.measure import CONF, BenchLab, p50, percentile
from bench.programs import await_role
from ha_agent.adapters.control import ask_daemon
from ha_agent.lab.layout import NODES, other
from tests.hostile_reader import HISTORY, fill_history, reading

CONFS = 20
ROUNDS = 12
RESTARTS = 4
"""In each round, beside one move."""

BEGIN_S = 2.0
"""After so long a reader has had what he may have at once, and gets what he gets in the long run."""

ALONE = "nobody"
READERS: Mapping[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    ALONE: ({}, ()),
    "one who has asked once": ({"op": "whoami"}, ("--connections", "8", "--requests", "1")),
    "one who asks for 10,000 events": (HISTORY, ("--connections", "8")),
    "one who asks for the other node's view": ({"op": "at-peer", "ask": {"op": "view"}}, ("--connections", "8")),
    "one who connects over and over": ({"op": "whoami"}, ("--connections", "200", "--pause-s", "0")),
}
"""What bob of ha-agent-read does on both nodes meanwhile."""


@contextlib.contextmanager
def _beside(lab: BenchLab, who: str) -> Iterator[None]:
    message, options = READERS[who]
    with contextlib.ExitStack() as stack:
        if message:
            for node in NODES:
                become = ["setpriv", "--reuid=bob", "--regid=bob", "--init-groups"]
                stack.enter_context(reading(lab.words_inside(node, become), message, *options))
        # The others wait as long: what they are compared with has had the same pause.
        time.sleep(BEGIN_S)
        yield


def _ask(lab: BenchLab, node: str, message: dict[str, Any]) -> dict[str, Any]:
    """Asks the agent of a node as root, without a command on the node."""
    return ask_daemon(f"/proc/{lab.init_pid(node)}/root/run/ha-agent", message, 60.0)


def _time_restart(lab: BenchLab, node: str, *, whole: bool) -> float:
    began = time.perf_counter()
    if whole:
        words = lab.words_inside(node, ["supzcli", "restart", "b7"])
        subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    else:
        answer = _ask(lab, node, {"op": "program-restart", "names": ["b7"]})
        if answer["outcome"] != "done":
            raise RuntimeError(f"restart: {answer}")
    return time.perf_counter() - began


def _time_move(lab: BenchLab, source: str) -> tuple[float, float]:
    """Stops keepalived on ``source``; seconds until it has released, and until its peer has verified that all run there."""
    target, began = other(source), time.time()
    lab.unit(source, "stop", "keepalived")
    found = []
    for node, code in ((source, "released"), (target, "takeover-done")):
        while not (at := [e["at"] for e in _events(lab, node, began) if e["code"] == code]):
            if time.time() - began > 60:
                raise RuntimeError(f"{node} did not get to {code}")
            time.sleep(0.1)
        found.append(at[0] - began)
    lab.unit(source, "start", "keepalived")
    await_role(lab, target, "active")
    await_role(lab, source, "standby")
    lab.wait_settled()
    return found[0], found[1]


def _events(lab: BenchLab, node: str, since: float) -> list[dict[str, Any]]:
    return list(_ask(lab, node, {"op": "history", "count": 50, "since": since})["events"])


def _rows(what: str, took: Mapping[str, list[list[float]]]) -> Iterator[tuple[str, ...]]:
    """``took``: by who is beside, the times of each round. The ratio is the median of those of the rounds."""
    for who, rounds in took.items():
        times = [took_s for one in rounds for took_s in one]
        spread = f"{percentile(times, 0.1) * 1e3:.0f} to {percentile(times, 0.9) * 1e3:.0f} ms"
        ratio = p50([p50(one) / p50(alone) for one, alone in zip(rounds, took[ALONE], strict=True)])
        yield f"{what}, beside {who}", f"{p50(times) * 1e3:.0f} ms", spread, f"{ratio:.2f}x"


def run(say: Callable[[str], None]) -> list[tuple[str, ...]]:
    """Rows for the table. All take turns in one run, so that they meet the same moments of the machine."""
    lab = BenchLab("hostile")
    kinds = ("supzcli restart, the whole command", "restart, the agent's part", "release", "move, until all programs run")
    took: dict[str, dict[str, list[list[float]]]] = {what: {who: [] for who in READERS} for what in kinds}
    try:
        confs = {f"b{n}.conf": CONF.format(number=n, autostart="true", stamp=0) for n in range(CONFS)}
        lab.up(confs=confs, owner_pid=os.getpid())
        lab.wait_settled()
        for node in NODES:
            fill_history(lab.paths.disk(node, "state"), node)
        active, names, chance = NODES[0], list(READERS), random.Random(1)
        for number in range(ROUNDS):
            say(f"hostile: round {number + 1} of {ROUNDS}")
            # Each follows each, and moves from either node.
            for who in chance.sample(names, len(names)):
                with _beside(lab, who):
                    commands, parts = [], []
                    for _ in range(RESTARTS):
                        commands.append(_time_restart(lab, active, whole=True))
                        parts.append(_time_restart(lab, active, whole=False))
                    release, move = _time_move(lab, active)
                for what, times in zip(kinds, (commands, parts, [release], [move]), strict=True):
                    took[what][who].append(times)
                active = other(active)
    finally:
        lab.down()
    return [row for what in kinds for row in _rows(what, took[what])]
