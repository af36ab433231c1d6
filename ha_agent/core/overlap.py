"""Whether two nodes had the registry's programs running at the same time, told when they hear of each other again. Pure.

Each node says for how long it has been active, or when it was so last: ages, not times of day, so that the two clocks need
not agree.
"""

from __future__ import annotations

from dataclasses import dataclass

LEAST_S = 0.5
"""What the way of a message, and the moments between a program's start and the role's change, cannot tell apart."""


@dataclass(frozen=True, slots=True)
class Spell:
    """A time of being active: seconds since its beginning and its end; an end of 0 is now."""

    began_ago_s: float
    ended_ago_s: float = 0.0

    def to_list(self) -> list[float]:
        """As it travels."""
        return [round(self.began_ago_s, 3), round(self.ended_ago_s, 3)]

    @classmethod
    def parse(cls, raw: object) -> Spell | None:
        """The reverse of ``to_list``; None for None. Raises ``ValueError`` for anything else."""
        if raw is None:
            return None
        if isinstance(raw, list) and len(raw) == 2 and all(type(n) in (int, float) and 0 <= n < 1e12 for n in raw):
            return cls(float(raw[0]), float(raw[1]))
        raise ValueError("active is not two ages")


def find_overlap(own: Spell | None, peer: Spell | None) -> Spell | None:
    """The time in which both were active; None where there was none, or less than ``LEAST_S``."""
    if own is None or peer is None:
        return None
    began, ended = min(own.began_ago_s, peer.began_ago_s), max(own.ended_ago_s, peer.ended_ago_s)
    return Spell(began, ended) if began - ended >= LEAST_S else None
