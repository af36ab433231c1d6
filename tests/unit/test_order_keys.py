"""The order of starts in a conf: what its comments may say, and what lint says of the rest, all of it at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_agent.core.lint import lint_conf, lint_together
from ha_agent.core.order_keys import MOST_NAMES, BadAddress, OrderKeys, parse_address, read_order
from ha_agent.core.start_plan import find_circles


def conf(name: str, *lines: str) -> str:
    """A conf of one program with these lines of ha-agent in it, which begin on line 2."""
    said = "".join(f"; ha-agent: {line}\n" for line in lines)
    return f"[program:{name}]\n{said}command=/bin/{name}\n"


def test_a_section_says_what_it_waits_for_how_long_and_what_then() -> None:
    text = conf("web", "after=redis, tcp://127.0.0.1:6379", "wait_s = 12.5", "on_timeout=skip")
    keys = OrderKeys(("redis", "tcp://127.0.0.1:6379"), 12.5, "skip", (2, 2))
    assert read_order(text) == ({"program:web": keys}, [])
    assert read_order("[program:web]\ncommand=x\n") == ({}, [])


@pytest.mark.parametrize("line", ["#ha-agent:after=db", ";   ha-agent:   after =  db  ", "  ; ha-agent: after=db,,db\r"])
def test_blanks_and_the_mark_of_the_comment_do_not_matter(line: str) -> None:
    assert read_order(f"[program:web]\n{line}\n")[0]["program:web"].after == ("db",)


def test_a_group_may_wait_as_a_whole_and_several_lines_add_up() -> None:
    found, problems = read_order("[group:shop]\n; ha-agent: after=a\n; ha-agent: after=b, a\nprograms=x\n")
    assert (found["group:shop"].after, found["group:shop"].lines, problems) == (("a", "b"), (2, 3), [])


@pytest.mark.parametrize(
    ("word", "address"),
    [
        ("tcp://127.0.0.1:6379", ("127.0.0.1", 6379)),
        ("TCP://localhost:80", ("127.0.0.1", 80)),
        ("tcp://[::1]:65535", ("::1", 65535)),
        ("tcp://[fe80::1%eth0]:80", ("fe80::1%eth0", 80)),
    ],
)
def test_an_address_is_a_number(word: str, address: tuple[str, int]) -> None:
    assert parse_address(word) == address


@pytest.mark.parametrize(
    "word",
    [
        "http://127.0.0.1:80", "tcp://redis.example:6379", "tcp://127.0.0.1", "tcp://127.0.0.1:0", "tcp://127.0.0.1:65536",
        "tcp://::1:80", "tcp://[127.0.0.1]:80", "tcp://[localhost]:80", "tcp://127.0.0.1:6379/0", "tcp://:80", "://",
    ],
)  # fmt: skip
def test_what_no_connection_can_be_made_to_is_refused(word: str) -> None:
    with pytest.raises(BadAddress):
        parse_address(word)


def test_all_that_is_wrong_with_a_conf_is_told_at_once_with_its_lines() -> None:
    text = "; ha-agent: after=x\n" + conf(
        "web", "before=db", "after=tcp://db:5432, db, http://x", "wait_s=soon", "on_timeout=maybe", "after=", ""
    )
    found = lint_conf("web.conf", text)
    assert sorted((f.code, f.line) for f in found) == [
        ("bad-order-address", 4), ("bad-order-address", 4),
        ("bad-order-key", 1), ("bad-order-key", 3), ("bad-order-key", 5), ("bad-order-key", 6), ("bad-order-key", 7),
        ("bad-order-key", 8),
    ]  # fmt: skip
    assert read_order(text)[0] == {"program:web": OrderKeys(("db",), lines=(4,))}, "what is right of it counts"
    assert all(f.is_wrong for f in found)


def test_a_name_that_no_conf_defines_is_told_and_a_parked_one_is_defined() -> None:
    texts = {"web.conf": conf("web", "after=rediss, db"), "redis.conf": conf("redis"), "db.conf.parked": conf("db")}
    (found,) = lint_together(texts)
    assert (found.code, found.where, found.line) == ("unknown-in-order", "web.conf", 2)
    assert found.remedy == "did you mean redis?"


def test_a_circle_is_told_at_each_line_that_makes_it() -> None:
    texts = {
        "a.conf": conf("a", "wait_s=5", "after=b"),
        "b.conf": conf("b", "after=c, d"),
        "c.conf": conf("c", "after=a"),
        "d.conf": conf("d"),
        "e.conf": conf("e", "after=a"),
    }
    found = lint_together(texts)
    assert [(f.code, f.where, f.line) for f in found] == [
        ("order-circle", "a.conf", 3), ("order-circle", "b.conf", 2), ("order-circle", "c.conf", 2),
    ]  # fmt: skip
    assert "in a circle of a, b, c" in found[0].text


def test_members_of_a_group_cannot_wait_for_each_other() -> None:
    group = "[group:shop]\nprograms=web,db\n"
    (found,) = lint_together({"shop.conf": group + conf("web", "after=db") + conf("db")})
    assert (found.code, found.line) == ("order-circle", 4) and "started together, as group shop" in found.text
    (found,) = lint_together({"web.conf": conf("web", "after=web")})
    assert found.text.startswith("web is after itself")
    through = {"shop.conf": group + conf("web", "after=x") + conf("db"), "x.conf": conf("x", "after=db")}
    assert {f.code for f in lint_together(through)} == {"order-circle"}


def test_one_section_cannot_name_endlessly_many() -> None:
    _, (mistake,) = read_order(conf("web", "after=" + ",".join(f"p{n}" for n in range(MOST_NAMES + 1))))
    assert (mistake.code, mistake.line) == ("bad-order-key", 2)


@given(st.text(alphabet="[]program:web;#ha-agent: after=tcp://127.0.0.1,\n\r ", max_size=200))
def test_any_text_is_taken(text: str) -> None:
    keys, mistakes = read_order(text)
    lines = text.replace("\r\n", "\n").replace("\r", "\n").count("\n") + 1
    assert all(1 <= m.line <= lines for m in mistakes)
    assert all(len(one.after) == len(one.lines) for one in keys.values())


EDGES = st.dictionaries(st.sampled_from("abcdefgh"), st.frozensets(st.sampled_from("abcdefgh"), max_size=4))


@given(EDGES)
def test_circles_are_what_can_be_reached_from_itself(edges: dict[str, frozenset[str]]) -> None:
    def reach(name: str) -> set[str]:
        found: set[str] = set()
        todo = [name]
        while todo:
            for following in edges.get(todo.pop(), ()):
                if following not in found:
                    found.add(following)
                    todo.append(following)
        return found

    names = set(edges) | {n for needed in edges.values() for n in needed}
    expected = {frozenset(m for m in reach(n) if n in reach(m)) for n in names if n in reach(n)}
    assert set(find_circles(edges)) == expected


def test_a_chain_of_thousands_is_no_circle_and_breaks_nothing() -> None:
    edges = {str(n): frozenset({str(n + 1)}) for n in range(5000)}
    assert find_circles(edges) == []
    assert find_circles({**edges, "5000": frozenset({"0"})}) == [frozenset(map(str, range(5001)))]
