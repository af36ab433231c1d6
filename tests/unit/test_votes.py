"""Single rules of the votes: planned moves, restarts, a witness with old data, and what is kept or travels."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_agent.core.holder import Holder, Identity
from ha_agent.core.vote_note import VoteNote, parse_note
from ha_agent.core.vote_terms import VoteTerms
from ha_agent.core.voter import Ask, LetGo, Promise, Voter
from ha_agent.core.witness_record import NOTHING_THERE, BadRecord, Record, Sight, parse_record
from ha_agent.core.witness_watch import Look, Mine, Outcome, Swap, WitnessWatch
from tests.votes_world import NODES, A, B, W, World

TTL = VoteTerms().ttl_s


def quiet_world() -> World:
    world = World(Random(1), VoteTerms())
    world.is_rough = False
    return world


def held_by(name: str) -> World:
    """A world in which ``name`` holds all three votes and runs its programs."""
    world = quiet_world()
    world.set_want(name, True)
    world.advance(2 * TTL)
    assert [n for n in NODES if world.nodes[n].running] == [name]
    return world


def votes_of(world: World, name: str) -> tuple[str, ...]:
    node = world.nodes[name]
    return node.holder.votes(node.clock.read(world.true)) if node.holder else ()


def test_a_planned_move_hands_two_votes_over_at_once_and_the_third_with_the_next_answer() -> None:
    world = held_by(A)
    world.advance(2.0)
    assert set(votes_of(world, A)) == {A, B, W}
    world.set_want(A, False)
    world.set_want(B, True)
    world.advance(0.3)
    assert world.nodes[B].running and {A, B} <= set(votes_of(world, B))
    world.advance(VoteTerms().renew_s)
    assert set(votes_of(world, B)) == {A, B, W}


def test_a_dead_peer_costs_the_rest_of_the_promises() -> None:
    world = held_by(A)
    world.set_want(B, True)
    world.advance(1.0)
    world.reboot(A)
    world.advance(TTL - VoteTerms().renew_s - 0.1)
    assert not world.nodes[B].running
    world.advance(1.3)
    assert world.nodes[B].running and {B, W} <= set(votes_of(world, B))


def test_a_dead_peer_that_was_fenced_costs_nothing_and_one_whose_fence_took_a_ttl_saves_nothing() -> None:
    for command_s, is_soon in ((0.2, True), (TTL, False)):
        world = held_by(A)
        world.set_want(B, True)
        world.advance(1.0)
        world.random = Random(4)
        world.fence(B, command_s)
        world.advance(0.4)
        assert world.nodes[B].running is is_soon, command_s
        world.advance(TTL)
        assert world.nodes[B].running and {B, W} <= set(votes_of(world, B))


def test_a_node_that_rests_counts_what_it_has_until_that_ends() -> None:
    world = held_by(A)
    world.set_want(B, True)
    holder = world.nodes[A].holder
    assert holder is not None
    holder.rest()
    assert world.holders() == [A]
    world.advance(TTL)
    assert not world.nodes[A].running and world.kills == 1
    world.advance(2.0)
    assert world.holders() == [B]


def test_a_holder_knows_when_the_peer_has_renewed_and_who_was_heard() -> None:
    world = held_by(A)
    b = world.nodes[B]
    assert b.holder is not None
    now = b.clock.read(world.true)
    assert now - b.holder.heard_peer_at < 1.2 and now - b.holder.heard_witness_at < 1.2
    assert now - b.holder.peer_held[0] < 1.2
    world.cut = {(A, B), (B, A)}
    world.advance(3 * TTL)
    since, heard = b.holder.peer_held
    now = b.clock.read(world.true)
    assert now - heard < 1.5 and since < heard, "the record tells of it"
    world.cut |= {(A, W), (W, A)}
    world.advance(3 * TTL)
    assert b.clock.read(world.true) - b.holder.peer_held[1] > 2 * TTL


@pytest.mark.parametrize("phase", [0.02, 0.3, 0.6, 0.95])
def test_a_standby_sees_each_write_of_the_record_soon_whatever_it_began_with(phase: float) -> None:
    world = quiet_world()
    world.stop_agent(B)
    world.set_want(A, True)
    world.advance(2 * TTL + phase)
    world.start_agent(B)
    world.advance(12.0)
    node = world.nodes[B]
    assert node.holder is not None
    late: list[tuple[float, float]] = []
    for _ in range(100):
        world.advance(0.03)
        watch = node.holder.watch
        if watch.sight == world.sight and (not late or late[-1][0] != watch.first_seen):
            late.append((watch.first_seen, watch.first_seen - node.clock.read(world.history[-1][0])))
    assert late and max(lag for _, lag in late) < 0.25, late


@pytest.mark.parametrize("lost", [B, W])
def test_one_dead_voter_stops_nothing(lost: str) -> None:
    world = held_by(A)
    world.cut = {link for link in ((A, lost), (lost, A), (B, W), (W, B)) if lost in link}
    kills = world.kills
    world.advance(20 * TTL)
    assert world.nodes[A].running and world.kills == kills


def test_without_two_voters_everything_is_killed_before_the_promises_end() -> None:
    world = held_by(A)
    world.cut = {(A, B), (B, A), (A, W), (W, A)}
    world.advance(TTL)
    assert not world.nodes[A].running and world.kills == 1


def test_an_agent_that_is_dead_or_hangs_does_not_hold_its_programs() -> None:
    for stop in (World.stop_agent, lambda world, name: world.pause_agent(name, 100)):
        world = held_by(A)
        stop(world, A)
        world.advance(TTL)
        assert not world.nodes[A].running


def test_an_agent_that_is_started_again_within_its_promises_stops_nothing() -> None:
    world = held_by(A)
    kills = world.kills
    for alone in (B, W):
        world.cut = {(A, alone), (alone, A)}
        world.advance(2 * TTL)
        world.stop_agent(A)
        world.advance(0.3)
        world.start_agent(A)
        world.advance(2 * TTL)
        world.cut = set()
        world.advance(2 * TTL)
    assert world.nodes[A].running and world.kills == kills


# ---- a witness that lost data


def record(holder: str, counter: int, start: str = "s1") -> Record:
    return Record(holder, start, counter, 1, round(TTL * 1000))


def test_a_record_that_went_back_was_not_seen_before() -> None:
    watch = WitnessWatch(A, "s9", TTL)
    old, new = Sight(5, record(B, 5)), Sight(9, record(B, 9))
    for now, sight in ((0.0, old), (2.0, old), (2.5, new), (2.9, old)):
        watch.see(sight, now)
    assert watch.has_gone_back
    assert not watch.may_write(2.9 + TTL - 0.01)
    watch.see(old, 2.9 + TTL - 0.01)
    assert watch.may_write(2.9 + TTL)


def test_two_looks_with_more_than_a_ttl_between_them_show_nothing() -> None:
    watch = WitnessWatch(A, "s9", TTL)
    for now in (0.0, TTL + 0.1):
        watch.see(Sight(5, record(B, 5)), now)
    assert not watch.may_write(TTL + 0.1)


def test_a_holder_with_a_longer_ttl_is_waited_for_that_long() -> None:
    watch = WitnessWatch(A, "s9", TTL)
    patient = Sight(5, Record(B, "s1", 5, 1, 10_000))
    for tenth in range(101):
        watch.see(patient, tenth / 10)
        assert watch.may_write(tenth / 10) == (tenth == 100)


def test_the_own_name_in_the_record_alone_says_nothing() -> None:
    """It may be from before somebody else had it."""
    watch = WitnessWatch(A, "s9", TTL)
    watch.see(Sight(5, record(A, 5, "s8")), 1.0)
    assert not watch.may_write(1.0)


def test_a_write_of_which_no_answer_came_is_counted_when_the_record_shows_it() -> None:
    watch = WitnessWatch(A, "s9", TTL, Mine(Sight(5, record(A, 5)), 4.0))
    watch.see(Sight(5, record(A, 5)), 1.0)
    swap = watch.write(2.0, 1)
    watch.swapped(swap, Outcome.UNKNOWN, None, 2.5)
    assert watch.until() == 4.0
    watch.see(Sight(6, swap.record), 2.6)
    assert watch.until() == 2.0 + TTL


def test_what_was_let_go_is_not_counted_even_where_the_answer_is_lost() -> None:
    watch = WitnessWatch(A, "s9", TTL, Mine(Sight(5, record(A, 5)), 4.0))
    watch.see(Sight(5, record(A, 5)), 1.0)
    assert watch.free(2.0, 1) is not None
    watch.see(Sight(5, record(A, 5)), 2.6)
    assert watch.until() == 0.0 and not watch.may_write(2.6)


def test_no_two_writes_have_the_same_text() -> None:
    watch = WitnessWatch(A, "s9", TTL)
    watch.see(NOTHING_THERE, 0.0)
    texts = {watch.write(n / 10, 1).record.to_text() for n in range(5)}
    assert len(texts) == 5


def test_the_epoch_in_the_record_never_falls() -> None:
    watch = WitnessWatch(A, "s9", TTL)
    watch.see(Sight(5, Record(B, "s1", 5, 17, 3000)), 0.0)
    assert watch.write(5.0, 3).record.epoch == 17
    assert watch.write(5.0, 30).record.epoch == 30


# ---- single words


def test_a_word_of_another_boot_ends_no_promise_that_may_be_counted() -> None:
    voter = Voter(B, TTL, 0.0, None, 0.0)
    voter.answer(Ask(A, "boot-2", 7, TTL), 1.0, 0.0)
    voter.answer(Ask(A, "boot-1", 9000, TTL), 1.1, 0.0)
    voter.let_go(LetGo(A, "boot-1", 9000), 1.2)
    assert voter.is_promised_away(1.3)


def test_a_question_that_was_let_go_is_answered_with_no() -> None:
    voter = Voter(B, TTL, 0.0, None, 0.0)
    voter.let_go(LetGo(A, "boot-1", 7), 1.0)
    assert not voter.answer(Ask(A, "boot-1", 7, TTL), 1.1, 0.0).promised
    assert voter.answer(Ask(A, "boot-1", 8, TTL), 1.1, 0.0).promised


def test_the_shorter_ttl_counts() -> None:
    voter = Voter(B, 2.0, 0.0, None, 0.0)
    assert voter.answer(Ask(A, "boot-1", 1, 9.0), 1.0, 0.0).ttl_s == 2.0
    assert not voter.is_promised_away(3.0)


def test_an_answer_that_comes_too_late_or_twice_or_unasked_is_none() -> None:
    terms = VoteTerms()
    holder = Holder(Identity(A, B, "boot", "start"), terms, 0.0)
    holder.want()
    (ask,) = [call for call in holder.due(100.0) if isinstance(call, Ask)]
    answer = Voter(B, TTL, 0.0, None, 0.0).answer(ask, 100.0, 0.0)
    holder.hear_answer(answer, 100.0 + terms.answer_s + 0.01)
    assert B not in holder.votes(100.6)
    holder.hear_answer(answer, 100.1)
    assert B not in holder.votes(100.6)


def test_a_call_to_the_witness_that_takes_too_long_makes_room_for_the_next() -> None:
    terms = VoteTerms()
    holder = Holder(Identity(A, B, "boot", "start"), terms, 0.0)
    (look,) = holder.due(10.0)
    assert isinstance(look, Look) and holder.due(10.2) == []
    late = 10.0 + terms.answer_s + 0.01
    (again,) = holder.due(late)
    holder.hear_witness(look, Outcome.DONE, NOTHING_THERE, late)
    assert holder.watch.sight is None and again != look


def test_a_write_that_may_have_happened_does_not_end_the_vote() -> None:
    terms = VoteTerms()
    note = VoteNote("boot", None, Mine(Sight(5, record(A, 5)), 102.0))
    holder = Holder(Identity(A, B, "boot", "start"), terms, 100.0, note)
    holder.want()
    look = next(call for call in holder.due(100.0) if isinstance(call, Look))
    holder.hear_witness(look, Outcome.DONE, Sight(5, record(A, 5)), 100.1)
    swap = next(call for call in holder.due(101.0) if isinstance(call, Swap))
    holder.hear_witness(swap, Outcome.UNKNOWN, None, 101.5)
    assert W in holder.votes(101.6)


# ---- what is kept

NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,9}", fullmatch=True)
TIMES = st.floats(0, 1e9)
RECORDS = st.builds(
    Record,
    st.one_of(st.just(""), NAMES),
    NAMES,
    st.integers(0, 2**52),
    st.integers(0, 2**52),
    st.integers(0, 10**6),
)
PROMISES = st.one_of(st.none(), st.builds(Promise, NAMES, NAMES, st.integers(0, 2**52), TIMES, TIMES))
MINES = st.one_of(st.none(), st.builds(Mine, st.builds(Sight, st.integers(1, 2**52), RECORDS), TIMES))


@given(RECORDS)
def test_a_record_is_read_as_it_was_written(made: Record) -> None:
    assert parse_record(made.to_text()) == made


@given(st.builds(VoteNote, NAMES, PROMISES, MINES, TIMES, TIMES))
def test_a_note_is_read_as_it_was_written(note: VoteNote) -> None:
    assert parse_note(note.to_text()) == note


@given(st.text(max_size=40))
def test_anything_else_is_no_note_and_no_record(text: str) -> None:
    assert parse_note(text) is None
    with pytest.raises(BadRecord):
        parse_record(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"holder":"a","start":"s","counter":-1,"epoch":0,"ttl_ms":1}',
        '{"holder":"a","start":"s","counter":1.5,"epoch":0,"ttl_ms":1}',
        '{"holder":"a","start":"","counter":1,"epoch":0,"ttl_ms":1}',
        '{"holder":"a b","start":"s","counter":1,"epoch":0,"ttl_ms":1}',
        '{"holder":"a","start":"s","counter":true,"epoch":0,"ttl_ms":1}',
        '{"holder":"a","start":"s","counter":1,"epoch":0}',
        '{"holder":"a","start":"s","counter":1,"epoch":9007199254740992,"ttl_ms":1}',
        "[" * 5000,
    ],
)
def test_a_record_with_other_fields_is_refused(text: str) -> None:
    with pytest.raises(BadRecord):
        parse_record(text)


def test_a_note_of_another_boot_counts_as_none() -> None:
    note = VoteNote("earlier", Promise(B, "x", 1, 1e6), None, 0.0, 0.0)
    holder = Holder(Identity(A, B, "now", "start"), VoteTerms(), 50.0, note)
    assert holder.voter.promise is None and holder.voter.silent_until == 50.0 + TTL


def test_the_bound_holds_for_the_defaults() -> None:
    terms = VoteTerms()
    assert terms.ttl_s >= terms.least_ttl_s() and terms.margin_s >= terms.least_margin_s()
