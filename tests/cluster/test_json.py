"""The JSON of every command has the shape that was promised (tests/golden, docs/json.md), in every state of the pair.

``HA_AGENT_GOLDEN=write make test TESTS=tests/cluster/test_json.py`` writes the files again after a change that is meant.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
from collections.abc import Callable
from typing import Any

from tests.lab_support import SLEEPER, Pair, wait_for
from tests.shapes import explain, merge, shape_of

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"


class Collector:
    """Runs commands and merges the shapes of their documents by command."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self.shapes: dict[str, Any] = {}

    def ask(self, node: str, name: str, *words: str) -> Any:
        return self._take(name, self._pair.ha(node, *words, "--json", timeout_s=120))

    def ask_sup(self, node: str, name: str, *words: str) -> Any:
        return self._take(name, self._pair.sup(node, *words, "--json"))

    def _take(self, name: str, done: subprocess.CompletedProcess[str]) -> Any:
        document = json.loads(done.stdout)
        assert document["schema"] == 1, done.args
        self.shapes[name] = merge(self.shapes.get(name, "nothing"), shape_of(document))
        return document


def test_every_document_has_its_shape_in_every_state(pair: Pair) -> None:
    pair.up(overrides={"sinks.void": {"kind": "command", "command": ["/bin/true"]}})
    pair.lab.wait_settled()
    pair.await_runs("node-a", {"p0", "p1", "p2"})
    seen = Collector(pair)
    for node in ("node-a", "node-b"):
        seen.ask(node, "status", "status")
        seen.ask(node, "history", "history", "-n", "100")
        seen.ask(node, "doctor", "doctor", "--peer")
        seen.ask(node, "sync", "sync")
        seen.ask(node, "switchover", "switchover", "--dry-run")
        seen.ask(node, "failover-test-list", "failover-test", "--list")
        seen.ask(node, "alert-list", "alert", "list", "-n", "200")
        seen.ask(node, "alert-test", "alert", "test")
        seen.ask(node, "maintenance", "maintenance")
        seen.ask(node, "config-check", "config", "check")
        seen.ask_sup(node, "supzcli-status", "status", "--pair")
    compare_configurations(pair, seen)
    seen.ask("node-a", "restore-list", "restore", "--list")
    for ago in ("1h", "0s"):
        seen.ask("node-a", "restore", "restore", "--at", ago, "--dry-run")
    pair.shell("node-a", "echo 'x = 1' > /tmp/bad.toml")
    seen.ask("node-a", "config-check", "config", "check", "--config", "/tmp/bad.toml")
    seen.ask("node-a", "alert-test", "alert", "test", "--sink", "none")
    with open(pair.path("node-b", "p0.conf"), "a", encoding="ascii") as file:
        file.write("; lost\n")
    with open(pair.path("node-b", "only-b.conf"), "w", encoding="ascii") as file:
        file.write(SLEEPER.format(name="only-b"))
    wait_for("the edit is seen", lambda: pair.lab.status("node-b")["replication"]["local_changes"], 10, 0.1)
    seen.ask("node-a", "diff", "diff")
    seen.ask("node-b", "diff", "diff")
    os.chmod(pair.path("node-a", "p1.conf"), 0o600)
    with open(pair.path("node-a", "bad.conf"), "w", encoding="ascii") as file:
        file.write("[program:bad]\ncommand=/nowhere/x\nnumprocs=l\n")
    with open(pair.path("node-a", "gone.conf"), "w", encoding="ascii") as file:
        file.write("[program:gone]\ncommand=/nowhere/x\nautostrat=true\n")
    with open(pair.path("node-a", "kept.conf.parked"), "w", encoding="ascii") as file:
        file.write(SLEEPER.format(name="kept"))
    seen.ask("node-a", "sync", "sync", "--full")
    wait_for("the verdicts", lambda: pair.lab.status("node-b")["readiness"]["problems"], 10, 0.1)
    pair.shell("node-a", "supervisorctl -c /etc/supervisor/supervisord.conf stop p2")
    seen.ask("node-a", "lint", "lint", "--registry", "--peer")
    seen.ask("node-b", "switchover", "switchover", "--yes")
    listed = seen.ask("node-a", "kept", "kept", "list")["kept"]
    seen.ask("node-a", "status", "status")
    for node in ("node-a", "node-b"):
        seen.ask(node, "kept-show", "kept", "show", listed[-1]["name"])
        seen.ask(node, "kept-diff", "kept", "diff", listed[-1]["name"])
        seen.ask(node, "kept-restore", "kept", "restore", listed[-1]["name"], "--as", "back.conf.parked")
    seen.ask("node-a", "kept-prune", "kept", "prune", "--older", "90d", "--yes")
    active = "node-b" if pair.role("node-b") == "active" else "node-a"
    for name in ("bad.conf", "gone.conf"):
        os.unlink(pair.path(active, name))
    pair.ha(active, "sync", "--accept-deletes")
    wait_for("a whole pair", lambda: pair.ha("node-a", "switchover", "--dry-run").returncode == 0, 20, 0.2, _say(pair))
    seen.ask("node-a", "maintenance-on", "maintenance", "on", "--for", "1min", "--reason", "shape")
    seen.ask("node-a", "maintenance", "maintenance")
    seen.ask("node-a", "status", "status")
    seen.ask("node-a", "failover-test", "failover-test", "--yes")
    seen.ask("node-a", "maintenance-on", "maintenance", "off")
    probe = "tcp://10.77.0.100:22"
    for mode in ("switchover", "keepalived-kill"):
        seen.ask("node-a", "failover-test", "failover-test", "--yes", "--and-back", "--mode", mode, "--probe", probe)
    seen.ask("node-a", "failover-test-list", "failover-test", "--list")
    seen.ask("node-a", "failover-test", "failover-test", "--dry-run")
    seen.ask("node-a", "switchover", "switchover", "--yes")
    assert seen.ask("node-b", "standby", "standby", "node-c", "--yes", "node-a")["outcome"] == "refused"
    assert seen.ask("node-b", "standby", "standby", "node-a", "--reason", "shape")["problems"] != []
    ordered = seen.ask("node-b", "standby", "standby", "node-a", "--yes", "node-b", "--reason", "shape")
    assert (ordered["outcome"], ordered["said"][-1]) == ("done", "node-a stays standby until: ha-agent unstandby node-a")
    assert seen.ask("node-b", "standby", "unstandby", "node-a", "--yes", "node-b")["outcome"] == "done"
    assert seen.ask("node-b", "takeover", "takeover", "--peer-is-off", "--yes", "node-a")["outcome"] == "refused"
    pair.lab.power_off("node-a")
    wait_for("it is seen", lambda: pair.is_alone("node-b"), 15, 0.2)
    pair.await_role("node-b", "active")
    for name, *words in (
        ("status", "status"),
        ("history", "history"),
        ("sync", "sync"),
        ("switchover", "switchover", "--yes"),
        ("doctor", "doctor", "--peer"),
        ("kept", "kept", "list"),
        ("maintenance", "maintenance"),
        ("kept-prune", "kept", "prune", "--older", "90d", "--yes"),
    ):
        seen.ask("node-b", name, *words)
    seen.ask_sup("node-b", "supzcli-status", "status", "--pair")
    wait_for("the lost peer is an alert", lambda: pair.has_told("node-b", "peer-lost"), 30, 0.3)
    seen.ask("node-b", "alert-list", "alert", "list", "-n", "200")
    compare(seen.shapes)


def compare_configurations(pair: Pair, seen: Collector) -> None:
    """The two files made different, and alike again."""
    for number in ("9", "3"):
        script = f"s/^#*mass_delete_minimum = .*/mass_delete_minimum = {number}/"
        pair.shell("node-a", f"sed -i '{script}' /etc/ha-agent/agent.toml")
        seen.ask("node-a", "config-diff", "config", "diff")
        seen.ask("node-a", "config-diff", "config", "diff", "--peer")
        seen.ask("node-a", "config-apply", "config", "apply", "--peer", "--dry-run")
        seen.ask("node-a", "config-apply", "config", "apply", "--peer", "--yes")
        alike = lambda: pair.ha("node-a", "config", "diff", "--peer").returncode == 0  # noqa: E731
        wait_for("node-b works with it", alike, 20, 0.3)
        seen.ask("node-a", "config-apply", "config", "apply", "--peer", "--yes")
    pair.lab.wait_settled()


def _say(pair: Pair) -> Callable[[], str]:
    return lambda: str(pair.ha("node-a", "switchover", "--dry-run"))


def compare(shapes: dict[str, Any]) -> None:
    """Compares with the golden files, or writes them."""
    if os.environ.get("HA_AGENT_GOLDEN") == "write":
        for name, shape in shapes.items():
            (GOLDEN / f"{name}.json").write_text(json.dumps(shape, indent=2, sort_keys=True) + "\n", encoding="ascii")
        return
    assert sorted(shapes) == sorted(path.stem for path in GOLDEN.glob("*.json"))
    for name, shape in shapes.items():
        golden = json.loads((GOLDEN / f"{name}.json").read_text(encoding="ascii"))
        differences = explain(merge(golden, shape), golden)
        assert not differences, f"{name}: a field or type that docs/json.md does not promise: {differences}"
