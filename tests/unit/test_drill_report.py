"""The report of a failover-test: computed from what was seen, and rendered for people."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_agent.cli.drill_report import figure_rows, render_html, render_list, render_svg, render_text
from ha_agent.cli.probes import BadProbe, parse_probe
from ha_agent.core.drill import (
    Attempt,
    Sightings,
    build_report,
    find_outage,
    find_overlaps,
    find_program_gaps,
    find_stretches,
)

LIMITS = {"failover_s": 2.0, "overlap_s": 0.0}


def tries(*oks: int) -> list[Attempt]:
    """One attempt every tenth of a second from 100 on."""
    return [Attempt(100 + n / 10, 0.01, bool(ok)) for n, ok in enumerate(oks)]


def test_an_outage_lasts_from_the_last_good_answer_to_the_next_one() -> None:
    assert find_outage(tries(1, 1, 0, 0, 1), 100.15) == pytest.approx((100.11, 0.3))
    assert find_outage(tries(1, 1, 1), 100.15) is None
    assert find_outage(tries(1, 0, 1, 1), 100.9) is None, "that was before the fault"
    assert find_outage(tries(1, 1, 0, 0), 100.15) == pytest.approx((100.11, 0.2)), "it has not ended"
    assert find_outage([], 100) is None


def sample(at: float, *running: str, **more: Any) -> dict[str, Any]:
    return {"at": at, "running": running, **more}


def test_what_ran_on_both_nodes_and_what_ran_nowhere_is_found() -> None:
    here = find_stretches([sample(0, "p", "q"), sample(10, "q"), sample(12)], 20)
    there = find_stretches([sample(0), sample(10.5, "p"), sample(11, "p", "q")], 20)
    assert here == {"p": [(0, 10)], "q": [(0, 12)]}
    assert find_overlaps(here, there) == {"q": 1.0}
    assert find_program_gaps([here, there], 9.0) == {"p": 0.5, "q": 0.0}


@given(st.lists(st.tuples(st.floats(0, 100), st.sets(st.sampled_from("pqr"))), max_size=20))
def test_stretches_never_overlap_themselves(rows: list[tuple[float, set[str]]]) -> None:
    rows.sort(key=lambda r: r[0])
    for spans in find_stretches([sample(at, *running) for at, running in rows], 200).values():
        assert all(a_end <= b_begin for (_, a_end), (b_begin, _) in itertools.pairwise(spans))
        assert all(begin <= end for begin, end in spans)


def seen(**changes: Any) -> Sightings:
    events = [
        {"at": 100.3, "node": "b", "code": "vrrp", "text": "BACKUP -> MASTER", "vrrp_state": "MASTER"},
        {"at": 100.02, "node": "a", "code": "released", "text": "nothing <b>left</b>", "from": "releasing", "to": "standby"},
        {
            "at": 100.4,
            "node": "b",
            "code": "takeover-done",
            "text": "done",
            "from": "taking_over",
            "to": "active",
            "steps": [{"step": "interlock", "took_s": 0.05}, {"step": "load", "took_s": 0.01}],
        },
        {"at": 101.5, "node": "b", "code": "takeover-verified", "text": "1 running"},
        {"at": 50.0, "node": "b", "code": "vrrp", "text": "long ago", "vrrp_state": "MASTER"},
    ]
    samples = {"a": [sample(99, "p", vip=True), sample(100.02, vip=False)], "b": [sample(99), sample(100.41, "p", vip=True)]}
    base = {"samples": samples, "events": events, "attempts": {"tcp://x:1": tries(1, 0, 0, 0, 1)}, "ended_at": 105.0}
    base |= {"settled": True, "recovered": True, "registry_equal": True}
    return Sightings("keepalived-kill", "a", "b", 100.0, **{**base, **changes})


def test_what_waited_is_shown_with_the_chain_that_determined_the_time() -> None:
    path = [{"name": "redis", "at_s": 1.2}, {"name": "web", "at_s": 1.25}]
    done = {"at": 102.0, "node": "b", "code": "order-done", "text": "1 started", "took_s": 1.25, "waits": [], "path": path}
    report = full(build_report(seen(events=[*seen().events, done]), LIMITS))
    assert report["order"] == {"took_s": 1.25, "waits": [], "path": path}
    assert ("programs that wait for others", "1.250 s: redis 1.2 s -> web 1.2 s") in figure_rows(report)
    assert build_report(seen(), LIMITS)["order"] is None


def full(report: dict[str, Any]) -> dict[str, Any]:
    head = {"id": "20260101T000000-abcd", "version": "1", "asked_on": "b", "clock_offset_s": 0.0, "clock_error_s": 0.001}
    return {**head, **report}


def test_a_cut_is_passed_where_nothing_stopped_and_nothing_ran_twice_whatever_the_objectives_allow() -> None:
    """keepalived has the VIP on both nodes for a while, which is told and no fault."""
    over = {"at": 120.0, "node": "a", "code": "drill-undone", "text": "over"}
    stays = {"a": [sample(99, "p", vip=True)], "b": [sample(99), sample(103.5, vip=True), sample(105.0, vip=False)]}

    def judge(samples: dict[str, Any]) -> dict[str, Any]:
        told = seen(samples=samples, events=[over], attempts={}, ended_at=125.0)
        told.mode = "partition"
        return build_report(told, {"failover_s": 100.0, "overlap_s": 100.0})

    report = judge(stays)
    assert report["passed"] and report["to"] == "a"
    assert (report["figures"]["cut_s"], report["figures"]["vip_both_s"]) == (20.0, 1.5)
    assert "VIP on both nodes" in render_text(full(report)) and "1.500 s" in render_text(full(report))
    stopped = judge({**stays, "a": [sample(99, "p"), sample(104), sample(106, "p")]})
    assert [row["name"] for row in stopped["objectives"] if not row["met"]] == ["stay_s"]
    twice = judge({**stays, "b": [sample(99), sample(104, "p"), sample(104.2)]})
    assert [row["name"] for row in twice["objectives"] if not row["met"]] == ["overlap_s"]


def test_every_figure_comes_from_the_node_that_it_belongs_to() -> None:
    report = build_report(seen(), LIMITS)
    figures = report["figures"]
    assert (figures["detection_s"], figures["takeover_done_s"], figures["all_running_s"]) == (0.3, 0.4, 1.5)
    assert (figures["vip_moved_s"], figures["first_program_s"], figures["released_s"]) == (0.41, 0.41, 0.02)
    assert (figures["interlock_s"], figures["load_s"]) == (0.05, 0.01)
    assert report["outage_s"] == {"tcp://x:1": pytest.approx(0.4)}
    assert report["program_gap_s"] == {"p": 0.39} and report["overlap_s"] == {}
    assert report["passed"] is True
    assert [row["s"] for row in report["timeline"]] == sorted(row["s"] for row in report["timeline"])
    assert "long ago" not in str(report["timeline"])


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"attempts": {"tcp://x:1": tries(1, *([0] * 25), 1)}}, "failover_s"),
        ({"samples": {"a": [sample(99, "p")], "b": [sample(99), sample(100.4, "p")]}}, "overlap_s"),
        ({"settled": False}, "settled"),
        ({"failed": {"p": "FATAL"}}, "programs"),
        ({"registry_equal": None}, "registry"),
        ({"recovered": False}, "recovered"),
    ],
)
def test_every_objective_can_be_missed(changes: dict[str, Any], name: str) -> None:
    report = build_report(seen(**changes), LIMITS)
    assert report["passed"] is False
    assert name in [row["name"] for row in report["objectives"] if not row["met"]]
    assert "NOT MET" in render_text(full(report)) and "verdict: FAILED" in render_text(full(report))


def test_a_node_whose_power_was_cut_ran_nothing_from_then_on() -> None:
    changed = seen(samples={"a": [sample(99, "p")], "b": [sample(99), sample(100.6, "p")]})
    changed.mode = "power"
    report = build_report(changed, LIMITS)
    assert report["overlap_s"] == {} and report["program_gap_s"] == {"p": 0.6}


def test_the_page_is_well_formed_needs_nothing_and_escapes_what_it_shows() -> None:
    report = full(build_report(seen(), LIMITS))
    page = render_html(report)
    assert "Verdict: passed" in page and "&lt;b&gt;left&lt;/b&gt;" in page and "<b>left" not in page
    assert "src=" not in page and "href=" not in page and "url(" not in page
    picture = xml.etree.ElementTree.fromstring(render_svg(report))
    titles = [t.text or "" for t in picture.iter("title")]
    assert any(t.startswith("p on b: +0.410 s") for t in titles) and any("no answer" in t for t in titles)


def test_reports_are_compared_a_line_each() -> None:
    assert "no reports" in render_list([])
    text = render_list([full(build_report(seen(), LIMITS)), full(build_report(seen(settled=False), LIMITS))])
    assert text.splitlines()[1].endswith("passed") and text.splitlines()[2].endswith("FAILED")


@pytest.mark.parametrize("text", ["x", "tcp://h", "tcp://:1", "ftp://h:1", "http://", "redis://h:x", "tcp://h:99999999"])
def test_what_is_no_probe_is_told_what_would_be(text: str) -> None:
    with pytest.raises(BadProbe, match="write tcp://HOST:PORT"):
        parse_probe(text)
