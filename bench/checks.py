"""What health checks cost the agent: processor time of one look of each kind, and of a hundred looks a second.

Measured without a pair: the agent's own watch over checks, on a loop of its own, against a server in another process, whose
time is not counted. For comparison the same looks by streams of asyncio.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, cast

from ha_agent.adapters.check_probes import Asker, Probe
from ha_agent.adapters.store import History
from ha_agent.core.checks import CheckSettings
from ha_agent.core.words import Role
from ha_agent.daemon.checks.acting import CheckActs
from ha_agent.daemon.checks.record import CheckRecord
from ha_agent.daemon.checks.states import ProgramStates
from ha_agent.daemon.checks.watch import CheckWatch
from ha_agent.daemon.events import Events
from ha_agent.daemon.role.maintenance import Maintenance
from ha_agent.daemon.standing import Standing

LOOKS = 2000
PACED_S = 20.0
COUNT = 100
"""So many checks, each with an interval of one second."""

SERVER = """
import socket
listener = socket.create_server(("127.0.0.1", 0), backlog=512)
print(listener.getsockname()[1], flush=True)
while True:
    connection, _ = listener.accept()
    data = connection.recv(4096)
    if data:
        connection.send(b"+PONG\\r\\n" if data[:4] == b"PING" else b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
    connection.close()
"""


@contextlib.contextmanager
def _server() -> Iterator[int]:
    """The port of a server that answers all kinds."""
    process = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


def _checks(port: int) -> dict[str, CheckSettings]:
    return {
        "tcp": CheckSettings(kind="tcp", address=f"127.0.0.1:{port}", interval_s=1.0, timeout_s=0.9, after_s=0.0),
        "http": CheckSettings(kind="http", url=f"http://127.0.0.1:{port}/", interval_s=1.0, timeout_s=0.9, after_s=0.0),
        "redis": CheckSettings(kind="redis", address=f"127.0.0.1:{port}", interval_s=1.0, timeout_s=0.9, after_s=0.0),
    }


async def _time(look: Callable[[], Awaitable[object]], count: int) -> float:
    """Processor seconds of one look."""
    began = time.process_time()
    for _ in range(count):
        await look()
    return (time.process_time() - began) / count


async def _time_looks(check: CheckSettings, count: int) -> float:
    asker = Asker()
    try:
        return await _time(Probe(check, asker).look, count)
    finally:
        asker.close()


async def _stream_look(port: int) -> None:
    async with asyncio.timeout(0.9):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        await reader.readline()
        writer.close()


@contextlib.contextmanager
def _watch(checks: dict[str, CheckSettings], asker: Asker, root: str) -> Iterator[CheckWatch]:
    """The agent's own watch over ``checks``, on a node that is active, with all that it does about a good answer."""
    loop = asyncio.get_running_loop()
    events = Events(History(root, "bench", 1 << 20))
    standing = Standing("bench", f"{root}/role.json")
    standing.become(Role.ACTIVE)
    maintenance = Maintenance(f"{root}/maintenance.json", events, time.time, time.monotonic)
    record = CheckRecord(f"{root}/checks.json", events, time.time)
    # No check has a program, and none fails.
    states, acts = cast(ProgramStates, None), cast(CheckActs, None)
    tasks: list[asyncio.Task[None]] = []

    def start(work: Coroutine[Any, Any, None]) -> None:
        tasks.append(loop.create_task(work))

    watch = CheckWatch(checks, asker, standing, maintenance, states, record, acts, events, start, loop.time, time.time)
    for work in watch.works():
        start(work)
    try:
        yield watch
    finally:
        for task in tasks:
            task.cancel()
        watch.close()


async def _pace(checks: dict[str, CheckSettings]) -> tuple[float, float]:
    """The share of one core that a loop takes which has nothing but these checks; by how much it was late at most.

    Once a second all that is known of them is asked for, as alerts do.
    """
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory() as root, _watch(checks, Asker(), root) as watch:
        await asyncio.sleep(2.0)
        began, cpu, late = loop.time(), time.process_time(), 0.0
        for _ in range(int(PACED_S)):
            due = loop.time() + 1.0
            await asyncio.sleep(1.0)
            late = max(late, loop.time() - due)
            seen = watch.describe()
        share = (time.process_time() - cpu) / (loop.time() - began)
        assert all(check.health == "passing" for check in seen), "a look failed"
    return share, late


def run(say: Callable[[str], None]) -> list[tuple[str, ...]]:
    """Rows for the table."""
    rows: list[tuple[str, ...]] = []
    with _server() as port:
        checks = _checks(port)
        for kind, check in checks.items():
            say(f"checks: {LOOKS} looks of kind {kind}")
            spent = asyncio.run(_time_looks(check, LOOKS))
            rows.append((f"one look, {kind}", f"{spent * 1e6:.0f} us", "", ""))
        say("checks: the same by streams")
        spent = asyncio.run(_time(lambda: _stream_look(port), LOOKS))
        rows.append(("one look, http, by streams of asyncio", f"{spent * 1e6:.0f} us", "", ""))
        command = CheckSettings(kind="command", command=("/bin/true",))
        spent = asyncio.run(_time_looks(command, 100))
        rows.append(("one look, command /bin/true", f"{spent * 1e6:.0f} us", "and the command's own time", ""))
        for kind, check in checks.items():
            say(f"checks: {COUNT} of kind {kind} a second, for {PACED_S:.0f} s")
            share, late = asyncio.run(_pace({f"{kind}{n}": check for n in range(COUNT)}))
            held = f"loop held up {late * 1e3:.1f} ms at most"
            rows.append((f"{COUNT} looks a second, {kind}", f"{share * 100:.2f} % CPU", held, ""))
    return rows
