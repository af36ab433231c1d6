"""What operators have said of a node and that is in force there, and when such a word is refused. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ha_agent.core.words import Role, VrrpState

if TYPE_CHECKING:
    # The dashboard describes orders, and has no use for what a transaction needs.
    from ha_agent.core.transaction import Watermark

END_MAINTENANCE = "end maintenance first: ha-agent maintenance off"


@dataclass(frozen=True, slots=True)
class Orders:
    """What the other node must know of: a switchover to a node that must not take over would be an outage."""

    in_maintenance: bool = False
    stays_standby: bool = False


@dataclass(frozen=True, slots=True)
class StandbyOrder:
    """The order that a node takes over nothing until told otherwise: since when (wall clock seconds), by whom, and why."""

    since: float
    by: str
    reason: str


def describe_order(by: str, reason: str) -> str:
    """The order that a node is to stay standby, as the reason why it must not be MASTER."""
    return f"{by} ordered it to stay standby" + (f" ({reason})" if reason else "")


@dataclass(frozen=True, slots=True)
class StandbyFacts:
    """What the order that ``node`` is to stay standby is held against. ``peer_role`` is None where it does not answer."""

    node: str
    peer: str
    role: Role
    in_maintenance: bool
    peer_role: Role | None
    peer_stays_standby: bool


def why_never_standby(facts: StandbyFacts) -> str | None:
    """Why ``node`` cannot be ordered to stay standby at all, and what to do; None where it can."""
    if facts.in_maintenance:
        return f"maintenance is on at {facts.node}; {END_MAINTENANCE}"
    return None


def why_not_standby(facts: StandbyFacts) -> str | None:
    """Why ``node`` should not be ordered to stay standby: nothing might run then. None where nothing is against it."""
    node, peer = facts.node, facts.peer
    if facts.peer_role is None:
        return f"{peer} cannot be reached: while {node} stays standby, nothing may run"
    if facts.peer_stays_standby:
        return f"{peer} is to stay standby, too: nothing would run; first: ha-agent unstandby {peer}"
    if facts.role is Role.ACTIVE:
        return f"{node} is active; hand over first: ha-agent switchover"
    if facts.role not in (Role.STANDBY, Role.FENCED):
        return f"{node} is {facts.role.value} just now; wait until it has settled: ha-agent status --watch"
    if facts.peer_role is not Role.ACTIVE:
        return f"{peer} is {facts.peer_role.value}, not active: while {node} stays standby, nothing may run"
    return None


@dataclass(frozen=True, slots=True)
class PeerOff:
    """An operator's word that the other machine is off, for the one takeover that has the epoch ``claim``."""

    claim: Watermark
    by: str
    reason: str

    @property
    def text(self) -> str:
        """It in English."""
        return f"{self.by} says that it is off" + (f" ({self.reason})" if self.reason else "")


@dataclass(frozen=True, slots=True)
class TakeoverFacts:
    """What an operator's word that the other machine is off is held against. ``unfit``: why keepalived is told FAULT."""

    node: str
    peer: str
    role: Role
    vrrp_state: VrrpState
    vip_here: bool | None
    held: str | None = None
    failure: str | None = None
    unfit: str | None = None
    in_maintenance: bool = False
    stays_standby: bool = False
    needs_votes: bool = False


def why_no_takeover_waits(facts: TakeoverFacts) -> str | None:
    """Why no takeover here could go on with an operator's word, and what to do instead; None where one could.

    A takeover that waits for a silent agent, and is not held yet, is none: the other machine answers then.
    """
    node = facts.node
    if facts.needs_votes:
        return (
            f"there is a witness, and no word stands for two of the three votes: bring the witness or {facts.peer} back, "
            "see ha-agent witness status; where both are gone for good, leave [witness] out of agent.toml"
        )
    if facts.in_maintenance:
        return f"maintenance is on at {node}; {END_MAINTENANCE}"
    if facts.role is Role.ACTIVE:
        return f"{node} is active already: there is nothing to take over"
    if facts.stays_standby:
        return f"{node} is to stay standby, by an operator's order; end that first: ha-agent unstandby {node}"
    if facts.unfit is not None:
        return f"{node} must not be MASTER: {facts.unfit}; end that reason first, see ha-agent status"
    if facts.vrrp_state is not VrrpState.MASTER:
        return (
            f"keepalived on {node} says {facts.vrrp_state.value}, not MASTER: it decides which node takes over; "
            "see journalctl -u keepalived"
        )
    if facts.vip_here is False:
        return f"the VIP is not on {node}, although keepalived says MASTER; see journalctl -u keepalived"
    if facts.role is Role.STANDBY:
        return f"the takeover of {node} has not begun; try again in a moment"
    if facts.role is not Role.TAKING_OVER:
        return f"{node} is {facts.role.value}; wait until it has settled: ha-agent status --watch"
    return None


def why_not_off(facts: TakeoverFacts, *, agent_answers: bool, machine_answers: bool) -> str | None:
    """Why the other machine cannot be called off, and what to do; None where nothing speaks against it.

    ``agent_answers``: its agent does, over the link; ``machine_answers``: it answers a ping or on sshd's port, or sends
    adverts.
    """
    peer = facts.peer
    if agent_answers:
        waits = f" ({facts.held})" if facts.held else ""
        return f"{peer} is not off: its agent answers{waits}. It gives its word when nothing runs there; else power it off"
    if machine_answers:
        return f"{peer} is not off: its machine answers (ping, sshd or adverts). Power it off, then say so again"
    if facts.held is None:
        doing = facts.failure or "it is under way"
        return f"the takeover of {facts.node} does not wait for {peer}: {doing}; see ha-agent status --watch"
    return None
