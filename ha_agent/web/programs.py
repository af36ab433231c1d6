"""The programs of a pair as one list: how each runs where it runs, and whether the other node could run it. Pure.

What a node that does not answer said last is part of it, marked as old: nothing of it is taken for what is now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from ha_agent.core.words import Role
from ha_agent.web.pairs import Sight

HOLDING = frozenset({Role.ACTIVE, Role.TAKING_OVER, Role.RELEASING, Role.FENCED})
"""Roles of a node on which programs of the registry run, or may."""


def choose_holders(sights: Sequence[Sight]) -> list[Sight]:
    """The nodes whose programs of the registry are shown: who runs them, or ran them when it was heard last.

    Where nobody is known to have run them it is the first node that was ever heard.
    """
    seen = [sight for sight in sights if sight.node is not None]
    holding = [sight for sight in seen if sight.node and sight.node["role"] in HOLDING]
    return holding or seen[:1]


def describe_readiness(row: Mapping[str, Any], other: Sight | None) -> dict[str, Any]:
    """Whether ``other`` could run the program of ``row``.

    ``state`` is ready, warned, unfit or unknown, ``why`` the reason.
    """
    path = row.get("path")
    if other is None or other.node is None or other.problem is not None or path is None:
        return {"state": "unknown", "why": None}
    readiness = other.node["readiness"]
    if readiness.get("failure"):
        return {"state": "unknown", "why": readiness["failure"]}
    if why := readiness["problems"].get(path):
        return {"state": "unfit", "why": why}
    if why := readiness["warnings"].get(path):
        return {"state": "warned", "why": why}
    return {"state": "ready", "why": None}


def group_rows(rows: Iterable[Mapping[str, Any]]) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """The rows by supervisord's group, in the order of names."""
    ordered = sorted(rows, key=lambda row: (str(row.get("group", row["name"])), str(row["name"])))
    return [(name, list(members)) for name, members in groupby(ordered, lambda row: str(row.get("group", row["name"])))]


def describe_holders(sights: Sequence[Sight]) -> list[dict[str, Any]]:
    """Each of ``choose_holders`` with its programs of the registry, and of each the other node's readiness."""
    found = []
    for sight in choose_holders(sights):
        other = next((one for one in sights if one is not sight), None)
        assert sight.view is not None
        rows = [{**row, "there": describe_readiness(row, other)} for row in sight.view["programs"] if row["kind"] != "local"]
        found.append(
            {
                "name": sight.name,
                "other": other.name if other else "?",
                "role": sight.view["node"]["role"],
                "is_old": sight.problem is not None,
                "at": sight.at,
                "groups": group_rows(rows),
                "count": len(rows),
            }
        )
    return found
