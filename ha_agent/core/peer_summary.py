"""What this node last heard of its peer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ha_agent.core.frames import Message
from ha_agent.core.transaction import Watermark
from ha_agent.core.words import PROTOCOL_VERSION, Role, VrrpState


class WrongPeer(Exception):
    """Whoever answered is not the peer of this configuration, or speaks another protocol version."""


@dataclass(frozen=True, slots=True)
class PeerSummary:
    """The signs of life that the two agents exchange."""

    node: str
    role: Role
    vrrp_state: VrrpState
    mark: Watermark
    generation: int
    manifest_hash: str
    heard_wall: float
    vip_here: bool | None = None
    """None where it could not be found out, or where an older agent does not say."""

    @classmethod
    def parse(cls, raw: Message, heard_wall: float) -> PeerSummary:
        """The summary in a message. Raises ``WrongPeer`` where it is none."""
        if raw.get("version") != PROTOCOL_VERSION:
            raise WrongPeer(
                f"the peer speaks protocol version {raw.get('version')!r:.20}, this agent {PROTOCOL_VERSION}: "
                "install the same ha-agent on both nodes"
            )
        try:
            return cls(
                node=str(raw["node"]),
                role=Role(raw["role"]),
                vrrp_state=VrrpState(raw["vrrp_state"]),
                mark=Watermark(int(raw["epoch"]), str(raw["claimed_by"])),
                generation=int(raw["generation"]),
                manifest_hash=str(raw["manifest"]),
                heard_wall=heard_wall,
                vip_here=raw["vip"] if isinstance(raw.get("vip"), bool) else None,
            )
        except (KeyError, ValueError, TypeError) as error:
            raise WrongPeer(f"the peer's answer cannot be understood: {error}") from None


def summary_message(
    node: str, role: Role, vrrp: VrrpState, mark: Watermark, generation: int, manifest: str, vip: bool | None = None
) -> dict[str, Any]:
    """This node's signs of life as a message."""
    return {
        "version": PROTOCOL_VERSION,
        "node": node,
        "role": role.value,
        "vrrp_state": vrrp.value,
        "epoch": mark.epoch,
        "claimed_by": mark.claimed_by,
        "generation": generation,
        "manifest": manifest,
        "vip": vip,
    }
