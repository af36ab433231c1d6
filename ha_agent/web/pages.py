"""What browsers see: pages, and their live parts."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
import urllib.parse
from collections.abc import AsyncIterator

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from ha_agent.core.guard import Access
from ha_agent.core.words import CommandOutcome
from ha_agent.web.actions import STATUS_OF, do_action
from ha_agent.web.duty_pages import DutyPages, read_progress, show_begun
from ha_agent.web.http import (
    COOKIE,
    Denied,
    EventStream,
    Handler,
    address_of,
    dress,
    is_own_form,
    keep_login,
    read_fields,
    read_form,
    served,
)
from ha_agent.web.pairs import ACTIONS, Pair, PairRefused, PairUnreachable
from ha_agent.web.program_pages import ProgramPages
from ha_agent.web.progress import describe_progress
from ha_agent.web.render import Words, describe_pair, page_of, read_static, render, render_page, render_parts, say_title
from ha_agent.web.sessions import Session, is_csrf
from ha_agent.web.site import LANGUAGE_COOKIE, THEME_COOKIE, THEMES, Site
from ha_agent.web.texts import LANGUAGES
from ha_agent.web.users import UsersDamaged

BEAT_S = 15.0
MOST_EVENTS = 1000
STATIC = {"style.css": "text/css", "app.js": "text/javascript", "icon.svg": "image/svg+xml"}


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
            page("/theme", self._set_theme, "POST"),
            page("/static/{name}", self._static),
            page("/pairs/{pair}", self._pair),
            page("/pairs/{pair}/live", self._live),
            page("/pairs/{pair}/history", self._history),
            page("/pairs/{pair}/confirm", self._confirm),
            page("/pairs/{pair}/do", self._do, "POST"),
            *DutyPages(self._site, self._require, self._require_form).routes(page),
            *ProgramPages(self._site, self._require).routes(page),
        ]

    async def complain_anywhere(self, request: Request, error: Exception) -> Response:
        """What is no page of ours, and what went wrong with one, in the dress of all pages; JSON below /api."""
        status = error.status_code if isinstance(error, HTTPException) else 500
        text = {404: "there is no such page", 405: "this cannot be done to that page"}.get(
            status, "this page failed; the log of ha-agent-web says how"
        )
        if request.url.path.startswith("/api/"):
            return dress(JSONResponse({"error": text}, status))
        return dress(self._complain(request, Denied(status, text)))

    def _complain(self, request: Request, error: Denied) -> Response:
        if error.status == 401 and request.method == "GET":
            return RedirectResponse("/login?next=" + urllib.parse.quote(str(request.url.path), safe=""), 303)
        try:
            session = self._site.session_of(request)
        except (UsersDamaged, Denied):
            session = None
        words = self._site.words(request, session)
        return page_of(
            render_page("error.html", words, title=words.translate("Not done"), text=words.translate(str(error))),
            error.status,
        )

    def _require(self, request: Request) -> Session:
        session = self._site.session_of(request)
        if session is None:
            raise Denied(401, "log in first")
        return session

    async def _require_form(self, request: Request) -> tuple[Session, dict[str, str]]:
        """The login and the fields of a form that changes something. Raises ``Denied`` where no page of ours sent it."""
        session, fields = await self._require_fields(request)
        return session, dict(fields)

    async def _require_fields(self, request: Request) -> tuple[Session, list[tuple[str, str]]]:
        """As ``_require_form``, for fields that may come several times."""
        session, fields = self._require(request), await read_fields(request)
        if not is_csrf(session, dict(fields).get("csrf", "")):
            raise Denied(403, "this form is too old, or not from this page; load the page again")
        return session, fields

    # ---- login --------------------------------------------------------------------------------------------

    async def _login_page(self, request: Request) -> Response:
        words = self._site.words(request, None)
        self._site.users.load()
        empty = self._site.users.is_empty
        return page_of(
            render_page("login.html", words, problem=None, next=_local(request.query_params.get("next")), empty=empty)
        )

    async def _log_in(self, request: Request) -> Response:
        if not is_own_form(request):
            # A page of somebody else must not log anybody in either.
            raise Denied(403, "this form is too old, or not from this page; load the page again")
        form = await read_form(request)
        target = _local(form.get("next"))
        try:
            account = await self._site.log_in(form.get("name", ""), form.get("password", ""), address_of(request))
        except Denied as error:
            words = self._site.words(request, None)
            problem = words.translate(str(error))
            response = page_of(render_page("login.html", words, problem=problem, next=target, empty=False), error.status)
            if error.retry_s is not None:
                response.headers["Retry-After"] = str(int(error.retry_s) + 1)
            return response
        token, _ = self._site.sessions.begin(account, time.monotonic())
        response = RedirectResponse(target, 303)
        keep_login(request, response, token)
        return response

    async def _log_out(self, request: Request) -> Response:
        await self._require_form(request)
        self._site.sessions.end(request.cookies[COOKIE])
        response = RedirectResponse("/login", 303)
        response.delete_cookie(COOKIE)
        return response

    async def _set_language(self, request: Request) -> Response:
        form = await read_form(request)
        if (language := form.get("language")) not in LANGUAGES:
            raise Denied(400, "there is no such language")
        response = RedirectResponse(_local(form.get("next")), 303)
        response.set_cookie(LANGUAGE_COOKIE, language, max_age=31536000, samesite="strict", path="/")
        return response

    async def _set_theme(self, request: Request) -> Response:
        form = await read_form(request)
        if (theme := form.get("theme")) not in (*THEMES, "auto"):
            raise Denied(400, "there is no such theme")
        response = RedirectResponse(_local(form.get("next")), 303)
        response.set_cookie(THEME_COOKIE, str(theme), max_age=31536000, samesite="strict", path="/")
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
        return page_of(render_page("overview.html", words, pairs=shown, names=names))

    async def _pair(self, request: Request) -> Response:
        session, pair = self._require(request), self._site.pair_of(request)
        pair.watch()
        if pair.version == 0:
            await pair.wait_change(0, 2.0)
        words = self._site.words(request, session)
        parts, title = render_parts(pair, words), say_title(pair, words)
        return page_of(
            render_page("pair.html", words, name=pair.name, names=list(self._site.pairs), parts=parts, title=title)
        )

    async def _live(self, request: Request) -> Response:
        """The parts of a pair's page as server-sent events, each when it has changed (html.spec.whatwg.org, 9.2)."""
        session, pair = self._require(request), self._site.pair_of(request)
        if "began" in request.query_params:
            read_progress(request)
        name = session.account.name
        if not self._site.streams.take(name):
            raise Denied(503, "too many pages are open")
        return EventStream(self._stream(request, session, pair), lambda: self._site.streams.give_back(name))

    async def _stream(self, request: Request, session: Session, pair: Pair) -> AsyncIterator[bytes]:
        sent: dict[str, bytes] = {}
        version, token, began = -1, request.cookies.get(COOKIE, ""), time.time()
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
                parts = self._render_live(request, pair, words)
                # A page that is open for days costs the marks of its parts, not the parts.
                marks = {name: hashlib.sha256(html.encode()).digest() for name, html in parts.items()}
                fresh = {name: html for name, html in parts.items() if sent.get(name) != marks[name]}
                sent = marks
                if fresh:
                    yield f"event: parts\ndata: {json.dumps(fresh)}\n\n".encode()
            await self._wait(pair, version)
            yield b": \n\n"

    def _render_live(self, request: Request, pair: Pair, words: Words) -> dict[str, str]:
        """The live parts of the page that the stream belongs to."""
        if "began" not in request.query_params:
            return render_parts(pair, words)
        source, began = read_progress(request)
        shown = describe_progress(pair.known.sights, pair.known.events, source, began, time.time())
        return {"switchover": render("_switchover.html", words, shown=shown)}

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
        return page_of(render_page("history.html", words, name=pair.name, names=list(self._site.pairs), pair=shown))

    # ---- doing --------------------------------------------------------------------------------------------

    async def _confirm(self, request: Request) -> Response:
        """Names the consequence of an action, before it is done."""
        session, pair = self._require(request), self._site.pair_of(request)
        self._site.require(request, Access.OPERATE)
        action, programs = request.query_params.get("action", ""), request.query_params.getlist("program")
        if action not in (*ACTIONS, "switchover"):
            raise Denied(400, "there is no such action")
        if action != "switchover" and not programs:
            raise Denied(400, "no program was chosen")
        words = self._site.words(request, session)
        shown = describe_pair(pair, words)
        given = {"name": pair.name, "names": list(self._site.pairs), "action": action, "programs": programs, "pair": shown}
        return page_of(render_page("confirm.html", words, **given))

    async def _do(self, request: Request) -> Response:
        session, fields = await self._require_fields(request)
        pair = self._site.pair_of(request)
        account = self._site.require(request, Access.OPERATE)
        action, programs = dict(fields).get("action", ""), [value for name, value in fields if name == "program"]
        active, began = pair.find_active(), time.time()
        result = await do_action(pair, action, programs, account.name)
        if action == "switchover" and active is not None and result.outcome == CommandOutcome.DONE:
            return show_begun(pair, active.name, began)
        words = self._site.words(request, session)
        given = {
            "name": pair.name,
            "names": list(self._site.pairs),
            "action": action,
            "programs": programs,
            "result": result,
        }
        return page_of(render_page("result.html", words, **given), STATUS_OF[result.outcome])


def _local(target: str | None) -> str:
    """``target`` where it is a path of this site; nobody is to be sent elsewhere."""
    return target if target and target.startswith("/") and not target.startswith(("//", "/\\")) else "/"
