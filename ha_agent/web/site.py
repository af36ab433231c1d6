"""What all routes know: the pairs, the users, and who asks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import cast

from starlette.applications import Starlette
from starlette.requests import Request

from ha_agent.adapters.heap import trim_heap
from ha_agent.core.guard import Access
from ha_agent.core.web_settings import Dashboard
from ha_agent.web.http import COOKIE, NEW_LOGIN, Denied
from ha_agent.web.pairs import LocalPair, Pair
from ha_agent.web.remote import RemotePair
from ha_agent.web.render import Words, try_out
from ha_agent.web.sessions import CHECKS, CHECKS_OF_ADDRESS, MOST_STREAMS, STREAMS_A_USER, Gate, Places, Session, Sessions
from ha_agent.web.sign_on import NAME as SIGNED_ON
from ha_agent.web.texts import choose_language
from ha_agent.web.users import Account, UserFile

LANGUAGE_COOKIE, THEME_COOKIE = "ha_agent_language", "ha_agent_theme"
THEMES = ("light", "dark")
TIDY_S = 20.0


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
                self.pairs[name] = LocalPair(name, settings.run_dir, self.web.poll_s, try_out)
            else:
                self.pairs[name] = RemotePair(name, settings, self.web.poll_s, try_out)
        self.stopping = asyncio.Event()
        self.streams = Places(MOST_STREAMS, STREAMS_A_USER)
        self._checks = Places(CHECKS, CHECKS_OF_ADDRESS)
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
        """Returns to the system what pages and answers needed."""
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
        session = self.sessions.find(token, time.monotonic(), self.users.account) if token else None
        return session if (name := request.scope.get(SIGNED_ON)) is None else self._signed_on(request, name, session)

    def _signed_on(self, request: Request, name: str, session: Session | None) -> Session | None:
        """The login of somebody whom a proxy vouches for; a browser that has none yet gets one with the answer.

        It is a login as any other: what changes something needs the token of one of its pages, which no page of another site
        has, although the proxy adds the header to whatever that has a browser send. Raises ``Denied``.
        """
        if (account := self.users.account(name)) is None:
            raise Denied(403, "the proxy has signed on somebody who is no user here; ha-agent-web user add")
        if session is not None and session.account == account:
            return session
        if NEW_LOGIN in request.scope:
            return cast(Session, request.scope[NEW_LOGIN][1])
        if request.method != "GET" or "text/html" not in request.headers.get("accept", ""):
            # A script has a token; logins that nobody keeps are not begun for it.
            return None
        request.scope[NEW_LOGIN] = self.sessions.begin(account, time.monotonic())
        return cast(Session, request.scope[NEW_LOGIN][1])

    def identify(self, request: Request) -> tuple[Account | None, Session | None]:
        """Who asks, and by which login; without one it is by a token, which no browser sends by itself."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            self.users.load()
            return self.users.check_token(token.strip()), None
        session = self.session_of(request)
        return (session.account if session else None), session

    def require(self, request: Request, access: Access) -> Account:
        """The account of the request. Raises ``Denied`` where there is none, or where it lacks the right."""
        account, _ = self.identify(request)
        if account is None:
            raise Denied(401, "log in first")
        if access is Access.OPERATE and (account.access is not Access.OPERATE or self.web.read_only):
            raise Denied(403, "you may look, not change anything")
        return account

    async def log_in(self, name: str, password: str, address: str) -> Account:
        """The user with this name and password. Raises ``Denied``; after a few failures for a while without a check."""
        keys = (f"user {name[:64]}", f"address {address}")
        wait_s = self.gate.wait_s(keys, time.monotonic())
        if wait_s > 0:
            raise Denied(429, "too many failed logins; try again later", wait_s)
        self.users.load()
        if not self._checks.take(address):
            raise Denied(503, "too many logins at once; try again", 1.0)
        self.gate.count(keys, time.monotonic())
        loop = asyncio.get_running_loop()
        try:
            account = await loop.run_in_executor(self._hasher, self.users.check_password, name, password[:1024])
        finally:
            self._checks.give_back(address)
        if account is None:
            raise Denied(401, "name or password is wrong")
        self.gate.succeeded(keys)
        return account

    def words(self, request: Request, session: Session | None) -> Words:
        """The language of a page, and who looks."""
        header = request.headers.get("accept-language", "")
        language = choose_language(request.cookies.get(LANGUAGE_COOKIE), self.web.language, header)
        theme = request.cookies.get(THEME_COOKIE, "")
        theme = theme if theme in THEMES else ""
        if session is None:
            words = Words(language, None, None, "", time.time())
            words.theme = theme
            return words
        access = Access.READ if self.web.read_only else session.account.access
        words = Words(language, session.account.name, access, session.csrf, time.time())
        words.pairs, words.theme = self.pairs, theme
        return words
