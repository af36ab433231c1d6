"""The page of one program, the search in its log and its download, and the page of its conf."""

from __future__ import annotations

import asyncio
import json
import sys
import time
import urllib.parse
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ha_agent.adapters.runner import ProgramMissing, run_program
from ha_agent.core.guard import Access
from ha_agent.core.history import mentions
from ha_agent.core.supervisor_words import PARKED_STATE, WAITING_STATE
from ha_agent.web.http import Chunks, Denied, Handler
from ha_agent.web.logs import find_lines
from ha_agent.web.pairs import Pair, PairRefused, PairUnreachable, Sight
from ha_agent.web.programs import describe_readiness
from ha_agent.web.render import Words, page_of, render_page
from ha_agent.web.sessions import Session
from ha_agent.web.site import Site
from ha_agent.web.usage import Point, draw

NOT_LOADED = frozenset({PARKED_STATE, WAITING_STATE})
"""States of programs that supervisord does not have."""

STREAMS = ("stdout", "stderr")
EVENTS_READ, EVENTS_SHOWN = 200, 20
MOST_SEARCHED, MOST_LOADED = 4 << 20, 16 << 20
"""Bytes of a log's end that are searched, and that are downloaded."""

LOOK_S, LOOKS_AT_ONCE = 10.0, 2
GRAPH_WIDTH, GRAPH_HEIGHT = 240, 40

Log = tuple[str, str, int, str | None]
"""A stream, the end of its log, the offset of that end, and why there is none."""


class ProgramPages:
    """``require``: the login of a request; raises ``Denied`` where there is none."""

    def __init__(self, site: Site, require: Callable[[Request], Session]) -> None:
        self._site, self._require = site, require
        # Each look at a conf is a process, which counts as the dashboard's own memory for systemd.
        self._looks = asyncio.Semaphore(LOOKS_AT_ONCE)

    def routes(self, page: Callable[[str, Handler], Route]) -> list[Route]:
        """The routes, made by ``page`` of path and handler."""
        program = "/pairs/{pair}/nodes/{node}/programs/{program}"
        return [
            page(program, self._program),
            page(program + "/find", self._find),
            page(program + "/download", self._download),
            page("/pairs/{pair}/conf", self._conf),
        ]

    def _begin(self, request: Request) -> tuple[Session, Pair, Words]:
        session, pair = self._require(request), self._site.pair_of(request)
        pair.watch()
        return session, pair, self._site.words(request, session)

    async def _program(self, request: Request) -> Response:
        _, pair, words = self._begin(request)
        node, program = request.path_params["node"], request.path_params["program"]
        row = find_row(pair, node, program)
        logs: list[Log] = []
        if row["state"] not in NOT_LOADED:
            logs, is_refused = await _read_logs(pair, node, program)
            if is_refused:
                # It may have been parked, or have gone, a moment ago.
                await pair.refresh()
                row = find_row(pair, node, program)
        if row["state"] in NOT_LOADED:
            # supervisord does not know it, so it has no log of it to give.
            logs = []
        shown = describe_program(pair, node, row, words)
        shown["events"] = list(reversed(await _read_events(pair, row)))[:EVENTS_SHOWN]
        given = {"name": pair.name, "names": list(self._site.pairs), "node": node, "row": row, "logs": logs, "shown": shown}
        return page_of(render_page("program.html", words, **given))

    def _stream_of(self, request: Request, pair: Pair) -> tuple[str, str, str]:
        """Node, program and stream of a request. Raises ``Denied``."""
        node, program = request.path_params["node"], request.path_params["program"]
        find_row(pair, node, program)
        if (stream := request.query_params.get("stream", "stdout")) not in STREAMS:
            raise Denied(400, "stream is stdout or stderr")
        return node, program, stream

    async def _find(self, request: Request) -> Response:
        session, pair, words = self._begin(request)
        node, program, stream = self._stream_of(request, pair)
        wanted = request.query_params.get("find", "")[:200]
        lines: list[str] = []
        problem = None
        # A search takes many questions: one has as many at once as pages that are open.
        owner = session.account.name
        if not self._site.streams.take(owner):
            raise Denied(503, "too many pages are open")
        try:
            if wanted:
                lines = await find_lines(read_pieces(pair, node, program, stream, MOST_SEARCHED), wanted)
        except (PairUnreachable, PairRefused) as error:
            problem = str(error)
        finally:
            self._site.streams.give_back(owner)
        given = {"name": pair.name, "names": list(self._site.pairs), "node": node, "program": program, "stream": stream}
        return page_of(
            render_page("find.html", words, **given, wanted=wanted, lines=lines, problem=problem, most=MOST_SEARCHED)
        )

    async def _download(self, request: Request) -> Response:
        session, pair, _ = self._begin(request)
        node, program, stream = self._stream_of(request, pair)
        try:
            pieces = read_pieces(pair, node, program, stream, MOST_LOADED)
            first = await anext(pieces, "")
        except (PairUnreachable, PairRefused) as error:
            raise Denied(504, str(error)) from None
        owner = session.account.name
        if not self._site.streams.take(owner):
            raise Denied(503, "too many pages are open")
        name = urllib.parse.quote(f"{program}-{node}-{stream}.log", safe="")
        headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{name}"}
        return Chunks(_encode(first, pieces), lambda: self._site.streams.give_back(owner), headers)

    async def _conf(self, request: Request) -> Response:
        session, pair, words = self._begin(request)
        self._site.require(request, Access.OPERATE)
        query, by = request.query_params, session.account.name
        path = query.get("path", "")
        try:
            conf = await pair.read_conf(path, by)
            kept = {key: query[key] for key in ("node", "generation", "sha256") if key in query}
            copy = await self._read_copy(pair, path, kept, by) if len(kept) == 3 else None
        except (PairUnreachable, PairRefused) as error:
            raise Denied(504, str(error)) from None
        if not conf["kept"] and all(row["text"] is None and not row["withheld"] for row in conf["nodes"]):
            if not any(row["problem"] for row in conf["nodes"]):
                raise Denied(404, "there is no such conf on either node")
        async with self._looks:
            looked = await look_at(conf, copy)
        given = {"name": pair.name, "names": list(self._site.pairs), "conf": conf, "looked": looked, "copy": copy}
        return page_of(render_page("conf.html", words, **given))

    async def _read_copy(self, pair: Pair, path: str, kept: Mapping[str, str], by: str) -> dict[str, Any]:
        wanted = {"generation": kept["generation"], "path": path, "sha256": kept["sha256"]}
        text = await pair.read_kept(kept["node"], wanted, by)
        if text is None:
            raise Denied(404, "this kept copy is gone")
        return {**kept, "text": text}


def describe_program(pair: Pair, node: str, row: Mapping[str, Any], words: Words) -> dict[str, Any]:
    """What the page of a program shows besides its row and its logs."""
    active = pair.find_active()
    sight = next(one for one in pair.known.sights if one.name == node)
    is_active = active is not None and active.name == node
    points = pair.usage.points(node, row["name"], time.time())
    return {
        "acts": words.operates and row["kind"] != "local" and is_active,
        "elsewhere": active.name if active and not is_active and _has(active, row["name"]) else None,
        "is_old": sight.problem is not None,
        "at": sight.at,
        "ready": [(one.name, describe_readiness(row, one)) for one in pair.known.sights] if row["kind"] != "local" else [],
        "graphs": describe_usage(points, time.time()),
    }


def describe_usage(points: list[Point], now: float) -> list[dict[str, Any]]:
    """Processor and memory of the last hour, each with its newest and its largest amount, and its line for SVG."""
    found = []
    for title, unit, values in (
        ("Processor", "%", [(point.at, point.cpu) for point in points if point.cpu is not None]),
        ("Memory", "MiB", [(point.at, point.memory / 2**20) for point in points]),
    ):
        if values:
            most = max(amount for _, amount in values)
            line = draw(values, now, most, GRAPH_WIDTH, GRAPH_HEIGHT)
            found.append({"title": title, "unit": unit, "now": values[-1][1], "most": most, "line": line})
    return found


def _has(sight: Sight, program: str) -> bool:
    return sight.view is not None and any(row["name"] == program for row in sight.view["programs"])


async def _read_events(pair: Pair, row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What the histories of both nodes have of a program and its conf; of what is known where nobody answers."""
    try:
        events = await pair.read_history(EVENTS_READ)
    except (PairUnreachable, PairRefused):
        events = list(pair.known.events)
    words = {str(row["name"]), str(row.get("group") or row["name"]), *([row["path"]] if row.get("path") else ())}
    return [event for event in events if any(mentions(event, word) for word in words)]


async def read_pieces(pair: Pair, node: str, program: str, stream: str, most: int) -> AsyncIterator[str]:
    """The last ``most`` bytes of a log in pieces. Raises ``PairUnreachable`` and ``PairRefused``."""
    end = (await pair.read_log(node, program, stream)).end
    at = max(0, end - most)
    while at < end:
        part = await pair.read_log_piece(node, program, stream, at)
        if not part.text or part.end <= at:
            return
        yield part.text
        at = part.end


async def _encode(first: str, pieces: AsyncIterator[str]) -> AsyncIterator[bytes]:
    yield first.encode()
    try:
        async for piece in pieces:
            yield piece.encode()
    except (PairUnreachable, PairRefused) as error:
        yield f"\n[{error}]\n".encode()


async def _read_logs(pair: Pair, node: str, program: str) -> tuple[list[Log], bool]:
    """The ends of both logs; and whether the node answers and refuses one."""
    logs: list[Log] = []
    is_refused = False
    for stream in STREAMS:
        try:
            part = await pair.read_log(node, program, stream)
            logs.append((stream, part.text, part.end, None))
        except (PairUnreachable, PairRefused) as error:
            is_refused |= isinstance(error, PairRefused)
            logs.append((stream, "", 0, str(error)))
    return logs, is_refused


def find_row(pair: Pair, node: str, program: str) -> Mapping[str, Any]:
    """What is known of a program on a node. Raises ``Denied``."""
    for sight in pair.known.sights:
        if sight.name == node and sight.view is not None:
            for row in sight.view["programs"]:
                if row["name"] == program:
                    return dict(row)
    raise Denied(404, "there is no such program on that node")


async def look_at(conf: Mapping[str, Any], copy: Mapping[str, Any] | None) -> dict[str, Any]:
    """Findings on a conf, and its differences to the peer's, or to a kept copy; by a process of its own."""
    there = [row for row in conf["nodes"] if row["text"] is not None]
    old = new = None
    if there and copy is not None:
        old = {"name": f"{copy['node']}: {copy['generation']}", "text": copy["text"]}
        new = {"name": there[0]["node"], "text": there[0]["text"]}
    elif len(there) == 2:
        old, new = ({"name": row["node"], "text": row["text"]} for row in there)
    asked = {"path": conf["path"], "nodes": conf["nodes"], "old": old, "new": new}
    words = [sys.executable, "-m", "ha_agent.web.conf_look"]
    try:
        ended = await run_program(words, LOOK_S, env={"PYTHONPATH": ":".join(filter(None, sys.path))}, data=_dump(asked))
        return {"problem": None, "compared": old is not None, **json.loads(ended.output)}
    except (ProgramMissing, ValueError) as error:
        return {"problem": str(error), "compared": False, "findings": [], "difference": []}


def _dump(asked: Mapping[str, Any]) -> bytes:
    return json.dumps(asked).encode()
