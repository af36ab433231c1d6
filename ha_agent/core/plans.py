"""The two procedures as ordered steps, each idempotent, so that a plan may start again from its first step.

A plan that was cut off (the agent was killed, the VRRP state changed) is simply run again: a step that was done
finds nothing left to do. ``CLAIM`` is the one step with a memory, and the epoch on disk is that memory.
"""

from __future__ import annotations

from collections.abc import Collection

from ha_agent.core.transaction import Watermark
from ha_agent.core.words import Step

TAKEOVER_STEPS: tuple[Step, ...] = (
    Step.CLAIM,
    Step.INTERLOCK,
    Step.ORPHANS,
    Step.BEFORE_START,
    Step.ACTIVATE,
    Step.LOAD,
    Step.AFTER_START,
)
RELEASE_STEPS: tuple[Step, ...] = (
    Step.DISARM,
    Step.BEFORE_STOP,
    Step.STOP,
    Step.SWEEP,
    # Before the last step, which is the peer's word and lets its votes go.
    Step.AFTER_STOP,
    Step.UNLOAD,
)
HOOK_STEPS = frozenset({Step.BEFORE_START, Step.AFTER_START, Step.BEFORE_STOP, Step.AFTER_STOP})
"""Steps that a plan has only where a hook is configured for them."""

BREAKABLE_STEPS = HOOK_STEPS | {Step.INTERLOCK}
"""Steps that a plan which is abandoned breaks off within: all waiting, or ended by a signal."""


def steps_of(plan: tuple[Step, ...], hooked: Collection[Step]) -> tuple[Step, ...]:
    """The steps of ``plan`` on a node with hooks for the steps ``hooked``."""
    return tuple(step for step in plan if step not in HOOK_STEPS or step in hooked)


def claim_epoch(known: Watermark, node: str, *, resuming: bool) -> Watermark:
    """The epoch under which ``node`` takes over: one above the highest known, or its own where a takeover is resumed."""
    if resuming and known.claimed_by == node and known.epoch > 0:
        return known
    return Watermark(known.epoch + 1, node)


def outranks(peer: Watermark, own: Watermark) -> bool:
    """Whether the peer's claim is newer. Equal epochs (of a partition) are ranked by name, the same on both nodes."""
    return (peer.epoch, peer.claimed_by) > (own.epoch, own.claimed_by)
