"""How often the peer is asked to let this node in: quickly where it may be back, never so that its sshd shuts the door."""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import Callable

import pytest

from ha_agent.adapters.ssh import REFUSALS, REFUSED_PAUSE_S, PeerLink
from ha_agent.core.settings import LinkSettings, PeerSettings
from tests.unit.timeless import run_timeless

PEER = PeerSettings(name="node-b", address="192.0.2.12")
AUTHFAIL_S, MIN_S = 5.0, 15.0
"""Penalty for a refused key, and from which sum on it is enforced (sshd_config(5) of OpenSSH 10.0, PerSourcePenalties)."""


def attempts(tmp_path: pathlib.Path, problem: str, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When a link that is nudged ten times a second tries in two minutes, where each attempt ends with ``problem``."""
    moments: list[float] = []

    async def fail(_link: PeerLink, _wall: Callable[[], float]) -> str:
        moments.append(asyncio.get_running_loop().time())
        await asyncio.sleep(0.05)
        return problem

    async def main() -> None:
        async def greet(_link: PeerLink) -> None:
            pass

        monkeypatch.setattr(PeerLink, "_connect_once", fail)
        link = PeerLink(LinkSettings(), PEER, str(tmp_path), greet, lambda: None)
        running = asyncio.ensure_future(link.run(lambda: 0.0))
        for _ in range(1200):
            await asyncio.sleep(0.1)
            link.nudge()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    run_timeless(main())
    return moments


def test_a_peer_whose_agent_does_not_run_is_asked_at_each_nudge(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(attempts(tmp_path, "ha-agent-peer: the agent is not running on node-b", monkeypatch)) > 500


def test_a_refused_key_never_makes_sshd_shut_the_door_to_this_machine(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = attempts(tmp_path, "root@192.0.2.12: Permission denied (publickey).", monkeypatch)
    assert 120 / (REFUSED_PAUSE_S + 1.0) < len(moments) <= 120 / REFUSED_PAUSE_S + REFUSALS
    held_until = 0.0
    for moment in moments:
        held_until = max(held_until, moment) + AUTHFAIL_S
        assert held_until - moment < MIN_S, "it would be enforced"


class PausingLink(PeerLink):
    """Is up but for ``down_s`` from its tenth second on."""

    down_s = 0.0

    async def _connect_once(self, _wall: Callable[[], float]) -> str:
        loop = asyncio.get_running_loop()
        if self._lost_at + self.down_s > loop.time():
            return "ha-agent-peer: the agent is not running on node-b"
        self.is_up = True
        self._tell_change()
        await asyncio.sleep(10.0)
        return "closed by the other end"


@pytest.mark.parametrize(("down_s", "limit_s", "is_back"), [(0.7, 3.0, True), (5.0, 3.0, False)])
def test_a_link_that_was_lost_a_moment_ago_is_waited_for(
    tmp_path: pathlib.Path, down_s: float, limit_s: float, is_back: bool
) -> None:
    """As while the peer's agent reads its settings anew."""

    async def main() -> None:
        async def greet(_link: PeerLink) -> None:
            pass

        loop = asyncio.get_running_loop()
        link = PausingLink(LinkSettings(), PEER, str(tmp_path), greet, lambda: None)
        assert not await link.wait_back(limit_s), "nobody connects"
        running = asyncio.ensure_future(link.run(lambda: 0.0))
        await asyncio.sleep(0)
        try:
            assert await link.wait_back(limit_s), "this agent has only just begun"
            link.down_s = down_s
            await asyncio.sleep(10.1)
            began = loop.time()
            assert not link.is_up and await link.wait_back(limit_s) == is_back
            assert down_s - 0.2 < loop.time() - began < 2 * down_s if is_back else loop.time() - began <= limit_s
            if not is_back:
                began = loop.time()
                assert not await link.wait_back(limit_s) and loop.time() == began, "it has been down for long"
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    run_timeless(main())
