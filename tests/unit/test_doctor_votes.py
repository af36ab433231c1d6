"""What the doctor says of a pair with a witness: each check finds what it is for, and is content with a good pair."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_agent.adapters.keeper import KeeperFailed, KeeperState
from ha_agent.cli.doctor.context import Context, Ran, run_checks
from ha_agent.cli.doctor.votes import CHECKS
from ha_agent.cli.witness_try import Tried
from ha_agent.core.account import VotesAccount
from ha_agent.core.settings import check_settings
from ha_agent.core.vote_checks import ClockRates, Way, rate_of
from tests.unit.test_votes_faces import ALL, RAW, STANDBY, entry

GOOD = {"witness", "witness-answers", "witness-way", "keeper", "clock-rate", "votes-kill"}
REGISTRY = {"a.conf": "[program:a]\ncommand=/bin/a\nstopwaitsecs=8\n", "b.ini": "[program:b]\ncommand=/bin/b\n"}


RATES = ClockRates(20e-6, -0.0001, 0.002)
ARMED = KeeperState("armed", 9.0, 0, True, True)
ANSWERS = Tried("", (2.0, 3.0, 2.5))


@dataclasses.dataclass
class Told(Context):
    """A node that is as the test says."""

    ways: dict[str, Way] = dataclasses.field(default_factory=dict)
    rates: ClockRates = RATES
    keeper: KeeperState | str = ARMED
    tried: Tried = ANSWERS
    votes: VotesAccount | None = ALL
    enabled: str = "enabled"
    has_systemd: bool = True

    def way_to(self, address: str) -> Way | None:
        return self.ways.get(address, Way("eth0", ""))

    def clock_rates(self) -> ClockRates:
        return self.rates

    def keeper_state(self) -> KeeperState:
        if isinstance(self.keeper, str):
            raise KeeperFailed(self.keeper)
        return self.keeper

    def try_witness(self) -> Tried:
        return self.tried

    def run(self, *words: str) -> Ran:
        return Ran(0, f"{self.enabled}\n", "")

    def status(self) -> tuple[list[Any], str | None]:
        return [{**entry(self.votes), "reachable": True}], None


def look(tmp_path: pathlib.Path, confs: dict[str, str] | None = None, **told: Any) -> dict[str, str]:
    """The codes that are found on a node, with their texts."""
    registry = tmp_path / "registry"
    registry.mkdir(exist_ok=True)
    for name, text in (confs or REGISTRY).items():
        (registry / name).write_text(text, encoding="ascii")
    settings = {**RAW, "registry": {"path": str(registry)}, "witness": {"kind": "ssh", "host": "192.0.2.13"}}
    found = run_checks(CHECKS, Told(check_settings(settings), "agent.toml", is_root=True, **told))
    return {finding.code: finding.text for finding in found if finding.is_wrong or finding.code in GOOD}


def test_a_good_pair_is_well(tmp_path: pathlib.Path) -> None:
    assert look(tmp_path).keys() == GOOD


def test_without_a_witness_nothing_is_looked_at(tmp_path: pathlib.Path) -> None:
    assert run_checks(CHECKS, Told(check_settings(RAW), "agent.toml", is_root=True)) == []


SOFT = KeeperState("armed", 9.0, 0, False, True)
FAR = {"192.0.2.12": Way("eth0", "192.0.2.1"), "192.0.2.13": Way("eth0", "192.0.2.1")}


@pytest.mark.parametrize(
    ("told", "code", "text"),
    [
        ({"tried": Tried("Permission denied")}, "witness-silent", "Permission denied"),
        ({"tried": Tried("", (300.0, 280.0))}, "witness-slow", "answers in 300 ms, and answer_s leaves it 500 ms"),
        ({"ways": FAR}, "witness-same-way", "192.0.2.13 and the peer are both reached over the gateway 192.0.2.1"),
        ({"keeper": SOFT}, "keeper-soft", "not locked in memory:"),
        ({"keeper": KeeperState("idle", 0.0, 0, True, True)}, "keeper-unarmed", "the keeper is idle"),
        ({"keeper": "cannot be reached", "votes": None}, "keeper-down", "cannot be reached"),
        ({"enabled": "disabled"}, "unit-disabled", "ha-agent-keeper is not started at boot"),
        ({"rates": ClockRates(0.0, 0.2, 0.01)}, "clock-rate", "+20.00 % faster"),
        ({"rates": ClockRates(0.05, None, 0.0)}, "clock-rate", "+50000 ppm; node-b's could not be asked"),
    ],
)
def test_what_is_wrong_is_found(tmp_path: pathlib.Path, told: dict[str, Any], code: str, text: str) -> None:
    found = look(tmp_path, **told)
    assert text in found[code], found


def test_a_keeper_that_is_idle_on_a_standby_is_as_it_must_be(tmp_path: pathlib.Path) -> None:
    idle = KeeperState("idle", 0.0, 0, True, True)
    assert look(tmp_path, keeper=idle, votes=STANDBY).keys() == GOOD


def test_a_gateway_to_the_witness_alone_is_no_matter(tmp_path: pathlib.Path) -> None:
    assert look(tmp_path, ways={"192.0.2.13": Way("eth0", "192.0.2.1")}).keys() == GOOD


def test_what_asks_for_more_time_than_lost_votes_leave_is_named(tmp_path: pathlib.Path) -> None:
    slow = {f"{n}.conf": f"[program:p{n}]\ncommand=/bin/x\nstopwaitsecs={n * 10}\n" for n in range(8)}
    text = look(tmp_path, slow)["votes-kill"]
    assert "killed after 2.5 s" in text and text.endswith("p7 (70 s), p6 (60 s), p5 (50 s), p4 (40 s), p3 (30 s) and 1 more")


@given(st.floats(0.9, 1.1), st.floats(0, 0.01), st.floats(0, 0.01), st.floats(0, 1), st.floats(0, 1))
def test_a_rate_is_known_as_well_as_is_said(rate: float, first_s: float, again_s: float, at: float, at_2: float) -> None:
    """Whenever within each question the other clock was read, the true rate lies within what is said to be known."""
    one = (100.0, rate * (100.0 + at * first_s), 100.0 + first_s)
    two = (102.0, rate * (102.0 + at_2 * again_s), 102.0 + again_s)
    found, known = rate_of(one, two)
    assert abs(found - (rate - 1)) <= known * rate + 1e-9
