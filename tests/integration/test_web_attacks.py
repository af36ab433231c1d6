"""The dashboard as a process of its own, attacked by those who only reach its port, and by those who may only look."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import pathlib
import select
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from ha_agent.adapters.log_lines import BURST
from ha_agent.core.frames import FrameDecoder, encode_frame
from ha_agent.core.guard import Access
from ha_agent.core.places import RunPlaces
from ha_agent.core.web_settings import PairSettings
from ha_agent.web.door import HEAD_S, MOST_CONNECTIONS
from ha_agent.web.pairs import PairUnreachable
from ha_agent.web.remote import RemotePair
from ha_agent.web.render import try_out
from ha_agent.web.sessions import CHECKS_OF_ADDRESS, STREAMS_A_USER
from ha_agent.web.users import UserFile
from tests.certificates import make_certificate
from tests.lab_support import wait_for

PASSWORD = "correct horse battery"
HALF = b"GET /login HTTP/1.1\r\nHost: x\r\n"
CODE = "import sys; from ha_agent.web.main import main; sys.exit(main())"


class Agent:
    """Says who it is, as an agent does, and refuses everything else."""

    def __init__(self, run_dir: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(RunPlaces(run_dir).control_socket)
        self._socket.listen(64)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self._socket.accept()
                with peer:
                    for message in FrameDecoder().feed(peer.recv(65536)):
                        me = {"node": "node-a", "peer": "node-b", "role": "active", "access": "operate"}
                        answer = me if message["op"] == "whoami" else {"error": "not today"}
                        peer.sendall(encode_frame({**answer, "id": 1}))

    def close(self) -> None:
        self._socket.close()


class Dashboard:
    """``ha-agent-web serve`` on loopback; alice may operate, bob may look."""

    def __init__(self, folder: pathlib.Path, *, tls: bool = False) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        self.agent = Agent(str(folder))
        users = UserFile(str(folder / "users.json"))
        users.set_user("alice", PASSWORD, Access.OPERATE)
        users.set_user("bob", PASSWORD, Access.READ)
        conf = f'[web]\nport = {self.port}\nusers_file = "{folder}/users.json"\n'
        if tls:
            for name, content in zip(("web.key", "web.crt"), make_certificate("127.0.0.1"), strict=True):
                (folder / name).write_bytes(content)
            conf += f'tls_certificate = "{folder}/web.crt"\ntls_key = "{folder}/web.key"\n'
        (folder / "web.toml").write_text(conf + f'[pairs.local]\nrun_dir = "{folder}"\n', encoding="ascii")
        self._log = folder / "log"
        with open(self._log, "wb") as log:
            words = [sys.executable, "-c", CODE, "--config", str(folder / "web.toml"), "serve"]
            self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for("the dashboard", self._listens, 30, 0.1, self._log.read_text)

    def _listens(self) -> bool:
        with contextlib.suppress(OSError):
            self.connect().close()
            return True
        return False

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 10)

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, str, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.read().decode(), {k.lower(): v for k, v in response.getheaders()}
        finally:
            connection.close()

    def post(self, path: str, content: Any, **headers: str) -> tuple[int, Any, dict[str, str]]:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        status, text, found = self.ask(
            "POST", path, json.dumps(content).encode(), {"Content-Type": "application/json", **names}
        )
        return status, json.loads(text) if text.startswith("{") else text, found

    def log_in(self, name: str) -> tuple[str, str]:
        """The cookie and the anti-forgery token of a login."""
        status, content, headers = self.post("/api/v1/login", {"name": name, "password": PASSWORD})
        assert status == 200, content
        return headers["set-cookie"].split(";")[0], content["csrf"]

    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)
        self.agent.close()


@pytest.fixture
def web(tmp_path: pathlib.Path) -> Iterator[Dashboard]:
    made = Dashboard(tmp_path)
    yield made
    made.stop()


@contextlib.contextmanager
def crowd(dashboard: Dashboard, count: int, said: bytes) -> Iterator[list[socket.socket]]:
    """``count`` connections on which nothing but ``said`` is ever said."""
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(dashboard.connect()) for _ in range(count)]
        for one in made:
            with contextlib.suppress(OSError):
                one.sendall(said)
        yield made


def open_of(connections: list[socket.socket]) -> int:
    """How many of them the other side has not ended."""
    ended = 0
    for one in connections:
        if select.select([one], [], [], 0)[0]:
            with contextlib.suppress(BlockingIOError):
                try:
                    ended += one.recv(65536, socket.MSG_DONTWAIT) == b""
                except ConnectionError:
                    ended += 1
    return len(connections) - ended


@pytest.mark.parametrize("said", [b"", HALF, b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nname"])
def test_connections_that_say_half_of_something_take_the_port_from_nobody(web: Dashboard, said: bytes) -> None:
    with crowd(web, MOST_CONNECTIONS + 65, said) as silent:
        for _ in range(5):
            for path in ("/healthz", "/active", "/login"):
                began = time.monotonic()
                assert web.ask("GET", path)[0] == 200 and time.monotonic() - began < 5.0
            time.sleep(0.3)  # The silent ones get older than a moment, which is when an address has too many of them.
        assert web.log_in("alice")[0]
        wait_for("all are shown out", lambda: open_of(silent) == 0, HEAD_S + 20, 0.2, lambda: str(open_of(silent)))


def test_a_tls_handshake_that_never_ends_takes_the_port_from_nobody(tmp_path: pathlib.Path) -> None:
    web = Dashboard(tmp_path, tls=True)
    try:
        with crowd(web, MOST_CONNECTIONS + 65, b"\x16\x03\x01") as silent:
            context = ssl.create_default_context(cafile=str(tmp_path / "web.crt"))
            connection = http.client.HTTPSConnection("127.0.0.1", web.port, timeout=10, context=context)
            connection.request("GET", "/healthz")
            assert connection.getresponse().status == 200
            connection.close()
            wait_for("all are shown out", lambda: open_of(silent) == 0, HEAD_S + 20, 0.2, lambda: str(open_of(silent)))
    finally:
        web.stop()


def test_a_client_that_trickles_bytes_after_an_answer_is_shown_out(web: Dashboard) -> None:
    with web.connect() as one:
        one.sendall(b"GET /login HTTP/1.1\r\nHost: x\r\n\r\n")
        assert one.recv(20).startswith(b"HTTP/1.1 200")

        def is_ended() -> bool:
            try:
                one.sendall(b"G")
                return open_of([one]) == 0
            except OSError:
                return True

        wait_for("it is shown out", is_ended, 60, 0.5)


def test_guesses_at_once_are_as_few_as_one_after_another(web: Dashboard) -> None:
    def guess(number: int) -> int:
        return web.post("/api/v1/login", {"name": "alice", "password": f"guess {number}"})[0]

    with ThreadPoolExecutor(40) as pool:
        statuses = list(pool.map(guess, range(40)))
    looked_at = statuses.count(401)
    assert 1 <= looked_at <= 5 and set(statuses) <= {401, 429, 503}, statuses
    assert CHECKS_OF_ADDRESS == 2


def test_a_cookie_needs_its_token_whatever_other_header_comes_with_it(web: Dashboard) -> None:
    cookie, csrf = web.log_in("alice")
    stop = "/api/v1/pairs/local/programs/p0/stop"
    for path in (stop, "/api/v1/logout"):
        for more in ({}, {"Authorization": "Basic x"}, {"Authorization": "x"}, {"X_CSRF_Token": "x"}):
            assert web.post(path, {}, Cookie=cookie, **more)[0] == 403, (path, more)
    assert web.post(stop, {}, Cookie=cookie, Authorization="Bearer x")[0] == 401
    assert web.post(stop, {}, Cookie=cookie, X_CSRF_Token=csrf)[0] in (409, 502, 504), "let through to the agent"
    assert web.post("/api/v1/logout", {}, Cookie=cookie, X_CSRF_Token=csrf)[0] == 200


def test_a_reader_cannot_take_everybodys_live_pages(web: Dashboard) -> None:
    bob, alice = web.log_in("bob")[0], web.log_in("alice")[0]

    def open_stream(cookie: str) -> socket.socket:
        one = web.connect()
        one.sendall(f"GET /pairs/local/live HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\n\r\n".encode())
        return one

    with contextlib.ExitStack() as stack:
        pages = [stack.enter_context(open_stream(bob)) for _ in range(120)]
        answers = [page.recv(12) for page in pages]
        assert answers.count(b"HTTP/1.1 200") == STREAMS_A_USER and answers.count(b"HTTP/1.1 503") == 120 - STREAMS_A_USER
        page = stack.enter_context(open_stream(alice))
        assert page.recv(12) == b"HTTP/1.1 200"
    wait_for("the places are free again", lambda: answers_to(open_stream(bob)) == b"HTTP/1.1 200", 20, 0.3)


def answers_to(page: socket.socket) -> bytes:
    with page:
        return page.recv(12)


@pytest.mark.parametrize("body", [b"[" * 60_000, b'{"a":' * 12_000, b"\xff", b"nul", b"1", b"[]"])
def test_json_that_is_none_or_nested_without_end_is_a_bad_request(web: Dashboard, body: bytes) -> None:
    assert web.ask("POST", "/api/v1/login", body, {"Content-Type": "application/json"})[0] == 400


def test_a_language_and_an_origin_that_are_none_are_refused_without_a_traceback(web: Dashboard) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for language in ("%EF%BB%BF", "%E4%B8%AD", "xx", ""):
        assert web.ask("POST", "/language", f"language={language}".encode(), form)[0] == 400, language
    assert web.ask("POST", "/language", b"language=zh", form)[0] == 303
    assert web.ask("POST", "/login", b"name=alice&password=x", {**form, "Origin": "http://["})[0] == 403
    assert "Traceback" not in web.log()


def test_requests_that_are_none_do_not_fill_the_log(web: Dashboard) -> None:
    for _ in range(100):
        with web.connect() as one:
            one.sendall(b"\x00\r\n\r\n")
            assert one.recv(12) == b"HTTP/1.1 400"
    assert web.ask("GET", "/healthz")[0] == 200
    assert web.log().count("Invalid HTTP request") == BURST


# ---- a far pair ---------------------------------------------------------------------------------------------------

SILENT = {"name": "n1", "problem": "asleep", "age_s": None, "view": None}
GOOD = {"pair": "far", "nodes": [SILENT], "events": [{"at": 1.0, "node": "n1", "code": "x", "text": "t"}]}
MALFORMED: list[Any] = [
    b"",
    b"[" * 100_000,
    b"\xff",
    [],
    {},
    {"nodes": 5, "events": []},
    {"nodes": [{}], "events": []},
    {"nodes": [{**SILENT, "age_s": "old"}], "events": []},
    {"nodes": [{**SILENT, "age_s": 1.0, "view": {"node": {}}}], "events": []},
    {"nodes": [{**SILENT, "age_s": 1.0, "view": {"node": {"role": "active"}, "programs": 1, "alerts": {}}}], "events": []},
    {"nodes": [{**SILENT, "problem": None, "view": []}], "events": []},
]


class Far(ThreadingHTTPServer):
    """Another dashboard; ``answer`` is what it says to everything."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Far)
        self.answer: Any = GOOD
        self.status, self.asked = 200, 0
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Far(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Far)
        server.asked += 1
        body = server.answer if isinstance(server.answer, bytes) else json.dumps(server.answer).encode()
        self.send_response(server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def far() -> Iterator[Far]:
    with Far() as server:
        yield server
        server.shutdown()


def follow(far: Far, folder: pathlib.Path, watch: Callable[[RemotePair], Any]) -> None:
    """Follows the far pair as the dashboard does while ``watch`` looks at it from a thread."""
    (folder / "token").write_text("t", encoding="ascii")
    settings = PairSettings(urls=(f"http://127.0.0.1:{far.server_address[1]}",), token_file=str(folder / "token"))

    async def run() -> None:
        pair = RemotePair("far", settings, 0.2, try_out)

        async def look() -> None:
            while True:
                pair.watch()
                await asyncio.sleep(5)

        following, looking = asyncio.create_task(pair.run()), asyncio.create_task(look())
        try:
            await asyncio.to_thread(watch, pair)
        finally:
            assert not following.done()
            following.cancel()
            looking.cancel()

    asyncio.run(run())


def test_a_far_pair_that_answers_nonsense_is_followed_on(tmp_path: pathlib.Path, far: Far) -> None:
    def watch(pair: RemotePair) -> None:
        def is_told() -> bool:
            return bool(pair.known.sights) and pair.known.sights[0].problem not in (None, "asleep")

        for number, answer in enumerate(MALFORMED):
            far.answer = answer
            wait_for(f"nonsense {number}", is_told, 10, 0.05, lambda: str(pair.known))
            try_out(pair)
            far.answer = GOOD
            wait_for("sense again", lambda: pair.known.sights[0].problem == "asleep", 10, 0.05, lambda: str(pair.known))
        assert pair.known.events == GOOD["events"]

    follow(far, tmp_path, watch)


def test_a_far_pair_that_sends_elsewhere_has_not_answered(tmp_path: pathlib.Path, far: Far) -> None:
    far.status = 302

    def watch(pair: RemotePair) -> None:
        wait_for("its problem", lambda: bool(pair.known.sights), 10, 0.05)
        assert "status 302" in str(pair.known.sights[0].problem)
        with pytest.raises(PairUnreachable, match="status 302"):
            asyncio.run(pair.read_history(5))

    follow(far, tmp_path, watch)
