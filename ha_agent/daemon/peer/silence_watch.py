"""Looks at a peer whose adverts stop before keepalived decides what that means, so that a takeover need not begin to.

Owns what is known of the peer's silence. Must not decide a role, and asks nothing of a peer that sends its adverts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Protocol

from ha_agent.core.adverts import Advert, Expectation
from ha_agent.core.silence import SYN_AFTER, SYN_EVERY_S, Silence, terms_of
from ha_agent.core.words import Role
from ha_agent.daemon.standing import Standing

log = logging.getLogger(__name__)

IDLE_S = 0.2
"""Where no adverts are expected it is looked for new ones so often, and for a change of role."""

AGAIN_S = 60.0
"""Where adverts cannot be heard it is tried again so often."""

DENSER = 1.12
"""So much more often than the terms say a machine is asked, because timers are late."""


class Adverts(Protocol):
    """What hears adverts; ``adapters/advert_socket.py``."""

    def receive(self) -> list[tuple[Advert, float]]:
        """Those since the last call, each with its moment."""

    def close(self) -> None:
        """Ends it."""


class Questions(Protocol):
    """What asks a machine; ``adapters/reach.py``."""

    def send_echo(self) -> bool:
        """Asks once; says whether that was sent."""

    def send_syn(self) -> bool:
        """Begins a connection; says whether that was sent."""

    def has_sign(self) -> bool:
        """Whether anything came of it."""

    def close(self) -> None:
        """Ends it."""


class SilenceWatch:
    """Of one group, while it is standby here, and until the takeover that follows has asked what is known.

    ``silent_s``: how long a peer must have been silent. ``open_adverts`` raises ``OSError`` where they cannot be heard; then
    nothing is known beforehand. ``clock``: the loop's monotonic clock.
    """

    def __init__(
        self,
        silent_s: float,
        standing: Standing,
        open_adverts: Callable[[], Adverts],
        open_questions: Callable[[], Questions],
        clock: Callable[[], float],
    ) -> None:
        self._terms, self._standing, self._clock = terms_of(silent_s), standing, clock
        self._open_adverts, self._open_questions = open_adverts, open_questions
        self._expectation = Expectation(silent_s)
        self._look: _Look | None = None
        self._is_told = False

    def note_sign(self) -> None:
        """The peer has said something by another way, such as over the link."""
        if self._look is not None:
            self._look.has_heard = True

    async def find_silence(self) -> bool | None:
        """Whether the peer's machine is silent: by the look that is under way, whose end is waited for.

        True: it was asked by the terms and has said nothing, until this moment. False: it has given a sign of life. None:
        no look is under way, so nothing is known.
        """
        look = self._look
        if look is None:
            return None
        while look is self._look and not look.is_over:
            look.listen()
            if look.has_heard:
                return False
            if look.silence.is_proved(self._clock()):
                # It counts once: whoever asks again begins again.
                look.is_over = True
                return True
            await asyncio.sleep(look.step_s)
        return False if look.has_heard else None

    async def run(self) -> None:
        """Watches until cancelled."""
        while True:
            if self._standing.role is not Role.STANDBY:
                await self._standing.wait_change(AGAIN_S)
                continue
            try:
                adverts = self._open_adverts()
            except OSError as error:
                self._tell(error)
                await asyncio.sleep(AGAIN_S)
                continue
            with contextlib.closing(adverts):
                await self._watch(adverts)
            self._expectation.forget()

    def _tell(self, error: OSError) -> None:
        if not self._is_told:
            self._is_told = True
            log.warning(
                "the peer's adverts cannot be heard (%s): a takeover begins to look at the peer when it begins", error
            )

    async def _watch(self, adverts: Adverts) -> None:
        """Waits for an advert that is missing, as long as this node is standby, and then looks."""
        while self._standing.role is Role.STANDBY:
            self._take(adverts)
            now = self._clock()
            due = self._expectation.find_due(now)
            if due is None:
                await asyncio.sleep(IDLE_S)
            elif now < due:
                await asyncio.sleep(min(due - now, IDLE_S))
            else:
                await self._look_at_peer(adverts)

    def _take(self, adverts: Adverts) -> bool:
        """Notes the adverts that have come; says whether there were any."""
        heard = adverts.receive()
        for advert, moment in heard:
            self._expectation.note_advert(advert, moment)
        return bool(heard)

    async def _look_at_peer(self, adverts: Adverts) -> None:
        """Asks the machine until it gives a sign, or keepalived must have decided, or a takeover has used what was found."""
        until = self._expectation.find_end()
        silence = Silence(self._terms)
        with contextlib.closing(self._open_questions()) as questions:
            look = self._look = _Look(silence, questions, lambda: self._take(adverts), self._clock)
            try:
                await look.ask(until)
            finally:
                look.is_over, self._look = True, None
        if look.has_heard:
            self._expectation.note_life(self._clock())
        else:
            self._expectation.forget()


class _Look:
    """One look. ``take_adverts`` says whether any came."""

    def __init__(
        self, silence: Silence, questions: Questions, take_adverts: Callable[[], bool], clock: Callable[[], float]
    ) -> None:
        self.silence, self._questions, self._take_adverts, self._clock = silence, questions, take_adverts, clock
        self.step_s = silence.terms.silent_s / (DENSER * silence.terms.echoes)
        self.has_heard = False
        self.is_over = False

    def listen(self) -> None:
        """Takes in what has come."""
        if self._questions.has_sign() or self._take_adverts():
            self.has_heard = True

    async def ask(self, until: float) -> None:
        """Asks until a sign comes, ``until``, or it is over for another reason."""
        began = self._clock()
        syn_due = began + SYN_AFTER * self.silence.terms.silent_s
        number = 0
        while not (self.is_over or self.has_heard or self._clock() >= until):
            now = self._clock()
            if now >= syn_due:
                syn_due += SYN_EVERY_S
                if self._questions.send_syn():
                    self.silence.note_connection(now)
            if self._questions.send_echo():
                self.silence.note_echo(now)
            number += 1
            await asyncio.sleep(max(0.0, began + number * self.step_s - self._clock()))
            if not self.is_over:
                self.listen()
