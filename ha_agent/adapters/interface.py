"""Takes a network interface down and up again as it was: the kernel forgets its routes and IPv6 addresses meanwhile."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from ha_agent.adapters.runner import find_program, run_program

LIMIT_S = 10.0


@dataclass(frozen=True, slots=True)
class SavedInterface:
    """What a link that goes down takes with it, as words for ``ip`` (ip-route(8), ip-address(8))."""

    name: str
    routes: list[list[str]]
    addresses: list[list[str]]


async def _run_ip(*words: str) -> str:
    outcome = await run_program([find_program("ip"), *words], LIMIT_S)
    if outcome.code != 0:
        raise OSError(f"ip {' '.join(words)}: {outcome.errors.strip()[-200:]}")
    return outcome.output


async def save_interface(name: str, without: Collection[str]) -> SavedInterface:
    """Reads the routes and global IPv6 addresses of interface ``name``; not those that are keepalived's (``without``).

    Raises ``OSError`` and ``ProgramMissing``.
    """
    routes: list[list[str]] = []
    for family in ("-4", "-6"):
        for row in json.loads(await _run_ip("-j", family, "route", "show", "table", "all", "dev", name) or "[]"):
            words = route_words(row, name)
            if words is not None:
                routes.append([family, "route", "replace", *words])
    addresses = []
    for link in json.loads(await _run_ip("-j", "-6", "addr", "show", "dev", name, "scope", "global") or "[]"):
        for info in link.get("addr_info", []):
            # ip(8) shows those of another scope as empty objects.
            if "local" in info and not info.get("dynamic") and info["local"] not in without:
                addresses.append(["-6", "addr", "replace", f"{info['local']}/{info['prefixlen']}", "dev", name, "nodad"])
    return SavedInterface(name, routes, addresses)


def route_words(row: dict[str, Any], name: str) -> list[str] | None:
    """The words that make a route again; None for those that the kernel makes by itself."""
    if row.get("protocol") in ("kernel", "ra") or row.get("type") in ("local", "broadcast", "anycast", "multicast"):
        return None
    words = [str(row["dst"])]
    if "gateway" in row:
        words += ["via", str(row["gateway"])]
    words += ["dev", name]
    for key, option in (
        ("metric", "metric"),
        ("prefsrc", "src"),
        ("table", "table"),
        ("protocol", "proto"),
        ("scope", "scope"),
    ):
        if key in row:
            words += [option, str(row[key])]
    if "onlink" in row.get("flags", []):
        words.append("onlink")
    return words


async def take_down(name: str) -> None:
    """Takes the interface down. Raises ``OSError``."""
    await _run_ip("link", "set", "dev", name, "down")


async def bring_up(saved: SavedInterface) -> None:
    """Brings the interface up and makes addresses and routes again. Raises ``OSError``; may be repeated."""
    await _run_ip("link", "set", "dev", saved.name, "up")
    for words in (*saved.addresses, *saved.routes):
        await _run_ip(*words)
