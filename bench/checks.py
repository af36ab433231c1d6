"""What health checks cost the agent: processor time of one look of each kind, and of a hundred looks a second.

Measured without a pair: a looker as the agent's, on a loop of its own, against servers in another process. The servers' time
is not counted. For comparison the same looks by streams of asyncio.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator

from ha_agent.adapters.check_probes import Asker, Probe
from ha_agent.core.check_state import Result
from ha_agent.core.checks import CheckSettings
from ha_agent.daemon.checks.looker import Looker, Looks

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


async def _pace(checks: dict[str, CheckSettings]) -> tuple[float, float, float]:
    """The share of one core that a loop takes which has nothing but these checks; looks a second; the longest hold-up."""
    good = 0

    def take(_name: str, result: Result) -> None:
        nonlocal good
        good += result.is_good

    loop = asyncio.get_running_loop()
    asker = Asker()
    probes = {name: (check, Probe(check, asker)) for name, check in checks.items()}
    looker = Looker(Looks(probes, lambda: True, lambda _name: True), lambda: None, take, loop.time)
    running = asyncio.ensure_future(looker.run())
    await asyncio.sleep(2.0)
    good, began, cpu = 0, loop.time(), time.process_time()
    longest = 0.0
    for _ in range(int(PACED_S)):
        due = loop.time() + 1.0
        await asyncio.sleep(1.0)
        longest = max(longest, loop.time() - due)
    share = (time.process_time() - cpu) / (loop.time() - began)
    rate = good / (loop.time() - began)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    asker.close()
    return share, rate, longest


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
            share, rate, longest = asyncio.run(_pace({f"{kind}{n}": check for n in range(COUNT)}))
            held = f"loop held up {longest * 1e3:.1f} ms at most"
            rows.append((f"{rate:.0f} looks a second, {kind}", f"{share * 100:.2f} % CPU", held, ""))
    return rows
