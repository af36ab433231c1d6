"""``ha-agent witness``: what both nodes know of the votes, and whether the witness answers this node."""

from __future__ import annotations

import argparse
import asyncio
import json
from dataclasses import asdict
from typing import Any

from ha_agent.cli.nodes import Nodes
from ha_agent.cli.options import Commands, settings_of
from ha_agent.cli.witness_install import add_install
from ha_agent.cli.witness_try import Tried, say_tried, try_witness
from ha_agent.core.node_json import NodeJson
from ha_agent.core.settings import Settings
from ha_agent.core.votes_text import say_votes_of
from ha_agent.core.words import Exit

SCHEMA = 1


def add_parser(commands: Commands) -> None:
    """Adds the command's grammar."""
    summary = "the votes of a pair with a witness (docs/votes.md)"
    parts = commands.add_group("witness", summary, "ha-agent witness status", "status|test|install")
    status = parts.add("status", "show both nodes' votes, witness and keeper", "ha-agent witness status", _run_status)
    test = parts.add("test", "ask the witness from this node, without the agent", "ha-agent witness test", _run_test)
    for parser in (status, test):
        parser.add_argument("--json", action="store_true", help="as JSON (docs/json.md)")
    add_install(parts)


# ---- status -------------------------------------------------------------------------------------------------


def _run_status(options: argparse.Namespace) -> int:
    """Returns 0 where both nodes have all that they need for their votes, else 1."""
    seen = Nodes(settings_of(options)).status()
    if options.json:
        rows = [{"name": n["name"], "votes": n.get("votes") if n["reachable"] else None} for n in seen]
        print(json.dumps({"schema": SCHEMA, "command": "witness status", "nodes": rows}, indent=2))
    else:
        print("\n".join(line for node in seen for line in list_lines(node)))
    return Exit.DONE if all(is_whole(node) for node in seen) else Exit.FAILED


def is_whole(node: NodeJson) -> bool:
    """Whether a node has its witness, its keeper, and, where it uses votes, all three."""
    votes = node.get("votes") if node["reachable"] else None
    if not votes or votes["witness_silent_s"] is not None or votes["keeper_problem"] is not None:
        return False
    return not votes["used"] or len(votes["promised"]) > 2


def list_lines(node: NodeJson) -> list[str]:
    """What is said of one node."""
    name = node["name"]
    if not node["reachable"]:
        return [f"{name}: does not answer"]
    votes = node.get("votes")
    if not votes:
        return [f"{name}: no witness is configured"]
    lines = [f"{name}: {say_votes_of(votes, name)}"]
    if votes["left_s"] is not None:
        lines.append(f"  if nobody renews, what runs is killed in {votes['left_s']:.1f} s")
    if votes["adopts"]:
        lines.append("  programs run that were started before there was a witness: they are not held by votes yet")
    keeper = votes["keeper_problem"]
    return [*lines, f"  keeper: {keeper or 'there'}"]


# ---- test ---------------------------------------------------------------------------------------------------


def _run_test(options: argparse.Namespace) -> int:
    """Returns 0 where the witness answers in time, 1 where it does not, 3 where none is configured."""
    settings = settings_of(options)
    if not settings.witness.kind:
        print("no witness is configured: [witness] in agent.toml (docs/votes.md)")
        return Exit.REFUSED
    tried = asyncio.run(try_witness(settings))
    if options.json:
        print(json.dumps(to_document(settings, tried), indent=2))
    else:
        print(say_tried(settings, tried))
    return Exit.FAILED if tried.problem else Exit.DONE


def to_document(settings: Settings, tried: Tried) -> dict[str, Any]:
    """As JSON."""
    return {
        "schema": SCHEMA,
        "command": "witness test",
        "kind": settings.witness.kind,
        "problem": tried.problem or None,
        "took_ms": list(tried.took_ms),
        "record": asdict(tried.record) if tried.record is not None else None,
    }
