"""A pair that other dashboards speak for: asked over their JSON API, whichever of its nodes' dashboards answers."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import ssl
import time
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ha_agent.core.visible import visible, visible_data
from ha_agent.core.web_settings import PairSettings
from ha_agent.core.words import CommandOutcome
from ha_agent.web.logs import LogPart
from ha_agent.web.pairs import (
    ACT_S,
    CONF_S,
    REFRESH_S,
    Pair,
    PairRefused,
    PairUnreachable,
    Result,
    Sight,
    events_in,
    reading,
)

ANSWER_S = 5.0
MOST_BYTES = 8 * 1024 * 1024
"""Of an answer. Python needs some ten times as much to hold it, and the process is to stay small."""


class RemotePair(Pair):
    """Questions to the API at ``settings.urls``."""

    def __init__(self, name: str, settings: PairSettings, poll_s: float, try_out: Callable[[Pair], None]) -> None:
        super().__init__(name, max(poll_s, 1.0), try_out)
        self._settings = settings
        self._url = settings.urls[0]
        # No answer is to be followed by one that was asked for before it.
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Keeps what is known current."""
        while True:
            await self._look()
            await self._pause()

    async def refresh(self) -> None:
        """Asks the other dashboard, which has asked its nodes anew after what it did."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REFRESH_S):
                await self._look()

    async def _look(self) -> None:
        async with self._turn:
            try:
                answer = await self._ask("GET", "", ANSWER_S)
                with reading(self._url):
                    self._take(answer)
            except (PairUnreachable, PairRefused) as error:
                if not self.known.sights:
                    self.known.sights = [Sight(self.name)]
                for sight in self.known.sights:
                    self._learn(sight, None, None, str(error))

    def _take(self, answer: Mapping[str, Any]) -> None:
        rows = answer["nodes"]
        if [s.name for s in self.known.sights] != [row["name"] for row in rows]:
            self.known.sights = [Sight(str(row["name"])) for row in rows]
        now = time.time()
        for sight, row in zip(self.known.sights, rows, strict=True):
            # Clocks differ: what counts is how old it was there.
            at = None if row["age_s"] is None else now - float(row["age_s"])
            self._learn(sight, row["view"], at, row["problem"])
        if (events := events_in(answer["events"])) != self.known.events:
            self.known.events = events
            self._keep_changes([*events_in(answer.get("changes")), *events])
            self._learned()

    async def act(self, action: str, programs: Sequence[str], by: str) -> Result:
        """Asks the other dashboard, where the token's rights count."""
        if len(programs) == 1:
            return await self._post(f"/programs/{urllib.parse.quote(programs[0], safe='')}/{action}", by)
        return await self._post(f"/programs/{action}", by, {"programs": list(programs)})

    async def switch_over(self, by: str) -> Result:
        """Asks the other dashboard."""
        return await self._post("/switchover", by)

    async def set_maintenance(self, for_s: float, reason: str, by: str) -> Result:
        """Asks the other dashboard."""
        return await self._post("/maintenance", by, {"for_s": for_s, "reason": reason})

    async def test_alerts(self, sink: str, by: str) -> Result:
        """Asks the other dashboard."""
        return await self._post("/alerts/test", by, {"sink": sink})

    async def read_reports(self, count: int) -> list[Mapping[str, Any]]:
        """Asks the other dashboard."""
        answer = await self._ask("GET", f"/drills?count={count}", ANSWER_S)
        with reading(self._url):
            return [dict(one) for one in answer["reports"]]

    async def _post(self, path: str, by: str, more: Mapping[str, Any] | None = None) -> Result:
        try:
            answer = await self._ask("POST", path, ACT_S, {"on_behalf": by, **(more or {})})
            with reading(self._url):
                result = Result(str(answer["outcome"]), tuple(answer["lines"]), tuple(answer["warnings"]))
        except PairUnreachable as error:
            return Result(CommandOutcome.UNREACHABLE, (str(error),))
        except PairRefused as error:
            return Result(CommandOutcome.REFUSED, (str(error),))
        self.watch()
        await self.refresh()
        return result

    async def read_log(self, node: str, program: str, stream: str, after: int | None = None) -> LogPart:
        """Asks the other dashboard."""
        return await self._read_log(node, program, {"stream": stream, **({} if after is None else {"after": after})})

    async def read_log_piece(self, node: str, program: str, stream: str, begin: int) -> LogPart:
        """Asks the other dashboard."""
        return await self._read_log(node, program, {"stream": stream, "begin": begin})

    async def _read_log(self, node: str, program: str, query: Mapping[str, Any]) -> LogPart:
        program, node = urllib.parse.quote(program, safe=""), urllib.parse.quote(node, safe="")
        where = f"/nodes/{node}/programs/{program}/log?{urllib.parse.urlencode(query)}"
        answer = await self._ask("GET", where, ANSWER_S)
        with reading(self._url):
            return LogPart(str(answer["text"]), int(answer["end"]), bool(answer["whole"]))

    async def read_conf(self, path: str, by: str) -> dict[str, Any]:
        """Asks the other dashboard, where the token's rights count."""
        return await self._ask("GET", f"/conf?{urllib.parse.urlencode({'path': path})}", ANSWER_S + CONF_S)

    async def read_kept(self, node: str, copy: Mapping[str, str], by: str) -> str | None:
        """Asks the other dashboard, where the token's rights count."""
        answer = await self._ask("GET", f"/kept?{urllib.parse.urlencode({'node': node, **copy})}", ANSWER_S + CONF_S)
        return None if answer.get("text") is None else str(answer["text"])

    async def read_history(self, count: int) -> list[Mapping[str, Any]]:
        """Asks the other dashboard."""
        return events_in((await self._ask("GET", f"/history?count={count}", ANSWER_S)).get("events"))

    async def _ask(self, method: str, path: str, timeout_s: float, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        problems = []
        for url in sorted(self._settings.urls, key=lambda u: u != self._url):
            try:
                answer = await asyncio.to_thread(self._call, url, method, path, timeout_s, body)
            except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
                problems.append(visible(f"{url}: {error or type(error).__name__}"))
                if method == "POST" and not isinstance(error, ConnectionRefusedError):
                    # It may have been done: the other node must not do it once more.
                    break
                continue
            self._url = url
            return answer
        raise PairUnreachable("; ".join(problems))

    def _call(self, url: str, method: str, path: str, timeout_s: float, body: Mapping[str, Any] | None) -> dict[str, Any]:
        parts = urllib.parse.urlsplit(url)
        assert parts.hostname is not None
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=self._settings.ca_file or None)
            connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=timeout_s, context=context)
        else:
            connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)
        with open(self._settings.token_file, encoding="ascii") as file:
            headers = {"Authorization": f"Bearer {file.read().strip()}", "Content-Type": "application/json"}
        place = f"{parts.path.rstrip('/')}/api/v1/pairs/{urllib.parse.quote(self._settings.pair, safe='')}{path}"
        try:
            connection.request(method, place, None if body is None else json.dumps(body).encode(), headers)
            response = connection.getresponse()
            content = visible_data(json.loads(_read_whole(response, timeout_s)), "\n\t")
        finally:
            connection.close()
        if not isinstance(content, dict):
            raise ValueError(f"status {response.status}, and no JSON object")
        if 400 <= response.status < 500 and "outcome" not in content:
            raise PairRefused(str(content.get("error", response.status)))
        if response.status >= 300 and "outcome" not in content:
            raise ValueError(str(content.get("error", f"status {response.status}")))
        return content


def _read_whole(response: http.client.HTTPResponse, timeout_s: float) -> bytes:
    """The body, which may take ``timeout_s`` as a whole. Raises ``OSError`` and ``ValueError``."""
    body, deadline = b"", time.monotonic() + timeout_s
    while part := response.read1(65536):
        body += part
        if len(body) > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES} bytes")
        if time.monotonic() > deadline:
            raise TimeoutError(f"no whole answer within {timeout_s:g} s")
    return body
