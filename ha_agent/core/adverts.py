"""Adverts of the peer's keepalived: what one says, and when the next one is missing. Pure.

An advert says how often its sender sends one, so nothing of keepalived's configuration need be known here. A node becomes
MASTER when it has heard none for three of these intervals and a skew of less than one (RFC 5798, 6.1: Master_Down_Interval).
"""

from __future__ import annotations

from dataclasses import dataclass

PROTOCOL = 112
"""Of IP (RFC 5798, 5.1.1.4)."""

ADVERTISEMENT = 1
HEADER_BYTES = 8

LATE = 1.1
"""An advert is missing when none came for so many of its intervals. On a busy machine they are late by milliseconds."""

MISSED_OF_DOWN = 3
SPARE_S = 0.02
"""Where the interval is long, the look begins so late that it is over this long before the peer counts as down."""

LINGER_S = 0.5
"""What keepalived decides after missing adverts is known here within this time."""

PAUSE_S = 0.1
"""Between two looks at a machine that answers and sends no adverts."""


@dataclass(frozen=True, slots=True)
class Advert:
    """``is_farewell``: its sender gives up being MASTER (priority 0), so that no more will come."""

    router_id: int
    interval_s: float
    is_farewell: bool = False


def read_advert(packet: bytes) -> Advert | None:
    """What an IPv4 packet with its header says; None where it is no advert.

    The interval is in hundredths of a second from version 3 on (RFC 5798, 5.2.7) and in seconds before (RFC 3768, 5.3.7).
    """
    body = packet[(packet[0] & 15) * 4 :] if packet else b""
    if len(body) < HEADER_BYTES or body[0] & 15 != ADVERTISEMENT:
        return None
    version = body[0] >> 4
    interval_s = ((body[4] & 15) << 8 | body[5]) / 100 if version >= 3 else float(body[5])
    return Advert(body[1], interval_s, body[2] == 0) if interval_s > 0 else None


@dataclass(frozen=True, slots=True)
class _Heard:
    interval_s: float
    at_mono: float

    def missing_mono(self, look_s: float) -> float:
        """When its next one is missing, in time for a look of ``look_s``."""
        return self.at_mono + max(LATE * self.interval_s, MISSED_OF_DOWN * self.interval_s - look_s - SPARE_S)

    @property
    def over_mono(self) -> float:
        """When keepalived has decided, and that is known here."""
        return self.at_mono + (MISSED_OF_DOWN + 1) * self.interval_s + LINGER_S


class Expectation:
    """When the next advert is missing, of the one instance that is missing first. ``look_s``: how long a look takes then."""

    def __init__(self, look_s: float) -> None:
        self._look_s = look_s
        self._heard: dict[int, _Heard] = {}
        self._not_before_mono = float("-inf")

    def note_advert(self, advert: Advert, now: float) -> None:
        """An advert has come at ``now``."""
        self._not_before_mono = float("-inf")
        if advert.is_farewell:
            self._heard.pop(advert.router_id, None)
        else:
            self._heard[advert.router_id] = _Heard(advert.interval_s, now)

    def note_life(self, now: float) -> None:
        """The machine lives, and is not looked at again for a moment, though an advert is missing."""
        self._not_before_mono = now + PAUSE_S

    def forget(self) -> None:
        """Nothing is expected before the next advert."""
        self._heard.clear()

    def find_due(self, now: float) -> float | None:
        """When an advert will be missing, or is; None where none is expected: no instance is MASTER there that was heard."""
        self._heard = {key: heard for key, heard in self._heard.items() if now < heard.over_mono}
        missing = [heard.missing_mono(self._look_s) for heard in self._heard.values()]
        return max(min(missing), self._not_before_mono) if missing else None

    def find_end(self) -> float:
        """When a look that begins now is of no use any more; the past where nothing is expected."""
        return max((heard.over_mono for heard in self._heard.values()), default=float("-inf"))
