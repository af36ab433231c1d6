"""``ha-agent takeover --peer-is-off``: an operator's word in place of the other node's, for a takeover that waits."""

from __future__ import annotations

import argparse
import time

from ha_agent.adapters.control import CommandFailed
from ha_agent.adapters.terminal import paint
from ha_agent.cli.confirm import add_options, refuse_unconfirmed
from ha_agent.cli.nodes import Nodes
from ha_agent.cli.options import Commands, duration, settings_of
from ha_agent.cli.said import Said
from ha_agent.core.node_json import NodeAccountJson
from ha_agent.core.problems import failed_programs
from ha_agent.core.supervisor_words import UNSETTLED_STATES, State
from ha_agent.core.words import Exit, Outcome, Role

POLL_S = 0.2


def add_parser(commands: Commands) -> None:
    """Adds the command's grammar."""
    summary = "go on with a takeover that waits for the other node, whose machine is off"
    parser = commands.add("takeover", summary, "ha-agent takeover --peer-is-off --reason 'power supply burnt'", run)
    parser.add_argument(
        "--peer-is-off",
        action="store_true",
        required=True,
        help="your word that the other machine is off and runs nothing; it holds for this one takeover. "
        "To hand over on purpose: ha-agent switchover",
    )
    add_options(parser)
    parser.add_argument("--json", action="store_true", help="as JSON (docs/json.md)")
    parser.add_argument("--timeout", type=duration, default=60.0, metavar="S", help="seconds to wait for it (default 60)")


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    nodes = Nodes(settings_of(options))
    said = Said(nodes.own_name, as_json=options.json)
    return said.end(_take_over(nodes, options, said))


def _take_over(nodes: Nodes, options: argparse.Namespace, said: Said) -> int:
    peer = nodes.peer_name
    question = (
        f"{nodes.own_name} is about to start every program without the word of {peer} that nothing runs there.\n"
        f"If {peer} is only unreachable, every program will run twice. Look at the machine: is it switched off?"
    )
    if (refused := refuse_unconfirmed(options, peer, question, said.complain)) is not None:
        return refused
    answer = nodes.ask_own({"op": "peer-is-off", "peer": peer, "reason": options.reason})
    if answer["outcome"] != Outcome.BEGUN:
        said.complain(f"refused: {answer.get('reason')}")
        return Exit.REFUSED
    said.say(f"{nodes.own_name} goes on without the word of {peer}")
    return _follow(nodes, time.monotonic() + options.timeout, said)


def _follow(nodes: Nodes, deadline_mono: float, said: Said) -> Exit:
    """Waits until the takeover has ended and every program is up or has failed."""
    while True:
        try:
            own = nodes.own_account()
        except (TimeoutError, CommandFailed):
            own = None
        if own is not None and own["role"] not in (Role.TAKING_OVER, Role.ACTIVE):
            said.complain(f"the takeover was given up: {own['name']} is {own['role']}; see ha-agent history")
            return Exit.FAILED
        if own is not None and _is_settled(own):
            return _judge(own, said)
        if time.monotonic() >= deadline_mono:
            held = own["held"] if own is not None else None
            said.complain(f"not finished in time: {held or 'see ha-agent status --watch'}")
            return Exit.TIMED_OUT
        time.sleep(POLL_S)


def _is_settled(own: NodeAccountJson) -> bool:
    has_ended = own["supervisord"] == "up" and not any(p["state"] in UNSETTLED_STATES for p in own["programs"])
    return own["role"] == Role.ACTIVE and has_ended


def _judge(own: NodeAccountJson, said: Said) -> Exit:
    failed = {p["name"]: str(p.get("problem") or p["state"]) for p in failed_programs(own)}
    running = sum(1 for p in own["programs"] if p["state"] == State.RUNNING)
    if failed:
        names = ", ".join(f"{name} ({why})" for name, why in failed.items())
        said.complain(f"{own['name']} is active, but these programs do not run: {names}")
        return Exit.INCOMPLETE
    text = f"{own['name']} is active, {running} programs RUNNING"
    said.say(text, paint(text, "green"))
    return Exit.DONE
