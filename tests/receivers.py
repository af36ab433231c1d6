"""Who receives alerts in tests: a real HTTP server and a real mail server, on loopback or in the lab's outer network."""

from __future__ import annotations

import contextlib
import ctypes
import email
import email.policy
import json
import os
import ssl
import threading
import time
from collections.abc import Iterator
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message as MailHandler
from aiosmtpd.smtp import AuthResult

from ha_agent.lab.control import Lab

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _enter(fd: int) -> None:
    if _libc.setns(fd, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "setns")


@contextlib.contextmanager
def network_of(lab: Lab) -> Iterator[None]:
    """What this thread and those that it starts open, they open as the lab's client outside the two nodes (setns(2))."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    theirs = os.open(f"/proc/{lab.switch_pid()}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(theirs)
        yield
    finally:
        _enter(own)
        os.close(own)
        os.close(theirs)


class WebhookServer(ThreadingHTTPServer):
    """Takes POSTs of JSON. ``status`` is what it answers with, ``takes_s`` how long it thinks about it."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, host: str, port: int = 0) -> None:
        super().__init__((host, port), _Hook)
        self.status, self.takes_s, self.answer = 200, 0.0, b"ok"
        self.location = ""
        self.bodies: list[Any] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.asked = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://{self.server_address[0]!s}:{self.server_address[1]}/hook"

    def codes(self) -> list[tuple[str, str]]:
        """Kind and code of what came, in order."""
        return [(body["kind"], body["code"]) for body in self.bodies]


class _Hook(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Where a client follows a redirect to; it must not come."""
        server = self.server
        assert isinstance(server, WebhookServer)
        server.asked += 1
        self.send_response(200)
        self.end_headers()

    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, WebhookServer)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server.asked += 1
        time.sleep(server.takes_s)
        if server.status < 300:
            server.bodies.append(json.loads(body))
            server.paths.append(self.path)
            server.headers.append(dict(self.headers))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.send_response(server.status)
            if server.location:
                self.send_header("Location", server.location)
            self.send_header("Content-Length", str(len(server.answer)))
            self.end_headers()
            self.wfile.write(server.answer)

    def log_message(self, *_: object) -> None:
        pass


class _Mails(MailHandler):
    def __init__(self) -> None:
        super().__init__()
        self.mails: list[EmailMessage] = []

    def prepare_message(self, session: Any, envelope: Any) -> Any:
        made = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(made, EmailMessage)
        made["X-RcptTo"] = ", ".join(envelope.rcpt_tos)
        return made

    def handle_message(self, message: Any) -> None:
        self.mails.append(message)


class MailServer(Controller):
    """Takes mails; ``mails`` are what it has got, ``logins`` who has given which password.

    ``tls``: TLS from the start. ``authenticates``: it offers logins, also without TLS.
    """

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None = None, *, authenticates: bool = False) -> None:
        self.taken = _Mails()
        self.logins: list[tuple[bytes, bytes]] = []
        more: dict[str, Any] = {"authenticator": self._take_login, "auth_require_tls": False} if authenticates else {}
        super().__init__(self.taken, hostname=host, port=port, ssl_context=tls, ready_timeout=10.0, **more)

    def _take_login(self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, given: Any) -> AuthResult:
        self.logins.append((given.login, given.password))
        return AuthResult(success=True)

    @property
    def mails(self) -> list[EmailMessage]:
        return self.taken.mails
