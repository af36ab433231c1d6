"""What the three votes of a pair are agreed on: how long a promise lasts, and the bounds that follow. Pure.

A **voter** promises to one node at a time that it may have programs running; a node that two of the three voters have
promised it **holds** the votes. docs/votes.md has the argument.
"""

from __future__ import annotations

from dataclasses import dataclass

CLOCK_RATES_DIFFER = 0.1
"""By how much of its length the two nodes' clocks may measure the same time differently. CLOCK_BOOTTIME follows adjtimex(2)
(clock_gettime(2)); the fastest that a time daemon turns it is chronyd's maxslewrate, a twelfth (chrony.conf(5))."""

LONGEST_EARLY_S = 0.25
"""What the agent needs to end everything by itself, so that the keeper need not kill local programs with it."""

LEAST_KILL_S = 0.1
"""What must remain of the margin, after the clocks, for killing: a wake-up and one write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteTerms:
    """All in seconds. ``ttl_s``: how long a promise lasts, on the clock of whoever counts it. ``renew_s``: time between two
    questions of a holder. ``answer_s``: an answer that takes longer counts as none. ``margin_s``: how long before the end of
    its promises a node kills what is running."""

    ttl_s: float = 3.0
    renew_s: float = 1.0
    answer_s: float = 0.5
    margin_s: float = 0.5

    def least_ttl_s(self) -> float:
        """The shortest ``ttl_s`` with which one answer may be lost, or the witness's record be found changed, at no cost."""
        return self.renew_s + 2 * self.answer_s + self.margin_s

    def least_margin_s(self) -> float:
        """The shortest ``margin_s`` in which a node has killed everything, whichever of the clocks is the faster one."""
        return self.ttl_s * CLOCK_RATES_DIFFER + LEAST_KILL_S

    def early_s(self) -> float:
        """How long before the deadline the agent kills by itself; nothing where one lost answer would bring that."""
        return min(LONGEST_EARLY_S, max(0.0, self.ttl_s - self.least_ttl_s()))
