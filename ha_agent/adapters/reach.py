"""Tells a machine that is off or unreachable from one that is up: whether its kernel answers at all.

A machine whose agent hangs, or whose processes are all stopped, still answers; its programs may still be running.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct


async def is_machine_up(address: str, port: int, timeout_s: float) -> bool:
    """Whether the machine at ``address`` answers within ``timeout_s`` to a TCP connection on ``port`` or to a ping.

    ``address`` is an IP address, not a name. A refused connection is an answer too. Never raises for what the network does.
    """
    asks = [asyncio.ensure_future(_answers_tcp(address, port)), asyncio.ensure_future(_answers_ping(address))]
    try:
        for finished in asyncio.as_completed(asks, timeout=timeout_s):
            if await finished:
                return True
    except TimeoutError:
        pass
    finally:
        for ask in asks:
            ask.cancel()
        await asyncio.gather(*asks, return_exceptions=True)
    return False


async def _answers_tcp(address: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(address, port)
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of ``data`` of even length."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


async def _answers_ping(address: str) -> bool:
    """One ICMP echo (RFC 792, RFC 4443). False where the kernel does not let us."""
    six = ":" in address
    family, protocol = (socket.AF_INET6, socket.IPPROTO_ICMPV6) if six else (socket.AF_INET, socket.IPPROTO_ICMP)
    try:
        sock = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
    except OSError:
        return False
    request, reply = (128, 129) if six else (8, 0)
    token = os.urandom(4)
    packet = struct.pack("!BBH", request, 0, 0) + token
    # For IPv6 the kernel fills the checksum in itself.
    packet = packet if six else struct.pack("!BBH", request, 0, _checksum(packet)) + token
    loop = asyncio.get_running_loop()
    with sock:
        try:
            # Not the loop's sock_connect: it looks the address up as if it were one of TCP. A raw socket connects at once.
            sock.connect((address, 0))
            await loop.sock_sendall(sock, packet)
            while True:
                got = await loop.sock_recv(sock, 2048)
                body = got if six else got[(got[0] & 15) * 4 :]
                if body[:1] == bytes([reply]) and body[4:8] == token:
                    return True
        except OSError:
            return False
