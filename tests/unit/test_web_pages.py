"""What the pages of the dashboard say of a pair: nothing old as if it were now, and nothing twice."""

from __future__ import annotations

from ha_agent.core.guard import Access
from ha_agent.web.pairs import Sight
from ha_agent.web.render import PARTS, render, render_parts, say_title
from tests.unit.web_pages import NOW, healthy, pair_of, row, text_of, view, words_of


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
