"""The claims of this node: the epoch that it takes over under, and a higher one where the standby knows of a higher one."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ha_agent.core.plans import claim_epoch, outranks
from ha_agent.core.transaction import Watermark, is_jump
from ha_agent.core.words import Role
from ha_agent.daemon.events import Events
from ha_agent.daemon.replication.ledger import Ledger
from ha_agent.daemon.standing import Standing

log = logging.getLogger(__name__)


class Claims:
    """The one writer of the claim. ``resuming`` keeps the epoch of a takeover that was cut off."""

    def __init__(self, standing: Standing, ledger: Ledger, events: Events, on_raised: Callable[[], None]) -> None:
        """``on_raised`` is called when the epoch of an active node was raised: changes may go out under it."""
        self._standing, self._ledger, self._events = standing, ledger, events
        self._on_raised = on_raised
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
            log.error("the epoch cannot be raised above the peer's, it is tried again with the next push: %s", error)
            return
        standing.claim_epoch(raised)
        text = f"epoch raised to {raised.epoch}: the standby knew {over.epoch} of {over.claimed_by}"
        self._events.add("epoch-raised", text)
        self._on_raised()

    def learn_own(self) -> None:
        """Takes in the claim that an agent of this boot had made."""
        self._ledger.learn(self._standing.claim)
