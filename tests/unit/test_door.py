"""What counts as one address at the dashboard's door."""

from __future__ import annotations

import pytest

from ha_agent.web.door import network_of


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:2", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("what", "what"),
    ],
)
def test_one_machine_counts_as_one_however_many_addresses_it_has(address: str, network: str) -> None:
    assert network_of(address) == network
