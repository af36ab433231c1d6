"""Looking at supervisord for a status: shared, bounded, and never in the way of anything else."""

from __future__ import annotations

import asyncio
import pathlib
import socketserver
import threading
import time
import xmlrpc.client
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest

from ha_agent.adapters.procs import ProcessTable, ProcessWatch
from ha_agent.adapters.supervisord import SocketAge, Supervisord, SupervisordDown
from ha_agent.core.settings import SupervisorSettings
from ha_agent.daemon.programs.supervised import GLANCE_S, Lane, Supervised


class Stub(socketserver.ThreadingUnixStreamServer):
    """Answers getAllProcessInfo as a supervisord does that needs ``takes_s`` for it."""

    daemon_threads = True
    takes_s = 0.05
    asked = 0


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Stub)
        self.rfile.read(int(self.headers["Content-Length"]))
        server.asked += 1
        time.sleep(server.takes_s)
        row = {"group": "p", "name": "p", "statename": "RUNNING", "pid": 7, "start": 1, "spawnerr": "", "exitstatus": 0}
        body = xmlrpc.client.dumps(([row],), methodresponse=True).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "stub"

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def stub(tmp_path: pathlib.Path) -> Iterator[Stub]:
    with Stub(str(tmp_path / "sock"), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def make(tmp_path: pathlib.Path) -> Supervised:
    socket = str(tmp_path / "sock")
    settings = SupervisorSettings(socket=socket, rpc_timeout_s=2.0)
    process = ProcessWatch(lambda: None, lambda: None)
    client = Supervisord(socket, settings.rpc_timeout_s)
    return Supervised(settings, client, process, ProcessTable(socket, str(tmp_path / "supervisords")), SocketAge(socket))


def test_those_who_look_at_once_share_one_question_and_one_who_looks_again_disturbs_nobody(
    tmp_path: pathlib.Path, stub: Stub
) -> None:
    async def look() -> None:
        programs = make(tmp_path)

        async def twice() -> int:
            return len(await programs.read_all(Lane.GLANCE)) + len(await programs.read_all(Lane.GLANCE))

        try:
            assert await asyncio.gather(twice(), programs.read_all(Lane.GLANCE), programs.read_all(Lane.GLANCE))
        finally:
            programs.close()

    asyncio.run(look())
    assert stub.asked == 2


def test_a_supervisord_that_hangs_is_said_to_and_holds_up_no_worker(tmp_path: pathlib.Path, stub: Stub) -> None:
    stub.takes_s = 1.5

    async def look() -> None:
        programs = make(tmp_path)
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            results = await asyncio.gather(*(programs.read_all(Lane.GLANCE) for _ in range(10)), return_exceptions=True)
            assert all(isinstance(r, SupervisordDown) for r in results)
            assert loop.time() - began < GLANCE_S + 0.4
            assert await asyncio.wait_for(asyncio.to_thread(lambda: 1), 0.3) == 1
            assert stub.asked == 1
        finally:
            programs.close()

    asyncio.run(look())
