"""The witness's record in etcd, through the JSON gateway of its v3 API (3.4 and later): one key, changed by transactions.

No lease is used, so no time that etcd measures matters. Shapes: https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway/.
Blocking calls run in threads of their own; one that is over its time has its socket closed.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import json
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ha_agent.adapters.witness import NoAnswer
from ha_agent.core.reasons import reason_of
from ha_agent.core.witness_record import ABSENT, NOTHING_THERE, BadRecord, Record, Sight, parse_record
from ha_agent.core.witness_watch import Outcome

if TYPE_CHECKING:
    import ssl

HTTPS_PORT = 443

THREADS = 3
"""Calls that may hang at once, in a name service that does not answer; further ones count as not answered."""

LONGEST_ANSWER = 65536

UNAUTHENTICATED = ("invalid auth token", "user name is empty", "revision of auth store is old")
"""What etcd says where a token has expired, was lost in a restart, or is older than a change of users."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EtcdAccess:
    """How etcd is reached. ``password_file`` holds the password of ``user``; both are empty without authentication."""

    endpoints: tuple[str, ...]
    key: str
    ca_file: str = ""
    cert_file: str = ""
    cert_key_file: str = ""
    user: str = ""
    password_file: str = ""


@dataclass(slots=True)
class _Attempt:
    """A call under way: until when, the present endpoint's part of that, and the connection, to be ended from outside."""

    until: float
    part_until: float
    connection: http.client.HTTPConnection | None = None
    is_over: bool = False

    def begin_part(self, endpoints_left: int) -> None:
        """Gives the next endpoint half of the time where there are others, all of it where it is the last."""
        self.part_until = self.until
        self.part_until -= self.left_s() / 2 if endpoints_left > 1 else 0.0

    def left_s(self) -> float:
        left = self.part_until - time.monotonic()
        if left <= 0 or self.is_over:
            raise NoAnswer("no answer in time")
        return left

    def end(self) -> None:
        self.is_over = True
        sock = self.connection.sock if self.connection is not None else None
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


@dataclass(slots=True)
class _Refused(Exception):
    """etcd answered with an error."""

    status: int
    text: str

    def __str__(self) -> str:
        return f"{self.text} (HTTP {self.status})"


def _encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode("ascii")


class _TlsConnection(http.client.HTTPConnection):
    """HTTPS, also where http.client was loaded without ssl."""

    def __init__(self, host: str, port: int, timeout_s: float, context: ssl.SSLContext) -> None:
        super().__init__(host, port, timeout=timeout_s)
        self._context = context

    def connect(self) -> None:
        """Connects, and checks the certificate against the host's name. Raises ``OSError``."""
        super().connect()
        self.sock = self._context.wrap_socket(self.sock, server_hostname=self.host)


class EtcdWitness:
    """The record under ``access.key``. Endpoints are asked in turn, beginning with the one that answered last; while
    there are others, one has no more than half of the time that is left."""

    def __init__(self, access: EtcdAccess) -> None:
        self._access = access
        self._key = _encode(access.key)
        self._pool = ThreadPoolExecutor(THREADS, "etcd")
        self._idle: dict[str, http.client.HTTPConnection] = {}
        self._first = 0
        self._token = ""
        self._problem = ""
        self._is_closed = False

    @property
    def problem(self) -> str:
        return self._problem

    async def run(self) -> None:
        """Each question brings its own connection."""

    async def read(self, timeout_s: float) -> Sight:
        """The record, by a linearizable read. Raises ``NoAnswer``."""
        answer = await self._ask("/v3/kv/range", {"key": self._key}, timeout_s)
        with self._noting():
            return self._sight(answer)

    async def swap(self, expected: Sight, record: Record, timeout_s: float) -> tuple[Outcome, Sight | None]:
        """Writes where revision and text are still those of ``expected``."""
        conditions: list[dict[str, Any]] = [
            {"key": self._key, "target": "MOD", "result": "EQUAL", "mod_revision": str(expected.revision)}
        ]
        if expected.record is not None:
            value = _encode(expected.record.to_text())
            conditions.append({"key": self._key, "target": "VALUE", "result": "EQUAL", "value": value})
        put = {"request_put": {"key": self._key, "value": _encode(record.to_text())}}
        body = {"compare": conditions, "success": [put], "failure": [{"request_range": {"key": self._key}}]}
        try:
            answer = await self._ask("/v3/kv/txn", body, timeout_s)
            with self._noting():
                if answer.get("succeeded") is True:
                    return Outcome.DONE, Sight(int(answer["header"]["revision"]), record)
                return Outcome.OTHER, self._sight(answer["responses"][0]["response_range"])
        except NoAnswer:
            return Outcome.UNKNOWN, None

    def close(self) -> None:
        """Closes the connections; a call that hangs ends by itself."""
        self._is_closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)
        while self._idle:
            self._idle.popitem()[1].close()

    def _sight(self, answer: dict[str, Any]) -> Sight:
        found = answer.get("kvs") or []
        if not found:
            return NOTHING_THERE
        text = base64.b64decode(found[0].get("value", ""), validate=True).decode()
        revision = int(found[0]["mod_revision"])
        if revision <= ABSENT:
            raise ValueError("a revision below 1")
        return Sight(revision, parse_record(text))

    @contextlib.contextmanager
    def _noting(self) -> Any:
        """What etcd says makes no sense: that is no answer."""
        try:
            yield
        except BadRecord as error:
            self._problem = str(error)
            raise NoAnswer(self._problem) from None
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            self._problem = f"etcd answered what is not understood: {reason_of(error):.100}"
            raise NoAnswer(self._problem) from None

    # ---- one call

    async def _ask(self, path: str, body: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        until = time.monotonic() + timeout_s
        attempt = _Attempt(until, until)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                answer = await loop.run_in_executor(self._pool, self._ask_any, path, body, attempt)
        except TimeoutError:
            attempt.end()
            self._problem = f"etcd: no answer within {timeout_s:g} s"
            raise NoAnswer(self._problem) from None
        except (NoAnswer, RuntimeError) as error:
            self._problem = str(error)
            raise NoAnswer(self._problem) from None
        self._problem = ""
        return answer

    def _ask_any(self, path: str, body: dict[str, Any], attempt: _Attempt) -> dict[str, Any]:
        """Asks one endpoint after the other. A write that has arrived may arrive again: then it finds itself."""
        endpoints = self._access.endpoints
        problem = "etcd: no endpoint"
        for turn in range(len(endpoints)):
            number = (self._first + turn) % len(endpoints)
            try:
                attempt.begin_part(len(endpoints) - turn)
                answer = self._ask_one(endpoints[number], path, body, attempt)
            except (OSError, http.client.HTTPException, ValueError, NoAnswer) as error:
                problem = f"{endpoints[number]}: {error or type(error).__name__}"
            except _Refused as error:
                problem = f"{endpoints[number]}: {error}"
            else:
                self._first = number
                return answer
        self._first = (self._first + 1) % len(endpoints)
        raise NoAnswer(problem)

    def _ask_one(self, endpoint: str, path: str, body: dict[str, Any], attempt: _Attempt) -> dict[str, Any]:
        """Asks with a token where there is a user; one that etcd does not know any more is asked for again, once."""
        if self._access.user and not self._token:
            self._token = self._authenticate(endpoint, attempt)
        try:
            return self._post(endpoint, path, body, attempt)
        except _Refused as error:
            if not self._access.user or not any(word in error.text for word in UNAUTHENTICATED):
                raise
            self._token = self._authenticate(endpoint, attempt)
            return self._post(endpoint, path, body, attempt)

    def _authenticate(self, endpoint: str, attempt: _Attempt) -> str:
        self._token = ""
        with open(self._access.password_file, encoding="utf-8") as file:
            password = file.read().rstrip("\n")
        answer = self._post(endpoint, "/v3/auth/authenticate", {"name": self._access.user, "password": password}, attempt)
        return str(answer["token"]) if "token" in answer else ""

    def _post(self, endpoint: str, path: str, body: dict[str, Any], attempt: _Attempt) -> dict[str, Any]:
        kept = self._idle.pop(endpoint, None)
        if kept is not None:
            try:
                return self._post_over(kept, endpoint, path, body, attempt)
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                # The other end had closed it. The question may have arrived all the same: the second one says "other" then.
                pass
        return self._post_over(self._connection(endpoint, attempt), endpoint, path, body, attempt)

    def _connection(self, endpoint: str, attempt: _Attempt) -> http.client.HTTPConnection:
        url = urlsplit(endpoint)
        timeout_s = attempt.left_s()
        if url.scheme == "https":
            return _TlsConnection(url.hostname or "", url.port or HTTPS_PORT, timeout_s, self._tls())
        return http.client.HTTPConnection(url.hostname or "", url.port, timeout=timeout_s)

    def _tls(self) -> ssl.SSLContext:
        access = self._access
        if sys.modules.get("ssl", sys) is None:
            # The daemon does without until somebody needs it (cli/main.py).
            del sys.modules["ssl"]
        import ssl

        context = ssl.create_default_context(cafile=access.ca_file or None)
        if access.cert_file:
            context.load_cert_chain(access.cert_file, access.cert_key_file or None)
        return context

    def _post_over(
        self, connection: http.client.HTTPConnection, endpoint: str, path: str, body: dict[str, Any], attempt: _Attempt
    ) -> dict[str, Any]:
        attempt.connection = connection
        if connection.sock is not None:
            connection.sock.settimeout(attempt.left_s())
        headers = {"Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = self._token
        try:
            connection.request("POST", path, json.dumps(body), headers)
            response = connection.getresponse()
            said = response.read(LONGEST_ANSWER + 1)
            answer = json.loads(said) if len(said) <= LONGEST_ANSWER else None
        except BaseException:
            connection.close()
            raise
        if not isinstance(answer, dict):
            connection.close()
            raise ValueError("what came is not an answer of etcd")
        self._keep(endpoint, connection, response)
        if response.status != http.client.OK:
            raise _Refused(
                response.status, str(answer.get("error") or answer.get("message") or "an error without a text")[:200]
            )
        return answer

    def _keep(self, endpoint: str, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        if self._is_closed or response.will_close or endpoint in self._idle:
            connection.close()
        else:
            self._idle[endpoint] = connection
