"""Looks at one service: a TCP port, a URL, a redis, a command. A look at a socket costs 30 to 110 microseconds.

Each look is a connection of its own, as a new client's is: one that was kept would not notice a server that accepts no
more. A stream of asyncio costs three times as much for what is one write and one read here, a task with a socket nearly
twice as much (`make bench BENCH=checks`): so there are neither. All connections are in one epoll, of which the loop
hears once for all that have answered meanwhile.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import select
import socket
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

from ha_agent.adapters.runner import ProgramMissing, run_program
from ha_agent.core.check_state import Result
from ha_agent.core.checks import CheckSettings, Endpoint, parse_endpoint, parse_url
from ha_agent.core.visible import visible

MOST_BYTES = 16384
"""The largest part of an answer that is read: what is judged stands in its first line."""

LONGEST_TEXT = 200

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3})(?: .*)?")

Done = Callable[[Result], None]


@dataclass(frozen=True, slots=True)
class Question:
    """What is said to whom; nothing where a connection is all that is asked for.

    ``judge`` is given the first line of the answer: "" where that is good, else what is wrong.
    """

    endpoint: Endpoint
    data: bytes = b""
    judge: Callable[[bytes], str] = lambda _line: ""


class _Asked:
    """One connection under way. ``done`` is called with what is wrong, "" for nothing."""

    def __init__(self, connection: socket.socket, question: Question, done: Callable[[str], None]) -> None:
        self.connection, self.question, self.done = connection, question, done
        self.is_connected = False
        self.seen = b""
        self.timer: asyncio.TimerHandle | None = None

    def go_on(self) -> str | None:
        """Does what can be done now; None where it must wait, else what came of it. Raises ``OSError``."""
        if not self.is_connected:
            if code := self.connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(code, os.strerror(code))
            return self.begin()
        try:
            data = self.connection.recv(MOST_BYTES)
        except BlockingIOError:
            return None
        self.seen += data
        if data and b"\n" not in self.seen and len(self.seen) < MOST_BYTES:
            return None
        return self.question.judge(self.seen.partition(b"\n")[0].rstrip(b"\r"))

    def begin(self) -> str | None:
        """Says what is to be said, now that there is a connection. As ``go_on``."""
        self.is_connected = True
        if not self.question.data:
            return ""
        # A fresh connection has room for a question, which is small.
        self.connection.send(self.question.data)
        return None


class Asker:
    """Asks by sockets, any number at once. For the loop that runs when it is made; ``close`` ends it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._epoll = select.epoll()
        self._loop.add_reader(self._epoll.fileno(), self._hear)
        self._asked: dict[int, _Asked] = {}

    def ask(self, question: Question, timeout_s: float, done: Callable[[str], None]) -> Callable[[], None]:
        """Begins to ask; returns what breaks it off. ``done`` may be called before this returns."""
        where = question.endpoint
        family = socket.AF_INET6 if where.is_v6 else socket.AF_INET
        connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        asked = _Asked(connection, question, done)
        try:
            came = asked.begin() if _connect_at_once(connection, where) else None
        except OSError as error:
            came = _say(error)
        if came is not None:
            connection.close()
            done(came)
            return lambda: None
        number = connection.fileno()
        self._asked[number] = asked
        self._epoll.register(number, select.EPOLLIN if asked.is_connected else select.EPOLLOUT)
        asked.timer = self._loop.call_later(timeout_s, self._end, asked, f"no answer within {timeout_s:g} s")
        return lambda: self._let_go(asked)

    def _hear(self) -> None:
        for number, _ in self._epoll.poll(0):
            asked = self._asked.get(number)
            if asked is None:
                continue
            before = asked.is_connected
            try:
                came = asked.go_on()
            except OSError as error:
                came = _say(error)
            if came is not None:
                self._end(asked, came)
            elif not before:
                self._epoll.modify(number, select.EPOLLIN)

    def _end(self, asked: _Asked, came: str) -> None:
        self._let_go(asked)
        asked.done(came)

    def _let_go(self, asked: _Asked) -> None:
        """Ends a connection; one that has ended already is left alone. The kernel takes a closed one out of the epoll."""
        number = asked.connection.fileno()
        if self._asked.get(number) is asked:
            del self._asked[number]
        if asked.timer is not None:
            asked.timer.cancel()
        asked.connection.close()

    def close(self) -> None:
        """Breaks off everything."""
        for asked in list(self._asked.values()):
            self._let_go(asked)
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()


class Probe:
    """One check, ready to be looked at."""

    def __init__(self, check: CheckSettings, asker: Asker) -> None:
        self._check, self._asker = check, asker
        self._question = _make_question(check)

    def begin(self, done: Done) -> Callable[[], None]:
        """Begins a look, which takes ``timeout_s`` at most; returns what breaks it off, after which nothing is left of it.

        ``done`` is called once, perhaps before this returns, and not after it was broken off.
        """
        began = perf_counter()

        def tell(wrong: str) -> None:
            text = visible(wrong)[:LONGEST_TEXT] if wrong else "ok"
            done(Result(not wrong, text, perf_counter() - began))

        if self._question is not None:
            return self._asker.ask(self._question, self._check.timeout_s, tell)
        running = asyncio.ensure_future(_run(self._check))
        running.add_done_callback(lambda task: None if task.cancelled() else tell(_result_of(task)))
        return lambda: None if running.done() else _cancel(running)

    async def look(self) -> Result:
        """Looks once, and waits for the end of that. Raises nothing but ``CancelledError``."""
        seen: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        break_off = self.begin(lambda result: None if seen.done() else seen.set_result(result))
        try:
            return await seen
        finally:
            break_off()


def _result_of(task: asyncio.Future[str]) -> str:
    error = task.exception()
    return task.result() if error is None else f"could not be run: {error}"


def _cancel(running: asyncio.Future[str]) -> None:
    running.cancel()


def _say(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error) or type(error).__name__


def _connect_at_once(connection: socket.socket, where: Endpoint) -> bool:
    """Begins to connect; says whether that is done. Raises ``OSError``."""
    code = connection.connect_ex((where.host, where.port))
    if code == errno.EINPROGRESS:
        # On the loopback device it is done by now, or refused, whatever the first call says.
        code = connection.connect_ex((where.host, where.port))
    if code in (errno.EINPROGRESS, errno.EALREADY):
        return False
    if code not in (0, errno.EISCONN):
        raise OSError(code, os.strerror(code))
    return True


def _make_question(check: CheckSettings) -> Question | None:
    if check.kind == "tcp":
        return Question(parse_endpoint(check.address))
    if check.kind == "redis":
        # redis.io/docs/reference/protocol-spec: a command may also be sent as a line of words.
        return Question(parse_endpoint(check.address), b"PING\r\n", _judge_redis)
    if check.kind == "http":
        target = parse_url(check.url, check.host)
        # RFC 9112: Host is required; with "close" the server ends the connection and holds no place for another request.
        head = f"GET {target.path} HTTP/1.1\r\nHost: {target.host}\r\nUser-Agent: ha-agent\r\nConnection: close\r\n\r\n"
        good = frozenset(check.expect)
        return Question(target.endpoint, head.encode("ascii"), lambda line: _judge_http(line, good))
    return None


def _judge_redis(line: bytes) -> str:
    """One that wants a password answers NOAUTH: it is there, and takes commands."""
    if line == b"+PONG" or line.startswith(b"-NOAUTH"):
        return ""
    return f"answers {line.decode('utf-8', 'replace')}" if line else "ends the connection without an answer"


def _judge_http(line: bytes, good: frozenset[str]) -> str:
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        return "answers with something else than HTTP" if line else "ends the connection without an answer"
    status = match[1].decode("ascii")
    if status in good or (not good and "200" <= status < "400"):
        return ""
    return f"answers {line.decode('utf-8', 'replace').partition(' ')[2]}"


async def _run(check: CheckSettings) -> str:
    try:
        ended = await run_program(check.command, check.timeout_s)
    except ProgramMissing as error:
        return str(error)
    if ended.code == 0:
        return ""
    said = (ended.errors.strip() or ended.output.strip()).splitlines()
    if ended.code is None:
        return said[-1] if said else "no end in time"
    how = f"was ended by signal {-ended.code}" if ended.code < 0 else f"ended with exit status {ended.code}"
    return how + (f": {said[-1]}" if said else "")
