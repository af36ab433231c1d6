"""What the active node sends next: pure planning of a push, and the guard in front of it."""

from __future__ import annotations

from dataclasses import dataclass

from ha_agent.core.manifest import Difference, Manifest, diff_manifests
from ha_agent.core.transaction import is_mass_deletion


@dataclass(frozen=True, slots=True)
class GuardLimits:
    """When deletions are too many to go out by themselves (configuration ``[registry]``)."""

    mass_fraction: float
    mass_minimum: int


@dataclass(frozen=True, slots=True)
class PushPlan:
    """``changes`` go out now; ``held`` tells why deletions do not; ``wait_for_deletes`` that they wait to settle."""

    changes: Difference
    held: str | None = None
    wait_for_deletes: bool = False

    def result(self, peer: Manifest) -> Manifest:
        """The manifest that the peer has once ``changes`` are committed there."""
        return peer.changed(self.changes.puts, self.changes.deletes)


def plan_push(peer: Manifest, mine: Manifest, limits: GuardLimits, *, deletes_settled: bool, intent: bool) -> PushPlan:
    """What to send so that a peer that holds ``peer`` comes to hold ``mine``.

    Writes go at once. A deletion goes at once where the same content reappears under another name (a rename is
    one change, never a moment with both or with none), else only when no further deletion came for the settling
    time: ``rm -rf`` deletes file by file, and only the whole of it can be recognised as a mass deletion.
    ``intent`` is an operator's word that the deletions are meant.
    """
    wanted = diff_manifests(peer, mine)
    if not wanted.deletes:
        return PushPlan(wanted)
    arriving = {entry.sha256 for entry in wanted.puts}
    renamed = tuple(p for p in wanted.deletes if (e := peer.find(p)) is not None and e.sha256 in arriving)
    vanished = len(wanted.deletes) - len(renamed)
    if not intent and is_mass_deletion(len(peer), vanished, limits.mass_fraction, limits.mass_minimum):
        held = f"{vanished} of {len(peer)} confs are gone from the registry"
        return PushPlan(Difference(wanted.puts, renamed), held=held)
    if deletes_settled or intent or not vanished:
        return PushPlan(wanted)
    return PushPlan(Difference(wanted.puts, renamed), wait_for_deletes=True)
