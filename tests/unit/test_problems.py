"""The one judgement: what is said of a pair in each degraded state, in which order, how badly, and with what remedy."""

from __future__ import annotations

from typing import Any

import pytest

from ha_agent.core.alert_codes import CODES
from ha_agent.core.faults import FAULTS
from ha_agent.core.findings import Severity
from ha_agent.core.problems import RANKED, REMEDIES, TEXTS, Problem, Rank, find_problems, verdict
from tests.unit.test_status_text import node

NOW = 1000.0
AGREED = {"vrrp.vip": "192.0.2.9/24", "vrrp.router_id": 51, "takeover.start_all": False}
WINDOW = {"since": 0.0, "until": NOW + 60, "reason": None, "by": "root"}
STOPPED = [{"name": "p", "state": "STOPPED", "pid": None, "starts": True, "problem": None}]
FATAL = [{"name": "p", "state": "FATAL", "pid": None, "starts": True, "problem": "spawn error"}]


def silent(name: str = "b", role: str | None = "standby", problem: str = "no answer") -> Any:
    known = {} if role is None else {"role": role, "heard_at": NOW - 50}
    return {"name": name, "reachable": False, "problem": problem, "since": NOW - 3000, **known}


def replication(state: str, reason: str = "why") -> dict[str, Any]:
    return {"state": state, "pending": 1, "pending_since": NOW - 60, "reason": reason}


STATES: dict[str, tuple[list[Any], list[str]]] = {
    "healthy": ([node("a", "active"), node("b")], []),
    "the VIP differs": (
        [node("a", "active", agreement=AGREED), node("b", agreement={**AGREED, "vrrp.vip": "192.0.2.10/24"})],
        ["config-differs"],
    ),
    "the router id differs": (
        [node("a", "active", agreement=AGREED), node("b", agreement={**AGREED, "vrrp.router_id": 52})],
        ["config-differs"],
    ),
    "start_all differs": (
        [node("a", "active", agreement=AGREED), node("b", agreement={**AGREED, "takeover.start_all": True})],
        ["config-uneven"],
    ),
    "the standby is FAULT": ([node("a", "active"), node("b", vrrp_state="FAULT")], ["standby-unfit"]),
    "the standby is unfit": ([node("a", "active"), node("b", unfit="refused", vrrp_state="FAULT")], ["standby-unfit"]),
    "keepalived is down there": ([node("a", "active"), node("b", keepalived="down")], ["standby-unfit", "keepalived-down"]),
    "keepalived is down here": ([node("a", "active", keepalived="down"), node("b")], ["keepalived-down"]),
    "supervisord is down there": (
        [node("a", "active"), node("b", supervisord="connection refused")],
        ["standby-unfit", "supervisord-down"],
    ),
    "supervisord is down here": ([node("a", "active", supervisord="connection refused"), node("b")], ["supervisord-down"]),
    "the versions differ": ([node("a", "active", version="0.2.0"), node("b", version="0.10.0")], ["version-differs"]),
    "its notes fail": ([node("a", "active"), node("b", notes_problem="full")], ["standby-unfit", "notes-failing"]),
    "/run is nearly full": ([node("a", "active"), node("b", notes_low="12 KiB left")], ["run-full"]),
    "its parser is late": (
        [node("a", "active"), node("b", readiness={"loadable": 0, "problems": {}, "warnings": {}, "failure": "late"})],
        ["standby-unfit"],
    ),
    "its registry is gone": (
        [node("a", "active"), node("b", registry={**node("b")["registry"], "problem": "gone"})],
        ["standby-unfit", "registry-unavailable"],
    ),
    "the standby is silent": ([node("a", "active"), silent()], ["peer-lost"]),
    "the active one is silent": ([node("b"), silent("a", "active")], ["peer-lost"]),
    "both may be active": ([node("b", "active"), silent("a", "active")], ["may-run-twice", "peer-lost"]),
    "never heard": ([node("a", "active"), silent(role=None)], ["peer-lost"]),
    "both standby": ([node("a", vip=True), node("b")], ["no-active-node"]),
    "both active": ([node("a", "active"), node("b", "active", vip=False)], ["split-brain"]),
    "VIP and programs apart": ([node("a", "active", vip=False), node("b", vip=True)], ["no-service"]),
    "both ran": (
        [node("a", "active", ran_twice={"began": NOW - 65, "ended": NOW - 60, "groups": 3}), node("b")],
        ["ran-twice"],
    ),
    "maintenance on both": (
        [node("a", "active", maintenance=WINDOW), node("b", maintenance=WINDOW)],
        ["maintenance-on"],
    ),
    "two maintenances": (
        [node("a", "active", maintenance=WINDOW), node("b", maintenance={**WINDOW, "by": "bob"})],
        ["maintenance-on", "maintenance-on"],
    ),
    "deletions are held": ([node("a", "active", replication=replication("held")), node("b")], ["registry-held"]),
    "a change is refused": ([node("a", "active", replication=replication("refused")), node("b")], ["replication-refused"]),
    "the standby has no room": (
        [node("a", "active", replication=replication("refused", "NO_SPACE: 0 bytes free")), node("b")],
        ["replication-refused"],
    ),
    "the standby was edited": (
        [node("a", "active"), node("b", replication={"state": "receiving", "local_changes": ["x.conf"]})],
        ["standby-edit"],
    ),
    "a conf is not loadable there": (
        [node("a", "active"), node("b", readiness={"loadable": 2, "problems": {"x.conf": "bad"}, "warnings": {}})],
        ["standby-not-ready"],
    ),
    "a drill runs": ([node("a", "active", drill={"id": "1", "by": "root", "mode": "power"}), node("b")], ["drill"]),
    "a hand-over runs": ([node("a", "releasing", vip=False), node("b", "taking_over", vip=True, vrrp_state="MASTER")], []),
    "programs of a takeover come up": ([node("a", "active", programs=STOPPED, verifying=True), node("b")], []),
    "a program was stopped": ([node("a", "active", programs=STOPPED), node("b")], ["program-stopped"]),
    "a program is FATAL": ([node("a", "active", programs=FATAL), node("b")], ["program-fatal"]),
    "fenced": ([node("a", "active"), node("b", "fenced", left_running=2)], ["fenced", "standby-unfit"]),
    "a takeover holds": ([node("a", "taking_over", held="no word"), silent(role="active")], ["peer-lost", "takeover-held"]),
}


@pytest.mark.parametrize("state", STATES)
def test_each_state_is_said_worst_first_with_a_remedy(state: str) -> None:
    nodes, wanted = STATES[state]
    found = find_problems(nodes, NOW)
    assert sorted(p.code for p in found) == sorted(wanted), [p.text for p in found]
    assert [p.rank for p in found] == sorted(p.rank for p in found)
    for problem in found:
        assert problem.text and problem.remedy and "{" not in problem.text + problem.remedy
        assert problem.to_finding().severity in (Severity.WARNING, Severity.ERROR)
    severity, line = verdict(nodes, found)
    assert (severity is Severity.OK) is (not wanted), line
    if wanted:
        assert severity is max(p.severity for p in found)
        assert ("(and" in line) is (len(wanted) > 1)


def test_every_sentence_has_its_remedy_its_rank_and_its_fault() -> None:
    assert REMEDIES.keys() - {"held", "no-room", "votes-held"} == TEXTS.keys() and RANKED.keys() <= TEXTS.keys()
    for nodes, _ in STATES.values():
        assert all(problem.code in FAULTS for problem in find_problems(nodes, NOW))


def test_what_is_said_of_a_pair_is_alerted_too_but_for_what_somebody_does_just_now() -> None:
    said = {problem.code for nodes, _ in STATES.values() for problem in find_problems(nodes, NOW)}
    # Of a silent peer that may be active the alert peer-lost says so.
    assert said - CODES.keys() == {"drill", "program-stopped", "may-run-twice", "version-differs"}


def test_no_room_is_not_mended_by_sending_the_change_again() -> None:
    (problem,) = find_problems(STATES["the standby has no room"][0], NOW)
    assert problem.remedy == "make room on the standby; then ha-agent sync"


def test_what_the_standby_cannot_load_is_asked_for_with_its_fitness() -> None:
    bad = {"loadable": 2, "problems": {"x.conf": "bad"}, "warnings": {}}
    (problem,) = find_problems([node("a", "active"), node("b", readiness=bad)], NOW)
    assert problem.rank is Rank.STANDBY
    (problem,) = find_problems([node("a", "active", readiness=bad), node("b")], NOW)
    assert problem.rank is Rank.PROGRAM


def test_the_node_with_the_older_version_is_the_one_to_upgrade() -> None:
    for versions, older in ((("0.2.0", "0.10.0"), "a"), (("0.10.0", "0.2.0"), "b"), (("1.0", "1.0.1"), "a")):
        nodes = [node(name, role, version=v) for name, role, v in zip("ab", ("active", "standby"), versions, strict=True)]
        (problem,) = find_problems(nodes, NOW)
        assert problem.remedy.endswith(f"on {older}, too") and problem.severity is Severity.WARNING
        assert f"{versions[0]} on a, {versions[1]} on b" in problem.text


def test_silence_says_what_was_heard_last_and_since_when_and_what_its_cause_needs() -> None:
    (problem,) = find_problems([node("b"), silent("a", "active", "the agent is not running on a (/run/x: gone)")], NOW)
    assert problem.rank is Rank.SERVICE and "it was active when it was heard last" in problem.text
    assert "heard last 50 s ago" in problem.text and problem.remedy == "at a: systemctl start ha-agent"
    (problem,) = find_problems([node("a", "active"), silent(role=None, problem="ssh: Connection refused")], NOW)
    assert problem.rank is Rank.STANDBY and "heard last" not in problem.text and "start ssh" in problem.remedy


def test_a_role_that_has_just_changed_is_no_unfit_standby() -> None:
    change = {"at": NOW - 1, "node": "a", "to": "active", "code": "takeover-done", "text": ""}
    nodes = [node("a", "active", last_transition=change), node("b", vrrp_state="FAULT")]
    assert find_problems(nodes, NOW) == [] and [p.code for p in find_problems(nodes, NOW + 10)] == ["standby-unfit"]


@pytest.mark.parametrize(
    ("nodes", "line"),
    [
        ([node("a", "active"), node("b")], "a active, b ready, in sync"),
        ([node("b"), node("a", "active")], "a active, b ready, in sync"),
        (
            [node("a", "active", verifying=True, programs=[*STOPPED, {**STOPPED[0], "state": "RUNNING"}]), node("b")],
            "a active, b ready, in sync, starting 1 of 2",
        ),
        ([node("a", "releasing"), node("b", "taking_over")], "the roles are changing: a is releasing, b is taking_over"),
        ([node("a", "active", replication={"state": "pending", "pending": 1}), node("b")], "changes are on their way"),
    ],
)
def test_a_pair_that_is_well_says_so_in_its_first_line(nodes: list[Any], line: str) -> None:
    severity, said = verdict(nodes, find_problems(nodes, NOW))
    assert severity is Severity.OK and line in said


def test_the_first_line_is_the_worst_of_all_and_counts_the_others() -> None:
    nodes = [node("a", "active", programs=FATAL, maintenance=WINDOW), node("b", keepalived="down")]
    severity, said = verdict(nodes, find_problems(nodes, NOW))
    assert severity is Severity.ERROR and said.startswith("b could not take over: keepalived is not running (and 3 more)")
    assert isinstance(find_problems(nodes, NOW)[0], Problem)
