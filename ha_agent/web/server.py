"""Runs the application under uvicorn, and ends it without waiting for pages that are open."""

from __future__ import annotations

import gc
import os
import socket
import time
from types import FrameType
from typing import Any, cast

import uvicorn
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from ha_agent.adapters.heap import trim_heap
from ha_agent.adapters.log_lines import set_up_log
from ha_agent.core.web_settings import Dashboard
from ha_agent.core.words import Exit
from ha_agent.web.app import make_app
from ha_agent.web.door import Door
from ha_agent.web.sign_on import SignOn
from ha_agent.web.site import Site


class Server(uvicorn.Server):
    """A server that tells open streams to end before it waits for them."""

    def __init__(self, config: uvicorn.Config, site: Site) -> None:
        super().__init__(config)
        self._site = site

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begins the end."""
        self._site.stopping.set()
        super().handle_exit(sig, frame)


def run_server(dashboard: Dashboard) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit status. Raises ``OSError`` where the address cannot be had."""
    os.umask(0o077)
    # Whoever reaches the port can have uvicorn complain.
    set_up_log("warning")
    web = dashboard.web
    family = socket.AF_INET6 if ":" in web.listen else socket.AF_INET
    listener = socket.create_server((web.listen, web.port), family=family, backlog=128)
    door = Door(listener, web.trusted_proxies, time.monotonic)
    app, site = make_app(dashboard)
    # The door knows connections by their own address, so it stands before what replaces that by a proxy's word.
    behind: Any = ProxyHeadersMiddleware(cast(Any, app), list(web.trusted_proxies)) if web.trusted_proxies else app
    if web.sign_on_header:
        behind = SignOn(behind, web.sign_on_header, web.sign_on_from)
    config = uvicorn.Config(
        door.guard(behind),
        log_config=None,
        log_level="warning",
        access_log=False,
        http="h11",
        loop="asyncio",
        ws="none",
        lifespan="on",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=10,
        ssl_certfile=web.tls_certificate or None,
        ssl_keyfile=web.tls_key or None,
    )
    where = f"{'https' if web.tls_certificate else 'http'}://{web.listen}:{web.port}/"
    print(f"ha-agent-web: serves {', '.join(dashboard.pairs)} at {where}", flush=True)
    trim_heap()
    gc.freeze()
    Server(config, site).run(sockets=[door])
    return Exit.DONE
