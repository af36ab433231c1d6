"""When this node was active last, and whether the peer was so at the same time.

Must not decide anything: the link was cut, and what happened is told when it is back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ha_agent.core.overlap import Spell, find_overlap
from ha_agent.core.peer_summary import PeerSummary
from ha_agent.core.transitions import Transition
from ha_agent.core.width import count_text
from ha_agent.core.words import Role
from ha_agent.daemon.events import Events
from ha_agent.daemon.standing import Standing

REMEMBERED_S = 86400.0
"""For so long status says it; the history keeps it."""


class Spells:
    """``clock``: monotonic, ``wall``: wall clock seconds; ``count_programs``: how many groups of the registry are loaded."""

    def __init__(
        self,
        standing: Standing,
        events: Events,
        clock: Callable[[], float],
        wall: Callable[[], float],
        count_programs: Callable[[], int],
    ) -> None:
        self._standing, self._events = standing, events
        self._clock, self._wall, self._count_programs = clock, wall, count_programs
        self._began_mono: float | None = None
        self._ended_mono: float | None = None
        self._told_mono: float | None = None
        self._groups = 0
        self._last: dict[str, Any] | None = None

    def hear_transition(self, told: Transition) -> None:
        """Notes the beginning or the end of a time of being active."""
        now = self._clock()
        if told.after is Role.ACTIVE:
            self._began_mono, self._ended_mono = now, None
            # A release unloads them, and it may be over when this is told.
            self._groups = self._count_programs()
        elif told.after is Role.STANDBY and self._began_mono is not None and self._ended_mono is None:
            self._ended_mono = now

    def resume(self) -> None:
        """Goes on where an agent before this one was active: since when, the history says."""
        if self._standing.role is Role.ACTIVE and self._began_mono is None:
            self._groups = self._count_programs()
            ago = self._wall() - float(self._standing.last_transition.get("at", self._wall()))
            self._began_mono = self._clock() - max(0.0, ago)

    def describe(self) -> Spell | None:
        """The last time of being active; None where there was none in this boot that is known of."""
        if self._began_mono is None:
            self.resume()
        if self._began_mono is None:
            return None
        now, ended = self._clock(), self._ended_mono
        return Spell(now - self._began_mono, 0.0 if ended is None else now - ended)

    def hear_peer(self, peer: PeerSummary, took_s: float = 0.0) -> None:
        """Tells once that both nodes were active, on the one that took over later.

        ``took_s``: how long the peer's word may have been on its way. Its time of being active may have ended that much
        earlier than its age says: an overlap that is no longer than that is none.
        """
        own, theirs = self.describe(), peer.active
        if theirs is not None and theirs.ended_ago_s:
            theirs = Spell(theirs.began_ago_s + took_s, theirs.ended_ago_s + took_s)
        both = find_overlap(own, theirs)
        if both is None or own is None or peer.active is None or not both.ended_ago_s:
            return
        is_later = own.began_ago_s <= peer.active.began_ago_s
        if not is_later or self._told_mono == self._began_mono:
            return
        self._told_mono = self._began_mono
        wall, count = self._wall(), self._groups
        began, ended = wall - both.began_ago_s, wall - both.ended_ago_s
        took = ended - began
        groups = count_text(count, "group")
        text = f"{self._standing.node} and {peer.node} were both active for {took:.1f} s, with {groups} of programs"
        self._last = {"began": round(began, 3), "ended": round(ended, 3), "groups": count}
        self._events.add("ran-twice", text, took_s=round(took, 3), **self._last)

    @property
    def ran_twice(self) -> dict[str, Any] | None:
        """What was told last, for ``REMEMBERED_S``."""
        if self._last is not None and self._wall() - self._last["ended"] > REMEMBERED_S:
            self._last = None
        return self._last
