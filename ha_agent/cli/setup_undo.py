"""The way back from a pair: everything as it was before setup, or one node that goes on without the other."""

from __future__ import annotations

import argparse
from typing import Any

from ha_agent.adapters.settings_file import load_settings
from ha_agent.adapters.settings_paths import DEFAULT_PATH
from ha_agent.adapters.terminal import complain, is_yes
from ha_agent.cli.nodes import Nodes
from ha_agent.cli.setup_node import SetupFailed
from ha_agent.cli.setup_sides import Ask, both_sides
from ha_agent.core.visible import visible
from ha_agent.core.width import count_text
from ha_agent.core.words import Exit


def undo(sides: dict[str, Ask], options: argparse.Namespace) -> int:
    """Puts back on both nodes what stood there before setup. Raises ``SetupFailed`` and ``RemoteFailed``."""
    if not options.yes and not is_yes("Stop keepalived and the agent on both nodes, and put their files back?"):
        complain("nothing was changed; --yes does it without asking")
        return Exit.REFUSED
    # The standby first: a node without an agent never becomes MASTER, so nothing moves while the other one is undone.
    for side in ("peer", "own"):
        answer = sides[side]("undo", {})
        _say_undone(side, answer)
        if side == "peer" and answer["restored"] and answer["confs"]:
            names = ", ".join(answer["confs"])
            complain(
                f"ATTENTION: the peer still has the replicated confs ({names}), and its supervisord includes them again: it "
                "would start them at its next start or update, beside this node; remove there what must not run there"
            )
    print("programs run on under supervisord as they are; the virtual address is gone")
    return Exit.DONE


def _say_undone(side: str, answer: dict[str, Any]) -> None:
    where = "on the peer" if side == "peer" else "here"
    for path in answer["aside"]:
        print(visible(f"{where}: what was changed since setup is kept as {path}"))
    restored = answer["restored"]
    print(
        f"{where}: {count_text(len(restored), 'file')} put back as before"
        if restored
        else f"{where}: there was nothing to undo"
    )


def dissolve(options: argparse.Namespace) -> int:
    """This node goes on running its programs under plain supervisord; the other one stops, and has nothing of the pair.

    Raises ``SetupFailed`` and ``RemoteFailed``; what was done by then is done, and the same again goes on.
    """
    settings = load_settings(DEFAULT_PATH)
    own = Nodes(settings).own_account()
    if own["role"] != "active":
        raise SetupFailed(f"{settings.node.name} is {own['role']}: run this on the active node, which goes on")
    with both_sides(options.peer or settings.peer.address, options) as sides:
        facts = {side: ask("facts", {}) for side, ask in sides.items()}
        check_dissolvable(facts, settings.peer.name)
        vip = settings.vrrp.vip
        print(f"{settings.node.name} goes on running its programs, and keeps {vip}")
        print(f"{settings.peer.name} stops: no agent, no keepalived, no conf of the pair is left there")
        if options.dry_run:
            print("nothing was changed")
            return Exit.DONE
        if not options.yes and not is_yes("Dissolve the pair?"):
            complain("nothing was changed; --yes does it without asking")
            return Exit.REFUSED
        # The standby first, as with an undo.
        gone = sides["peer"]("undo", {"clean": True})
        _say_undone("peer", gone)
        if gone.get("moved"):
            print(visible(f"on the peer: {count_text(len(gone['moved']), 'conf')} moved to {gone['moved_to']}"))
        left = sides["own"]("undo", {"goes_on": True})
    _say_undone("own", left)
    return _say_what_is_left(left, vip)


def check_dissolvable(facts: dict[str, dict[str, Any]], peer: str) -> None:
    """Whether the pair can be dissolved by undoing what setup did. Raises ``SetupFailed``."""
    fact = facts["peer"]
    if fact["name"] != peer:
        raise SetupFailed(f"this is {fact['name']}, and the peer is {peer}: is that the right machine?")
    if not facts["own"]["made_by_setup"]:
        raise SetupFailed("this pair was not made by ha-agent setup: docs/day2.md says what is done by hand")
    if fact["running"]:
        raise SetupFailed(f"{peer} runs programs ({', '.join(fact['running'][:5])}): stop them there first")


def _say_what_is_left(left: dict[str, Any], vip: str) -> int:
    if left.get("included"):
        print(visible(f"supervisord's main conf includes {' '.join(left['included'])}, too, so that a restart starts it"))
    if left.get("address_problem"):
        complain(f"ATTENTION: {vip} could not be kept: {left['address_problem']}")
    print(f"programs run on under supervisord as they are; {vip} stays until a boot: put it into /etc/network/interfaces")
    print("apt purge ha-agent removes what is left, on both")
    return Exit.INCOMPLETE if left.get("address_problem") else Exit.DONE
