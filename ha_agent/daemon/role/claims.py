"""The claims of this node: the epoch that it takes over under, and a higher one where the standby knows of a higher one.

The epoch is also in a note that every program may read, as a fencing token: the other node's next takeover has a higher one.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable

from ha_agent.adapters.files import keep_note, remove_note, write_note
from ha_agent.core.plans import claim_epoch, outranks
from ha_agent.core.reasons import reason_of
from ha_agent.core.transaction import Watermark, is_jump
from ha_agent.core.words import Role
from ha_agent.daemon.events import Events
from ha_agent.daemon.replication.ledger import Ledger
from ha_agent.daemon.standing import Standing

log = logging.getLogger(__name__)


class Claims:
    """The one writer of the claim. ``resuming`` keeps the epoch of a takeover that was cut off."""

    def __init__(
        self, standing: Standing, ledger: Ledger, events: Events, on_raised: Callable[[], None], epoch_note: str
    ) -> None:
        """``on_raised`` is called when the epoch of an active node was raised: changes may go out under it.

        ``epoch_note``: the file by which programs know it.
        """
        self._standing, self._ledger, self._events = standing, ledger, events
        self._on_raised, self._epoch_note = on_raised, epoch_note
        self.resuming = False

    async def claim(self, heard: Watermark | None, witnessed: int = 0) -> Watermark:
        """Claims the epoch above every known one, durably, before anything else happens. Raises ``OSError``.

        ``heard``: what the peer last said of its own. ``witnessed``: the epoch that the witness's record tells of; one that
        is too far above what is known here is not believed, because others may write there.
        """
        known = self._ledger.known
        if witnessed > known.epoch and not is_jump(floor := Watermark(witnessed, ""), known):
            known = floor
        if heard is not None and outranks(heard, known):
            known = heard
        mark = claim_epoch(known, self._standing.node, resuming=self.resuming)
        await self._ledger.claim(mark)
        self._standing.claim_epoch(mark)
        self._tell_programs()
        self.resuming = True
        return mark

    async def raise_above(self, over: Watermark) -> None:
        """Claims a higher epoch than ``over``, which the standby knows, while this node is active.

        Where the disk does not take it the claim stays as it is: it is tried again with the next push.
        """
        standing = self._standing
        if standing.role is not Role.ACTIVE or over.epoch < standing.claim.epoch or over == standing.claim:
            return
        raised = Watermark(over.epoch + 1, standing.node)
        try:
            await self._ledger.claim(raised)
        except OSError as error:
            log.error(
                "the epoch cannot be raised above the peer's, it is tried again with the next push: %s", reason_of(error)
            )
            return
        standing.claim_epoch(raised)
        self._tell_programs()
        text = f"epoch raised to {raised.epoch}: the standby knew {over.epoch} of {over.claimed_by}"
        self._events.add("epoch-raised", text)
        self._on_raised()

    def keep(self) -> bool:
        """Writes the programs' note again where it is not right; says whether it did. Raises ``OSError``."""
        if self._standing.role not in (Role.ACTIVE, Role.TAKING_OVER) or not self._standing.claim.epoch:
            return False
        return keep_note(self._epoch_note, self._to_note())

    def _tell_programs(self) -> None:
        """Where it cannot be written there is none: a program that needs it does not start then, and is told as failed."""
        try:
            write_note(self._epoch_note, self._to_note())
        except OSError as error:
            log.error("%s cannot be written: %s", self._epoch_note, reason_of(error, self._epoch_note))
            with contextlib.suppress(OSError):
                remove_note(self._epoch_note)

    def _to_note(self) -> bytes:
        """One line, which sh can read with "." and systemd as an EnvironmentFile."""
        return f"HA_AGENT_EPOCH={self._standing.claim.epoch}\n".encode("ascii")

    def learn_own(self) -> None:
        """Takes in the claim that an agent of this boot had made."""
        self._ledger.learn(self._standing.claim)
