"""``ha-agent standby`` and ``unstandby``: a node takes over nothing until told otherwise."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ha_agent.adapters.control import CommandFailed, NotAllowed
from ha_agent.adapters.terminal import finding_lines
from ha_agent.cli.confirm import add_options, refuse_unconfirmed
from ha_agent.cli.nodes import Nodes
from ha_agent.cli.options import Commands, duration, settings_of
from ha_agent.cli.said import Said
from ha_agent.cli.switchover_cmd import EXITS, describe_plan, hand_over
from ha_agent.core.findings import Finding, Severity
from ha_agent.core.node_json import NodeAccountJson, NodeJson
from ha_agent.core.prechecks import describe_override, find_active, find_obstacles, find_standby
from ha_agent.core.words import CommandOutcome, Exit, Outcome, Role

ORDER_S = 15.0


def add_parser(commands: Commands) -> None:
    """Adds the commands' grammar."""
    summary = "order a node to take over nothing until unstandby, reboots included; the active one hands over first"
    on = commands.add("standby", summary, "ha-agent standby node-b --reason 'new disks'", _run_on)
    on.add_argument("node", metavar="NODE", help="the node that is to stay standby")
    add_options(on)
    on.add_argument("--force", action="store_true", help="also where nothing would run then; says what each risks")
    on.add_argument("--timeout", type=duration, default=60.0, metavar="S", help="seconds for the hand-over (default 60)")
    summary = "let a node take over again"
    off = commands.add("unstandby", summary, "ha-agent unstandby node-b", _run_off)
    off.add_argument("node", metavar="NODE", help="the node that was ordered to stay standby")
    add_options(off)
    for parser in (on, off):
        parser.add_argument("--json", action="store_true", help="as JSON (docs/json.md)")


def _name_other(nodes: Nodes, name: str, said: Said) -> str | None:
    """The node beside ``name``; None, with a complaint, where that is neither of the two."""
    if name == nodes.own_name:
        return nodes.peer_name
    if name == nodes.peer_name:
        return nodes.own_name
    said.complain(f"{name} is neither of the two nodes: {nodes.own_name}, {nodes.peer_name}")
    return None


def _find_account(seen: Sequence[NodeJson], name: str) -> NodeAccountJson | None:
    return next((n for n in seen if n["reachable"] and n["name"] == name), None)


# ---- standby ------------------------------------------------------------------------------------------------


def _run_on(options: argparse.Namespace) -> int:
    nodes, said = Nodes(settings_of(options)), Said(options.node, as_json=options.json)
    return said.end(_keep_standby(nodes, options, said))


def _keep_standby(nodes: Nodes, options: argparse.Namespace, said: Said) -> int:
    name, other = options.node, _name_other(nodes, options.node, said)
    if other is None:
        return Exit.USAGE
    seen = nodes.drained_status()
    account = _find_account(seen, name)
    if account is None:
        said.complain(f"{name} cannot be reached: it must be told itself; nothing was done")
        return Exit.PEER_UNREACHABLE
    moves = account["role"] == Role.ACTIVE and find_standby(seen) is not None
    if (code := _show(seen, account, other, said, moves=moves, force=options.force)) is not None:
        return code
    until = f"until: ha-agent unstandby {name}"
    question = f"{name} will take over nothing {until}. So long {other} is alone: if it fails, nothing runs."
    if (code := refuse_unconfirmed(options, other, question, said.complain)) is not None:
        return code
    if moves:
        result = hand_over(nodes, options.timeout, force=options.force, say=said.say)
        if result.problem:
            said.complain(result.problem)
        if result.outcome not in (CommandOutcome.DONE, CommandOutcome.INCOMPLETE):
            said.complain(f"{name} was not ordered to stay standby")
            return EXITS[result.outcome]
    return _order(nodes, name, options, said)


def _show(
    seen: Sequence[NodeJson], account: NodeAccountJson, other: str, said: Said, *, moves: bool, force: bool
) -> Exit | None:
    """Shows what speaks against it and what will happen; the exit status where it is refused."""
    name = account["name"]
    if account["role"] != Role.ACTIVE:
        # The node itself looks at the other one; nothing is moved.
        return None
    if not moves:
        if not force:
            said.complain(
                f"refused: there is no standby that {name} could hand over to; --force stops everything all the same"
            )
            return Exit.REFUSED
        said.say(f"overridden by --force: nothing is handed over; the risk: {name} stops every program, and nothing runs")
        return None
    errors = [f for f in find_obstacles(seen) if f.severity is Severity.ERROR]
    for finding in errors:
        said.say("\n".join(finding_lines(finding)))
    if [f for f in errors if describe_override(f) is None] or (errors and not force):
        said.complain(
            f"refused: {other} is not fit to take over{'' if force else '; --force overrides what can be overridden'}"
        )
        return Exit.REFUSED
    _tell_overridden(errors, said)
    active, standby = find_active(seen), find_standby(seen)
    assert active is not None and standby is not None
    said.say(describe_plan(active, standby))
    return None


def _tell_overridden(errors: Sequence[Finding], said: Said) -> None:
    for finding in errors:
        said.say(f"overridden by --force: {finding.where}: {finding.text}; the risk: {describe_override(finding)}")


def _order(nodes: Nodes, name: str, options: argparse.Namespace, said: Said) -> Exit:
    message = {"op": "standby", "on": True, "reason": options.reason, "force": options.force}
    try:
        answer = nodes.ask(name, message, ORDER_S)
    except NotAllowed:
        raise
    except CommandFailed as error:
        said.complain(f"{name} was not ordered to stay standby: {error}")
        return Exit.FAILED
    if answer["outcome"] == Outcome.FAILED:
        said.complain(f"{name}: {answer.get('reason')}")
        return Exit.FAILED
    if answer["outcome"] != Outcome.ON:
        said.complain(
            f"refused: {answer.get('reason')}; --force orders it all the same" if not options.force else answer["reason"]
        )
        return Exit.REFUSED
    said.say(f"{name} stays standby until: ha-agent unstandby {name}")
    return Exit.DONE


# ---- unstandby ----------------------------------------------------------------------------------------------


def _run_off(options: argparse.Namespace) -> int:
    nodes, said = Nodes(settings_of(options)), Said(options.node, as_json=options.json)
    return said.end(_let_take_over(nodes, options, said))


def _let_take_over(nodes: Nodes, options: argparse.Namespace, said: Said) -> int:
    name, other = options.node, _name_other(nodes, options.node, said)
    if other is None:
        return Exit.USAGE
    seen = nodes.status()
    account, beside = _find_account(seen, name), _find_account(seen, other)
    if account is not None and beside is not None and _takes_back(account, beside):
        question = f"{name} preempts: with its higher priority it takes the VIP and every program back from {other} at once."
        if (code := refuse_unconfirmed(options, other, question, said.complain)) is not None:
            return code
    answer = nodes.ask(name, {"op": "standby", "on": False, "reason": options.reason}, ORDER_S)
    if answer["outcome"] != Outcome.OFF:
        said.complain(f"{name}: {answer.get('reason')}")
        return Exit.FAILED
    if reason := answer.get("reason"):
        said.say(f"{name} may take over: {reason}")
    else:
        said.say(f"{name} may take over again")
    return Exit.DONE


def _takes_back(account: NodeAccountJson, beside: NodeAccountJson) -> bool:
    preempts = account["preempt"] and account["priority"] > beside["priority"]
    return preempts and beside["role"] == Role.ACTIVE and account.get("standby_order") is not None
