"""What others have written is read by people as it is, and moves neither their terminal nor their eye."""

from __future__ import annotations

import io
import json
import logging
import pathlib
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_agent.adapters.log_lines import BURST, WINDOW_S, LineFormatter, SparingFilter
from ha_agent.adapters.store import History
from ha_agent.adapters.terminal import complain, finding_lines
from ha_agent.core.findings import Finding, Severity
from ha_agent.core.requests import AlertTestRequest, DrillBeginRequest, MaintenanceRequest, Malformed
from ha_agent.core.visible import is_steering, visible, visible_data
from ha_agent.daemon.events import Events

FORGED = "x\n2026-01-01 00:00:00  node-a  role-active (by root)\x1b[2J\u202e\x9b2K\u2028\ud800"
SHOWN = r"x\n2026-01-01 00:00:00  node-a  role-active (by root)\x1b[2J\u202e\x9b2K\u2028\ud800"


@given(st.text(st.characters(codec=None, exclude_categories=())))
def test_nothing_steers_once_it_is_visible_and_everything_else_stays(text: str) -> None:
    shown = visible(text)
    assert not is_steering(shown) and visible(shown) == shown
    shown.encode()
    assert not [c for c in shown if unicodedata.category(c) in CONTROLS or unicodedata.bidirectional(c) in BIDI]
    assert is_steering(text) or shown == text


CONTROLS = {"Cc", "Zl", "Zp", "Cs"}
BIDI = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def test_letters_of_all_languages_and_signs_stay_as_they_are() -> None:
    for text in ("zahlung läuft", "支付网关", "שלום", "👩\u200d💻", "a\u00a0b", r"C:\new", ""):
        assert visible(text) == text
    assert visible("a\tb\n\x1b", "\n\t") == "a\tb\n\\x1b"


def test_data_is_made_visible_to_its_last_text() -> None:
    data = {"a\n": [{"b": "\x1b"}, 1, None, True], "c": ("\u202e",)}
    assert visible_data(data) == {"a\\n": [{"b": "\\x1b"}, 1, None, True], "c": ["\\u202e"]}


def test_an_event_forges_no_line_of_the_history(tmp_path: pathlib.Path) -> None:
    events = Events(History(str(tmp_path), "a", 10**6))
    event = events.add("maintenance-on", FORGED, by=FORGED, more={"path": [FORGED]})
    assert event["text"] == event["by"] == event["more"]["path"][0] == SHOWN
    assert json.loads((tmp_path / "history.jsonl").read_text())["text"] == SHOWN


def test_control_characters_are_refused_in_what_people_will_read() -> None:
    for form, message in (
        (MaintenanceRequest, {"on": True, "reason": FORGED}),
        (DrillBeginRequest, {"drill": "a\x1b", "for_s": 1.0}),
        (AlertTestRequest, {"sink": "\u202e"}),
    ):
        with pytest.raises(Malformed, match="not for reading") as caught:
            form.read(message)
        assert not is_steering(str(caught.value))
    assert MaintenanceRequest.read({"on": True, "reason": "内核更新"}).reason == "内核更新"


def test_an_error_or_a_finding_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    complain(FORGED)
    assert capsys.readouterr().err == f"ha-agent: {SHOWN}\n"
    lines = finding_lines(Finding("x", Severity.ERROR, FORGED, FORGED, FORGED))
    assert len(lines) == 2 and not any(map(is_steering, lines))


def logged(*entries: tuple[str, ...], sparing: SparingFilter | None = None) -> list[str]:
    """What a log's lines are for these entries, all from one place."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter("%(levelname)s %(name)s: %(message)s"))
    if sparing is not None:
        handler.addFilter(sparing)
    log = logging.Logger("made")
    log.addHandler(handler)
    for words in entries:
        log.warning("%s is odd", words)
    return stream.getvalue().splitlines()


def test_a_log_line_is_one_line_and_a_traceback_is_set_in() -> None:
    (line,) = logged((FORGED,))
    assert line.startswith("WARNING made: ") and SHOWN.encode().decode("unicode_escape") not in line
    try:
        raise ValueError(FORGED)
    except ValueError:
        text = LineFormatter("%(message)s").formatException(sys.exc_info())
    assert all(row.startswith("  ") and not is_steering(row) for row in text.split("\n"))


def test_many_lines_of_one_kind_are_counted_and_not_written() -> None:
    now = 0.0
    sparing = SparingFilter(lambda: now)
    lines = logged(*[(f"request {n}",) for n in range(300)], sparing=sparing)
    assert len(lines) == BURST
    now = WINDOW_S
    (line,) = logged(("request 300",), sparing=sparing)
    assert f"({300 - BURST} more like this were left out)" in line
    assert len(logged(("again",), sparing=sparing)) == 1
