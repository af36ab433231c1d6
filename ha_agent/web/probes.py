"""What machines ask: Prometheus, and load balancers (docs/metrics.md)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ha_agent.core.guard import Access
from ha_agent.web.http import Denied, Handler, served
from ha_agent.web.metrics import render_metrics
from ha_agent.web.pairs import LocalPair, PairUnreachable
from ha_agent.web.site import Site


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
        body = render_metrics(view, local.name, age_s, local.judge(time.time()))
        return Response(body, media_type="text/plain; version=0.0.4")

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
