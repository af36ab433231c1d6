"""The dashboard's routes: pages, their live parts, the JSON API, metrics and the role endpoints."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ha_agent.adapters.heap import trim_heap
from ha_agent.core.guard import Access
from ha_agent.core.web_settings import Dashboard
from ha_agent.web.metrics import render_metrics
from ha_agent.web.pairs import ACTIONS, LocalPair, Pair, PairRefused, PairUnreachable, Result
from ha_agent.web.remote import RemotePair
from ha_agent.web.render import Words, describe_pair, read_static, render, render_parts
from ha_agent.web.sessions import Gate, Session, Sessions, is_csrf
from ha_agent.web.texts import choose_language
from ha_agent.web.users import Account, UserFile, UsersDamaged

COOKIE, LANGUAGE_COOKIE = "ha_agent_session", "ha_agent_language"
MOST_BODY = 64 * 1024
BEAT_S = 15.0
TIDY_S = 20.0
MOST_STREAMS = 100
MOST_EVENTS = 1000
STATIC = {"style.css": "text/css", "app.js": "text/javascript", "icon.svg": "image/svg+xml"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}

Handler = Callable[[Request], Awaitable[Response]]
STATUS_OF = {"done": 200, "incomplete": 202, "refused": 409, "failed": 502, "unreachable": 504}


class Denied(Exception):
    """A request that is not served; ``status`` is HTTP's, the text for whoever made it."""

    def __init__(self, status: int, text: str, retry_s: float | None = None) -> None:
        super().__init__(text)
        self.status, self.retry_s = status, retry_s


class EventStream(Response):
    """Server-sent events, until their end or until nobody listens any more.

    starlette's own streaming response brings anyio's machinery with it, which costs 2 MiB.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes]) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        sending = asyncio.ensure_future(self._send(send))
        gone = asyncio.ensure_future(self._await_disconnect(receive))
        try:
            await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, gone):
                task.cancel()
            await asyncio.gather(sending, gone, return_exceptions=True)

    async def _send(self, send: Send) -> None:
        async for chunk in self._events:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    @staticmethod
    async def _await_disconnect(receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass


class Site:
    """All that the routes share."""

    def __init__(self, dashboard: Dashboard) -> None:
        self.web = dashboard.web
        self.users = UserFile(self.web.users_file)
        self.sessions = Sessions(self.web.session_idle_s, self.web.session_max_s)
        self.gate = Gate()
        self.pairs: dict[str, Pair] = {}
        for name, settings in dashboard.pairs.items():
            if settings.run_dir:
                self.pairs[name] = LocalPair(name, settings.run_dir, self.web.poll_s)
            else:
                self.pairs[name] = RemotePair(name, settings, self.web.poll_s)
        self.stopping = asyncio.Event()
        self.streams = 0
        # One at a time: guessing must not take all processors.
        self._hasher = ThreadPoolExecutor(1, "password")

    @asynccontextmanager
    async def live(self, _app: Starlette) -> AsyncIterator[None]:
        """Follows the pairs as long as the process serves."""
        tasks = [asyncio.create_task(pair.run()) for pair in self.pairs.values()]
        tasks.append(asyncio.create_task(self._tidy()))
        try:
            yield
        finally:
            self.stopping.set()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._hasher.shutdown(wait=False, cancel_futures=True)

    async def _tidy(self) -> None:
        """Gives back to the system what pages and answers needed."""
        while True:
            await asyncio.sleep(TIDY_S)
            trim_heap()

    @property
    def local(self) -> LocalPair | None:
        """The pair of this machine's agent; None where there is none."""
        return next((pair for pair in self.pairs.values() if isinstance(pair, LocalPair)), None)

    def pair_of(self, request: Request) -> Pair:
        """The pair that the path names. Raises ``Denied``."""
        pair = self.pairs.get(request.path_params["pair"])
        if pair is None:
            raise Denied(404, "there is no such pair")
        return pair

    # ---- who asks -----------------------------------------------------------------------------------------

    def session_of(self, request: Request) -> Session | None:
        """The login of a browser, if it has one."""
        token = request.cookies.get(COOKIE)
        self.users.load()
        return self.sessions.find(token, time.monotonic(), self.users.account) if token else None

    def account_of(self, request: Request) -> Account | None:
        """Who asks, by login or by token."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            self.users.load()
            return self.users.check_token(token.strip())
        session = self.session_of(request)
        return session.account if session else None

    def require(self, request: Request, access: Access) -> Account:
        """Who asks, where that one may. Raises ``Denied``."""
        account = self.account_of(request)
        if account is None:
            raise Denied(401, "log in first")
        if access is Access.OPERATE and (account.access is not Access.OPERATE or self.web.read_only):
            raise Denied(403, "you may look, not change anything")
        return account

    async def log_in(self, name: str, password: str, address: str) -> Account:
        """Whose name and password these are. Raises ``Denied``; after a few failures for a while without looking."""
        keys = (f"user {name[:64]}", f"address {address}")
        wait_s = self.gate.wait_s(keys, time.monotonic())
        if wait_s > 0:
            raise Denied(429, "too many failed logins; try again later", wait_s)
        self.users.load()
        loop = asyncio.get_running_loop()
        account = await loop.run_in_executor(self._hasher, self.users.check_password, name, password[:1024])
        if account is None:
            self.gate.failed(keys, time.monotonic())
            raise Denied(401, "name or password is wrong")
        self.gate.succeeded(keys)
        return account

    def words(self, request: Request, session: Session | None) -> Words:
        """The language of a page, and who looks."""
        header = request.headers.get("accept-language", "")
        language = choose_language(request.cookies.get(LANGUAGE_COOKIE), self.web.language, header)
        if session is None:
            return Words(language, None, None, "", time.time())
        access = Access.READ if self.web.read_only else session.account.access
        return Words(language, session.account.name, access, session.csrf, time.time())


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a posted form. Raises ``Denied`` where it is too long."""
    return dict(urllib.parse.parse_qsl((await _read_body(request)).decode("utf-8", "replace")))


async def _read_body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BODY:
            raise Denied(413, "too long")
    return body


def _is_own_form(request: Request) -> bool:
    """Whether a form comes from a page of this site, as far as the browser tells (Sec-Fetch-Site, else Origin)."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    return origin is None or urllib.parse.urlsplit(origin).netloc == request.headers.get("host")


def _address(request: Request) -> str:
    return request.client.host if request.client else "?"


def make_app(dashboard: Dashboard) -> tuple[Starlette, Site]:
    """The application, and what its routes share."""
    site = Site(dashboard)
    pages, api = Pages(site), Api(site)
    routes = [*pages.routes(), *api.routes(), *Probes(site).routes()]
    app = Starlette(routes=routes, lifespan=site.live)
    return app, site


def served(handler: Handler, complain: Callable[[Request, Denied], Response]) -> Handler:
    """``handler`` with its refusals as answers, and the headers that every answer has."""

    async def serve(request: Request) -> Response:
        try:
            response = await handler(request)
        except Denied as error:
            response = complain(request, error)
            if error.retry_s is not None:
                response.headers["Retry-After"] = str(int(error.retry_s) + 1)
        except UsersDamaged as error:
            response = complain(request, Denied(503, str(error)))
        response.headers.setdefault("Cache-Control", "no-store")
        for name, value in HEADERS.items():
            response.headers[name] = value
        return response

    return serve


class Pages:
    """What browsers see."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[Route]:
        """The routes of all pages."""

        def page(path: str, handler: Handler, *methods: str) -> Route:
            return Route(path, served(handler, self._complain), methods=list(methods or ("GET",)))

        return [
            page("/", self._overview),
            page("/login", self._login_page),
            page("/login", self._log_in, "POST"),
            page("/logout", self._log_out, "POST"),
            page("/language", self._set_language, "POST"),
            page("/static/{name}", self._static),
            page("/pairs/{pair}", self._pair),
            page("/pairs/{pair}/live", self._live),
            page("/pairs/{pair}/history", self._history),
            page("/pairs/{pair}/nodes/{node}/programs/{program}", self._program),
            page("/pairs/{pair}/confirm", self._confirm),
            page("/pairs/{pair}/do", self._do, "POST"),
        ]

    def _complain(self, request: Request, error: Denied) -> Response:
        if error.status == 401 and request.method == "GET":
            return RedirectResponse("/login?next=" + urllib.parse.quote(str(request.url.path), safe=""), 303)
        try:
            session = self._site.session_of(request)
        except UsersDamaged:
            session = None
        words = self._site.words(request, session)
        return _page(
            render("error.html", words, title=words.translate("Not done"), text=words.translate(str(error))), error.status
        )

    def _require(self, request: Request) -> Session:
        session = self._site.session_of(request)
        if session is None:
            raise Denied(401, "log in first")
        return session

    async def _require_form(self, request: Request) -> tuple[Session, dict[str, str]]:
        """The login and the fields of a form that changes something. Raises ``Denied`` where no page of ours sent it."""
        session, form = self._require(request), await read_form(request)
        if not is_csrf(session, form.get("csrf", "")):
            raise Denied(403, "this form is too old, or not from this page; load the page again")
        return session, form

    # ---- login --------------------------------------------------------------------------------------------

    async def _login_page(self, request: Request) -> Response:
        words = self._site.words(request, None)
        self._site.users.load()
        empty = self._site.users.is_empty
        return _page(render("login.html", words, problem=None, next=_local(request.query_params.get("next")), empty=empty))

    async def _log_in(self, request: Request) -> Response:
        if not _is_own_form(request):
            # A page of somebody else must not log anybody in either.
            raise Denied(403, "this form is too old, or not from this page; load the page again")
        form = await read_form(request)
        target = _local(form.get("next"))
        try:
            account = await self._site.log_in(form.get("name", ""), form.get("password", ""), _address(request))
        except Denied as error:
            words = self._site.words(request, None)
            problem = words.translate(str(error))
            response = _page(render("login.html", words, problem=problem, next=target, empty=False), error.status)
            if error.retry_s is not None:
                response.headers["Retry-After"] = str(int(error.retry_s) + 1)
            return response
        token, _ = self._site.sessions.begin(account, time.monotonic())
        response = RedirectResponse(target, 303)
        secure = request.url.scheme == "https"
        response.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=secure, path="/")
        return response

    async def _log_out(self, request: Request) -> Response:
        await self._require_form(request)
        self._site.sessions.end(request.cookies[COOKIE])
        response = RedirectResponse("/login", 303)
        response.delete_cookie(COOKIE)
        return response

    async def _set_language(self, request: Request) -> Response:
        form = await read_form(request)
        response = RedirectResponse(_local(form.get("next")), 303)
        response.set_cookie(LANGUAGE_COOKIE, form.get("language", "")[:5], max_age=31536000, samesite="strict", path="/")
        return response

    async def _static(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in STATIC:
            raise Denied(404, "there is no such page")
        content, tag = read_static(name)
        headers = {"ETag": tag, "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=STATIC[name], headers=headers)

    # ---- looking ------------------------------------------------------------------------------------------

    async def _overview(self, request: Request) -> Response:
        session = self._require(request)
        names = list(self._site.pairs)
        if len(names) == 1:
            return RedirectResponse(f"/pairs/{names[0]}", 303)
        words = self._site.words(request, session)
        for pair in self._site.pairs.values():
            pair.watch()
        shown = [describe_pair(pair, words) for pair in self._site.pairs.values()]
        return _page(render("overview.html", words, pairs=shown, names=names))

    async def _pair(self, request: Request) -> Response:
        session, pair = self._require(request), self._site.pair_of(request)
        pair.watch()
        if pair.version == 0:
            await pair.wait_change(0, 2.0)
        words = self._site.words(request, session)
        parts = render_parts(pair, words)
        return _page(render("pair.html", words, name=pair.name, names=list(self._site.pairs), parts=parts))

    async def _live(self, request: Request) -> Response:
        """The parts of a pair's page as server-sent events, each when it has changed (html.spec.whatwg.org, 9.2)."""
        session, pair = self._require(request), self._site.pair_of(request)
        if self._site.streams >= MOST_STREAMS:
            raise Denied(503, "too many pages are open")
        return EventStream(self._stream(request, session, pair))

    async def _stream(self, request: Request, session: Session, pair: Pair) -> AsyncIterator[bytes]:
        sent: dict[str, str] = {}
        version, token, began = -1, request.cookies.get(COOKIE, ""), time.time()
        self._site.streams += 1
        try:
            while not self._site.stopping.is_set():
                self._site.users.load()
                if self._site.sessions.find(token, time.monotonic(), self._site.users.account) is not session:
                    yield b"event: over\ndata: {}\n\n"
                    return
                pair.watch()
                if pair.version != version:
                    version = pair.version
                    words = self._site.words(request, session)
                    words.ages_at = began
                    parts = render_parts(pair, words)
                    fresh = {name: html for name, html in parts.items() if sent.get(name) != html}
                    sent.update(fresh)
                    if fresh:
                        yield f"event: parts\ndata: {json.dumps(fresh)}\n\n".encode()
                await self._wait(pair, version)
                yield b": \n\n"
        finally:
            self._site.streams -= 1

    async def _wait(self, pair: Pair, version: int) -> None:
        """Until something has changed, or the process ends, and not for longer than ``BEAT_S``."""
        waits = [asyncio.ensure_future(w) for w in (pair.wait_change(version, BEAT_S), self._site.stopping.wait())]
        try:
            await asyncio.wait(waits, timeout=BEAT_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _history(self, request: Request) -> Response:
        session, pair = self._require(request), self._site.pair_of(request)
        words = self._site.words(request, session)
        try:
            events = await pair.read_history(MOST_EVENTS)
        except (PairUnreachable, PairRefused) as error:
            raise Denied(504, str(error)) from None
        shown = {"name": pair.name, "events": list(reversed(events))}
        return _page(render("history.html", words, name=pair.name, names=list(self._site.pairs), pair=shown))

    async def _program(self, request: Request) -> Response:
        session, pair = self._require(request), self._site.pair_of(request)
        node, program = request.path_params["node"], request.path_params["program"]
        words = self._site.words(request, session)
        row = _row_of(pair, node, program)
        logs: list[tuple[str, str, str | None]] = []
        for stream in ("stdout", "stderr"):
            try:
                logs.append((stream, await pair.read_log(node, program, stream), None))
            except (PairUnreachable, PairRefused) as error:
                logs.append((stream, "", str(error)))
        given = {"name": pair.name, "names": list(self._site.pairs), "node": node, "row": row, "logs": logs}
        return _page(render("program.html", words, **given))

    # ---- doing --------------------------------------------------------------------------------------------

    async def _confirm(self, request: Request) -> Response:
        """Names the consequence of an action, before it is done."""
        session, pair = self._require(request), self._site.pair_of(request)
        self._site.require(request, Access.OPERATE)
        action, program = request.query_params.get("action", ""), request.query_params.get("program", "")
        if action not in (*ACTIONS, "switchover"):
            raise Denied(400, "there is no such action")
        words = self._site.words(request, session)
        shown = describe_pair(pair, words)
        given = {"name": pair.name, "names": list(self._site.pairs), "action": action, "program": program, "pair": shown}
        return _page(render("confirm.html", words, **given))

    async def _do(self, request: Request) -> Response:
        session, form = await self._require_form(request)
        pair = self._site.pair_of(request)
        account = self._site.require(request, Access.OPERATE)
        action, program = form.get("action", ""), form.get("program", "")
        result = await do_action(pair, action, program, account.name)
        words = self._site.words(request, session)
        given = {"name": pair.name, "names": list(self._site.pairs), "action": action, "program": program, "result": result}
        return _page(render("result.html", words, **given), STATUS_OF[result.outcome])


async def do_action(pair: Pair, action: str, program: str, by: str) -> Result:
    """Does what an operator has confirmed. Raises ``Denied`` where there is no such action."""
    if action == "switchover":
        return await pair.switch_over(by)
    if action not in ACTIONS or not program or len(program) > 300 or program == "all" or program.startswith("-"):
        raise Denied(400, "there is no such action")
    return await pair.act(action, program, by)


def _row_of(pair: Pair, node: str, program: str) -> Mapping[str, Any]:
    """What is known of a program on a node. Raises ``Denied``."""
    for sight in pair.known.sights:
        if sight.name == node and sight.view is not None:
            for row in sight.view["programs"]:
                if row["name"] == program:
                    return dict(row)
    raise Denied(404, "there is no such program on that node")


def _local(target: str | None) -> str:
    """``target`` where it is a path of this site; nobody is to be sent elsewhere."""
    return target if target and target.startswith("/") and not target.startswith(("//", "/\\")) else "/"


def _page(text: str, status: int = 200) -> Response:
    return Response(text, status, media_type="text/html")


class Api:
    """JSON for scripts and for other dashboards (docs/api.md)."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[Route]:
        """The routes of the API."""

        def route(path: str, handler: Handler, method: str = "GET") -> Route:
            return Route(f"/api/v1{path}", served(handler, self._complain), methods=[method])

        program = "/pairs/{pair}/nodes/{node}/programs/{program}"
        return [
            route("/login", self._log_in, "POST"),
            route("/logout", self._log_out, "POST"),
            route("/whoami", self._whoami),
            route("/pairs", self._list_pairs),
            route("/pairs/{pair}", self._show_pair),
            route("/pairs/{pair}/programs", self._list_programs),
            route("/pairs/{pair}/history", self._show_history),
            route("/pairs/{pair}/alerts", self._list_alerts),
            route(program + "/log", self._show_log),
            route("/pairs/{pair}/programs/{program}/{action}", self._act, "POST"),
            route("/pairs/{pair}/switchover", self._switch_over, "POST"),
        ]

    def _complain(self, _request: Request, error: Denied) -> Response:
        return JSONResponse({"error": str(error)}, error.status)

    async def _read(self, request: Request) -> dict[str, Any]:
        """The JSON object that was sent. Raises ``Denied``; what no page of somebody else can send (no simple request)."""
        if request.headers.get("content-type", "").split(";")[0].strip() != "application/json":
            raise Denied(415, "send JSON, with Content-Type: application/json")
        try:
            content = json.loads(await _read_body(request) or b"{}")
        except ValueError as error:
            raise Denied(400, f"no JSON: {error}") from None
        if not isinstance(content, dict):
            raise Denied(400, "not a JSON object")
        return content

    def _require_change(self, request: Request) -> Account:
        """Who changes something: a token, or a login with its anti-forgery token in a header. Raises ``Denied``."""
        account = self._site.require(request, Access.OPERATE)
        if not request.headers.get("authorization", ""):
            session = self._site.session_of(request)
            if session is None or not is_csrf(session, request.headers.get("x-csrf-token", "")):
                raise Denied(403, "with a login, send the header X-CSRF-Token as /api/v1/login gave it")
        return account

    async def _log_in(self, request: Request) -> Response:
        content = await self._read(request)
        name, password = content.get("name"), content.get("password")
        if not isinstance(name, str) or not isinstance(password, str):
            raise Denied(400, "name and password are needed")
        account = await self._site.log_in(name, password, _address(request))
        token, session = self._site.sessions.begin(account, time.monotonic())
        response = JSONResponse({"name": account.name, "access": account.access.value, "csrf": session.csrf})
        secure = request.url.scheme == "https"
        response.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=secure, path="/")
        return response

    async def _log_out(self, request: Request) -> Response:
        self._site.require(request, Access.READ)
        self._site.sessions.end(request.cookies.get(COOKIE, ""))
        response = JSONResponse({"outcome": "done"})
        response.delete_cookie(COOKIE)
        return response

    async def _whoami(self, request: Request) -> Response:
        account = self._site.require(request, Access.READ)
        return JSONResponse({"name": account.name, "access": account.access.value})

    async def _list_pairs(self, request: Request) -> Response:
        self._site.require(request, Access.READ)
        return JSONResponse({"pairs": list(self._site.pairs)})

    def _pair(self, request: Request) -> Pair:
        self._site.require(request, Access.READ)
        pair = self._site.pair_of(request)
        pair.watch()
        return pair

    async def _show_pair(self, request: Request) -> Response:
        pair, now = self._pair(request), time.time()
        if pair.version == 0:
            await pair.wait_change(0, 2.0)
        rows = [
            {
                "name": sight.name,
                "problem": sight.problem,
                "age_s": None if sight.at is None else round(max(0.0, now - sight.at), 3),
                "view": sight.view,
            }
            for sight in pair.known.sights
        ]
        return JSONResponse({"pair": pair.name, "nodes": rows, "events": pair.known.events})

    async def _list_programs(self, request: Request) -> Response:
        pair = self._pair(request)
        rows = [
            {"node": sight.name, "current": sight.problem is None, **row}
            for sight in pair.known.sights
            for row in (sight.view["programs"] if sight.view else ())
        ]
        return JSONResponse({"programs": rows})

    async def _show_history(self, request: Request) -> Response:
        pair = self._pair(request)
        try:
            count = min(max(int(request.query_params.get("count", "100")), 1), MOST_EVENTS)
            return JSONResponse({"events": await pair.read_history(count)})
        except ValueError:
            raise Denied(400, "count is no number") from None
        except (PairUnreachable, PairRefused) as error:
            raise Denied(504, str(error)) from None

    async def _list_alerts(self, request: Request) -> Response:
        pair = self._pair(request)
        return JSONResponse({"nodes": [s.view["alerts"] for s in pair.known.sights if s.view]})

    async def _show_log(self, request: Request) -> Response:
        pair, stream = self._pair(request), request.query_params.get("stream", "stdout")
        if stream not in ("stdout", "stderr"):
            raise Denied(400, "stream is stdout or stderr")
        node, program = request.path_params["node"], request.path_params["program"]
        if node not in {sight.name for sight in pair.known.sights}:
            raise Denied(404, "there is no such node")
        try:
            return JSONResponse({"text": await pair.read_log(node, program, stream)})
        except PairUnreachable as error:
            raise Denied(504, str(error)) from None
        except PairRefused as error:
            raise Denied(409, str(error)) from None

    async def _act(self, request: Request) -> Response:
        account, pair = self._require_change(request), self._site.pair_of(request)
        content = await self._read(request)
        action, program = request.path_params["action"], request.path_params["program"]
        return _answer(await do_action(pair, action, program, _behalf(account, content)))

    async def _switch_over(self, request: Request) -> Response:
        account, pair = self._require_change(request), self._site.pair_of(request)
        content = await self._read(request)
        return _answer(await do_action(pair, "switchover", "", _behalf(account, content)))


def _behalf(account: Account, content: Mapping[str, Any]) -> str:
    """Who is written into the history: the account, and for whom it says that it acts."""
    behalf = content.get("on_behalf")
    return f"{behalf[:40]} via {account.name}" if isinstance(behalf, str) and behalf else account.name


def _answer(result: Result) -> Response:
    content = {"outcome": result.outcome, "lines": list(result.lines), "warnings": list(result.warnings)}
    return JSONResponse(content, STATUS_OF[result.outcome])


class Probes:
    """What machines ask: Prometheus, and load balancers."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[Route]:
        """The routes of all probes."""

        def route(path: str, handler: Handler) -> Route:
            return Route(path, served(handler, self._complain), methods=["GET"])

        return [
            route("/metrics", self._metrics),
            route("/active", self._active),
            route("/standby", self._standby),
            route("/healthz", self._health),
        ]

    def _complain(self, _request: Request, error: Denied) -> Response:
        return PlainTextResponse(f"{error}\n", error.status)

    def _local(self) -> LocalPair:
        if self._site.local is None:
            raise Denied(404, "no agent of this machine is configured here")
        return self._site.local

    async def _role(self) -> str | None:
        """The node's role as it is now; None where the agent does not answer."""
        try:
            return await self._local().ask_role()
        except PairUnreachable:
            return None

    async def _metrics(self, request: Request) -> Response:
        if not self._site.web.open_metrics:
            self._site.require(request, Access.READ)
        local = self._local()
        view: Mapping[str, Any] | None = None
        with contextlib.suppress(PairUnreachable):
            view = await local.ask_own()
        age_s = 0.0 if local.own.at is None else max(0.0, time.time() - local.own.at)
        return Response(render_metrics(view, local.name, age_s), media_type="text/plain; version=0.0.4")

    async def _is_role(self, wanted: str) -> Response:
        role = await self._role()
        return PlainTextResponse(f"{role or 'unknown'}\n", 200 if role == wanted else 503)

    async def _active(self, _request: Request) -> Response:
        return await self._is_role("active")

    async def _standby(self, _request: Request) -> Response:
        return await self._is_role("standby")

    async def _health(self, _request: Request) -> Response:
        role = await self._role()
        return PlainTextResponse("the agent answers\n" if role else "the agent does not answer\n", 200 if role else 503)
