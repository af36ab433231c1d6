"""A machine is up when its kernel gives any answer, whatever its processes do."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from ha_agent.adapters.reach import is_machine_up

pytestmark = pytest.mark.xdist_group("reach")
"""These change the network that they share: one after the other."""


@contextlib.contextmanager
def firewall(rules: str) -> Iterator[None]:
    """What comes in goes through ``rules`` for a while."""
    subprocess.run(["nft", f"table ip t {{\nchain i {{\ntype filter hook input priority 0\n{rules}\n}}\n}}"], check=True)
    try:
        yield
    finally:
        subprocess.run(["nft", "delete table ip t"], check=True)


@pytest.fixture
def place() -> Iterator[str]:
    """An address of this place that answers nothing: the firewall drops what comes for it."""
    subprocess.run(["ip", "addr", "add", "127.9.9.9/8", "dev", "lo"], check=False, capture_output=True)
    with firewall("ip daddr 127.9.9.9 drop"):
        yield "127.9.9.9"


def look(address: str, port: int, timeout_s: float = 1.0) -> bool:
    return asyncio.run(is_machine_up(address, port, timeout_s))


def test_a_machine_that_accepts_or_refuses_a_connection_is_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert look("127.0.0.1", port)
    assert look("127.0.0.1", port), "refused is an answer"


def test_a_machine_that_only_answers_a_ping_is_up() -> None:
    with firewall("tcp dport 2222 drop"):
        assert look("127.0.0.1", 2222)


def test_a_machine_that_answers_pings_is_not_asked_by_tcp() -> None:
    """sshd would hold each connection on which nobody logs in against this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        for _ in range(20):
            assert look("127.0.0.1", server.getsockname()[1], 0.25)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_machine_that_answers_no_ping_is_asked_by_tcp() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, firewall("icmp type echo-request drop"):
        for timeout_s in (0.25, 0.01):
            assert look("127.0.0.1", server.getsockname()[1], timeout_s)


def test_ipv6_is_asked_as_well() -> None:
    with open("/proc/sys/net/ipv6/conf/lo/disable_ipv6", "w", encoding="ascii") as file:
        file.write("0")
    assert look("::1", 9)


def test_a_machine_that_gives_no_answer_in_time_is_not_up(place: str) -> None:
    began = time.monotonic()
    assert not look(place, 22, 0.2)
    assert time.monotonic() - began < 1.0, "the deadline is a promise: every crash failover waits for it"


@pytest.fixture
def lossy() -> Iterator[str]:
    """An address that half of the packets do not reach, as half of its own get lost."""
    subprocess.run(["ip", "addr", "add", "127.9.9.8/8", "dev", "lo"], check=False, capture_output=True)
    rules = "".join(f"ip {side} 127.9.9.8 numgen random mod 100 < 50 drop\n" for side in ("daddr", "saddr"))
    with firewall(rules):
        yield "127.9.9.8"


def test_half_of_the_packets_lost_either_way_make_no_machine_look_dead(lossy: str) -> None:
    assert all(look(lossy, 22, 0.25) for _ in range(60)), "one look in five million comes to nothing"


def test_a_machine_that_is_heard_of_while_it_is_looked_at_is_up(place: str) -> None:
    """No answer of its own reaches us, but an advert does."""

    async def main() -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, 112) as sock:
            sock.bind((place, 0))
            asyncio.get_running_loop().call_later(0.1, sock.sendto, b"advert..", ("127.0.0.1", 0))
            return await is_machine_up(place, 22, 1.0)

    assert asyncio.run(main())


def test_what_was_sent_before_the_look_is_no_sign(place: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, 112) as sock:
        sock.bind((place, 0))
        sock.sendto(b"advert..", ("127.0.0.1", 0))
        assert not look(place, 22, 0.1)


def test_a_machine_without_a_route_is_not_up() -> None:
    assert not look("203.0.113.7", 22, 0.2)
