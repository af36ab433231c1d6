"""The dashboard, asked in every way that HTTP allows, by those with and without a right to what they ask for."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import random
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.types import Message

from ha_agent.core.guard import Access
from ha_agent.core.web_settings import Dashboard, PairSettings, WebSettings
from ha_agent.web.app import make_app
from ha_agent.web.http import COOKIE, HEADERS, MOST_BODY
from ha_agent.web.logs import LogPart
from ha_agent.web.pairs import Pair, Result, Sight
from tests.fuzz.values import ODD_TEXTS, flip, make_value

MARK = "<b a='x\">"
"""In a page it would be markup."""

ODD = (
    *ODD_TEXTS,
    MARK,
    "%00",
    "%",
    "..",
    "//evil",
    "/\\evil",
    "http://evil",
    "\r\nX: y",
    "a b",
    "-x",
    "all",
    "é",
    "9" * 400,
)
PAIRS = ("p", "p", "q", "", MARK)
LIMIT_S = 10.0
"""For one answer, on a busy machine. Nothing here waits for anybody."""

REFUSED_LATER = (502, 503, 504)


class Recorder(Pair):
    """A pair of which nothing is known, and which writes down what it is told to do."""

    def __init__(self, name: str) -> None:
        super().__init__(name, 1.0, lambda _: None)
        self.acts: list[tuple[str, str, str]] = []
        self.known.sights = [Sight("node-a", problem=f"silent {MARK}"), Sight(MARK)]
        event = {"at": 1.0, "node": "node-a", "code": "x", "text": MARK}
        self.known.events = [event]
        self.version = 1

    async def run(self) -> None:
        """Nothing changes."""

    async def refresh(self) -> None:
        """Nothing changes."""

    async def act(self, action: str, programs: Sequence[str], by: str) -> Result:
        """Writes it down."""
        self.acts.append((action, ",".join(programs), by))
        return Result("done", (f"{programs}: {action}",), (MARK,))

    async def switch_over(self, by: str) -> Result:
        """Writes it down."""
        return await self.act("switchover", (), by)

    async def read_log(self, node: str, program: str, stream: str, after: int | None = None) -> LogPart:
        """A hostile line."""
        return LogPart(f"{node} {program} {stream} {MARK}", 100)

    async def read_log_piece(self, node: str, program: str, stream: str, begin: int) -> LogPart:
        """A hostile line, once."""
        return LogPart(f"{node} {program} {stream} {MARK}" if begin == 0 else "", 100)

    async def read_conf(self, path: str, by: str) -> dict[str, Any]:
        """A hostile conf, which nobody keeps a copy of."""
        row = {"node": "node-a", "problem": MARK, "text": None, "withheld": False, "verdict": None}
        return {"path": path, "nodes": [row], "kept": []}

    async def read_kept(self, node: str, copy: Mapping[str, str], by: str) -> str | None:
        """A hostile copy."""
        return MARK

    async def set_maintenance(self, for_s: float, reason: str, by: str) -> Result:
        """Writes it down."""
        return await self.act("maintenance", (), by)

    async def test_alerts(self, sink: str, by: str) -> Result:
        """Writes it down."""
        return await self.act("test", (), by)

    async def read_reports(self, count: int) -> list[Mapping[str, Any]]:
        """None is kept."""
        return []

    async def read_history(self, count: int) -> list[Mapping[str, Any]]:
        """A hostile event."""
        return self.known.events[:count]


class Place:
    """The application with two pairs, alice who may operate, and bob who may look; each has a login and a token."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        users = os.path.join(self._folder.name, "users.json")
        local = PairSettings(run_dir=self._folder.name)
        self.app, self.site = make_app(Dashboard(WebSettings(users_file=users), {"local": local}))
        self.pairs = [Recorder("p"), Recorder("q")]
        self.site.pairs.update({pair.name: pair for pair in self.pairs})
        self.tokens = {}
        for name, access in (("alice", Access.OPERATE), ("bob", Access.READ)):
            self.site.users.set_user(name, "correct horse battery", access)
            self.tokens[name] = self.site.users.add_token(f"of-{name}", access)
        self._logins: dict[str, str] = {}
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="fuzzed dashboard", daemon=True).start()

    def log_in(self, name: str) -> tuple[str, str]:
        """The cookie and the anti-forgery token of a login, a new one where the last was ended."""
        now = time.monotonic()
        session = self.site.sessions.find(self._logins.get(name, ""), now, self.site.users.account)
        if session is None:
            account = self.site.users.account(name)
            assert account is not None
            self._logins[name], session = self.site.sessions.begin(account, now)
        return self._logins[name], session.csrf

    def ask(self, scope: dict[str, Any], body: list[bytes]) -> tuple[int, list[tuple[str, str]], bytes]:
        """Status, headers and content of the answer. Raises what the application does."""
        return asyncio.run_coroutine_threadsafe(self._ask(scope, body), self._loop).result(LIMIT_S)

    async def _ask(self, scope: dict[str, Any], body: list[bytes]) -> tuple[int, list[tuple[str, str]], bytes]:
        sent: list[Message] = []
        parts = [{"type": "http.request", "body": part, "more_body": part is not body[-1]} for part in body]

        async def receive() -> Message:
            return parts.pop(0) if parts else {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in sent[0]["headers"]]
        return sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent[1:])


@functools.cache
def place() -> Place:
    """The one that all inputs of a process go to."""
    return Place()


# ---- inputs -------------------------------------------------------------------------------------------------------


def _word(chance: random.Random) -> str:
    return chance.choice(("stop", "start", "restart", "switchover", "p0", "node-a", "stdout", "en", "zh", "/pairs/p", *ODD))


ROUTES = (
    "GET /", "GET /login", "POST /login", "POST /logout", "POST /language", "GET /static/{}", "GET /pairs/{p}",
    "GET /pairs/{p}/live", "GET /pairs/{p}/history", "GET /pairs/{p}/nodes/{}/programs/{}", "GET /pairs/{p}/confirm",
    "POST /pairs/{p}/do", "GET /metrics", "GET /active", "GET /healthz", "POST /api/v1/login", "POST /api/v1/logout",
    "GET /api/v1/whoami", "GET /api/v1/pairs", "GET /api/v1/pairs/{p}", "GET /{}/{}", "GET /api/v1/pairs/{p}/programs",
    "GET /api/v1/pairs/{p}/history", "GET /api/v1/pairs/{p}/alerts", "POST /api/v1/pairs/{p}/switchover",
    "GET /api/v1/pairs/{p}/nodes/{}/programs/{}/log", "POST /api/v1/pairs/{p}/programs/{}/{action}",
)  # fmt: skip


def _route(chance: random.Random) -> tuple[str, str]:
    """A method, mostly the one of the path, and a path with odd words where it takes any."""
    method, _, template = chance.choice(ROUTES).partition(" ")
    path = ""
    for part in template.split("{"):
        name, brace, rest = part.rpartition("}")
        actions = ("stop", "start", "restart", _word(chance))
        word = chance.choice(PAIRS) if name == "p" else chance.choice(actions) if name else _word(chance) if brace else ""
        path += urllib.parse.quote(word.encode("utf-8", "surrogateescape" if word == "\udcff" else "replace")) + rest
    return method if chance.randrange(6) else chance.choice(("GET", "POST", "HEAD", "PUT", "x")), path


def _fields(chance: random.Random, csrf: str) -> dict[str, object]:
    names = ("csrf", "action", "program", "name", "password", "next", "language", "count", "stream", "on_behalf", "é")
    fields: dict[str, object] = {name: _word(chance) for name in chance.sample(names, chance.randrange(5))}
    if chance.randrange(2):
        fields |= {"csrf": csrf, "action": chance.choice(("stop", "switchover", "x")), "program": "p0"}
    elif chance.randrange(2):
        fields["csrf"] = csrf
    return fields


def _body(chance: random.Random, csrf: str, path: str) -> bytes:
    fields = _fields(chance, csrf)
    kind = chance.randrange(6)
    if kind == 5:
        kind = 1 if path.startswith("/api") else 4
    if kind == 0:
        return json.dumps(make_value(chance)).encode("ascii", "replace")
    if kind == 1:
        return json.dumps(fields).encode()
    data = urllib.parse.urlencode({k: str(v).encode("utf-8", "replace") for k, v in fields.items()}).encode()
    if kind == 2:
        return flip(chance, data)
    if kind == 3 and not chance.randrange(20):
        return data + b"&" * MOST_BODY
    return data


def _header_value(text: str) -> bytes:
    """As h11 lets it through: no control characters."""
    return bytes(byte for byte in text.encode("latin-1", "replace") if byte >= 0x20 and byte != 0x7F)


def _target(query: bytes) -> bytes:
    """As h11 lets it through: visible ASCII."""
    return bytes(byte for byte in query if 0x21 <= byte <= 0x7E)


def feed_web(chance: random.Random) -> None:
    """A request of any shape: answered without a defect, and nothing is done for whoever has no right to it."""
    here = place()
    who, form_csrf, header_csrf = chance.choice((None, "alice", "bob")), "", ""
    headers: dict[str, str] = {"host": chance.choice(("x", "", MARK))}
    if who is not None:
        cookie, csrf = here.log_in(who)
        around = chance.choice(("", "a=b; ", f"{COOKIE}=x; ", f"x={MARK}; ", ";;=;"))
        headers["cookie"] = f"{around}{COOKIE}={cookie}" + chance.choice(("", "; a", ";", '"'))
        form_csrf, header_csrf = (chance.choice((csrf, csrf, "", csrf[:-1])) for _ in range(2))
        headers["x-csrf-token"] = header_csrf
    bearer = chance.choice((None, None, None, "alice", "bob"))
    if bearer is not None or not chance.randrange(4):
        token = here.tokens[bearer] if bearer is not None else _word(chance)
        headers["authorization"] = chance.choice(("Bearer ", "bearer  ", "Basic ", "")) + token
    types = ("application/json", "application/json; x", "application/x-www-form-urlencoded", MARK)
    headers["content-type"] = types[0] if chance.randrange(2) else chance.choice(types)
    for name in ("accept-language", "origin", "sec-fetch-site", "if-none-match", "x-forwarded-for"):
        if not chance.randrange(5):
            headers[name] = chance.choice(("zh;q=0.5,en", "same-origin", "http://x", "http://[", *ODD))
    method, path = _route(chance)
    body = _body(chance, form_csrf, path)
    query = urllib.parse.urlencode({k: str(v).encode("utf-8", "replace") for k, v in _fields(chance, form_csrf).items()})
    cut = chance.randrange(len(body) + 1)
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": chance.choice(("http", "https")),
        "method": method, "path": urllib.parse.unquote(path),
        "raw_path": path.encode(), "query_string": _target(flip(chance, query.encode())),
        "root_path": "", "headers": [(name.encode(), _header_value(value)) for name, value in headers.items()],
        "client": ("203.0.113.9", 4711), "server": ("x", 80),
    }  # fmt: skip
    for pair in here.pairs:
        pair.acts.clear()
    status, answered, content = here.ask(scope, [body] if chance.randrange(2) else [body[:cut], body[cut:]])
    _check_answer(status, answered, content)
    acts = [act for pair in here.pairs for act in pair.acts]
    by_login = who == "alice" and here.log_in("alice")[1] in (form_csrf, header_csrf)
    assert not acts or by_login or bearer == "alice", (acts, who, bearer)
    assert all(by.split(" via ")[-1] in ("alice", "of-alice") and program != "all" for _, program, by in acts), acts


def _check_answer(status: int, headers: list[tuple[str, str]], content: bytes) -> None:
    """What must be so of every answer, whoever asked for whatever."""
    names = {name.lower() for name, _ in headers}
    is_ours = not content.startswith((b"Not Found", b"Method Not Allowed")) and status not in (307, 405)
    assert 200 <= status < 500 or status in REFUSED_LATER, (status, content)
    assert not is_ours or {name.lower() for name in HEADERS} <= names, (status, content[:80])
    for name, value in headers:
        assert "\r" not in value and "\n" not in value, (name, value)
        if name.lower() == "location":
            assert (value.startswith("/") and not value.startswith(("//", "/\\"))) or status == 307, value
        if name.lower() == "set-cookie" and COOKIE in value and "Max-Age=0" not in value:
            assert "HttpOnly" in value and "SameSite=strict" in value, value
        if name.lower() == "content-type" and value.startswith("text/html"):
            assert MARK.encode() not in content, content
