"""What all routes share: refusals, headers, bodies, and streams of server-sent events."""

from __future__ import annotations

import asyncio
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ha_agent.web.users import UsersDamaged

MOST_BODY = 64 * 1024
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}

COOKIE = "ha_agent_session"
NEW_LOGIN = "ha_agent.new_login"
"""The key in a request's scope under which the token and the session stand that its answer gives the browser."""

Handler = Callable[[Request], Awaitable[Response]]


class Denied(Exception):
    """A request that is not served; ``status`` is HTTP's, the text is for the client that made it."""

    def __init__(self, status: int, text: str, retry_s: float | None = None) -> None:
        super().__init__(text)
        self.status, self.retry_s = status, retry_s


class EventStream(Response):
    """Server-sent events, until their end or until nobody listens any more; ``over`` is called then.

    starlette's own streaming response brings anyio's machinery with it, which costs 6 MiB.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes], over: Callable[[], None]) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._events, self._over = events, over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await self._send_until_gone(receive, send)
        finally:
            self._over()

    async def _send_until_gone(self, receive: Receive, send: Send) -> None:
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


class Chunks(EventStream):
    """A text that is sent in pieces, as they come; ``over`` is called at its end."""

    media_type = "text/plain"

    def __init__(self, pieces: AsyncIterator[bytes], over: Callable[[], None], headers: Mapping[str, str]) -> None:
        super().__init__(pieces, over)
        self.headers.update(headers)


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a posted form, each once. Raises ``Denied`` where it is too long."""
    return dict(await read_fields(request))


async def read_fields(request: Request) -> list[tuple[str, str]]:
    """The fields of a posted form, which may come several times. Raises ``Denied`` where it is too long."""
    return urllib.parse.parse_qsl((await read_body(request)).decode("utf-8", "replace"))


async def read_body(request: Request) -> bytes:
    """What was sent. Raises ``Denied`` where it is too long."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BODY:
            raise Denied(413, "too long")
    return body


def is_own_form(request: Request) -> bool:
    """Whether a form comes from a page of this site, as far as the browser tells (Sec-Fetch-Site, else Origin)."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    try:
        return origin is None or urllib.parse.urlsplit(origin).netloc == request.headers.get("host")
    except ValueError:
        return False


def address_of(request: Request) -> str:
    """Where a request comes from; by a trusted proxy's word behind one."""
    return request.client.host if request.client else "?"


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
        if (login := request.scope.get(NEW_LOGIN)) is not None:
            keep_login(request, response, login[0])
        return dress(response)

    return serve


def keep_login(request: Request, response: Response, token: str) -> None:
    """Gives the browser the token of its login."""
    secure = request.url.scheme == "https"
    response.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=secure, path="/")


def dress(response: Response) -> Response:
    """``response`` with the headers that every answer has."""
    response.headers.setdefault("Cache-Control", "no-store")
    for name, value in HEADERS.items():
        response.headers[name] = value
    return response
