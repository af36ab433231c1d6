"""Requests and answers over frame streams: ``Requests`` asks, ``RpcServer`` serves; used for the peer and for operators."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import logging
import os
import pwd
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from ha_agent.adapters.files import remove_note
from ha_agent.adapters.streams import FrameStream
from ha_agent.core.budgets import (
    CONNECTIONS_BURST,
    CONNECTIONS_PER_S,
    OPERATOR,
    READER,
    UNBOUNDED,
    Allowance,
    Purse,
    Rate,
)
from ha_agent.core.frames import Message
from ha_agent.core.guard import Access
from ha_agent.core.reasons import reason_of
from ha_agent.core.requests import Malformed, NotPermitted

log = logging.getLogger(__name__)

MAX_ACCOUNTS = 256
"""Users whose budgets are remembered at once: whoever connects again has no fresh one."""

PAUSE_S = 0.05
"""A socket that lets nobody in for a moment does so at least for this long: waking up costs more than a connection."""

Progress = Callable[[Message], None]


class Disconnected(Exception):
    """The stream closed before the answer came; the text says why."""


class RemoteError(Exception):
    """The other end could not do what was asked; the text is its own."""


def user_of(sock: socket.socket) -> tuple[int, str]:
    """The user at the other end of a unix socket, by number and name (SO_PEERCRED, unix(7))."""
    _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    try:
        return uid, pwd.getpwuid(uid).pw_name
    except KeyError:
        return uid, f"uid {uid}"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who made the requests of a connection, by the kernel's word, and what the socket that was used allows."""

    uid: int
    name: str
    access: Access


Answer = Callable[[Message, Caller | None, Progress], Awaitable[Message]]
"""Answers a request; the caller is None where the descriptors were handed over: then it is the peer's agent."""


class Requests:
    """Matches answers to requests on one stream."""

    def __init__(self) -> None:
        self._next_id = 0
        self._waiting: dict[int, tuple[asyncio.Future[Message], Progress | None]] = {}

    async def ask(
        self, stream: FrameStream, message: Message, timeout_s: float, progress: Progress | None = None
    ) -> Message:
        """Sends ``message`` and waits for its answer.

        Raises ``Disconnected``, ``RemoteError``, and ``TimeoutError`` after ``timeout_s`` (the answer is then ignored).
        """
        self._next_id += 1
        number = self._next_id
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[number] = (future, progress)
        stream.send({**message, "id": number})
        if not stream.is_open:
            self._waiting.pop(number, None)
            raise Disconnected("the connection is closed")
        try:
            async with asyncio.timeout(timeout_s):
                answer = await future
        finally:
            self._waiting.pop(number, None)
        if "error" in answer:
            raise RemoteError(str(answer["error"]))
        return answer

    def take(self, message: Message) -> None:
        """Hands an incoming message to the caller that waits for it."""
        number = message.get("id")
        waiting = self._waiting.get(number) if isinstance(number, int) else None
        if waiting is None:
            return
        future, progress = waiting
        if "progress" in message:
            if progress is not None and isinstance(message["progress"], dict):
                progress(message["progress"])
        elif not future.done():
            future.set_result(message)

    def drop(self, reason: str) -> None:
        """Tells everyone who waits that no answer will come."""
        for future, _ in self._waiting.values():
            if not future.done():
                future.set_exception(Disconnected(reason))


@dataclass(slots=True)
class _Door:
    """A socket as it was asked for. ``sock`` is None as long as it cannot be opened.

    ``identity``: device, inode and time of change of its name in the file system; an inode may be used again. ``rate``:
    how many it lets in; None for any number. ``timer`` waits until it lets in somebody again.
    """

    path: str
    mode: int
    group: str | None
    handed_over: bool
    access: Access
    rate: Rate | None
    sock: socket.socket | None = None
    identity: tuple[int, int, int] | None = None
    timer: asyncio.TimerHandle | None = None


def _identity_of(path: str) -> tuple[int, int, int] | None:
    try:
        seen = os.lstat(path)
    except OSError:
        return None
    return seen.st_dev, seen.st_ino, seen.st_ctime_ns


@dataclass(slots=True)
class _Account:
    """One user, or the peer's agent: what may be taken, and the connections, oldest first.

    ``timer`` waits for the time of the next request.
    """

    caller: Caller | None
    purse: Purse
    streams: list[FrameStream] = field(default_factory=list)
    timer: asyncio.TimerHandle | None = None

    @property
    def unsent_bytes(self) -> int:
        """Answers that were not taken yet."""
        return sum(stream.unsent_bytes for stream in self.streams)


def allowance_of(caller: Caller | None) -> Allowance:
    """What somebody may take at once; None is the peer's agent."""
    if caller is None or caller.uid == 0:
        return UNBOUNDED
    return OPERATOR if caller.access is Access.OPERATE else READER


class RpcServer:
    """Serves requests that come in on a unix socket, or on descriptors that are handed over on one.

    ``answer`` is asked for each one; it raises ``Malformed`` and ``NotPermitted``. Each user has a budget
    (core/budgets.py): who takes more is not read for a while, and loses the own oldest connection. Of more than
    ``max_streams`` connections in all, so that they cannot fill this node's memory, one goes of the user who has the most;
    root's go last. ``identify`` tells the user at the other end of a socket.
    """

    def __init__(
        self,
        answer: Answer,
        max_streams: int = 64,
        identify: Callable[[socket.socket], tuple[int, str]] = user_of,
    ) -> None:
        self._answer_of, self._identify = answer, identify
        self._max_streams = max_streams
        self._tasks: set[asyncio.Task[None]] = set()
        self._streams: dict[FrameStream, socket.socket | None] = {}
        self._accounts: dict[tuple[int, Access] | None, _Account] = {}
        self._account_of: dict[FrameStream, _Account] = {}
        self._doors: list[_Door] = []

    def listen(self, path: str, mode: int, group: str | None, *, handed_over: bool, access: Access = Access.OPERATE) -> None:
        """Opens the socket at ``path`` with exactly ``mode``, owned by root and by ``group`` where that exists.

        ``access``: what its callers may do. Whatever has that name goes. One that cannot be opened is told in the log, and
        ``keep`` tries again.

        ``handed_over``: each connection brings two descriptors (SCM_RIGHTS) on which the peer is served, and stays open
        as long as that lasts.
        """
        now = asyncio.get_running_loop().time()
        rate = Rate(CONNECTIONS_PER_S, CONNECTIONS_BURST, now) if access is Access.READ else None
        door = _Door(path, mode, group, handed_over, access, rate)
        self._doors.append(door)
        try:
            self._open(door)
        except OSError as error:
            log.error("%s cannot be opened: %s", path, reason_of(error, path))

    def keep(self) -> bool:
        """Opens each socket again whose name is gone or something else; says whether there was one. Raises ``OSError``.

        Connections stay as they are.
        """
        lost = [door for door in self._doors if door.sock is None or _identity_of(door.path) != door.identity]
        for door in lost:
            self._shut(door)
            self._open(door)
        return bool(lost)

    def _open(self, door: _Door) -> None:
        remove_note(door.path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        old = os.umask(0o777)
        try:
            sock.bind(door.path)
        except OSError:
            sock.close()
            raise
        finally:
            os.umask(old)
        if door.group is not None:
            with contextlib.suppress(KeyError):
                os.chown(door.path, 0, grp.getgrnam(door.group).gr_gid)
        os.chmod(door.path, door.mode)
        sock.listen(64)
        door.sock, door.identity = sock, _identity_of(door.path)
        loop = asyncio.get_running_loop()
        if door.handed_over:
            loop.add_reader(sock.fileno(), self._accept_handed_over, sock)
        else:
            loop.add_reader(sock.fileno(), self._accept, sock, door)

    def _shut(self, door: _Door) -> None:
        if door.timer is not None:
            door.timer.cancel()
            door.timer = None
        if door.sock is not None:
            asyncio.get_running_loop().remove_reader(door.sock.fileno())
            door.sock.close()
            door.sock = None

    def _accept(self, listener: socket.socket, door: _Door) -> None:
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        if door.rate is not None:
            self._count(listener, door, door.rate)
        caller = Caller(*self._identify(sock), door.access)
        fd = sock.detach()
        self._serve(fd, fd, None, caller)

    def _count(self, listener: socket.socket, door: _Door, rate: Rate) -> None:
        """Lets nobody in for a while after too many: they wait in the kernel, which costs this node nothing."""
        loop = asyncio.get_running_loop()
        rate.pay(1.0, loop.time())
        if wait_s := rate.wait_s(loop.time()):
            loop.remove_reader(listener.fileno())
            door.timer = loop.call_later(max(PAUSE_S, wait_s), self._let_in, listener, door)

    def _let_in(self, listener: socket.socket, door: _Door) -> None:
        door.timer = None
        asyncio.get_running_loop().add_reader(listener.fileno(), self._accept, listener, door)

    def _accept_handed_over(self, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        loop = asyncio.get_running_loop()
        sock.setblocking(False)

        def receive() -> None:
            loop.remove_reader(sock.fileno())
            try:
                _, fds, _, _ = socket.recv_fds(sock, 16, 2)
            except OSError:
                fds = []
            if len(fds) != 2:
                for fd in fds:
                    os.close(fd)
                sock.close()
                return
            self._serve(fds[0], fds[1], sock, None)

        loop.add_reader(sock.fileno(), receive)

    def _serve(self, read_fd: int, write_fd: int, relay: socket.socket | None, caller: Caller | None) -> None:
        account = self._find_account(caller)
        limits = account.purse.allowance
        stream = FrameStream(read_fd, write_fd, self._received, self._closed, limits.frame_bytes, self._drained)
        self._streams[stream] = relay
        self._account_of[stream] = account
        account.streams.append(stream)
        if relay is not None:
            asyncio.get_running_loop().add_reader(relay.fileno(), self._relay_gone, stream, relay)
        if len(account.streams) > limits.streams:
            account.streams[0].close("too many connections of one user")
        if len(self._streams) > self._max_streams:
            log.warning("more than %d connections: one of those who have the most is closed", self._max_streams)
            self._choose_victim().close("too many connections")
        self._settle(account)

    def _find_account(self, caller: Caller | None) -> _Account:
        key = None if caller is None else (caller.uid, caller.access)
        account = self._accounts.get(key)
        if account is None:
            if len(self._accounts) >= MAX_ACCOUNTS:
                idle = [k for k, one in self._accounts.items() if not one.streams]
                for one in idle:
                    del self._accounts[one]
            account = _Account(caller, Purse(allowance_of(caller), asyncio.get_running_loop().time()))
            self._accounts[key] = account
        return account

    def _choose_victim(self) -> FrameStream:
        holders = [one for one in self._accounts.values() if one.streams]
        return max(holders, key=lambda one: (one.caller is None or one.caller.uid != 0, len(one.streams))).streams[0]

    # ---- budgets ------------------------------------------------------------------------------------------

    def _settle(self, account: _Account) -> None:
        """Reads the user's requests as long as the budget has room, and not while it has none."""
        loop = asyncio.get_running_loop()
        wait_s = account.purse.wait_s(account.unsent_bytes, loop.time())
        for stream in list(account.streams):
            if wait_s == 0.0:
                stream.resume()
            else:
                stream.pause()
        if account.timer is not None:
            account.timer.cancel()
            account.timer = None
        if wait_s:
            account.timer = loop.call_later(wait_s, self._settle, account)

    def _drained(self, stream: FrameStream) -> None:
        account = self._account_of.get(stream)
        if account is not None:
            self._settle(account)

    def _relay_gone(self, stream: FrameStream, relay: socket.socket) -> None:
        stream.close("the ssh session ended")

    def _closed(self, stream: FrameStream, reason: str) -> None:
        relay = self._streams.pop(stream, None)
        account = self._account_of.pop(stream, None)
        if account is not None:
            account.streams.remove(stream)
            self._settle(account)
        if relay is not None:
            asyncio.get_running_loop().remove_reader(relay.fileno())
            relay.close()
        log.debug("a connection ended: %s", reason)

    def _received(self, stream: FrameStream, message: Message) -> None:
        account = self._account_of.get(stream)
        if account is None:
            # Its connection is closed by now: nobody would be the peer's agent.
            return
        loop = asyncio.get_running_loop()
        account.purse.begin(loop.time())
        task = loop.create_task(self._serve_request(stream, message, account))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._settle(account)

    async def _serve_request(self, stream: FrameStream, message: Message, account: _Account) -> None:
        clock, sent = asyncio.get_running_loop().time, 0
        began = clock()
        try:
            sent = await self._answer(stream, message, account.caller)
        finally:
            account.purse.end(sent, clock() - began, clock())
            self._settle(account)

    async def _answer(self, stream: FrameStream, message: Message, caller: Caller | None) -> int:
        """Answers, and says how long the answer is."""
        number, operation = message.get("id"), message.get("op")
        if not isinstance(number, int):
            return stream.send({"id": 0, "error": f"the request {operation!r:.60} has no number"})
        try:
            answer = await self._answer_of(message, caller, lambda p: _send_progress(stream, number, p))
            # An answer that is no frame is a failure as any other: whoever asked must not wait for it.
            return stream.send({**answer, "id": number})
        except NotPermitted as error:
            answer = {"error": str(error), "refused": True}
        except Malformed as error:
            if caller is None:
                # A user sees the answer. The other node's agent may be of another version: its administrator looks here.
                log.warning("malformed request %r: %s", operation, error)
            answer = {"error": str(error)}
        except Exception as error:
            log.exception("operation %r failed", operation)
            answer = {"error": f"{operation} failed: {type(error).__name__}: {error}"}
        return stream.send({**answer, "id": number})

    async def close(self) -> None:
        """Closes all connections and sockets. Idempotent."""
        while self._doors:
            door = self._doors.pop()
            is_ours = door.sock is not None and _identity_of(door.path) == door.identity
            self._shut(door)
            if is_ours:
                os.unlink(door.path)
        for stream in list(self._streams):
            stream.close("the agent is stopping")
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _send_progress(stream: FrameStream, number: int, progress: Message) -> None:
    stream.send({"id": number, "progress": progress})
