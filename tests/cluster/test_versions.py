"""Two agents of different versions: what both know works, what one does not know is said, another protocol is refused."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import shutil
import sys

import pytest

import ha_agent
from ha_agent.lab.control import LabFailed
from ha_agent.lab.layout import other
from tests.lab_support import Pair, wait_for

THREE = {"p0", "p1", "p2"}


def make_other(folder: str, protocol: int | None) -> None:
    """An ha-agent that calls itself 0.0.9 and knows neither of the newest operations, or speaks another protocol."""
    made = pathlib.Path(folder) / "ha_agent"
    shutil.copytree(os.path.dirname(ha_agent.__file__), made, ignore=shutil.ignore_patterns("__pycache__"))
    (made / "__init__.py").write_text('__version__ = "0.0.9"\n', encoding="ascii")
    table = made / "daemon" / "operations" / "table.py"
    text = table.read_text(encoding="utf-8")
    for name in ("judge", "programs", "contents", "drill-begin", "payload"):
        text, count = re.subn(rf'    Operation\("{name}", [^\n]*\n', "", text)
        assert count == 1, name
    table.write_text(text, encoding="utf-8")
    if protocol is not None:
        words = made / "core" / "words.py"
        text = words.read_text(encoding="utf-8").replace("PROTOCOL_VERSION = 1", f"PROTOCOL_VERSION = {protocol}")
        words.write_text(text, encoding="utf-8")


def run_other(pair: Pair, node: str, protocol: int | None = None) -> None:
    """Has the agent of ``node`` replaced by the other version, as a package would."""
    folder = os.path.join(pair.lab.paths.directory, f"other-{node}")
    make_other(folder, protocol)
    pair.lab.unit(node, "stop", "ha-agent")
    command = f"{sys.executable} -m ha_agent daemon --config /etc/ha-agent/agent.toml"
    pair.shell(node, f"PYTHONPATH={folder} setsid {command} >> /var/log/ha-agent.log 2>&1 < /dev/null &")

    def is_there() -> bool:
        with contextlib.suppress(LabFailed):
            return bool(pair.lab.status(node)["version"] == "0.0.9")
        return False

    wait_for("the other version", is_there, 10, 0.1)


@pytest.mark.parametrize("older", ["node-a", "node-b"])
def test_an_older_agent_on_either_node_replicates_hands_over_and_says_what_it_does_not_know(pair: Pair, older: str) -> None:
    """Design, upgrade: nodes of two adjacent versions work together.

    Fault: one node has an older agent, which lacks operations that the newer one asks for.
    Answer: replication, acknowledgement, interlock and switchover work both ways; what cannot be asked is said.
    Bound: no overlap.
    """
    pair.up()
    pair.await_runs("node-a", THREE)
    run_other(pair, older)
    wait_for("in sync", lambda: pair.lab.status("node-a")["replication"]["state"] == "in_sync")
    pair.shell("node-a", "echo '; edited' >> /etc/supervisor/conf.d/p0.conf")
    pair.await_equal()
    newer = other(older)
    wait_for("what is not known", lambda: pair.lab.status(newer)["payload"]["state"] == "unknown", 60, 0.2)
    assert pair.lab.status(newer)["payload"]["problem"] == f"{older} has an agent that cannot compare yet"
    for target in ("node-b", "node-a"):
        wait_for("ready", lambda: pair.ha(newer, "switchover", "--dry-run").returncode == 0, 20, 0.1)
        done = pair.ha(newer, "switchover", "--yes")
        assert done.returncode == 0, done.stdout + done.stderr
        pair.await_runs(target, THREE)
    if older == "node-b":
        stopped = pair.sup("node-a", "stop", "p1")
        assert stopped.returncode == 0 and "parked on node-a and node-b" in stopped.stdout
        started = pair.sup("node-a", "start", "p1")
        assert started.returncode == 0 and "registered on node-a and node-b" in started.stdout
        assert "node-b could not be asked whether it could run this" in started.stderr
        shown = pair.sup("node-a", "status", "--pair")
        assert "unknown operation 'programs'" in shown.stdout and "Traceback" not in shown.stderr


def test_an_agent_that_speaks_another_protocol_is_not_listened_to_and_both_say_why(pair: Pair) -> None:
    """Design, upgrade: the frame protocol is versioned.

    Fault: the standby's agent speaks another version of the frames.
    Answer: nothing is exchanged; status says which versions there are.
    Bound: none.
    """
    pair.up()
    pair.await_runs("node-a", THREE)
    run_other(pair, "node-b", protocol=2)
    wait_for("the reason", lambda: "protocol version" in pair.ha("node-a", "status").stdout, 15, 0.2)
    assert pair.runs("node-a") == THREE and pair.runs("node-b") == set()
