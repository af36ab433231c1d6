"""What a lab's network is made of: one network a path between the nodes, each a bridge at the switch. Values and names.

Path 1 carries the VIPs and has the client outside at the switch; each node has one interface a path.
"""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from ha_agent.lab.layout import ADDRESSES, CLIENT_ADDRESS, PREFIX

FILE = "network.json"
MOST_PATHS = 4
PREFIX_SIX = 64


@dataclass(frozen=True, slots=True)
class LabNetwork:
    """``has_ipv6``: each path has addresses of it, too; ``is_six``: by those the nodes speak with each other."""

    paths: int = 1
    has_ipv6: bool = False
    is_six: bool = False

    @classmethod
    def of_vips(cls, paths: int, vips: Sequence[str]) -> LabNetwork:
        """One in which ``vips`` can be served. Raises ``ValueError`` for one that is no address."""
        versions = {ipaddress.ip_interface(vip).version for vip in vips}
        return cls(paths, 6 in versions, versions == {6})

    def own_address(self, node: str, path: int = 1) -> str:
        """By what the peer knows the node on a path."""
        return address_six(node, path) if self.is_six else address_of(node, path)

    def save(self, directory: str) -> None:
        """Keeps it for the switch and for the nodes' boots."""
        with open(os.path.join(directory, FILE), "w", encoding="ascii") as file:
            json.dump(asdict(self), file)

    @classmethod
    def load(cls, directory: str) -> LabNetwork:
        """That of the lab in ``directory``."""
        with open(os.path.join(directory, FILE), encoding="ascii") as file:
            return cls(**json.load(file))

    @property
    def numbers(self) -> range:
        """The numbers of its paths, from 1."""
        return range(1, self.paths + 1)

    def pick(self, path: int | None) -> list[int]:
        """The path that is meant; None: all of them. Raises ``ValueError`` for one that there is not."""
        if path is not None and path not in self.numbers:
            raise ValueError(f"there is no path {path}: the lab has {self.paths}")
        return list(self.numbers) if path is None else [path]


def address_of(node: str, path: int = 1) -> str:
    """The node's own address on a path."""
    return _on(path, ADDRESSES[node])


def address_six(node: str, path: int = 1) -> str:
    """The node's own IPv6 address on a path."""
    return f"{_network_six(path)}::{ADDRESSES[node].rpartition('.')[2]}"


def interface_of(path: int) -> str:
    """A node's interface on a path."""
    return f"eth{path - 1}"


def port_of(node: str, path: int) -> str:
    """The switch's end of that node's cable."""
    return f"port-{node[-1]}" + (f"{path}" if path > 1 else "")


def bridge_of(path: int) -> str:
    """The switch's bridge of a path."""
    return f"br{path - 1}"


def list_commands_of_switch(network: LabNetwork) -> list[list[str]]:
    """What the switch runs with ip(8) before any node boots."""
    words = ["link set lo up"]
    for path in network.numbers:
        bridge, client = bridge_of(path), _on(path, CLIENT_ADDRESS)
        # A bridge takes the lowest address of its ports, and another one when a port goes: who has the old one reaches none.
        words.append(f"link add {bridge} address 02:00:0a:4d:{path - 1:02x}:01 type bridge")
        words.append(f"addr add {client}/{PREFIX} dev {bridge}")
        if network.has_ipv6:
            words.append(f"addr add {_network_six(path)}::1/{PREFIX_SIX} dev {bridge} nodad")
        words.append(f"link set {bridge} up")
    return [one.split() for one in words]


def list_commands_of_node(node: str, network: LabNetwork) -> list[list[str]]:
    """What a node runs with ip(8) once its cables are plugged in."""
    words = []
    for path in network.numbers:
        words.append(f"addr add {address_of(node, path)}/{PREFIX} dev {interface_of(path)}")
        words.append(f"link set {interface_of(path)} up")
        if network.has_ipv6:
            words.append(f"addr add {address_six(node, path)}/{PREFIX_SIX} dev {interface_of(path)} nodad")
    return [one.split() for one in words]


def _network_six(path: int) -> str:
    return f"fd{76 + path}"


def _on(path: int, address: str) -> str:
    """The address of path 1 as it is on another one: the second number tells them apart."""
    first, second, rest = address.split(".", 2)
    return f"{first}.{int(second) + path - 1}.{rest}"
