"""When a machine that was asked again and again, and said nothing, counts as silent. Pure; never reads a clock.

Silence is only ever of a stretch that ends now, and in which the machine was asked all the time. A sign of life ends the
stretch, and so does a pause in the asking: who did not ask, because his own machine stood still, knows nothing.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

ECHO_EVERY_S = 0.005
"""A tenth of a megabit a second, for as long as a silent peer is looked at."""

SYN_EVERY_S = 0.05
"""The kernel itself repeats a SYN after a second. sshd logs each connection that comes about."""

SYN_AFTER = 0.3
"""After this share of the time a machine that answers no ping is asked by TCP, too: sshd holds a connection on which nobody
logs in against its sender. From OpenSSH 9.8 on (Debian 13) some fifteen quick ones shut the door to him for a while
(sshd_config(5), PerSourcePenalties: noauth, min), and to his agent's link."""

GAP_S = 0.05
"""A longer pause between two echoes, or since the last one, ends the stretch."""

ANSWER_S = 0.005
"""An echo that was sent less than this ago has not had its time to be answered, and does not count."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What silence takes: so many echoes and connections without an answer, spread over ``silent_s``."""

    silent_s: float
    echoes: int
    connections: int


def terms_of(silent_s: float) -> Terms:
    """The terms of a look that takes ``silent_s``: 50 echoes and 4 connections in 0.25 s."""
    echoes = max(1, round(silent_s / ECHO_EVERY_S))
    apart = round(SYN_EVERY_S / ECHO_EVERY_S)
    return Terms(silent_s, echoes, max(1, math.ceil((echoes - round(SYN_AFTER * echoes)) / apart)))


class Silence:
    """What was asked since the last sign of life. Times are monotonic seconds, in the order in which they come."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self._echoes: deque[float] = deque()
        self._connections: deque[float] = deque()
        self._began: float | None = None

    def note_sign(self) -> None:
        """The machine has given a sign of life: all begins again."""
        self._echoes.clear()
        self._connections.clear()
        self._began = None

    def note_echo(self, now: float) -> None:
        """An echo request was sent."""
        if self._echoes and now - self._echoes[-1] > GAP_S:
            self.note_sign()
        self._began = now if self._began is None else self._began
        self._echoes.append(now)
        self._forget(now)

    def note_connection(self, now: float) -> None:
        """A connection was begun."""
        self._connections.append(now)

    def is_proved(self, now: float) -> bool:
        """Whether the machine was asked by the terms, without a sign, during the stretch of ``silent_s`` that ends now."""
        terms = self.terms
        if self._began is None or now - self._began < terms.silent_s or now - self._echoes[-1] > GAP_S:
            return False
        self._forget(now)
        answerable = sum(sent <= now - ANSWER_S for sent in self._echoes)
        return answerable >= terms.echoes and len(self._connections) >= terms.connections

    def _forget(self, now: float) -> None:
        """Leaves out what is older than the stretch, but the last echo, by which a pause is known."""
        since = now - self.terms.silent_s
        while len(self._echoes) > 1 and self._echoes[0] < since:
            self._echoes.popleft()
        while self._connections and self._connections[0] < since:
            self._connections.popleft()
