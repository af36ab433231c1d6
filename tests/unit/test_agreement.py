"""Settings that must be the same on both nodes."""

from __future__ import annotations

import pytest

from ha_agent.core.agreement import (
    LONGEST_VALUE,
    MOST_KEYS,
    VITAL,
    Difference,
    describe_agreement,
    find_differences,
    read_agreement,
)
from ha_agent.core.settings import check_settings

RAW = {
    "node": {"name": "a", "address": "192.0.2.1"},
    "peer": {"name": "b", "address": "192.0.2.2"},
    "vrrp": {"vip": "192.0.2.9/24"},
}


def test_what_a_node_tells_is_what_its_peer_reads() -> None:
    told = describe_agreement(check_settings(RAW))
    assert read_agreement(told) == told and told.keys() >= VITAL and len(told) <= MOST_KEYS
    assert list(find_differences(told, told)) == []


def test_vital_differences_come_first_and_what_one_side_does_not_tell_is_none() -> None:
    own = describe_agreement(check_settings(RAW))
    peer = {**own, "vrrp.vip": "192.0.2.10/24", "registry.path": "/elsewhere"}
    del peer["vrrp.router_id"]
    wanted = [
        Difference("vrrp.vip", "192.0.2.9/24", "192.0.2.10/24"),
        Difference("registry.path", "/etc/supervisor/conf.d", "/elsewhere"),
    ]
    found = list(find_differences(own, peer))
    assert found == wanted and [one.is_vital for one in found] == [True, False]


@pytest.mark.parametrize(
    "raw", [[], "x", {"a": None}, {"a": [1]}, {"a": "x" * (LONGEST_VALUE + 1)}, {str(n): n for n in range(MOST_KEYS + 1)}]
)
def test_anything_else_is_refused(raw: object) -> None:
    with pytest.raises(ValueError, match="agreement"):
        read_agreement(raw)
