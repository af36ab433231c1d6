"""Hears the adverts of the peer's keepalived beside the own keepalived: a raw socket with a filter on their sender.

IPv4 alone: adverts over IPv6 come from a link-local address, which says nothing of who sends them.
"""

from __future__ import annotations

import ctypes
import ipaddress
import logging
import socket
import struct
from collections.abc import Callable, Sequence

from ha_agent.core.adverts import PROTOCOL, Advert, read_advert

log = logging.getLogger(__name__)

SO_ATTACH_FILTER = 26
SO_TIMESTAMPNS = 35
"""Options of Linux that the socket module does not name (socket(7); asm-generic/socket.h)."""

SOURCE_AT = 12
"""Where an IPv4 header has its source address. A raw socket's filter sees the packet from its IP header on."""

LOAD_WORD, IF_EQUAL, RETURN = 0x20, 0x15, 0x06
"""Instructions of the kernel's packet filter (BPF_LD+BPF_W+BPF_ABS, BPF_JMP+BPF_JEQ+BPF_K, BPF_RET+BPF_K)."""

WHOLE_PACKET = 0xFFFF

MAX_WAITING = 1000
"""Packets that are taken at once."""


class AdvertSocket:
    """Hears what comes from ``addresses``. ``clock``: monotonic, ``wall``: wall clock seconds.

    Raises ``OSError`` where there is no such socket: without privileges, or without an IPv4 address among them.
    """

    def __init__(self, addresses: Sequence[str], clock: Callable[[], float], wall: Callable[[], float]) -> None:
        sources = [ip for ip in map(ipaddress.ip_address, addresses) if ip.version == 4]
        if not sources:
            raise OSError("none of the peer's addresses is one of IPv4")
        self._clock, self._wall = clock, wall
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, PROTOCOL)
        try:
            _filter_by_source(self._socket, [int(source) for source in sources])
            self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        except OSError:
            self._socket.close()
            raise
        self._looked_mono = clock()

    def close(self) -> None:
        """Hears no more."""
        self._socket.close()

    def receive(self) -> list[tuple[Advert, float]]:
        """The adverts that have come since the last call, each with its moment on ``clock``."""
        found: list[tuple[Advert, float]] = []
        for _ in range(MAX_WAITING):
            try:
                packet, notes, _, _ = self._socket.recvmsg(2048, 64)
            except BlockingIOError:
                break
            except OSError:
                # An error of before stands in the way of one packet, not of the next.
                continue
            advert = read_advert(packet)
            if advert is not None:
                found.append((advert, self._find_moment(notes)))
        self._looked_mono = self._clock()
        return found

    def _find_moment(self, notes: list[tuple[int, int, bytes]]) -> float:
        """When a packet came, by the kernel's stamp. The wall clock may have been set since: it came after the last call."""
        now = self._clock()
        age_s = 0.0
        for level, kind, data in notes:
            if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS) and len(data) >= struct.calcsize("ll"):
                seconds, nanoseconds = struct.unpack_from("ll", data)
                age_s = self._wall() - seconds - nanoseconds / 1e9
        return max(now - max(age_s, 0.0), self._looked_mono)


def _filter_by_source(sock: socket.socket, sources: Sequence[int]) -> None:
    """Lets packets of ``sources`` alone in: those of other pairs in the network wake nobody."""
    program = [(LOAD_WORD, 0, 0, SOURCE_AT)]
    for number, source in enumerate(sources):
        # Jumps count from the next instruction; the last but one refuses, the last one accepts.
        program.append((IF_EQUAL, len(sources) - number, 0, source))
    program += [(RETURN, 0, 0, 0), (RETURN, 0, 0, WHOLE_PACKET)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(program), ctypes.addressof(code)))
    # What the socket held before the filter was there may be of anybody.
    while _take_one(sock):
        pass


def _take_one(sock: socket.socket) -> bool:
    try:
        sock.recv(1)
    except BlockingIOError:
        return False
    return True
