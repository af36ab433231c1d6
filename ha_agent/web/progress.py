"""How far a switchover is, from what both nodes say, and what it came to. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ha_agent.core.words import Role
from ha_agent.web.pairs import Sight

LATE_S = 90.0
"""After which a switchover that has not come to its end is said to be late."""


def describe_progress(
    sights: Sequence[Sight], events: Sequence[Mapping[str, Any]], source: str, began: float, now: float
) -> dict[str, Any]:
    """How far the hand-over of ``source`` is that was asked for at ``began``.

    ``state`` is going, done, back (``source`` is active again), or late. Times are wall clock seconds of the nodes, so the
    figures are of one node each; ``took_s`` of the whole supposes that their clocks agree.
    """
    changes = [e for e in events if float(e["at"]) >= began - 1.0 and "from" in e and "to" in e]
    released = next((e for e in changes if e["node"] == source and e["to"] == Role.STANDBY), None)
    taken = next((e for e in changes if e["node"] != source and e["to"] == Role.ACTIVE), None)
    nodes = [_describe_node(sight) for sight in sights]
    roles = {node["name"]: node["role"] for node in nodes}
    is_done = taken is not None and roles.get(taken["node"]) == Role.ACTIVE
    is_back = not is_done and any(e["node"] == source and e["to"] == Role.ACTIVE for e in changes)
    state = "done" if is_done else "back" if is_back else "late" if now - began > LATE_S else "going"
    return {
        "source": source,
        "began": began,
        "state": state,
        "nodes": nodes,
        "released": released,
        "taken": taken,
        "took_s": max(0.0, float(taken["at"]) - began) if taken else None,
        "verified": next(
            (e for e in events if e["code"] == "takeover-verified" and taken and e["at"] >= taken["at"] - 1.0), None
        ),
        "events": [e for e in events if float(e["at"]) >= began - 1.0],
    }


def _describe_node(sight: Sight) -> dict[str, Any]:
    if sight.node is None or sight.problem is not None:
        return {"name": sight.name, "role": None, "step": None}
    return {"name": sight.name, "role": sight.node["role"], "step": sight.node.get("step")}
