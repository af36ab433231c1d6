"""What lies below /run/ha-agent is lost, emptied or replaced while the pair works: it is made again, and nothing moves.

The tests look at one pair, which must be as before after each of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from ha_agent.lab.control import LabFailed
from ha_agent.lab.layout import NODES, fresh_directory, other
from tests.lab_support import Pair, wait_for

THREE = {"p0", "p1", "p2"}
RUN = "/run/ha-agent"
HEALED_S = 8.0
"""The stated bound is 5 s: a look every 2 s, keepalived's answer within 1.5 s, and what a busy machine takes."""

FAULTS = {
    "everything removed": f"mv {RUN} /run/gone; rm -rf /run/gone",
    "everything emptied": f"rm -rf {RUN}/*",
    "a file for the directory": f"mv {RUN} /run/gone; touch {RUN}; rm -rf /run/gone",
    "spool emptied": f"rm -f {RUN}/notify/*",
    "spool removed": f"rm -rf {RUN}/notify",
    "a file for the spool": f"rm -rf {RUN}/notify; touch {RUN}/notify",
    "reports of the future": f"touch {RUN}/notify/99999999999.7.FAULT; rm -f {RUN}/notify/[0-8]*",
    "rubbish in the spool": f"rm -f {RUN}/notify/*; mkdir {RUN}/notify/1.2.MASTER; echo x > {RUN}/notify/x",
    "role removed": f"rm {RUN}/role.json",
    "role damaged": f"echo '{{' > {RUN}/role.json",
    "role emptied": f": > {RUN}/role.json",
    "a directory for the role": f"rm {RUN}/role.json; mkdir -p {RUN}/role.json/x",
    "groups removed": f"rm -f {RUN}/groups",
    "a directory for the groups": f"rm -f {RUN}/groups; mkdir {RUN}/groups",
    "groups damaged": f"echo rubbish > {RUN}/groups",
    "active set emptied": f"rm -f {RUN}/active/*",
    "active set removed": f"rm -rf {RUN}/active",
    "a file for the active set": f"rm -rf {RUN}/active; touch {RUN}/active",
    "active set damaged": f"for f in {RUN}/active/*; do [ -d $f ] || [ ! -e $f ] || : > $f; done",
    "sessions removed": f"rm -f {RUN}/supervisords",
    "a directory for the sessions": f"rm -f {RUN}/supervisords; mkdir {RUN}/supervisords",
    "token removed": f"rm -f {RUN}/life",
    "sockets removed": f"rm -f {RUN}/*.sock",
    "directories for the sockets": f"rm -f {RUN}/*.sock; mkdir {RUN}/control.sock {RUN}/read.sock {RUN}/peer.sock",
    "ssh removed": f"rm -rf {RUN}/ssh",
    "track file removed": f"rm {RUN}/track",
    "track file damaged": f"echo rubbish > {RUN}/track",
    "a directory for the track file": f"rm {RUN}/track; mkdir -p {RUN}/track/x",
}

MODES = {
    "": "755",
    "notify": "755",
    "active": "700",
    "ssh": "700",
    "control.sock": "660",
    "read.sock": "660",
    "peer.sock": "600",
}

pytestmark = pytest.mark.xdist_group("notes")


@pytest.fixture(scope="module")
def shared() -> Iterator[Pair]:
    made = Pair(fresh_directory("notes"))
    try:
        made.up()
        made.await_runs("node-a", THREE)
        made.await_equal()
        yield made
    finally:
        made.down()
    made.check_invariant()


def active_node(pair: Pair) -> str:
    return next(node for node in NODES if pair.runs(node) == THREE)


def defects(pair: Pair, node: str, role: str) -> list[str]:
    """What is not as it must be on ``node``, which is to be ``role``."""
    script = (
        f"cd {RUN}; stat -c '%n %a' . notify active ssh control.sock read.sock peer.sock; echo ---; cat role.json; "
        "echo ---; cat track; echo ---; ls active; echo ---; cat groups; [ ! -d groups ] || echo directory; "
        "echo ---; cat life; echo; cat supervisords; true"
    )
    raw = pair.lab.run(node, "sh", "-c", f"{{ {script}; }} 2>/dev/null", check=False)
    modes, note, track, active, groups, rest = raw.split("---\n")
    found = []
    seen = dict(line.rsplit(" ", 1) for line in modes.splitlines())
    for name, mode in MODES.items():
        if seen.get(name or ".") != mode:
            found.append(f"mode of {name or RUN}: {seen.get(name or '.')}")
    try:
        if json.loads(note)["role"] != role:
            found.append(f"role.json: {note}")
    except (ValueError, KeyError):
        found.append(f"role.json: {note!r}")
    if track != "0\n":
        found.append(f"track: {track!r}")
    wanted = sorted(THREE) if role == "active" else []
    if active.split() != [f"{name}.conf" for name in wanted]:
        found.append(f"active set: {active.split()}")
    if groups.split() != wanted:
        found.append(f"groups: {groups.split()}")
    if len(rest.split()) < 2:
        found.append(f"token and sessions: {rest!r}")
    if not hears(pair, node):
        found.append("keepalived watches another directory")
    try:
        status = pair.lab.status(node)
    except LabFailed as error:
        return [*found, f"status: {error}"]
    if status["vrrp_state"] != ("MASTER" if role == "active" else "BACKUP") or status["role"] != role:
        found.append(f"{status['role']}, VRRP {status['vrrp_state']}")
    if status["notes_problem"]:
        found.append(str(status["notes_problem"]))
    return found


def hears(pair: Pair, node: str) -> bool:
    """Whether keepalived on ``node`` watches the directory that is there now."""
    script = f"stat -c %i {RUN} 2>/dev/null || echo 0; cat /proc/[0-9]*/fdinfo/* 2>/dev/null | grep ^inotify; true"
    inode, *watched = pair.lab.run(node, "sh", "-c", script, check=False).splitlines() or ["0"]
    return any(f"ino:{int(inode):x} " in line and "mask:2c8 " in line for line in watched)


def await_whole(pair: Pair, node: str, role: str) -> None:
    wait_for("as before", lambda: not defects(pair, node, role), HEALED_S, 0.1, lambda: defects(pair, node, role))


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("role", ["active", "standby"])
def test_what_is_lost_of_the_run_directory_is_made_again_and_nothing_moves(shared: Pair, role: str, fault: str) -> None:
    """Hazards 42 and 43: files and directories of /run/ha-agent are removed, emptied or replaced; reports are lost.

    Fault: one of the agent's notes in /run, or all of them, are removed, emptied, damaged, or replaced by a directory or a
    file, on the active node or on the standby, among them keepalived's newest report and the track file.
    Answer: the agent makes them again with their modes, asks keepalived for its state, and has it watch the new directory.
    It stays the same process, no program notices, and the history says what was made again.
    Bound: 5 s; no change of role.
    """
    active = active_node(shared)
    node = active if role == "active" else other(active)
    agents = {name: shared.agent_pid(name) for name in NODES}
    pids = shared.shell(active, "pgrep -f '[s]leep infinity' | sort")
    epoch = shared.lab.status(active)["epoch"]
    shared.shell(node, FAULTS[fault])
    wait_for(
        "everything as before", lambda: not defects(shared, node, role), HEALED_S, 0.1, lambda: defects(shared, node, role)
    )
    assert not defects(shared, other(node), "standby" if role == "active" else "active")
    assert {name: shared.agent_pid(name) for name in NODES} == agents
    assert shared.shell(active, "pgrep -f '[s]leep infinity' | sort") == pids and shared.runs(other(active)) == set()
    assert shared.lab.status(active)["epoch"] == epoch


def test_a_pair_that_lost_its_run_directories_still_changes_hands(shared: Pair) -> None:
    """Hazard 42: keepalived goes on watching the directory that is gone.

    Fault: /run/ha-agent is removed on both nodes, then an operator asks for a switchover.
    Answer: keepalived was made to watch the new directory, so it gives up as ever.
    Bound: that of a switchover; no overlap.
    """
    for _ in range(2):
        active = active_node(shared)
        for node in NODES:
            shared.shell(node, f"mv {RUN} /run/gone; rm -rf /run/gone")
        await_whole(shared, active, "active")
        await_whole(shared, other(active), "standby")
        done = shared.ha(active, "switchover", "--yes")
        assert done.returncode == 0, done.stdout + done.stderr
        shared.await_runs(other(active), THREE)
        assert shared.history(active, "keepalived-reloaded") and not shared.history(active, "keepalived-stopped")


def await_alert(pair: Pair, node: str) -> None:
    wait_for("the alert", lambda: "notes-failing" in pair.lab.run(node, "ha-agent", "alert", "list", check=False), 10, 0.2)


BLOCK = f"rm -rf {RUN}/track; mkdir {RUN}/track; mount -t tmpfs none {RUN}/track"
"""The track file can be neither written nor replaced."""


def test_a_keepalived_that_cannot_be_told_to_give_up_is_stopped_and_started_again(pair: Pair) -> None:
    """Hazards 42 and 49: the track file cannot be written, so keepalived cannot be told FAULT.

    Fault: a file system is mounted in the place of the track file on the active node, then a switchover is asked for.
    Answer: the agent lives on, says what it cannot write, and stops keepalived, which has not given up after 3 s; the
    peer takes over. keepalived is started again when this node is fit.
    Bound: 3 s more than a switchover; no overlap.
    """
    pair.up()
    pair.await_runs("node-a", THREE)
    pair.await_in_sync("node-a")
    agent = pair.agent_pid("node-a")
    pair.shell("node-a", BLOCK)
    done = pair.ha("node-a", "switchover", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    pair.await_runs("node-b", THREE, 5)
    assert pair.history("node-a", "keepalived-stopped") and pair.agent_pid("node-a") == agent
    wait_for("it is said", lambda: "track" in str(pair.lab.status("node-a")["notes_problem"]), 5, 0.1)
    assert "cannot keep its notes" in pair.lab.run("node-a", "ha-agent", "status", check=False)
    wait_for(
        "an alert", lambda: "notes-failing" in pair.lab.run("node-a", "ha-agent", "alert", "list", check=False), 10, 0.2
    )
    pair.shell("node-a", f"umount {RUN}/track")
    wait_for("keepalived again", lambda: pair.lab.status("node-a")["vrrp_state"] == "BACKUP", 20, 0.1)
    await_whole(pair, "node-a", "standby")
    assert pair.runs("node-b") == THREE and pair.history("node-a", "keepalived-started")


@pytest.mark.parametrize("role", ["active", "standby"])
def test_a_fenced_node_has_no_keepalived_that_could_not_be_told(pair: Pair, role: str) -> None:
    """Hazard 49: the fence script cannot write the track file.

    Fault: the agent cannot be started any more, and the track file cannot be written, on the active node or the standby.
    Answer: ha-agent-fence sees that keepalived does not say that it gave up, and stops it: the peer takes over, or stays.
    The agent that is started again later starts keepalived, too.
    Bound: five starts, 3 s, and takeover.silent_peer_s; no overlap.
    """
    pair.up(overrides={"takeover": {"silent_peer_s": 3.0}})
    pair.await_runs("node-a", THREE)
    pair.await_in_sync("node-a")
    node = "node-a" if role == "active" else "node-b"
    pair.shell(node, f"{BLOCK}; cp /etc/ha-agent/agent.toml /tmp/good; echo broken > /etc/ha-agent/agent.toml")
    pair.lab.unit(node, "set", "ha-agent", interval_s=60.0)
    pair.lab.unit(node, "kill", "ha-agent", 9)
    pair.await_runs(other(node), THREE, 30)
    wait_for("no keepalived", lambda: not pair.lab.unit(node, "show", "keepalived")["keepalived"], 15, 0.1)
    assert pair.runs(node) == frozenset()
    assert "10.77.0.100" not in pair.shell(node, "ip -4 -o addr show eth0")
    pair.shell(node, f"umount {RUN}/track; cp /tmp/good /etc/ha-agent/agent.toml; systemctl start ha-agent")
    wait_for("keepalived again", lambda: pair.lab.status(node)["vrrp_state"] == "BACKUP", 20, 0.1)
    await_whole(pair, node, "standby")
    assert pair.runs(other(node)) == THREE


def test_a_full_run_is_said_and_keeps_no_node_from_giving_up(pair: Pair) -> None:
    """Hazard 42: /run is full.

    Fault: the file system of /run is filled on the active node, then a switchover is asked for; later it is filled on
    the standby.
    Answer: notes that are there are overwritten in place, so nothing moves and the node gives up as ever; status and an
    alert say it. A node that could not finish a takeover tells keepalived FAULT. With room again all is as before.
    Bound: that of a switchover; no overlap.
    """
    pair.up()
    pair.await_runs("node-a", THREE)
    pair.await_in_sync("node-a")
    agent = pair.agent_pid("node-a")
    pair.shell("node-a", "mount -o remount,size=2M /run; dd if=/dev/zero of=/run/filler bs=4k 2>/dev/null || true")
    wait_for("it is said", lambda: "KiB left" in str(pair.lab.status("node-a")["notes_problem"]), 5, 0.1)
    wait_for(
        "an alert", lambda: "notes-failing" in pair.lab.run("node-a", "ha-agent", "alert", "list", check=False), 10, 0.2
    )
    assert pair.role("node-a") == "active" and pair.runs("node-a") == THREE
    # It waits for a BACKUP that does not come: the node is FAULT as long as it could not take over.
    pair.ha("node-a", "switchover", "--yes", "--timeout", "5s")
    pair.await_runs("node-b", THREE, 5)
    pair.await_role("node-a", "standby")
    wait_for("FAULT", lambda: pair.lab.status("node-a")["vrrp_state"] == "FAULT", 5, 0.1)
    assert "could not take over" in pair.lab.status("node-a")["unfit"]
    pair.kill_agent("node-a")
    pair.await_role("node-a", "standby")
    assert pair.runs("node-b") == THREE and pair.runs("node-a") == frozenset() and agent is not None
    pair.shell("node-a", "rm /run/filler")
    await_whole(pair, "node-a", "standby")
    done = pair.ha("node-b", "switchover", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    pair.await_runs("node-a", THREE, 5)
