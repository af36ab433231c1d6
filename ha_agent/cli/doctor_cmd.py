"""``ha-agent doctor``: looks at everything that a failover will need, and says of each fault its cause and remedy."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from ha_agent.adapters.control import CommandFailed, NoDaemon
from ha_agent.adapters.terminal import finding_lines
from ha_agent.cli.doctor import (
    health_checks,
    keepalived,
    link,
    machine,
    pair,
    payload,
    payload_paths,
    role_hooks,
    supervisor,
    votes,
)
from ha_agent.cli.doctor.context import Context, error, run_checks
from ha_agent.cli.nodes import Nodes, PeerUnreachable
from ha_agent.cli.options import Commands, settings_of
from ha_agent.core.findings import NAGIOS, Finding, Severity, worst_first, worst_severity
from ha_agent.core.reasons import reason_of
from ha_agent.core.schema import SettingsError
from ha_agent.core.visible import visible
from ha_agent.core.width import count_text

SCHEMA = 1
PEER_S = 40.0

CHECKS = {
    **machine.CHECKS,
    **role_hooks.CHECKS,
    **health_checks.CHECKS,
    **payload_paths.CHECKS,
    **keepalived.CHECKS,
    **supervisor.CHECKS,
    **link.CHECKS,
    **votes.CHECKS,
    **payload.CHECKS,
    **pair.CHECKS,
}


def add_parser(commands: Commands) -> None:
    """Adds the command's grammar."""
    summary = "check what a failover will need; changes nothing; exit status as a Nagios plugin's: 0, 1, 2, 3"
    parser = commands.add("doctor", summary, "ha-agent doctor --peer", run)
    parser.add_argument("--peer", action="store_true", help="also have the peer examine itself")
    parser.add_argument("--all", action="store_true", help="show also what is well")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--nagios", action="store_true", help="one line for a monitoring system")
    form.add_argument("--json", action="store_true", help="as JSON (docs/json.md)")


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns 0, 1, 2 or 3 as Nagios plugins do."""
    results = examine(options)
    findings = [f for found in results.values() for f in found]
    worst = worst_severity(findings)
    if options.json:
        print(json.dumps(document(results), indent=2))
    elif options.nagios:
        print(nagios_line(findings))
    else:
        for node, found in results.items():
            _show(node, found, everything=options.all)
    return int(worst)


def examine(options: argparse.Namespace) -> dict[str, list[Finding]]:
    """The findings by node. A configuration that cannot be used is all that is found then."""
    try:
        settings = settings_of(options)
    except OSError as problem:
        text = f"{options.config}: {problem.strerror}"
        return {"this node": [error("config", text, f"ha-agent config sample > {options.config}")]}
    except SettingsError as problems:
        remedy = f"correct {options.config}, then ha-agent config check"
        return {"this node": [error("config", f"{options.config}: {problem}", remedy) for problem in problems.problems]}
    results = {settings.node.name: run_checks(CHECKS, Context(settings, options.config))}
    if options.peer:
        own = {(f.code, f.text) for f in results[settings.node.name]}
        # What is the pair's own both nodes find.
        results[settings.peer.name] = [
            f for f in examine_peer(Nodes(settings)) if not f.is_wrong or (f.code, f.text) not in own
        ]
    return results


def document(results: dict[str, list[Finding]]) -> dict[str, Any]:
    """The document of ``--json``."""
    findings = [f for found in results.values() for f in found]
    return {
        "schema": SCHEMA,
        "worst": worst_severity(findings).name.lower(),
        "nodes": [{"name": node, "findings": [f.to_dict() for f in worst_first(found)]} for node, found in results.items()],
    }


def examine_peer(nodes: Nodes) -> list[Finding]:
    """What the peer's own doctor says."""
    try:
        answer = nodes.ask_peer({"op": "doctor"}, PEER_S)
        if answer.get("failure"):
            raise CommandFailed(str(answer["failure"]))
        return [Finding.from_dict(row) for node in answer["report"]["nodes"] for row in node["findings"]]
    except (PeerUnreachable, CommandFailed, NoDaemon, TimeoutError, KeyError) as problem:
        text = f"{nodes.peer_name} could not be examined: {reason_of(problem)}"
        return [Finding("peer-not-examined", Severity.UNKNOWN, text, f"run ha-agent doctor at {nodes.peer_name}")]


def nagios_line(findings: Sequence[Finding]) -> str:
    """One line: the worst severity, how many have it, the first, and performance data (monitoring-plugins guidelines)."""
    worst = worst_severity(findings)
    counts = {s: sum(1 for f in findings if f.severity is s) for s in Severity}
    said = worst_first(findings)[0].text if worst is not Severity.OK else count_text(len(findings), "check")
    first = visible(said).replace("|", "/")
    perf = f"errors={counts[Severity.ERROR]} warnings={counts[Severity.WARNING]} unknown={counts[Severity.UNKNOWN]}"
    more = len(findings) - counts[Severity.OK] - 1
    return f"HA-AGENT {NAGIOS[worst]} - {first}{f' (and {more} more)' if more > 0 else ''} | {perf}"


def _show(node: str, found: Sequence[Finding], *, everything: bool) -> None:
    shown = [f for f in worst_first(found) if everything or f.severity is not Severity.OK]
    good = sum(1 for f in found if f.severity is Severity.OK)
    passed = count_text(good, "check") if good == len(found) else f"{good} of {count_text(len(found), 'check')}"
    print(f"{node}: {passed} passed")
    for finding in shown:
        print("\n".join(finding_lines(finding, "  ")))
