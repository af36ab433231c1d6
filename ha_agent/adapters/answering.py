"""Whether something takes a TCP connection at an address, now."""

from __future__ import annotations

import asyncio
import socket

from ha_agent.core.order_keys import Address


async def takes_connection(address: Address, limit_s: float) -> bool:
    """Whether a connection comes about within ``limit_s``; it is closed at once, and nothing is sent.

    ``address``: an IP address and a port. Never raises for what the network does.
    """
    host, port = address
    loop = asyncio.get_running_loop()
    try:
        (family, _, _, _, where), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        )
        with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as sock:
            async with asyncio.timeout(limit_s):
                await loop.sock_connect(sock, where)
            # Where nobody listens the kernel may choose the very port that is tried as this end's own: TCP then connects
            # the socket with itself (simultaneous open, RFC 9293, 3.5).
            return bool(sock.getsockname() != sock.getpeername())
    except (OSError, TimeoutError):
        return False
