"""Two nodes' agent.toml beside each other: what must be the same, what must name the other one, and the rest. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ha_agent.core.agreement import describe_agreement
from ha_agent.core.schema import NOT_SHOWN
from ha_agent.core.settings import NAMED_SECTIONS, SECTIONS, Settings
from ha_agent.core.settings_sample import settings_as_dict

HERE_ALONE = frozenset({"registry.path", "peer.addresses", "witness.kind", "witness.ttl_s", "checks"})
"""What must be the same and is set by root of each node alone: by the path the other node would choose where files are
written, of the addresses only the number is to be the same, a witness is more than its kind (docs/votes.md), and a check may
be a command."""

CROSSED = {"node.name": "peer.name", "node.address": "peer.address", "node.addresses": "peer.addresses"}
"""What one node says of itself, and the other one of its peer."""

VIP_KEYS = frozenset({"vrrp.vip", "vrrp.vips"})
"""The one for a single address or the other one for several: a file has one of them."""

OWN = frozenset({"vrrp.priority", "vrrp.interface", "vrrp.path_interfaces", "peer.ssh_port", "peer.ssh_user"})
"""What is each node's own, and nothing to compare."""


class Kind(StrEnum):
    """What a difference means."""

    MUST_AGREE = "must-agree"
    MUST_NAME = "must-name"
    """The one node's word of itself is not the other one's of its peer."""
    MAY_DIFFER = "may-differ"


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting with two values; None where one side does not have it. ``key`` is the name on this node."""

    key: str
    kind: Kind
    own: Any
    peer: Any


def values_in_force(settings: Settings, *, to_peer: bool = False) -> dict[str, Any]:
    """Every value by its name in agent.toml, defaults included; secret ones are not shown.

    ``to_peer``: nor are commands, whose words may hold a password (a fence's), and which the other node has no use for.
    """
    flat: dict[str, Any] = {}
    for section, table in settings_as_dict(settings).items():
        hidden = _secret_keys(section) | (frozenset(k for k in table if k.endswith("command")) if to_peer else frozenset())
        flat.update({f"{section}.{key}": NOT_SHOWN if key in hidden and value else value for key, value in table.items()})
    return flat


def _secret_keys(section: str) -> frozenset[str]:
    kind = section.partition(".")[0]
    cls = NAMED_SECTIONS[kind] if kind in NAMED_SECTIONS else SECTIONS[section]
    return frozenset(name for name, spec in cls.__dataclass_fields__.items() if spec.metadata.get("secret"))


def keys_to_agree(settings: Settings) -> frozenset[str]:
    """The keys whose values in force both nodes must have alike."""
    checks = {key for key in values_in_force(settings) if key.startswith("checks.") and not key.endswith("command")}
    return frozenset(describe_agreement(settings)) - {"peer.addresses", "checks"} | {"vrrp.vips"} | checks


def values_to_agree(settings: Settings) -> dict[str, Any]:
    """What the peer's file is to say as this one does, and may be told over the link; one of ``VIP_KEYS`` is among it."""
    said = describe_agreement(settings)
    vrrp = settings.vrrp
    vips: dict[str, Any] = {"vrrp.vips": [*vrrp.vips]} if vrrp.vips else {"vrrp.vip": said["vrrp.vip"]}
    return vips | {key: value for key, value in said.items() if key not in HERE_ALONE | VIP_KEYS}


def keys_that_travel(settings: Settings) -> frozenset[str]:
    """The keys that a node may set in its peer's file."""
    return VIP_KEYS | values_to_agree(settings).keys()


def compare_settings(own: Mapping[str, Any], peer: Mapping[str, Any], agreed: frozenset[str]) -> Iterator[SettingRow]:
    """What differs between the values in force of two nodes, the most important first. ``agreed``: what must be the same."""
    for key in sorted(agreed):
        if own.get(key) != peer.get(key):
            yield SettingRow(key, Kind.MUST_AGREE, own.get(key), peer.get(key))
    for mine, theirs in [*CROSSED.items(), *((b, a) for a, b in CROSSED.items())]:
        if own.get(mine) != peer.get(theirs):
            yield SettingRow(mine, Kind.MUST_NAME, own.get(mine), peer.get(theirs))
    passed = agreed | OWN | CROSSED.keys() | frozenset(CROSSED.values())
    for key in sorted((own.keys() | peer.keys()) - passed):
        if own.get(key) != peer.get(key):
            yield SettingRow(key, Kind.MAY_DIFFER, own.get(key), peer.get(key))
