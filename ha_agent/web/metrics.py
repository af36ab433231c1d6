"""Prometheus metrics of this node, made of its agent's view at the moment of a scrape (docs/metrics.md).

Names follow prometheus.io/docs/practices/naming: base units, ``_total`` for what only grows, one gauge a state with 0 and 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily

from ha_agent.core.findings import Severity
from ha_agent.core.problems import Problem
from ha_agent.core.supervisor_words import PARKED_STATE, WAITING_STATE, State
from ha_agent.core.words import Role, VrrpState

KINDS = ("registry", "local", "parked", "waiting")
OWN_STATES = {"parked": PARKED_STATE, "waiting": WAITING_STATE}
"""Kinds of programs that supervisord does not have, and what is shown as their state."""


def render_metrics(
    view: Mapping[str, Any] | None, pair: str, age_s: float, problems: Sequence[Problem] | None = None
) -> bytes:
    """The text of a scrape. ``view`` is None where the agent does not answer: then ``ha_agent_up`` is 0.

    ``age_s``: seconds since the view was made. ``problems``: the judgement of the pair, None where it is not known yet.
    """
    registry = CollectorRegistry()
    registry.register(_View(view, pair, age_s, problems))
    ProcessCollector(namespace="ha_agent_web", registry=registry)
    return generate_latest(registry)


class _View:
    """A collector of one view; made for each scrape."""

    def __init__(self, view: Mapping[str, Any] | None, pair: str, age_s: float, problems: Sequence[Problem] | None) -> None:
        self._view, self._pair, self._age_s, self._problems = view, pair, age_s, problems

    def describe(self) -> list[Metric]:
        """Nothing: what is there depends on the view."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every family of metrics."""
        yield _gauge("up", "1 where the agent of this node answers", 0 if self._view is None else 1)
        if self._view is None:
            return
        yield _gauge("view_age_seconds", "Age of what this page is made of", self._age_s)
        node = self._view["node"]
        if self._problems is not None:
            yield from _judgement(self._problems)
        yield from _roles(node, self._pair)
        yield from _votes(node)
        yield from describe_checks(node)
        yield from describe_payload_sync(node)
        yield from describe_payload(node)
        yield from _replication(node)
        yield from _programs(self._view["programs"])
        yield from _alerts(self._view["alerts"])
        yield from _figures(self._view["figures"])


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"ha_agent_{name}", text, value=value)


def _labelled(name: str, text: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"ha_agent_{name}", text, labels=[label])
    for word, value in values.items():
        family.add_metric([word], value)
    return family


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(f"ha_agent_{name}", text, value=value)


def _judgement(problems: Sequence[Problem]) -> Iterator[Metric]:
    """What is wrong with the pair, as ``ha-agent status`` says it on this node."""
    family = GaugeMetricFamily("ha_agent_problems", "What is wrong with the pair", labels=["code", "severity"])
    for (code, severity), count in Counter((p.code, p.severity) for p in problems).items():
        family.add_metric([code, severity.name.lower()], count)
    yield family
    worst = max((p.severity for p in problems), default=Severity.OK)
    words = {severity.name.lower(): int(severity is worst) for severity in Severity}
    yield _labelled("verdict", "1 for how bad the worst of them is", "severity", words)


def _roles(node: Mapping[str, Any], pair: str) -> Iterator[Metric]:
    info = GaugeMetricFamily("ha_agent_info", "1; what runs here", labels=["node", "pair", "version"])
    info.add_metric([node["name"], pair, node["version"]], 1)
    yield info
    yield _labelled("role", "1 for the role of this node", "role", {r.value: int(node["role"] == r.value) for r in Role})
    states = {state.value: int(node["vrrp_state"] == state.value) for state in VrrpState}
    yield _labelled("vrrp_state", "1 for what keepalived reports", "state", states)
    yield _gauge("vip", "1 where a virtual address is on this node", int(node["vip"] is True))
    vips = {vip: int(here is True) for vip, here in node.get("vips", {}).items()}
    yield _labelled("vip_here", "1 for each virtual address that is on this node", "address", vips)
    yield _gauge("keepalived_up", "1 where keepalived runs", int(node["keepalived"] == "up"))
    yield _gauge("supervisord_up", "1 where supervisord answers", int(node["supervisord"] == "up"))
    yield _gauge("epoch", "Number of takeovers of the pair that this node knows of", node["epoch"])
    yield _gauge("generation", "Revision of the registry within the epoch", node["generation"])
    yield _gauge("maintenance", "1 while maintenance is on", int(node["maintenance"] is not None))
    ordered = node.get("standby_order") is not None
    yield _gauge("standby_ordered", "1 while this node is to stay standby by an operator's order", int(ordered))
    yield _gauge("unfit", "1 while this node must not be MASTER", int(node["unfit"] is not None))
    yield _gauge("left_running_processes", "Processes of the registry that cannot be ended", node["left_running"])
    if transition := node.get("last_transition"):
        yield _gauge("last_transition_timestamp_seconds", "When the role changed last", transition["at"])


def _votes(node: Mapping[str, Any]) -> Iterator[Metric]:
    """Only of a node with a witness."""
    votes = node.get("votes")
    if not votes:
        return
    yield _gauge("votes", "Votes that this node has been promised, of three", len(votes["promised"]))
    yield _gauge("votes_used", "1 while programs may run here on votes", int(votes["used"]))
    yield _gauge("witness_up", "1 where the witness answers this node", int(votes["witness_silent_s"] is None))
    yield _gauge("keeper_up", "1 where the keeper of the deadline can be had", int(votes["keeper_problem"] is None))


def describe_payload_sync(node: Mapping[str, Any]) -> Iterator[Metric]:
    """Only of an active node with payload. What is not known has no value."""
    payload = node.get("payload_sync")
    if not payload or node["role"] != "active":
        return
    yield _gauge("payload_in_sync", "1 where the peer has all files of the payload", int(payload["state"] == "in_sync"))
    yield _gauge("payload_files", "Files and links of the payload", payload["files"])
    yield _gauge("payload_bytes", "Size of the payload", payload["bytes"])
    if payload["pending"] is not None:
        yield _gauge("payload_pending", "Files, links and directories that the peer has otherwise", payload["pending"])
    if payload["at"] is not None:
        yield _gauge("payload_last_sync_timestamp_seconds", "When the peer had all of it for the last time", payload["at"])


def describe_checks(node: Mapping[str, Any]) -> Iterator[Metric]:
    """Only of a node with health checks. What is not known yet has no value."""
    checks = node.get("checks") or []
    if not checks:
        return
    labels = ["check", "kind", "program"]
    up = GaugeMetricFamily("ha_agent_check_up", "1 where a health check passes, 0 where it fails", labels=labels)
    took = GaugeMetricFamily("ha_agent_check_seconds", "How long the last look of a health check took", labels=labels)
    restarts = GaugeMetricFamily("ha_agent_check_restarts", "Restarts for a health check within the last day", labels=labels)
    for check in checks:
        words = [check["name"], check["kind"], check["program"] or ""]
        if check["health"] != "unknown":
            up.add_metric(words, int(check["health"] == "passing"))
        if check["took_s"] is not None:
            took.add_metric(words, check["took_s"])
        restarts.add_metric(words, check["restarts"])
    yield from (up, took, restarts)


def describe_payload(node: Mapping[str, Any]) -> Iterator[Metric]:
    """Only of a node that compares files. What is not known has no value."""
    payload = node.get("payload")
    if not payload:
        return
    differing = {program for drift in payload["drifts"] for program in drift["programs"]}
    is_known = payload["state"] in ("equal", "differs")
    yield _gauge("payload_known", "1 where it is known whether the files of programs are the same", int(is_known))
    text = "Programs whose files or users are not the same on both nodes"
    if is_known:
        yield _gauge("payload_differing_programs", text, len(differing))
        yield _gauge("payload_compared_files", "Files that are compared with the other node's", payload["files"])


def _replication(node: Mapping[str, Any]) -> Iterator[Metric]:
    replication, registry, readiness = node["replication"], node["registry"], node["readiness"]
    words = ("in_sync", "pending", "held", "refused", "unreachable", "receiving")
    states = {word: int(replication["state"] == word) for word in words}
    yield _labelled("replication_state", "1 for the state of replication", "state", states)
    yield _gauge("peer_up", "1 where the other node can be reached", int(replication["state"] != "unreachable"))
    since, pending = replication.get("pending_since"), replication.get("pending")
    yield _gauge(
        "replication_lag_seconds", "Age of the oldest change that the peer lacks", node["at"] - since if since else 0
    )
    paths = {path["address"]: int(path["up"] is True) for path in node.get("paths", [])}
    yield _labelled("path_up", "1 for each of several paths over which the other node answers", "address", paths)
    yield _gauge("replication_pending_changes", "Changes that the peer lacks", pending or 0)
    yield _gauge("standby_local_changes", "Changes made on the standby", len(replication.get("local_changes") or ()))
    yield _gauge("registry_confs", "Files in the registry", registry["confs"])
    yield _gauge("registry_parked_confs", "Of these, parked", len(registry["parked"]))
    yield _gauge("ready_confs", "Confs that this node can load", readiness["loadable"])
    yield _gauge("not_loadable_confs", "Confs that this node cannot load", len(readiness["problems"]))
    yield _gauge("not_startable_confs", "Confs whose programs this node cannot start", len(readiness["warnings"]))


def _programs(rows: list[Mapping[str, Any]]) -> Iterator[Metric]:
    counts = Counter((row["kind"], row["state"]) for row in rows)
    family = GaugeMetricFamily("ha_agent_programs", "Processes by kind and state", labels=["kind", "state"])
    for kind in KINDS:
        for state in (OWN_STATES[kind],) if kind in OWN_STATES else tuple(State):
            family.add_metric([kind, state], counts[kind, state])
    yield family
    up = GaugeMetricFamily("ha_agent_program_up", "1 where a program is RUNNING", labels=["program", "kind"])
    started = GaugeMetricFamily("ha_agent_program_start_time_seconds", "When a program was started", labels=["program"])
    for row in rows:
        up.add_metric([row["name"], row["kind"]], int(row["state"] == State.RUNNING))
        if row["since"] and row["pid"]:
            started.add_metric([row["name"]], row["since"])
    yield up
    yield started


def _alerts(alerts: Mapping[str, Any]) -> Iterator[Metric]:
    counts = Counter((row["code"], row["severity"]) for row in alerts["lasting"] if row["told"])
    family = GaugeMetricFamily("ha_agent_alerts", "Active alerts", labels=["code", "severity"])
    for (code, severity), count in counts.items():
        family.add_metric([code, severity], count)
    yield family
    for key, name, text in (
        ("delivered", "alert_deliveries", "Alerts that a sink has taken"),
        ("dropped", "alert_drops", "Alerts that a sink never got"),
    ):
        total = CounterMetricFamily(f"ha_agent_{name}", text, labels=["sink"])
        for sink, state in alerts["sinks"].items():
            total.add_metric([sink], state[key])
        yield total
    waiting = {sink: state["waiting"] for sink, state in alerts["sinks"].items()}
    yield _labelled("alerts_waiting", "Alerts that wait for a sink", "sink", waiting)


def _figures(figures: Mapping[str, Any]) -> Iterator[Metric]:
    durations = SummaryMetricFamily(
        "ha_agent_transition_seconds", "Takeovers and releases, and how long they took", labels=["plan"]
    )
    last = GaugeMetricFamily("ha_agent_last_transition_seconds", "How long the last one took", labels=["plan"])
    failed = CounterMetricFamily("ha_agent_transition_failures", "Attempts that could not be finished", labels=["plan"])
    for plan, row in figures["plans"].items():
        durations.add_metric([plan], count_value=row["count"], sum_value=row["sum_s"])
        last.add_metric([plan], row["last_s"])
        failed.add_metric([plan], row["failed"])
    yield durations
    yield last
    yield failed
    events = CounterMetricFamily(
        "ha_agent_history_events", "Events of the history since the agent was started", labels=["code"]
    )
    for code, count in figures["history_events"].items():
        events.add_metric([code], count)
    yield events
    yield _counter("pushes", "Changes of the registry that were sent to the peer", figures["pushes"])
    listener = figures["listener"]
    yield _counter("program_events", "Changes of state that supervisord told of", listener["taken"] + listener["merged"])
    yield _counter("program_events_lost", "Of these, lost before they were taken", listener["lost"])
    yield _labelled(
        "size_bytes", "Files of the agent", "what", {k: v for k, v in figures["sizes"].items() if k != "state_dir_free"}
    )
    yield _gauge("state_dir_free_bytes", "Free space below the agent's state directory", figures["sizes"]["state_dir_free"])
    process = figures["process"]
    yield _gauge("process_resident_memory_bytes", "Memory of the agent", process["resident"])
    yield _counter("process_cpu_seconds", "Processor time of the agent", process["cpu_s"])
    yield _gauge("process_open_fds", "Open descriptors of the agent", process["open_fds"])
    yield _gauge("process_start_time_seconds", "When the agent was started", figures["started"])
