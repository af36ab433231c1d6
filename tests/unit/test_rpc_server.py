"""The server of requests: who asked is the kernel's word, what went wrong is an answer, and who has gone is nobody."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import socket
import stat
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ha_agent.adapters.rpc import Caller, Progress, RpcServer, user_of
from ha_agent.core.budgets import CONNECTIONS_BURST, CONNECTIONS_PER_S, OPERATOR, READER
from ha_agent.core.frames import MAX_FRAME_BYTES, FrameDecoder, Message, encode_frame
from ha_agent.core.guard import Access
from ha_agent.core.requests import Malformed
from ha_agent.daemon.operations.call import call_of_user
from ha_agent.daemon.operations.table import find_operation, require_right

LIMIT_S = 5.0


class Client:
    """The other end of a connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._decoder = FrameDecoder()
        self._messages: list[Message] = []
        sock.setblocking(False)

    def send(self, *messages: Message) -> None:
        self.sock.sendall(b"".join(encode_frame(message) for message in messages))

    async def receive(self) -> Message | None:
        """The next message; None where the connection is closed."""
        while not self._messages:
            try:
                data = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.sock, 65536), LIMIT_S)
            except ConnectionError:
                data = b""
            if not data:
                return None
            self._messages += self._decoder.feed(data)
        return self._messages.pop(0)

    async def ask(self, **message: Any) -> Message | None:
        self.send({"id": 1, **message})
        return await self.receive()


class Desk:
    """Answers as the dispatcher does where it matters here."""

    def __init__(self) -> None:
        self.callers: list[Caller | None] = []
        self.gate = asyncio.Event()
        self.ended = asyncio.Event()
        self.cancelled = 0

    async def answer(self, message: Message, caller: Caller | None, progress: Progress) -> Message:
        self.callers.append(caller)
        op = message["op"]
        if op == "malformed":
            raise Malformed("malformed: names is missing")
        if op == "defect":
            raise RuntimeError("a defect")
        if op == "long":
            return {"text": "x" * (MAX_FRAME_BYTES + 1)}
        if op == "large":
            return {"text": "x" * message["bytes"]}
        if op == "steps":
            progress({"step": 1})
            progress({"step": 2})
        if op == "slow":
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            finally:
                self.ended.set()
        if caller is not None and op in ("program-stop", "status"):
            call = call_of_user(message, caller, progress)
            require_right(find_operation(op, from_peer=False), call)
        return {"op": op}


class Room:
    """A server, its desk, and the sockets of its clients."""

    def __init__(self, directory: pathlib.Path, max_streams: int) -> None:
        self.desk = Desk()
        self.user: tuple[int, str] | None = None
        """Who connects, where that is not whoever runs the tests."""
        self.let_in = 0
        self.server = RpcServer(self.desk.answer, max_streams, self._identify)
        self.path = str(directory / "control.sock")
        self.clients: list[Client] = []

    def _identify(self, sock: socket.socket) -> tuple[int, str]:
        self.let_in += 1
        return self.user or user_of(sock)

    def listen(self, *, handed_over: bool = False, access: Access = Access.OPERATE, mode: int = 0o660) -> None:
        self.server.listen(self.path, mode, None, handed_over=handed_over, access=access)

    def connect(self) -> Client:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(self.path)
        self.clients.append(Client(sock))
        return self.clients[-1]

    def hand_over(self, count: int = 2) -> tuple[Client, socket.socket]:
        """Connects as the relay of an ssh session does, with ``count`` descriptors; returns the peer's end and the relay."""
        own, theirs = socket.socketpair()
        relay = self.connect().sock
        socket.send_fds(relay, [b"x"], [theirs.fileno()] * count)
        theirs.close()
        self.clients.append(Client(own))
        return self.clients[-1], relay


def serve(
    directory: pathlib.Path, work: Callable[[Room], Awaitable[None]], *, max_streams: int = 64, **options: Any
) -> None:
    async def main() -> None:
        room = Room(directory, max_streams)
        room.listen(**options)
        problems: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: problems.append(context))
        try:
            await work(room)
        finally:
            await room.server.close()
            for client in room.clients:
                client.sock.close()
        await asyncio.sleep(0)
        assert problems == []

    asyncio.run(main())


@pytest.mark.parametrize("access", list(Access))
def test_the_caller_is_who_the_kernel_says_with_the_rights_of_the_socket(tmp_path: pathlib.Path, access: Access) -> None:
    async def work(room: Room) -> None:
        assert await room.connect().ask(op="whoami", access="operate", uid=0) == {"id": 1, "op": "whoami"}
        (caller,) = room.desk.callers
        assert caller is not None and (caller.uid, caller.access) == (os.getuid(), access)

    serve(tmp_path, work, access=access)


def test_a_caller_without_the_right_is_refused_as_that_and_may_go_on(tmp_path: pathlib.Path) -> None:
    async def work(room: Room) -> None:
        client = room.connect()
        refused = await client.ask(op="program-stop")
        assert refused is not None and refused["refused"] is True and "ha-agent" in refused["error"]
        assert await client.ask(op="status") == {"id": 1, "op": "status"}

    serve(tmp_path, work, access=Access.READ)


def test_what_goes_wrong_is_an_answer_and_the_connection_stays(tmp_path: pathlib.Path) -> None:
    async def work(room: Room) -> None:
        client = room.connect()
        assert await client.ask(op="malformed") == {"id": 1, "error": "malformed: names is missing"}
        assert await client.ask(op="defect") == {"id": 1, "error": "defect failed: RuntimeError: a defect"}
        assert await client.ask(op="fine") == {"id": 1, "op": "fine"}

    serve(tmp_path, work)


def test_an_answer_that_is_longer_than_a_frame_is_an_error_and_not_a_silence(tmp_path: pathlib.Path) -> None:
    async def work(room: Room) -> None:
        client = room.connect()
        answer = await client.ask(op="long")
        assert answer is not None and answer["id"] == 1 and "long failed" in answer["error"]
        assert await client.ask(op="fine") == {"id": 1, "op": "fine"}

    serve(tmp_path, work)


@pytest.mark.parametrize("number", [None, "1", 1.5, []])
def test_a_request_without_a_number_is_told_so_and_not_done(tmp_path: pathlib.Path, number: object) -> None:
    async def work(room: Room) -> None:
        client = room.connect()
        client.send({"op": "fine", "id": number})
        answer = await client.receive()
        assert answer is not None and answer["id"] == 0 and "has no number" in answer["error"]
        assert room.desk.callers == []

    serve(tmp_path, work)


def test_requests_of_one_connection_wait_for_none_of_each_other_and_words_come_ahead(tmp_path: pathlib.Path) -> None:
    async def work(room: Room) -> None:
        client = room.connect()
        client.send({"op": "slow", "id": 1}, {"op": "steps", "id": 2})
        found = [await client.receive() for _ in range(3)]
        assert found == [{"id": 2, "progress": {"step": 1}}, {"id": 2, "progress": {"step": 2}}, {"id": 2, "op": "steps"}]
        room.desk.gate.set()
        assert await client.receive() == {"id": 1, "op": "slow"}

    serve(tmp_path, work)


def test_what_is_asked_on_a_connection_that_closes_is_done_and_its_answer_is_nobodys(tmp_path: pathlib.Path) -> None:
    async def work(room: Room) -> None:
        client = room.connect()
        client.send({"op": "slow", "id": 1})
        client.sock.close()
        while not room.desk.callers:
            await asyncio.sleep(0)
        room.desk.gate.set()
        await asyncio.wait_for(room.desk.ended.wait(), LIMIT_S)
        assert [type(caller) for caller in room.desk.callers] == [Caller], "nobody is the peer's agent by having gone"
        assert await room.connect().ask(op="fine") == {"id": 1, "op": "fine"}

    serve(tmp_path, work)


def test_what_is_no_frame_ends_its_connection_alone(tmp_path: pathlib.Path) -> None:
    async def work(room: Room) -> None:
        good, bad = room.connect(), room.connect()
        bad.sock.sendall(b"\0\0\0\2[]")
        assert await bad.receive() is None
        bad = room.connect()
        bad.sock.sendall(b"GET / HTTP/1.1\r\n")
        assert await bad.receive() is None
        assert await good.ask(op="fine") == {"id": 1, "op": "fine"}

    serve(tmp_path, work)


def test_of_too_many_connections_the_oldest_is_closed(tmp_path: pathlib.Path) -> None:
    async def work(room: Room) -> None:
        clients = []
        for _ in range(3):
            clients.append(room.connect())
            if len(clients) < 3:
                assert await clients[-1].ask(op="fine") is not None
        assert await clients[2].ask(op="fine") is not None
        assert await clients[0].receive() is None
        assert await clients[1].ask(op="fine") is not None

    serve(tmp_path, work, max_streams=2)


def test_descriptors_that_are_handed_over_are_the_peers_agent_as_long_as_the_relay_lives(tmp_path: pathlib.Path) -> None:
    async def work(room: Room) -> None:
        peer, relay = room.hand_over()
        assert await peer.ask(op="program-stop") == {"id": 1, "op": "program-stop"}
        assert room.desk.callers == [None]
        relay.close()
        assert await peer.receive() is None

    serve(tmp_path, work, handed_over=True)


def test_a_relay_that_does_not_bring_two_descriptors_is_sent_away(tmp_path: pathlib.Path) -> None:
    async def work(room: Room) -> None:
        peer, relay = room.hand_over(count=1)
        assert await peer.receive() is None
        assert await Client(relay).receive() is None
        user = room.connect()
        user.send({"op": "release", "id": 1})
        assert await user.receive() is None, "without descriptors nobody is served"
        assert room.desk.callers == []

    serve(tmp_path, work, handed_over=True)


@pytest.mark.parametrize("mode", [0o660, 0o600])
def test_the_socket_has_its_mode_from_the_beginning_replaces_an_old_one_and_goes_with_the_server(
    tmp_path: pathlib.Path, mode: int
) -> None:
    (tmp_path / "control.sock").write_text("left by a crash")

    async def work(room: Room) -> None:
        found = os.stat(room.path)
        assert stat.S_ISSOCK(found.st_mode) and stat.S_IMODE(found.st_mode) == mode
        assert await room.connect().ask(op="fine") is not None

    serve(tmp_path, work, mode=mode)
    assert not (tmp_path / "control.sock").exists()


def test_an_end_of_the_server_closes_every_connection_and_ends_what_is_under_way(tmp_path: pathlib.Path) -> None:
    async def work(room: Room) -> None:
        client = room.connect()
        client.send({"op": "slow", "id": 1})
        while not room.desk.callers:
            await asyncio.sleep(0)
        await room.server.close()
        assert await client.receive() is None and room.desk.cancelled == 1

    serve(tmp_path, work)


# ---- budgets --------------------------------------------------------------------------------------------------

BOB, ALICE, ROOT = (1001, "bob"), (1000, "alice"), (0, "root")


async def is_closed(client: Client) -> bool:
    return await client.receive() is None


async def connect_as(room: Room, user: tuple[int, str]) -> Client:
    """Connects, and waits until the server knows who it is."""
    room.user = user
    client = room.connect()
    await client.ask(op="hello")
    return client


def test_a_user_with_too_many_connections_loses_the_own_oldest_and_nobody_elses(tmp_path: pathlib.Path) -> None:
    async def work(room: Room) -> None:
        operator = await connect_as(room, ROOT)
        own = [await connect_as(room, BOB) for _ in range(READER.streams + 3)]
        assert [await is_closed(c) for c in own[:3]] == [True] * 3
        for client in (operator, *own[3:]):
            assert await client.ask(op="x") == {"op": "x", "id": 1}

    serve(tmp_path, work, access=Access.READ)


def test_of_too_many_in_all_one_goes_of_who_has_the_most_and_roots_stay(tmp_path: pathlib.Path) -> None:
    async def work(room: Room) -> None:
        roots = [await connect_as(room, ROOT) for _ in range(4)]
        alice = await connect_as(room, ALICE)
        bobs = [await connect_as(room, BOB) for _ in range(3)]
        last = await connect_as(room, ROOT)
        assert await is_closed(bobs[0])
        for client in (*roots, last, alice, *bobs[1:]):
            assert await client.ask(op="x") is not None

    serve(tmp_path, work, max_streams=8)


def test_a_user_who_asks_too_much_at_once_is_not_read_further_and_nobody_else_waits(tmp_path: pathlib.Path) -> None:
    async def work(room: Room) -> None:
        bobs = [await connect_as(room, BOB) for _ in range(2)]
        room.desk.callers.clear()
        for bob in bobs:
            bob.send(*({"id": n, "op": "slow"} for n in range(50)))
        root = await connect_as(room, ROOT)
        assert await root.ask(op="x") is not None
        asked = [c for c in room.desk.callers if c is not None and c.name == "bob"]
        assert len(asked) == READER.requests, "over all of the user's connections"
        room.desk.gate.set()
        assert [m["id"] for m in [await bobs[0].receive() for _ in range(5)] if m] == [0, 1, 2, 3, 4]

    serve(tmp_path, work, access=Access.READ)


def test_answers_that_are_not_read_stop_the_next_request(tmp_path: pathlib.Path) -> None:
    async def work(room: Room) -> None:
        alice = await connect_as(room, ALICE)
        size, room.user = OPERATOR.unsent_bytes // 8, ROOT
        room.desk.callers.clear()
        alice.send(*({"id": n, "op": "large", "bytes": size} for n in range(30)))
        root = room.connect()
        while len(room.desk.callers) < 8:
            assert await root.ask(op="x") is not None
        for _ in range(50):
            assert await root.ask(op="x") is not None
        held = [c for c in room.desk.callers if c is not None and c.name == "alice"]
        assert len(held) <= 8 + OPERATOR.requests
        for number in range(30):
            answer = await alice.receive()
            assert answer is not None and answer["id"] == number, "nothing is lost by waiting"

    serve(tmp_path, work)


def test_a_longer_frame_than_the_user_may_send_ends_the_connection(tmp_path: pathlib.Path) -> None:
    async def work(room: Room) -> None:
        bob = await connect_as(room, BOB)
        bob.sock.setblocking(True)
        with contextlib.suppress(OSError):
            bob.sock.sendall(encode_frame({"id": 1, "op": "x", "rest": [[]] * READER.frame_bytes}))
        bob.sock.setblocking(False)
        assert await is_closed(bob)
        root = await connect_as(room, ROOT)
        assert await root.ask(op="x", rest="x" * READER.frame_bytes) is not None

    serve(tmp_path, work, access=Access.READ)


def test_a_user_who_connects_again_and_again_has_no_fresh_budget(tmp_path: pathlib.Path) -> None:
    async def work(room: Room) -> None:
        clock, began, asked = asyncio.get_running_loop().time, asyncio.get_running_loop().time(), 0
        while asked < READER.burst + 10:
            await connect_as(room, BOB)
            asked += 1
        assert READER.per_s is not None
        assert clock() - began >= 10 / READER.per_s * 0.5

    serve(tmp_path, work, access=Access.READ)


def test_readers_who_connect_over_and_over_are_let_in_slowly_and_operators_beside_them(
    tmp_path: pathlib.Path,
) -> None:
    async def work(room: Room) -> None:
        clock, more = asyncio.get_running_loop().time, 30
        began, room.user = clock(), BOB
        with contextlib.ExitStack() as stack:
            while room.let_in < CONNECTIONS_BURST + more:
                sock = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                sock.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    sock.connect(room.path)
                await asyncio.sleep(0.001)
        assert clock() - began >= more / CONNECTIONS_PER_S * 0.5
        room.path, room.user = str(tmp_path / "operators.sock"), ROOT
        room.listen()
        assert not room.server.keep(), "a socket that waits is none that is gone"
        assert await room.connect().ask(op="x") is not None

    serve(tmp_path, work, access=Access.READ)


@pytest.mark.parametrize("instead", ["nothing", "directory", "file", "socket"])
def test_a_socket_that_lost_its_name_is_opened_again_and_connections_stay(tmp_path: pathlib.Path, instead: str) -> None:
    async def work(room: Room) -> None:
        before = room.connect()
        await before.ask(op="status")
        path = pathlib.Path(room.path)
        assert not room.server.keep(), "nothing is wrong"
        path.unlink()
        if instead == "directory":
            (path / "x").mkdir(parents=True)
        elif instead == "file":
            path.touch()
        elif instead == "socket":
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as another:
                another.bind(room.path)
        assert room.server.keep() and not room.server.keep()
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        for client in (room.connect(), before):
            assert await client.ask(op="status") is not None

    serve(tmp_path, work, mode=0o640)


def test_a_socket_that_cannot_be_opened_now_is_opened_later(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        room = Room(tmp_path, 8)
        room.path = str(tmp_path / "missing" / "control.sock")
        room.listen()
        with pytest.raises(FileNotFoundError):
            room.server.keep()
        (tmp_path / "missing").mkdir()
        assert room.server.keep()
        await room.connect().ask(op="status")
        room.clients.pop().sock.close()
        await room.server.close()
        assert not pathlib.Path(room.path).exists()

    asyncio.run(main())
