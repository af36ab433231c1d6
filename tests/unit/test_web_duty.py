"""The pages for whoever is on duty: each says what is so on both nodes, and what it does names who did it."""

from __future__ import annotations

import pathlib
import re
from typing import Any

import pytest

from ha_agent.core.words import Outcome
from ha_agent.web.pairs import Sight
from ha_agent.web.progress import LATE_S, describe_progress
from ha_agent.web.render import render
from tests.unit.timeless import run_timeless
from tests.unit.web_pages import NOW, Agents, Visitor, healthy, pair_of, text_of, view, words_of

NONE = "\N{EN DASH}"
WINDOW = {"since": NOW, "until": NOW + 3600, "reason": "<new disk>", "by": "alice"}


def change(node: str, before: str, after: str, at: float, **more: Any) -> dict[str, Any]:
    return {"at": at, "node": node, "code": "x", "text": "", "from": before, "to": after, **more}


def test_a_switchover_is_followed_to_its_figures() -> None:
    old, new = Sight("node-a", view("node-a", "releasing"), NOW), Sight("node-b", view("node-b"), NOW)
    earlier = change("node-b", "taking_over", "active", NOW - 500)
    going = describe_progress([old, new], [earlier], "node-a", NOW, NOW + 1)
    assert (going["state"], going["took_s"]) == ("going", None)
    assert describe_progress([old, new], [earlier], "node-a", NOW, NOW + LATE_S + 1)["state"] == "late"
    events = [
        change("node-a", "releasing", "standby", NOW + 0.4, took_s=0.3),
        change("node-b", "taking_over", "active", NOW + 0.9, took_s=0.4, steps=[]),
        {"at": NOW + 1.5, "node": "node-b", "code": "takeover-verified", "text": "3 programs run"},
    ]
    old, new = Sight("node-a", view("node-a"), NOW), Sight("node-b", view("node-b", "active"), NOW)
    done = describe_progress([old, new], events, "node-a", NOW, NOW + 2)
    text = text_of(render("_switchover.html", words_of(), shown=done))
    assert done["state"] == "done" and "✓ node-b is active." in text
    assert "Released 300 ms" in text and "Taken over 400 ms" in text and "From the request to active 900 ms" in text
    assert "3 programs run" in text
    back = [events[0], change("node-a", "taking_over", "active", NOW + 3)]
    assert describe_progress([new, old], back, "node-a", NOW, NOW + 4)["state"] == "back"


def test_a_switchover_leads_to_its_page(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        agents = Agents(monkeypatch)
        agents.answers["node-a", "hand-over"] = lambda _: {"outcome": Outcome.BEGUN, "at": NOW}
        visitor = Visitor(tmp_path, healthy())
        status, headers, _ = await visitor.post("/pairs/local/do", action="switchover")
        assert status == 303 and headers["location"].startswith("/pairs/local/switchover?source=node-a&began=")
        status, _, page = await visitor.get(headers["location"])
        assert status == 200 and 'data-progress="going"' in page and "/live?source=node-a&amp;began=" in page
        for wrong in ("", "?began=x", "?began=nan", "?began=1e5"):
            assert (await visitor.get("/pairs/local/switchover" + wrong))[0] == 400
        agents.answers["node-a", "hand-over"] = lambda _: {"outcome": Outcome.REFUSED, "reason": "node-b is unfit"}
        status, _, page = await visitor.post("/pairs/local/do", action="switchover")
        assert status == 409 and "node-b is unfit" in page

    run_timeless(main())


def test_maintenance_is_begun_on_both_nodes_and_stands_on_every_page(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        agents = Agents(monkeypatch)
        for node in ("node-a", "node-b"):
            agents.answers[node, "maintenance"] = lambda asked: {"outcome": Outcome.ON if asked["on"] else Outcome.OFF}
        agents.answers["node-a", "view"] = lambda _: view("node-a", "active", maintenance=WINDOW)
        agents.answers["node-b", "view"] = lambda _: view("node-b", maintenance=WINDOW)
        visitor = Visitor(tmp_path, healthy())
        _, _, page = await visitor.get("/pairs/local/maintenance")
        assert "maintenance-off" not in page and 'class="banner"' not in page
        status, _, page = await visitor.post("/pairs/local/maintenance", for_s="3600", reason="new disk")
        assert status == 200 and "node-a: maintenance is on" in page and "node-b: maintenance is on" in page
        asked = agents.of("maintenance")
        assert {(node, one["reason"], by) for node, one, by in asked} == {
            ("node-a", "new disk", "alice"),
            ("node-b", "new disk", "alice"),
        }
        for place in (
            "/pairs/local",
            "/pairs/local/maintenance",
            "/pairs/local/alerts",
            "/pairs/local/confirm?action=switchover",
        ):
            _, _, page = await visitor.get(place)
            assert page.count('class="banner"') == 2 and "&lt;new disk&gt;" in page
        del agents.answers["node-b", "maintenance"]
        status, _, page = await visitor.post("/pairs/local/maintenance", for_s="0")
        assert status == 202 and "node-a: maintenance is off" in page and "node-b does not know" in page
        for wrong in ({"for_s": "x"}, {"for_s": "9999999"}, {"for_s": "60", "reason": "a\nb"}):
            assert (await visitor.post("/pairs/local/maintenance", **wrong))[0] == 400

    run_timeless(main())


def test_a_reader_changes_nothing_here_either(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        agents = Agents(monkeypatch)
        reader = Visitor(tmp_path, healthy(), "bob")
        for place in ("/pairs/local/maintenance", "/pairs/local/alerts/test"):
            assert (await reader.post(place, for_s="60", reason="x"))[0] == 403
            assert (await reader.post(place, csrf="wrong"))[0] == 403
        for place in ("/pairs/local/maintenance", "/pairs/local/alerts"):
            status, _, page = await reader.get(place)
            forms = re.findall(r'method="post" action="([^"]+)"', page)
            assert status == 200 and set(forms) <= {"/language", "/theme", "/logout"}
        assert not agents.of("maintenance") and not agents.of("alert-test")

    run_timeless(main())


def test_alerts_have_their_sinks_and_what_was_told(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        agents = Agents(monkeypatch)
        own = view("node-a", "active")
        sink = {"kind": "mail", "failures": 2, "problem": "no route", "delivered": 1, "waiting": 3, "dropped": 0}
        note = {"at": NOW, "node": "node-a", "kind": "end", "severity": "warning", "code": "peer-lost", "text": "it is back"}
        own["alerts"].update(sinks={"ops": sink}, recent=[note])
        visitor = Visitor(tmp_path, pair_of(Sight("node-a", own, NOW), Sight("node-b", view("node-b"), NOW)))
        _, _, page = await visitor.get("/pairs/local/alerts")
        text = text_of(page)
        assert "ops (mail): ✕ fails no route 1 delivered, 3 waiting, 0 dropped" in text and "over: it is back" in text
        assert "No sink is configured" in text, "of the other node"
        row = {"sink": "ops", "kind": "mail", "delivered": False, "said": "no route"}
        agents.answers["node-a", "alert-test"] = lambda _: {"outcome": Outcome.DONE, "results": [row]}
        agents.answers["node-b", "alert-test"] = lambda _: {"outcome": Outcome.REFUSED, "reason": "no sink is configured"}
        status, _, page = await visitor.post("/pairs/local/alerts/test")
        assert status == 502 and "ops (mail): FAILED: no route" in page and "node-b: no sink is configured" in page

    run_timeless(main())


REPORT = {
    "id": "20250101T000000-ab12",
    "fault_at": NOW,
    "mode": "switchover",
    "from": "node-a",
    "to": "node-b",
    "passed": True,
    "figures": {"detection_s": 0.2, "vip_moved_s": 0.3, "all_running_s": None},
    "outage_s": {"tcp:1": 0.45},
    "objectives": [{"text": "outage", "name": "outage_s", "measured": 0.45, "limit": 1, "met": True}],
    "timeline": [{"s": 0.2, "node": "node-b", "code": "vrrp", "text": "MASTER"}],
}


def test_drills_of_both_nodes_are_compared_and_opened(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        agents = Agents(monkeypatch)
        agents.answers["node-a", "report-list"] = lambda _: {"reports": [REPORT]}
        older = {**REPORT, "id": "20240101T000000-ab12", "passed": False, "figures": {}, "outage_s": {}}
        agents.answers["node-b", "report-list"] = lambda _: {"reports": [older, REPORT]}
        visitor = Visitor(tmp_path, healthy(), "bob")
        _, _, page = await visitor.get("/pairs/local/drills")
        assert page.count("/drills/2") == 2 + 0 and page.index("20250101") < page.index("20240101")
        assert f"switchover node-a 200 ms 300 ms {NONE} 450 ms ✓ passed" in text_of(page)
        _, _, page = await visitor.get(f"/pairs/local/drills/{REPORT['id']}")
        assert "outage : 450 ms" in text_of(page) or "outage: 450 ms" in text_of(page)
        assert "+0.200 s node-b MASTER" in text_of(page)
        assert (await visitor.get("/pairs/local/drills/nosuch"))[0] == 404
        agents.answers.clear()
        assert (await visitor.get("/pairs/local/drills"))[0] == 504

    run_timeless(main())
