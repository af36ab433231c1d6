"""What this node last heard of its peer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from ha_agent.core.agreement import Agreement, read_agreement
from ha_agent.core.check_acts import Move, moves_to_rows, read_moves
from ha_agent.core.frames import Message
from ha_agent.core.orders import Orders
from ha_agent.core.overlap import Spell
from ha_agent.core.reasons import reason_of
from ha_agent.core.transaction import MOST_EPOCH, Watermark
from ha_agent.core.vip import Presence
from ha_agent.core.words import PROTOCOL_VERSION, Role, VrrpState

NONE = Orders()

LONGEST_NAME = 64
"""Characters of a node's name, and of a digest in hex."""


MOST_OBSTACLES, LONGEST_OBSTACLE = 5, 200
"""How many reasons a node gives why it could not take over, and their characters."""


MOST_VIPS = 20
"""As many as settings take."""


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
    vips: Presence = field(default_factory=dict)
    """Each of them; empty where an older agent does not say."""
    obstacles: tuple[str, ...] = ()
    """Why it could not take over, in its own words; an older agent does not say."""
    agreement: Mapping[str, str | float | bool] = field(default_factory=dict)
    """Its settings that must be the same on both nodes (``core/agreement.py``)."""
    active: Spell | None = None
    """When it was active last."""
    in_maintenance: bool | None = None
    """None where an older agent does not say; so is the next one."""
    stays_standby: bool | None = None
    moves: tuple[Move, ...] | None = None
    """The hand-overs for health checks that it knows of; None where it has no checks."""

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
                node=_name(raw["node"]),
                role=Role(raw["role"]),
                vrrp_state=VrrpState(raw["vrrp_state"]),
                mark=read_mark(raw),
                generation=_number(raw["generation"]),
                manifest_hash=_name(raw["manifest"]),
                heard_wall=heard_wall,
                vip_here=_flag(raw.get("vip")),
                vips=_presence(raw.get("vips", {})),
                obstacles=_obstacles(raw.get("obstacles", [])),
                agreement=read_agreement(raw.get("agreement", {})),
                active=Spell.parse(raw.get("active")),
                in_maintenance=_flag(raw.get("maintenance")),
                stays_standby=_flag(raw.get("stays_standby")),
                moves=read_moves(raw.get("moves")),
            )
        except (KeyError, ValueError, TypeError) as error:
            raise WrongPeer(f"the peer's answer cannot be understood: {reason_of(error)}") from None


def _obstacles(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ValueError("obstacles are not a list of texts")
    return tuple(text[:LONGEST_OBSTACLE] for text in value[:MOST_OBSTACLES])


def read_mark(raw: Message) -> Watermark:
    """The claim in a message. Raises ``KeyError`` and ``ValueError`` where there is none."""
    return Watermark(_number(raw["epoch"]), _name(raw["claimed_by"]))


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value < MOST_EPOCH:
        raise ValueError(f"{value!r:.40} is not a number from 0 to 2^62-1")
    return value


def _name(value: object) -> str:
    if not isinstance(value, str) or len(value) > LONGEST_NAME:
        raise ValueError(f"{value!r:.40} is not a text of {LONGEST_NAME} characters at most")
    return value


def _presence(value: object) -> Presence:
    if not isinstance(value, Mapping) or len(value) > MOST_VIPS:
        raise ValueError("vips are not a small object")
    return {_name(vip): _flag(here) for vip, here in value.items()}


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def summary_message(
    node: str,
    role: Role,
    vrrp: VrrpState,
    mark: Watermark,
    generation: int,
    manifest: str,
    vip: bool | None = None,
    obstacles: Sequence[str] = (),
    agreement: Agreement | None = None,
    active: Spell | None = None,
    orders: Orders = NONE,
    vips: Presence = MappingProxyType({}),
    moves: Sequence[Move] | None = None,
) -> dict[str, Any]:
    """This node's signs of life as a message."""
    message = {
        "version": PROTOCOL_VERSION,
        "node": node,
        "role": role.value,
        "vrrp_state": vrrp.value,
        "epoch": mark.epoch,
        "claimed_by": mark.claimed_by,
        "generation": generation,
        "manifest": manifest,
        "vip": vip,
        "vips": dict(vips),
        "obstacles": list(obstacles),
        "agreement": dict(agreement or {}),
        "active": active.to_list() if active is not None else None,
        "maintenance": orders.in_maintenance,
        "stays_standby": orders.stays_standby,
    }
    return message if moves is None else {**message, "moves": moves_to_rows(moves)}
