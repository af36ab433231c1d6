"""Settings that must be the same on both nodes, and where they are not. Pure.

Each node tells its peer its own with its signs of life, and shows them in ``status --json``.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ha_agent.core.width import count_text

if TYPE_CHECKING:
    # The dashboard compares, and has no use for an agent's settings.
    from ha_agent.core.checks import CheckSettings
    from ha_agent.core.settings import Settings

Agreement = Mapping[str, str | float | bool]

VITAL = frozenset({"vrrp.vip", "vrrp.router_id", "vrrp.advert_int_s", "witness.kind"})
"""Where one of these differs keepalived drops the other node's adverts, or serves another address: no failover works. A node
without a witness gives the other one no vote."""

LONGEST_VALUE, MOST_KEYS = 200, 20


@dataclass(frozen=True, slots=True)
class Difference:
    """One setting with two values."""

    key: str
    own: str | float | bool
    peer: str | float | bool

    @property
    def is_vital(self) -> bool:
        """Whether it makes the standby useless."""
        return self.key in VITAL


def describe_agreement(settings: Settings) -> dict[str, str | float | bool]:
    """The values of this node by the settings' names in agent.toml."""
    vrrp, takeover, registry = settings.vrrp, settings.takeover, settings.registry
    return {
        "vrrp.vip": _say_vips(vrrp.all_vips),
        "vrrp.router_id": vrrp.router_id,
        "vrrp.advert_int_s": vrrp.advert_int_s,
        "vrrp.nopreempt": vrrp.nopreempt,
        "peer.addresses": count_text(len(settings.peer.paths), "path"),
        "takeover.on_interlock_timeout": takeover.on_interlock_timeout,
        "witness.kind": settings.witness.kind,
        "witness.ttl_s": settings.witness.ttl_s,
        "checks": _say_checks(settings.checks),
        "takeover.start_all": takeover.start_all,
        "registry.path": registry.path,
        "registry.mass_delete_fraction": registry.mass_delete_fraction,
        "registry.mass_delete_minimum": registry.mass_delete_minimum,
    }


def _say_checks(checks: Mapping[str, CheckSettings]) -> str:
    """How many there are, and a digest of what they say, which is too much for a message."""
    if not checks:
        return "none"
    text = "\n".join(f"{name} {check}" for name, check in sorted(checks.items()))
    return f"{count_text(len(checks), 'check')} (sha256 {hashlib.sha256(text.encode()).hexdigest()[:16]})"


def _say_vips(vips: Sequence[str]) -> str:
    """All VIPs, those of adverts first; too many for a message are told by their digest."""
    first, *others = (str(ipaddress.ip_interface(vip)) for vip in vips)
    text = ", ".join([first, *sorted(others)])
    if len(text) <= LONGEST_VALUE:
        return text
    return f"{len(vips)} addresses from {first} on (sha256 {hashlib.sha256(text.encode()).hexdigest()[:16]})"


def find_differences(own: Agreement, peer: Agreement) -> Iterator[Difference]:
    """What differs, vital ones first. A key that one side does not tell (another version) is no difference."""
    for key in sorted(own.keys() & peer.keys(), key=lambda k: (k not in VITAL, k)):
        if own[key] != peer[key]:
            yield Difference(key, own[key], peer[key])


def read_agreement(raw: object) -> dict[str, str | float | bool]:
    """The values in a message. Raises ``ValueError`` where it holds anything else."""
    if not isinstance(raw, Mapping) or len(raw) > MOST_KEYS:
        raise ValueError("agreement is not a small object")
    for key, value in raw.items():
        if not isinstance(value, str | int | float | bool) or len(str(value)) > LONGEST_VALUE or len(key) > LONGEST_VALUE:
            raise ValueError("agreement has a value that is no setting's")
    return dict(raw)
