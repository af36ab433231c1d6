"""An operator's word that the other machine is off, for the takeover that waits for the peer's word now.

Owns that word, in memory alone: an agent that is started again does not know it, and asks for it again. It ends with its
takeover, and with any sign of life of the other node. Must not decide what is done with it: the takeover does.
"""

from __future__ import annotations

from ha_agent.core.orders import PeerOff
from ha_agent.core.transaction import Watermark
from ha_agent.core.transitions import Transition
from ha_agent.core.words import Role
from ha_agent.daemon.events import Events


class PeerOffWord:
    """For one group. ``peer``: the name of the other node."""

    def __init__(self, peer: str, events: Events) -> None:
        self._peer, self._events = peer, events
        self._word: PeerOff | None = None

    def give(self, word: PeerOff) -> None:
        """Puts ``word`` in force, in place of one before. The history has it."""
        self._word = word
        why = f": {word.reason}" if word.reason else ""
        text = f"{self._peer} is off, by an operator's word{why}: the takeover that waits goes on without its own"
        self._events.add("peer-declared-off", text, by=word.by, reason=word.reason, epoch=word.claim.epoch)

    def find(self, claim: Watermark) -> PeerOff | None:
        """The word that is in force for the takeover under ``claim``; None where there is none."""
        return self._word if self._word is not None and self._word.claim == claim else None

    def withdraw(self, sign: str) -> None:
        """Ends a word that has proved wrong. ``sign``: what was heard of the other node, for the history."""
        if self._word is not None:
            self._word = None
            self._events.add("peer-not-off", f"the word that {self._peer} is off no longer counts: {sign}")

    def hear_peer(self) -> None:
        """The peer's agent has given a sign of life."""
        self.withdraw("its agent was heard")

    def hear_transition(self, told: Transition) -> None:
        """A takeover that has ended, well or not, takes its word along."""
        if told.after is not Role.TAKING_OVER:
            self._word = None
