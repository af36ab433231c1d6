"""The schedule of a chaos run: which faults, where, when and for how long. Pure: the same seed gives the same schedule.

A run is a row of episodes. In each, one to four faults begin within a few seconds and are lifted again; then nothing is done
until the pair has settled, so that every episode ends with a check.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

NODES = ("node-a", "node-b")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault: how often it is drawn, for how long it lasts (seconds), and what it takes away.

    ``severs``: the two machines cannot reach each other by IP meanwhile. ``mutes``: the node's agent gives no answer.
    ``doubles``: what a program has left may run beside its next copy on that node, until the agent has seen it.
    """

    name: str
    weight: int
    lasts_s: tuple[float, float]
    severs: bool = False
    mutes: bool = False
    doubles: bool = False


KINDS = {
    kind.name: kind
    for kind in (
        Kind("keepalived-kill", 4, (1.0, 6.0)),
        Kind("keepalived-stop", 3, (1.0, 6.0)),
        Kind("keepalived-hang", 2, (0.5, 6.0)),
        Kind("agent-kill", 5, (0.1, 3.0)),
        Kind("agent-hang", 2, (1.0, 9.0), mutes=True),
        Kind("agent-broken", 1, (4.0, 8.0), mutes=True),
        Kind("supervisord-kill", 4, (0.1, 0.5)),
        Kind("supervisord-stop", 1, (2.0, 8.0)),
        Kind("supervisord-hang", 2, (2.0, 9.0)),
        Kind("power", 4, (0.5, 6.0), mutes=True),
        Kind("cable", 3, (0.5, 6.0), severs=True),
        Kind("block-vrrp", 3, (0.5, 6.0)),
        Kind("block-tcp", 2, (0.5, 5.0), mutes=True),
        Kind("block-ip", 2, (0.5, 8.0), severs=True),
        Kind("block-all", 2, (0.5, 8.0), severs=True),
        Kind("loss-both", 3, (1.0, 8.0)),
        Kind("address-gone-and-back", 2, (0.1, 5.0), severs=True),
        Kind("vip-on-both", 2, (0.1, 0.5)),
        Kind("freeze", 3, (0.3, 6.0), mutes=True),
        Kind("pause", 2, (0.5, 8.0), severs=True, mutes=True),
        Kind("disk-full", 3, (1.0, 7.0)),
        Kind("vip-delete", 2, (0.1, 0.5)),
        Kind("flap", 3, (0.5, 3.0)),
        Kind("ssh-reset", 3, (0.1, 1.0)),
        Kind("hand-over", 4, (0.5, 3.0)),
        Kind("switchover", 4, (0.5, 3.0)),
        Kind("standby-edit", 3, (0.1, 0.5)),
        Kind("overflow", 2, (1.0, 3.0), mutes=True),
        Kind("notes-lost", 3, (0.1, 0.5)),
        Kind("folder-vanished", 3, (0.1, 0.5)),
        Kind("run-full", 2, (1.0, 7.0)),
        Kind("socket-gone", 2, (0.5, 4.0)),
        Kind("reload", 2, (0.1, 0.5), doubles=True),
        Kind("session-reused", 2, (1.0, 6.0)),
    )
}


VOTE_KINDS = {
    kind.name: kind
    for kind in (
        Kind("cut-peer", 5, (0.5, 8.0), severs=True),
        Kind("cut-peer-one-way", 3, (0.5, 8.0), severs=True),
        Kind("cut-witness", 5, (0.5, 8.0)),
        Kind("cut-witness-one-way", 3, (0.5, 8.0)),
        Kind("cut-off", 5, (0.5, 8.0), severs=True),
        Kind("cut-all", 4, (0.5, 8.0), severs=True),
        Kind("witness-kill", 3, (0.1, 3.0)),
        Kind("witness-freeze", 3, (0.5, 8.0)),
        Kind("witness-power", 3, (0.5, 6.0)),
        Kind("keeper-kill", 4, (0.1, 3.0)),
        Kind("keeper-hang", 2, (0.5, 8.0), mutes=True),
    )
}
"""What else there is to do to a pair with a witness. A keeper that hangs mutes nothing, but must not beside its agent."""

ALL_KINDS = {**KINDS, **VOTE_KINDS}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: ``begins_s`` and ``ends_s`` after the beginning of its episode."""

    kind: str
    node: str
    begins_s: float
    ends_s: float


@dataclass(frozen=True, slots=True)
class Episode:
    """Faults that may overlap, in the order of their beginnings. ``seed`` feeds whatever else is random in it."""

    number: int
    faults: tuple[Fault, ...]
    seed: int


def make_episodes(seed: int, *, votes: bool = False) -> Iterator[Episode]:
    """Episodes without end. ``votes``: of a pair with a witness."""
    for number in itertools.count():
        yield _make_episode(number, random.Random(f"{seed}/{number}"), ALL_KINDS if votes else KINDS)


def _make_episode(number: int, rng: random.Random, kinds: Mapping[str, Kind]) -> Episode:
    chosen: list[Fault] = []
    for _ in range(rng.choice((1, 1, 2, 2, 2, 3, 3, 4))):
        fault = _draw(rng, kinds)
        if not any(_clash(fault, other) for other in chosen):
            chosen.append(fault)
    return Episode(number, tuple(sorted(chosen, key=lambda f: (f.begins_s, f.kind, f.node))), rng.getrandbits(32))


def _draw(rng: random.Random, kinds: Mapping[str, Kind]) -> Fault:
    kind = rng.choices(list(kinds.values()), [k.weight for k in kinds.values()])[0]
    begins = round(rng.uniform(0.0, 4.0), 2)
    return Fault(kind.name, rng.choice(NODES), begins, round(begins + rng.uniform(*kind.lasts_s), 2))


def _clash(one: Fault, two: Fault) -> bool:
    """Whether two faults cannot be had in one episode.

    The same kind on the same node; two that mute the same node (together they could outlast ``takeover.silent_peer_s``,
    which is a stated limit and has a test of its own); a node that is off or frozen cannot be done anything else to.
    """
    if one.kind == two.kind and one.kind.startswith("witness-"):
        return True
    if {one.kind, two.kind} <= {"witness-freeze", "witness-power", "witness-kill"}:
        return True
    if one.node != two.node:
        return False
    if one.kind == two.kind or (ALL_KINDS[one.kind].mutes and ALL_KINDS[two.kind].mutes):
        return True
    if "keeper-hang" in (one.kind, two.kind) and "agent-kill" in (one.kind, two.kind):
        # Without the agent a keeper that is stopped holds nothing (docs/votes.md).
        return True
    numb = {"power", "freeze", "pause"}
    overlap = one.begins_s - 0.3 < two.ends_s and two.begins_s - 0.3 < one.ends_s
    return overlap and (one.kind in numb or two.kind in numb)


def digest(seed: int, count: int = 100) -> str:
    """A short name of the schedule: equal for equal schedules."""
    text = json.dumps([asdict(episode) for episode in itertools.islice(make_episodes(seed), count)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
