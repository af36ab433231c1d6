"""Real etcd members on the loopback, for tests: one or three of them, with TLS and users where asked for."""

from __future__ import annotations

import base64
import json
import os
import pathlib
import signal
import socket
import subprocess
import time
import urllib.request
from typing import Any

from tests.certificates import make_certificate

HOST = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens at now."""
    socks = [socket.socket() for _ in range(count)]
    for sock in socks:
        sock.bind((HOST, 0))
    ports = [int(sock.getsockname()[1]) for sock in socks]
    for sock in socks:
        sock.close()
    return ports


class Etcd:
    """``size`` members with their data below ``directory``. ``tls``: clients must use TLS and bring a certificate."""

    def __init__(self, directory: pathlib.Path, size: int = 1, tls: bool = False) -> None:
        self.directory, self.tls = directory, tls
        ports = free_ports(2 * size)
        self.clients, self.peers = ports[:size], ports[size:]
        self.ca_file, self.key_file = str(directory / "ca.pem"), str(directory / "key.pem")
        if tls:
            key, certificate = make_certificate(HOST)
            pathlib.Path(self.key_file).write_bytes(key)
            pathlib.Path(self.ca_file).write_bytes(certificate)
        self.members: list[subprocess.Popen[bytes] | None] = [None] * size

    @property
    def endpoints(self) -> tuple[str, ...]:
        return tuple(f"{'https' if self.tls else 'http'}://{HOST}:{port}" for port in self.clients)

    def start(self, number: int) -> None:
        """Starts a member; ``wait`` says when there is a quorum."""
        peers = [f"http://{HOST}:{port}" for port in self.peers]
        words = ["etcd", "--name", f"m{number}", "--data-dir", self.data_dir(number), "--logger", "zap"]
        words += ["--heartbeat-interval", "50", "--election-timeout", "500"]
        words += ["--listen-client-urls", self.endpoints[number], "--advertise-client-urls", self.endpoints[number]]
        words += ["--listen-peer-urls", peers[number], "--initial-advertise-peer-urls", peers[number]]
        words += ["--initial-cluster", ",".join(f"m{n}={url}" for n, url in enumerate(peers))]
        if self.tls:
            words += ["--cert-file", self.ca_file, "--key-file", self.key_file]
            words += ["--trusted-ca-file", self.ca_file, "--client-cert-auth"]
        with open(self.directory / f"m{number}.log", "ab") as log:
            self.members[number] = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def data_dir(self, number: int) -> str:
        return str(self.directory / f"data{number}")

    def up(self) -> None:
        """All members, until there is a quorum."""
        for number in range(len(self.members)):
            self.start(number)
        self.wait()

    def wait(self) -> None:
        """Until a linearizable read is answered. Raises ``AssertionError`` after 30 s."""
        until = time.monotonic() + 30
        while time.monotonic() < until:
            for number, member in enumerate(self.members):
                if member is not None and member.poll() is None:
                    try:
                        self.post("/v3/kv/range", {"key": "eA=="}, number)
                        return
                    except OSError:
                        pass
            time.sleep(0.05)
        raise AssertionError((self.directory / "m0.log").read_text(encoding="utf-8")[-2000:])

    def post(self, path: str, body: dict[str, Any], number: int = 0, token: str = "") -> dict[str, Any]:
        """What a member answers, by other code than the adapter's. Raises ``OSError``."""
        import ssl

        context = None
        if self.tls:
            context = ssl.create_default_context(cafile=self.ca_file)
            context.load_cert_chain(self.ca_file, self.key_file)
        headers = {"Authorization": token} if token else {}
        request = urllib.request.Request(self.endpoints[number] + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=2, context=context) as answer:
            return dict(json.load(answer))

    def signal(self, number: int, what: signal.Signals) -> None:
        member = self.members[number]
        assert member is not None
        member.send_signal(what)
        if what is signal.SIGKILL:
            member.wait()
        if what is signal.SIGSTOP:
            # The signal is sent, and each of its threads works until it takes it in.
            until = time.monotonic() + 5
            while _is_at_work(member.pid) and time.monotonic() < until:
                time.sleep(0.005)

    def add_user(self, name: str, password: str, key: str) -> None:
        """Switches authentication on; ``name`` may read and write ``key``."""
        self.post("/v3/auth/user/add", {"name": "root", "password": "root-pw"})
        self.post("/v3/auth/role/add", {"name": "root"})
        self.post("/v3/auth/user/grant", {"user": "root", "role": "root"})
        self.post("/v3/auth/user/add", {"name": name, "password": password})
        self.post("/v3/auth/role/add", {"name": name})
        encoded = base64.b64encode(key.encode()).decode()
        self.post("/v3/auth/role/grant", {"name": name, "perm": {"permType": "READWRITE", "key": encoded}})
        self.post("/v3/auth/user/grant", {"user": name, "role": name})
        self.post("/v3/auth/enable", {})

    def down(self) -> None:
        """Ends all members."""
        for member in self.members:
            if member is not None and member.poll() is None:
                os.kill(member.pid, signal.SIGCONT)
                member.kill()
                member.wait()


def _is_at_work(pid: int) -> bool:
    """Whether a thread of the process is not stopped."""
    for name in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{name}/stat", encoding="ascii", errors="replace") as file:
            if file.read().rpartition(")")[2].split()[0] != "T":
                return True
    return False
