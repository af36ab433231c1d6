"""What the cluster and integration tiers share: waiting that says what it saw, and a pair with the invariant probe on it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
import tomllib
from collections.abc import Callable, Collection
from typing import Any, TypeVar

from ha_agent.adapters.keepalived_conf import render_keepalived
from ha_agent.cli.status_cmd import status_document
from ha_agent.core.settings import check_settings
from ha_agent.core.settings_sample import flat_values, sample_toml
from ha_agent.core.visible import visible_data
from ha_agent.lab.control import Lab, LabFailed
from ha_agent.lab.layout import NODES
from ha_agent.lab.probe import Probe

T = TypeVar("T")


def wait_for(
    what: str, probe: Callable[[], T], limit_s: float = 15.0, pause_s: float = 0.01, show: Callable[[], Any] = str
) -> T:
    """Waits until ``probe`` returns something true; raises with what was seen instead.

    A look that takes its time is taken less often: whoever waits must not be most of the machine's work. The last look is
    at the end of the time.
    """
    deadline = time.monotonic() + limit_s
    while True:
        began = time.monotonic()
        value = probe()
        if value:
            return value
        if began >= deadline:
            break
        now = time.monotonic()
        time.sleep(max(0.0, min(max(pause_s, 3 * (now - began)), deadline - now)))
    raise AssertionError(f"{what}: not within {limit_s:g} s; last seen: {show() or value!r}")


def stays(what: str, probe: Callable[[], object], for_s: float, show: Callable[[], Any] = str) -> None:
    """Asserts that ``probe`` is true all the time; raises with what was seen instead."""
    deadline = time.monotonic() + for_s
    while (began := time.monotonic()) < deadline:
        assert probe(), f"{what}: did not stay so for {for_s:g} s; last seen: {show()}"
        time.sleep(max(0.02, 3 * (time.monotonic() - began)))


SLEEPER = """\
[program:{name}]
command=/bin/sleep infinity
startsecs=0
stopwaitsecs=3
"""


ESCAPER = """\
[program:escaper]
command=/bin/bash -c "env -i setsid -f /bin/bash -c 'exec -a probe:escaped /bin/sleep 100000'; exec /bin/sleep 100001"
startsecs=0
"""
"""A program that leaves a process behind, which nothing but its control group connects with it: ``escaped`` to the probe."""


def sleepers(count: int) -> dict[str, str]:
    """That many small confs."""
    return {f"p{number}.conf": SLEEPER.format(name=f"p{number}") for number in range(count)}


class Pair:
    """A lab with the probe on it. At the end of a test no program may have been seen on both nodes."""

    def __init__(self, directory: str) -> None:
        self.lab = Lab(directory)
        self.probe = Probe()
        self.allowed_overlap_s = 0.0
        self._started = False

    def up(self, confs: dict[str, str] | None = None, **options: Any) -> None:
        self.lab.up(confs=sleepers(3) if confs is None else confs, owner_pid=os.getpid(), **options)
        self.observe()

    def observe(self) -> None:
        """Has the probe look at the lab, which is up."""
        for node in NODES:
            self.probe.watch_node(node, self.lab.init_pid(node))
        self.probe.start()
        self._started = True

    def stop_watching(self) -> None:
        """Ends what ``observe`` began. Idempotent."""
        if self._started:
            self.probe.stop()
            self._started = False

    def power_on(self, node: str) -> None:
        self.lab.power_on(node)
        self.probe.watch_node(node, self.lab.init_pid(node))

    def down(self) -> None:
        self.stop_watching()
        self.lab.down()

    def check_invariant(self) -> None:
        ours = [o for o in self.probe.overlaps if not o.program.startswith("local")]
        too_long = [o for o in ours if o.took_s > self.allowed_overlap_s]
        assert not too_long, f"programs seen on both nodes: {too_long}"

    # ---- looking ------------------------------------------------------------------------------------------

    def runs(self, node: str) -> frozenset[str]:
        """The registry's programs whose processes are seen on ``node``."""
        return frozenset(name for name in self.probe.running.get(node, frozenset()) if not name.startswith("local"))

    def is_running(self, node: str, programs: Collection[str]) -> bool:
        """Whether exactly ``programs`` are seen on ``node``."""
        return self.runs(node) == set(programs)

    def role(self, node: str) -> str:
        return str(self.lab.status(node)["role"])

    def document(self, node: str) -> dict[str, Any] | None:
        """What ``ha-agent status --json`` says on ``node``, without the command; None where no agent answers.

        For whoever waits, before he looks at a face: a command takes the machine twenty times as long.
        """
        with contextlib.suppress(LabFailed):
            return status_document(visible_data(self.lab.ask(node, {"op": "status"}))["nodes"])
        return None

    def is_whole(self, node: str) -> bool:
        """Whether ``node`` hears of both, by its agent and then by ``ha-agent status``."""
        return self._hears_of(node) == {True} and self.ha(node, "status").returncode == 0

    def is_alone(self, node: str) -> bool:
        """Whether ``node`` does not reach its peer, by its agent and then by ``ha-agent status``."""
        return False in self._hears_of(node) and self.ha(node, "status").returncode == 4

    def _hears_of(self, node: str) -> set[bool]:
        seen = self.document(node)
        return set() if seen is None else {bool(one["reachable"]) for one in seen["nodes"]}

    def has_told(self, node: str, word: str) -> bool:
        """Whether ``word`` is in the list of alerts of ``node``, by its agent and then by ``ha-agent alert list``."""
        return any(self._knows(one, word) for one in NODES) and word in self.ha(node, "alert", "list").stdout

    def _knows(self, node: str, word: str) -> bool:
        with contextlib.suppress(LabFailed):
            return word in str(self.lab.ask(node, {"op": "alert-list", "count": 10}))
        return False

    def path(self, node: str, name: str = "") -> str:
        return os.path.join(self.lab.paths.registry(node), name)

    def files(self, node: str) -> dict[str, tuple[int, bytes]]:
        """Everything in a node's registry: relative path to (mode, content)."""
        root = self.path(node)
        found = {}
        for folder, _, names in os.walk(root):
            for name in names:
                path = os.path.join(folder, name)
                if name.startswith(".ha-agent."):
                    continue
                with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
                    found[os.path.relpath(path, root)] = (os.stat(path).st_mode & 0o777, file.read())
        return found

    def history(self, node: str, code: str | None = None) -> list[dict[str, Any]]:
        with open(os.path.join(self.lab.paths.disk(node, "state"), "history.jsonl"), encoding="utf-8") as file:
            events = [json.loads(line) for line in file if line.endswith("\n")]
        return [e for e in events if code is None or e["code"] == code]

    def await_equal(self, limit_s: float = 5.0) -> None:
        wait_for("equal registries", lambda: self.files("node-a") == self.files("node-b"), limit_s, show=self.difference)

    def difference(self) -> str:
        """What differs between the two registries, for a message."""
        a, b = self.files("node-a"), self.files("node-b")
        return str({name: (a.get(name), b.get(name)) for name in a.keys() | b.keys() if a.get(name) != b.get(name)})[:2000]

    def await_in_sync(self, node: str, limit_s: float = 15.0) -> None:
        """Waits until the active ``node`` says that its peer has everything."""
        wait_for("in sync", lambda: self.lab.status(node)["replication"]["state"] == "in_sync", limit_s, 0.02)

    def await_role(self, node: str, role: str, limit_s: float = 15.0) -> None:
        def look() -> bool:
            try:
                return self.role(node) == role
            except LabFailed:
                return False

        wait_for(f"{node} is {role}", look, limit_s, 0.05, lambda: self._tail(node))

    def await_runs(self, node: str, programs: set[str], limit_s: float = 15.0) -> None:
        wait_for(
            f"{sorted(programs)} on {node}",
            lambda: self.runs(node) == programs,
            limit_s,
            show=lambda: f"{sorted(self.runs(node))}; {self._tail(node)}",
        )

    def _tail(self, node: str) -> str:
        with open(self.lab.paths.log(node, "ha-agent"), encoding="utf-8") as file:
            return "\n" + file.read()[-1500:]

    def agent_pid(self, node: str) -> int | None:
        """Process id of the agent within the node."""
        pid = self.lab.unit(node, "show", "ha-agent")["ha-agent"]
        return int(pid) if pid else None

    def kill_agent(self, node: str) -> None:
        """Kills the agent with SIGKILL and waits until its successor answers."""
        before = self.agent_pid(node)
        self.lab.unit(node, "kill", "ha-agent", signal.SIGKILL)

        def is_back() -> bool:
            try:
                return self.agent_pid(node) not in (None, before) and bool(self.lab.status(node))
            except LabFailed:
                return False

        wait_for(f"a new agent on {node}", is_back, 15, 0.05, lambda: self._tail(node))

    def ha(self, node: str, *words: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Runs ``ha-agent`` with ``words`` on ``node`` as root, without a terminal."""
        return subprocess.run(
            self.lab.words_inside(node, ["ha-agent", *words]),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )

    def sup(
        self, node: str, *words: str, user: str = "alice", typed: str | None = None, timeout_s: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Runs ``supzcli`` with ``words`` on ``node`` as ``user``; ``typed`` is its standard input."""
        return self.run_as(node, user, "supzcli", *words, typed=typed, timeout_s=timeout_s)

    def words_as(self, node: str, user: str, *words: str) -> list[str]:
        """The command line that runs ``words`` on ``node`` as ``user``, in that user's home."""
        home = f"/run/lab/{'home' if user == 'root' else user}"
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "env", "-C", home, f"HOME={home}"]
        return self.lab.words_inside(node, [*become, *words])

    def run_as(
        self, node: str, user: str, *words: str, typed: str | None = None, timeout_s: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Runs ``words`` on ``node`` as ``user``."""
        given: dict[str, Any] = {"stdin": subprocess.DEVNULL} if typed is None else {"input": typed}
        return subprocess.run(self.words_as(node, user, *words), capture_output=True, text=True, timeout=timeout_s, **given)

    # ---- doing --------------------------------------------------------------------------------------------

    def shell(self, node: str, script: str) -> str:
        return self.lab.run(node, "sh", "-euc", script)

    def configure(self, node: str, change: Callable[[dict[str, Any]], None]) -> None:
        """Changes agent.toml and what is rendered from it, has keepalived read that again, and restarts the agent."""
        path = os.path.join(self.lab.paths.disk(node, "etc-ha-agent"), "agent.toml")
        with open(path, encoding="utf-8") as file:
            raw = tomllib.loads(file.read())
        change(raw)
        conf = os.path.join(self.lab.paths.disk(node, "etc-keepalived"), "keepalived.conf")
        text = render_keepalived(check_settings(raw), "/etc/keepalived/ha-agent-notify")
        for name, content in ((path, sample_toml(flat_values(raw))), (conf, text)):
            with open(name, "w", encoding="utf-8") as file:
                file.write(content)
        self.lab.unit(node, "kill", "keepalived", signal.SIGHUP)
        self.lab.unit(node, "restart", "ha-agent")
        self.lab.wait_settled()

    def hand_over(self, to: str) -> None:
        """Has keepalived give up MASTER on the other node (as a switchover does) and waits until ``to`` is active."""
        source = NODES[1 - NODES.index(to)]
        self.shell(source, "echo 1 > /run/ha-agent/track")
        self.await_role(to, "active")
        self.await_role(source, "standby")
        self.shell(source, "echo 0 > /run/ha-agent/track")


DISK = 24 * 1024 * 1024
"""Of a node whose disk a test fills."""


def fill(pair: Pair, node: str) -> None:
    """Leaves not one block free on the node's disk."""
    with open(os.path.join(pair.lab.paths.node(node), "filler"), "wb", buffering=0) as file:
        for size in (65536, 4096, 512):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


def empty(pair: Pair, node: str) -> None:
    """Takes the filler away."""
    os.unlink(os.path.join(pair.lab.paths.node(node), "filler"))
