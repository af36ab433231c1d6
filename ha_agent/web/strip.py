"""The last 24 hours as a strip: who was active, and when nobody was. Pure; times are wall clock seconds.

It is made of the changes of role in both nodes' histories. What a node did not write down, because it lost its power, is
taken from the other one: from its takeover on it is active, and the outage is at least as long as that takeover.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ha_agent.core.words import Role

SPAN_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Piece:
    """A time in which ``active`` nodes were active: one, none (an outage), or both. None where it is not known."""

    begin: float
    end: float
    active: tuple[str, ...] | None


def is_change(event: Mapping[str, Any]) -> bool:
    """Whether an event is a change of role."""
    return isinstance(event.get("from"), str) and isinstance(event.get("to"), str)


def find_pieces(
    events: Sequence[Mapping[str, Any]],
    current: Mapping[str, str],
    now: float,
    span_s: float = SPAN_S,
    known_from: float = 0.0,
) -> list[Piece]:
    """The pieces of the ``span_s`` seconds before ``now``, the oldest first.

    ``known_from``: nobody has looked at what is older, and nothing is said of it.
    ``current``: the roles of the nodes that answer. Without any change of role in the time they were the same all along,
    as far as is known.
    """
    begin = now - span_s
    changes = sorted((e for e in events if is_change(e)), key=lambda e: float(e["at"]))
    roles = _first_roles(changes, current)
    if not roles:
        return [Piece(begin, now, None)]
    at = min(max(begin, known_from), now)
    pieces = [Piece(begin, at, None)]
    for change in changes:
        moment = min(max(float(change["at"]), at), now)
        pieces.append(Piece(at, moment, _active(roles)))
        at = moment
        _take(roles, change)
    pieces.append(Piece(at, now, _active(roles)))
    return _join(pieces)


def _first_roles(changes: Sequence[Mapping[str, Any]], current: Mapping[str, str]) -> dict[str, str]:
    roles = dict(current)
    for change in reversed(changes):
        roles[str(change["node"])] = str(change["from"])
    return roles


def _take(roles: dict[str, str], change: Mapping[str, Any]) -> None:
    """A node that takes over is alone with that, unless the other one says itself that it is active."""
    node, role = str(change["node"]), str(change["to"])
    roles[node] = role
    if role == Role.TAKING_OVER:
        for other, had in list(roles.items()):
            if other != node and had == Role.ACTIVE:
                roles[other] = Role.STANDBY


def _active(roles: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(sorted(node for node, role in roles.items() if role == Role.ACTIVE))


def _join(pieces: Sequence[Piece]) -> list[Piece]:
    joined: list[Piece] = []
    for piece in pieces:
        if piece.end <= piece.begin:
            continue
        if joined and joined[-1].active == piece.active:
            piece = Piece(joined.pop().begin, piece.end, piece.active)
        joined.append(piece)
    return joined


def sum_outages(pieces: Sequence[Piece]) -> tuple[int, float]:
    """How many outages there were, and how many seconds they took together."""
    outages = [piece for piece in pieces if piece.active == ()]
    return len(outages), sum(piece.end - piece.begin for piece in outages)
