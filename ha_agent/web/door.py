"""The door of the dashboard: how many connections stand in it, whose, and for how long they may let it wait.

A connection *waits* while no whole request of it is here: from its beginning (TLS included), while a body is on its way, and
after an answer. What waits too long is shown out. An address may have so many that wait; where it has more, or the door is
full, the newest connection takes the place of the one that has waited longest, of the address that has most. Whoever sends a
request at once is let in, so silent connections can take the dashboard, and the probes of load balancers, from nobody.
Requests at work are bounded beside that, the probes excepted.

It stands outside of uvicorn, as a listening socket and as an ASGI application, and knows nothing of its insides.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Callable, Collection
from typing import Any

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ha_agent.web.http import MOST_BODY

HEAD_S = 10.0
"""For so long a connection may wait until its first request is whole; a body may take as long."""

LINGER_S = 30.0
"""For so long it may wait after an answer, which includes the time that it takes to be read."""

SEND_S = 30.0
"""For so long a part of an answer may wait to be taken."""

SWEEP_S = 1.0
MOST_CONNECTIONS = 240
MOST_WAITING = 64
"""Of one address. Those that came within the last second do not count: their requests may be here, and not read yet."""

FRESH_S = 1.0
MOST_REQUESTS = 64
PROBES = ("/active", "/standby", "/healthz")
LIVE = "/live"
"""The last part of the paths of streams, which have a bound of their own (``sessions.MOST_STREAMS``)."""


class Visitor(socket.socket):
    """One accepted connection. ``waits_since``: monotonic; None while a request of it is at work."""

    def __init__(self, fileno: int, address: str, now: float, left: Callable[[Visitor], None]) -> None:
        super().__init__(fileno=fileno)
        self.address = address
        self.client: tuple[str, int] = ("", 0)
        self.waits_since: float | None = now
        self.may_wait_s = HEAD_S
        self.sends_since: float | None = None
        self.at_work = 0
        self._left = left

    def close(self) -> None:
        """Closes it, and says so."""
        self._left(self)
        super().close()

    def show_out(self) -> None:
        """Ends the connection, whatever stands above it: both directions are shut, which every transport notices."""
        self._left(self)
        with contextlib.suppress(OSError):
            self.shutdown(socket.SHUT_RDWR)

    def is_overdue(self, now: float) -> bool:
        """Whether it has let the door wait for too long."""
        waits = self.waits_since is not None and now - self.waits_since > self.may_wait_s
        return waits or (self.sends_since is not None and now - self.sends_since > SEND_S)


class Door(socket.socket):
    """Listens as ``listener`` did, whose descriptor it takes over. ``proxies``: addresses without a limit of their own."""

    def __init__(self, listener: socket.socket, proxies: Collection[str], clock: Callable[[], float]) -> None:
        super().__init__(fileno=listener.detach())
        self._proxies, self._clock = frozenset(map(network_of, proxies)), clock
        self._visitors: dict[tuple[str, int], Visitor] = {}
        self._sweeping: asyncio.TimerHandle | None = None
        self._requests = 0

    # ---- connections --------------------------------------------------------------------------------------

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection that is let in. Raises ``BlockingIOError`` where there is none, and ``OSError``."""
        while True:
            accepted, client = super().accept()
            address = network_of(str(client[0]))
            if not self._make_room(address):
                accepted.close()
                continue
            visitor = Visitor(accepted.detach(), address, self._clock(), self._left)
            visitor.client = str(client[0]), int(client[1])
            self._visitors[visitor.client] = visitor
            if self._sweeping is None:
                self._sweeping = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)
            return visitor, client

    def _make_room(self, address: str) -> bool:
        """Whether one more of ``address`` can come in; one that waits goes where there is no room."""
        waiting: dict[str, list[tuple[float, Visitor]]] = {}
        for one in self._visitors.values():
            if one.waits_since is not None:
                waiting.setdefault(one.address, []).append((one.waits_since, one))
        own, aged = waiting.get(address, []), self._clock() - FRESH_S
        if address not in self._proxies and sum(since < aged for since, _ in own) >= MOST_WAITING:
            _show_out_first(own)
        elif len(self._visitors) >= MOST_CONNECTIONS:
            if not waiting:
                return False
            _show_out_first(max(waiting.values(), key=len))
        return True

    def _left(self, visitor: Visitor) -> None:
        if self._visitors.get(visitor.client) is visitor:
            del self._visitors[visitor.client]

    def _sweep(self) -> None:
        now = self._clock()
        for visitor in [v for v in self._visitors.values() if v.is_overdue(now)]:
            visitor.show_out()
        again = bool(self._visitors)
        self._sweeping = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep) if again else None

    # ---- requests -----------------------------------------------------------------------------------------

    def guard(self, app: ASGIApp) -> ASGIApp:
        """``app`` behind this door."""

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            visitor = self._visitors.get(tuple(scope.get("client") or ()))
            if visitor is None:
                # It was shown out a moment ago: nobody reads this.
                await _too_much("shown out")(scope, receive, send)
                return
            await self._serve(visitor, app, scope, await _read_request(visitor, receive, self._clock()), send)

        return serve

    async def _serve(self, visitor: Visitor, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Has ``app`` answer a request that is whole, where there is room for it."""
        counted = scope["path"] not in PROBES and not scope["path"].endswith(LIVE)
        if counted and self._requests >= MOST_REQUESTS:
            app = _too_much("too many requests at once")

        async def sending(message: Message) -> None:
            visitor.sends_since = self._clock()
            try:
                await send(message)
            finally:
                visitor.sends_since = None

        visitor.at_work, visitor.waits_since = visitor.at_work + 1, None
        self._requests += counted
        try:
            await app(scope, receive, sending)
        finally:
            self._requests -= counted
            visitor.at_work -= 1
            if not visitor.at_work:
                visitor.waits_since, visitor.may_wait_s = self._clock(), LINGER_S


async def _read_request(visitor: Visitor, receive: Receive, now: float) -> Receive:
    """Waits for the whole body, or for more of one than is read here; returns what receives that, and then what follows."""
    if visitor.may_wait_s != HEAD_S and not visitor.at_work:
        # Not the first request of this connection: the time for it begins now.
        visitor.waits_since, visitor.may_wait_s = now, HEAD_S
    here: list[Message] = []
    size, more = 0, True
    while more and size <= MOST_BODY:
        here.append(await receive())
        size += len(here[-1].get("body", b""))
        more = bool(here[-1].get("more_body", False))

    async def receiving() -> Message:
        return here.pop(0) if here else await receive()

    return receiving


def _too_much(text: str) -> PlainTextResponse:
    return PlainTextResponse(f"{text}\n", 503, {"Retry-After": "1"})


def _show_out_first(waiting: list[tuple[float, Visitor]]) -> None:
    min(waiting, key=lambda row: row[0])[1].show_out()


def network_of(address: str) -> str:
    """What counts as one address: of IPv6 the network of 64 bits, in which one machine has all addresses that it likes."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, 64), strict=False))
