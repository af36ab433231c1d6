"""What ``ha-agent setup`` makes of the files of one node. Pure: texts in, texts out, so that all can be shown first."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ha_agent.core.settings import ALTERNATIVES
from ha_agent.core.vip import is_same_address

PEER_COMMAND = "/usr/bin/ha-agent-peer"
MARK = f'command="{PEER_COMMAND}"'
PENDING_KEY = "ssh-ed25519 MADE+WHEN+THIS+IS+DONE"
"""Stands for the key of a node that has none yet, where what would be done is shown."""


@dataclass(frozen=True, slots=True)
class FileChange:
    """One file as it is (None: not there) and as it is to be (None: gone).

    ``target``: where it leads if it is a symbolic link, which a file of its own replaces. ``is_conf``: it lies where
    supervisord may include every name.
    """

    path: str
    old: str | None
    new: str | None
    mode: int
    target: str = ""
    is_conf: bool = False

    @property
    def is_due(self) -> bool:
        """Whether there is anything to do."""
        return self.old != self.new or bool(self.target)

    def diff(self, node: str) -> list[str]:
        """The change as a unified diff."""
        old, new = (self.old or "").splitlines(), (self.new or "").splitlines()
        name = f"{node}:{self.path}"
        before, after = (name if text is not None else "/dev/null" for text in (self.old, self.new))
        link = [f"{name}: a link to {self.target} becomes a file of its own"] if self.target and self.new is not None else []
        return link + list(difflib.unified_diff(old, new, before, after, lineterm=""))

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able data."""
        return asdict(self)


def add_peer_key(text: str | None, public_key: str) -> str:
    """``authorized_keys`` with the peer's key under its forced command, in place of an older one of this pair."""
    line = f"restrict,{MARK} {public_key.strip()}"
    others = [row for row in (text or "").splitlines() if MARK not in row]
    return "".join(f"{row}\n" for row in [*others, line])


def trusted_keys(text: str) -> list[str]:
    """The keys that ``authorized_keys`` lets in to the forced command, without their comments."""
    rows = [row.split(MARK, 1)[1].split() for row in text.splitlines() if MARK in row]
    return [" ".join(words[:2]) for words in rows]


def trust_also(text: str | None, public_key: str) -> str:
    """``authorized_keys`` with the peer's key under its forced command, beside those of this pair that are there."""
    if " ".join(public_key.split()[:2]) in trusted_keys(text or ""):
        return text or ""
    return "".join(f"{row}\n" for row in [*(text or "").splitlines(), f"restrict,{MARK} {public_key.strip()}"])


def find_host_key(text: str, name: str) -> str | None:
    """Type and key that ``known_hosts`` has under ``name``; None where it has none."""
    rows = [row.split() for row in text.splitlines() if row.split(" ", 1)[0] == name]
    return next((" ".join(words[1:3]) for words in rows if len(words) >= 3), None)


def remove_peer_key(text: str) -> str:
    """``authorized_keys`` without the peer's key; every other line is as it is now, and none of before comes back."""
    return "".join(row for row in text.splitlines(keepends=True) if MARK not in row)


def unpin_host_key(text: str, name: str) -> str:
    """``known_hosts`` without the line of the node ``name``."""
    return "".join(row for row in text.splitlines(keepends=True) if row.split(" ", 1)[0] != name)


def pin_host_key(text: str | None, name: str, host_key: str) -> str:
    """``known_hosts`` with the peer's host key under its name."""
    others = [row for row in (text or "").splitlines() if row.split(" ", 1)[0] != name]
    kind, key = host_key.split()[:2]
    return "".join(f"{row}\n" for row in [*others, f"{name} {kind} {key}"])


_SET_ONCE = {
    ("vrrp", "priority"),
    ("vrrp", "router_id"),
    ("supervisor", "socket"),
    ("supervisor", "config"),
    ("registry", "path"),
}


def merge_settings(present: Mapping[str, Any], asked: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The tables of agent.toml: who and where the nodes are as ``asked``, everything else as an operator has set it.

    Priority and router id once set stay: the two nodes' need not be turned round when setup is run on the other one. So do
    supervisord's places, which setup only finds. Several addresses of which the first is asked for stay several.
    """
    merged = {section: dict(keys) for section, keys in present.items() if isinstance(keys, Mapping) and keys}
    wanted = {section: dict(keys) for section, keys in asked.items()}
    for section, one, several in ALTERNATIVES:
        _merge_alternatives(merged.get(section, {}), wanted.get(section, {}), one, several)
    if "addresses" not in merged.get("node", {}):
        merged.get("vrrp", {}).pop("path_interfaces", None)
    for section, keys in wanted.items():
        table = merged.setdefault(section, {})
        for key, value in keys.items():
            if (section, key) not in _SET_ONCE or key not in table:
                table[key] = value
    return merged


def _merge_alternatives(present: dict[str, Any], asked: dict[str, Any], one: str, several: str) -> None:
    """Leaves one of two keys of which a file has one."""
    first = next(iter(present.get(several, ())), "")
    if several not in asked and one in asked and is_same_address(str(first), str(asked[one])):
        del asked[one]
    elif one in asked or several in asked:
        present.pop(one, None)
        present.pop(several, None)


def is_public_key(text: str) -> bool:
    """Whether ``text`` is one OpenSSH public key on one line, and nothing more."""
    return re.fullmatch(r"(ssh|ecdsa|sk)[a-z0-9@.-]* [A-Za-z0-9+/=]+( [ !#-~]*)?", text.strip(" \n")) is not None


def find_interface(addresses: Mapping[str, list[str]], vip: str) -> str | None:
    """The interface that has an address in the network of ``vip`` (with its prefix length); None where none has."""
    network = ipaddress.ip_interface(vip).network
    for interface, own in addresses.items():
        if any(ipaddress.ip_interface(a).ip in network for a in own):
            return interface
    return None


def find_address(addresses: Mapping[str, list[str]], interface: str, vip: str) -> str | None:
    """This node's own address on ``interface`` in the network of ``vip``, which itself does not count."""
    wanted = ipaddress.ip_interface(vip)
    for text in addresses.get(interface, ()):
        own = ipaddress.ip_interface(text)
        if own.ip in wanted.network and own.ip != wanted.ip:
            return str(own.ip)
    return None
