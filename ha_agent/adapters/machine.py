"""What a role needs of the machines besides programs: the VIP here, the peer's kernel, the operator's fence command."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ha_agent.adapters import addresses
from ha_agent.adapters.reach import is_machine_up
from ha_agent.adapters.runner import ProgramMissing, find_program, run_program

log = logging.getLogger(__name__)

REMOVE_LIMIT_S = 5.0


class Machine:
    """One thing to hand over, and to stand in for."""

    def has_address(self, vip: str) -> bool | None:
        """Whether ``vip`` (with its prefix length) is on this machine; None where the kernel does not tell."""
        return addresses.has_address(vip)

    async def remove_address(self, vip: str, interface: str) -> bool:
        """Takes ``vip`` off ``interface``; says whether that was done. Raises ``ProgramMissing``."""
        ended = await run_program([find_program("ip"), "addr", "del", vip, "dev", interface], REMOVE_LIMIT_S)
        return ended.code == 0

    async def answers(self, address: str, port: int, limit_s: float) -> bool:
        """Whether the machine at ``address`` answers, whatever runs on it. Never raises for what the network does."""
        return await is_machine_up(address, port, limit_s)

    async def fence(self, command: Sequence[str], limit_s: float) -> int | None:
        """Runs the operator's fence command; returns its exit status, None where it did not end in time or is missing."""
        try:
            ended = await run_program(command, limit_s)
        except ProgramMissing as error:
            log.error("fence_command: %s", error)
            return None
        if ended.code != 0:
            log.error("fence_command ended with %s: %s", ended.code, ended.errors.strip()[-500:])
        return ended.code
