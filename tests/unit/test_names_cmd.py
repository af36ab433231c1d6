"""What `ha-agent names` offers to the completion of shells."""

from __future__ import annotations

import argparse
import pathlib

import pytest

from ha_agent.cli.names_cmd import KINDS, programs_of, run
from ha_agent.core.words import Exit


def test_programs_are_those_that_are_registered_parked_or_loaded() -> None:
    answer = {
        "autostart": ["billing"],
        "parked": [{"name": "audit", "group": "audit"}],
        "processes": [{"group": "worker", "name": "worker_00"}, {"group": "listener", "name": "listener"}],
        "local": ["listener"],
    }
    assert programs_of(answer) == {"billing", "audit", "worker"}


def test_an_agent_that_does_not_answer_offers_none() -> None:
    assert programs_of({}) == set()


@pytest.mark.parametrize("kind", KINDS)
def test_a_machine_that_is_no_node_gets_no_complaint(
    kind: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(argparse.Namespace(kind=kind, config=str(tmp_path / "agent.toml"))) == Exit.DONE
    said = capsys.readouterr()
    assert said.err == "" and (said.out != "") == (kind in ("words", "codes"))


def test_words_and_codes_are_one_a_line_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    run(argparse.Namespace(kind="codes", config=""))
    codes = capsys.readouterr().out.splitlines()
    assert codes == sorted(set(codes)) and {"takeover-done", "program-fatal"} <= set(codes)
