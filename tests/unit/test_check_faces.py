"""What the faces say of health checks: the list, the screen, the alert, doctor, and two nodes that do not have the same."""

from __future__ import annotations

import dataclasses
import pathlib
import tomllib
from typing import Any

import pytest

from ha_agent.adapters.status_screen import render_status
from ha_agent.cli.checks_cmd import find_active, list_checks
from ha_agent.cli.doctor.context import Context, run_checks
from ha_agent.cli.doctor.health_checks import CHECKS
from ha_agent.core.account import CheckAccount, NodeAccount
from ha_agent.core.account_json import describe_account
from ha_agent.core.agreement import describe_agreement
from ha_agent.core.conditions import find_conditions
from ha_agent.core.guard import Access
from ha_agent.core.node_json import NodeAccountJson
from ha_agent.core.problems import find_problems
from ha_agent.core.settings import Settings, check_settings
from ha_agent.core.settings_compare import compare_settings, keys_to_agree, values_in_force, values_to_agree
from ha_agent.core.settings_sample import flat_values, sample_toml
from ha_agent.core.words import Role, VrrpState
from ha_agent.web.metrics import describe_checks
from ha_agent.web.render import Words, render
from tests.unit.test_settings import GOOD

PASSING = CheckAccount("shop", "http", "shop", "restart", "passing", 900.0, "ok", 0.0004, 999.0, restarts=1)
FAILING = dataclasses.replace(PASSING, health="failing", last="answers 503", held="not handed over: node-b is ill")
WAITING = CheckAccount("db", "tcp", "", "alert", waits="it is given time to come up")


def entry(*checks: CheckAccount, role: Role = Role.ACTIVE) -> NodeAccountJson:
    return describe_account(account(*checks, role=role), "up", ())


def account(*checks: CheckAccount, role: Role = Role.ACTIVE) -> NodeAccount:
    name, state = ("node-a", VrrpState.MASTER) if role is Role.ACTIVE else ("node-b", VrrpState.BACKUP)
    return NodeAccount(name, "peer", 1000.0, role, state, role is Role.ACTIVE, checks=checks)


def test_the_list_has_a_line_a_check_and_why_nothing_is_done() -> None:
    lines = list_checks("node-a", [*entry(FAILING, WAITING)["checks"]], 1000.0)
    assert lines == [
        "on node-a:",
        "       state     for     looks at       on failure            seen last",
        "shop   failing   2 min   http of shop   restart, 1 restarts   answers 503 (0.4 ms)",
        "  -> not handed over: node-b is ill",
        "db     unknown   -       tcp            alert                 it is given time to come up",
    ]
    assert list_checks("node-a", [], 1000.0)[0].startswith("there are no health checks on node-a")
    standby = entry(role=Role.STANDBY)
    assert find_active([standby, entry()]) is not None and find_active([standby]) is None


def test_the_screen_has_a_row_where_there_are_checks_and_the_verdict_says_a_fault() -> None:
    standby = entry(WAITING, role=Role.STANDBY)
    shown = render_status([entry(PASSING, WAITING), standby], 1000.0)
    assert "checks       1 pass, 1 not known yet" in shown and "check shop" not in shown
    assert "checks " not in render_status([entry(), entry(role=Role.STANDBY)], 1000.0)
    wrong = render_status([entry(FAILING), standby], 1000.0)
    assert wrong.startswith("CRITICAL: node-a: check shop fails: answers 503; not handed over: node-b is ill")


def test_a_check_that_fails_is_one_problem_and_one_alert() -> None:
    problems = [p for p in find_problems([entry(FAILING, WAITING, PASSING)], 1000.0) if p.code == "check-failed"]
    assert [(p.text, p.since) for p in problems] == [
        ("node-a: check shop fails: answers 503; not handed over: node-b is ill", 900.0)
    ]
    told = [c for c in find_conditions(account(FAILING, WAITING, PASSING)) if c.code == "check-failed"]
    assert [(c.subject, c.text) for c in told] == [
        ("shop", "check shop of shop fails on node-a: answers 503; not handed over: node-b is ill")
    ]


def test_the_dashboard_and_the_metrics_have_them() -> None:
    own = entry(FAILING, WAITING)
    view = {
        "node": own,
        "programs": [],
        "alerts": {"lasting": [], "recent": [], "sinks": {}, "node": "node-a", "at": 1.0},
    }
    node = {"name": "node-a", "view": view, "node": own, "at": 1.0, "age_s": 0.0, "problem": None, "programs": []}
    words = Words("zh", "", Access.READ, "", 1000.0)
    page = render("_nodes.html", words, pair={"name": "p", "nodes": [node], "active": "node-a"})
    assert "健康检查" in page and "✕ 失败" in page and "not handed over: node-b is ill" in page
    families = {family.name: family.samples for family in describe_checks(own)}
    assert [(s.labels["check"], s.value) for s in families["ha_agent_check_up"]] == [("shop", 0)]
    assert [s.value for s in families["ha_agent_check_restarts"]] == [1, 0]
    assert list(describe_checks(entry())) == []


def settings_with(text: str) -> Settings:
    return check_settings(tomllib.loads(GOOD + text))


TCP = '[checks.db]\nkind = "tcp"\naddress = "127.0.0.1:5432"\n'


def test_both_nodes_must_have_the_same_checks_and_none_is_set_over_the_link() -> None:
    none, one, other = settings_with(""), settings_with(TCP), settings_with(TCP + "fall = 4\n")
    said = [describe_agreement(settings)["checks"] for settings in (none, one, other)]
    assert said[0] == "none" and len(set(said)) == 3 and str(said[1]).startswith("1 check (sha256 ")
    assert "checks" not in values_to_agree(one)
    rows = list(compare_settings(values_in_force(one), values_in_force(other), keys_to_agree(one)))
    assert [(row.kind.value, row.own, row.peer) for row in rows if row.key == "checks.db.fall"] == [("must-agree", 3, 4)]


def test_the_sample_has_every_key_and_a_section_is_written_as_it_was() -> None:
    assert "#[checks.NAME]  # a look at a service of the active node" in sample_toml()
    raw = tomllib.loads(GOOD + TCP)
    assert check_settings(tomllib.loads(sample_toml(flat_values(raw)))).checks == check_settings(raw).checks


@pytest.mark.parametrize(
    ("checks", "found"),
    [
        ("", []),
        ('[checks.a]\nkind = "command"\ncommand = ["/bin/true"]\n', ["health-checks"]),
        ('[checks.a]\nkind = "command"\ncommand = ["/nowhere/x"]\n', ["check-missing"]),
        ('[checks.a]\nkind = "command"\ncommand = ["{open}"]\n', ["check-unsafe"]),
        ('[checks.a]\nkind = "running"\nprogram = "web"\n', ["health-checks"]),
        ('[checks.a]\nkind = "running"\nprogram = "wep"\n', ["check-program"]),
    ],
)
def test_doctor_names_what_cannot_be_looked_at(tmp_path: pathlib.Path, checks: str, found: list[str]) -> None:
    command = tmp_path / "command"
    command.write_text("#!/bin/sh\n", encoding="ascii")
    command.chmod(0o777)
    (tmp_path / "web.conf").write_text("[program:web]\ncommand=/bin/web\n", encoding="ascii")
    text = checks.replace("{open}", str(command)) + f'[registry]\npath = "{tmp_path}"\n'
    findings: list[Any] = run_checks(CHECKS, Context(settings_with(text), str(tmp_path / "agent.toml")))
    assert [finding.code for finding in findings] == found
