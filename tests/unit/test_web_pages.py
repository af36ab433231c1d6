"""What the pages of the dashboard say of a pair: nothing old as if it were now, and nothing twice."""

from __future__ import annotations

import pathlib

import pytest

from ha_agent.core.guard import Access
from ha_agent.core.words import Outcome
from ha_agent.web.pairs import Sight
from ha_agent.web.render import PARTS, render, render_parts, say_title
from tests.unit.timeless import run_timeless
from tests.unit.web_pages import NOW, Agents, Visitor, healthy, pair_of, row, text_of, view, words_of


def test_the_title_has_the_address_both_nodes_and_who_is_active() -> None:
    assert say_title(healthy(), words_of()) == "192.0.2.10: node-a (active), node-b"
    silent = pair_of(
        Sight("node-a", view("node-a", "active"), NOW - 60, "no route"), Sight("node-b", view("node-b", "active"), NOW)
    )
    assert say_title(silent, words_of()) == "192.0.2.10: node-a (no answer), node-b (active)"
    assert say_title(pair_of(Sight("?"), Sight("?")), words_of()).startswith("local: ?")


def test_problems_stand_before_programs_and_programs_before_details() -> None:
    assert PARTS.index("problems") < PARTS.index("programs") < PARTS.index("nodes")
    page = render(
        "pair.html", words_of(), name="local", names=["local"], parts=render_parts(healthy(), words_of()), title="t"
    )
    places = [page.index(f'id="part-{part}"') for part in ("summary", "problems", "programs", "nodes", "events")]
    assert places == sorted(places)


def test_what_a_silent_node_said_is_old_and_never_green_and_the_address_is_here_once() -> None:
    dead = Sight("node-a", view("node-a", "active", [row("web"), row("db", "FATAL")]), NOW - 90, "no answer within 2 s")
    living = Sight("node-b", view("node-b", "active", [row("web")]), NOW)
    parts = render_parts(pair_of(dead, living), words_of())
    whole = "".join(parts.values())
    assert whole.count("is here") == 1 and "was here" in whole
    old = parts["programs"][: parts["programs"].index('id="programs-node-b"')]
    assert "was RUNNING" in old and "state running" not in old and "●" not in old
    assert "as node-a had them 2 min ago" in text_of(old)
    assert "stop-web" not in old, "nothing is done to what was"


def test_a_program_stands_with_the_readiness_of_the_other_node() -> None:
    readiness = {
        "loadable": 1,
        "problems": {"db.conf": "no user db"},
        "warnings": {"web.conf": "no /opt/web"},
        "failure": None,
    }
    pair = pair_of(
        Sight("node-a", view("node-a", "active", [row("web"), row("db"), row("mail")]), NOW),
        Sight("node-b", view("node-b", readiness=readiness), NOW),
    )
    text = text_of(render_parts(pair, words_of())["programs"])
    assert "incomplete no /opt/web" in text and "cannot start no user db" in text and "✓ ready" in text
    pair.known.sights[1].problem = "no route"
    text = text_of(render_parts(pair, words_of())["programs"])
    assert text.count("not known") == 3 and "ready" not in text


def test_who_may_look_only_sees_no_button() -> None:
    assert 'id="stop-web"' in render_parts(healthy(), words_of())["programs"]
    reader = words_of(access=Access.READ)
    assert "button" not in render_parts(healthy(), reader)["programs"]
    assert "启动" in render_parts(healthy(row("web", "STOPPED")), words_of("zh"))["programs"]


def stopped(agents: Agents, *, on_peer: bool) -> None:
    """Has the active node stop what it is asked to."""
    for node in ("node-a", "node-b"):
        agents.answers[node, "view"] = lambda _: view("node-a", "active", [row("web")])
    ack = {"on_peer": on_peer, "reason": None if on_peer else "no connection"}
    answer = {
        "outcome": Outcome.DONE,
        "parked_before": ["web"],
        "programs": [],
        "node": "node-a",
        "peer": "node-b",
        "ack": ack,
    }
    agents.answers["node-a", "program-stop"] = lambda _: answer


def test_a_group_and_a_selection_are_done_at_once_and_said_as_what_they_are(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        agents = Agents(monkeypatch)
        stopped(agents, on_peer=True)
        pair = healthy(row("web"), row("db"), row("w:w0"), row("w:w1"))
        visitor = Visitor(tmp_path, pair)
        _, _, page = await visitor.get("/pairs/local")
        assert 'id="restart-group-w"' in page and 'id="stop-picked"' in page and "stop-group-web" not in page
        _, _, page = await visitor.get("/pairs/local/confirm?action=stop&program=web&program=db")
        assert "web, db is stopped on node-a, and its conf is parked on both nodes" in text_of(page)
        assert text_of(page).count("stop 2 programs") == 1
        pair.known.sights[1].problem = "no route"
        _, _, page = await visitor.get("/pairs/local/confirm?action=stop&program=w:*")
        assert "parked there only: node-b does not answer" in text_of(page)
        _, _, page = await visitor.get("/pairs/local/confirm?action=start&program=web")
        assert "it learns of this when it is back" in text_of(page)
        await visitor.post("/pairs/local/do", action="stop", program=["web", "db"])
        ((node, asked, by),) = agents.of("program-stop")
        assert (node, asked["names"], by) == ("node-a", ["web", "db"], "alice")
        assert (await visitor.get("/pairs/local/confirm?action=stop"))[0] == 400
        for wrong in (["web", "all"], ["web", "-x"], [], ["x" * 301]):
            assert (await visitor.post("/pairs/local/do", action="stop", program=wrong))[0] == 400
        assert len(agents.of("program-stop")) == 1

    run_timeless(main())


def test_scripts_name_several_programs_in_one_request(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        agents = Agents(monkeypatch)
        stopped(agents, on_peer=False)
        visitor = Visitor(tmp_path, healthy(row("web")))
        headers = {"content-type": "application/json", "x-csrf-token": visitor.session.csrf}
        place = "/api/v1/pairs/local/programs/stop"
        status, _, _ = await visitor.ask("POST", place, b'{"programs": ["web", "db"]}', headers)
        assert status == 202 and agents.of("program-stop")[0][1]["names"] == ["web", "db"]
        for wrong in (b"{}", b'{"programs": "web"}', b'{"programs": [1]}', b'{"programs": []}'):
            assert (await visitor.ask("POST", place, wrong, headers))[0] == 400
        assert (await visitor.ask("POST", place, b'{"programs": ["web"]}', {"content-type": "application/json"}))[0] == 403

    run_timeless(main())


def test_a_theme_is_chosen_kept_and_left_to_the_browser_again(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        visitor = Visitor(tmp_path, healthy())
        _, _, page = await visitor.get("/pairs/local")
        assert "data-theme" not in page and 'content="light dark"' in page and 'value="dark"' in page
        status, headers, _ = await visitor.post("/theme", theme="dark", next="/pairs/local/alerts")
        assert (status, headers["location"]) == (303, "/pairs/local/alerts")
        cookie = f"ha_agent_session={visitor.cookie}; " + headers["set-cookie"].split(";")[0]
        _, _, page = await visitor.get("/pairs/local", cookie=cookie)
        assert 'data-theme="dark"' in page and 'value="auto"' in page and 'value="dark"' not in page
        for wrong in ("x", "", '"><script>'):
            assert (await visitor.post("/theme", theme=wrong))[0] == 400
        _, _, page = await visitor.get("/login", cookie='ha_agent_theme="><script>')
        assert "data-theme" not in page

    run_timeless(main())


def test_what_is_no_page_is_said_in_the_dress_of_all_pages(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        visitor = Visitor(tmp_path, healthy())
        status, headers, page = await visitor.get("/nowhere/at-all", cookie="ha_agent_language=zh")
        assert status == 404 and "没有这个页面" in page and '<html lang="zh">' in page
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        status, _, page = await visitor.post("/pairs/local/history")
        assert status == 405 and "this cannot be done to that page" in page
        status, headers, page = await visitor.get("/api/v1/nowhere")
        assert status == 404 and headers["content-type"] == "application/json" and "no such page" in page
        monkeypatch.setattr(visitor.site.pairs["local"], "known", None)
        with pytest.raises(AttributeError):
            await visitor.get("/pairs/local/alerts")

    run_timeless(main())


def test_the_strip_and_the_history_are_said_in_both_languages() -> None:
    pair = healthy()
    gone = {"at": NOW - 3600, "node": "node-b", "from": "active", "to": "releasing"}
    come = {"at": NOW - 3590, "node": "node-a", "from": "taking_over", "to": "active"}
    pair.known.changes = [gone, come]
    pair.known.events = [{"at": NOW, "node": "node-a", "code": "parked", "text": "web.conf is parked"}]
    parts = render_parts(pair, words_of())
    assert "Outages: 1; nobody was active for 10 s in all" in parts["strip"] and parts["strip"].count("<rect") == 3
    assert 'class="outage"' in parts["strip"] and "web.conf is parked" in parts["events"]
    chinese = render_parts(pair, words_of("zh"))
    assert "1 次没有活动节点" in chinese["strip"] and "配置已停放" in chinese["events"]
    assert '<small lang="en">web.conf is parked</small>' in chinese["events"]
    assert "as far as is known" in render_parts(healthy(), words_of())["strip"]
