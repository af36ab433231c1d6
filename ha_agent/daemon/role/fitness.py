"""Whether this node may be MASTER, and the track file by which keepalived is told (weight 0: a 1 in it is FAULT).

Owns the file and the reasons for its content. Must not decide the role: the rules see only ``gives_way``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from ha_agent.adapters.files import read_note, write_note
from ha_agent.core.reasons import reason_of
from ha_agent.core.rules import Cause
from ha_agent.core.words import Role, VrrpState
from ha_agent.daemon.events import Events

log = logging.getLogger(__name__)

HOLD_S = 60.0
"""A node that was refused stays FAULT for this long beside a peer that is active, before it may be MASTER again."""

HOLD_LEAST_S = 2.0
"""The peer needs a moment to become MASTER; it must not lose the election against the node that gives way."""

HAND_OVER_LEAST_S = 0.3
"""keepalived looks at the track file now and then; it must have seen that it is to give up."""

VIP_LOST_S = 1.0
"""In a transition the address goes before keepalived's report comes; only a longer absence means something."""

_FIT, _UNFIT = b"0\n", b"1\n"


class Fitness:
    """Keeps the track file. ``wake_at`` has the rules asked again at a monotonic moment.

    ``find_order``: why an operator ordered that this node is not to be MASTER; None where nobody did.
    """

    def __init__(
        self,
        track_path: str,
        events: Events,
        wake_at: Callable[[float], None],
        find_order: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._path = track_path
        self._events = events
        self._wake_at, self._find_order = wake_at, find_order
        self._told_unfit = False
        self.problem: str | None = None
        """Why the file cannot be written; None where it could."""
        self._held_mono: float | None = None
        self._hold_s, self._hold_reason = HOLD_S, ""
        self.gives_way: Cause | None = None
        """Why this node has given MASTER up to its peer for now; None where it has not."""
        self._vip_lost_mono: float | None = None
        self.reason: str | None = None
        """Why keepalived is told FAULT; None where it is not, as far as this agent is concerned."""

    @property
    def gives_way_by_choice(self) -> bool:
        """Whether it does so for a reason of its own, and not because the peer is active and stays so."""
        return self.gives_way not in (None, Cause.REFUSED)

    @property
    def hands_over(self) -> bool:
        """Whether it does so until the peer owns the pair: for a switchover or a health check."""
        return self.gives_way in (Cause.SWITCHOVER, Cause.CHECK)

    def begin(self, *, in_maintenance: bool = False) -> None:
        """Says for the first time that this node is fit, or that it is not by an operator's order.

        In maintenance keepalived hears nothing new: a 1 that is there stays for the first look after it.
        """
        self.reason = self._find_order()
        if in_maintenance and self.reason is None and read_note(self._path) == _UNFIT:
            self._told_unfit = True
            return
        self._tell(self.reason is not None)

    def give_way(self, now: float, reason: str, cause: Cause = Cause.REFUSED, hold_s: float = HOLD_S) -> None:
        """Has keepalived give up MASTER here for ``hold_s`` at most."""
        self.gives_way = cause
        self._held_mono, self._hold_s, self._hold_reason = now, hold_s, reason
        self._tell(True)

    def hand_over(self, now: float, reason: str, limit_s: float, cause: Cause = Cause.SWITCHOVER) -> None:
        """Has keepalived give up MASTER here until the peer owns the pair, ``limit_s`` at most."""
        self.give_way(now, reason, cause, limit_s)
        self._wake_at(now + HAND_OVER_LEAST_S + 0.01)
        self._wake_at(now + limit_s + 0.01)

    def update(
        self,
        now: float,
        role: Role,
        vrrp_state: VrrpState,
        vip_here: bool | None,
        *,
        supervisord_gone: bool,
        peer_owns: bool,
        notes_problem: str | None = None,
        isolated: str | None = None,
        voteless: str | None = None,
    ) -> None:
        """Makes the track file say what is true now, and again with each look where it could not be written.

        ``peer_owns``: the peer was last heard of as owning the pair. ``notes_problem``: why no takeover could be finished.
        ``isolated``: why this node reaches nobody. ``voteless``: why it could not have the votes.
        """
        self._end_hold(now, vrrp_state, peer_owns)
        if self._is_vip_lost(now, vrrp_state, vip_here):
            self._events.add("vip-lost", "keepalived still says MASTER without the VIP: told to give up")
            self.give_way(now, "keepalived said MASTER without the VIP", hold_s=HOLD_LEAST_S)
        self.reason = self._find_reason(role, supervisord_gone, notes_problem, isolated, voteless)
        unfit = self.reason is not None
        # Somebody else may write the file, too: an operator's 1 stays, but a 0 does not lift what still holds.
        content = read_note(self._path)
        is_right = content == _UNFIT if unfit else content is not None and content.strip().isdigit()
        if unfit != self._told_unfit or not is_right:
            self._tell(unfit)

    def _find_reason(
        self,
        role: Role,
        supervisord_gone: bool,
        notes_problem: str | None,
        isolated: str | None,
        voteless: str | None,
    ) -> str | None:
        if role is Role.FENCED:
            return "processes of the registry cannot be ended here"
        if supervisord_gone:
            return "supervisord is gone"
        if notes_problem is not None and role is not Role.ACTIVE:
            return f"it could not take over: {notes_problem}"
        if isolated is not None or voteless is not None:
            return isolated or voteless
        if (order := self._find_order()) is not None:
            return order
        return self._hold_reason if self.gives_way is not None else None

    def _end_hold(self, now: float, vrrp_state: VrrpState, peer_owns: bool) -> None:
        """Ends a hold when it has had its time.

        One for a hand-over ends early where the peer owns the pair, and late even where keepalived does not give up. One
        after a refusal ends early where the peer is not active after all.
        """
        if self._held_mono is None:
            return
        held_s = now - self._held_mono
        if self.hands_over:
            over = held_s > self._hold_s or (peer_owns and vrrp_state is not VrrpState.MASTER and held_s > HAND_OVER_LEAST_S)
        else:
            over = vrrp_state is not VrrpState.MASTER and held_s > (self._hold_s if peer_owns else HOLD_LEAST_S)
        if over:
            self._held_mono = self.gives_way = None

    def _is_vip_lost(self, now: float, vrrp_state: VrrpState, vip_here: bool | None) -> bool:
        if vrrp_state is not VrrpState.MASTER or vip_here is not False or self.gives_way is not None:
            self._vip_lost_mono = None
            return False
        if self._vip_lost_mono is None:
            self._vip_lost_mono = now
            self._wake_at(now + VIP_LOST_S)
        return now - self._vip_lost_mono >= VIP_LOST_S

    def _tell(self, unfit: bool) -> None:
        self._told_unfit = unfit
        try:
            write_note(self._path, _UNFIT if unfit else _FIT)
        except OSError as error:
            if self.problem is None:
                log.error("%s cannot be written: %s", self._path, reason_of(error, self._path))
            self.problem = reason_of(error, self._path)
        else:
            self.problem = None

    def keep(self) -> bool:
        """Raises ``OSError`` where the file cannot be written: ``update`` makes it right, and tries that again."""
        if self.problem is not None:
            raise OSError(self.problem)
        return False
