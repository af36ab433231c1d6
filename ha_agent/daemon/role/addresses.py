"""The node's own address, without which it reaches nobody, and a VIP that is here and must not be.

Must not decide the role: a node without its own address is unfit, and keepalived says the rest.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Coroutine
from typing import Any

from ha_agent.core.peer_summary import PeerSummary
from ha_agent.core.vip import Presence, find_common
from ha_agent.core.words import Role, VrrpState
from ha_agent.daemon.events import Events
from ha_agent.daemon.peer.conversation import Conversation
from ha_agent.daemon.standing import Standing

GONE_S = 0.2
"""A MASTER keeps its right for so long: whoever replaces an address may take it off for a moment. The peer needs longer to
become MASTER itself."""

STRAY_S = 5.0
"""In a change of roles the VIP may be on both nodes for a moment. The alert is told before this is over."""


class Addresses:
    """For one group. ``has_own``: asks the kernel for the node's own address ``own``.

    ``remove_vips`` takes VIPs off, those that are named or all, and says whether it did.

    ``wake_at`` has the role loop look again at a monotonic moment.
    """

    def __init__(
        self,
        own: str,
        standing: Standing,
        conversation: Conversation,
        events: Events,
        has_own: Callable[[], bool | None],
        remove_vips: Callable[[Collection[str] | None], Awaitable[bool]],
        start_task: Callable[[Coroutine[Any, Any, None]], object],
        wake_at: Callable[[float], None],
    ) -> None:
        self._own = own
        self._standing, self._conversation, self._events = standing, conversation, events
        self._has_own, self._remove_vips = has_own, remove_vips
        self._start_task, self._wake_at = start_task, wake_at
        self._grace_until_mono: float | None = None
        self._stray_until_mono: float | None = None
        self._heard: PeerSummary | None = None
        self._told: tuple[bool | None, Presence] = (None, {})

    def tell_peer(self) -> None:
        """Has the peer know at once that a VIP came or went, and learns where it is there."""
        seen = (self._standing.vip_here, self._standing.vips)
        if seen != self._told:
            self._told = seen
            self._conversation.ask_now()

    def find_isolation(self, now: float) -> str | None:
        """Why this node must not be MASTER; None where it has its own address, or where that could not be found out."""
        if self._has_own() is not False:
            self._grace_until_mono = None
            return None
        if self._grace_until_mono is None:
            self._grace_until_mono = now + GONE_S
            self._wake_at(self._grace_until_mono)
        if self._standing.vrrp_state is VrrpState.MASTER and now < self._grace_until_mono:
            return None
        return f"its own address {self._own} (node.address) is not on this machine"

    def remove_stray(self, now: float) -> None:
        """Takes off a VIP that has been here for ``STRAY_S`` although this node's keepalived, alive, says that it has none.

        Only where the peer, asked since, is MASTER and has it: no report that was lost must leave the pair without its VIP.
        Of several those alone that are on both nodes.
        """
        if not self._is_stray():
            self._stray_until_mono = None
        elif self._stray_until_mono is None:
            self._stray_until_mono, self._heard = now + STRAY_S, self._conversation.peer
            self._conversation.ask_now()
            self._wake_at(self._stray_until_mono)
        elif now >= self._stray_until_mono and self._conversation.peer is not self._heard:
            self._stray_until_mono = None
            self._start_task(self._remove())

    def _is_stray(self) -> bool:
        standing, conversation, peer = self._standing, self._conversation, self._conversation.peer
        return (
            standing.vip_here is True
            and standing.role is Role.STANDBY
            and standing.vrrp_state in (VrrpState.BACKUP, VrrpState.FAULT)
            and conversation.peer_owns
            and peer is not None
            and peer.vrrp_state is VrrpState.MASTER
            and peer.vip_here is True
        )

    async def _remove(self) -> None:
        peer = self._conversation.peer
        both = find_common(self._standing.vips, peer.vips) if peer is not None and peer.vips else None
        if self._is_stray() and both != [] and await self._remove_vips(both):
            state = self._standing.vrrp_state.value
            owner = peer.node if peer is not None else "the peer"
            self._events.add("vip-removed", f"the VIP was here while keepalived says {state} and {owner} has it: taken off")
