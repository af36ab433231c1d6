"""What ``ha-agent setup --replace`` asks of both nodes: a new machine in the place of a dead one, beside one that works on.

The node that works keeps everything: its programs, its epoch, its priority, its confs. The new one gets what both must have
alike, a key of its own, and the confs over the link; the dead one's keys are let in nowhere.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from ha_agent.cli.setup_node import SetupFailed
from ha_agent.core.node_json import NodeJson
from ha_agent.core.settings import Settings
from ha_agent.core.settings_compare import values_to_agree
from ha_agent.core.setup_plan import PENDING_KEY

PRIORITY_STEP = 10


def check_survivor(seen: list[NodeJson], settings: Settings, node: str, *, is_known: bool) -> None:
    """Whether this node can have its peer replaced now. Raises ``SetupFailed``.

    ``seen``: both nodes' accounts; ``is_known``: the machine that is there now has the pinned host key, because a run before
    this one was cut off.
    """
    own, peer = seen[0], seen[1]
    if node != settings.peer.name:
        raise SetupFailed(f"the peer is {settings.peer.name}, not {node}: run this on the node that works")
    if own.get("role") != "active":
        raise SetupFailed(
            f"{settings.node.name} is {own.get('role', 'not known')}, not active: its confs would not count. "
            "ha-agent status says why; where it waits for the dead one: ha-agent takeover --peer-is-off"
        )
    if peer["reachable"] and not is_known:
        raise SetupFailed(f"{node} answers over the link, so it is not dead: power it off first, or ha-agent standby {node}")


def survivor_vrrp(settings: Settings) -> dict[str, dict[str, Any]]:
    """[vrrp] of the node that works, as it is, for ``setup_cmd.make_requests``."""
    vrrp = settings.vrrp
    return {"own": {"interface": vrrp.interface, "priority": vrrp.priority}}


def adapt_requests(
    requests: Mapping[str, dict[str, Any]], settings: Settings, node: str, ssh_port: int, *, is_known: bool
) -> dict[str, dict[str, Any]]:
    """The requests of a set-up so that nothing of this node changes but whom it takes for its peer."""
    adapted = {side: copy.deepcopy(request) for side, request in requests.items()}
    own, peer = adapted["own"]["settings"], adapted["peer"]["settings"]
    me = {"name": settings.node.name, "address": settings.node.address}
    own["node"], peer["peer"] = dict(me), {**peer["peer"], **me}
    adapted["own"]["former_peer"] = node
    if settings.peer.ssh_port != ssh_port:
        own["peer"]["ssh_port"] = ssh_port
    peer["vrrp"]["priority"] = lower_priority(settings.vrrp.priority)
    for key in ("vip", "vips"):
        peer.get("vrrp", {}).pop(key, None)
    for name, value in values_to_agree(settings).items():
        section, _, key = name.rpartition(".")
        peer.setdefault(section, {})[key] = value
    if not is_known:
        # Whatever key that machine has may be the dead one's, from a copy of its disk.
        adapted["own"] |= {"peer_key": PENDING_KEY, "anew": True}
    return adapted


def lower_priority(priority: int) -> int:
    """A VRRP priority for the new node: below that of the one that works, above it only where there is none."""
    return priority - PRIORITY_STEP if priority > PRIORITY_STEP else priority + PRIORITY_STEP
