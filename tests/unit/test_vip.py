"""With which prefix the VIP is put on an interface, and what its removal takes along."""

from __future__ import annotations

import pytest

from ha_agent.core.vip import find_prefix, is_same_address, takes_along


@pytest.mark.parametrize(
    ("vip", "own", "rendered"),
    [
        ("192.0.2.10/24", "192.0.2.11", "192.0.2.10/32"),
        ("192.0.2.10/32", "192.0.2.11", "192.0.2.10/32"),
        ("192.0.2.10/30", "192.0.2.11", "192.0.2.10/32"),
        ("203.0.113.2/29", "192.0.2.11", "203.0.113.2/29"),
        ("2001:db8::10/64", "2001:db8::11", "2001:db8::10/64"),
        ("192.0.2.10/24", "2001:db8::11", "192.0.2.10/24"),
    ],
)
def test_the_vip_stands_alone_beside_the_own_address_and_brings_its_network_elsewhere(
    vip: str, own: str, rendered: str
) -> None:
    assert find_prefix(vip, own) == rendered
    assert not takes_along(rendered, own)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.10/24", "192.0.2.10", True),
        ("192.0.2.10/24", "192.0.2.10/32", True),
        ("2001:db8:0::10/64", "2001:db8::10", True),
        ("192.0.2.10/24", "192.0.2.11/24", False),
        ("192.0.2.10/24", "eth0", False),
    ],
)
def test_an_address_is_the_same_whatever_its_prefix(one: str, other: str, same: bool) -> None:
    assert is_same_address(one, other) is same
