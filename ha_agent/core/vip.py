"""The VIP beside a node's own address: with which prefix it is put on an interface, and what its removal takes along. Pure.

Of IPv4 addresses in one network and with one prefix length the kernel calls the first one primary and the others secondary,
and takes the secondary ones away with it unless ``promote_secondaries`` is set (``__inet_del_ifa`` in Linux'
net/ipv4/devinet.c; it is off by default). IPv6 has nothing like that.
"""

from __future__ import annotations

import ipaddress


def find_prefix(vip: str, own: str) -> str:
    """The VIP with the prefix length that keepalived is to give it on the node whose own address is ``own``.

    Alone (/32) where it lies in the network of the own address: that one brings the network's route, and the VIP, whichever
    came first, takes nothing along. Where the VIP lies in a network of its own it brings that one's route and keeps its
    prefix. So does one of IPv6, which keepalived would mark as deprecated with /128.
    """
    return f"{ipaddress.ip_interface(vip).ip}/32" if takes_along(vip, own) else vip


def takes_along(vip: str, own: str) -> bool:
    """Whether the removal of ``vip`` (a bare address stands alone) may take ``own`` away from an interface."""
    address, other = ipaddress.ip_interface(vip), ipaddress.ip_address(own)
    return address.version == other.version == 4 and address.network.prefixlen < 32 and other in address.network


def is_same_address(one: str, other: str) -> bool:
    """Whether two texts name one address, whatever their prefix lengths. False for what is no address."""
    try:
        return ipaddress.ip_interface(one).ip == ipaddress.ip_interface(other).ip
    except ValueError:
        return False
