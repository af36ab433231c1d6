"""Pages for whoever is on duty: maintenance, alerts and their sinks, reports of failover-tests, a switchover under way."""

from __future__ import annotations

import time
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from ha_agent.core.guard import Access
from ha_agent.web.actions import STATUS_OF, do_maintenance
from ha_agent.web.http import Denied
from ha_agent.web.pairs import Pair, PairRefused, PairUnreachable, Result
from ha_agent.web.progress import describe_progress
from ha_agent.web.render import Words, describe_pair, page_of, render_page
from ha_agent.web.sessions import Session
from ha_agent.web.site import Site

MOST_REPORTS = 50
HOURS = (("1 h", 3600), ("4 h", 4 * 3600), ("12 h", 12 * 3600), ("24 h", 24 * 3600), ("7 d", 7 * 86400))


class DutyPages:
    """``require``: the login of a request; ``require_form``: that of a form of ours, with its fields.

    Both raise ``Denied``.
    """

    def __init__(
        self,
        site: Site,
        require: Callable[[Request], Session],
        require_form: Callable[[Request], Awaitable[tuple[Session, dict[str, str]]]],
    ) -> None:
        self._site, self._require, self._require_form = site, require, require_form

    def routes(self, page: Callable[..., Route]) -> list[Route]:
        """The routes, made by ``page`` of path, handler and method."""
        return [
            page("/pairs/{pair}/maintenance", self._maintenance),
            page("/pairs/{pair}/maintenance", self._set_maintenance, "POST"),
            page("/pairs/{pair}/alerts", self._alerts),
            page("/pairs/{pair}/alerts/test", self._test_alerts, "POST"),
            page("/pairs/{pair}/drills", self._drills),
            page("/pairs/{pair}/drills/{drill}", self._drill),
            page("/pairs/{pair}/switchover", self._progress),
        ]

    async def _begin(self, request: Request) -> tuple[Pair, Words]:
        session, pair = self._require(request), self._site.pair_of(request)
        pair.watch()
        if pair.version == 0:
            await pair.wait_change(0, 2.0)
        return pair, self._site.words(request, session)

    def _show(self, template: str, pair: Pair, words: Words, **more: Any) -> Response:
        given = {"name": pair.name, "names": list(self._site.pairs), "pair": describe_pair(pair, words)}
        return page_of(render_page(template, words, **given, **more))

    async def _maintenance(self, request: Request) -> Response:
        pair, words = await self._begin(request)
        return self._show("maintenance.html", pair, words, hours=HOURS)

    async def _set_maintenance(self, request: Request) -> Response:
        session, form = await self._require_form(request)
        pair, account = self._site.pair_of(request), self._site.require(request, Access.OPERATE)
        given = form.get("for_s", "0")
        if not (given.isascii() and given.isdigit() and len(given) < 8):
            raise Denied(400, "a maintenance lasts between 1 s and 7 days")
        result = await do_maintenance(pair, float(given), form.get("reason", ""), account.name)
        return self._tell(request, session, pair, "maintenance", result)

    async def _alerts(self, request: Request) -> Response:
        pair, words = await self._begin(request)
        notes = [
            note for sight in pair.known.sights if sight.view for note in sight.view["alerts"]["recent"] if "text" in note
        ]
        recent = sorted(notes, key=lambda note: float(note["at"]), reverse=True)
        return self._show("alerts.html", pair, words, recent=recent)

    async def _test_alerts(self, request: Request) -> Response:
        session, form = await self._require_form(request)
        pair, account = self._site.pair_of(request), self._site.require(request, Access.OPERATE)
        result = await pair.test_alerts(form.get("sink", ""), account.name)
        return self._tell(request, session, pair, "test", result)

    def _tell(self, request: Request, session: Session, pair: Pair, action: str, result: Result) -> Response:
        words = self._site.words(request, session)
        given = {"name": pair.name, "names": list(self._site.pairs), "action": action, "programs": [], "result": result}
        return page_of(render_page("result.html", words, **given), STATUS_OF[result.outcome])

    async def _reports(self, pair: Pair) -> list[Mapping[str, Any]]:
        try:
            return list(reversed(await pair.read_reports(MOST_REPORTS)))
        except (PairUnreachable, PairRefused) as error:
            raise Denied(504, str(error)) from None

    async def _drills(self, request: Request) -> Response:
        pair, words = await self._begin(request)
        return self._show("drills.html", pair, words, reports=[summarise(one) for one in await self._reports(pair)])

    async def _drill(self, request: Request) -> Response:
        pair, words = await self._begin(request)
        found = [one for one in await self._reports(pair) if one.get("id") == request.path_params["drill"]]
        if not found:
            raise Denied(404, "there is no such report")
        return self._show("drill.html", pair, words, report=found[0], summary=summarise(found[0]))

    async def _progress(self, request: Request) -> Response:
        pair, words = await self._begin(request)
        source, began = read_progress(request)
        shown = describe_progress(pair.known.sights, pair.known.events, source, began, time.time())
        return self._show("switchover.html", pair, words, shown=shown, query=urllib.parse.urlencode(request.query_params))


def read_progress(request: Request) -> tuple[str, float]:
    """Which node hands over, and when that began, by the query of a page. Raises ``Denied``."""
    given = request.query_params.get("began", "")
    if not (given.isascii() and given.replace(".", "", 1).isdigit() and len(given) < 20):
        raise Denied(400, "there is no such switchover")
    return request.query_params.get("source", "")[:100], float(given)


def show_begun(pair: Pair, source: str, began: float) -> Response:
    """Sends a browser to the page on which a switchover that has just begun is seen."""
    query = urllib.parse.urlencode({"source": source, "began": f"{began:.3f}"})
    return RedirectResponse(f"/pairs/{urllib.parse.quote(pair.name)}/switchover?{query}", 303)


def summarise(report: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a report that are compared over time, as seconds; what it lacks is None."""
    figures: Mapping[str, Any] = report.get("figures") or {}
    outages: Mapping[str, float] = report.get("outage_s") or report.get("program_gap_s") or {}
    return {
        "id": report.get("id"),
        "at": report.get("fault_at"),
        "mode": report.get("mode"),
        "from": report.get("from"),
        "to": report.get("to"),
        "passed": bool(report.get("passed")),
        "detection_s": figures.get("detection_s"),
        "vip_moved_s": figures.get("vip_moved_s"),
        "all_running_s": figures.get("all_running_s"),
        "outage_s": max(outages.values(), default=None),
    }
