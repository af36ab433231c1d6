"""The paths between the two nodes: which of them answer, and over which one the link goes. Pure.

A path is an address of the peer. That one is silent means little by itself: a firewall may drop pings. While another path
answers, one that has answered before is cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

SILENT_LOOKS = 3
"""So many looks in a row without an answer make a path that is cut; the link moves after the first one."""


@dataclass(frozen=True, slots=True)
class Path:
    """``is_up``: whether it answers, None where it has not been looked at. ``since_wall``: since when it is so."""

    address: str
    is_up: bool | None = None
    since_wall: float = 0.0
    has_answered: bool = False
    silences: int = 0
    failed: int = 0
    """Which failure of all was its last one; 0: none since a connection over it came about."""


class Paths:
    """The paths to ``addresses``, the preferred one first."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._paths = {address: Path(address) for address in addresses}
        self._failures = 0

    @property
    def all(self) -> tuple[Path, ...]:
        """All of them, the preferred one first."""
        return tuple(self._paths.values())

    @property
    def are_several(self) -> bool:
        """Whether there is a choice."""
        return len(self._paths) > 1

    @property
    def have_all_failed(self) -> bool:
        """Whether there is none left that has not failed."""
        return all(path.failed for path in self._paths.values())

    @property
    def is_any_up(self) -> bool:
        """Whether one of them answers."""
        return any(path.is_up for path in self._paths.values())

    def pick(self) -> str:
        """Over which one to connect next: one that answers, whose failure is longest ago, that is preferred."""
        return min(self._paths.values(), key=lambda path: (path.silences > 0, path.failed)).address

    def note_failure(self, address: str) -> None:
        """Notes that a connection over ``address`` has come to nothing, or has ended."""
        self._failures += 1
        self._change(address, failed=self._failures)

    def note_connection(self, address: str) -> None:
        """Notes that one came about."""
        self._change(address, failed=0)

    def note_look(self, answers: Mapping[str, bool], wall: float) -> None:
        """Notes who answered."""
        for address, answered in answers.items():
            before = self._paths[address]
            silences = 0 if answered else before.silences + 1
            is_up = True if answered else False if silences >= SILENT_LOOKS else before.is_up
            since = wall if is_up is not before.is_up else before.since_wall
            failed = 0 if answered and before.silences else before.failed
            has_answered = before.has_answered or answered
            self._change(address, silences=silences, is_up=is_up, since_wall=since, failed=failed, has_answered=has_answered)

    def find_better(self, current: str) -> str | None:
        """Where the link should go that goes over ``current``; None where it is well there, or nowhere better."""
        path = self._paths.get(current)
        if path is None or not path.silences or not path.has_answered:
            return None
        return next((one.address for one in self._paths.values() if one.has_answered and not one.silences), None)

    def _change(self, address: str, **values: object) -> None:
        self._paths[address] = replace(self._paths[address], **values)  # type: ignore[arg-type]
