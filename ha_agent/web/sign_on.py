"""Sign-on by a reverse proxy: the name of a user in a header, believed from listed addresses alone."""

from __future__ import annotations

from collections.abc import Collection

from starlette.types import ASGIApp, Receive, Scope, Send

NAME = "ha_agent.sign_on"
"""The key in a request's scope under which the name stands that the proxy has vouched for."""

LONGEST_NAME = 64


class SignOn:
    """Stands before everything that changes whom a request comes from: here its address is that of the connection.

    From any other address the header is taken out, and so it is where it comes twice: then nobody is vouched for.
    """

    def __init__(self, app: ASGIApp, header: str, addresses: Collection[str]) -> None:
        self._app, self._header, self._addresses = app, header.lower().encode("ascii"), frozenset(addresses)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] == "http":
            names = [value for name, value in scope["headers"] if name.lower() == self._header]
            rest = [(name, value) for name, value in scope["headers"] if name.lower() != self._header]
            scope = {**scope, "headers": rest}
            client = scope.get("client")
            if len(names) == 1 and 0 < len(names[0]) <= LONGEST_NAME and client and client[0] in self._addresses:
                scope[NAME] = names[0].decode("latin-1")
        await self._app(scope, receive, send)
