"""The modes of failover-test that take a vote away: when they are refused before anything is asked of a node."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

import pytest

from ha_agent.cli.drill_cmd import hold_s, why_no_cut
from ha_agent.core.settings import Settings, check_settings
from ha_agent.core.words import Role
from tests.unit.test_votes_faces import ALL, RAW, entry


def settings(**witness: Any) -> Settings:
    return check_settings({**RAW, "witness": {"kind": "ssh", "host": "192.0.2.13", **witness}})


def ask(made: Settings, mode: str = "partition", really: bool = False, client: str = "", votes: Any = ALL) -> str:
    options = argparse.Namespace(mode=mode, yes_really=really)
    nodes: list[Any] = [{**entry(votes, Role.ACTIVE), "reachable": True}]
    return str(why_no_cut(made, options, nodes, {"SSH_CONNECTION": f"{client} 50022 192.0.2.11 22"} if client else {}))


def test_a_pair_without_a_witness_or_with_a_vote_missing_is_left_alone() -> None:
    assert ask(settings()) == "None"
    assert "needs a pair with a witness" in ask(check_settings(RAW))
    for votes in (None, dataclasses.replace(ALL, promised=("node-a", "node-b"))):
        assert "not all three are there" in ask(settings(), votes=votes)


@pytest.mark.parametrize(
    ("mode", "client", "is_refused"),
    [
        ("partition", "192.0.2.12", True),
        ("partition", "192.0.2.11", True),
        ("partition", "192.0.2.13", False),
        ("witness-cut", "192.0.2.13", True),
        ("witness-cut", "192.0.2.12", False),
        ("partition", "198.51.100.7", False),
    ],
)
def test_an_operator_who_would_cut_his_own_session_says_that_he_means_it(mode: str, client: str, is_refused: bool) -> None:
    said = ask(settings(), mode, client=client)
    assert ("may hang for 20 s" in said) is is_refused
    assert ask(settings(), mode, really=True, client=client) == "None"


def test_a_cut_lasts_until_every_promise_from_before_it_has_ended() -> None:
    assert hold_s(settings(), "partition") == 20.0
    long = settings(ttl_s=60.0, kill_margin_s=7.0)
    assert hold_s(long, "partition") == 240.0 and hold_s(long, "link-down") == 20.0
