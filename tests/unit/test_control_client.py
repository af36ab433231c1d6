"""What a command says when nobody answers at the agent's socket."""

from __future__ import annotations

import pathlib
import socket
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from ha_agent.adapters.control import NoDaemon, ask_daemon
from ha_agent.adapters.procs import find_agent
from ha_agent.core.frames import Message, encode_frame
from ha_agent.core.places import RunPlaces

# Of the same worker as the tests of commands that must find no agent: this one plants what looks like one.
pytestmark = pytest.mark.xdist_group("own_agent")


def answer_after(delay_s: float, run_dir: pathlib.Path, ask: Callable[[], Message]) -> Message:
    """What ``ask`` is answered by an agent whose socket is there after ``delay_s`` alone, as one that begins again."""

    def serve() -> None:
        time.sleep(delay_s)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
            door.bind(RunPlaces(str(run_dir)).control_socket)
            door.listen()
            with door.accept()[0] as session:
                session.recv(4096)
                session.sendall(encode_frame({"id": 1}))

    with ThreadPoolExecutor(1) as pool:
        served = pool.submit(serve)
        answer = ask()
        served.result()
    return answer


def test_an_agent_that_runs_without_its_socket_is_not_to_be_started(tmp_path: pathlib.Path) -> None:
    if find_agent() is None:
        with pytest.raises(NoDaemon, match="systemctl start ha-agent"):
            ask_daemon(str(tmp_path), {"op": "status"}, 1.0)
    # It is known by its command line alone.
    words = ["/bin/cat", "-", "ha_agent", "daemon"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as agent:
        try:
            # The kernel shows the words of a command a moment after it was begun.
            deadline = time.monotonic() + 10.0
            while find_agent() is None and time.monotonic() < deadline:
                time.sleep(0.001)
            assert find_agent() is not None
            with pytest.raises(NoDaemon, match="makes it again") as caught:
                ask_daemon(str(tmp_path), {"op": "status"}, 1.0)
            assert "systemctl start" not in str(caught.value) and str(tmp_path) in str(caught.value)
            assert answer_after(0.3, tmp_path, lambda: ask_daemon(str(tmp_path), {"op": "status"}, 10.0)) == {"id": 1}
        finally:
            agent.kill()
