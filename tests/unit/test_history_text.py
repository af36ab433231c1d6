"""The merged history: order, durations, and the moments that --since takes."""

from __future__ import annotations

import argparse
import json
import pathlib
import time

import pytest

from ha_agent.adapters.store import PAGE_BYTES, History, HistoryPage, Place
from ha_agent.cli.history_cmd import event_line, moment
from ha_agent.cli.options import duration
from ha_agent.core.history import merge_events


def test_events_of_both_nodes_come_in_the_order_in_which_they_happened_and_each_once() -> None:
    a = [{"at": 1.0, "node": "a", "code": "x", "text": ""}, {"at": 3.0, "node": "a", "code": "y", "text": ""}]
    b = [{"at": 2.0, "node": "b", "code": "z", "text": ""}, dict(a[0])]
    assert [e["code"] for e in merge_events(a, b)] == ["x", "z", "y"]


def test_a_transition_shows_its_roles_and_the_duration_of_every_step() -> None:
    event = {
        "at": 0.25,
        "node": "a",
        "code": "takeover-done",
        "text": "why",
        "from": "taking_over",
        "to": "active",
        "plan": "takeover",
        "took_s": 1.5,
        "steps": [{"step": "interlock", "interlock": "released", "took_s": 0.31}, {"step": "load", "took_s": 1.19}],
    }
    line = event_line(event)
    assert "taking_over -> active: why" in line
    assert "takeover took 1.50 s: interlock 310 ms (released), load 1.19 s" in line


def test_durations_and_moments_are_read_as_people_write_them() -> None:
    assert [duration(t) for t in ("90", "90s", "15min", "15m", "2h", "1d", "1.5h")] == [90, 90, 900, 900, 7200, 86400, 5400]
    assert moment("2h") == pytest.approx(time.time() - 7200, abs=5)
    assert moment("2026-11-21T14:00") == time.mktime((2026, 11, 21, 14, 0, 0, 0, 0, -1))
    assert time.localtime(moment("14:05"))[3:5] == (14, 5)
    for wrong in ("", "x", "-2h", "25:99", "2026-13-40"):
        with pytest.raises(argparse.ArgumentTypeError):
            moment(wrong)


def test_the_newest_events_are_read_from_the_end_across_a_turned_over_file(tmp_path: pathlib.Path) -> None:
    history = History(str(tmp_path), "a", 20_000)
    for number in range(300):
        history.add("code", "text " * 10, number=number)
    assert (tmp_path / "history.jsonl.1").exists()
    assert [e["number"] for e in history.read(5)] == [295, 296, 297, 298, 299]
    everything = [e["number"] for e in history.read(10_000)]
    assert everything == list(range(everything[0], 300)) and len(everything) > 100
    with open(tmp_path / "history.jsonl", "a", encoding="utf-8") as file:
        file.write('{"at": 1, "cut of')
    assert [e["number"] for e in history.read(2)] == [298, 299]
    assert history.read(10, time.time() + 60) == []


def test_a_long_history_is_read_page_by_page_across_files_and_each_event_once(tmp_path: pathlib.Path) -> None:
    history, number = History(str(tmp_path), "a", 3 * PAGE_BYTES), 0
    while not (tmp_path / "history.jsonl.1").exists() or number % 1000:
        history.add("code", "text " * 80, number=number)
        number += 1
    pages: list[list[int]] = []
    before: Place | None = None
    while not pages or before is not None:
        page = history.read_page(10**6, 0.0, before)
        before = None if page.older is None else Place.parse(str(page.older))
        pages.insert(0, [e["number"] for e in page.events])
        size = sum(len(json.dumps(e)) for e in page.events)
        assert 0 < size < PAGE_BYTES + 1000, "no page is larger, whatever was asked for"
        assert len(pages) < 10
    assert len(pages) >= 3 and [n for page in pages for n in page] == list(range(number))
    assert history.read_page(5, 0.0).older is None, "what was asked for is there"
    assert history.read_page(10**6, time.time() + 60).older is None


@pytest.mark.parametrize("before", [Place(1, 10**9), Place(-1, -1), Place(0, 0)])
def test_a_place_that_no_answer_named_has_nothing_before_it(tmp_path: pathlib.Path, before: Place) -> None:
    history = History(str(tmp_path), "a", 20_000)
    history.add("code", "text")
    assert history.read_page(10, 0.0, before) == HistoryPage([], None)


def test_a_history_that_is_not_there_is_empty(tmp_path: pathlib.Path) -> None:
    assert History(str(tmp_path), "a", 1000).read(10) == []


def test_an_event_whose_code_has_changed_has_the_former_one_beside_it(tmp_path: pathlib.Path) -> None:
    history = History(str(tmp_path), "a", 20_000)
    history.add("keepalived-down", "gone", **{"from": "active", "to": "releasing"})
    history.add("vrrp", "MASTER -> BACKUP")
    assert [(e["code"], e.get("alias")) for e in history.read(2)] == [("keepalived-down", "keepalived-gone"), ("vrrp", None)]
