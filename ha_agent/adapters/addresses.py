"""Whether the VIP is on this machine, from the kernel itself (rtnetlink(7)), and a wake-up when that may have changed."""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from dataclasses import dataclass

RTM_NEWADDR, RTM_GETADDR = 20, 22
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_DUMP = 0x1, 0x300
IFA_ADDRESS, IFA_LOCAL = 1, 2
RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR = 0x10, 0x100

_HEADER = struct.Struct("=LHHLL")
_ADDRESS = struct.Struct("=BBBBL")


@dataclass(frozen=True, slots=True)
class Address:
    """One address of this machine: packed, with its prefix length and the number of its interface."""

    packed: bytes
    prefix_length: int
    interface: int


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if length < 4:
            break
        found[kind] = data[4:length]
        data = data[(length + 3) & ~3 :]
    return found


def _parse_dump(data: bytes, into: set[Address]) -> bool:
    """Adds the addresses of one datagram to ``into``; returns whether more of the dump follows."""
    while len(data) >= _HEADER.size:
        length, kind, _flags, _seq, _pid = _HEADER.unpack_from(data)
        if kind == NLMSG_DONE:
            return False
        if kind == NLMSG_ERROR or length < _HEADER.size:
            raise OSError("the kernel refused to list the addresses")
        if kind == RTM_NEWADDR:
            _family, prefix_length, _flags, _scope, interface = _ADDRESS.unpack_from(data, _HEADER.size)
            found = _attributes(data[_HEADER.size + _ADDRESS.size : length])
            into.add(Address(found.get(IFA_LOCAL) or found.get(IFA_ADDRESS) or b"", prefix_length, interface))
        data = data[(length + 3) & ~3 :]
    return True


def list_addresses(family: int) -> set[Address]:
    """All addresses of this machine (network namespace) of one family. Raises ``OSError``."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as sock:
        sock.settimeout(1.0)
        body = _ADDRESS.pack(family, 0, 0, 0, 0)
        sock.send(_HEADER.pack(_HEADER.size + len(body), RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, 1, 0) + body)
        found: set[Address] = set()
        while _parse_dump(sock.recv(65536), found):
            pass
    return found


def has_address(address: str) -> bool | None:
    """Whether ``address`` is on this machine, whatever its prefix length; None where that cannot be found out."""
    try:
        return bool(find_address(address))
    except OSError:
        return None


def find_address(address: str) -> list[Address]:
    """Where on this machine ``address`` is, with whatever prefix lengths. Raises ``OSError``."""
    wanted = ipaddress.ip_interface(address).ip
    family = socket.AF_INET if wanted.version == 4 else socket.AF_INET6
    return [found for found in list_addresses(family) if found.packed == wanted.packed]


def open_monitor() -> socket.socket:
    """A non-blocking socket that becomes readable when an address comes or goes. Raises ``OSError``."""
    sock = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
    )
    sock.bind((0, RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR))
    return sock


def drain_monitor(sock: socket.socket) -> None:
    """Throws away what the monitor holds; also what an overflow (ENOBUFS) left."""
    for _ in range(1000):
        try:
            os.read(sock.fileno(), 65536)
        except BlockingIOError:
            return
        except OSError:
            continue
