"""Several paths to the peer: which one the link takes, when it leaves it, and what is told of them."""

from __future__ import annotations

import asyncio
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_agent.core.paths import SILENT_LOOKS, Paths
from ha_agent.core.settings import PeerSettings
from ha_agent.daemon.peer.path_watch import PathWatch
from tests.unit.fakes import FakeLink
from tests.unit.fakes_replication import TestEvents

ONE, OTHER = "192.0.2.2", "198.51.100.2"


def looked(paths: Paths, one: bool, other: bool, times: int = 1) -> list[bool | None]:
    """Looks that often; returns what is known of the two then."""
    for number in range(times):
        paths.note_look({ONE: one, OTHER: other}, float(number))
    return [path.is_up for path in paths.all]


def test_a_connection_that_came_to_nothing_is_tried_on_the_next_path() -> None:
    paths = Paths([ONE, OTHER])
    tried = []
    for _ in range(4):
        tried.append(paths.pick())
        paths.note_failure(tried[-1])
    assert tried == [ONE, OTHER, ONE, OTHER] and paths.have_all_failed
    paths.note_connection(OTHER)
    assert paths.pick() == OTHER, "the one that came about last is tried first"
    paths.note_failure(OTHER)
    assert paths.pick() == ONE, "and last where it has just ended"


def test_a_silent_path_is_not_picked_while_another_one_answers() -> None:
    paths = Paths([ONE, OTHER])
    looked(paths, False, True)
    assert paths.pick() == OTHER
    paths.note_failure(OTHER)
    assert paths.pick() == OTHER, "what failed and answers is better than what is silent"
    looked(paths, True, True)
    assert paths.pick() == ONE


def test_the_link_leaves_a_path_that_answered_before_and_not_one_that_never_did() -> None:
    paths = Paths([ONE, OTHER])
    looked(paths, False, True)
    assert paths.find_better(ONE) is None, "pings may be forbidden there"
    looked(paths, True, True)
    assert paths.find_better(ONE) is None
    looked(paths, False, True)
    assert paths.find_better(ONE) == OTHER and paths.find_better(OTHER) is None
    looked(paths, False, False)
    assert paths.find_better(ONE) is None, "the machine is off, or all is cut: that is not for the paths to say"
    assert paths.find_better("") is None


def test_a_path_is_cut_when_its_silence_lasts_and_back_at_once() -> None:
    paths = Paths([ONE, OTHER])
    assert looked(paths, True, True) == [True, True]
    assert looked(paths, False, True, SILENT_LOOKS - 1) == [True, True]
    assert looked(paths, False, True) == [False, True]
    assert [path.since_wall for path in paths.all] == [0.0, 0.0]
    assert looked(paths, True, True) == [True, True]
    never = Paths([ONE, OTHER])
    assert looked(never, False, True, SILENT_LOOKS - 1) == [None, True]
    assert looked(never, False, True) == [False, True], "one that never answered is cut, too"


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.sampled_from([ONE, OTHER, ""]))))
def test_whatever_is_seen_the_link_goes_to_a_path_that_answers_if_one_does(steps: list[tuple[bool, bool, str]]) -> None:
    paths = Paths([ONE, OTHER])
    for one, other, failed in steps:
        looked(paths, one, other)
        if failed:
            paths.note_failure(failed)
        answering = {address for address, is_up in ((ONE, one), (OTHER, other)) if is_up}
        assert paths.pick() in (answering or {ONE, OTHER})
        for current in (ONE, OTHER):
            better = paths.find_better(current)
            assert better is None or (current not in answering and better in answering)


class Rig:
    """A link over two paths, which the test cuts."""

    def __init__(self, folder: pathlib.Path, *addresses: str) -> None:
        peer = PeerSettings(name="b", addresses=addresses)
        self.up = dict.fromkeys(addresses, True)
        self.link = FakeLink(peer)
        self.left: list[str] = []
        self.link.give_up = self.left.append  # type: ignore[method-assign,assignment]
        self.events = TestEvents(folder, "a")
        self.looks = 0
        self.watch = PathWatch(self.link, self.answers, self.events, lambda: 0.0)

    async def answers(self, address: str, _limit_s: float) -> bool:
        self.looks += 1
        return self.up[address]

    def look(self, times: int = 1) -> None:
        for _ in range(times):
            asyncio.run(self.watch.look())


@pytest.fixture
def rig(tmp_path: pathlib.Path) -> Rig:
    return Rig(tmp_path, ONE, OTHER)


def test_the_link_is_taken_off_a_cut_path_with_the_first_look(rig: Rig) -> None:
    rig.look()
    rig.up[ONE] = False
    rig.look()
    assert rig.left == [f"silent at {ONE}, while it answers at {OTHER}"] and rig.link.paths.pick() == OTHER


def test_a_cut_of_the_other_path_leaves_the_link_alone_and_is_told_once(rig: Rig) -> None:
    rig.look()
    rig.up[OTHER] = False
    rig.look(5)
    rig.up[OTHER] = True
    rig.look(2)
    assert rig.left == [] and rig.events.codes == ["path-down", "path-up"]


def test_a_machine_that_is_off_takes_the_link_from_no_path_and_is_not_told_path_by_path(rig: Rig) -> None:
    rig.look()
    rig.up = {ONE: False, OTHER: False}
    rig.look(SILENT_LOOKS + 1)
    assert rig.left == [] and rig.events.codes == []
    rig.up[OTHER] = True
    rig.look()
    assert rig.events.codes == ["path-down"], "one of them is back, and the other one is cut"
    rig.up[ONE] = True
    rig.look()
    assert rig.events.codes == ["path-down", "path-up"]


def test_one_path_alone_is_not_looked_at(tmp_path: pathlib.Path) -> None:
    alone = Rig(tmp_path, ONE)
    asyncio.run(asyncio.wait_for(alone.watch.run(), 1.0))
    assert alone.looks == 0


def test_a_link_that_is_doubted_has_its_paths_looked_at_at_once(rig: Rig) -> None:
    rig.link.on_doubt.append(rig.watch.look_now)

    async def main() -> int:
        running = asyncio.ensure_future(rig.watch.run())
        await asyncio.sleep(0.05)
        rig.link.nudge()
        await asyncio.sleep(0.05)
        running.cancel()
        return rig.looks

    assert asyncio.run(main()) == 4
