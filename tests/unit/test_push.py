"""What is sent at once, what waits, and what is held."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ha_agent.core.manifest import EMPTY, Entry, Manifest
from ha_agent.core.push import GuardLimits, plan_push

LIMITS = GuardLimits(0.5, 3)
NONE: frozenset[str] = frozenset()
TEN = Manifest.of([Entry(f"{n}.conf", 0o644, f"{n}" * 64) for n in range(10)])
entries = st.builds(
    Entry,
    st.sampled_from("abcdefgh").map(lambda c: c + ".conf"),
    st.just(0o644),
    st.sampled_from(["0" * 64, "1" * 64, "2" * 64]),
)


def test_a_write_goes_at_once() -> None:
    plan = plan_push(TEN, TEN.changed([Entry("x.conf", 0o644, "f" * 64)]), LIMITS, deletes_settled=False, accepted=NONE)
    assert len(plan.changes) == 1
    assert not plan.wait_for_deletes


def test_a_single_deletion_waits_until_deletions_have_settled() -> None:
    mine = TEN.changed([], ["1.conf"])
    assert plan_push(TEN, mine, LIMITS, deletes_settled=False, accepted=NONE).wait_for_deletes
    assert plan_push(TEN, mine, LIMITS, deletes_settled=True, accepted=NONE).changes.deletes == ("1.conf",)


def test_a_rename_is_one_change_and_goes_at_once() -> None:
    mine = TEN.changed([Entry("renamed.conf", 0o644, "1" * 64)], ["1.conf"])
    plan = plan_push(TEN, mine, LIMITS, deletes_settled=False, accepted=NONE)
    assert plan.changes.deletes == ("1.conf",)
    assert len(plan.changes.puts) == 1


def test_a_mass_deletion_is_held_while_writes_go_on() -> None:
    mine = TEN.changed([Entry("x.conf", 0o644, "f" * 64)], [f"{n}.conf" for n in range(8)])
    plan = plan_push(TEN, mine, LIMITS, deletes_settled=True, accepted=NONE)
    assert plan.held
    assert plan.changes.deletes == ()
    assert len(plan.changes.puts) == 1


def test_an_empty_registry_is_held_even_where_it_was_small() -> None:
    two = Manifest.of(list(TEN)[:2])
    assert plan_push(two, EMPTY, LIMITS, deletes_settled=True, accepted=NONE).held


def test_an_operators_word_lets_a_mass_deletion_go() -> None:
    plan = plan_push(TEN, EMPTY, LIMITS, deletes_settled=False, accepted=frozenset(e.path for e in TEN))
    assert not plan.held and plan.intent
    assert len(plan.changes.deletes) == 10


def test_an_operators_word_for_some_deletions_is_none_for_others() -> None:
    accepted = frozenset({"0.conf", "1.conf", "2.conf", "gone-long-ago.conf"})
    plan = plan_push(TEN, EMPTY, LIMITS, deletes_settled=True, accepted=accepted)
    assert plan.changes.deletes == ("0.conf", "1.conf", "2.conf") and plan.intent
    assert plan.held == "7 of 7 confs are gone from the registry"
    rest = plan.result(TEN)
    plan = plan_push(rest, EMPTY, LIMITS, deletes_settled=True, accepted=NONE)
    assert plan.held and not plan.changes and not plan.intent


@given(st.lists(entries), st.lists(entries), st.booleans(), st.sets(st.sampled_from("abcdefgh").map(lambda c: c + ".conf")))
def test_repeated_pushes_end_where_both_are_equal_or_something_is_held(
    a: list[Entry], b: list[Entry], settled: bool, accepted: set[str]
) -> None:
    peer, mine = Manifest.of(a), Manifest.of(b)
    for _ in range(3):
        plan = plan_push(peer, mine, LIMITS, deletes_settled=settled, accepted=frozenset(accepted))
        peer = plan.result(peer)
    assert peer == mine or plan.held or plan.wait_for_deletes
    assert not (plan.held and {entry.path for entry in peer} - {entry.path for entry in mine} <= accepted)
