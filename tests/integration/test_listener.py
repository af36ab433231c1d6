"""The event listener under a real supervisord, with an agent that is there, away, slow or gone."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ha_agent.adapters import conf_checker
from ha_agent.adapters.procs import start_ticks
from ha_agent.adapters.supervisord import SocketAge, SupervisordFinder
from ha_agent.core.frames import FrameDecoder, encode_frame
from ha_agent.core.listener_conf import render_listener
from ha_agent.core.places import RunPlaces
from ha_agent.listener import HELD, Backlog
from tests.lab_support import wait_for

BIN = os.path.join(sys.prefix, "bin")
LISTENER = os.path.join(BIN, "ha-agent-listener")


class Agent:
    """An agent's control socket, as far as a listener needs it."""

    def __init__(self, run_dir: pathlib.Path) -> None:
        self.told: list[dict[str, Any]] = []
        self.takes_s = 0.0
        """How long it needs for an answer."""
        self.knows_of_stop = False
        self._path = RunPlaces(str(run_dir)).control_socket
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.bind(self._path)
        self._sock.listen(8)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._sock.accept()
            except OSError:
                return
            decoder = FrameDecoder()
            # A listener that is ended with its supervisord does not say goodbye.
            with connection, contextlib.suppress(ConnectionResetError):
                while data := connection.recv(65536):
                    for message in decoder.feed(data):
                        self.told.append(message)
                        time.sleep(self.takes_s)
                        self.knows_of_stop |= message["stopping"]
                        connection.sendall(encode_frame({"id": message["id"], "outcome": "taken"}))

    def close(self) -> None:
        self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
        os.unlink(self._path)

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        return [e for m in list(self.told) for e in m["events"] if name in (None, e["name"])]

    @property
    def lost(self) -> int:
        return sum(m["lost"] for m in list(self.told))


class Supervisor:
    """A real supervisord with the shipped listener's conf, and whatever programs are added."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "agent.toml").write_text(f'[paths]\nrun_dir = "{folder}"\n', encoding="ascii")
        (folder / "log").mkdir()

    def start(self, programs: str, *, buffer_size: int = 10_000) -> None:
        listener = render_listener(f"{LISTENER} --config {self.folder}/agent.toml")
        listener = listener.replace("/var/log/supervisor", str(self.folder / "log"))
        conf = (
            f"[unix_http_server]\nfile={self.folder}/s.sock\n[supervisord]\nlogfile={self.folder}/s.log\n"
            f"pidfile={self.folder}/s.pid\nchildlogdir={self.folder}/log\n[supervisorctl]\nserverurl=unix://{self.folder}/s.sock\n"
            "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n"
        )
        text = conf + listener.replace("buffer_size=10000", f"buffer_size={buffer_size}") + programs
        (self.folder / "s.conf").write_text(text, encoding="utf-8")
        words = [os.path.join(BIN, "supervisord"), "-n", "-c", str(self.folder / "s.conf")]
        self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        wait_for("supervisord", lambda: "ha-agent-listener                RUNNING" in self.ctl("status"), 15, 0.1)

    def ctl(self, *words: str) -> str:
        done = subprocess.run(
            [os.path.join(BIN, "supervisorctl"), "-c", str(self.folder / "s.conf"), *words], capture_output=True, text=True
        )
        return done.stdout

    def pid(self, name: str) -> int:
        return int(self.ctl("pid", name))

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(15)


@pytest.fixture
def supervisor(tmp_path: pathlib.Path) -> Iterator[Supervisor]:
    made = Supervisor(tmp_path)
    yield made
    made.stop()


SLEEPER = "[program:{0}]\ncommand=/bin/sleep infinity\nstartsecs=0\n"


def test_what_happens_to_a_program_reaches_the_agent(supervisor: Supervisor, tmp_path: pathlib.Path) -> None:
    agent = Agent(tmp_path)
    supervisor.start(SLEEPER.format("wéb"))
    wait_for("it runs", lambda: [e["after"] for e in agent.events("wéb")][-1:] == ["RUNNING"], 10)
    assert agent.told[0]["began"] is True
    os.kill(supervisor.pid("wéb"), signal.SIGKILL)
    wait_for("all states", lambda: [e["after"] for e in agent.events("wéb")][2:] == ["EXITED", "STARTING", "RUNNING"], 10)
    ended = agent.events("wéb")[2]
    assert (ended["group"], ended["before"], ended["expected"], ended["exits"]) == ("wéb", "RUNNING", False, 1)
    agent.close()


def test_an_agent_that_is_away_is_told_when_it_is_back(supervisor: Supervisor, tmp_path: pathlib.Path) -> None:
    supervisor.start(SLEEPER.format("web"))
    os.kill(supervisor.pid("web"), signal.SIGKILL)
    wait_for("it says so", lambda: "they are held" in (tmp_path / "log" / "ha-agent-listener.log").read_text(), 10)
    agent = Agent(tmp_path)
    wait_for("everything", lambda: [e["after"] for e in agent.events("web")][-3:] == ["EXITED", "STARTING", "RUNNING"], 10)
    assert [e["after"] for e in agent.events("web")] == ["STARTING", "RUNNING", "EXITED", "STARTING", "RUNNING"]
    wait_for("that, too", lambda: "takes events again" in (tmp_path / "log" / "ha-agent-listener.log").read_text(), 10)
    agent.close()


def test_a_reload_is_another_life_of_the_same_process(supervisor: Supervisor, tmp_path: pathlib.Path) -> None:
    """Hazard 40: a reload begins supervisord anew within its process.

    Fault: `supervisorctl reload`.
    Answer: the new socket shows another life, whether or not the listener could tell of it before.
    Bound: none.
    """
    agent = Agent(tmp_path)
    supervisor.start(SLEEPER.format("web"))
    finder = SupervisordFinder(f"{tmp_path}/s.sock", f"{tmp_path}/s.conf", 0.0)
    age, before = SocketAge(f"{tmp_path}/s.sock"), finder.find()
    first = age.read()
    assert before is not None and first is not None and first == age.read()
    supervisor.ctl("reload")
    wait_for("another life", lambda: (age.read() or first)[0] != first[0], 10)
    wait_for("the same process", lambda: finder.find() == before, 10)
    agent.close()


def test_a_reload_waits_until_a_busy_agent_knows_of_it(supervisor: Supervisor, tmp_path: pathlib.Path) -> None:
    """Else supervisord would begin again with the active set that the agent is about to empty."""
    agent = Agent(tmp_path)
    supervisor.start("[program:web]\ncommand=/bin/sleep infinity\n")
    wait_for("its first word", lambda: agent.events("web"))
    agent.takes_s = 2.5
    supervisor.ctl("reload")
    log = tmp_path / "s.log"
    wait_for("another life", lambda: log.read_text().count("supervisord started") == 2, 15, 0.01)
    assert agent.knows_of_stop
    agent.takes_s = 0.0
    agent.close()


def test_the_word_that_supervisord_stops_is_told_though_the_listener_is_ended_with_it() -> None:
    backlog = Backlog()
    backlog.take(0.0)
    backlog.note_stopping()
    backlog.end()
    told = backlog.take(0.0)
    assert told is not None and told["stopping"] is True
    assert backlog.take(0.0) is None


def test_a_supervisord_without_its_socket_is_found_and_a_young_one_is_waited_for(
    supervisor: Supervisor, tmp_path: pathlib.Path
) -> None:
    """Hazard 41: supervisord's socket is deleted while it lives.

    Fault: as said.
    Answer: it is found by its pid file; one that is younger than it needs to make its socket is not found yet.
    Bound: none.
    """
    supervisor.start("")
    pid = SupervisordFinder(f"{tmp_path}/s.sock", f"{tmp_path}/s.conf", 1e9).find()
    assert pid is not None and pid == int((tmp_path / "s.pid").read_text(encoding="ascii"))
    (tmp_path / "s.sock").unlink()
    assert SupervisordFinder(f"{tmp_path}/s.sock", f"{tmp_path}/s.conf", 0.0).find() == pid
    assert SupervisordFinder(f"{tmp_path}/s.sock", f"{tmp_path}/s.conf", 1e9).find() is None
    (tmp_path / "s.pid").write_text("1\n", encoding="ascii")
    finder = SupervisordFinder(f"{tmp_path}/s.sock", f"{tmp_path}/s.conf", 0.0)
    assert finder.find() is None, "process 1 is no supervisord"
    finder.hint = pid, start_ticks(pid) or 0
    assert finder.find() == pid
    finder.hint = pid, 5
    assert finder.find() is None


def test_a_question_that_was_cut_off_ends_the_parser_without_a_word(tmp_path: pathlib.Path) -> None:
    """The agent was killed while it wrote it."""
    words = [sys.executable, conf_checker.SCRIPT, str(tmp_path / "s.conf")]
    done = subprocess.run(words, input='{"confs": {"a.conf": "[prog', capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_buffer_that_ran_over_is_noticed(supervisor: Supervisor, tmp_path: pathlib.Path) -> None:
    """Hazard 23: supervisord's buffer of events holds few of them and drops the oldest.

    Fault: the listener is stopped (SIGSTOP) while programs change state more often than the buffer holds.
    Answer: how many were lost is told, and the agent then looks at every program itself.
    Bound: the number is right, the newest events arrive.
    """
    agent = Agent(tmp_path)
    supervisor.start("".join(SLEEPER.format(f"p{n}") for n in range(3)), buffer_size=5)
    wait_for("they run", lambda: len([e for e in agent.events() if e["after"] == "RUNNING"]) >= 3, 10)
    # Its own start is an event, too, and comes a second later than it.
    wait_for("and itself", lambda: [e["after"] for e in agent.events("ha-agent-listener")][-1:] == ["RUNNING"], 10)
    before, listener = len(agent.events()), supervisor.pid("ha-agent-listener")
    os.kill(listener, signal.SIGSTOP)
    for _ in range(3):
        for number in range(3):
            supervisor.ctl("restart", f"p{number}")
    os.kill(listener, signal.SIGCONT)
    # A restart is four events: STOPPING, STOPPED, STARTING, RUNNING.
    wait_for(
        "all of them are accounted for",
        lambda: agent.lost + len(agent.events()) - before == 3 * 3 * 4,
        10,
        show=lambda: agent.told,
    )
    assert agent.lost > 20 and agent.events()[-1]["after"] == "RUNNING" and agent.events()[-1]["name"] == "p2"
    agent.close()


def test_the_listener_ends_with_its_supervisord_and_answers_nobody_else(
    supervisor: Supervisor, tmp_path: pathlib.Path
) -> None:
    supervisor.start("")
    pid = supervisor.pid("ha-agent-listener")
    supervisor.stop()
    wait_for("it has ended", lambda: not os.path.exists(f"/proc/{pid}"), 5)
    done = subprocess.run([LISTENER], stdin=subprocess.DEVNULL, capture_output=True, text=True, env={})
    assert done.returncode == 2 and "started by supervisord" in done.stderr


def test_ten_thousand_events_in_a_burst_lose_nothing_and_say_what_was_merged(tmp_path: pathlib.Path) -> None:
    """Design, alerts: a burst loses nothing that mattered and says what was merged.

    Fault: 10,000 changes of state of 50 programs as fast as the listener takes them, while the agent is away.
    Answer: they are held, merged per program above a bound, with the counts of all of them.
    Bound: every end is counted, every newest state is there, less memory than 40 MiB.
    """
    (tmp_path / "agent.toml").write_text(f'[paths]\nrun_dir = "{tmp_path}"\n', encoding="ascii")
    process = subprocess.Popen(
        [LISTENER, "--config", str(tmp_path / "agent.toml")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"SUPERVISOR_SERVER_URL": "unix:///x"},
    )
    assert process.stdin is not None and process.stdout is not None
    states = ("EXITED", "STARTING", "RUNNING")
    for number in range(10_000):
        assert process.stdout.readline() == b"READY\n"
        name, after = f"p{number // 3 % 50}", states[number % 3]
        extra = "expected:0 pid:9" if after == "EXITED" else "pid:9"
        payload = f"processname:{name} groupname:{name} from_state:{states[number % 3 - 1]} {extra}"
        head = f"ver:3.0 server:s serial:{number} pool:l poolserial:{number} "
        head += f"eventname:PROCESS_STATE_{after} len:{len(payload)}\n"
        process.stdin.write((head + payload).encode())
        process.stdin.flush()
        assert process.stdout.readline() == b"RESULT 2\n" and process.stdout.read(2) == b"OK"
    with open(f"/proc/{process.pid}/statm", "rb") as file:
        assert int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") < 40 << 20
    agent = Agent(tmp_path)
    wait_for("all of it", lambda: sum(1 + e["merged"] for e in agent.events()) == 10_000, 10)
    assert len(agent.events()) <= HELD and agent.lost == 0
    assert sum(e["exits"] for e in agent.events()) == sum(number % 3 == 0 for number in range(10_000))
    newest = {e["name"]: e["after"] for e in agent.events()}
    assert newest == {f"p{n}": "EXITED" if f"p{n}" == f"p{9999 // 3 % 50}" else "RUNNING" for n in range(50)}
    process.stdin.close()
    process.stdout.close()
    assert process.wait(5) == 0
    agent.close()
