"""The two procedures as ordered steps, each idempotent, so that a plan may start again from its first step.

A plan that was cut off (the agent was killed, the VRRP state changed) is simply run again: a step that was done
finds nothing left to do. ``CLAIM`` is the one step with a memory, and the epoch on disk is that memory.
"""

from __future__ import annotations

from ha_agent.core.transaction import Watermark
from ha_agent.core.words import Step

TAKEOVER_STEPS: tuple[Step, ...] = (Step.CLAIM, Step.INTERLOCK, Step.ORPHANS, Step.ACTIVATE, Step.LOAD)
RELEASE_STEPS: tuple[Step, ...] = (Step.DISARM, Step.STOP, Step.SWEEP, Step.UNLOAD)


def claim_epoch(known: Watermark, node: str, *, resuming: bool) -> Watermark:
    """The epoch under which ``node`` takes over: one above the highest known, or its own where a takeover is resumed."""
    if resuming and known.claimed_by == node and known.epoch > 0:
        return known
    return Watermark(known.epoch + 1, node)


def outranks(peer: Watermark, own: Watermark) -> bool:
    """Whether the peer's claim is newer. Equal epochs (of a partition) are ranked by name, the same on both nodes."""
    return (peer.epoch, peer.claimed_by) > (own.epoch, own.claimed_by)
