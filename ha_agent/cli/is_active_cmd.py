"""``ha-agent is-active``: for cron and scripts, which must do their work on the active node alone."""

from __future__ import annotations

import argparse
import math
import time

from ha_agent.adapters.control import CommandFailed, NoDaemon, NotAllowed
from ha_agent.cli.nodes import Nodes
from ha_agent.cli.options import Commands, duration, settings_of
from ha_agent.core.words import Exit, Role

ANSWER_S = 5.0
LOOK_S = 0.5


def add_parser(commands: Commands) -> None:
    """Adds the command's grammar."""
    summary = "for cron and scripts: exit status 0 where this node is active, 1 where it is not; says nothing"
    parser = commands.add("is-active", summary, "ha-agent is-active && /usr/local/bin/nightly-report", run)
    parser.add_argument(
        "--wait",
        type=duration,
        nargs="?",
        const=math.inf,
        default=0.0,
        metavar="TIME",
        help="wait until it is, for TIME at most (without one: for ever)",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="say what it is")


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns 0 or 1. An agent that does not run, or does not answer, is no active node.

    Raises ``NotAllowed``: whoever may not ask would wait, or do nothing, for ever.
    """
    nodes = Nodes(settings_of(options))
    until = time.monotonic() + options.wait
    while True:
        role = read_role(nodes)
        if role == Role.ACTIVE or time.monotonic() >= until:
            break
        time.sleep(min(LOOK_S, max(0.0, until - time.monotonic())))
    if options.verbose:
        print(f"{nodes.own_name} is {role}")
    return Exit.DONE if role == Role.ACTIVE else Exit.FAILED


def read_role(nodes: Nodes) -> str:
    """This node's role, or why it is not known. Raises ``NotAllowed``."""
    try:
        return str(nodes.ask_own({"op": "whoami"}, ANSWER_S)["role"])
    except NotAllowed:
        raise
    except (NoDaemon, CommandFailed) as error:
        return f"not known to be active: {error}"
    except TimeoutError:
        return f"not known to be active: the agent does not answer within {ANSWER_S:g} s"
