"""Logins: sessions with their anti-forgery tokens, and how often somebody may try. No clock, no file; times in seconds."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from ha_agent.web.users import Account

MOST_SESSIONS = 1000
MOST_STREAMS = 100
STREAMS_A_USER = 16
CHECKS, CHECKS_OF_ADDRESS = 8, 2
"""Passwords that may wait to be looked at, in all and of one address: a check takes a fifth of a second of a processor."""

MOST_KEYS = 10_000

FREE_TRIES = 5
"""Up to this number failures of one user or address cost nothing; each further one doubles the wait."""

LONGEST_WAIT_S = 900.0
FORGET_S = 3600.0


@dataclass(slots=True)
class Session:
    """One login. ``csrf`` must come with everything that changes something."""

    account: Account
    csrf: str
    began: float
    used: float


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


class Sessions:
    """All logins. They are forgotten when the process ends."""

    def __init__(self, idle_s: float, max_s: float) -> None:
        self._idle_s, self._max_s = idle_s, max_s
        self._known: dict[str, Session] = {}

    def begin(self, account: Account, now: float) -> tuple[str, Session]:
        """A new login: what the browser is to keep, and the session."""
        self._known = {key: one for key, one in self._known.items() if self._is_live(one, now)}
        while len(self._known) >= MOST_SESSIONS:
            del self._known[min(self._known, key=lambda key: self._known[key].used)]
        token = secrets.token_urlsafe(32)
        session = self._known[_digest(token)] = Session(account, secrets.token_urlsafe(24), now, now)
        return token, session

    def find(self, token: str, now: float, account_of: Callable[[str], Account | None]) -> Session | None:
        """The session of ``token``. None where it is over, or its user is gone, or has another password or other rights."""
        session = self._known.get(_digest(token))
        if session is None:
            return None
        if not self._is_live(session, now) or account_of(session.account.name) != session.account:
            self.end(token)
            return None
        session.used = now
        return session

    def end(self, token: str) -> None:
        """Forgets a login. Idempotent."""
        self._known.pop(_digest(token), None)

    def _is_live(self, session: Session, now: float) -> bool:
        return now - session.used < self._idle_s and now - session.began < self._max_s


def is_csrf(session: Session, given: str) -> bool:
    """Whether ``given`` is what a page of this session would send."""
    return hmac.compare_digest(session.csrf.encode(), given.encode())


class Gate:
    """Slows down guesses of passwords, by user name and by address."""

    def __init__(self) -> None:
        self._failures: dict[str, tuple[int, float]] = {}

    def wait_s(self, keys: tuple[str, ...], now: float) -> float:
        """Seconds until any of ``keys`` may be tried again; 0 where now."""
        waits = []
        for key in keys:
            count, last = self._failures.get(key, (0, 0.0))
            if count >= FREE_TRIES and now - last < FORGET_S:
                waits.append(last + min(LONGEST_WAIT_S, 2.0 ** (count - FREE_TRIES)) - now)
        return max([0.0, *waits])

    def count(self, keys: tuple[str, ...], now: float) -> None:
        """Counts a try, before it is known how it ends: those that come meanwhile must not pass unseen."""
        for key in keys:
            count, last = self._failures.pop(key, (0, now))
            self._failures[key] = (count + 1 if now - last < FORGET_S else 1), now
        while len(self._failures) > MOST_KEYS:
            del self._failures[next(iter(self._failures))]

    def succeeded(self, keys: tuple[str, ...]) -> None:
        """Resets the counters after a good login."""
        for key in keys:
            self._failures.pop(key, None)


class Places:
    """A number of places, of which each owner may have some at once."""

    def __init__(self, most: int, of_one: int) -> None:
        self._most, self._of_one = most, of_one
        self._taken: Counter[str] = Counter()

    def take(self, owner: str) -> bool:
        """Takes a place for ``owner``; False where there is none for them."""
        if self._taken.total() >= self._most or self._taken[owner] >= self._of_one:
            return False
        self._taken[owner] += 1
        return True

    def give_back(self, owner: str) -> None:
        """Frees a place that was taken."""
        self._taken[owner] -= 1
        if self._taken[owner] <= 0:
            del self._taken[owner]
