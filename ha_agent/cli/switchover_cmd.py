"""``ha-agent switchover``: hands the active role over on purpose, and looks at both nodes whether it worked."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ha_agent.adapters.control import CommandFailed, NotAllowed
from ha_agent.adapters.terminal import complain, finding_lines, is_yes, paint
from ha_agent.cli.history_cmd import ms_text, read_both, steps_text
from ha_agent.cli.nodes import Nodes, PeerUnreachable
from ha_agent.cli.options import Commands, duration, settings_of
from ha_agent.core.findings import Finding, Severity
from ha_agent.core.history import Event
from ha_agent.core.node_json import NodeAccountJson, NodeJson
from ha_agent.core.prechecks import describe_override, find_active, find_obstacles, find_standby
from ha_agent.core.problems import failed_programs
from ha_agent.core.supervisor_words import UNSETTLED_STATES, State
from ha_agent.core.words import CommandOutcome, Exit, Outcome

SCHEMA = 1
POLL_S = 0.1
BEGIN_S = 40.0
"""The active node compares its whole registry first."""


def add_parser(commands: Commands) -> None:
    """Adds the command's grammar."""
    summary = "hand the active role over to the standby, and verify it on both nodes"
    parser = commands.add("switchover", summary, "ha-agent switchover --dry-run", run)
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--dry-run", action="store_true", help="check and show what would happen; change nothing")
    parser.add_argument(
        "--force",
        action="store_true",
        help="continue in spite of what the checks found; says what each risks. Maintenance is not overridden",
    )
    parser.add_argument("--timeout", type=duration, default=60.0, metavar="S", help="seconds for all of it (default 60)")
    parser.add_argument(
        "--json", action="store_true", help="the result as JSON (docs/json.md); asks nothing, so needs --yes"
    )


@dataclass(slots=True)
class Result:
    """How a switchover went. Times in seconds, as this command saw them."""

    outcome: CommandOutcome
    source: str | None = None
    target: str | None = None
    obstacles: Sequence[Finding] = ()
    took_s: float | None = None
    failed: Mapping[str, str] = field(default_factory=dict)
    running: int = 0
    problem: str | None = None
    release: Event | None = None
    takeover: Event | None = None

    def to_dict(self) -> dict[str, Any]:
        """The document of ``--json``."""
        return {
            "schema": SCHEMA,
            "outcome": self.outcome,
            "from": self.source,
            "to": self.target,
            "obstacles": [f.to_dict() for f in self.obstacles],
            "took_s": self.took_s,
            "running": self.running,
            "failed": dict(self.failed),
            "problem": self.problem,
            "release": self.release,
            "takeover": self.takeover,
        }


EXITS = {
    CommandOutcome.DONE: Exit.DONE,
    CommandOutcome.WOULD_DO: Exit.DONE,
    CommandOutcome.REFUSED: Exit.REFUSED,
    CommandOutcome.DECLINED: Exit.REFUSED,
    CommandOutcome.TIMED_OUT: Exit.TIMED_OUT,
    CommandOutcome.INCOMPLETE: Exit.INCOMPLETE,
    CommandOutcome.FAILED: Exit.FAILED,
    CommandOutcome.UNREACHABLE: Exit.PEER_UNREACHABLE,
}


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    if options.json and not (options.yes or options.dry_run):
        complain("--json asks nothing: add --yes (or --dry-run)")
        return Exit.USAGE
    nodes = Nodes(settings_of(options))
    say: Callable[[str], None] = (lambda _text: None) if options.json else print
    result = _prepare(nodes, options, say)
    if result is None:
        result = hand_over(nodes, options.timeout, force=options.force, say=say)
    if options.json:
        print(json.dumps(result.to_dict(), indent=2))
    elif result.problem:
        complain(result.problem)
    return EXITS[result.outcome]


def _prepare(nodes: Nodes, options: argparse.Namespace, say: Callable[[str], None]) -> Result | None:
    """Checks, shows, asks. None where the switchover may begin."""
    seen = nodes.drained_status()
    obstacles = find_obstacles(seen)
    for finding in obstacles:
        say("\n".join(finding_lines(finding)))
    errors = [f for f in obstacles if f.severity is Severity.ERROR]
    active, standby = find_active(seen), find_standby(seen)
    if active is None or standby is None:
        is_lost = any(f.code == "peer-lost" for f in errors)
        outcome = CommandOutcome.UNREACHABLE if is_lost else CommandOutcome.REFUSED
        return Result(
            outcome, obstacles=obstacles, problem="refused: there is no active node with a standby to hand over to"
        )
    source, target = str(active["name"]), str(standby["name"])
    firm = [f for f in errors if describe_override(f) is None]
    if firm or (errors and not options.force):
        return Result(CommandOutcome.REFUSED, source, target, obstacles, problem=_describe_refusal(firm, options.force))
    for finding in errors:
        where = f"{finding.where}: " if finding.where else ""
        say(f"overridden by --force: {where}{finding.text}  [{finding.code}]; the risk: {describe_override(finding)}")
    say(describe_plan(active, standby))
    if options.dry_run:
        say("dry run: nothing was changed")
        return Result(CommandOutcome.WOULD_DO, source, target, obstacles)
    if not options.yes and not is_yes(f"Hand over from {source} to {target}?"):
        problem = "nothing was done; --yes does it without asking"
        return Result(CommandOutcome.DECLINED, source, target, obstacles, problem=problem)
    return None


def _describe_refusal(firm: Sequence[Finding], force: bool) -> str:
    if not firm:
        return "refused, for the reasons above; --force overrides them"
    why = "; ".join(dict.fromkeys(f"{f.where}: {f.text}; {f.remedy}" for f in firm))
    return f"refused{', also with --force' if force else ''}: {why}"


def describe_plan(active: NodeAccountJson, standby: NodeAccountJson) -> str:
    """What a switchover would do."""
    live = sum(1 for p in active["programs"] if p["state"] in (State.RUNNING, State.STARTING))
    return (
        f"{active['name']} stops {live} programs and gives up the VIP; when nothing of them is left, {standby['name']}, "
        f"which has the VIP by then, starts {standby['readiness']['loadable']} confs. {active['name']} stays as the standby."
    )


def hand_over(nodes: Nodes, timeout_s: float, *, force: bool, say: Callable[[str], None]) -> Result:
    """Hands over and waits for the end, ``timeout_s`` at most, with a line for every change."""
    began_wall, began = time.time(), time.monotonic()
    before = nodes.status()
    active, standby = find_active(before), find_standby(before)
    if active is None or standby is None:
        return Result(CommandOutcome.REFUSED, problem="refused: the roles have changed meanwhile; see ha-agent status")
    source, target = str(active["name"]), str(standby["name"])
    try:
        answer = nodes.ask(source, {"op": "hand-over", "force": force}, BEGIN_S)
    except (PeerUnreachable, CommandFailed) as error:
        outcome = CommandOutcome.REFUSED if isinstance(error, NotAllowed) else CommandOutcome.FAILED
        return Result(outcome, source, target, problem=f"{source} was not asked: {error}")
    if answer["outcome"] != Outcome.BEGUN:
        return Result(CommandOutcome.REFUSED, source, target, problem=f"{source} refuses: {answer.get('reason')}")
    say(f"{source} gives up MASTER")
    seen = follow_roles(
        nodes, source, target, began + timeout_s, lambda text: say(f"{time.monotonic() - began:7.2f} s  {text}")
    )
    result = Result(CommandOutcome.DONE, source, target, took_s=round(time.monotonic() - began, 3))
    _judge(result, seen, timeout_s)
    events, _ = read_both(nodes, 200, began_wall - 5.0)
    result.release = _last(events, source, "released", began_wall - 5.0)
    result.takeover = _last(events, target, "takeover-done", began_wall - 5.0)
    for text, event in (("release", result.release), ("takeover", result.takeover)):
        if event is not None:
            say(f"{text} on {event['node']}: {ms_text(float(event.get('took_s', 0.0)))} ({steps_text(event)})")
    if result.outcome is CommandOutcome.DONE:
        say(paint(f"{target} is active, {result.running} programs RUNNING; {source} is the standby", "green"))
    return result


def _last(events: Sequence[Event], node: str, code: str, since: float) -> Event | None:
    return next((e for e in reversed(events) if e["node"] == node and e["code"] == code and e["at"] >= since), None)


def follow_roles(
    nodes: Nodes, source: str, target: str, deadline_mono: float, say: Callable[[str], None]
) -> dict[str, NodeJson]:
    """Looks at both nodes until ``target`` is active with settled programs and ``source`` is the standby.

    Returns what was seen last, by node; at the deadline that is something else.
    """
    told: dict[str, tuple[str, str]] = {}
    while True:
        try:
            seen: dict[str, NodeJson] = {str(n["name"]): n for n in nodes.status()}
        except TimeoutError:
            seen = {}
        for name, node in seen.items():
            now = (str(node.get("role", "?")), str(node.get("vrrp_state", "?")))
            if node["reachable"] and told.get(name) != now:
                say(f"{name}: {now[0]}, VRRP {now[1]}")
                told[name] = now
        if is_settled(seen, source, target) or time.monotonic() >= deadline_mono:
            return seen
        time.sleep(POLL_S)


def is_settled(seen: Mapping[str, NodeJson], source: str, target: str) -> bool:
    """Whether the roles are as wanted and every program is up or has failed."""
    return _settled_target(seen, source, target) is not None


def _settled_target(seen: Mapping[str, NodeJson], source: str, target: str) -> NodeAccountJson | None:
    """The account of ``target`` where all is as wanted; None where it is not, or not yet."""
    old, new = seen.get(source), seen.get(target)
    if old is None or new is None or not old["reachable"] or not new["reachable"]:
        return None
    has_moved = old["role"] == "standby" and old["vrrp_state"] == "BACKUP" and new["role"] == "active" and new["vip"]
    has_ended = new["supervisord"] == "up" and not any(p["state"] in UNSETTLED_STATES for p in new["programs"])
    return new if has_moved and has_ended else None


def _judge(result: Result, seen: Mapping[str, NodeJson], timeout_s: float) -> None:
    assert result.source is not None and result.target is not None
    new = _settled_target(seen, result.source, result.target)
    if new is None:
        both = [seen[name] for name in (result.source, result.target) if name in seen]
        now = "; ".join(f"{n['name']} is {n.get('role', '?')}, VRRP {n.get('vrrp_state', '?')}" for n in both)
        result.outcome = CommandOutcome.TIMED_OUT
        result.problem = f"not finished after {timeout_s:g} s: {now}; it continues by itself, see ha-agent status --watch"
        return
    result.running = sum(1 for p in new["programs"] if p["state"] == State.RUNNING)
    result.failed = {p["name"]: str(p.get("problem") or p["state"]) for p in failed_programs(new)}
    if result.failed:
        result.outcome = CommandOutcome.INCOMPLETE
        names = ", ".join(f"{name} ({why})" for name, why in result.failed.items())
        result.problem = f"{result.target} is active, but these programs do not run there: {names}"
