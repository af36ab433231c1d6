"""Runs on a node: how long pages and scrapes take, of the dashboard and of supervisord's own web page. Prints JSON."""

from __future__ import annotations

import http.client
import json
import socket
import sys
import time
import urllib.parse
from collections.abc import Callable


class Unix(http.client.HTTPConnection):
    """HTTP on supervisord's unix socket, which serves the page of its inet_http_server, too."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect("/run/supervisor.sock")


def timed(connect: Callable[[], http.client.HTTPConnection], path: str, headers: dict[str, str], rounds: int) -> list[float]:
    """Seconds of each of ``rounds`` requests."""
    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        connection = connect()
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        assert response.status == 200, response.status
        response.read()
        connection.close()
        took.append(time.perf_counter() - began)
    return took


def main() -> None:
    """Command line: rounds, port, name and password."""
    rounds, port, name, password = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]

    def connect() -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", port)

    login = connect()
    form = urllib.parse.urlencode({"name": name, "password": password})
    login.request("POST", "/login", form, {"Content-Type": "application/x-www-form-urlencoded"})
    cookie = {"Cookie": str(login.getresponse().getheader("set-cookie")).split(";")[0]}
    time.sleep(3.0)
    found = {
        "page": timed(connect, "/pairs/local", cookie, rounds),
        "active": timed(connect, "/active", {}, rounds),
        "metrics": timed(connect, "/metrics", {}, rounds),
        "supervisord": timed(lambda: Unix("localhost"), "/", {}, rounds),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
