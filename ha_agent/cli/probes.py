"""Probes of a service behind the VIP: asked again and again from this node, each in a thread of its own."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from ha_agent.core.drill import Attempt

INTERVAL_S = 0.05
ATTEMPT_S = 0.5


class BadProbe(ValueError):
    """The text is not a probe; the message says what a probe looks like."""


def parse_probe(text: str) -> Callable[[], bool]:
    """What asks once and says whether the answer was good. Raises ``BadProbe``.

    ``tcp://HOST:PORT`` connects, ``http://HOST[:PORT]/PATH`` wants a status below 400, ``redis://HOST[:PORT]`` an answer to
    PING (also a refusal for want of a password: the server is there).
    """
    help_text = f"{text!r} is not a probe; write tcp://HOST:PORT, http://HOST:PORT/PATH or redis://HOST:PORT"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise BadProbe(help_text) from None
    if not host or parts.scheme not in ("tcp", "http", "redis") or (parts.scheme == "tcp" and port is None):
        raise BadProbe(help_text)
    if parts.scheme == "http":
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return lambda: _ask_http(host, port or 80, path)
    if parts.scheme == "redis":
        return lambda: _ask_redis(host, port or 6379)
    return lambda: _connect(host, port or 0)


def _connect(host: str, port: int) -> bool:
    with socket.create_connection((host, port), ATTEMPT_S):
        return True


def _ask_http(host: str, port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=ATTEMPT_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status < 400
    finally:
        connection.close()


def _ask_redis(host: str, port: int) -> bool:
    with socket.create_connection((host, port), ATTEMPT_S) as sock:
        sock.sendall(b"PING\r\n")
        return sock.recv(64).startswith((b"+PONG", b"-NOAUTH", b"-WRONGPASS"))


class ProbeRun:
    """Asks until stopped."""

    def __init__(self, name: str, ask: Callable[[], bool]) -> None:
        self.name, self._ask = name, ask
        self.attempts: list[Attempt] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Ends after the attempt under way."""
        self._stop.set()
        self._thread.join(2 * ATTEMPT_S)

    def is_answered(self) -> bool:
        """Whether the newest attempt was answered well."""
        return bool(self.attempts) and self.attempts[-1].ok

    def _work(self) -> None:
        while not self._stop.is_set():
            began = time.time()
            try:
                ok = self._ask()
            except (OSError, http.client.HTTPException):
                ok = False
            took = time.time() - began
            self.attempts.append(Attempt(began, took, ok))
            self._stop.wait(max(0.0, INTERVAL_S - took))
