"""The dashboard on a node of the lab, and a client for it that is not a browser."""

from __future__ import annotations

import http.client
import json
import os
import signal
import ssl
import subprocess
import urllib.parse
from typing import Any

from ha_agent.lab.layout import ADDRESSES
from tests.certificates import make_certificate
from tests.lab_support import Pair, wait_for
from tests.receivers import network_of

PORT = 8420
PASSWORD = "correct horse battery"


class Reply:
    """What came back."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status, self.headers = response.status, {k.lower(): v for k, v in response.getheaders()}
        self.text = response.read().decode()

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Web:
    """``ha-agent-web`` on one node, as its own user."""

    def __init__(self, pair: Pair, node: str, conf: str = "", port: int = PORT, *, tls: bool = False) -> None:
        self.pair, self.node, self.port, self.tls = pair, node, port, tls
        if tls:
            conf = 'tls_certificate = "/etc/ha-agent/web.crt"\ntls_key = "/etc/ha-agent/web.key"\n' + conf
        self._conf = f'[web]\nlisten = "0.0.0.0"\nplain_http = true\nport = {port}\npoll_s = 0.3\n' + conf
        self._process: subprocess.Popen[bytes] | None = None
        self.config = f"/etc/ha-agent/web-{port}.toml"

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{ADDRESSES[self.node]}:{self.port}"

    @property
    def certificate(self) -> str:
        return os.path.join(self.folder, "web.crt")

    @property
    def folder(self) -> str:
        return self.pair.lab.paths.disk(self.node, "etc-ha-agent")

    def write_conf(self) -> None:
        if self.tls and not os.path.exists(self.certificate):
            key, certificate = make_certificate(ADDRESSES[self.node])
            for path, content in ((self.certificate, certificate), (os.path.join(self.folder, "web.key"), key)):
                with open(path, "wb") as file:
                    file.write(content)
                    os.fchmod(file.fileno(), 0o644)
        with open(os.path.join(self.folder, f"web-{self.port}.toml"), "w", encoding="utf-8") as file:
            file.write(self._conf)

    def add_users(self) -> None:
        """alice may operate, bob may look."""
        self.write_conf()
        for name, more in (("alice", "--operator "), ("bob", "")):
            command = f"echo '{PASSWORD}' | ha-agent-web --config {self.config} user add {name} {more}--password-stdin"
            self.pair.shell(self.node, command)

    def add_token(self, name: str, *, operator: bool) -> str:
        words = ["ha-agent-web", "--config", self.config, "token", "add", name, *(["--operator"] if operator else [])]
        return self.pair.lab.run(self.node, *words).strip()

    def start(self) -> None:
        if self._process is not None:
            # nsenter stopped with the process that a test has stopped.
            self._process.send_signal(signal.SIGCONT)
            self._process.wait(10)
        self.write_conf()
        become = ["setpriv", "--reuid=ha-agent-web", "--regid=ha-agent-web", "--init-groups"]
        words = [*become, "ha-agent-web", "--config", self.config, "serve"]
        with open(os.path.join(self.pair.lab.paths.disk(self.node, "log"), f"web-{self.port}.log"), "ab") as log:
            self._process = subprocess.Popen(
                self.pair.lab.words_inside(self.node, words), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        wait_for("the dashboard", self._answers, 20, 0.1, self.log)

    def _answers(self) -> bool:
        try:
            return self.get("/login").status == 200
        except OSError:
            return False

    def log(self) -> str:
        with open(
            os.path.join(self.pair.lab.paths.disk(self.node, "log"), f"web-{self.port}.log"), encoding="utf-8"
        ) as file:
            return file.read()[-3000:]

    def pid(self) -> int:
        """Process id on the node."""
        return int(self.pair.shell(self.node, f"pgrep -f '[h]a-agent-web --config {self.config} serve' | tail -1"))

    def memory(self, what: str = "VmRSS") -> int:
        """Its memory in bytes."""
        line = self.pair.shell(self.node, f"grep {what} /proc/{self.pid()}/status")
        return int(line.split()[1]) * 1024

    def stop(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        # nsenter itself does not pass signals on; the node's process is signalled.
        self.pair.lab.run(self.node, "kill", f"-{signal.SIGTERM.value}", str(self.pid()), check=False)
        self._process.wait(10)

    # ---- asking -------------------------------------------------------------------------------------------

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        timeout_s: float = 30.0,
    ) -> Reply:
        """One request from outside the nodes."""
        with network_of(self.pair.lab):
            connection = self._connect()
            try:
                connection.request(method, path, body, headers or {})
                return Reply(connection.getresponse())
            finally:
                connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        address = ADDRESSES[self.node]
        if not self.tls:
            return http.client.HTTPConnection(address, self.port, timeout=30)
        context = ssl.create_default_context(cafile=self.certificate)
        return http.client.HTTPSConnection(address, self.port, timeout=30, context=context)

    def get(self, path: str, **headers: str) -> Reply:
        return self.ask("GET", path, None, {k.replace("_", "-"): v for k, v in headers.items()})

    def api(self, method: str, path: str, token: str, content: Any = None) -> Reply:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        body = None if method == "GET" else json.dumps(content or {}).encode()
        return self.ask(method, "/api/v1" + path, body, headers)

    def form(self, path: str, cookie: str = "", **fields: str) -> Reply:
        """A form as a browser posts it."""
        headers = {"Content-Type": "application/x-www-form-urlencoded", **({"Cookie": cookie} if cookie else {})}
        return self.ask("POST", path, urllib.parse.urlencode(fields).encode(), headers)

    def log_in(self, name: str, password: str = PASSWORD) -> str:
        """The session cookie of somebody who logs in."""
        reply = self.form("/login", name=name, password=password)
        assert reply.status == 303, reply.text
        return reply.headers["set-cookie"].split(";")[0]
