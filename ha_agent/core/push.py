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
    """``changes`` go out now; ``held`` tells why deletions do not; ``wait_for_deletes`` that they wait to settle.

    ``intent``: deletions for which there is an operator's word are among ``changes``.
    """

    changes: Difference
    held: str | None = None
    wait_for_deletes: bool = False
    intent: bool = False

    def result(self, peer: Manifest) -> Manifest:
        """The manifest that the peer has once ``changes`` are committed there."""
        return peer.changed(self.changes.puts, self.changes.deletes)


def plan_push(
    peer: Manifest, mine: Manifest, limits: GuardLimits, *, deletes_settled: bool, accepted: frozenset[str]
) -> PushPlan:
    """What to send so that a peer that holds ``peer`` comes to hold ``mine``.

    Writes go at once. A deletion goes at once where the same content reappears under another name (a rename is
    one change, never a moment with both or with none), else only when no further deletion came for the settling
    time: ``rm -rf`` deletes file by file, and only the whole of it can be recognised as a mass deletion.
    ``accepted`` are paths of which an operator has said that their deletion is meant; they go at once, and what else is
    deleted is judged without them.
    """
    wanted = diff_manifests(peer, mine)
    if not wanted.deletes:
        return PushPlan(wanted)
    arriving = {entry.sha256 for entry in wanted.puts}
    meant = accepted.intersection(wanted.deletes)
    renamed = {p for p in wanted.deletes if p not in meant and (e := peer.find(p)) is not None and e.sha256 in arriving}
    vanished = len(wanted.deletes) - len(renamed) - len(meant)
    rest = len(peer) - len(meant)
    now = Difference(wanted.puts, tuple(path for path in wanted.deletes if path in meant or path in renamed))
    if is_mass_deletion(rest, vanished, limits.mass_fraction, limits.mass_minimum):
        return PushPlan(now, held=f"{vanished} of {rest} confs are gone from the registry", intent=bool(meant))
    if deletes_settled or not vanished:
        return PushPlan(wanted, intent=bool(meant))
    return PushPlan(now, wait_for_deletes=True, intent=bool(meant))
