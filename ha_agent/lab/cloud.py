"""The record of a name server or a cloud, for the examples: a tiny HTTP server of the lab, outside the two nodes.

``PUT /records/NAME`` with ``{"address": ..., "node": ..., "epoch": N}`` sets a record, ``GET`` shows it. To put the same
again changes nothing. A smaller epoch than the record's is refused (409): it is from a node that did not know that it was
late.
Records and requests are files of the lab's directory.
"""

from __future__ import annotations

import http.server
import json
import os
import threading
from collections.abc import Mapping
from typing import Any

from ha_agent.lab.layout import CLIENT_ADDRESS

PORT = 8053
FOLDER = "cloud"
"""In the lab's directory. A lab that has it has the server."""

MOST_BYTES = 4096


class Records:
    """The records below ``folder``, and a line in requests.jsonl for each attempt to set one."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self.known: dict[str, dict[str, Any]] = {}

    def put(self, name: str, wanted: Mapping[str, Any]) -> int:
        """Sets a record; returns the status of HTTP: 200, 400 for one without an epoch, 409 for a smaller one."""
        with self._lock:
            status = judge_put(self.known.get(name), wanted)
            if status == 200:
                self.known[name] = dict(wanted)
            with open(os.path.join(self._folder, "requests.jsonl"), "a", encoding="utf-8") as file:
                file.write(json.dumps({"name": name, "status": status, **wanted}) + "\n")
        return status


def judge_put(known: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> int:
    """What HTTP's status of a request is that sets a record to ``wanted`` where it was ``known``."""
    if type(wanted.get("epoch")) is not int:
        return 400
    return 409 if known is not None and wanted["epoch"] < known["epoch"] else 200


def start_where_wanted(directory: str) -> None:
    """Serves in a thread until this process ends, in a lab that has the folder for it."""
    folder = os.path.join(directory, FOLDER)
    if not os.path.isdir(folder):
        return
    records = Records(folder)

    class Request(http.server.BaseHTTPRequestHandler):
        """``/records/NAME``."""

        def do_GET(self) -> None:
            """Shows a record."""
            known = records.known.get(self._name())
            self._answer(200 if known else 404, known or {})

        def do_PUT(self) -> None:
            """Sets a record."""
            try:
                wanted = json.loads(self.rfile.read(min(int(self.headers.get("Content-Length", 0)), MOST_BYTES)))
            except ValueError:
                wanted = None
            status = records.put(self._name(), wanted) if isinstance(wanted, dict) else 400
            self._answer(status, records.known.get(self._name(), {}))

        def _name(self) -> str:
            return self.path.removeprefix("/records/")

        def _answer(self, status: int, body: Mapping[str, Any]) -> None:
            data = json.dumps(body).encode() + b"\n"
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the requests have a file."""

    server = http.server.ThreadingHTTPServer((CLIENT_ADDRESS, PORT), Request)
    threading.Thread(target=server.serve_forever, name="cloud", daemon=True).start()
