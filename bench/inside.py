"""Runs inside a node: times a stop and a start of one program by the agent, and by supervisord's interface alone.

``python -m bench.inside ROUNDS CONF``; prints one JSON object with lists of seconds.
"""

from __future__ import annotations

import json
import os
import sys
import time
import xmlrpc.client
from collections.abc import Callable

from supervisor.xmlrpc import SupervisorTransport

from ha_agent.adapters.control import ask_daemon

RUN_DIR, SOCKET = "/run/ha-agent", "unix:///run/supervisor.sock"


def _timed(work: Callable[..., object], *words: object) -> float:
    began = time.perf_counter()
    work(*words)
    return time.perf_counter() - began


def main() -> int:
    """Alternates the two ways, so that both meet the same moments of the machine."""
    rounds, name = int(sys.argv[1]), sys.argv[2]
    supervisor = xmlrpc.client.ServerProxy("http://127.0.0.1", SupervisorTransport("", "", SOCKET)).supervisor
    found: dict[str, list[float]] = {"bare stop": [], "bare start": [], "reread": [], "stop": [], "start": [], "keep": []}
    for _ in range(rounds):
        found["bare stop"].append(_timed(supervisor.stopProcess, name))
        found["bare start"].append(_timed(supervisor.startProcess, name))
        found["reread"].append(_timed(supervisor.reloadConfig))
        for verb, key, more in (
            ("stop", "keep", {"keep": True}),
            ("start", "", {}),
            ("stop", "stop", {}),
            ("start", "start", {}),
        ):
            message = {"op": f"program-{verb}", "names": [name], **more}
            took = _timed(ask_daemon, RUN_DIR, message, 60.0)
            time.sleep(0.2)
            if key:
                found[key].append(took)
        time.sleep(0.05)
    json.dump(found, sys.stdout)
    return 0


if __name__ == "__main__":
    os.chdir("/")
    sys.exit(main())
