"""The history while it is followed: each event once, nothing older behind newer, and a node that goes away is said."""

from __future__ import annotations

import os
import time
import tomllib
from typing import Any

import pytest

from ha_agent.adapters.control import NoDaemon
from ha_agent.cli.history_cmd import Follower, Reading, find_unknown, read_all
from ha_agent.cli.nodes import PeerUnreachable
from ha_agent.core.history import Choice, Event, mentions, merge_events
from ha_agent.core.settings import Settings, check_settings
from ha_agent.core.settings_sample import sample_toml


def event(at: float, node: str = "a", code: str = "vrrp", text: str = "", **more: Any) -> Event:
    return {"at": at, "node": node, "code": code, "text": text, **more}


class TwoNodes:
    """Two histories that can be asked, and nodes that can be away."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.own_name, self.peer_name = "a", "b"
        self.own: list[Event] = []
        self.peer: list[Event] = []
        self.peer_problem: str | None = None
        self.own_problem: str | None = None

    def ask_own(self, message: Any) -> Any:
        if self.own_problem:
            raise NoDaemon(self.own_problem)
        return {"events": [e for e in self.own if e["at"] >= message["since"]][-message["count"] :]}

    def ask_peer(self, message: Any, _timeout_s: float) -> Any:
        if self.peer_problem:
            raise PeerUnreachable(self.peer_problem)
        return {"events": [e for e in self.peer if e["at"] >= message["since"]][-message["count"] :]}


@pytest.fixture
def nodes(tmp_path: Any) -> TwoNodes:
    values = {("paths", "state_dir"): str(tmp_path / "none"), ("node", "name"): "a", ("peer", "name"): "b"}
    return TwoNodes(check_settings(tomllib.loads(sample_toml(values))))


def follow(nodes: Any, count: int = 1000, choice: Choice | None = None) -> Follower:
    return Follower(nodes, choice or Choice(), read_all(nodes, count, 0.0), as_json=False)


def test_what_was_there_before_is_never_shown_behind_what_is_new(nodes: TwoNodes) -> None:
    """`history -n 1 --follow` gave one event, and then nine older ones."""
    now = time.time()
    nodes.own = [event(now - 9 + number, text=str(number)) for number in range(9)]
    following = follow(nodes)
    assert following.take(following.read()) == []
    nodes.own.append(event(time.time(), text="new"))
    time.sleep(0.01)
    assert [e["text"] for e in following.take(following.read())] == ["new"]
    assert following.take(following.read()) == []


def test_what_happens_while_both_are_asked_waits_so_that_all_comes_in_order(nodes: TwoNodes) -> None:
    following = follow(nodes)
    at = time.time() + 1.0
    first, second = event(at + 0.2, "a", text="first"), event(at + 0.3, "b", text="second")
    # The peer was asked after its event, this node before its own.
    assert following.take(Reading([second], at)) == []
    assert following.take(Reading(merge_events([first], [second]), at + 1.0)) == [first, second]
    wrong_clock = event(at + 3600, "b")
    assert following.take(Reading([wrong_clock], at + 2.0)) == [wrong_clock]


def test_a_peer_that_goes_away_is_said_and_its_events_come_when_it_is_back(
    nodes: TwoNodes, capsys: pytest.CaptureFixture[str]
) -> None:
    following = follow(nodes)
    nodes.peer_problem = "b cannot be reached: no link"
    assert following.take(following.read()) == following.take(following.read()) == []
    assert capsys.readouterr().err == "ha-agent: b cannot be reached: no link; its events are missing from now on\n"
    # Longer ago than what is read again as a rule: it was away for as long.
    away = time.time() - 3600
    following._missing_since = away  # noqa: SLF001
    nodes.peer = [event(away + 1, "b", text="meanwhile")]
    nodes.peer_problem = None
    assert [e["text"] for e in following.take(following.read())] == ["meanwhile"]
    assert capsys.readouterr().err == "ha-agent: b answers again; what happened there meanwhile follows\n"


def test_an_agent_that_goes_away_while_it_is_followed_is_said(nodes: TwoNodes, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkdir(nodes.settings.paths.state_dir)
    following = follow(nodes)
    nodes.own_problem = "the agent is not running on this node"
    assert following.take(following.read()) == following.take(following.read()) == []
    said = capsys.readouterr().err
    assert said == (
        "ha-agent: the agent is not running on this node; events of a come from its disk now, those of b are missing\n"
    )
    nodes.own_problem = None
    following.take(following.read())
    said = capsys.readouterr().err
    assert "the agent of a answers again" in said and "b answers again; what happened there meanwhile follows" in said


def test_events_are_chosen_by_code_program_and_node(nodes: TwoNodes) -> None:
    events = [
        event(1.0, code="parked", text="web.conf is parked: no failover starts it", path="web.conf"),
        event(2.0, code="takeover-done", text="every loadable conf", node="b"),
        event(3.0, code="program-started", text="web-2, web:web_00: started"),
        event(4.0, code="vip-lost", alias="vip-gone", text="web-2 is unharmed"),
        event(5.0, code="standby-edit", text="changed here", paths=["sub/web.conf"]),
    ]

    def chosen(**choice: tuple[str, ...]) -> list[float]:
        return [e["at"] for e in events if Choice(**choice).takes(e)]

    assert chosen(codes=("takeover-*", "parked")) == [1.0, 2.0] and chosen(codes=("vip-gone",)) == [4.0]
    assert chosen(programs=("web",)) == [1.0, 3.0, 5.0] and chosen(programs=("web-2",)) == [3.0, 4.0]
    assert chosen(programs=("web.conf",)) == [1.0, 5.0] and chosen(programs=("we",)) == []
    assert chosen(nodes=("b",)) == [2.0] and chosen(nodes=("a",), codes=("takeover-done",)) == []
    assert not mentions(event(1.0, text="p.b"), "b") and mentions(event(1.0, text="a.b"), "a.b")
    assert "did you mean takeover-done?" in str(find_unknown(nodes, Choice(codes=("takeover-don",))))  # type: ignore[arg-type]
    assert "there are a and b" in str(find_unknown(nodes, Choice(nodes=("c",))))  # type: ignore[arg-type]
    assert find_unknown(nodes, Choice(codes=("vip-gone", "takeover-*"), nodes=("b",))) is None  # type: ignore[arg-type]
    follow(nodes, choice=Choice(nodes=("b",)))
