"""``ha-agent maintenance``: has both agents watch and do nothing for a stated time."""

from __future__ import annotations

import argparse
import time

from ha_agent.adapters.control import CommandFailed
from ha_agent.adapters.terminal import complain
from ha_agent.cli.nodes import Nodes, PeerUnreachable
from ha_agent.cli.options import Commands, duration, settings_of
from ha_agent.core.words import Exit, Outcome


def add_parser(commands: Commands) -> None:
    """Adds the command's grammar."""
    parts = commands.add_group(
        "maintenance",
        "have both agents watch and do nothing, for a stated time",
        "ha-agent maintenance on --for 2h --reason 'kernel update'",
        "on|off",
    )
    summary = "begin, or change the end of what is under way; no role is changed, nothing is started or stopped"
    on = parts.add("on", summary, "ha-agent maintenance on --for 30min --reason 'new switch'", _run_on)
    on.add_argument("--for", type=duration, default=3600.0, dest="for_s", metavar="TIME", help="2h, 30min ... (default 1h)")
    on.add_argument("--reason", default="", metavar="TEXT", help="shown wherever it is visible")
    parts.add("off", "end it now", "ha-agent maintenance off", _run_off)


def _run_on(options: argparse.Namespace) -> int:
    if not 1 <= options.for_s <= 7 * 86400:
        complain("--for: between 1s and 7d")
        return Exit.USAGE
    nodes = Nodes(settings_of(options))
    message = {"op": "maintenance", "on": True, "for_s": options.for_s, "reason": options.reason}
    code = Exit.DONE
    for name in (nodes.own_name, nodes.peer_name):
        try:
            answer = nodes.ask(name, message)
        except (PeerUnreachable, CommandFailed) as error:
            if name == nodes.own_name:
                raise
            complain(
                f"{error}: maintenance is on for {nodes.own_name}; {nodes.peer_name} may still take over: ha-agent status"
            )
            code = Exit.INCOMPLETE
            continue
        if answer["outcome"] != Outcome.ON:
            complain(str(answer.get("reason", answer["outcome"])))
            if name == nodes.own_name:
                return Exit.REFUSED
            complain(f"maintenance is on for {nodes.own_name} alone")
            code = Exit.INCOMPLETE
            continue
        until = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(answer["until"])))
        print(f"{name}: maintenance until {until}; no role is changed, nothing is started or stopped")
    return code


def _run_off(options: argparse.Namespace) -> int:
    nodes = Nodes(settings_of(options))
    code = Exit.DONE
    for name in (nodes.own_name, nodes.peer_name):
        try:
            nodes.ask(name, {"op": "maintenance", "on": False})
            print(f"{name}: maintenance is off")
        except (PeerUnreachable, CommandFailed) as error:
            if name == nodes.own_name:
                raise
            complain(f"{error}: it may last there until its time is over")
            code = Exit.INCOMPLETE
    return code
