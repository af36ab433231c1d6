"""When both nodes were active at the same time: told once, by the later one, when they hear of each other again."""

from __future__ import annotations

import asyncio
import pathlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_agent.core.overlap import LEAST_S, Spell, find_overlap
from ha_agent.core.peer_summary import PeerSummary, WrongPeer, summary_message
from ha_agent.core.transaction import Watermark
from ha_agent.core.transitions import Transition
from ha_agent.core.words import Role, VrrpState
from ha_agent.daemon.role.spells import REMEMBERED_S
from tests.unit.fakes_operations import Node

AGES = st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)).map(lambda pair: Spell(max(pair), min(pair)))


@given(AGES, AGES)
def test_an_overlap_lies_in_both_and_is_the_same_seen_from_either(one: Spell, two: Spell) -> None:
    both = find_overlap(one, two)
    assert both == find_overlap(two, one)
    if both is not None:
        assert both.began_ago_s - both.ended_ago_s >= LEAST_S
        for spell in (one, two):
            assert spell.began_ago_s >= both.began_ago_s and spell.ended_ago_s <= both.ended_ago_s


@pytest.mark.parametrize(("one", "two"), [(None, Spell(5)), (Spell(9, 5), Spell(5)), (Spell(9, 5), Spell(5.3))])
def test_one_behind_the_other_is_no_overlap(one: Spell | None, two: Spell | None) -> None:
    assert find_overlap(one, two) is None


@given(AGES)
def test_a_spell_travels(spell: Spell) -> None:
    parsed = Spell.parse(spell.to_list())
    assert parsed is not None and abs(parsed.began_ago_s - spell.began_ago_s) < 0.01


@pytest.mark.parametrize("raw", [[], [1], [1, -1], ["1", 2], [float("nan"), 0], [True, 0], 5, {"a": 1}, [1, 2, 3]])
def test_what_is_no_spell_is_refused(raw: object) -> None:
    with pytest.raises(ValueError, match="two ages"):
        Spell.parse(raw)
    message = summary_message("b", Role.STANDBY, VrrpState.BACKUP, Watermark(), 1, "h") | {"active": raw}
    with pytest.raises(WrongPeer):
        PeerSummary.parse(message, 0.0)


def summary(active: Spell | None) -> PeerSummary:
    message = summary_message("b", Role.STANDBY, VrrpState.BACKUP, Watermark(1, "b"), 1, "h", active=active)
    return PeerSummary.parse(message, 0.0)


def change(after: Role) -> Transition:
    return Transition(Role.STANDBY, after, "why", 0.0)


def test_the_later_one_tells_once_what_is_over(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        node = Node(tmp_path)
        spells = node.spells
        spells.hear_peer(summary(Spell(100, 5)))
        assert spells.describe() is None and not node.told
        spells.hear_transition(change(Role.ACTIVE))
        node.clock.now += 20.0
        node.wall.now += 20.0
        spells.hear_peer(summary(Spell(100)))
        assert not node.told, "it lasts: that is a split brain, which is said meanwhile"
        spells.hear_peer(summary(Spell(10, 5)))
        assert not node.told, "the peer took over later, and tells it"
        for _ in range(3):
            spells.hear_peer(summary(Spell(100, 5)))
        (event,) = node.told
        assert (
            event["code"] == "ran-twice"
            and event["took_s"] == 15.0
            and "a and b were both active for 15.0 s" in event["text"]
        )
        assert spells.ran_twice is not None and spells.ran_twice["ended"] == node.wall.now - 5
        node.wall.now += REMEMBERED_S
        assert spells.ran_twice is None

    asyncio.run(main())


def test_a_word_that_was_long_on_its_way_makes_no_overlap(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        node = Node(tmp_path)
        node.spells.hear_transition(change(Role.ACTIVE))
        node.clock.now += 7.0
        # The peer had ended one second before, and said so 6 s ago.
        node.spells.hear_peer(summary(Spell(20, 2)), took_s=6.0)
        assert not node.told
        node.spells.hear_peer(summary(Spell(20, 2)), took_s=1.0)
        (event,) = node.told
        assert event["took_s"] == 4.0

    asyncio.run(main())


def test_a_time_of_being_active_ends_with_the_release_and_begins_anew(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        node = Node(tmp_path)
        spells = node.spells
        spells.hear_transition(change(Role.ACTIVE))
        node.clock.now += 10.0
        spells.hear_transition(change(Role.STANDBY))
        node.clock.now += 5.0
        assert spells.describe() == Spell(15.0, 5.0)
        spells.hear_transition(replace(change(Role.ACTIVE)))
        node.clock.now += 1.0
        assert spells.describe() == Spell(1.0)

    asyncio.run(main())


def test_an_agent_that_is_started_again_knows_from_the_history_since_when(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        node = Node(tmp_path)
        node.standing.become(Role.ACTIVE)
        node.standing.note_transition({"at": node.wall.now - 30.0})
        assert node.spells.describe() == Spell(30.0)

    asyncio.run(main())
