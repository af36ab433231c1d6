"""The patrol: looks now and then whether the processes of this node are what its role says, and says what they are not.

On a standby nothing of the registry may run: what does is noted, and the rules release. On the active node every process of
the registry belongs to a program: what does not is told, and left alone (adr/0009). Ends nothing itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from ha_agent.adapters.files import read_note, write_note
from ha_agent.core.kinship import UNKNOWN_GROUP, Marked
from ha_agent.core.reasons import reason_of
from ha_agent.core.supervisor_words import full_name
from ha_agent.core.words import Role
from ha_agent.daemon.events import Events
from ha_agent.daemon.programs.sweep import Sweeper
from ha_agent.daemon.replication.ledger import Ledger
from ha_agent.daemon.role.maintenance import Maintenance
from ha_agent.daemon.standing import Standing

log = logging.getLogger(__name__)

LOOK_S = 10.0
"""Between two looks; one is a pass over /proc, and on a standby one question to supervisord."""

AGAIN_S = 2.0
"""What was seen adrift once may be ending: it is told when it is there still."""

ONCE_MORE_S = 1.0
"""After a release the word is looked at once more: what a dying process had just forked has come to light by then."""

NAMED = 20


def describe(process: Marked) -> str:
    """A process in words."""
    if process.group == UNKNOWN_GROUP:
        return process.process
    name = full_name(process.group, process.process)
    return f"{name} (pid {process.pid})" if process.pid else f"{name} (about to be started)"


def describe_all(found: Sequence[Marked]) -> str:
    """Several processes in words, the first ones by name."""
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return ", ".join(map(describe, found[:NAMED])) + more


class Patrol:
    """For one group. ``adopt_note``: the file by which setup says that what runs here was here before the agent.

    ``wake`` has the rules asked, ``start_task`` has a coroutine done beside the loop.
    """

    def __init__(
        self,
        standing: Standing,
        sweeper: Sweeper,
        ledger: Ledger,
        maintenance: Maintenance,
        events: Events,
        adopt_note: str,
        wake: Callable[[], None],
        start_task: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._standing, self._sweeper, self._ledger = standing, sweeper, ledger
        self._maintenance, self._events, self._adopt_note = maintenance, events, adopt_note
        self._wake, self._start_task = wake, start_task
        self._adopted_at: int | None = None
        """The epoch that was known when this node began with programs that were there before it; None where it did not."""
        self._suspects: frozenset[tuple[int, int]] = frozenset()
        self.adrift: Sequence[Marked] = ()
        """Processes that belong to no program any more, as of the last look."""

    # ---- a node that is not to run anything -----------------------------------------------------------------

    async def resume(self) -> None:
        """Judges a start for which no agent of this boot has left a role.

        Where the registry runs here all the same the role was lost, and this node releases: the other may be active. Only
        where there has been no takeover yet, or where setup says so, do the programs run on until keepalived decides.
        """
        standing = self._standing
        if standing.has_resumed:
            self._adopted_at = self._read_adopted() if standing.role is Role.STANDBY else None
            return
        if not (signs := await self._sweeper.find_evidence()):
            return
        epoch = self._ledger.known.epoch
        if epoch == 0 or os.path.exists(self._adopt_note):
            self._adopt(epoch)
            return
        standing.begin_releasing()
        self._events.add("role-lost", f"no role was left in /run, and the registry runs here: {describe_all(signs)}")

    def _adopt(self, epoch: int) -> None:
        """Adopts what runs here, and notes that for an agent that is started again: its own start stops no program."""
        self._adopted_at = epoch
        try:
            write_note(self._adopt_note, b"%d\n" % epoch)
        except OSError as error:
            log.error(
                "%s cannot be written, an agent after this one would end what it adopts: %s",
                self._adopt_note,
                reason_of(error),
            )

    def _read_adopted(self) -> int | None:
        """The epoch at which an agent before this one adopted what ran here; None where it did not.

        A note without a number is setup's own, which no agent has acted on yet.
        """
        raw = read_note(self._adopt_note)
        if raw is None:
            return None
        return int(raw) if raw.strip().isdigit() else self._ledger.known.epoch

    async def is_clear(self) -> bool:
        """Looks at the processes of a standby; says whether nothing of the registry runs. What does is told and released."""
        signs = await self._sweeper.find_evidence()
        if not signs or self._standing.role is not Role.STANDBY:
            return not signs
        self._standing.note_left_running(len(signs))
        self._events.add("registry-found", f"the registry runs on this standby: {describe_all(signs)}")
        self._wake()
        return False

    def settled(self) -> None:
        """The role has changed: after a release the processes are looked at once more."""
        self._adopted_at = None
        with contextlib.suppress(OSError):
            os.unlink(self._adopt_note)
        self.adrift, self._suspects = (), frozenset()
        if self._standing.role is Role.STANDBY:
            self._start_task(self._look_once_more())

    async def _look_once_more(self) -> None:
        await asyncio.sleep(ONCE_MORE_S)
        await self.look_at_standby()

    async def look_at_standby(self) -> None:
        """Looks at the processes of a standby, unless it is in maintenance, or adopts what was there before the agent."""
        if self._standing.role is not Role.STANDBY or self._maintenance.is_on:
            return
        # A takeover elsewhere means that what runs here runs twice.
        if self._adopted_at is None or self._adopted_at != self._ledger.known.epoch:
            await self.is_clear()

    # ---- the active node ------------------------------------------------------------------------------------

    async def look_for_adrift(self) -> bool:
        """Looks for processes of an active node that belong to no program; those that were seen twice in a row are told.

        Says whether something was seen for the first time, so that another look is due soon.
        """
        found = await self._sweeper.find_strays()
        if self._standing.role is not Role.ACTIVE or self._standing.plan is not None:
            return False
        seen = frozenset((p.pid, p.started_ticks) for p in found)
        before = {(p.pid, p.started_ticks) for p in self.adrift}
        lasting = [p for p in found if (p.pid, p.started_ticks) in self._suspects]
        is_new, self._suspects, self.adrift = bool(seen - self._suspects), seen, lasting
        if fresh := [p for p in lasting if (p.pid, p.started_ticks) not in before]:
            self._events.add("program-adrift", f"these belong to no program any more: {describe_all(fresh)}")
        return is_new

    # ---- all the time ---------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Looks for ever."""
        pause = LOOK_S
        while True:
            await asyncio.sleep(pause)
            pause = LOOK_S
            if self._standing.role is Role.STANDBY:
                await self.look_at_standby()
            elif self._standing.role is Role.ACTIVE and self._standing.plan is None and await self.look_for_adrift():
                pause = AGAIN_S
