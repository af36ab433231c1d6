"""Looks at services against real sockets and processes: what is good, what is not, and that nothing is left of one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from ha_agent.adapters.check_probes import Asker, Probe
from ha_agent.core.check_state import Result
from ha_agent.core.checks import CheckSettings

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def serve(talk: Talk, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """A server on a port of its own."""
    server = await asyncio.start_server(talk, host, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


async def look(check: CheckSettings) -> Result:
    """One look."""
    asker = Asker()
    try:
        return await Probe(check, asker).look()
    finally:
        asker.close()


def answers(*parts: bytes, pause_s: float = 0.0, asked: list[bytes] | None = None) -> Talk:
    """Reads a question, says ``parts``, and ends the connection."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.read(4096)
        if asked is not None:
            asked.append(data)
        with contextlib.suppress(ConnectionError):
            for part in parts:
                await asyncio.sleep(pause_s)
                writer.write(part)
                await writer.drain()
        writer.close()

    return talk


def look_at(kind: str, talk: Talk, **more: object) -> Result:
    """One look at a server that talks so."""

    async def main() -> Result:
        async with serve(talk) as port:
            where = {"url": f"http://127.0.0.1:{port}/health"} if kind == "http" else {"address": f"127.0.0.1:{port}"}
            return await look(CheckSettings(kind=kind, timeout_s=0.3, **where, **more))  # type: ignore[arg-type]

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("answer", "expect", "wrong"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", (), ""),
        (b"HTTP/1.0 302 Found\r\n\r\n", (), ""),
        (b"HTTP/1.1 204\r\n\r\n", ("204",), ""),
        (b"HTTP/1.1 200 OK\r\n\r\n", ("204",), "answers 200 OK"),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", (), "answers 503 Service Unavailable"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", (), "answers with something else than HTTP"),
        (b"x" * 40000, (), "answers with something else than HTTP"),
        (b"", (), "ends the connection without an answer"),
    ],
)
def test_a_url_is_judged_by_its_status(answer: bytes, expect: tuple[str, ...], wrong: str) -> None:
    asked: list[bytes] = []
    result = look_at("http", answers(answer, asked=asked), expect=expect, host="example.org")
    assert (result.is_good, result.text) == (not wrong, wrong or "ok")
    assert asked[0].startswith(b"GET /health HTTP/1.1\r\nHost: example.org\r\n") and asked[0].endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        (b"+PONG\r\n", ""),
        (b"-NOAUTH Authentication required.\r\n", ""),
        (b"-LOADING Redis is loading the dataset in memory\r\n", "answers -LOADING Redis is loading the dataset in memory"),
        (b"", "ends the connection without an answer"),
    ],
)
def test_a_redis_is_judged_by_its_answer_to_ping(answer: bytes, wrong: str) -> None:
    result = look_at("redis", answers(answer))
    assert (result.is_good, result.text) == (not wrong, wrong or "ok")


def test_an_answer_may_come_in_parts() -> None:
    assert look_at("http", answers(b"HT", b"TP/1.1 20", b"0 OK\r", b"\n\r\n", pause_s=0.02)).is_good


def test_one_that_takes_the_connection_and_says_nothing_hangs() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    began = time.monotonic()
    result = look_at("http", silent)
    assert (result.is_good, result.text) == (False, "no answer within 0.3 s") and time.monotonic() - began < 1.0
    assert look_at("tcp", silent).is_good


def test_a_port_that_nobody_has_is_refused_and_one_of_ipv6_is_asked() -> None:
    async def main() -> None:
        async with serve(answers(b""), "::1") as port:
            assert (await look(CheckSettings(kind="tcp", address=f"[::1]:{port}"))).is_good
        result = await look(CheckSettings(kind="tcp", address=f"[::1]:{port}"))
        assert (result.is_good, result.text) == (False, "Connection refused")

    asyncio.run(main())


def test_a_look_that_is_broken_off_leaves_no_connection_and_no_process() -> None:
    async def main() -> None:
        before = len(os.listdir("/proc/self/fd"))
        gone = asyncio.Event()

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            await reader.read()
            gone.set()
            writer.close()

        async with serve(silent) as port:
            for check in (
                CheckSettings(kind="redis", address=f"127.0.0.1:{port}"),
                CheckSettings(kind="command", command=("/bin/sh", "-c", "sleep 61.7 & sleep 61.7"), timeout_s=5.0),
            ):
                looking = asyncio.ensure_future(look(check))
                await asyncio.sleep(0.1)
                looking.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await looking
            async with asyncio.timeout(2.0):
                await gone.wait()
        await asyncio.sleep(0.05)
        assert len(os.listdir("/proc/self/fd")) <= before
        assert not running("61.7")

    asyncio.run(main())


def running(word: str) -> list[str]:
    """The command lines of processes that have ``word`` among their words."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().decode("utf-8", "replace").split("\0")
            found += [" ".join(words)] if word in words else []
    return found


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (("/bin/true",), ""),
        (("/bin/sh", "-c", "echo no room >&2; exit 3"), "ended with exit status 3: no room"),
        (("/bin/sh", "-c", "kill -9 $$"), "was ended by signal 9"),
        (("/bin/sh", "-c", "sleep 62.3 & sleep 62.3"), "no end after 0.3 s"),
        (("/nowhere/x",), "/nowhere/x cannot be run: No such file or directory"),
    ],
)
def test_a_command_is_judged_by_its_end_and_is_killed_with_all_that_it_started(words: tuple[str, ...], wrong: str) -> None:
    result = asyncio.run(look(CheckSettings(kind="command", command=words, timeout_s=0.3)))
    assert (result.is_good, result.text) == (not wrong, wrong or "ok")
    assert not any("62.3" in word for word in words) or not running("62.3")
