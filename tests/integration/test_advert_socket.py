"""The peer's adverts are heard beside keepalived, with the moment at which they came; those of others are not."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from ha_agent.adapters.advert_socket import AdvertSocket
from ha_agent.core.adverts import PROTOCOL, Advert

PEER, OTHER_PATH, STRANGER = "127.0.0.2", "127.0.1.2", "127.0.0.3"
GROUP = "224.0.0.18"
"""Where keepalived sends adverts that are not unicast (RFC 5798, 5.1.1.2)."""

BODY = bytes.fromhex("31336401000a00000a4d0064")


@contextlib.contextmanager
def sender(source: str) -> Iterator[socket.socket]:
    """A keepalived at ``source``."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, PROTOCOL) as sock:
        sock.bind((source, 0))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(source))
        yield sock


@pytest.fixture
def adverts() -> Iterator[AdvertSocket]:
    """What hears the peer, who has two addresses."""
    with contextlib.closing(AdvertSocket([PEER, "2001:db8::1", OTHER_PATH], time.monotonic, time.time)) as heard:
        yield heard


def test_the_peers_adverts_are_heard_at_all_of_its_addresses_and_nobody_elses(adverts: AdvertSocket) -> None:
    for source in (PEER, STRANGER, OTHER_PATH, "127.0.0.1"):
        with sender(source) as sock:
            sock.sendto(BODY, ("127.0.0.1", 0))
    assert [advert for advert, _ in adverts.receive()] == [Advert(0x33, 0.1)] * 2
    assert adverts.receive() == []


def test_each_has_the_moment_at_which_it_came(adverts: AdvertSocket) -> None:
    with sender(PEER) as sock:
        before = time.monotonic()
        sock.sendto(BODY, ("127.0.0.1", 0))
        after = time.monotonic()
        time.sleep(0.2)
        ((_, moment),) = adverts.receive()
    assert before - 0.01 <= moment <= after + 0.01


@pytest.mark.parametrize("error_s", [3600.0, -3600.0])
def test_a_wall_clock_that_was_set_does_not_move_it_beyond_the_last_look(error_s: float) -> None:
    began = time.monotonic()
    heard = AdvertSocket([PEER], time.monotonic, lambda: time.time() + error_s)
    with contextlib.closing(heard), sender(PEER) as sock:
        sock.sendto(BODY, ("127.0.0.1", 0))
        ((_, moment),) = heard.receive()
        assert began <= moment <= time.monotonic()


def test_those_to_the_group_that_keepalived_has_joined_are_heard(adverts: AdvertSocket) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, PROTOCOL) as keepalived, sender(PEER) as sock:
        member = socket.inet_aton(GROUP) + socket.inet_aton("127.0.0.1")
        keepalived.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
        sock.sendto(BODY, (GROUP, 0))
        time.sleep(0.05)
        assert [advert for advert, _ in adverts.receive()] == [Advert(0x33, 0.1)]


def test_a_peer_without_an_ipv4_address_cannot_be_heard() -> None:
    with pytest.raises(OSError, match="IPv4"):
        AdvertSocket(["2001:db8::1"], time.monotonic, time.time)
