"""The dashboard as one application."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette

from ha_agent.core.web_settings import Dashboard
from ha_agent.web.api import Api
from ha_agent.web.pages import Pages
from ha_agent.web.probes import Probes
from ha_agent.web.site import Site


def make_app(dashboard: Dashboard) -> tuple[Starlette, Site]:
    """The application, and what its routes share."""
    site = Site(dashboard)
    pages, api = Pages(site), Api(site)
    routes = [*pages.routes(), *api.routes(), *Probes(site).routes()]
    # The errors of starlette itself are plain text in English: no such path, no such method, a page that failed.
    handlers: dict[Any, Any] = dict.fromkeys((404, 405, 500), pages.complain_anywhere)
    app = Starlette(routes=routes, lifespan=site.live, exception_handlers=handlers)
    return app, site
