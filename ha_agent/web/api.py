"""JSON for scripts and for other dashboards (docs/dashboard.md)."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ha_agent.core.guard import Access
from ha_agent.core.reasons import reason_of
from ha_agent.core.words import CommandOutcome
from ha_agent.web.actions import STATUS_OF, do_action, do_maintenance
from ha_agent.web.http import COOKIE, Denied, Handler, address_of, keep_login, read_body, served
from ha_agent.web.pairs import Pair, PairRefused, PairUnreachable, Result
from ha_agent.web.sessions import is_csrf
from ha_agent.web.site import Site
from ha_agent.web.users import Account

MOST_EVENTS = 1000
MOST_REPORTS = 100


class Api:
    """JSON for scripts and for other dashboards (docs/dashboard.md)."""

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
            route("/pairs/{pair}/conf", self._show_conf),
            route("/pairs/{pair}/kept", self._show_kept),
            route("/pairs/{pair}/programs/{program}/{action}", self._act, "POST"),
            route("/pairs/{pair}/programs/{action}", self._act_on_several, "POST"),
            route("/pairs/{pair}/switchover", self._switch_over, "POST"),
            route("/pairs/{pair}/maintenance", self._set_maintenance, "POST"),
            route("/pairs/{pair}/alerts/test", self._test_alerts, "POST"),
            route("/pairs/{pair}/drills", self._list_drills),
        ]

    def _complain(self, _request: Request, error: Denied) -> Response:
        return JSONResponse({"error": str(error)}, error.status)

    async def _read(self, request: Request) -> dict[str, Any]:
        """The JSON object of a request, of a type that a page of another site cannot send unasked. Raises ``Denied``."""
        if request.headers.get("content-type", "").split(";")[0].strip() != "application/json":
            raise Denied(415, "send JSON, with Content-Type: application/json")
        try:
            content = json.loads(await read_body(request) or b"{}")
        except ValueError as error:
            raise Denied(400, f"no JSON: {reason_of(error)}") from None
        except RecursionError:
            raise Denied(400, "no JSON that is read here: it is nested too deeply") from None
        if not isinstance(content, dict):
            raise Denied(400, "not a JSON object")
        return content

    def _require_change(self, request: Request) -> Account:
        """Who changes something: a token, or a login with its anti-forgery token in a header. Raises ``Denied``."""
        account = self._site.require(request, Access.OPERATE)
        self._require_csrf(request)
        return account

    def _require_csrf(self, request: Request) -> None:
        """Raises ``Denied`` where a browser may have sent this by itself, whatever other headers came with its cookie."""
        _, session = self._site.identify(request)
        if session is not None and not is_csrf(session, request.headers.get("x-csrf-token", "")):
            raise Denied(403, "with a login, send the header X-CSRF-Token as /api/v1/login gave it")

    async def _log_in(self, request: Request) -> Response:
        content = await self._read(request)
        name, password = content.get("name"), content.get("password")
        if not isinstance(name, str) or not isinstance(password, str):
            raise Denied(400, "name and password are needed")
        account = await self._site.log_in(name, password, address_of(request))
        token, session = self._site.sessions.begin(account, time.monotonic())
        response = JSONResponse({"name": account.name, "access": account.access.value, "csrf": session.csrf})
        keep_login(request, response, token)
        return response

    async def _log_out(self, request: Request) -> Response:
        self._site.require(request, Access.READ)
        self._require_csrf(request)
        self._site.sessions.end(request.cookies.get(COOKIE, ""))
        response = JSONResponse({"outcome": CommandOutcome.DONE})
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
        # As events, which is what readers of these know.
        changes = [{"code": "role", "text": f"{one['from']} -> {one['to']}", **one} for one in pair.known.changes]
        return JSONResponse({"pair": pair.name, "nodes": rows, "events": pair.known.events, "changes": changes})

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
            raise Denied(400, "count is not a number") from None
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
            if (begin := _number(request, "begin")) is not None:
                part = await pair.read_log_piece(node, program, stream, begin)
            else:
                part = await pair.read_log(node, program, stream, _number(request, "after"))
            return JSONResponse({"text": part.text, "end": part.end, "whole": part.is_whole})
        except PairUnreachable as error:
            raise Denied(504, str(error)) from None
        except PairRefused as error:
            raise Denied(409, str(error)) from None

    async def _show_conf(self, request: Request) -> Response:
        account, pair = self._site.require(request, Access.OPERATE), self._pair(request)
        try:
            return JSONResponse(await pair.read_conf(request.query_params.get("path", ""), account.name))
        except PairUnreachable as error:
            raise Denied(504, str(error)) from None
        except PairRefused as error:
            raise Denied(409, str(error)) from None

    async def _show_kept(self, request: Request) -> Response:
        account, pair, given = self._site.require(request, Access.OPERATE), self._pair(request), request.query_params
        if (node := given.get("node", "")) not in {sight.name for sight in pair.known.sights}:
            raise Denied(404, "there is no such node")
        copy = {key: given.get(key, "") for key in ("generation", "path", "sha256")}
        try:
            return JSONResponse({"text": await pair.read_kept(node, copy, account.name)})
        except PairUnreachable as error:
            raise Denied(504, str(error)) from None
        except PairRefused as error:
            raise Denied(409, str(error)) from None

    async def _act(self, request: Request) -> Response:
        account, pair = self._require_change(request), self._site.pair_of(request)
        content = await self._read(request)
        action, program = request.path_params["action"], request.path_params["program"]
        return _answer(await do_action(pair, action, [program], _behalf(account, content)))

    async def _act_on_several(self, request: Request) -> Response:
        account, pair = self._require_change(request), self._site.pair_of(request)
        content = await self._read(request)
        programs = content.get("programs")
        if not isinstance(programs, list) or not all(isinstance(one, str) for one in programs):
            raise Denied(400, "programs is a list of names")
        action = request.path_params["action"]
        return _answer(await do_action(pair, action, programs, _behalf(account, content)))

    async def _set_maintenance(self, request: Request) -> Response:
        account, pair = self._require_change(request), self._site.pair_of(request)
        content = await self._read(request)
        for_s, reason = content.get("for_s", 0), content.get("reason", "")
        if isinstance(for_s, bool) or not isinstance(for_s, int | float) or not isinstance(reason, str):
            raise Denied(400, "for_s is a number of seconds, reason a text")
        return _answer(await do_maintenance(pair, float(for_s), reason, _behalf(account, content)))

    async def _test_alerts(self, request: Request) -> Response:
        account, pair = self._require_change(request), self._site.pair_of(request)
        content = await self._read(request)
        if not isinstance(sink := content.get("sink", ""), str):
            raise Denied(400, "sink is a name")
        return _answer(await pair.test_alerts(sink, _behalf(account, content)))

    async def _list_drills(self, request: Request) -> Response:
        pair, count = self._pair(request), _number(request, "count")
        try:
            return JSONResponse({"reports": await pair.read_reports(min(count if count is not None else 20, MOST_REPORTS))})
        except (PairUnreachable, PairRefused) as error:
            raise Denied(504, str(error)) from None

    async def _switch_over(self, request: Request) -> Response:
        account, pair = self._require_change(request), self._site.pair_of(request)
        content = await self._read(request)
        return _answer(await do_action(pair, "switchover", (), _behalf(account, content)))


def _number(request: Request, name: str) -> int | None:
    """A number of bytes in the query; None where it is not there. Raises ``Denied``."""
    given = request.query_params.get(name)
    if given is None:
        return None
    if not (given.isascii() and given.isdigit() and len(given) < 16):
        raise Denied(400, f"{name} is not a number")
    return int(given)


def _behalf(account: Account, content: Mapping[str, Any]) -> str:
    """The name for the history: the account, and for whom it says that it acts."""
    behalf = content.get("on_behalf")
    return f"{behalf[:40]} via {account.name}" if isinstance(behalf, str) and behalf else account.name


def _answer(result: Result) -> Response:
    content = {"outcome": result.outcome, "lines": list(result.lines), "warnings": list(result.warnings)}
    return JSONResponse(content, STATUS_OF[result.outcome])
