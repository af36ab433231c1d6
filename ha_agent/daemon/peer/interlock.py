"""The interlock: one node asks for the word that nothing of the registry is left running on the other, which answers it.

Must not decide what is done without that word: the takeover does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from ha_agent.adapters.rpc import Disconnected, Progress, RemoteError
from ha_agent.adapters.ssh import PeerLink
from ha_agent.core.frames import Message
from ha_agent.core.plans import outranks
from ha_agent.core.settings import TakeoverSettings
from ha_agent.core.transaction import Watermark, is_jump
from ha_agent.core.words import Outcome, Role, VrrpState
from ha_agent.daemon.events import Events
from ha_agent.daemon.replication.ledger import Ledger
from ha_agent.daemon.standing import Standing

OFF = frozenset({Outcome.DEAD, Outcome.LINK_DOWN})
"""Outcomes that mean that the peer's machine does not answer at all."""


@dataclass(frozen=True, slots=True)
class PeerWord:
    """What came of asking the peer; ``because`` says why there is no word."""

    outcome: Outcome
    because: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As it stands in the history."""
        return {"interlock": self.outcome.value, **({"because": self.because} if self.because else {})}


class Interlock:
    """Both ends. ``clock``: the loop's monotonic clock; ``is_machine_up``: asks the peer's machine without its agent."""

    def __init__(
        self,
        limits: TakeoverSettings,
        standing: Standing,
        ledger: Ledger,
        link: PeerLink,
        events: Events,
        is_machine_up: Callable[[], Awaitable[bool]],
        clock: Callable[[], float],
    ) -> None:
        self._limits, self._standing, self._ledger = limits, standing, ledger
        self._link, self._events = link, events
        self._is_machine_up, self._clock = is_machine_up, clock

    # ---- the node that takes over -------------------------------------------------------------------------

    async def ask(self) -> PeerWord:
        """Asks for the release. A peer whose machine is up while its agent is silent gets ``silent_peer_s`` to come back."""
        limits = self._limits
        limit = self._clock() + limits.silent_peer_s
        waiting = False
        while True:
            probe = asyncio.ensure_future(self._is_machine_up())
            try:
                word = await self._ask_once()
                if word.outcome not in OFF or not await probe:
                    return word
            finally:
                probe.cancel()
                await asyncio.gather(probe, return_exceptions=True)
            if self._clock() >= limit:
                because = f"its machine answers, its agent did not within {limits.silent_peer_s:g} s"
                return PeerWord(Outcome.SILENT, because)
            if not waiting:
                waiting = True
                text = f"the peer's machine answers, its agent does not: waiting for it, {limits.silent_peer_s:g} s at most"
                self._events.add("peer-silent", text, because=word.because)
            self._link.nudge()
            await self._link.wait_change(limits.peer_probe_s)

    async def _ask_once(self) -> PeerWord:
        """Asks the peer and waits for its word. A peer that does not even say that it heard counts as dead."""
        limits, claim = self._limits, self._standing.claim
        if not self._link.is_up:
            return PeerWord(Outcome.LINK_DOWN, self._link.problem)
        heard = asyncio.Event()
        message = {"op": "release", "epoch": claim.epoch, "claimed_by": claim.claimed_by}
        asking = asyncio.ensure_future(self._link.ask(message, limits.interlock_timeout_s, lambda _: heard.set()))
        hearing = asyncio.ensure_future(heard.wait())
        try:
            await asyncio.wait({asking, hearing}, timeout=limits.peer_probe_s, return_when=asyncio.FIRST_COMPLETED)
            if not heard.is_set() and not asking.done():
                self._link.give_up("no answer to the interlock")
                return PeerWord(Outcome.DEAD, f"no sign of life within {limits.peer_probe_s:g} s")
            answer = await asking
        except TimeoutError:
            return PeerWord(Outcome.TIMED_OUT, f"not released after {limits.interlock_timeout_s:g} s")
        except (Disconnected, RemoteError) as error:
            return PeerWord(Outcome.DEAD, str(error))
        finally:
            hearing.cancel()
            asking.cancel()
            await asyncio.gather(asking, hearing, return_exceptions=True)
        return _read_word(answer)

    # ---- the node that is asked ---------------------------------------------------------------------------

    async def answer(
        self,
        asking: Watermark,
        progress: Progress,
        *,
        in_maintenance: Callable[[], bool],
        give_way: Callable[[str], None],
        wake: Callable[[], None],
    ) -> Message:
        """Answers when nothing of the registry is left running here, or why that will not be.

        A node that is active and that its own keepalived goes on to call MASTER refuses: in a dual master with a working
        link the node that is active already stays it, because that moves no program. Of two that take over at once the
        lower claim gives way.
        """
        standing, limits = self._standing, self._limits
        progress({"heard": True, "role": standing.role.value})
        wake()
        patience = self._clock() + limits.dual_master_s
        limit = self._clock() + limits.interlock_timeout_s
        while self._clock() < limit:
            if standing.role is Role.STANDBY:
                # Nothing runs here, whoever asks; an epoch that cannot be is not learnt all the same.
                if not is_jump(asking, self._ledger.known):
                    self._ledger.learn(asking)
                return {"outcome": Outcome.RELEASED}
            if in_maintenance():
                return {"outcome": Outcome.MAINTENANCE}
            if standing.role is Role.FENCED:
                return {"outcome": Outcome.LEFT_RUNNING, "left": standing.left_running}
            owning_master = standing.owns and standing.vrrp_state is VrrpState.MASTER
            if owning_master and self._clock() >= patience:
                if standing.role is Role.ACTIVE or not outranks(asking, standing.claim):
                    return {"outcome": Outcome.REFUSED}
                give_way("the peer takes over at the same time with a higher claim")
            until = limit
            if owning_master:
                # A node that gives way does so until its role changes: it is reminded now and then.
                until = patience if self._clock() < patience else self._clock() + limits.dual_master_s
            await standing.wait_change(max(0.01, until - self._clock()))
        return {"outcome": Outcome.TIMED_OUT}


def _read_word(answer: Message) -> PeerWord:
    """The peer's word. One that this node does not know is no word that nothing is left running."""
    said = str(answer.get("outcome"))
    try:
        return PeerWord(Outcome(said))
    except ValueError:
        return PeerWord(Outcome.FAILED, f"the peer answered {said!r:.40}")
