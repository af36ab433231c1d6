"""``ha-agent restore``: the whole registry as it was at another time; what that adds, changes and deletes is said first."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from typing import Any

from ha_agent.adapters.terminal import complain, is_yes
from ha_agent.cli.history_cmd import moment
from ha_agent.cli.nodes import Nodes
from ha_agent.cli.options import Commands, settings_of
from ha_agent.core.visible import visible
from ha_agent.core.width import count_text
from ha_agent.core.words import CommandOutcome, Exit, Outcome

SCHEMA = 1
ANSWER_S = 90.0
EXITS: Mapping[str, Exit] = {
    Outcome.DONE: Exit.DONE,
    Outcome.REFUSED: Exit.REFUSED,
    Outcome.FAILED: Exit.FAILED,
    CommandOutcome.WOULD_DO: Exit.DONE,
    CommandOutcome.DECLINED: Exit.REFUSED,
}
"""Of any other outcome the registry is restored here, and the peer lacks it."""

SIGNS = {"added": "+", "changed": "~", "deleted": "-", "lost": "?"}
WORK = ("added", "changed", "deleted")


def add_parser(commands: Commands) -> None:
    """Adds the command's grammar."""
    summary = "make the whole registry what it was at another time; on the active node (root)"
    parser = commands.add("restore", summary, "ha-agent restore --at 14:30 --dry-run", run)
    chosen = parser.add_mutually_exclusive_group(required=True)
    when = "2h (ago), 14:30, or a local time such as 2026-11-21T14:00"
    chosen.add_argument("--at", type=moment, metavar="TIME", help=when)
    chosen.add_argument("--list", action="store_true", help="show the newest times at which the registry changed")
    parser.add_argument("--dry-run", action="store_true", help="show what would be added, changed and deleted")
    parser.add_argument("--yes", action="store_true", help="do it without asking")
    parser.add_argument("--json", action="store_true", help="as JSON (docs/json.md); asks nothing, so needs --yes")


def run(options: argparse.Namespace) -> int:
    """Runs the command."""
    nodes = Nodes(settings_of(options))
    if options.list:
        return _list(options, nodes)
    if options.json and not (options.yes or options.dry_run):
        complain("--json asks nothing: add --yes")
        return Exit.USAGE
    if options.at > time.time():
        complain(f"{_local(options.at)} is still to come; write the day, too, as in 2026-11-21T14:00")
        return Exit.USAGE
    asked = {"op": "restore-at", "at": options.at}
    plan = nodes.ask_own({**asked, "dry_run": True}, ANSWER_S)
    if plan["outcome"] != Outcome.DONE:
        return _end(options, nodes, plan, plan)
    if not options.json:
        _show(plan, nodes)
    if not any(plan[key] for key in WORK):
        return _end(options, nodes, plan, plan)
    if options.dry_run:
        return _end(options, nodes, plan, {"outcome": CommandOutcome.WOULD_DO})
    if not options.yes and not is_yes("Do this? What is replaced or deleted is kept."):
        return _end(options, nodes, plan, {"outcome": CommandOutcome.DECLINED, "reason": "--yes does it without asking"})
    return _end(options, nodes, plan, nodes.ask_own({**asked, "expected": plan["present"]}, ANSWER_S))


def _list(options: argparse.Namespace, nodes: Nodes) -> int:
    answer = nodes.ask_own({"op": "registry-at", "at": time.time()})
    rows = [{"at": at, "label": label, "confs": confs} for at, label, confs in answer["times"]]
    if options.json:
        print(json.dumps({"schema": SCHEMA, "node": nodes.own_name, "oldest": answer["oldest"], "times": rows}, indent=2))
        return Exit.DONE
    for row in rows:
        print(f"{_local(row['at'])}  {visible(str(row['label']))}  {count_text(row['confs'], 'conf')}")
    if not rows:
        print("nothing has been agreed on by both nodes yet")
    return Exit.DONE


def _local(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _show(plan: Mapping[str, Any], nodes: Nodes) -> None:
    print(f"what both nodes held since {_local(plan['at'])} (as {plan['label']}):")
    for key, sign in SIGNS.items():
        for path in plan[key]:
            said = "  (its content of that time is nowhere: it is left alone)" if key == "lost" else ""
            print(f"  {sign} {visible(path)}{said}")
    counts = [f"{len(plan[key])} {key}" for key in SIGNS if plan[key]]
    print(", ".join(counts) if counts else "the registry is as it was then")
    if plan["lost"] and plan["peer_problem"]:
        complain(f"the kept copies of {nodes.peer_name} were not looked at: {plan['peer_problem']}")


def _end(options: argparse.Namespace, nodes: Nodes, plan: Mapping[str, Any], answer: Mapping[str, Any]) -> int:
    """Says how it ended. ``plan``: what was to be done, ``answer``: what became of it."""
    outcome, reason = str(answer["outcome"]), answer.get("reason")
    code = EXITS.get(outcome, Exit.INCOMPLETE)
    if options.json:
        lists = {key: list(plan.get(key) or ()) for key in SIGNS}
        found = {"outcome": outcome, "at": plan.get("at"), "label": plan.get("label"), "reason": reason}
        more = {"oldest": answer.get("oldest"), "peer_problem": plan.get("peer_problem")}
        print(json.dumps({"schema": SCHEMA, **found, **more, **lists}, indent=2))
    elif code == Exit.INCOMPLETE:
        complain(f"restored here, but {nodes.peer_name} does not have all of it ({outcome}): {reason}")
    elif code == Exit.REFUSED:
        oldest = f": it begins {_local(answer['oldest'])}" if answer.get("oldest") else ""
        complain(f"nothing was changed: {reason}{oldest}")
    elif code == Exit.FAILED:
        complain(f"not finished: {reason}; what was replaced is kept (ha-agent kept list)")
    elif outcome == CommandOutcome.WOULD_DO:
        print("nothing was changed")
    elif any(plan[key] for key in WORK):
        print("done, on both nodes; what was replaced or deleted is kept; `supzcli update` loads it")
    return code
