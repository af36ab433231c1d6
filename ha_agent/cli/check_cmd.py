"""``ha-agent check role|standby|replication``: one part of the judgement in one line, for scripts and monitoring systems."""

from __future__ import annotations

import argparse
import json
import time

from ha_agent.adapters.control import CommandFailed, NoDaemon
from ha_agent.cli.nodes import Nodes
from ha_agent.cli.options import Commands, settings_of
from ha_agent.core.findings import NAGIOS, Severity
from ha_agent.core.node_json import NodeJson
from ha_agent.core.problems import Problem, Rank, find_problems, verdict

PARTS = {
    "role": (Rank.SERVICE, Rank.TWICE),
    "standby": (Rank.STANDBY,),
    "replication": (Rank.DATA,),
}
"""Which problems each part is about."""

WELL = {
    "role": "exactly one node is active, and has the VIP",
    "standby": "the standby could take over",
    "replication": "nothing would be lost by a failover",
}


def add_parser(commands: Commands) -> None:
    """Adds the command's grammar."""
    summary = "one part of the state in one line; exit status as a Nagios plugin's: 0, 1, 2, 3"
    parser = commands.add("check", summary, "ha-agent check standby", run)
    parser.add_argument("part", choices=list(PARTS), help="roles and VIP, the standby's fitness, or replication")
    parser.add_argument("--json", action="store_true", help="as JSON (docs/json.md)")


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns 0, 1, 2 or 3. Where nothing can be found out that is 3."""
    try:
        seen = Nodes(settings_of(options)).status()
    except (NoDaemon, CommandFailed, TimeoutError) as error:
        return _say(options, Severity.UNKNOWN, str(error) or "the agent did not answer", [])
    found = [p for p in find_problems(seen, time.time()) if p.rank in PARTS[options.part]]
    if not found and not all(n["reachable"] for n in seen):
        # Silence is a problem of rank STANDBY, or SERVICE; what else is so there is not known.
        return _say(options, Severity.UNKNOWN, "one node does not answer", [])
    if not found and (severity_and_text := _of_roles(options.part, seen)) is not None:
        return _say(options, *severity_and_text, [])
    if not found:
        return _say(options, Severity.OK, WELL[options.part], [])
    severity, text = verdict(seen, found)
    return _say(options, severity, text, found)


def _of_roles(part: str, seen: list[NodeJson]) -> tuple[Severity, str] | None:
    """What the roles alone say of ``part``; None where there is one active node, and one that could take over."""
    roles = {n["name"]: n.get("role") for n in seen}
    if any(role in ("taking_over", "releasing") for role in roles.values()):
        return verdict(seen, [])
    if part != "role" and sorted(map(str, roles.values())) != ["active", "standby"]:
        said = ", ".join(f"{name} is {role}" for name, role in roles.items())
        return Severity.UNKNOWN, f"the pair does not have one active node and one standby: {said}"
    return None


def _say(options: argparse.Namespace, severity: Severity, text: str, found: list[Problem]) -> int:
    if options.json:
        document = {"schema": 1, "part": options.part, "severity": severity.name.lower(), "verdict": text}
        print(json.dumps({**document, "problems": [p.to_dict() for p in found]}, indent=2))
    else:
        print(f"HA-AGENT {NAGIOS[severity]} - {text}".replace("|", "/"))
    return int(severity)
