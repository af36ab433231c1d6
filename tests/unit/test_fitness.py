"""When keepalived is told that this node must not be MASTER, and when that ends."""

from __future__ import annotations

import pathlib
import re
from typing import Any

import pytest

from ha_agent.adapters.store import History
from ha_agent.core.words import Role, VrrpState
from ha_agent.daemon.events import Events
from ha_agent.daemon.role.fitness import HOLD_LEAST_S, HOLD_S, VIP_LOST_S, Fitness


class Node:
    """A fitness with the facts of a healthy standby, changed by each look."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.track = directory / "track"
        self.wakes: list[float] = []
        self.fitness = Fitness(str(self.track), Events(History(str(directory), "n", 10**6)), self.wakes.append)
        self.fitness.begin()

    def look(self, now: float, **changes: Any) -> str:
        facts = {"role": Role.STANDBY, "vrrp_state": VrrpState.BACKUP, "vip_here": False, **changes}
        more: dict[str, Any] = {"notes_problem": facts.pop("notes_problem", None), "isolated": facts.pop("isolated", None)}
        more |= {"supervisord_gone": facts.pop("supervisord_gone", False), "peer_owns": facts.pop("peer_owns", True)}
        self.fitness.update(now, facts["role"], facts["vrrp_state"], facts["vip_here"], **more)
        return self.track.read_text(encoding="ascii").strip()


@pytest.fixture
def node(tmp_path: pathlib.Path) -> Node:
    return Node(tmp_path)


def test_a_healthy_node_is_fit(node: Node) -> None:
    assert node.look(0.0) == "0"
    assert node.fitness.reason is None and not node.fitness.gives_way


def test_an_agent_that_begins_in_maintenance_leaves_what_keepalived_was_told(tmp_path: pathlib.Path) -> None:
    """It wrote 0 where an agent before it, or an operator, had written 1: the VIP could move, and the programs stay."""
    (tmp_path / "track").write_text("1\n", encoding="ascii")
    fitness = Fitness(str(tmp_path / "track"), Events(History(str(tmp_path), "n", 10**6)), lambda _: None)
    fitness.begin(in_maintenance=True)
    assert (tmp_path / "track").read_text(encoding="ascii") == "1\n"
    fitness.update(0.0, Role.STANDBY, VrrpState.FAULT, False, supervisord_gone=False, peer_owns=True)
    assert (tmp_path / "track").read_text(encoding="ascii") == "0\n", "the first look after maintenance puts it right"


@pytest.mark.parametrize("content", [None, "0\n", "x"])
def test_an_agent_that_begins_in_maintenance_says_fit_where_nobody_said_otherwise(
    tmp_path: pathlib.Path, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "track").write_text(content, encoding="ascii")
    fitness = Fitness(str(tmp_path / "track"), Events(History(str(tmp_path), "n", 10**6)), lambda _: None)
    fitness.begin(in_maintenance=True)
    assert (tmp_path / "track").read_text(encoding="ascii") == "0\n"


def test_a_fenced_node_and_one_without_supervisord_are_unfit_as_long_as_that_is_so(node: Node) -> None:
    assert node.look(0.0, role=Role.FENCED) == "1"
    assert node.look(1.0) == "0"
    assert node.look(2.0, supervisord_gone=True) == "1"
    assert node.fitness.reason == "supervisord is gone"
    assert node.look(3.0) == "0"


def test_a_node_that_reaches_nobody_is_unfit_as_long_as_that_is_so(node: Node) -> None:
    assert node.look(0.0, isolated="its own address is gone") == "1"
    assert node.fitness.reason == "its own address is gone"
    assert node.look(1.0) == "0"


def test_a_refused_node_holds_while_its_peer_is_active_and_for_a_stated_time_at_most(node: Node) -> None:
    node.fitness.give_way(0.0, "refused")
    assert node.look(HOLD_S - 1) == "1"
    assert node.fitness.reason == "refused" and node.fitness.gives_way
    assert node.look(HOLD_S + 1) == "0"
    assert not node.fitness.gives_way


def test_the_hold_ends_early_where_the_peer_is_not_active_after_all(node: Node) -> None:
    node.fitness.give_way(0.0, "refused")
    assert node.look(HOLD_LEAST_S - 0.1, peer_owns=False) == "1"
    assert node.look(HOLD_LEAST_S + 0.1, peer_owns=False) == "0"


def test_the_hold_does_not_end_before_keepalived_has_given_up(node: Node) -> None:
    node.fitness.give_way(0.0, "refused")
    assert node.look(2 * HOLD_S, vrrp_state=VrrpState.MASTER) == "1"


def test_a_hand_over_lasts_until_the_peer_owns_the_pair_and_keepalived_has_given_up(node: Node) -> None:
    node.fitness.hand_over(0.0, "switchover", 5.0)
    assert node.fitness.hands_over and node.fitness.gives_way
    assert node.look(1.0, vrrp_state=VrrpState.MASTER, vip_here=True) == "1"
    assert node.look(2.0, peer_owns=False) == "1"
    assert node.look(3.0, peer_owns=True) == "0"
    assert not node.fitness.hands_over and not node.fitness.gives_way


def test_a_hand_over_that_leads_nowhere_ends_by_itself_even_if_keepalived_does_not_give_up(node: Node) -> None:
    node.fitness.hand_over(0.0, "switchover", 5.0)
    assert node.look(4.9, vrrp_state=VrrpState.MASTER, vip_here=True, peer_owns=False) == "1"
    assert node.look(5.1, vrrp_state=VrrpState.MASTER, vip_here=True, peer_owns=False) == "0"


def test_a_zero_of_somebody_else_does_not_lift_what_holds_and_a_one_of_somebody_else_stays(node: Node) -> None:
    node.fitness.give_way(0.0, "refused")
    node.track.write_text("0\n", encoding="ascii")
    assert node.look(1.0) == "1"
    assert node.look(HOLD_S + 1) == "0"
    node.track.write_text("1\n", encoding="ascii")
    assert node.look(HOLD_S + 2) == "1"


def test_a_vip_that_is_missing_for_a_moment_means_nothing_and_for_longer_it_does(node: Node) -> None:
    assert node.look(0.0, vrrp_state=VrrpState.MASTER, vip_here=False) == "0"
    assert node.wakes == [VIP_LOST_S]
    assert node.look(0.1, vrrp_state=VrrpState.MASTER, vip_here=True) == "0"
    assert node.look(5.0, vrrp_state=VrrpState.MASTER, vip_here=False) == "0"
    assert node.look(5.0 + VIP_LOST_S, vrrp_state=VrrpState.MASTER, vip_here=False) == "1"
    assert node.look(6.0 + VIP_LOST_S, vrrp_state=VrrpState.FAULT) == "1"
    assert node.look(9.0 + VIP_LOST_S) == "0"


def test_a_vip_that_can_not_be_looked_up_means_nothing(node: Node) -> None:
    node.look(0.0, vrrp_state=VrrpState.MASTER, vip_here=None)
    assert node.look(9.0, vrrp_state=VrrpState.MASTER, vip_here=None) == "0"


def test_a_track_file_that_cannot_be_written_is_told_and_tried_again_with_each_look(node: Node) -> None:
    directory = node.track.parent
    fitness = Fitness("/proc/nothing-can-be-made-here/track", Events(History(str(directory), "n", 10**6)), node.wakes.append)
    fitness.begin()
    fitness.give_way(0.0, "why")
    assert fitness.gives_way and fitness.problem is not None
    with pytest.raises(OSError, match=re.escape(fitness.problem)):
        fitness.keep()


@pytest.mark.parametrize("content", [None, "", "rubbish", "directory"])
def test_a_track_file_that_is_gone_or_makes_no_sense_is_made_again(node: Node, content: str | None) -> None:
    node.track.unlink()
    if content == "directory":
        node.track.mkdir()
        (node.track / "x").touch()
    elif content is not None:
        node.track.write_text(content, encoding="ascii")
    assert node.look(0.0) == "0" and node.fitness.problem is None and not node.fitness.keep()


def test_a_node_that_could_not_take_over_is_unfit_unless_it_is_active_already(node: Node) -> None:
    assert node.look(0.0, notes_problem="no room") == "1"
    assert node.fitness.reason == "it could not take over: no room"
    assert node.look(1.0, notes_problem="no room", role=Role.ACTIVE, vrrp_state=VrrpState.MASTER, vip_here=True) == "0"
    assert node.look(2.0) == "0"
