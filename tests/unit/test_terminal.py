"""On a terminal every text is broken to its width; anywhere else a fact is one line, for grep and scripts."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_agent.adapters.status_screen import render_glimpse
from ha_agent.adapters.terminal import finding_lines, fit
from ha_agent.cli.history_cmd import event_line
from ha_agent.core.findings import Finding, Severity
from ha_agent.core.glimpse import Glimpse
from ha_agent.core.width import width_of

LONG = "the agent of this node has said a good many things " * 5
WIDE = "备用节点不能接管 " * 20


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")


def texts(said: str) -> list[str]:
    event = {"at": 1000.0, "node": "node-a", "code": "takeover-done", "text": said, "from": "standby", "to": "active"}
    steps = [{"step": "interlock", "took_s": 0.1, "interlock": "released"}] * 9
    glimpse = Glimpse("node-a", "node-b", said, programs_problem=said)
    return [
        *finding_lines(Finding("x", Severity.ERROR, said, said, where="node-b"), "  "),
        *event_line(event).splitlines(),
        *event_line({**event, "steps": steps, "plan": "takeover", "took_s": 1.0, "by": "alice"}).splitlines(),
        *render_glimpse(glimpse, 1000.0).splitlines(),
    ]


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("said", [LONG, WIDE])
def test_no_line_is_wider_than_the_terminal_and_none_is_broken_within_a_word(said: str) -> None:
    lines = texts(said)
    assert all(width_of(line) <= 80 for line in lines), [line for line in lines if width_of(line) > 80]
    assert set(said.split()) <= {word for line in lines for word in line.split()}


def test_without_a_terminal_a_fact_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert any(LONG.strip() in line for line in texts(LONG.strip()))
    assert fit(LONG, "  ", "> ") == ["> " + LONG]


@pytest.mark.usefixtures("narrow")
def test_only_the_code_of_an_event_and_the_word_of_its_severity_are_painted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR")
    line = event_line({"at": 1000.0, "node": "ERROR", "code": "drill", "text": "drill drill"})
    assert line.count("\033[1m") == 1 and "\033[1mdrill\033[0m drill drill" in line
    first = finding_lines(Finding("ERROR", Severity.ERROR, "an ERROR", where="ERROR"))[0]
    assert first.startswith("\033[31mERROR\033[0m  ERROR: an ERROR [ERROR]")


@given(text=st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp")), max_size=200))
def test_nothing_of_a_text_is_lost(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
        patch.setenv("TERM", "xterm")
        patch.setenv("COLUMNS", "60")
        assert " ".join(fit(text)).split() == text.split()
