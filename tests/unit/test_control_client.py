"""What a command says when nobody answers at the agent's socket."""

from __future__ import annotations

import pathlib
import subprocess
import time

import pytest

from ha_agent.adapters.control import NoDaemon, ask_daemon
from ha_agent.adapters.procs import find_agent

# Of the same worker as the tests of commands that must find no agent: this one plants what looks like one.
pytestmark = pytest.mark.xdist_group("own_agent")


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
        finally:
            agent.kill()
