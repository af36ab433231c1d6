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
from dataclasses import dataclass

from ha_agent.adapters.files import remove_note
from ha_agent.adapters.streams import FrameStream
from ha_agent.core.frames import Message
from ha_agent.core.guard import Access
from ha_agent.core.requests import Malformed, NotPermitted

log = logging.getLogger(__name__)

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

    ``identity``: device, inode and time of change of its name in the file system; an inode may be used again.
    """

    path: str
    mode: int
    group: str | None
    handed_over: bool
    access: Access
    sock: socket.socket | None = None
    identity: tuple[int, int, int] | None = None


def _identity_of(path: str) -> tuple[int, int, int] | None:
    try:
        seen = os.lstat(path)
    except OSError:
        return None
    return seen.st_dev, seen.st_ino, seen.st_ctime_ns


class RpcServer:
    """Serves requests that come in on a unix socket, or on descriptors that are handed over on one.

    ``answer`` is asked for each one; it raises ``Malformed`` and ``NotPermitted``. Of more than ``max_streams`` connections
    the oldest is closed, so that they cannot fill this node's memory.
    """

    def __init__(self, answer: Answer, max_streams: int = 64) -> None:
        self._answer_of = answer
        self._max_streams = max_streams
        self._tasks: set[asyncio.Task[None]] = set()
        self._streams: dict[FrameStream, socket.socket | None] = {}
        self._callers: dict[FrameStream, Caller] = {}
        self._doors: list[_Door] = []

    def listen(self, path: str, mode: int, group: str | None, *, handed_over: bool, access: Access = Access.OPERATE) -> None:
        """Opens the socket at ``path`` with exactly ``mode``, owned by root and by ``group`` where that exists.

        ``access``: what its callers may do. Whatever has that name goes. One that cannot be opened is told in the log, and
        ``keep`` tries again.

        ``handed_over``: each connection brings two descriptors (SCM_RIGHTS) on which the peer is served, and stays open
        as long as that lasts.
        """
        door = _Door(path, mode, group, handed_over, access)
        self._doors.append(door)
        try:
            self._open(door)
        except OSError as error:
            log.error("%s cannot be opened: %s", path, error)

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
            loop.add_reader(sock.fileno(), self._accept, sock, door.access)

    def _shut(self, door: _Door) -> None:
        if door.sock is not None:
            asyncio.get_running_loop().remove_reader(door.sock.fileno())
            door.sock.close()
            door.sock = None

    def _accept(self, listener: socket.socket, access: Access) -> None:
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        caller = Caller(*user_of(sock), access)
        fd = sock.detach()
        self._callers[self._serve(fd, fd, None)] = caller

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
            self._serve(fds[0], fds[1], sock)

        loop.add_reader(sock.fileno(), receive)

    def _serve(self, read_fd: int, write_fd: int, relay: socket.socket | None) -> FrameStream:
        stream = FrameStream(read_fd, write_fd, self._received, self._closed)
        self._streams[stream] = relay
        if len(self._streams) > self._max_streams:
            log.warning("more than %d connections: the oldest is closed", self._max_streams)
            next(iter(self._streams)).close("too many connections")
        if relay is not None:
            asyncio.get_running_loop().add_reader(relay.fileno(), self._relay_gone, stream, relay)
        return stream

    def _relay_gone(self, stream: FrameStream, relay: socket.socket) -> None:
        stream.close("the ssh session ended")

    def _closed(self, stream: FrameStream, reason: str) -> None:
        relay = self._streams.pop(stream, None)
        self._callers.pop(stream, None)
        if relay is not None:
            asyncio.get_running_loop().remove_reader(relay.fileno())
            relay.close()
        log.debug("a connection ended: %s", reason)

    def _received(self, stream: FrameStream, message: Message) -> None:
        caller = self._callers.get(stream)
        if caller is None and self._streams.get(stream) is None:
            # Its connection is closed by now: nobody would be the peer's agent.
            return
        task = asyncio.get_running_loop().create_task(self._answer(stream, message, caller))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, stream: FrameStream, message: Message, caller: Caller | None) -> None:
        number, operation = message.get("id"), message.get("op")
        if not isinstance(number, int):
            stream.send({"id": 0, "error": f"the request {operation!r:.60} has no number"})
            return
        try:
            answer = await self._answer_of(message, caller, lambda p: stream.send({"id": number, "progress": p}))
            # An answer that is no frame is a failure as any other: whoever asked must not wait for it.
            stream.send({**answer, "id": number})
            return
        except NotPermitted as error:
            answer = {"error": str(error), "refused": True}
        except Malformed as error:
            log.warning("malformed request %r: %s", operation, error)
            answer = {"error": str(error)}
        except Exception as error:
            log.exception("operation %r failed", operation)
            answer = {"error": f"{operation} failed: {type(error).__name__}: {error}"}
        stream.send({**answer, "id": number})

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
