"""``make chaos SECONDS=600 SEED=n``: a seeded schedule of faults on a real pair, and a check of what was seen meanwhile."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from ha_agent.core.names import is_parked_name
from ha_agent.lab.control import Lab, LabFailed
from ha_agent.lab.layout import (
    ADDRESSES,
    BLOCKS,
    NODES,
    PREFIX,
    WITNESS,
    WITNESS_KINDS,
    default_root,
    fresh_directory,
)
from ha_agent.lab.probe import Probe
from tests.chaos import checker
from tests.chaos.checker import Injected, Violation
from tests.chaos.editor import TOGGLED, Editor, ask, look
from tests.chaos.faults import Injector
from tests.chaos.schedule import Episode, Fault, digest, make_episodes
from tests.lab_support import ESCAPER

SETTLE_S = 90.0
"""Stated bound: so long after the last fault of an episode was lifted, one node is active and the programs run there."""

SLOW_S = 10.0
"""A pair that needs longer to settle has kept a promise, and is worth a look."""

SYNC_S = 30.0
"""Stated bound: so long after that both nodes hold the same registry."""

DISK_BYTES = 40 * 1024 * 1024

PROGRAMS = {
    **{f"p{n}.conf": f"[program:p{n}]\ncommand=/bin/sleep infinity\nstartsecs=0\n" for n in range(4)},
    "slow.conf": "[program:slow]\ncommand=/bin/bash -c 'trap \"sleep 0.7; exit\" TERM; while :; do sleep 0.1; done'\n"
    "startsecs=0\nstopwaitsecs=5\n",
    "stubborn.conf": "[program:stubborn]\ncommand=/bin/bash -c 'trap \"\" TERM; while :; do sleep 0.1; done'\n"
    "startsecs=0\nstopwaitsecs=2\n",
    "leaver.conf": "[program:leaver]\ncommand=/bin/sh -c 'setsid sleep 100000 & exec sleep 100001'\nstartsecs=0\n",
    "escaper.conf": ESCAPER,
    "later.conf": "; ha-agent: after=p0, tcp://127.0.0.1:22\n[program:later]\ncommand=/bin/sleep infinity\nstartsecs=0\n",
}
ESCAPED = "escaped"
"""What the escaper leaves behind: a plain restart of it leaves one more, but there must never be one on each node."""
ALWAYS = frozenset(name.removesuffix(".conf") for name in PROGRAMS)
MOUNTED = "/run/mounted"
"""Stands for a mount: made by a hook before the start, taken away by it after the stop."""

HOOK = f"""#!/bin/sh
case $HA_AGENT_HOOK in
before_start) touch {MOUNTED} ;;
after_stop) rm -f {MOUNTED} ;;
esac
"""
LOOK: dict[str, Any] = {"kind": "command", "command": ["/usr/bin/test", "-e", MOUNTED], "on_failure": "alert"}
SETTINGS: dict[str, dict[str, Any]] = {
    "hooks.mounted": {"at": ["before_start", "after_stop"], "command": ["/etc/ha-agent/mounted"]},
    "checks.mounted": {
        "kind": "command",
        "command": ["/usr/bin/test", "-e", MOUNTED],
        "on_failure": "alert",
        "interval_s": 3.0,
    },
    "checks.later": {"kind": "running", "program": "later", "on_failure": "restart", "interval_s": 3.0},
}
OPERATED = {f"{TOGGLED}.conf": f"[program:{TOGGLED}]\ncommand=/bin/sleep infinity\nstartsecs=0\n"}


def install_hook(lab: Lab) -> None:
    """Puts the hook on both nodes before they boot."""
    for node in NODES:
        with open(os.path.join(lab.paths.disk(node, "etc-ha-agent"), "mounted"), "w", encoding="ascii") as file:
            file.write(HOOK)
            os.fchmod(file.fileno(), 0o755)


class Run:
    """One chaos run: the lab, what is done to it, and what was recorded. ``done`` counts episodes."""

    def __init__(self, seed: int, directory: str, witness: str = "") -> None:
        self.lab, self.witness = Lab(directory), witness
        self.probe = Probe()
        self.injector = Injector(self.lab, self.probe)
        self.editor = Editor(self.lab, seed)
        self.injected: list[Injected] = []
        self.settled_s: list[float] = []
        self.skipped: Counter[str] = Counter()
        """Faults that could not be done, because something else had ended what they are done to."""
        self.done = 0

    def up(self) -> None:
        """Boots the pair and begins to watch and to edit."""
        self.lab.up(
            confs={**PROGRAMS, **OPERATED},
            overrides=SETTINGS,
            prepare=install_hook,
            owner_pid=os.getpid(),
            disk_bytes=DISK_BYTES,
            witness=self.witness,
        )
        for node in NODES:
            self.probe.watch_node(node, self.lab.init_pid(node))
        self.probe.start()
        self.editor.start()

    def play(self, episode: Episode) -> None:
        """Does the faults of one episode, each in a thread of its own, and waits until all are lifted."""
        began = time.monotonic()
        threads = [
            threading.Thread(target=self._play_one, args=(fault, began, random.Random(episode.seed + number)))
            for number, fault in enumerate(episode.faults)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.done += 1

    def _play_one(self, fault: Fault, began: float, rng: random.Random) -> None:
        time.sleep(max(0.0, began + fault.begins_s - time.monotonic()))
        at = time.monotonic()
        done = self.injector.begin(fault, rng)
        time.sleep(max(0.0, began + fault.ends_s - time.monotonic()))
        self.injector.end(fault)
        if not done:
            self.skipped[fault.kind] += 1
        else:
            self.injected.append(Injected(fault.kind, fault.node, at, time.monotonic()))

    def settle(self) -> Violation | None:
        """Lifts what a fault's end could not (its node was off), and waits until the pair is whole again."""
        began = time.monotonic()
        self._repair()
        while time.monotonic() - began < SETTLE_S:
            if self._is_settled():
                self.settled_s.append(time.monotonic() - began)
                return None
            time.sleep(0.1)
        said = {node: look(self.lab, node) for node in NODES}
        brief = {n: {k: e[k] for k in ("role", "vrrp_state", "vip", "supervisord")} if e else None for n, e in said.items()}
        return Violation(f"not settled {SETTLE_S:g} s after the last fault: {brief}, running {self._running()}", began)

    def _repair(self) -> None:
        if self.witness:
            self.injector.join_all()
            with contextlib.suppress(LabFailed):
                self.lab.thaw(WITNESS)
            if not self.lab.is_on(WITNESS):
                self.lab.power_on(WITNESS)
        for node in NODES:
            with contextlib.suppress(LabFailed):
                self.lab.rejoin(node)
                self.lab.heal(node)
                self.lab.thaw(node)
            if not self.lab.is_on(node):
                self.lab.power_on(node)
                self.probe.watch_node(node, self.lab.init_pid(node))
            for what in BLOCKS:
                self.lab.unblock(node, what)
            with contextlib.suppress(LabFailed):
                self.lab.run(node, "ip", "addr", "replace", f"{ADDRESSES[node]}/{PREFIX}", "dev", "eth0")
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self.lab.paths.node(node), "filler"))
            with contextlib.suppress(LabFailed):
                self.lab.run(node, "rm", "-f", "/run/filler")
            self.injector.correct_settings(node)
            if self.witness:
                self.lab.unit(node, "kill", "keeper", signal.SIGCONT)
            for unit in (*(("keeper",) if self.witness else ()), "sshd", "supervisord", "ha-agent", "keepalived"):
                self.lab.unit(node, "start", unit)

    def _running(self) -> dict[str, list[str]]:
        return {node: sorted(self.probe.running.get(node, frozenset()) - {ESCAPED}) for node in NODES}

    def _is_settled(self) -> bool:
        entries = {node: look(self.lab, node) for node in NODES}
        roles = sorted(entry["role"] if entry else "?" for entry in entries.values())
        if roles != ["active", "standby"]:
            return False
        active = next(node for node, entry in entries.items() if entry and entry["role"] == "active")
        standby = NODES[1 - NODES.index(active)]
        if not self._has_vip_alone(entries[active], entries[standby]):
            return False
        running = self._running()
        if not ALWAYS.issubset(running[active]) or running[standby]:
            return False
        failing = [check["name"] for check in (entries[active] or {}).get("checks", ()) if check["health"] == "failing"]
        return not failing and [self._is_mounted(node) for node in (active, standby)] == [True, False]

    def _is_mounted(self, node: str) -> bool:
        return self.lab.run(node, "sh", "-c", f"test -e {MOUNTED} && echo yes; true").strip() == "yes"

    def _has_vip_alone(self, active: dict[str, Any] | None, standby: dict[str, Any] | None) -> bool:
        return bool(active and standby and active["vip"] is True and standby["vip"] is False)

    def finish(self) -> list[Violation]:
        """Stops editing, has everything loaded, and checks the end state."""
        self.editor.stop()
        active, answer = self._await_sync()
        if active is None or answer is None or answer.get("outcome") != "in-sync":
            return [Violation(f"the pair does not get in sync in the end: {active} says {answer}")]
        # Kept copies are written by the next checkpoint, which waits for a pause.
        time.sleep(2.5)
        final = {node: dict(self._registry(node)) for node in NODES}
        if final[NODES[0]] != final[NODES[1]]:
            return [Violation("the registries differ in the end")]
        found = checker.check_edits(self.editor.edits, final[active], self._kept())
        found += checker.check_toggles(self.editor.toggles, final[active])
        return found + self._check_programs(active, {p for p in final[active] if not is_parked_name(p)})

    def _await_sync(self) -> tuple[str | None, dict[str, Any] | None]:
        """Which node is active in the end, and its word that the peer holds everything; the link may take its time."""
        deadline = time.monotonic() + SYNC_S
        active, answer = None, None
        while time.monotonic() < deadline and (answer is None or answer.get("outcome") != "in-sync"):
            time.sleep(0.2)
            active = next((n for n in NODES if (look(self.lab, n) or {}).get("role") == "active"), None)
            answer = ask(self.lab, active, {"op": "sync", "timeout_s": 5.0}, 10.0) if active else None
        return active, answer

    def _check_programs(self, active: str, paths: set[str]) -> list[Violation]:
        """After a `supervisorctl update` every loadable program runs on the active node, once, and nothing else does.

        Of a conf that is bad now the last good content may still run.
        """
        time.sleep(1.0)
        self.lab.run(active, "supervisorctl", "update", check=False, timeout_s=60.0)
        problems = (look(self.lab, active, 5.0) or {"readiness": {"problems": {}}})["readiness"]["problems"]
        wanted, tolerated = (
            {os.path.basename(path).removesuffix(".conf") for path in chosen}
            for chosen in (paths - set(problems), paths & set(problems))
        )
        deadline = time.monotonic() + 10.0
        while time.monotonic() < deadline and set(self._running()[active]) - tolerated != wanted:
            time.sleep(0.1)
        running = self._running()
        if set(running[active]) - tolerated != wanted or running[NODES[1 - NODES.index(active)]]:
            return [Violation(f"in the end {running} is running, wanted on {active}: {sorted(wanted)}")]
        return []

    def _registry(self, node: str) -> Iterator[tuple[str, bytes]]:
        root = self.lab.paths.registry(node)
        for folder, _, names in os.walk(root):
            for name in names:
                if not name.startswith("."):
                    path = os.path.join(folder, name)
                    with open(path, "rb") as file:
                        yield os.path.relpath(path, root), file.read()

    def _kept(self) -> Iterator[bytes]:
        for node in NODES:
            for folder, _, names in os.walk(os.path.join(self.lab.paths.disk(node, "state"), "kept")):
                for name in names:
                    with open(os.path.join(folder, name), "rb") as file:
                        yield file.read()

    def check(self) -> list[Violation]:
        """What can be judged at any time: overlaps, second copies, and the agents' own complaints."""
        found = checker.check_overlaps(self.probe.stretches(), list(self.injected), votes=bool(self.witness))
        doubles = {key: at for key, at in self.probe.doubles.items() if key[0] != ESCAPED}
        found += checker.check_doubles(doubles, list(self.injected))
        for node in NODES:
            with open(self.lab.paths.log(node, "ha-agent"), encoding="utf-8", errors="replace") as file:
                _, word, trace = file.read().partition("Traceback")
                if word:
                    found.append(Violation(f"the agent of {node} failed: {trace[:2500]}"))
        return found

    def summary(self) -> dict[str, Any]:
        """The figures of the run."""
        stretches = self.probe.stretches()
        overlaps = checker.find_overlaps(stretches)
        edits = self.editor.edits
        settled = sorted(self.settled_s)
        return {
            "episodes": self.done,
            "faults": dict(sorted(Counter(f.kind for f in self.injected).items())),
            "skipped": dict(sorted(self.skipped.items())),
            "takeovers": sum(1 for event in self.history() if event["code"] == "takeover-done"),
            "edits": len(edits),
            "acknowledged_edits": sum(1 for e in edits if e.acknowledged_mono is not None),
            "stops_and_starts": len(self.editor.toggles),
            "acknowledged_stops_and_starts": sum(1 for t in self.editor.toggles if t.acknowledged),
            "overlaps_while_severed": len(overlaps),
            "longest_overlap_s": round(max((o.took_s for o in overlaps), default=0.0), 2),
            "longest_overlap_after_s": round(checker.longest_resolution(stretches, list(self.injected)), 2),
            "longest_silence_s": round(max((checker.longest_silence(stretches, p) for p in ALWAYS), default=0.0), 2),
            "settle_median_s": round(settled[len(settled) // 2], 2) if settled else None,
            "settle_longest_s": round(settled[-1], 2) if settled else None,
        }

    def history(self) -> list[dict[str, Any]]:
        """The histories of both nodes, merged by time."""
        events: list[dict[str, Any]] = []
        for node in NODES:
            with contextlib.suppress(OSError):
                path = os.path.join(self.lab.paths.disk(node, "state"), "history.jsonl")
                with open(path, encoding="utf-8", errors="replace") as file:
                    for line in file:
                        with contextlib.suppress(ValueError):
                            events.append(json.loads(line))
        return sorted(events, key=lambda e: e["at"])


def print_violation(run: Run, violation: Violation) -> None:
    """The violation, the faults around it, and what both nodes wrote down around it."""
    print(f"\nVIOLATION: {violation.text}")
    wall = time.time() - time.monotonic()
    at = violation.at_mono if violation.at_mono is not None else time.monotonic()
    print("faults around it (seconds from it):")
    for fault in run.injected:
        if fault.ended_mono > at - 30 and fault.began_mono < at + 30:
            print(f"  {fault.began_mono - at:+8.2f} to {fault.ended_mono - at:+8.2f}  {fault.kind} {fault.node}")
    print("what both nodes wrote down (seconds from it):")
    for event in run.history():
        offset = event["at"] - wall - at
        if -25 < offset < 25:
            print(f"  {offset:+8.2f}  {event['node']}  {event['code']}: {event['text']}"[:230])
    for node in NODES:
        print(f"the end of the agent's log on {node}:")
        with open(run.lab.paths.log(node, "ha-agent"), encoding="utf-8", errors="replace") as file:
            print("".join(f"  {line}" for line in file.readlines()[-30:]), end="")


def play(run: Run, seed: int, seconds: float) -> list[Violation]:
    """Episodes until the time is over or a promise was broken; returns what was broken."""
    until = time.monotonic() + seconds
    for episode in make_episodes(seed, votes=bool(run.witness)):
        if time.monotonic() >= until:
            return run.finish() + run.check()
        text = ", ".join(f"{f.kind} {f.node[-1]} {f.begins_s:g}-{f.ends_s:g}" for f in episode.faults)
        print(f"{episode.number:4}  {text}", flush=True)
        run.play(episode)
        unsettled = run.settle()
        if unsettled is None and run.settled_s[-1] > SLOW_S:
            print(f"      settled {run.settled_s[-1]:.1f} s after the last fault", flush=True)
        found = ([unsettled] if unsettled else []) + run.check()
        if found:
            return found
    raise AssertionError("the schedule has no end")


def save(run: Run, directory: str) -> None:
    """Leaves the records of a run."""
    os.makedirs(directory, exist_ok=True)
    records = {
        "injected.json": [asdict(f) for f in run.injected],
        "stretches.json": run.probe.stretches(),
        "edits.json": [e.to_dict() for e in run.editor.edits],
        "history.json": run.history(),
    }
    for name, rows in records.items():
        with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=1)


def main() -> int:
    """Command line; 0: every promise held, 1: one was broken."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--witness", choices=("", *WITNESS_KINDS), default="")
    options = parser.parse_args()
    print(f"chaos with seed {options.seed} for {options.seconds:g} s; schedule {digest(options.seed)}")
    print("episode: fault, node, from-to in seconds")
    run = Run(options.seed, fresh_directory(f"chaos-{options.seed}"), options.witness)
    began = time.monotonic()
    try:
        run.up()
        found = play(run, options.seed, options.seconds)
        for violation in found[:1]:
            print_violation(run, violation)
        where = os.path.join(os.path.dirname(default_root()), "chaos", str(options.seed))
        save(run, where)
        if found:
            print(f"{len(found)} violations; all records are in {where}; the same seed does the same again")
        summary = {"seed": options.seed, "seconds": round(time.monotonic() - began), **run.summary()}
        print(json.dumps({**summary, "violations": [v.text for v in found]}))
        return 1 if found else 0
    except KeyboardInterrupt:
        print("interrupted; nothing is left behind")
        return 130
    finally:
        with contextlib.suppress(RuntimeError):
            # Neither was started where the lab did not come up.
            run.editor.stop()
            run.probe.stop()
        run.lab.down()


if __name__ == "__main__":
    sys.exit(main())
