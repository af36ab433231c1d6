"""Operations on agent.toml: what is in force here, and taking over what both nodes must say alike.

What is taken over may come from whoever has the peer's key. So it is a fixed list of values that name no command, no file
and no place (``core/settings_compare.values_to_agree``): the key must not become root here (docs/authority.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ha_agent.adapters.settings_change import plan_settings, replace_settings
from ha_agent.core.agreement import VITAL
from ha_agent.core.answers import SettingsAnswer, SettingsAppliedAnswer
from ha_agent.core.requests import Request, SettingsApplyRequest
from ha_agent.core.schema import SettingsError
from ha_agent.core.settings import Settings
from ha_agent.core.settings_compare import VIP_KEYS, keys_that_travel, values_in_force, values_to_agree
from ha_agent.core.settings_edit import UneditableText
from ha_agent.core.words import OWNING_ROLES, Outcome
from ha_agent.daemon.events import Events
from ha_agent.daemon.operations.call import Call
from ha_agent.daemon.role.maintenance import Maintenance
from ha_agent.daemon.standing import Standing


class SettingsOperations:
    """``path``: the file; ``settings``: what was read of it at the start of this agent.

    ``has_address`` says whether an address is on this machine, None where nobody knows; ``reload`` has the agent begin again
    with what the file says, after the answer.
    """

    def __init__(
        self,
        path: str,
        settings: Settings,
        standing: Standing,
        maintenance: Maintenance,
        events: Events,
        has_address: Callable[[str], bool | None],
        reload: Callable[[], None],
    ) -> None:
        self._path, self._settings = path, settings
        self._standing, self._maintenance, self._events = standing, maintenance, events
        self._has_address, self._reload = has_address, reload

    async def show(self, _request: Request, call: Call) -> SettingsAnswer:
        """The values in force, secret ones left out, and commands where the peer asks."""
        return {"path": self._path, "values": values_in_force(self._settings, to_peer=call.from_peer)}

    async def apply(self, request: SettingsApplyRequest, call: Call) -> SettingsAppliedAnswer:
        """Sets values that both nodes must have alike in the file, keeps the former one, and begins again with it.

        Refused as a whole where one of them is of another kind or not allowed; the file is as it was then.
        """
        if others := sorted(set(request.values) - keys_that_travel(self._settings)):
            return _refused(f"{', '.join(others)[:200]} is set by root of each node alone")
        try:
            planned, content = await asyncio.to_thread(plan_settings, self._path, request.values)
        except (SettingsError, UneditableText) as error:
            return _refused(f"{self._path}: {error}")
        except OSError as error:
            return {"outcome": Outcome.FAILED, "reason": f"{self._path}: {error.strerror or error}"}
        present, wanted = values_to_agree(self._settings), values_to_agree(planned)
        changed = sorted(key for key in request.values if wanted.get(key) != present.get(key))
        if not changed:
            return {"outcome": Outcome.DONE, "changed": [], "kept": None}
        if (obstacle := self._find_obstacle(planned, changed)) is not None:
            return _refused(obstacle)
        try:
            kept = await asyncio.to_thread(replace_settings, self._path, content)
        except OSError as error:
            return {"outcome": Outcome.FAILED, "reason": f"{self._path} cannot be written: {error.strerror or error}"}
        said = ", ".join(f"{key} = {wanted[key]}" for key in changed)
        self._events.add("settings-applied", f"agent.toml was changed: {said}; the former one is {kept}", by=call.by)
        self._reload()
        return {"outcome": Outcome.DONE, "changed": changed, "kept": kept}

    def _find_obstacle(self, planned: Settings, changed: list[str]) -> str | None:
        """Why these values must not be taken here now."""
        role = self._standing.role
        if set(changed) & (VITAL | VIP_KEYS) and role in OWNING_ROLES and not self._maintenance.is_on:
            return f"this node is {role.value}, and would lose the VIP by that: ha-agent maintenance on, first"
        ours = (*planned.node.paths, *planned.peer.paths)
        for vip in sorted(set(planned.vrrp.all_vips) - set(self._settings.vrrp.all_vips)):
            address = vip.partition("/")[0]
            if address in ours or self._has_address(address) is not False:
                # The agent takes a VIP off where it must not be: it must not be made to take another address off.
                return f"{address} is an address of this machine, or of the other one, already"
        return None


def _refused(reason: str) -> SettingsAppliedAnswer:
    return {"outcome": Outcome.REFUSED, "reason": reason}
