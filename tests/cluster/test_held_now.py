"""What the pair says of the peer's registry is what the peer holds now, not what it was sent once."""

from __future__ import annotations

import os
import subprocess
import time

from ha_agent.lab.layout import NODES
from tests.lab_support import Pair, sleepers, stays, wait_for

THREE = {"p0", "p1", "p2"}
CONF_D = "/etc/supervisor/conf.d"
RESTORED_S = 10.0
"""A few heartbeats, on a machine that has other labs to run."""


def test_a_standby_that_was_edited_holds_the_active_nodes_confs_again_before_it_is_needed(pair: Pair) -> None:
    """Hazards 32 and 47: a conf is deleted, another one changed and a third one made on the standby; then power fails.

    Fault: edits on the standby, then a power cut of the active node.
    Answer: told at once; within a heartbeat the active node's contents are there again, what they replace is kept; all
    programs start.
    Bound: a heartbeat (2 s); 10 s under test.
    """
    pair.up()
    pair.await_runs("node-a", THREE)
    pair.await_equal()
    pair.shell("node-b", f"cd {CONF_D}; rm p1.conf; sed -i s/sleep/nonsense/ p2.conf; cp p0.conf own.conf")
    wait_for("the report", lambda: pair.history("node-b", "standby-edit"), 3)
    pair.await_equal(RESTORED_S)
    assert pair.history("node-a", "standby-restored")

    def kept() -> set[str]:
        return {path for event in pair.history("node-b", "divergence-kept") for path in event["paths"]}

    wait_for("kept copies", lambda: kept() == {"p2.conf", "own.conf"}, 5, show=lambda: str(kept()))
    for node in NODES:
        assert pair.ha(node, "diff").stdout == "both registries are equal\n"
    pair.lab.power_off("node-a")
    pair.await_runs("node-b", THREE)


def test_sync_does_not_say_in_sync_of_a_standby_that_was_just_edited(pair: Pair) -> None:
    """Hazard 47: the standby's registry changes under an acknowledgement.

    Fault: confs are changed and deleted on the standby, and a sync is asked for at the same moment.
    Answer: sync looks at the standby's disk; what it calls in sync is so.
    Bound: none needed.
    """
    pair.up()
    pair.await_runs("node-a", THREE)
    pair.await_equal()
    for number in range(5):
        wanted = pair.files("node-a")
        pair.shell("node-b", f"cd {CONF_D}; rm p1.conf; echo '; {number}' >> p2.conf")
        done = pair.ha("node-a", "sync")
        assert done.returncode == 0, done.stderr
        assert pair.files("node-b") == wanted
        assert pair.lab.status("node-a")["replication"]["state"] == "in_sync"


def test_an_agent_whose_link_breaks_while_it_reads_many_confs_goes_on(pair: Pair) -> None:
    """Hazard 46: the link breaks while more files are read than are sent at once.

    Fault: 200 confs are written over and over, and the ssh connection is killed over and over.
    Answer: what was begun is dropped, and sent again over the next connection; the agent is not started again.
    Bound: none needed.
    """
    pair.up(sleepers(1))
    pair.await_runs("node-a", {"p0"})
    script = (
        f"cd {CONF_D}; i=0; while [ $i -lt 40 ]; do i=$((i+1));"
        ' for f in $(seq 200); do echo "; $i $f" > f$f.conf; done; sleep 0.1; done'
    )
    pair.shell("node-a", f"({script}) > /dev/null 2>&1 & echo $! > /tmp/editor")
    broken = 0

    def is_over() -> bool:
        return pair.shell("node-a", "kill -0 $(cat /tmp/editor) 2> /dev/null && echo yes || true").strip() != "yes"

    until = time.monotonic() + 60
    while not is_over() and time.monotonic() < until:
        broken += bool(pair.shell("node-a", "pkill -9 -x ssh && echo yes || true").strip())
    pair.await_equal(30.0)
    assert broken > 5
    assert len(pair.history("node-a", "agent-started")) == 1
    assert "Traceback" not in pair.shell("node-a", "cat /var/log/ha-agent.log")


def test_an_agent_whose_link_breaks_as_soon_as_it_reads_thousands_of_confs_goes_on(pair: Pair) -> None:
    """Hazard 46: as above, aimed at the moment: reading so many takes longer than the link's end.

    Fault: a directory with 5,000 confs is moved into the registry; once they are pending the ssh connection is killed.
    Answer: what was begun is dropped, and sent again over the next connection; the agent is not started again.
    Bound: none needed.
    """
    pair.up(sleepers(1))
    pair.await_runs("node-a", {"p0"})
    for number in range(2):
        pair.await_in_sync("node-a", 60.0)
        folder = os.path.join(pair.lab.paths.disk("node-a", "etc-supervisor"), "new")
        os.mkdir(folder)
        for name in range(5000):
            # All alike, so that they go within a frame.
            with open(os.path.join(folder, f"{name}.conf"), "w", encoding="ascii") as file:
                file.write(f"; {number}\n")
        words = pair.lab.words_inside("node-a", ["sh", "-c", "read -r _; pkill -9 -x ssh"])
        with subprocess.Popen(words, stdin=subprocess.PIPE) as killer:
            os.rename(folder, pair.path("node-a", f"many{number}"))
            wait_for("pending", lambda: pair.lab.status("node-a")["replication"]["pending"], 20)
            killer.communicate(b"now\n")
        pair.await_equal(120.0)
    assert len(pair.history("node-a", "agent-started")) == 1
    assert "Traceback" not in pair.shell("node-a", "cat /var/log/ha-agent.log")


def test_deletions_cannot_be_accepted_ahead_of_time(pair: Pair) -> None:
    """Hazard 51: the word for deletions is given while the peer is off, and used for later ones.

    Fault: `sync --accept-deletes` with the peer off; all confs are deleted afterwards; the peer comes back.
    Answer: the word is refused, with the reason; the deletions are held; a word for them then lets them go.
    Bound: nothing is lost.
    """
    pair.up(sleepers(12))
    pair.await_equal()
    pair.lab.power_off("node-b")
    wait_for("the link is down", lambda: pair.lab.status("node-a")["replication"]["state"] == "unreachable", 20, 0.2)
    done = pair.ha("node-a", "sync", "--accept-deletes", "--timeout", "2")
    assert done.returncode == 4 and "no deletion was accepted" in done.stderr, done.stderr
    assert not pair.history("node-a", "deletes-accepted")
    pair.shell("node-a", f"rm {CONF_D}/*.conf")
    pair.power_on("node-b")
    wait_for("held", lambda: pair.lab.status("node-a")["replication"]["state"] == "held", 30, 0.2)
    stays("the peer keeps its confs", lambda: len(pair.files("node-b")) == 12, 1.0)
    pair.lab.run("node-a", "ha-agent", "sync", "--accept-deletes")
    assert pair.files("node-b") == {}
    assert len(pair.history("node-a", "deletes-accepted")) == 1
