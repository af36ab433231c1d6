"""The two nodes as commands of the set-up reach them: this one by a call, the peer over ssh with an operator's own means."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

from ha_agent.adapters.terminal import complain
from ha_agent.cli.remote import RemoteFailed, ask_node, connect
from ha_agent.cli.setup_node import SetupFailed, run_part
from ha_agent.core.schema import SettingsError
from ha_agent.core.setup_plan import PENDING_KEY, FileChange
from ha_agent.core.visible import visible
from ha_agent.core.words import Exit

AGAIN = "whatever was written is recorded on each node: run the same again, or with --undo"
Ask = Callable[[str, dict[str, Any]], dict[str, Any]]
"""Has one node do its part of something; both raise ``SetupFailed`` or ``RemoteFailed``."""


def add_way(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say how the peer is reached."""
    user = "for this command's own connection (default root)"
    parser.add_argument("--ssh-user", default="root", metavar="USER", help=user)
    parser.add_argument("--ssh-port", type=int, default=22, metavar="N", help="port of the peer's sshd (default 22)")
    parser.add_argument("--fingerprint", metavar="SHA256:...", help="the peer's host key, where there is nobody to ask")


@contextlib.contextmanager
def both_sides(host: str, options: argparse.Namespace) -> Iterator[dict[str, Ask]]:
    """``own`` and ``peer``, while there is a connection to ``host``. Raises ``RemoteFailed``."""
    client = connect(host, options.ssh_port, options.ssh_user, options.fingerprint)
    try:
        yield {"own": run_part, "peer": lambda part, request: ask_node(client, part, request)}
    finally:
        client.close()


def guarded(work: Callable[[], int], again: str = AGAIN) -> int:
    """The exit status of ``work``, or one clear line for what ended it. ``again``: what to do after an interruption."""
    if os.geteuid() != 0:
        complain("this must run as root: it writes configuration on both nodes")
        return Exit.USAGE
    try:
        return work()
    except KeyboardInterrupt:
        complain(f"\ninterrupted; {again}")
        return 130
    except (SetupFailed, RemoteFailed) as error:
        complain(str(error))
        return Exit.FAILED
    except SettingsError as error:
        for problem in error.problems:
            complain(str(problem))
        return Exit.USAGE


def changes_of(plan: dict[str, Any]) -> list[FileChange]:
    """The files of a node's plan."""
    return [FileChange(**change) for change in plan["changes"]]


def show_diffs(facts: dict[str, dict[str, Any]], due: dict[str, list[FileChange]]) -> None:
    """Prints every change of every file of both nodes."""
    for side, found in due.items():
        for change in found:
            print("\n".join(visible(line, "\t") for line in change.diff(facts[side]["name"])))


def make_keys(sides: dict[str, Ask], requests: dict[str, dict[str, Any]]) -> None:
    """Has each node make the key that the other one lacks."""
    for side, other in (("own", "peer"), ("peer", "own")):
        if requests[side]["peer_key"] == PENDING_KEY:
            requests[side]["peer_key"] = sides[other]("key", {"anew": requests[side].get("anew", False)})["key"]
