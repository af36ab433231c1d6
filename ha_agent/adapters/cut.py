"""Cuts this machine off from a few others for a bounded time, with nftables; whatever dies, the kernel ends it.

The addresses stand in sets whose elements time out (nft(8), SETS): when their time is over the rules match nothing, without
anybody doing anything. Rules and sets are a table of their own, so that no other one's rules are touched, and are there in
one step or not at all.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Collection

from ha_agent.adapters.runner import ProgramMissing, find_program, run_program

TABLE = "ha_agent_drill"
LIMIT_S = 5.0

VRRP = 112
"""Its protocol number; the second byte of its header is the router's (RFC 5798, 5.2.3)."""

BEFORE_ALL = -300
"""The priority of connection tracking is -200 (nft(8), CHAINS): packets that are dropped are not seen by it."""


def make_rules(addresses: Collection[str], router_id: int | None, for_s: float) -> str:
    """The whole table: nothing comes from ``addresses`` or goes there, and no advert of ``router_id`` either way."""
    wait = f"{max(1, math.ceil(for_s))}s"
    found = [ipaddress.ip_address(text) for text in addresses]
    sets = {
        "four": ("ipv4_addr", sorted(str(a) for a in found if a.version == 4)),
        "six": ("ipv6_addr", sorted(str(a) for a in found if a.version == 6)),
        "adverts": ("inet_proto", [str(VRRP)] if router_id is not None else []),
    }
    rows = [f"add table inet {TABLE}", f"delete table inet {TABLE}", f"add table inet {TABLE}"]
    for name, (kind, elements) in sets.items():
        rows.append(f"add set inet {TABLE} {name} {{ type {kind}; flags timeout; }}")
        if elements:
            listed = ", ".join(f"{element} timeout {wait}" for element in elements)
            rows.append(f"add element inet {TABLE} {name} {{ {listed} }}")
    for hook, side in (("input", "saddr"), ("output", "daddr")):
        chain = f"{{ type filter hook {hook} priority {BEFORE_ALL}; policy accept; }}"
        rows.append(f"add chain inet {TABLE} {hook} {chain}")
        rows.append(f"add rule inet {TABLE} {hook} ip {side} @four drop")
        rows.append(f"add rule inet {TABLE} {hook} ip6 {side} @six drop")
        if router_id is not None:
            rows.append(f"add rule inet {TABLE} {hook} meta l4proto @adverts @th,8,8 {router_id} drop")
    return "".join(f"{row}\n" for row in rows)


async def cut_off(addresses: Collection[str], router_id: int | None, for_s: float) -> None:
    """Cuts this machine off from ``addresses`` for ``for_s`` seconds (whole ones, rounded up), in place of an earlier cut.

    Raises ``OSError``, where the kernel or nft does not take it, and ``ProgramMissing``; nothing is cut then.
    """
    await _run_nft(make_rules(addresses, router_id, for_s))


async def restore() -> None:
    """Ends the cut now. Idempotent. Raises ``OSError`` and ``ProgramMissing``; the kernel ends it in time all the same."""
    await _run_nft(f"add table inet {TABLE}\ndelete table inet {TABLE}\n")


async def _run_nft(rules: str) -> None:
    outcome = await run_program([find_program("nft"), "-f", "-"], LIMIT_S, data=rules.encode("ascii"))
    if outcome.code != 0:
        raise OSError(f"nft: {(outcome.errors.strip().splitlines() or ['no end'])[0][-200:]}")


def has_nft() -> bool:
    """Whether the program is here."""
    try:
        return bool(find_program("nft"))
    except ProgramMissing:
        return False
