"""Every word that is printed has an explanation, and the page has the same words."""

from __future__ import annotations

import argparse
import re

import pytest

from ha_agent.cli.explain_cmd import run
from ha_agent.core.faults import FAULTS, WELL
from ha_agent.core.glossary import Kind, all_explanations, explain
from ha_agent.core.history_codes import EVENTS
from ha_agent.core.settings import NAMED_SECTIONS, SECTIONS
from ha_agent.core.supervisor_words import PARKED_STATE, WAITING_STATE, State
from ha_agent.core.words import Answer, CommandOutcome, Exit, Outcome, Role, Step, VrrpState
from tests.glossary_doc import PAGE, with_glossary

KEYED = {**SECTIONS, **{f"{kind}.NAME": cls for kind, cls in NAMED_SECTIONS.items()}}

WORDS: tuple[tuple[Kind, list[str]], ...] = (
    (Kind.ROLE, [str(one) for one in Role]),
    (Kind.VRRP, [str(one) for one in VrrpState]),
    (Kind.PROGRAM, [*map(str, State), PARKED_STATE, WAITING_STATE]),
    (Kind.STEP, [str(one) for one in Step]),
    (Kind.OUTCOME, [str(one) for one in (*Outcome, *CommandOutcome)]),
    (Kind.ANSWER, [str(one) for one in Answer]),
    (Kind.STATUS, [str(int(one)) for one in Exit]),
    (Kind.FAULT, list(FAULTS)),
    (Kind.EVENT, list(EVENTS)),
    (Kind.CHECK, list(WELL)),
    (Kind.SETTING, [f"{name}.{key}" for name, cls in KEYED.items() for key in cls.__dataclass_fields__]),
)


@pytest.mark.parametrize(("kind", "words"), WORDS, ids=lambda value: value.name if isinstance(value, Kind) else "")
def test_every_word_that_is_printed_has_an_explanation(kind: Kind, words: list[str]) -> None:
    known = {one.word: one for one in all_explanations() if one.kind is kind}
    assert set(known) == set(words)
    assert all(one.text.strip() for one in known.values())


def test_every_state_of_replication_that_docs_name_has_an_explanation() -> None:
    text = (PAGE.parent / "json.md").read_text(encoding="utf-8")
    row = next(line for line in text.splitlines() if line.startswith("| `replication.state` |"))
    known = {one.word for one in all_explanations() if one.kind is Kind.REPLICATION}
    assert set(re.findall(r"`([a-z_]+)`", row.split("|", 2)[2])) == known


def test_a_word_is_found_however_it_is_written_and_by_what_it_was_called_before() -> None:
    assert {one.kind for one in explain("fenced")} == {Kind.ROLE, Kind.FAULT, Kind.EVENT}
    assert [one.word for one in explain("Taking over")] == ["taking_over"]
    assert [one.word for one in explain("[takeover-done]")] == ["takeover-done"]
    assert {one.word for one in explain("vip-gone")} == {"vip-lost"}
    assert [one.kind for one in explain("takeover.fence_command")] == [Kind.SETTING]
    assert [one.word for one in explain("hooks.data.timeout_s")] == ["hooks.NAME.timeout_s"]
    assert [one.word for one in explain("sinks.ops.kind")] == ["sinks.NAME.kind"]
    assert explain("xyzzy") == []


def test_a_word_that_is_not_known_is_answered_by_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(argparse.Namespace(words=["takeover-don"], json=False)) == 2
    assert capsys.readouterr().err == "ha-agent: nothing is known of 'takeover-don'; did you mean takeover-done?\n"
    assert run(argparse.Namespace(words=[], json=False)) == 0
    shown = capsys.readouterr().out
    assert "takeover-done" in shown and max(map(len, shown.splitlines())) <= 80


def test_the_page_has_the_words_of_the_glossary() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert with_glossary(text) == text, "make docs"
