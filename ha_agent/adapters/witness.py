"""What every witness can do, whatever keeps its record: read it, and change it by compare-and-swap."""

from __future__ import annotations

from typing import Protocol

from ha_agent.core.witness_record import Record, Sight
from ha_agent.core.witness_watch import Outcome


class NoAnswer(Exception):
    """The witness did not say what was asked, or not in time; the text is its own, or why there is none."""


class Witness(Protocol):
    """One record of one pair. One question at a time; the next one when that has ended, or is over its time."""

    async def read(self, timeout_s: float) -> Sight:
        """The record as it is now, not as it was: a read that the store answers from old data is of no use.

        Raises ``NoAnswer``, after ``timeout_s`` at the latest.
        """
        ...

    async def swap(self, expected: Sight, record: Record, timeout_s: float) -> tuple[Outcome, Sight | None]:
        """Writes ``record`` where the witness still has ``expected``, revision and text.

        ``DONE`` and what was written; ``OTHER`` and what is there instead; ``UNKNOWN`` where no answer came within
        ``timeout_s``, or one that leaves it open: the write may happen still. Never raises for a witness that fails;
        ``problem`` says why.
        """
        ...

    async def run(self) -> None:
        """Keeps up what connection there is until cancelled; returns at once where each question brings its own."""
        ...

    @property
    def problem(self) -> str:
        """Why the last question had no answer; empty where it had one."""
        ...

    def close(self) -> None:
        """Lets go of connections. Idempotent."""
        ...
