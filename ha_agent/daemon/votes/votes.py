"""What the role must know of this node's votes: wanting them, using them, letting them go; and feeding the keeper.

The node **uses** its votes from the moment at which the keeper holds their deadline until nothing is left running. Must not
decide a role, or start or stop a program.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from ha_agent.adapters.keeper import KeeperClient, KeeperFailed
from ha_agent.adapters.witness import Witness
from ha_agent.core.account import VotesAccount
from ha_agent.core.holder import Holder
from ha_agent.core.voter import Answer, Ask, LetGo
from ha_agent.core.words import Role
from ha_agent.daemon.votes.asking import Asking

log = logging.getLogger(__name__)

FEED_AGAIN_S = 0.1
"""A keeper that was killed is back after so long."""

KEEPER_LOOK_S = 2.0
"""While nothing is to be held, it is looked at so often whether the keeper is there."""

KEEPER_PATIENCE_S = 3.0
"""A keeper that cannot be had for longer is a reason not to be MASTER where it is required."""


class VotesMissing(Exception):
    """Nothing may be started: the votes, or the keeper, are not there. The text says which."""


class NoVotes:
    """A node without a witness: nothing is asked, nothing is waited for, everything may run."""

    is_needed = False

    def want(self) -> None:
        """From now on this node asks for the votes."""

    def is_held(self) -> bool:
        """Whether this node holds the votes: what the peer says, or does not, is of no matter then."""
        return False

    async def wait_held(self, limit_s: float) -> bool:
        """Waits until this node holds the votes, ``limit_s`` at most; says whether it does."""
        return True

    async def begin_use(self) -> None:
        """From now on programs may run on these votes: the keeper holds the deadline. Raises ``VotesMissing``."""

    def require(self) -> None:
        """Raises ``VotesMissing`` where no program may be started now."""

    def find_left_s(self) -> float | None:
        """Seconds until everything must be killed, by the agent itself; None where no votes are used."""
        return None

    def rest(self) -> None:
        """Asks for nothing any more, and lets what is counted end: something is left running that cannot be ended."""

    async def let_go(self) -> None:
        """Lets everything go: nothing is left running, which was verified, and nothing can be started."""

    def peer_was_fenced(self, began: float) -> None:
        """The peer's machine was switched off from outside at some time since ``began``, seconds of CLOCK_BOOTTIME."""

    def read_clock(self) -> float:
        """Now, in seconds of CLOCK_BOOTTIME."""
        return 0.0

    @property
    def hears_witness(self) -> bool:
        """Whether the witness has answered lately."""
        return False

    @property
    def promised(self) -> tuple[str, ...]:
        """Who has promised this node a vote, as of now."""
        return ()

    @property
    def seen_epoch(self) -> int:
        """The epoch that the witness's record tells of, the floor of the next claim; 0 for none."""
        return 0

    def note_epoch(self, epoch: int) -> None:
        """The epoch that the record is to tell of from now on."""

    def resume(self, role: Role) -> None:
        """Goes on with what an agent of this boot counted in ``role``."""

    def hear_peer(self) -> None:
        """The peer has given a sign of life."""

    def find_unfitness(self) -> str | None:
        """Why this node must not be MASTER, as far as votes go; None where it may."""
        return None

    def describe(self) -> VotesAccount | None:
        """What status, alerts and metrics say of the votes; None without a witness."""
        return None

    def works(self) -> tuple[Coroutine[Any, Any, None], ...]:
        """What is to run as long as the agent does."""
        return ()

    def close(self) -> None:
        """Lets go of connections; what the keeper holds stays."""


@dataclass(frozen=True, slots=True)
class VotesPorts:
    """What ``Votes`` touches. ``clock``: seconds of CLOCK_BOOTTIME. ``find_kill_path``: the file by which supervisord's
    control group is killed. ``is_linked``: whether this node's link to the peer is up. ``wake`` has the rules asked,
    ``wake_in`` has that done after so many seconds."""

    keeper: KeeperClient
    clock: Callable[[], float]
    find_kill_path: Callable[[], str | None]
    is_linked: Callable[[], bool]
    wake: Callable[[], None]
    wake_in: Callable[[float], None]


class Votes(NoVotes):
    """For one group. ``make_asking`` builds what asks, given who is to be called when something was heard.

    ``kind``: the witness's, as configured. ``is_required``: no program runs beyond what the keeper holds. ``has_note``: an
    agent of this boot left one.
    """

    is_needed = True

    def __init__(
        self,
        holder: Holder,
        make_asking: Callable[[Callable[[], None]], Asking],
        witness: Witness,
        ports: VotesPorts,
        *,
        kind: str,
        is_required: bool,
        has_note: bool,
    ) -> None:
        self._kind = kind
        self.holder, self.witness, self._ports, self._is_required = holder, witness, ports, is_required
        self.terms, self._has_note = holder.terms, has_note
        self._asking = make_asking(self._heard)
        self._changed = asyncio.Event()
        self._feeding = asyncio.Event()
        self._keeping = asyncio.Lock()
        """The keeper is asked one thing at a time, and what is asked last is meant last."""
        self._uses = False
        self._armed = 0.0
        """The deadline that the keeper holds, as far as this agent knows."""
        self._may_be_armed = False
        """Whether the keeper may hold one, also one that it did not confirm."""
        self.adopts = False
        """Whether programs run that were started before there was a witness: until this node holds the votes for the first
        time, they run without."""
        self._failing_since: float | None = None
        self.keeper_problem: str | None = None
        """Why the keeper could not be had when it was asked last; None where it could."""
        self._contended_at = self._linked_at = 0.0
        self._is_elsewhere = False
        self._lost_at: float | None = None
        self._told_unfit: str | None = None

    # ---- what is counted

    @property
    def deadline(self) -> float:
        """When everything that runs must have been killed; 0 where nothing is used."""
        if not self._uses:
            return 0.0
        return self._armed if self._is_required else max(self._armed, self._asking.deadline)

    def _promised_s(self) -> float:
        return self._asking.deadline - self.terms.early_s() - self._ports.clock()

    def is_held(self) -> bool:
        """Whether this node holds the votes for long enough to begin with anything."""
        return self._promised_s() > 0

    async def wait_held(self, limit_s: float) -> bool:
        """As declared; every word that comes is looked at."""
        loop = asyncio.get_running_loop()
        until = loop.time() + limit_s
        while not self.is_held():
            left_s = until - loop.time()
            if left_s <= 0:
                return False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._changed.wait()
        return True

    def find_left_s(self) -> float | None:
        """As declared: ``early_s`` before the keeper acts. Notes when the time is over."""
        if not self._uses:
            return None
        left_s = self.deadline - self.terms.early_s() - self._ports.clock()
        if left_s <= 0 and self._lost_at is None:
            self._lost_at = self._ports.clock()
        return left_s

    @property
    def promised(self) -> tuple[str, ...]:
        """As declared."""
        return self.holder.votes(self._ports.clock())

    @property
    def hears_witness(self) -> bool:
        """Within a ttl."""
        return self._ports.clock() - self.holder.heard_witness_at <= self.terms.ttl_s

    @property
    def seen_epoch(self) -> int:
        """As declared."""
        sight = self.holder.watch.sight
        return sight.record.epoch if sight is not None and sight.record is not None else 0

    def note_epoch(self, epoch: int) -> None:
        """It is written with the next renewal."""
        self.holder.epoch = max(self.holder.epoch, epoch)

    def read_clock(self) -> float:
        """As declared."""
        return self._ports.clock()

    # ---- wanting, using, letting go

    def want(self) -> None:
        """Idempotent: a takeover that is tried again goes on wanting."""
        if not self.holder.wants:
            self._contended_at = self._ports.clock()
        self._asking.want()

    async def begin_use(self) -> None:
        """As declared. Where the keeper is not required, one that cannot be had is told and done without."""
        if not self.is_held():
            raise VotesMissing("this node does not hold two votes")
        await self._arm(in_use=False)
        if self._is_required and self.keeper_problem is not None:
            raise VotesMissing(f"the keeper of the deadline cannot be armed: {self.keeper_problem}")
        self._uses, self.adopts, self._lost_at = True, False, None
        self._look_again()

    def require(self) -> None:
        """As declared; to be asked before each act that lets something start."""
        left_s = self.find_left_s()
        if left_s is None or left_s <= 0:
            raise VotesMissing("this node's votes have ended")

    def rest(self) -> None:
        """As declared; the keeper ends what is left at the deadline."""
        self._asking.rest()

    async def let_go(self) -> None:
        """As declared. A keeper that cannot be disarmed could kill once more, and nothing else."""
        async with self._keeping:
            self._uses = self.adopts = False
            if self._may_be_armed:
                try:
                    await self._ports.keeper.disarm()
                except KeeperFailed as error:
                    log.error("the keeper could not be disarmed, it may end supervisord once more: %s", error)
            self._armed, self._may_be_armed = 0.0, False
        self._asking.let_go()

    def peer_was_fenced(self, began: float) -> None:
        """As declared."""
        self._asking.peer_was_fenced(began)

    def resume(self, role: Role) -> None:
        """As declared. What the earlier agent counted on, the keeper holds still: that much is left without asking anybody.

        A node that is active and has never held the votes was so before it had a witness: ``adopts``.
        """
        if role is Role.STANDBY:
            return
        self.want()
        has_held = self.holder.held_until > 0
        if role is Role.ACTIVE and not has_held:
            self.adopts = True
        elif has_held or role is not Role.TAKING_OVER or not self._has_note:
            self._uses = self._may_be_armed = True
            self._armed = max(0.0, self.holder.held_until - self.terms.margin_s)

    # ---- the keeper

    async def _arm(self, *, in_use: bool) -> None:
        """Has the keeper hold the newest deadline. Notes why it could not be had.

        ``in_use``: only where the votes were not let go while the keeper was busy.
        """
        async with self._keeping:
            if in_use and not self._uses:
                return
            self._may_be_armed = True
            deadline, path = self._asking.deadline, self._ports.find_kill_path()
            try:
                if path is None:
                    raise KeeperFailed("supervisord has no control group of its own with a cgroup.kill")
                await self._ports.keeper.arm(deadline, path)
            except KeeperFailed as error:
                self._note_keeper(str(error))
            else:
                self._armed = deadline
                self._note_keeper(None)

    def _note_keeper(self, problem: str | None) -> None:
        if problem is not None and problem != self.keeper_problem:
            log.error("the keeper of the deadline: %s", problem)
        if problem is None:
            self._failing_since = None
        elif self._failing_since is None:
            self._failing_since = self._ports.clock()
        self.keeper_problem = problem

    async def feed(self) -> None:
        """Hands each newer deadline to the keeper, until cancelled; while none is used, looks for it."""
        pause = 0.0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause or KEEPER_LOOK_S):
                    await self._feeding.wait()
            self._feeding.clear()
            pause = 0.0
            if self.adopts:
                await self._adopt()
                pause = FEED_AGAIN_S
            elif not self._uses:
                await self._look_at_keeper()
            elif self._asking.deadline > max(self._armed, self._ports.clock()):
                await self._arm(in_use=True)
                pause = FEED_AGAIN_S if self.keeper_problem is not None else 0.0
                self._look_again()

    async def _adopt(self) -> None:
        """Begins to use the votes for what ran before there was a witness, as soon as this node holds them.

        A keeper that was armed once tells of an agent that did use them, and whose note is lost: then what it holds counts.
        """
        async with self._keeping:
            try:
                state = await self._ports.keeper.read_state()
            except KeeperFailed as error:
                self._note_keeper(str(error))
                return
        if self.adopts and state.word != "idle":
            self._uses, self.adopts, self._may_be_armed = True, False, True
            self._armed = state.deadline
            self._ports.wake()
        elif self.adopts and self.is_held():
            with contextlib.suppress(VotesMissing):
                await self.begin_use()

    async def _look_at_keeper(self) -> None:
        async with self._keeping:
            if self._uses:
                return
            try:
                await self._ports.keeper.read_state()
            except KeeperFailed as error:
                self._note_keeper(str(error))
            else:
                is_there = self._ports.find_kill_path() is not None
                self._note_keeper(None if is_there else "supervisord has no control group of its own with a cgroup.kill")
        self._tell_fitness()

    def _look_again(self) -> None:
        """Has the rules asked when the time would be over."""
        left_s = self.find_left_s()
        if left_s is not None:
            self._ports.wake_in(max(0.0, left_s) + 0.001)

    # ---- what is heard

    def _heard(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        if self._uses:
            self._feeding.set()
        self._tell_fitness()

    def _tell_fitness(self) -> None:
        if self._find_unfitness(self._ports.clock()) != self._told_unfit:
            self._ports.wake()

    def hear_peer(self) -> None:
        """As declared."""
        self.holder.heard_peer_at = self._ports.clock()

    def hear_ask(self, ask: Ask) -> Answer:
        """The peer asks for this node's vote. Raises ``OSError`` where a promise cannot be kept."""
        return self._asking.hear_ask(ask)

    def hear_let_go(self, said: LetGo) -> None:
        """The peer counts no promise any more that it asked for before."""
        self._asking.hear_let_go(said)

    # ---- whether it may be MASTER

    def find_unfitness(self) -> str | None:
        """As declared: by this the VIP follows the votes."""
        self._told_unfit = self._find_unfitness(self._ports.clock())
        return self._told_unfit

    def _find_unfitness(self, now: float) -> str | None:
        holder, ttl_s = self.holder, self.terms.ttl_s
        if self.adopts:
            return None
        if now - max(holder.heard_peer_at, holder.heard_witness_at) > ttl_s:
            return "it reaches neither the peer nor the witness, and could not have two votes"
        if self._lost_at is not None and now < self._lost_at + ttl_s:
            return "its votes have ended"
        if self._peer_holds(now):
            return "the peer holds the votes, and cannot be reached"
        since = self._failing_since
        if self._is_required and since is not None and now - since > KEEPER_PATIENCE_S and not self._uses:
            return f"the keeper of the deadline is not there: {self.keeper_problem}"
        return None

    def _peer_holds(self, now: float) -> bool:
        """Whether the peer has renewed after this node wanted the votes and the link went down.

        Where it can be asked the interlock says who stays active, and an agent that is being started again renews nothing.
        """
        renewed_after, heard = self.holder.peer_held
        if is_linked := self._ports.is_linked():
            self._linked_at = now
        if is_linked or now - heard > self.terms.ttl_s + self.terms.renew_s:
            self._is_elsewhere = False
        elif self.holder.wants and not self._uses and renewed_after > max(self._contended_at, self._linked_at):
            self._is_elsewhere = True
        return self._is_elsewhere

    def describe(self) -> VotesAccount | None:
        """As declared."""
        now, holder = self._ports.clock(), self.holder
        promise = holder.voter.promise
        return VotesAccount(
            kind=self._kind,
            promised=self.promised,
            to=promise.holder if promise is not None and now < promise.until else "",
            is_used=self._uses,
            left_s=self.deadline - now if self._uses else None,
            adopts=self.adopts,
            witness_silent_s=now - holder.heard_witness_at,
            witness_problem=self.witness.problem,
            keeper_problem=self.keeper_problem,
            is_required=self._is_required,
            ttl_s=self.terms.ttl_s,
        )

    def works(self) -> tuple[Coroutine[Any, Any, None], ...]:
        """As declared."""
        return self._asking.run(), self.feed(), self.witness.run()

    def close(self) -> None:
        """As declared."""
        self._ports.keeper.close()
        self.witness.close()
