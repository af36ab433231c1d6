"""What one user may take of the agent at once: connections, requests under way, bytes not yet read, requests a second. Pure.

A user who is over the budget is not read any further until that has passed; nobody else waits for it. Root has room for
anything that is meant, and is never closed for somebody else's sake.
"""

from __future__ import annotations

from dataclasses import dataclass

from ha_agent.core.frames import MAX_FRAME_BYTES

COST_BYTES = 64 * 1024
"""An answer of this size costs as much as a request: describing it holds up everybody."""

COST_S, MOST_COST = 0.01, 20.0
"""So long a time costs as much as a request, up to a bound: with a third of a millisecond for each program, supervisord
would otherwise do little else than describe them. What only waits, for a peer that is away, is not charged for all of it."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one user may have.

    ``streams``: connections at once. ``requests``: under way at once, over all of them. ``unsent_bytes``: answers that the
    user has not read. ``per_s``: requests, answers of 64 KiB, and times of 10 ms a second, None for any number; ``burst``
    may come at once.
    """

    streams: int
    requests: int
    frame_bytes: int
    unsent_bytes: int
    per_s: float | None = None
    burst: float = 0.0


READER = Allowance(streams=8, requests=4, frame_bytes=64 * 1024, unsent_bytes=4 << 20, per_s=10.0, burst=60.0)
OPERATOR = Allowance(streams=24, requests=16, frame_bytes=6 << 20, unsent_bytes=32 << 20)
UNBOUNDED = Allowance(streams=1 << 30, requests=1 << 30, frame_bytes=MAX_FRAME_BYTES, unsent_bytes=1 << 60)
"""Of root, and of the peer's agent; other limits hold for both."""


CONNECTIONS_PER_S, CONNECTIONS_BURST = 50.0, 100.0
"""Connections that one socket of readers lets in, all users together. Whoever connects over and over holds up other readers
by a second; without a bound the agent of a busy machine would do little else."""


class Rate:
    """So many a second, of which ``burst`` may come at once. ``now`` is a monotonic time, in seconds."""

    def __init__(self, per_s: float, burst: float, now: float) -> None:
        self._per_s, self._burst = per_s, burst
        self._tokens, self._at_mono = burst, now

    def pay(self, cost: float, now: float) -> None:
        """Takes ``cost``; the last one before a wait may make a debt."""
        self._tokens = min(self._burst, self._tokens + (now - self._at_mono) * self._per_s) - cost
        self._at_mono = now

    def wait_s(self, now: float) -> float:
        """Seconds until there is no debt any more."""
        return max(0.0, -(self._tokens + (now - self._at_mono) * self._per_s) / self._per_s)


class Purse:
    """What one user has taken. ``now`` is a monotonic time, in seconds."""

    def __init__(self, allowance: Allowance, now: float) -> None:
        self.allowance = allowance
        self._under_way = 0
        self._rate = None if allowance.per_s is None else Rate(allowance.per_s, allowance.burst, now)

    def begin(self, now: float) -> None:
        """A request has come in."""
        self._under_way += 1
        self._pay(1.0, now)

    def end(self, answer_bytes: int, took_s: float, now: float) -> None:
        """Its answer of so many bytes, which has taken so long, is on its way."""
        self._under_way -= 1
        self._pay(answer_bytes / COST_BYTES + min(MOST_COST, took_s / COST_S), now)

    def _pay(self, cost: float, now: float) -> None:
        if self._rate is not None:
            self._rate.pay(cost, now)

    def wait_s(self, unsent_bytes: int, now: float) -> float | None:
        """Seconds until the next request may come in: 0 for now, None where that depends on an answer being made or read."""
        if self._under_way >= self.allowance.requests or unsent_bytes >= self.allowance.unsent_bytes:
            return None
        return 0.0 if self._rate is None else self._rate.wait_s(now)
