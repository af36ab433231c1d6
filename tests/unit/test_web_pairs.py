"""What the dashboard knows of a node is never older than what it has just had done there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from ha_agent.core.words import CommandOutcome, Outcome
from ha_agent.web.agent_client import AgentClient
from ha_agent.web.pairs import REFRESH_S, LocalPair, _news_of
from tests.unit.timeless import run_timeless

Answer = Callable[[Mapping[str, Any]], Any]


def view_of(node: str, state: str) -> dict[str, Any]:
    """A node's view with one program."""
    role = "active" if node == "node-a" else "standby"
    programs = [{"name": "redis", "state": state, "kind": "registry"}]
    return {
        "node": {"name": node, "role": role, "at": 0.0},
        "programs": programs,
        "alerts": {"at": 0.0},
        "figures": {"started": 1.0, "history_events": 1},
    }


def test_what_is_left_of_votes_and_how_long_the_witness_is_silent_is_no_news() -> None:
    """Both change with every look, and would send the page again each time."""
    votes = {"promised": ["node-a"], "left_s": 2.5, "witness_silent_s": 4.0}

    def news(**change: Any) -> str:
        view = view_of("node-a", "RUNNING")
        return _news_of({**view, "node": {**view["node"], "votes": {**votes, **change}}})

    assert news() == news(left_s=1.0, witness_silent_s=5.0)
    assert len({news(), news(witness_silent_s=None), news(promised=["node-a", "node-b"])}) == 3


class Pair:
    """Both agents: redis runs until it is stopped; each view takes ``slow_s`` from the look to the answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.state, self.slow_s, self.is_peer_silent = "RUNNING", 0.0, False
        monkeypatch.setattr(AgentClient, "ask", self._ask)
        self.pair = LocalPair("local", "/nonexistent", 1.0, lambda _: None)

    async def _ask(
        self, message: Mapping[str, Any], timeout_s: float, by: str | None = None, *, raw: bool = False
    ) -> dict[str, Any]:
        if message["op"] == "at-peer":
            if self.is_peer_silent:
                await asyncio.sleep(timeout_s * 100)
            return {"outcome": Outcome.ANSWERED, "answer": await self._answer("node-b", message["ask"])}
        return await self._answer("node-a", message)

    async def _answer(self, node: str, message: Mapping[str, Any]) -> dict[str, Any]:
        if message["op"] == "program-stop":
            self.state = "PARKED"
            return {"outcome": Outcome.REFUSED, "reason": "what it says does not matter here"}
        view = view_of(node, self.state)
        await asyncio.sleep(self.slow_s)
        return view

    def states(self) -> list[str]:
        """What is known of redis on each node."""
        return [sight.view["programs"][0]["state"] for sight in self.pair.known.sights if sight.view]


def test_after_an_action_both_nodes_are_known_as_they_are_then(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        both = Pair(monkeypatch)
        await both.pair.refresh()
        assert both.states() == ["RUNNING", "RUNNING"]
        assert (await both.pair.act("stop", ["redis"], "alice")).outcome == CommandOutcome.REFUSED
        assert both.states() == ["PARKED", "PARKED"]

    run_timeless(main())


def test_an_answer_that_was_asked_for_before_the_action_does_not_come_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        both = Pair(monkeypatch)
        await both.pair.refresh()
        both.slow_s = 0.5
        early = asyncio.ensure_future(both.pair.refresh())
        await asyncio.sleep(0.1)
        both.slow_s = 0.2
        await both.pair.act("stop", ["redis"], "alice")
        assert both.states() == ["PARKED", "PARKED"]
        await early
        assert both.states() == ["PARKED", "PARKED"]

    run_timeless(main())


def test_a_node_that_does_not_answer_holds_up_an_action_for_a_stated_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        both = Pair(monkeypatch)
        await both.pair.refresh()
        both.is_peer_silent = True
        began = asyncio.get_running_loop().time()
        await both.pair.act("stop", ["redis"], "alice")
        assert asyncio.get_running_loop().time() - began <= REFRESH_S
        assert both.states()[0] == "PARKED"

    run_timeless(main())
