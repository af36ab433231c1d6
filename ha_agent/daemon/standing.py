"""What this node is: its role, what keepalived says, where the VIP is, the claim, the plan under way.

Values alone, and the file in /run by which they outlive the agent. Everybody may read them; only the modules of role/
call what changes them, which a test checks. Must not act.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Protocol

from ha_agent.adapters.files import keep_note, read_or_none, remove_note, write_note
from ha_agent.core.kinship import Life
from ha_agent.core.reasons import reason_of
from ha_agent.core.transaction import Watermark
from ha_agent.core.vip import Presence
from ha_agent.core.words import OWNING_ROLES, Role, VrrpState

log = logging.getLogger(__name__)


class PlanUnderWay(Protocol):
    """What may be known of a takeover or release while it runs, and until the role that it leads to is taken."""

    @property
    def name(self) -> str:
        """``takeover``, ``release``, or ``resumed``."""

    @property
    def reason(self) -> str:
        """Why it was begun."""

    @property
    def current_step(self) -> str | None:
        """The name of the step under way; None where there is none."""


class Standing:
    """The standing of one group on this node. ``path``: the file for an agent that comes after this one in the same boot."""

    def __init__(self, node: str, path: str) -> None:
        self.node = node
        self._path = path
        self._changed = asyncio.Event()
        self.role = Role.STANDBY
        self.vrrp_state = VrrpState.UNKNOWN
        self.vip_here: bool | None = None
        """Whether one of the VIPs is here; None where it could not be found out."""
        self.vips: Presence = {}
        """Each of them."""
        self.claim = Watermark()
        """The epoch under which this node took over last."""
        self.plan: PlanUnderWay | None = None
        self.loaded_into: Life | None = None
        """The life of supervisord that was given the programs."""
        self.waits: Mapping[str, Any] | None = None
        """How far the order of starts has come, in the form of its note; None where nothing waits."""
        self.has_resumed = False
        """Whether an agent of this boot had left its role."""
        self.left_running = 0
        """Processes of the registry that the last release could not end."""
        self.held: str | None = None
        """Why a takeover starts nothing for now; None where it does not hold."""
        self.last_failure: str | None = None
        """Why the last attempt at a plan could not be finished; None where it could."""
        self.last_transition: Mapping[str, Any] = {}
        """The event of the last change of role."""

    @property
    def owns(self) -> bool:
        """Whether this node's registry is the truth: it is active, or about to be."""
        return self.role in OWNING_ROLES

    @property
    def may_start(self) -> bool:
        """Whether a program of the registry may be started here by an operator's command: active, and no plan under way."""
        return self.role is Role.ACTIVE and self.plan is None

    async def wait_change(self, limit_s: float) -> None:
        """Waits for the next change of the role, ``limit_s`` at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._changed.wait()

    def keep(self) -> bool:
        """Writes the file again where it does not say what is so; says whether it did. Raises ``OSError``."""
        return keep_note(self._path, self._to_note())

    # ---- for role/ alone ----------------------------------------------------------------------------------

    def resume(self) -> str | None:
        """Takes up what an agent of this boot left; /run is empty after a reboot: then nothing changes.

        Where the file cannot be read the role is RELEASING, to be sure, and the text that is returned says so.
        """
        try:
            raw = read_or_none(self._path)
            self.has_resumed = raw is not None
            if raw is None:
                return None
            saved = json.loads(raw)
            self.role = Role(saved["role"])
            self.claim = Watermark(int(saved["epoch"]), str(saved["claimed_by"]))
            self.waits = saved.get("waits")
            if saved.get("loaded_into"):
                pid, ticks, *age = saved["loaded_into"]
                self.loaded_into = Life(int(pid), int(ticks), *map(str, age[:1]))
        except (OSError, ValueError, KeyError, TypeError):
            self.role = Role.RELEASING
            return f"{self._path} cannot be read: releasing, to be sure"
        return None

    def begin_releasing(self) -> None:
        """Begins in the role RELEASING: what an agent of this boot left is lost, and the registry runs here."""
        self.role = Role.RELEASING

    def become(self, role: Role) -> None:
        """Takes ``role`` and wakes those who wait for a change.

        Where the file cannot be written there is none until ``keep`` could write it.
        """
        self.role = role
        if role is not Role.TAKING_OVER:
            self.held = None
        self._save()
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def claim_epoch(self, mark: Watermark) -> None:
        """Notes the epoch that is claimed here; it is on the disk by now. The file is written as by ``become``."""
        self.claim = mark
        self._save()

    def note_loaded(self, supervisord: Life | None) -> None:
        """Notes which supervisord is given the programs. The file is written as by ``become``."""
        self.loaded_into = supervisord
        self._save()

    def note_waits(self, waits: Mapping[str, Any] | None) -> None:
        """Notes how far the order of starts has come. The file is written as by ``become``."""
        if waits != self.waits:
            self.waits = waits
            self._save()

    def note_vrrp(self, state: VrrpState) -> None:
        """Notes what keepalived reports."""
        self.vrrp_state = state

    def note_vip(self, here: bool | None, vips: Presence = MappingProxyType({})) -> None:
        """Notes whether one of the VIPs is on this node, and which."""
        self.vip_here, self.vips = here, vips

    def note_plan(self, plan: PlanUnderWay | None) -> None:
        """Notes the plan that is begun, or None where the role needs none."""
        self.plan = plan

    def note_left_running(self, count: int) -> None:
        """Notes how many processes of the registry a release could not end."""
        self.left_running = count

    def note_held(self, why: str | None) -> None:
        """Notes why the takeover under way starts nothing for now, or that it does."""
        self.held = why

    def note_failure(self, failure: str | None) -> None:
        """Notes why a plan could not be finished."""
        self.last_failure = failure

    def note_transition(self, event: Mapping[str, Any]) -> None:
        """Notes the event of a change of role."""
        self.last_transition = event

    def _to_note(self) -> bytes:
        saved: dict[str, Any] = {"role": self.role.value, "epoch": self.claim.epoch, "claimed_by": self.claim.claimed_by}
        saved["loaded_into"] = self.loaded_into
        if self.waits is not None:
            saved["waits"] = self.waits
        return json.dumps(saved).encode()

    def _save(self) -> None:
        """Writes the file. One that would say what is no longer so is removed: without it an agent looks what is running."""
        try:
            write_note(self._path, self._to_note())
        except OSError as error:
            log.error("%s cannot be written: %s", self._path, reason_of(error, self._path))
            with contextlib.suppress(OSError):
                remove_note(self._path)
