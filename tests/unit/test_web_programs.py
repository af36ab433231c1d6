"""The page of a program: its buttons, both nodes' readiness, its log from end to end, its conf, and what it used."""

from __future__ import annotations

import asyncio
import base64
import pathlib
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_agent.core.words import Outcome
from ha_agent.web.conf_look import compare, look
from ha_agent.web.logs import END_BYTES, FOUND_LINES, LogRefused, find_lines, read_end, read_piece, read_size
from ha_agent.web.program_pages import describe_usage
from ha_agent.web.usage import POINTS, UsageBook
from tests.unit.timeless import run_timeless
from tests.unit.web_pages import NOW, Agents, Visitor, healthy, row, text_of

PROGRAM = "/pairs/local/nodes/node-a/programs/web"


class Log:
    """A file as supervisord reads it: strict UTF-8, and tailFile's arithmetic."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def answer(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The answer of the agent's guard."""
        method, (_, begin, length) = asked["method"], asked["params"]
        size, overflow = len(self.content), False
        if method.startswith("tail"):
            if size > begin + length:
                begin, overflow = size - 1, True
            if begin + length > size:
                begin = size - (0 if begin > size - 1 else length)
        begin = max(begin, 0)
        try:
            text = self.content[begin : begin + length].decode()
        except UnicodeDecodeError:
            return {"outcome": Outcome.DOWN, "reason": "500 Internal Server Error"}
        return {"outcome": Outcome.DONE, "result": [text, size, overflow] if method.startswith("tail") else text}

    async def call(self, method: str, params: list[Any]) -> Mapping[str, Any]:
        """As ``logs.Call``."""
        return self.answer({"method": method, "params": params})


def test_the_end_of_a_log_that_would_begin_within_a_character_is_read() -> None:
    async def main() -> None:
        for more in range(4):
            log = Log(("日志" * END_BYTES + "x" * more).encode())
            part = await read_end(log.call, "web:web", "stdout")
            assert part.text.endswith("志" + "x" * more) and part.end == len(log.content)
        assert (await read_end(Log(b"short\n").call, "web:web", "stdout")).text == "short\n"
        with pytest.raises(LogRefused):
            await read_end(Log(b"\xff" * (END_BYTES + 9)).call, "web:web", "stdout")

    run_timeless(main())


@given(st.lists(st.text(max_size=40), max_size=12))
def test_who_follows_a_log_sees_everything_once(lines: list[str]) -> None:
    async def main() -> None:
        log, seen, at = Log(b""), "", 0
        for line in lines:
            log.content += line.encode()
            part = await read_end(log.call, "web:web", "stdout", at)
            assert part.end == len(log.content) and part.is_whole
            raw = log.content[at:].decode()
            seen, at = seen + raw, part.end
        assert seen == "".join(lines)

    run_timeless(main())


def test_a_log_that_was_rotated_begins_anew() -> None:
    async def main() -> None:
        log = Log(b"new\n")
        part = await read_end(log.call, "web:web", "stdout", 5000)
        assert (part.text, part.end, part.is_whole) == ("new\n", 4, False)
        log.content += b"\x1b[2Jmore"
        part = await read_end(log.call, "web:web", "stdout", 4)
        assert part.text == "\\x1b[2Jmore" and part.end == len(log.content)

    run_timeless(main())


@given(st.text(min_size=1, max_size=300_000 // 4))
def test_pieces_make_the_whole_log(text: str) -> None:
    async def main() -> None:
        log, at, read = Log(text.encode()), 0, 0
        assert await read_size(log.call, "web:web", "stdout") == len(log.content)
        while (part := await read_piece(log.call, "web:web", "stdout", at)).text:
            read += part.end - at
            at = part.end
        assert read == len(log.content)

    run_timeless(main())


def test_a_search_finds_the_newest_lines_over_the_borders_of_pieces() -> None:
    async def pieces() -> Any:
        for piece in ("one ERR", "OR here\nnothing\n", "an error\n" * (FOUND_LINES + 5), "last error"):
            yield piece

    found = run_timeless(find_lines(pieces(), "error"))
    assert len(found) == FOUND_LINES and found[-1] == "last error"

    async def few() -> Any:
        yield "one ERR"
        yield "OR here\nnothing\n"

    assert run_timeless(find_lines(few(), "Error")) == ["one ERROR here"]


def used(at: float, cpu_s: float, memory: int = 1 << 20, pid: int = 7) -> list[dict[str, Any]]:
    return [row("web", pid=pid, usage={"at": at, "cpu_s": cpu_s, "memory": memory})]


def test_the_last_hour_is_kept_a_point_a_minute() -> None:
    book = UsageBook()
    for minute in range(90):
        for second in (0, 10, 20, 30, 40, 50):
            at = NOW + 60 * minute + second
            book.feed("node-a", used(at, (at - NOW) * 0.25, memory=(minute + 1) << 20))
    points = book.points("node-a", "web", NOW + 90 * 60)
    assert len(points) == POINTS and {round(p.cpu or 0.0) for p in points} == {25}
    assert points[-1].memory == 90 << 20 and book.points("node-b", "web", NOW) == []


def test_a_new_process_is_no_jump_and_what_is_not_known_is_not_drawn() -> None:
    book = UsageBook()
    book.feed("node-a", used(NOW, 500.0))
    book.feed("node-a", [row("web", usage=None), row("db")])
    assert [p.cpu for p in book.points("node-a", "web", NOW)] == [None]
    book.feed("node-a", used(NOW + 60, 1.0, pid=8))
    assert [p.cpu for p in book.points("node-a", "web", NOW + 60)] == [None, None]
    book.feed("node-a", used(NOW + 70, 2.0, pid=8))
    graphs = describe_usage(book.points("node-a", "web", NOW + 70), NOW + 70)
    assert [(g["title"], round(g["now"], 1)) for g in graphs] == [("Processor", 10.0), ("Memory", 1.0)]
    assert describe_usage([], NOW) == []


CONF = "[program:web]\ncommand=/bin/true\n"


def contents(text: str | None, *, withheld: bool = False) -> Any:
    encoded = None if text is None else base64.b64encode(text.encode()).decode()
    return lambda asked: {"contents": {asked["paths"][0]: encoded}, "withheld": asked["paths"] if withheld else []}


def agents_with(monkeypatch: pytest.MonkeyPatch, own: str | None, peer: str | None) -> Agents:
    agents = Agents(monkeypatch)
    log = Log(b"hello\n" + b"x" * 10 + b" error of the day\n")
    kept = {
        "generation": "3.1",
        "path": "web.conf",
        "at": NOW,
        "sha256": "ab",
        "reason": "replaced",
        "divergence": True,
        "size": 3,
    }
    for node, text in (("node-a", own), ("node-b", peer)):
        agents.answers[node, "contents"] = contents(text)
        agents.answers[node, "judge"] = lambda _: {
            "failure": None,
            "verdicts": {"web.conf": {"problem": None, "programs": []}},
        }
        agents.answers[node, "supervisor"] = log.answer
        agents.answers[node, "history"] = lambda _: {"events": []}
        agents.answers[node, "kept-list"] = lambda _: {"kept": []}
    agents.answers["node-a", "kept-list"] = lambda _: {"kept": [kept, {**kept, "path": "other.conf"}]}
    old = base64.b64encode(b"[program:web]\ncommand=/bin/old\n").decode()
    agents.answers["node-a", "kept-read"] = lambda asked: {
        "content": old if asked["sha256"] == "ab" else None,
        "mode": 0o644,
    }
    events = [{"at": NOW, "node": "node-a", "code": "parked", "text": f"{name}: parked"} for name in ("web", "webmail")]
    agents.answers["node-a", "history"] = lambda _: {"events": events}
    return agents


def test_a_page_of_a_program_has_its_buttons_its_log_its_history_and_its_conf(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        agents_with(monkeypatch, CONF, CONF)
        visitor = Visitor(tmp_path, healthy(row("web")))
        status, _, page = await visitor.get(PROGRAM)
        assert status == 200 and 'id="stop-web"' in page and 'id="restart-web"' in page and "hello" in page
        assert "web: parked" in page and "webmail: parked" not in page
        assert 'href="/pairs/local/conf?path=web.conf"' in page and "Readiness node-b ✓ ready" in text_of(page)
        found = await visitor.get(PROGRAM + "/find?stream=stdout&find=ERROR")
        assert "xxxxxxxxxx error of the day" in found[2] and "hello" not in found[2]
        _, headers, text = await visitor.get(PROGRAM + "/download?stream=stdout")
        assert headers["content-disposition"].startswith("attachment") and text.startswith("hello\n")
        assert "nosniff" in headers["x-content-type-options"] and headers["content-type"].startswith("text/plain")
        assert (await visitor.get(PROGRAM + "/download?stream=x"))[0] == 400
        assert (await visitor.get(PROGRAM.replace("web", "nosuch")))[0] == 404

    run_timeless(main())


def test_a_reader_sees_no_conf_and_no_button(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        agents = agents_with(monkeypatch, CONF, CONF)
        visitor = Visitor(tmp_path, healthy(row("web")), "bob")
        _, _, page = await visitor.get(PROGRAM)
        assert "stop-web" not in page and "conf?path" not in page
        assert (await visitor.get("/pairs/local/conf?path=web.conf"))[0] == 403 and not agents.of("contents")
        status, _, _ = await visitor.get("/api/v1/pairs/local/conf?path=web.conf")
        assert status == 403

    run_timeless(main())


def test_a_conf_is_shown_checked_compared_and_its_kept_copies_are_read(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        agents = agents_with(monkeypatch, CONF, CONF + "autostrat=true\n")
        visitor = Visitor(tmp_path, healthy(row("web")))
        status, _, page = await visitor.get("/pairs/local/conf?path=web.conf")
        text = text_of(page)
        assert status == 200 and "+autostrat=true" in text and "never agreed on" in text and "other.conf" not in text
        assert {by for _, _, by in agents.of("contents")} == {"alice"}
        _, _, page = await visitor.get("/pairs/local/conf?path=web.conf&node=node-a&generation=3.1&sha256=ab")
        assert "-command=/bin/old" in text_of(page)
        gone = await visitor.get("/pairs/local/conf?path=web.conf&node=node-a&generation=3.1&sha256=cd")
        assert gone[0] == 404
        for node in ("node-a", "node-b"):
            agents.answers[node, "contents"] = contents(None)
        agents.answers["node-a", "kept-list"] = lambda _: {"kept": []}
        assert (await visitor.get("/pairs/local/conf?path=nosuch.conf"))[0] == 404
        agents.answers["node-a", "contents"] = contents(None, withheld=True)
        _, _, page = await visitor.get("/pairs/local/conf?path=secret.conf")
        assert "its mode lets root alone read it" in page

    # The look at the text is a real process.
    asyncio.run(main())


def test_lint_finds_in_the_dashboard_what_the_command_finds() -> None:
    texts = [{"node": "node-a", "text": CONF + "autostrat=true\n", "verdict": None}]
    found = look({"path": "web.conf", "nodes": texts, "old": None, "new": None})["findings"]
    assert [one["line"] for one in found if "autostrat" in one["text"]] == [3]
    assert compare("a\n", "a\n", "x", "y") == [] and "+b" in compare("a\n", "b\n", "x", "y")
