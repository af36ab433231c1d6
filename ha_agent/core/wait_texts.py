"""What is said of a program that waits for others, or that was not started for want of them. Pure."""

from __future__ import annotations

from collections.abc import Collection


def say_wait(words: Collection[str], since_s: float) -> str:
    """A wait that lasts: "waits for redis since 12 s"."""
    return f"waits for {', '.join(words)} since {max(0.0, since_s):.0f} s"


def say_unmet(words: Collection[str]) -> str:
    """A wait that was given up."""
    return f"not started: {', '.join(words)} did not come in time"
