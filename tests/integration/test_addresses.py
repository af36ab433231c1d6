"""The VIP on a real interface: found with any prefix, and taken off without the node's own address."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator

import pytest

from ha_agent.adapters.interface import bring_up, save_interface, take_down
from ha_agent.adapters.machine import Machine

OWN, VIP = "192.0.2.11", "192.0.2.10"

pytestmark = pytest.mark.xdist_group("addresses")


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def interface() -> Iterator[str]:
    """An interface with nothing on it."""
    ip("link", "add", "vip0", "type", "veth", "peer", "name", "vip1")
    ip("link", "set", "vip0", "up")
    yield "vip0"
    ip("link", "del", "vip0")


@pytest.mark.parametrize("there", [f"{VIP}/24", f"{VIP}/32"])
@pytest.mark.parametrize("configured", [f"{VIP}/24", f"{VIP}/32"])
def test_the_vip_is_found_and_taken_off_whatever_its_prefix(interface: str, there: str, configured: str) -> None:
    machine = Machine()
    assert machine.has_address(configured) is False
    ip("addr", "add", there, "dev", interface)
    assert machine.has_address(configured) is True
    assert asyncio.run(machine.remove_address(configured, interface)) is True
    assert machine.has_address(configured) is False
    assert asyncio.run(machine.remove_address(configured, interface)) is False, "there was nothing to remove"


def test_the_vip_of_the_prefix_that_is_to_stay_stays(interface: str) -> None:
    ip("addr", "add", f"{VIP}/24", "dev", interface)
    ip("addr", "add", f"{VIP}/32", "dev", interface)
    assert asyncio.run(Machine().remove_address(f"{VIP}/24", interface, keep=32)) is True
    assert f"{VIP}/32" in ip("-o", "addr", "show", "dev", interface) and f"{VIP}/24" not in ip(
        "addr", "show", "dev", interface
    )
    assert "local" in ip("route", "get", VIP)
    assert asyncio.run(Machine().remove_address(f"{VIP}/24", interface, keep=32)) is False


def test_the_vip_goes_without_the_own_address_that_came_back_behind_it(interface: str) -> None:
    flag = f"/proc/sys/net/ipv4/conf/{interface}/promote_secondaries"
    ip("addr", "add", f"{VIP}/24", "dev", interface)
    ip("addr", "add", f"{OWN}/24", "dev", interface)
    assert "secondary" in ip("addr", "show", "dev", interface)
    with open(flag, encoding="ascii") as file:
        before = file.read()
    assert asyncio.run(Machine().remove_address(f"{VIP}/24", interface)) is True
    assert Machine().has_address(OWN) is True and Machine().has_address(VIP) is False
    with open(flag, encoding="ascii") as file:
        assert file.read() == before == "0\n"


def test_an_interface_that_is_gone_has_nothing_to_take_off() -> None:
    assert asyncio.run(Machine().remove_address(f"{VIP}/24", "vip9")) is False


def test_an_interface_that_was_down_has_its_ipv6_addresses_again_without_the_vip(interface: str) -> None:
    """The kernel takes all of them away; a VIP that keepalived gave up meanwhile must not come back."""
    ip("link", "set", "vip1", "up")
    for address in ("2001:db8::11/64", "2001:db8::10/64"):
        ip("addr", "add", address, "dev", interface, "nodad")

    async def main() -> None:
        saved = await save_interface(interface, without={"2001:db8::10"})
        await take_down(interface)
        assert Machine().has_address("2001:db8::11") is False, "the kernel has forgotten it"
        await bring_up(saved)

    asyncio.run(main())
    assert Machine().has_address("2001:db8::11") is True and Machine().has_address("2001:db8::10") is False
