"""What a role needs of the machines besides programs: the VIP here, the peer's kernel, the operator's fence command."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

from ha_agent.adapters import addresses
from ha_agent.adapters.advert_socket import AdvertSocket
from ha_agent.adapters.answering import takes_connection
from ha_agent.adapters.reach import Questions, is_machine_up
from ha_agent.adapters.runner import ProgramMissing, find_program, run_program
from ha_agent.core.order_keys import Address
from ha_agent.core.reasons import reason_of
from ha_agent.core.vip import bare

log = logging.getLogger(__name__)

REMOVE_LIMIT_S = 5.0
SSH_PORT = 22
"""A host that answers no ping may refuse a connection, which is a sign of life as well."""


class Machine:
    """One thing to hand over, and to stand in for."""

    def has_address(self, address: str) -> bool | None:
        """Whether ``address`` is on this machine, whatever its prefix length; None where the kernel does not tell."""
        return addresses.has_address(address)

    def find_addresses(self, vips: Sequence[str]) -> dict[str, bool | None]:
        """By bare address whether each of ``vips`` is on this machine, as ``has_address`` says it."""
        return {bare(vip): self.has_address(vip) for vip in vips}

    async def remove_addresses(self, vips: Sequence[str], interface: str) -> bool:
        """Takes all of ``vips`` off, each as ``remove_address`` does; says whether one of them was there and went.

        Raises ``ProgramMissing``.
        """
        return any([await self.remove_address(vip, interface) for vip in vips])

    async def remove_address(self, vip: str, interface: str, keep: int | None = None) -> bool:
        """Takes ``vip`` off ``interface``, with whatever prefix length but ``keep`` it is there, and no other address along.

        Says whether it was there and went. Raises ``ProgramMissing``.
        """
        address = ipaddress.ip_interface(vip).ip
        try:
            number = socket.if_nametoindex(interface)
            found = [one.prefix_length for one in addresses.find_address(vip) if one.interface == number]
            found = [prefix_length for prefix_length in found if prefix_length != keep]
        except OSError as error:
            log.error("%s cannot be taken off %s: %s", address, interface, reason_of(error))
            return False
        words = [find_program("ip"), "addr", "del"]
        with _promoting(interface):
            ends = [await run_program([*words, f"{address}/{n}", "dev", interface], REMOVE_LIMIT_S) for n in found]
        return bool(ends) and all(ended.code == 0 for ended in ends)

    async def answers(self, address: str, port: int, limit_s: float) -> bool:
        """Whether the machine at ``address`` answers, whatever runs on it. Never raises for what the network does."""
        return await is_machine_up(address, port, limit_s)

    async def answers_ping(self, address: str, limit_s: float) -> bool:
        """Whether a ping to ``address`` is answered; nothing of it comes to a log there."""
        return await is_machine_up(address, None, limit_s)

    async def answers_anywhere(self, addresses: Sequence[str], port: int, limit_s: float) -> bool:
        """Whether the machine that has all of ``addresses`` answers at one of them; they are asked at once."""
        return await _any([self.answers(address, port, limit_s) for address in addresses])

    def open_questions(self, addresses: Sequence[str], port: int) -> Questions:
        """What asks the machine that has all of ``addresses``, for who decides himself how often and for how long."""
        return Questions(addresses, port)

    def open_adverts(self, addresses: Sequence[str], clock: Callable[[], float]) -> AdvertSocket:
        """What hears the adverts of that machine. Raises ``OSError`` where they cannot be heard."""
        return AdvertSocket(addresses, clock, time.time)

    async def any_answers(self, hosts: Sequence[str], limit_s: float) -> bool:
        """Whether one of ``hosts``, IP addresses, gives a sign of life within ``limit_s``; all are asked at once.

        Never raises for what the network does.
        """
        return await _any([is_machine_up(host, SSH_PORT, limit_s) for host in hosts])

    async def takes_connection(self, address: Address, limit_s: float) -> bool:
        """Whether something takes a connection at an IP address and a port within ``limit_s``."""
        return await takes_connection(address, limit_s)

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


async def _any(asked: Sequence[Coroutine[Any, Any, bool]]) -> bool:
    looks = [asyncio.ensure_future(one) for one in asked]
    try:
        for look in asyncio.as_completed(looks):
            if await look:
                return True
        return False
    finally:
        for one in looks:
            one.cancel()
        await asyncio.gather(*looks, return_exceptions=True)


@contextlib.contextmanager
def _promoting(interface: str) -> Iterator[None]:
    """Has the kernel keep the other addresses of a network when its first one is removed (``core/vip.py``)."""
    path = f"/proc/sys/net/ipv4/conf/{interface}/promote_secondaries"
    try:
        with open(path, encoding="ascii") as file:
            before = file.read()
        with open(path, "w", encoding="ascii") as file:
            file.write("1\n")
    except OSError as error:
        log.error("%s: %s", path, reason_of(error, path))
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(OSError), open(path, "w", encoding="ascii") as file:
            file.write(before)
