"""The votes as a model: never two holders, whatever goes wrong, and somebody where two of three can reach each other.

``python -m tests.votes_model SECONDS SEED`` does the same at random, some 100,000 steps a second.
"""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from ha_agent.core.vote_terms import VoteTerms
from tests.votes_model import CALM, NobodyHolds, Trial, calm_down, run_for
from tests.votes_mutants import DEAD, RIGHT, WRONG
from tests.votes_world import FASTEST, LINKS, NODES, SLOWEST, A, B, Violation, W, World

LONG_S = 60.0
"""What ends a test that has hung. A mistake is shown within a few seconds."""

NODE = st.sampled_from(NODES)


class Pair(RuleBasedStateMachine):
    """Hypothesis chooses the faults and their order; ``World`` checks after every event."""

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.world = World(Random(seed), VoteTerms())
        self.random = Random(seed + 1)

    @rule(seconds=st.floats(0, 7))
    def pass_time(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule(link=st.sampled_from(LINKS))
    def cut_or_heal(self, link: tuple[str, str]) -> None:
        self.world.cut ^= {link}

    @rule(alone=st.sampled_from((A, B, W, None)))
    def cut_off(self, alone: str | None) -> None:
        self.world.cut = {link for link in LINKS if alone in link}

    @rule(name=NODE, wants=st.booleans())
    def order(self, name: str, wants: bool) -> None:
        self.world.set_want(name, wants)

    @rule(name=NODE, seconds=st.floats(0, 9))
    def pause(self, name: str, seconds: float) -> None:
        self.world.pause_agent(name, seconds)

    @rule(seconds=st.floats(0, 9))
    def pause_witness(self, seconds: float) -> None:
        self.world.pause_witness(seconds)

    @rule(name=NODE, keeps_note=st.booleans(), comes_back=st.booleans())
    def restart(self, name: str, keeps_note: bool, comes_back: bool) -> None:
        self.world.stop_agent(name)
        if not keeps_note:
            self.world.lose_note(name)
        if comes_back:
            self.world.start_agent(name)

    @rule(name=NODE)
    def start(self, name: str) -> None:
        self.world.start_agent(name)

    @rule(name=NODE)
    def reboot(self, name: str) -> None:
        self.world.reboot(name)

    @rule(name=NODE, command_s=st.floats(0, 7))
    def fence(self, name: str, command_s: float) -> None:
        self.world.fence(name, command_s)

    @rule(name=NODE, rate=st.floats(SLOWEST, FASTEST))
    def turn_clock(self, name: str, rate: float) -> None:
        self.world.turn_clock(name, rate)

    @rule(data=st.data())
    def go_back(self, data: st.DataObject) -> None:
        states = self.world.old_states()
        if states and self.world.true - self.world.went_back_at > 2 * self.world.unsafe_depth:
            self.world.go_back(data.draw(st.sampled_from(states)))

    @rule(who=st.sampled_from(CALM))
    def calm(self, who: tuple[tuple[str, ...], set[str]]) -> None:
        calm_down(self.world, *who)


def test_never_two_hold_and_somebody_does_where_two_reach_each_other() -> None:
    run_state_machine_as_test(Pair, settings=settings(stateful_step_count=40, deadline=None))


@pytest.mark.parametrize("name", ["usual", *RIGHT])
def test_random_worlds_keep_the_rules(name: str) -> None:
    tally = run_for(RIGHT.get(name, Trial()), 7, LONG_S, 60_000)
    assert tally.starts > 100 and tally.calm > 50


@pytest.mark.parametrize("mistake", WRONG)
def test_the_model_finds_a_mistake_in_the_rules(mistake: str) -> None:
    trial, seed = WRONG[mistake]
    with pytest.raises(Violation):
        run_for(trial, seed, LONG_S)


def test_the_model_finds_rules_under_which_nobody_ever_holds() -> None:
    with pytest.raises(NobodyHolds):
        run_for(DEAD, 1, LONG_S)
