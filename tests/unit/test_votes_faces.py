"""What the faces say of votes: one line on every one, a problem and an alert for each vote that is missing."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import pytest

from ha_agent.cli.doctor.context import Context, run_checks
from ha_agent.cli.doctor.votes import check_witness
from ha_agent.cli.witness_cmd import is_whole, list_lines, to_document
from ha_agent.cli.witness_try import Tried, say_tried
from ha_agent.core.account import NodeAccount, VotesAccount
from ha_agent.core.account_json import describe_account
from ha_agent.core.conditions import find_conditions
from ha_agent.core.node_json import NodeAccountJson
from ha_agent.core.problems import find_problems
from ha_agent.core.settings import Settings, check_settings
from ha_agent.core.votes_text import say_votes, say_votes_of
from ha_agent.core.witness_record import Record
from ha_agent.core.words import Role, VrrpState

ALL = VotesAccount("ssh", ("node-a", "node-b", "witness"), "node-a", is_used=True, left_s=2.2)
STANDBY = VotesAccount("ssh", (), "node-b")


def account(votes: VotesAccount | None, role: Role = Role.ACTIVE) -> NodeAccount:
    state = VrrpState.MASTER if role is Role.ACTIVE else VrrpState.BACKUP
    return NodeAccount("node-a", "node-b", 1000.0, role, state, role is Role.ACTIVE, votes=votes)


def entry(votes: VotesAccount | None, role: Role = Role.ACTIVE) -> NodeAccountJson:
    return describe_account(account(votes, role), "up", ())


CASES = [
    (ALL, "votes 3 of 3: self, node-b, witness", set()),
    (
        dataclasses.replace(ALL, promised=("node-a", "node-b"), witness_silent_s=240.0, witness_problem="refused"),
        "votes 2 of 3: self, node-b; witness silent for 4 min: refused",
        {"vote-missing"},
    ),
    (dataclasses.replace(ALL, promised=("node-a", "witness")), "votes 2 of 3: self, witness", {"vote-missing"}),
    (dataclasses.replace(ALL, keeper_problem="nobody is there"), "votes 3 of 3: self, node-b, witness", {"keeper-down"}),
    (STANDBY, "its vote is node-b's", set()),
    (
        dataclasses.replace(STANDBY, to="", witness_silent_s=20.0),
        "its vote is nobody's; witness silent for 20 s",
        {"vote-missing"},
    ),
]


@pytest.mark.parametrize(("votes", "text", "codes"), CASES)
def test_votes_are_one_line_and_what_is_missing_is_a_problem_and_an_alert(
    votes: VotesAccount, text: str, codes: set[str]
) -> None:
    role = Role.ACTIVE if votes.is_used else Role.STANDBY
    node = entry(votes, role)
    told = node["votes"]
    assert told and say_votes(votes, "node-a") == say_votes_of(told, "node-a") == text
    ours = {"vote-missing", "keeper-down"}
    peer: Any = {"name": "node-b", "reachable": False}
    assert {p.code for p in find_problems([node, peer], 1000.0)} & ours == codes
    assert {c.code for c in find_conditions(account(votes, role))} & ours == codes
    assert is_whole(node) is not bool(codes)
    assert text in list_lines(node)[0]


def test_without_a_witness_nothing_is_said_of_votes() -> None:
    node = entry(None)
    assert node["votes"] is None and list_lines(node) == ["node-a: no witness is configured"] and not is_whole(node)
    assert list_lines({"name": "b", "reachable": False}) == ["b: does not answer"]


def test_programs_that_are_not_held_by_votes_yet_are_a_problem() -> None:
    node = entry(VotesAccount("ssh", ("node-a",), "node-a", adopts=True))
    (found,) = [p for p in find_problems([node], 1000.0) if p.code == "vote-missing"]
    assert "before there was a witness" in found.text and "not held by votes yet" in list_lines(node)[1]


def test_a_peer_that_is_lost_may_run_nothing_beside_a_node_with_votes() -> None:
    silent: Any = {"name": "node-b", "reachable": False, "role": "active", "heard_at": 990.0}
    for votes, is_said in ((None, True), (ALL, False)):
        codes = {p.code for p in find_problems([entry(votes), silent], 1000.0)}
        assert ("may-run-twice" in codes) is is_said


RAW: dict[str, Any] = {
    "node": {"name": "node-a", "address": "192.0.2.11"},
    "peer": {"name": "node-b", "address": "192.0.2.12"},
    "vrrp": {"vip": "192.0.2.10/24"},
}


def settings(**witness: Any) -> Settings:
    return check_settings({**RAW, "witness": {"kind": "ssh", "host": "192.0.2.13", **witness}})


def test_what_a_test_of_the_witness_found_is_said() -> None:
    record = Record("node-b", "x", 17, 4, 3000)
    good = Tried("", (1.5, 9.0, 2.0), record)
    assert "in 2 ms" in say_tried(settings(), good) and "node-b's, written 17 times, epoch 4" in say_tried(settings(), good)
    assert "keeps no record yet" in say_tried(settings(), Tried("", (1.0,)))
    assert "does not answer node-a: refused" in say_tried(settings(), Tried("refused"))
    document = to_document(settings(), good)
    assert document["record"]["holder"] == "node-b" and document["problem"] is None
    assert to_document(settings(), Tried("refused"))["record"] is None


@pytest.mark.parametrize(
    ("witness", "codes"),
    [
        ({}, {"witness"}),
        ({"required": False}, {"keeper-optional"}),
        ({"kind": "", "host": ""}, set()),
        (
            {"kind": "etcd", "endpoints": ["http://192.0.2.11:1", "http://192.0.2.12:1", "http://192.0.2.13:1"]},
            {"witness-on-node"},
        ),
        ({"kind": "etcd", "endpoints": ["http://192.0.2.11:1", "http://192.0.2.14:1", "http://192.0.2.13:1"]}, {"witness"}),
    ],
)
def test_doctor_finds_a_witness_on_a_node_of_the_pair(
    tmp_path: pathlib.Path, witness: dict[str, Any], codes: set[str]
) -> None:
    found = run_checks({"witness": check_witness}, Context(settings(**witness), str(tmp_path / "agent.toml")))
    assert {finding.code for finding in found} == codes
