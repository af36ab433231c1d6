"""What ``doctor`` makes of a pair with a witness: clocks, ways, and programs that the deadline would kill. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ha_agent.core.conf_text import read_sections
from ha_agent.core.vote_terms import CLOCK_RATES_DIFFER, VoteTerms

USUAL_STOP_S = 10
"""supervisord's own stopwaitsecs: whoever writes a longer one means that the program needs it."""

RATE_WARN = CLOCK_RATES_DIFFER / 5
"""A fifth of what the margin covers. Two good clocks differ by a ten-thousandth, and NTP turns one by a two-thousandth."""


@dataclass(frozen=True, slots=True)
class ClockRates:
    """Measured at once, as parts of 1. ``turned``: by how much this node's clock runs faster than its hardware does by
    itself, which is what a time daemon makes of it. ``peer``: by how much the peer's runs faster than this one, None where
    it could not be asked; known to ``known``."""

    turned: float
    peer: float | None
    known: float


def rate_of(first: tuple[float, float, float], second: tuple[float, float, float]) -> tuple[float, float]:
    """By how much a clock that was asked twice runs faster than ours, and how well that is known.

    Each question: our time before it, what the other clock said, our time when the answer was there.
    """
    (began, said, ended), (began_2, said_2, ended_2) = first, second
    took = (began_2 + ended_2) / 2 - (began + ended) / 2
    unsure = (ended - began) / 2 + (ended_2 - began_2) / 2
    return (said_2 - said) / took - 1, unsure / took


def is_rate_wrong(rates: ClockRates) -> bool:
    """Whether a clock is beyond what the margin covers, however the measurement errs."""
    return _worst(rates) > CLOCK_RATES_DIFFER


def is_rate_odd(rates: ClockRates) -> bool:
    """Whether a clock is further off than any good one."""
    return _worst(rates) > RATE_WARN


def _worst(rates: ClockRates) -> float:
    peer = 0.0 if rates.peer is None else max(0.0, abs(rates.peer) - rates.known)
    return max(abs(rates.turned), peer)


def say_rates(rates: ClockRates, peer: str) -> str:
    """The rates for people."""
    turned = f"this node's clock is turned by {rates.turned * 1e6:+.0f} ppm"
    if rates.peer is None:
        return f"{turned}; {peer}'s could not be asked"
    return f"{turned}, {peer}'s runs {rates.peer * 100:+.2f} % faster (known to {rates.known * 100:.2f} %)"


def time_to_kill_s(terms: VoteTerms) -> float:
    """Seconds from the last promise until everything is killed, where no other one comes."""
    return terms.ttl_s - terms.margin_s


def find_slow_stops(confs: Mapping[str, str], limit_s: float) -> dict[str, int]:
    """The programs of ``confs`` (texts by path) that were given longer than usual to stop, and longer than ``limit_s``."""
    found: dict[str, int] = {}
    for text in confs.values():
        for section in read_sections(text):
            wait = section.value("stopwaitsecs").strip() if section.is_program else ""
            if wait.isdecimal() and int(wait) > max(limit_s, USUAL_STOP_S):
                found[section.program] = int(wait)
    return found


@dataclass(frozen=True, slots=True)
class Way:
    """How the kernel would send a packet: over which interface, and to which gateway; "" where it is on the link."""

    device: str
    gateway: str


def shared_gateway(peer: Way, witness: Way) -> str:
    """The gateway that both ways lead over; "" where there is none. With it this node loses two votes at once."""
    return witness.gateway if witness.gateway == peer.gateway else ""
