"""The client outside the two nodes: writes to a redis and reads a web page through the VIP all the time.

Prints one JSON object a line: monotonic time, which target, whether it answered, and the page's word on who it was.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Callable

from ha_agent.core.reasons import reason_of

EVERY_S = 0.01
TIMEOUT_S = 0.1


def ask_redis(address: str, port: int) -> str:
    """Writes a key and returns redis' answer. Raises ``OSError``."""
    with socket.create_connection((address, port), TIMEOUT_S) as sock:
        stamp = str(time.time_ns()).encode()
        sock.sendall(b"*3\r\n$3\r\nSET\r\n$4\r\ndemo\r\n$%d\r\n%s\r\n" % (len(stamp), stamp))
        answer = sock.recv(64)
    if answer != b"+OK\r\n":
        raise OSError(f"redis said {answer!r}")
    return "OK"


def ask_web(address: str, port: int) -> str:
    """Reads the page and returns its text. Raises ``OSError``."""
    with socket.create_connection((address, port), TIMEOUT_S) as sock:
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        data = b""
        while chunk := sock.recv(4096):
            data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n")[0]:
        raise OSError("no page")
    return body.decode("utf-8", "replace").strip()


def watch(name: str, ask: Callable[[str, int], str], address: str, port: int) -> None:
    """Asks every ``EVERY_S`` until the process ends."""
    while True:
        began = time.monotonic()
        try:
            row = {"at": began, "target": name, "ok": True, "said": ask(address, port)}
        except OSError as error:
            row = {"at": began, "target": name, "ok": False, "said": reason_of(error)}
        row["took"] = time.monotonic() - began
        sys.stdout.write(json.dumps(row) + "\n")
        sys.stdout.flush()
        time.sleep(max(0.0, EVERY_S - (time.monotonic() - began)))


def main() -> int:
    """Command line: ``python -m ha_agent.lab.client VIP REDIS-PORT WEB-PORT``."""
    address, redis_port, web_port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    threading.Thread(target=watch, args=("redis", ask_redis, address, redis_port), daemon=True).start()
    watch("web", ask_web, address, web_port)
    return 0


if __name__ == "__main__":
    sys.exit(main())
