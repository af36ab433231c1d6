"""A node without its own address must not be MASTER, and a VIP on both nodes goes from the one that is not to have it."""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest

from ha_agent.core.peer_summary import PeerSummary, WrongPeer, summary_message
from ha_agent.core.transaction import Watermark
from ha_agent.core.words import Role, VrrpState
from ha_agent.daemon.role.addresses import GONE_S, STRAY_S, Addresses
from ha_agent.daemon.standing import Standing
from tests.unit.fakes_replication import TestEvents

PEER = PeerSummary("b", Role.ACTIVE, VrrpState.MASTER, Watermark(3, "b"), 0, "", 0.0, vip_here=True)


class Conversation:
    """What is heard of a peer, and how often it is asked."""

    def __init__(self) -> None:
        self.peer: PeerSummary | None = PEER
        self.peer_owns = True
        self.asked = 0

    def ask_now(self) -> None:
        self.asked += 1


class Node:
    """A standby without the VIP beside an active peer that has it."""

    def __init__(self, tmp_path: pathlib.Path) -> None:
        self.standing = Standing("a", str(tmp_path / "role.json"))
        self.standing.note_vrrp(VrrpState.BACKUP)
        self.standing.note_vip(False)
        self.conversation = Conversation()
        self.events = TestEvents(tmp_path, "a")
        self.own: bool | None = True
        self.removed = 0
        self.named: Collection[str] | None = None
        self.wakes: list[float] = []

        async def remove(only: Collection[str] | None) -> bool:
            self.removed += 1
            self.named = only
            return True

        conversation: Any = self.conversation
        self.addresses = Addresses(
            "192.0.2.1", self.standing, conversation, self.events, lambda: self.own, remove, asyncio.run, self.wakes.append
        )

    def find_stray(self) -> None:
        """The VIP is put here by hand, and the peer says once more that it has it."""
        self.standing.note_vip(True)
        self.addresses.remove_stray(0.0)
        self.conversation.peer = replace(PEER, heard_wall=1.0)


@pytest.fixture
def node(tmp_path: pathlib.Path) -> Node:
    return Node(tmp_path)


def test_a_node_without_its_own_address_is_isolated_at_once(node: Node) -> None:
    assert node.addresses.find_isolation(0.0) is None
    node.own = False
    assert "192.0.2.1" in (node.addresses.find_isolation(1.0) or "")
    node.own = True
    assert node.addresses.find_isolation(2.0) is None


def test_a_master_has_a_moment_in_which_its_address_may_be_replaced(node: Node) -> None:
    node.standing.note_vrrp(VrrpState.MASTER)
    node.own = False
    assert node.addresses.find_isolation(1.0) is None and node.wakes == [1.0 + GONE_S]
    assert node.addresses.find_isolation(1.0 + GONE_S) is not None
    node.own = True
    assert node.addresses.find_isolation(2.0) is None
    node.own = False
    assert node.addresses.find_isolation(3.0) is None, "it has that moment each time"


def test_what_the_kernel_does_not_tell_is_no_isolation(node: Node) -> None:
    node.own = None
    assert node.addresses.find_isolation(0.0) is None


def test_a_vip_on_both_nodes_goes_from_the_standby_after_its_time(node: Node) -> None:
    node.find_stray()
    assert node.wakes == [STRAY_S] and node.conversation.asked == 1
    node.addresses.remove_stray(STRAY_S - 0.1)
    assert node.removed == 0
    node.addresses.remove_stray(STRAY_S)
    assert node.removed == 1 and node.events.codes == ["vip-removed"]


@pytest.mark.parametrize(
    "change",
    [
        lambda n: n.standing.note_vip(False),
        lambda n: n.standing.note_vip(None),
        lambda n: n.standing.note_vrrp(VrrpState.MASTER),
        lambda n: n.standing.note_vrrp(VrrpState.UNKNOWN),
        lambda n: n.standing.become(Role.TAKING_OVER),
        lambda n: setattr(n.conversation, "peer", None),
        lambda n: setattr(n.conversation, "peer", replace(PEER, vip_here=False)),
        lambda n: setattr(n.conversation, "peer", replace(PEER, vip_here=None)),
        lambda n: setattr(n.conversation, "peer", replace(PEER, vrrp_state=VrrpState.BACKUP)),
        lambda n: setattr(n.conversation, "peer_owns", False),
        lambda n: setattr(n.conversation, "peer", PEER),
    ],
)
def test_a_vip_stays_where_any_sign_speaks_for_it_or_the_peer_has_not_been_heard_since(node: Node, change: Any) -> None:
    node.find_stray()
    change(node)
    node.addresses.remove_stray(STRAY_S)
    node.addresses.remove_stray(STRAY_S + 0.1)
    assert node.removed == 0


def test_the_peer_hears_of_the_vip_when_it_comes_and_goes(node: Node) -> None:
    for vip, asked in ((False, 1), (False, 1), (True, 2), (True, 2), (False, 3)):
        node.standing.note_vip(vip)
        node.addresses.tell_peer()
        assert node.conversation.asked == asked


ONE, OTHER = "192.0.2.10", "2001:db8::10"


def test_of_several_vips_those_alone_go_that_are_on_both_nodes(node: Node) -> None:
    node.standing.note_vip(True, {ONE: True, OTHER: True})
    node.addresses.remove_stray(0.0)
    node.conversation.peer = replace(PEER, heard_wall=1.0, vips={ONE: False, OTHER: True})
    node.addresses.remove_stray(STRAY_S)
    assert node.removed == 1 and node.named == [OTHER], "what the peer lacks is left: somebody may reach it here"


def test_a_vip_that_the_peer_lacks_stays(node: Node) -> None:
    node.standing.note_vip(True, {ONE: True, OTHER: False})
    node.addresses.remove_stray(0.0)
    node.conversation.peer = replace(PEER, heard_wall=1.0, vips={ONE: False, OTHER: True})
    node.addresses.remove_stray(STRAY_S)
    assert node.removed == 0


def test_the_peer_hears_when_one_of_several_vips_goes(node: Node) -> None:
    for vips, asked in (({ONE: True, OTHER: True}, 1), ({ONE: True, OTHER: False}, 2), ({ONE: True, OTHER: False}, 2)):
        node.standing.note_vip(True, vips)
        node.addresses.tell_peer()
        assert node.conversation.asked == asked


def test_the_signs_of_life_say_of_each_vip_where_it_is() -> None:
    vips = {ONE: True, OTHER: None}
    message = summary_message("b", Role.ACTIVE, VrrpState.MASTER, Watermark(1, "b"), 0, "", True, vips=vips)
    assert PeerSummary.parse(message, 0.0).vips == vips
    del message["vips"]
    assert PeerSummary.parse(message, 0.0).vips == {}, "an older agent does not say it"
    wrongs: list[Any] = [[], {f"192.0.2.{n}": True for n in range(21)}, {"x" * 65: True}]
    for wrong in wrongs:
        with pytest.raises(WrongPeer):
            PeerSummary.parse({**message, "vips": wrong}, 0.0)


@pytest.mark.parametrize(("vip", "heard"), [(True, True), (False, False), (None, None)])
def test_the_signs_of_life_say_where_the_vip_is(vip: bool | None, heard: bool | None) -> None:
    message = summary_message("b", Role.ACTIVE, VrrpState.MASTER, Watermark(1, "b"), 0, "", vip)
    assert PeerSummary.parse(message, 0.0).vip_here is heard
    del message["vip"]
    assert PeerSummary.parse(message, 0.0).vip_here is None, "an older agent does not say it"
