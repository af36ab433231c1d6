"""Whether something takes a connection: real sockets of the loopback network."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from ha_agent.adapters.answering import takes_connection


def ask(host: str, port: int, limit_s: float = 1.0) -> bool:
    """One question."""
    return asyncio.run(takes_connection((host, port), limit_s))


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_one_that_listens_answers_and_one_that_has_gone_does_not(family: socket.AddressFamily, host: str) -> None:
    with socket.socket(family) as server:
        server.bind((host, 0))
        port = int(server.getsockname()[1])
        assert not ask(host, port), "bound is not listening"
        server.listen()
        assert ask(host, port) and ask(host, port)
    assert not ask(host, port)


def test_one_whose_queue_is_full_has_its_time_and_no_more() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        waiting = [socket.create_connection(server.getsockname()) for _ in range(1)]
        began = time.monotonic()
        assert not ask("127.0.0.1", server.getsockname()[1], 0.3)
        assert 0.2 < time.monotonic() - began < 2.0
        for sock in waiting:
            sock.close()
