"""Tries the rules of the votes at random for a time: ``python -m tests.votes_model SECONDS SEED``.

Rough times, with every fault at once, take turns with calm ones in which two of the three can reach each other: at the end
of each calm time of two ttl somebody must hold. Ends with the first violation, and says the seed of the world that makes it
again.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random

from ha_agent.core.holder import Holder
from ha_agent.core.vote_terms import VoteTerms
from tests.votes_world import FASTEST, LINKS, NODES, SLOWEST, A, B, HolderMaker, Violation, W, World

ROUNDS = 12
"""Rough and calm times of one world."""


class NobodyHolds(AssertionError):
    """Two of three could reach each other for two ttl, and nobody held the votes."""


@dataclass
class Tally:
    """What was tried."""

    worlds: int = 0
    steps: int = 0
    starts: int = 0
    kills: int = 0
    calm: int = 0
    went_back: int = 0
    true_s: float = 0.0

    def add(self, world: World) -> None:
        self.worlds += 1
        self.steps += world.steps
        self.starts += world.starts
        self.kills += world.kills
        self.went_back += world.went_back
        self.true_s += world.true - 1000.0


def cut_or_heal(world: World, random: Random) -> None:
    world.cut ^= {random.choice(LINKS)}


def part(world: World, random: Random) -> None:
    """One of the three is cut off both ways, or all can reach each other."""
    alone = random.choice((A, B, W, None))
    world.cut = {link for link in LINKS if alone in link}


def order(world: World, random: Random) -> None:
    world.set_want(random.choice(NODES), random.random() < 0.7)


def pause(world: World, random: Random) -> None:
    world.pause_agent(random.choice(NODES), random.uniform(0, 2.5 * world.terms.ttl_s))


def pause_witness(world: World, random: Random) -> None:
    world.pause_witness(random.uniform(0, 2 * world.terms.ttl_s))


def reboot(world: World, random: Random) -> None:
    world.reboot(random.choice(NODES))


def fence(world: World, random: Random) -> None:
    world.fence(random.choice(NODES), random.choice((0.05, random.uniform(0, 2 * world.terms.ttl_s))))


def turn_clock(world: World, random: Random) -> None:
    world.turn_clock(random.choice(NODES), random.choice((FASTEST, SLOWEST, 1.0)))


def start(world: World, random: Random) -> None:
    world.start_agent(random.choice(NODES))


def restart_agent(world: World, random: Random) -> None:
    name = random.choice(NODES)
    world.stop_agent(name)
    if random.random() < 0.3:
        world.lose_note(name)
    if random.random() < 0.6:
        world.start_agent(name)


def lose_data(world: World, random: Random) -> None:
    """The witness goes back to an old state, the empty one included: once in a ttl, and further than that."""
    states = world.old_states()
    if not states or world.went_back_at > world.true - 2 * world.unsafe_depth:
        return
    last_of_each = [x for x, y in pairwise(states) if x.record and y.record and x.record.holder != y.record.holder]
    world.go_back(random.choice((states[0], states[-1], random.choice(states), random.choice(last_of_each or states))))


Weights = dict[Callable[[World, Random], None], int]

ALL: Weights = {
    cut_or_heal: 16,
    part: 20,
    order: 12,
    pause: 10,
    pause_witness: 5,
    restart_agent: 12,
    reboot: 7,
    fence: 5,
    turn_clock: 8,
    lose_data: 3,
    start: 7,
}
"""Every fault, and how often it is made."""


CALM = (
    ((A, B), {A}),
    ((A, B), {B}),
    ((A, B), {A, B}),
    ((A, W), {A}),
    ((B, W), {B}),
    ((A, W), {A, B}),
    ((A, B, W), {A}),
    ((A, B, W), {A, B}),
)
"""Who can reach whom, and who wants: at least one of those who can reach another."""


def calm_down(world: World, reach: tuple[str, ...], wants: set[str]) -> None:
    """No further fault; two of the three or all of them reach each other. Raises ``NobodyHolds``."""
    world.is_rough = False
    world.cut = set(LINKS)
    world.witness_paused_until = 0.0
    for name in NODES:
        node = world.nodes[name]
        node.paused_until = min(node.paused_until, world.true)
        world.start_agent(name)
        world.set_want(name, name in wants)
    # What was on its way in the rough time arrives, and what was stopped between check and act goes on; all promises end.
    world.advance(8.0)
    world.cut = {link for link in LINKS if not (link[0] in reach and link[1] in reach)}
    world.advance(2 * world.terms.ttl_s / SLOWEST)
    if not world.holders():
        raise NobodyHolds(f"nobody holds at {world.true:.3f}: {reach} reach each other, {wants} want")
    world.is_rough = True


WorldMaker = Callable[[Random, VoteTerms, HolderMaker], World]


@dataclass(frozen=True)
class Trial:
    """What is tried: the terms, the rules, the world. ``lives``: whether it is demanded that somebody holds after calm
    times."""

    terms: VoteTerms = field(default_factory=VoteTerms)
    make: HolderMaker = Holder
    world: WorldMaker = World
    weights: Weights = field(default_factory=lambda: ALL)
    lives: bool = True


def run_world(seed: str, trial: Trial, tally: Tally) -> None:
    """One world from its beginning. Raises ``Violation`` and ``NobodyHolds``."""
    random = Random(seed)
    world = trial.world(Random(seed + "/small"), trial.terms, trial.make)
    faults, weights = list(trial.weights), list(trial.weights.values())
    try:
        for _ in range(ROUNDS):
            for _ in range(random.randrange(5, 60)):
                random.choices(faults, weights)[0](world, random)
                world.advance(random.choice((0.0, random.uniform(0, 0.2), random.uniform(0, trial.terms.ttl_s))))
            try:
                calm_down(world, *random.choice(CALM))
            except NobodyHolds:
                if trial.lives:
                    raise
            tally.calm += 1
    finally:
        tally.add(world)


def run_for(trial: Trial, seed: int, seconds: float, most_steps: int = 10**12) -> Tally:
    """World after world for ``seconds`` or ``most_steps``. Raises ``Violation`` and ``NobodyHolds`` with the seed of the
    world."""
    tally = Tally()
    until = time.monotonic() + seconds
    while time.monotonic() < until and tally.steps < most_steps:
        name = f"{seed}.{tally.worlds}"
        try:
            run_world(name, trial, tally)
        except (Violation, NobodyHolds) as error:
            raise type(error)(f"{error} (world {name}, after {tally.steps:,} steps)") from None
    return tally


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.votes_model", description=__doc__)
    parser.add_argument("seconds", type=float)
    parser.add_argument("seed", type=int)
    options = parser.parse_args()
    try:
        tally = run_for(Trial(), options.seed, options.seconds)
    except (Violation, NobodyHolds) as error:
        print(f"votes: {error}", file=sys.stderr)
        return 1
    print(
        f"votes: {tally.steps:,} steps in {tally.worlds:,} worlds, {tally.true_s / 3600:.1f} h of true time; never two.\n"
        f"{tally.starts:,} starts, {tally.kills:,} kills by a keeper; {tally.went_back:,} times the witness lost data; "
        f"somebody held after each of {tally.calm:,} calm times of two ttl"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
