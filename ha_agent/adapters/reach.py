"""Tells a machine that is off or unreachable from one that is up: whether its kernel gives any sign of life.

A machine whose agent hangs, or whose processes are all stopped, still answers; its programs may still be running. One lost
packet is no evidence, so the machine is asked many times over the whole time, and one answer is enough.

How likely it is that nothing comes of ``n`` questions and their answers where each packet is lost with probability ``p``:
``(1 - (1 - p)**2) ** n``. The 50 echoes and 4 SYNs of 0.25 s are all lost in one look of 5 million at 50 %, in one of 160 at
70 %, in 58 of 100 at 90 %. What the machine sends by itself (adverts, echoes of its own) needs to get through once only, and
makes these figures better, never worse. A network that cannot be sent to tells nothing about the machine: the look goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import select
import socket
import struct
from collections.abc import Sequence

from ha_agent.core.adverts import PROTOCOL as VRRP
from ha_agent.core.silence import ECHO_EVERY_S, SYN_AFTER, SYN_EVERY_S

ECHO = {4: (8, 0), 6: (128, 129)}
"""Types of an echo request and of its reply (RFC 792, RFC 4443), by IP version."""


async def is_machine_up(address: str, port: int | None, timeout_s: float) -> bool:
    """Whether the machine at ``address`` gives a sign of life within ``timeout_s``; asked until the first one.

    Signs are an answer to a TCP connection on ``port`` (a refusal, too; None: none is tried, for looks that go on all the
    time), or to a ping, a ping of its own, and an advert.
    ``address`` is an IP address, not a name. Never raises for what the network does.
    """
    clock = asyncio.get_running_loop().time
    began, echoes = clock(), max(1, round(timeout_s / ECHO_EVERY_S))
    first_syn, syns_apart = round(SYN_AFTER * echoes), round(SYN_EVERY_S / ECHO_EVERY_S)
    with contextlib.closing(_Look(address, port or 0)) as look:
        for number in range(echoes):
            if port is not None and number >= first_syn and (number - first_syn) % syns_apart == 0:
                look.send_syn()
            look.send_echo()
            # A loop that comes late sends what it has missed; what was sent last has its time to be answered all the same.
            least_s = ECHO_EVERY_S if number == echoes - 1 else 0.0
            await asyncio.sleep(max(least_s, began + (number + 1) * timeout_s / echoes - clock()))
            if look.has_sign():
                return True
    return False


class _Look:
    """The sockets of one look. Raw ones need root; where they are refused, TCP alone asks."""

    def __init__(self, address: str, port: int) -> None:
        self._target, self._port = ipaddress.ip_address(address), port
        self._is_six = self._target.version == 6
        self._family = socket.AF_INET6 if self._is_six else socket.AF_INET
        self._request, self._reply = ECHO[self._target.version]
        self._pings = self._open_raw(socket.IPPROTO_ICMPV6 if self._is_six else socket.IPPROTO_ICMP)
        self._adverts = self._open_raw(VRRP)
        self._connections: list[socket.socket] = []
        self._identifier, self._token, self._sequence = os.urandom(2), os.urandom(8), 0
        self._refused = False

    def close(self) -> None:
        """Closes all; a connection that came about is reset."""
        for sock in (self._pings, self._adverts, *self._connections):
            if sock is not None:
                sock.close()

    def _open_raw(self, protocol: int) -> socket.socket | None:
        try:
            return socket.socket(self._family, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
        except OSError:
            return None

    def send_syn(self) -> bool:
        """Begins one more connection; says whether the network took it."""
        sock = socket.socket(self._family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        problem = sock.connect_ex((str(self._target), self._port))
        if problem in (0, errno.EINPROGRESS):
            self._connections.append(sock)
            return True
        self._refused = self._refused or problem == errno.ECONNREFUSED
        sock.close()
        return False

    def send_echo(self) -> bool:
        """Sends one more echo; says whether the network took it. What it says against it means nothing."""
        if self._pings is None:
            return False
        self._sequence = (self._sequence + 1) & 0xFFFF
        rest = self._identifier + struct.pack("!H", self._sequence) + self._token
        # For IPv6 the kernel fills the checksum in itself.
        empty = struct.pack("!BBH", self._request, 0, 0) + rest
        packet = empty if self._is_six else struct.pack("!BBH", self._request, 0, _checksum(empty)) + rest
        try:
            self._pings.sendto(packet, (str(self._target), 0))
        except OSError:
            return False
        return True

    def has_sign(self) -> bool:
        """Whether anything of the machine has come by now."""
        return self._refused or self._is_connected() or self._has_echo() or self._has_advert()

    def _is_connected(self) -> bool:
        poll = select.poll()
        for sock in self._connections:
            poll.register(sock, select.POLLOUT)
        ready = {fd for fd, _ in poll.poll(0)}
        ended = [sock for sock in self._connections if sock.fileno() in ready]
        problems = [sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) for sock in ended]
        for sock, problem in zip(ended, problems, strict=True):
            if problem:
                self._connections.remove(sock)
                sock.close()
        return any(problem in (0, errno.ECONNREFUSED) for problem in problems)

    def _has_echo(self) -> bool:
        for packet, is_its_own in self._receive(self._pings):
            body = packet if self._is_six else packet[(packet[0] & 15) * 4 :]
            if body[:1] == bytes([self._reply]) and body[8:16] == self._token:
                return True
            if body[:1] == bytes([self._request]) and is_its_own:
                return True
        return False

    def _has_advert(self) -> bool:
        return any(is_its_own for _, is_its_own in self._receive(self._adverts))

    def _receive(self, sock: socket.socket | None) -> list[tuple[bytes, bool]]:
        """The packets that have come, each with whether the machine itself sent it."""
        found: list[tuple[bytes, bool]] = []
        if sock is None:
            return found
        # An error of before (the network's, or an overflow) stands in the way of one packet, not of the next.
        for _ in range(1000):
            try:
                packet, source = sock.recvfrom(2048)
            except BlockingIOError:
                break
            except OSError:
                continue
            found.append((packet, ipaddress.ip_address(source[0]) == self._target))
        return found


class Questions:
    """What one machine is asked at all of its ``addresses``, until ``close``; a sign at one of them is the machine's."""

    def __init__(self, addresses: Sequence[str], port: int) -> None:
        self._looks = [_Look(address, port) for address in addresses]

    def send_echo(self) -> bool:
        """Sends one more echo to each address; says whether the network took one."""
        said = [look.send_echo() for look in self._looks]
        return any(said)

    def send_syn(self) -> bool:
        """Begins one more connection to each address; says whether the network took one."""
        said = [look.send_syn() for look in self._looks]
        return any(said)

    def has_sign(self) -> bool:
        """Whether anything of the machine has come since the beginning."""
        said = [look.has_sign() for look in self._looks]
        return any(said)

    def close(self) -> None:
        """Closes all sockets; a connection that came about is reset."""
        for look in self._looks:
            look.close()


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of ``data`` of even length."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF
