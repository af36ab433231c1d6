"""Metrics scraped by a real Prometheus (Debian's), with the shipped rules loaded."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pathlib
import re
import subprocess
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest

from ha_agent.lab.layout import ADDRESSES, NODES
from tests.lab_support import Pair, sleepers, wait_for
from tests.receivers import network_of
from tests.web_support import PORT, Web

ROOT = pathlib.Path(__file__).parents[2]
RULES = ROOT / "share" / "prometheus" / "ha-agent.rules.yml"
PROMETHEUS_PORT = 9094


class Prometheus:
    """A Prometheus in the network outside the nodes, which scrapes both of them every half second."""

    def __init__(self, pair: Pair, folder: pathlib.Path) -> None:
        self._pair = pair
        targets = ", ".join(f'"{ADDRESSES[node]}:{PORT}"' for node in NODES)
        conf = (
            "global: {scrape_interval: 500ms, evaluation_interval: 500ms}\n"
            f'rule_files: ["{RULES}"]\n'
            f"scrape_configs:\n  - job_name: ha-agent\n    static_configs: [{{targets: [{targets}]}}]\n"
        )
        (folder / "prometheus.yml").write_text(conf, encoding="ascii")
        words = ["/usr/bin/prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        words.append(f"--web.listen-address=127.0.0.1:{PROMETHEUS_PORT}")
        with open(folder / "prometheus.log", "wb") as log, network_of(pair.lab):
            self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def ask(self, path: str, **query: str) -> Any:
        with network_of(self._pair.lab):
            connection = http.client.HTTPConnection("127.0.0.1", PROMETHEUS_PORT, timeout=10)
            with contextlib.closing(connection):
                connection.request("GET", f"/api/v1/{path}?{urllib.parse.urlencode(query)}")
                response = connection.getresponse()
                if response.status == http.client.SERVICE_UNAVAILABLE:
                    raise ConnectionError("Prometheus has begun to listen, and is not ready")
                return json.loads(response.read())["data"]

    def value(self, expression: str) -> dict[str, float]:
        """The value of an expression by node; nothing as long as Prometheus does not answer."""
        names = {f"{ADDRESSES[node]}:{PORT}": node for node in NODES}
        try:
            rows = self.ask("query", query=expression)["result"]
        except OSError:
            return {}
        return {names.get(row["metric"].get("instance", ""), "pair"): float(row["value"][1]) for row in rows}

    def firing(self) -> set[str]:
        return {row["labels"]["alertname"] for row in self.ask("alerts")["alerts"] if row["state"] == "firing"}

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(15)


@pytest.fixture
def webs(pair: Pair) -> Iterator[list[Web]]:
    made = [Web(pair, node) for node in NODES]
    yield made
    for web in made:
        web.stop()


def test_a_real_prometheus_sees_roles_programs_and_a_failover_and_its_rules_fire(
    pair: Pair, webs: list[Web], tmp_path: pathlib.Path
) -> None:
    """Design, metrics: scraped by a real Prometheus, rules loaded.

    Fault: a program that cannot be started, an edit that the peer does not get, a switchover, an agent that ends.
    Answer: each of them is in the metrics, and the shipped rules fire.
    Bound: 20 s for roles; the rules' own times beyond that.
    """
    pair.up({**sleepers(3), "bad.conf": "[program:bad]\ncommand=/bin/false\nstartretries=0\n"})
    pair.lab.wait_settled()
    for web in webs:
        web.add_users()
        web.start()
    prometheus = Prometheus(pair, tmp_path)
    try:
        active = 'ha_agent_role{role="active"}'
        wait_for("both are scraped", lambda: prometheus.value("ha_agent_up") == {"node-a": 1, "node-b": 1}, 30, 0.2)
        assert prometheus.value(active) == {"node-a": 1, "node-b": 0}
        running = 'ha_agent_programs{kind="registry",state="RUNNING"}'
        wait_for("the programs", lambda: prometheus.value(running) == {"node-a": 3, "node-b": 0}, 10, 0.2)
        assert prometheus.value('ha_agent_program_up{program="p0"}') == {"node-a": 1}
        assert prometheus.value("ha_agent_ready_confs")["node-b"] == 4
        loaded = [rule["name"] for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
        assert len(loaded) == 12 and all(r["health"] != "err" for g in prometheus.ask("rules")["groups"] for r in g["rules"])
        seen = json.loads(pair.ha("node-a", "status", "--json").stdout)
        assert {p["code"] for p in seen["problems"]} == {"program-fatal"}
        said = 'ha_agent_problems{code="program-fatal",severity="error"}'
        wait_for("the judgement", lambda: prometheus.value(said) == {"node-a": 1, "node-b": 1}, 10, 0.2)
        assert prometheus.value('ha_agent_verdict{severity="error"}') == {"node-a": 1, "node-b": 1}
        pair.hand_over("node-b")
        wait_for("the new roles", lambda: prometheus.value(active) == {"node-a": 0, "node-b": 1}, 20, 0.2)
        assert prometheus.value('ha_agent_transition_seconds_count{plan="takeover"}')["node-b"] == 1
        last = 'ha_agent_last_transition_seconds{plan="release"}'
        wait_for("the release", lambda: 0 < prometheus.value(last)["node-a"] < 10, 10, 0.2)
        pair.lab.unit("node-a", "stop", "ha-agent")
        wait_for("its absence", lambda: prometheus.value("ha_agent_up") == {"node-a": 0, "node-b": 1}, 20, 0.2)
        wanted = {"HaAgentProgramDown", "HaAgentDown", "HaAgentPeerLost", "HaAgentProblem"}
        wait_for("the rules fire", lambda: wanted <= prometheus.firing(), 75, 0.5, lambda: str(prometheus.firing()))
        assert "HaAgentNoActiveNode" not in prometheus.firing()
    finally:
        prometheus.stop()


def test_promtool_accepts_rules_and_metrics_and_the_documentation_names_each(pair: Pair, webs: list[Web]) -> None:
    """Design, metrics: documented names in Prometheus' conventions, rules that promtool accepts.

    Fault: none; every metric of a node that works, with a witness, a health check and payload, of one whose agent is
    away, and those of rules and dashboard.
    Answer: promtool finds nothing to complain about, docs/metrics.md has each of them, no panel asks for another.
    Bound: none needed.
    """
    check = {"kind": "running", "program": "p0", "on_failure": "restart"}
    pair.up(witness="ssh", overrides={"checks.p0": check, "payload": {"paths": ["/opt/app"]}})
    web = webs[0]
    web.add_users()
    web.start()
    checked = subprocess.run(["/usr/bin/promtool", "check", "rules", str(RULES)], capture_output=True, text=True)
    assert checked.returncode == 0 and "12 rules found" in checked.stdout, checked
    documented = set(re.findall(r"`(ha_agent_[a-z_]+)", (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")))

    def names_of(text: str) -> set[str]:
        return set(re.findall(r"^# TYPE (\S+)", text, re.M))

    # What is not known yet has no value.
    wait_for("all of them", lambda: documented <= names_of(web.get("/metrics").text), 30.0)
    text = web.get("/metrics").text
    linted = subprocess.run(["/usr/bin/promtool", "check", "metrics"], input=text, capture_output=True, text=True)
    assert linted.returncode == 0 and not linted.stderr, linted
    names = names_of(text)
    assert names - documented == set() == documented - names
    known = names | {f"{name}_count" for name in names} | {f"{name}_sum" for name in names}
    for file in (RULES, ROOT / "share" / "grafana" / "ha-agent.json"):
        used = set(re.findall(r"ha_agent_[a-z_]+", file.read_text(encoding="utf-8")))
        assert used <= known | {"ha_agent_info"}, f"{file.name}: {used - known}"
    for path in ("/metrics", "/active", "/healthz"):
        assert web.get(path).headers["cache-control"] == "no-store"
    closed = Web(pair, "node-a", "open_metrics = false\n", port=8423)
    closed.add_users()
    closed.start()
    try:
        assert closed.get("/metrics").status == 401
        token = closed.add_token("prometheus", operator=False)
        assert closed.get("/metrics", Authorization=f"Bearer {token}").status == 200
        assert os.stat(os.path.join(closed.folder, "web-users.json")).st_mode & 0o007 == 0
    finally:
        closed.stop()
