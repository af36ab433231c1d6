"""Waiting until the peer has a change on its disk: the one place where a command does that.

"In sync" is never said of what the peer is believed to hold: it is asked, for each acknowledgement anew.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from ha_agent.adapters.rpc import Disconnected, RemoteError
from ha_agent.adapters.ssh import PeerLink
from ha_agent.core.manifest import Difference
from ha_agent.core.words import Outcome, Role
from ha_agent.daemon.replication.replicator import Replicator
from ha_agent.daemon.standing import Standing

ACKNOWLEDGE_S = 10.0
"""A command waits so long for the peer to have its change, unless it says something else."""

LINK_S = 0.5
"""A link that is down just now is waited for so long: it may be coming up again."""

MOVE_S = 2.0
"""The same where there are several paths: it is moving to another one."""

POLL_S = 0.05
"""The role and the link change without a push that would wake those who wait."""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Whether the peer has a change on its disk.

    ``outcome`` is IN_SYNC where it has, else UNREACHABLE, HELD, REFUSED_BY_PEER, TIMED_OUT, or REFUSED where this node lost
    its role meanwhile. ``detail`` is the bare cause, ``reason`` one sentence for an operator.
    """

    outcome: Outcome
    detail: str = ""
    reason: str = ""

    @property
    def on_peer(self) -> bool:
        """Whether the peer has it."""
        return self.outcome is Outcome.IN_SYNC

    def to_dict(self) -> dict[str, Any]:
        """As it stands in an answer."""
        return {"on_peer": self.on_peer, "reason": self.reason or None}


class Acknowledger:
    """Waits for the peer. ``clock``: the loop's monotonic clock."""

    def __init__(
        self, peer_name: str, standing: Standing, link: PeerLink, replicator: Replicator, clock: Callable[[], float]
    ) -> None:
        self._peer_name = peer_name
        self._standing, self._link, self._replicator = standing, link, replicator
        self._clock = clock

    async def wait(self, paths: Collection[str] | None = None, limit_s: float = ACKNOWLEDGE_S) -> Acknowledgement:
        """Waits until the peer holds ``paths`` as this node does (also: no longer holds them); None: the whole registry.

        What the peer refused before counts only when it was tried again. The last word is the peer's: it is asked what it
        holds when nothing more has to be sent. For the whole registry it looks at its disk first.
        """
        until, link_until = self._clock() + limit_s, 0.0
        grace_s = min(MOVE_S if self._link.paths.are_several else LINK_S, limit_s)
        wanted = None if paths is None else set(paths)
        self._replicator.retry_now()
        tried = False
        while True:
            progress = self._replicator.progress
            if self._link.is_up or not link_until:
                link_until = self._clock() + grace_s
            known = self._judge(wanted, self._clock() >= link_until, tried)
            if known is not None:
                return known
            if self._seems_done(wanted):
                known = await self._ask(wanted, until - self._clock())
                if known is not None:
                    return known
            if self._clock() >= until:
                return self._not_taken(Outcome.TIMED_OUT, f"no answer within {limit_s:g} s")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await progress.wait()
                tried = True

    def _judge(self, wanted: set[str] | None, link_is_late: bool, tried: bool) -> Acknowledgement | None:
        """What is known now; None where it is worth waiting."""
        state = self._replicator.state
        if self._standing.role is not Role.ACTIVE:
            reason = f"{self._standing.node} became {self._standing.role.value} meanwhile"
            return Acknowledgement(Outcome.REFUSED, reason, reason)
        if not self._link.is_up and link_is_late:
            problem = self._link.problem or "no link"
            return Acknowledgement(Outcome.UNREACHABLE, problem, f"{self._peer_name} cannot be reached ({problem})")
        pending = self._replicator.pending()
        if pending is not None:
            puts, deletes = _wanted_of(pending, wanted)
            if state.held and deletes and not puts:
                reason = f"deletions are held: {state.held}; ha-agent sync --accept-deletes sends them"
                return Acknowledgement(Outcome.HELD, state.held, reason)
        if tried and state.refused:
            return self._not_taken(Outcome.REFUSED_BY_PEER, state.refused)
        return None

    def _seems_done(self, wanted: set[str] | None) -> bool:
        """Whether the peer is worth asking: it seems to lack nothing, or it holds something else than was sent."""
        if not self._link.is_up:
            return False
        pending = self._replicator.pending()
        return self._replicator.differs if pending is None else not any(_wanted_of(pending, wanted))

    async def _ask(self, wanted: set[str] | None, limit_s: float) -> Acknowledgement | None:
        """The peer's own word; None where it says something else than was believed, or nothing: what follows is seen."""
        confirmed = self._replicator.pending() is not None
        try:
            async with asyncio.timeout(max(0.0, limit_s)):
                as_believed = await self._replicator.ask_holding(at_disk=wanted is None)
        except (Disconnected, TimeoutError):
            return None
        except RemoteError as error:
            return self._not_taken(Outcome.REFUSED_BY_PEER, str(error))
        return Acknowledgement(Outcome.IN_SYNC) if as_believed and confirmed else None

    def _not_taken(self, outcome: Outcome, why: str) -> Acknowledgement:
        return Acknowledgement(outcome, why, f"{self._peer_name} has not taken it: {why}")


def _wanted_of(pending: Difference, wanted: set[str] | None) -> tuple[set[str], set[str]]:
    puts, deletes = {entry.path for entry in pending.puts}, set(pending.deletes)
    return (puts, deletes) if wanted is None else (puts & wanted, deletes & wanted)
