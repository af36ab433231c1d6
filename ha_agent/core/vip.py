"""The VIPs beside a node's own address: how they are put on an interface, what a removal takes along, which are here. Pure.

Of IPv4 addresses in one network and with one prefix length the kernel calls the first one primary and the others secondary,
and takes the secondary ones away with it unless ``promote_secondaries`` is set (``__inet_del_ifa`` in Linux'
net/ipv4/devinet.c; it is off by default). IPv6 has nothing like that.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence

Presence = Mapping[str, bool | None]
"""By virtual address, without its prefix length: whether it is on a node; None where that could not be found out."""


def find_prefix(vip: str, own: str) -> str:
    """The VIP with the prefix length that keepalived is to give it on the node whose own address is ``own``.

    Alone (/32) where it lies in the network of the own address: that one brings the network's route, and the VIP, whichever
    came first, takes nothing along. Where the VIP lies in a network of its own it brings that one's route and keeps its
    prefix. So does one of IPv6: the kernel takes nothing along there, and its network's route stays with the last address.
    """
    return f"{ipaddress.ip_interface(vip).ip}/32" if takes_along(vip, own) else vip


def takes_along(vip: str, own: str) -> bool:
    """Whether the removal of ``vip`` (a bare address stands alone) may take ``own`` away from an interface."""
    address, other = ipaddress.ip_interface(vip), ipaddress.ip_address(own)
    return address.version == other.version == 4 and address.network.prefixlen < 32 and other in address.network


def list_lines(vips: Sequence[str], own: str, interface: str) -> tuple[list[str], list[str]]:
    """The lines of ``virtual_ipaddress`` and of ``virtual_ipaddress_excluded`` on the node whose own address is ``own``.

    The first VIP of the own address's family stands in adverts, all others beside it: an instance's adverts have one family,
    and keepalived drops an advert with another number of addresses than its own (``vrrp_check_packet``), so that two nodes
    would both be MASTER while a VIP is added on one after the other. Excluded ones are put on, taken off and watched alike.
    An IPv6 VIP is deprecated from the beginning (``preferred_lft 0``, as keepalived itself does with /128): clients reach it
    all the same, and the kernel takes the own address for what the node itself connects to (RFC 6724, rule 3).
    """
    kind = ipaddress.ip_address(own).version
    advertised = next((vip for vip in vips if ipaddress.ip_interface(vip).version == kind), None)
    lines = {vip: f"{find_prefix(vip, own)} dev {interface}{_lifetime(vip)}" for vip in vips}
    return [lines[vip] for vip in vips if vip == advertised], [lines[vip] for vip in vips if vip != advertised]


def _lifetime(vip: str) -> str:
    return " preferred_lft 0" if ipaddress.ip_interface(vip).version == 6 else ""


def find_mark(own: str, router_id: int, path: int) -> str:
    """The address that the instance of a further path advertises: keepalived starts none without (VRRP version 3).

    Of the link-local range and for the loopback interface, so that nobody reaches it and it says nothing to anyone.
    """
    if ipaddress.ip_address(own).version == 6:
        return f"fe80::{router_id:x}:{path:x}/128"
    return f"169.254.{router_id}.{path}/32"


def bare(vip: str) -> str:
    """A virtual address without its prefix length, written as everywhere."""
    return str(ipaddress.ip_interface(vip).ip)


def is_any_here(vips: Presence) -> bool | None:
    """Whether one of them is here: True, False, or None where none is known to be and not all could be found out.

    A part is enough: a pair serves what it can, and says what is missing.
    """
    if True in vips.values():
        return True
    return None if None in vips.values() else False


def find_missing(vips: Presence) -> list[str]:
    """Those that are not here where others are."""
    return [vip for vip, here in vips.items() if here is False] if True in vips.values() else []


def find_common(own: Presence, peer: Presence) -> list[str]:
    """Those that are on both nodes."""
    return [vip for vip, here in own.items() if here is True and peer.get(vip) is True]


def join(vips: Iterable[str]) -> str:
    """Several as one text."""
    return ", ".join(vips)


def is_same_address(one: str, other: str) -> bool:
    """Whether two texts name one address, whatever their prefix lengths. False for what is no address."""
    try:
        return ipaddress.ip_interface(one).ip == ipaddress.ip_interface(other).ip
    except ValueError:
        return False
