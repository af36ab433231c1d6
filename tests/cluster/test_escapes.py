"""What runs is known from the processes: nothing of a node's notes, sockets or environments is needed for its word."""

from __future__ import annotations

import os
from typing import Any

import pytest

from ha_agent.adapters.resources import find_resource
from ha_agent.lab.layout import VIP
from ha_agent.lab.sandbox import INNER
from tests.lab_support import ESCAPER, Pair, sleepers, stays, wait_for

THREE = {"p0", "p1", "p2"}
WRAPPER = '[program:w]\ncommand=/bin/bash -c "/bin/sleep 77777; true"\nstartsecs=0\n'
"""A shell that does not give way to what it starts: its end leaves the child alone."""

LOCAL = """\
[program:local-daemon]
command=/bin/bash -c "setsid -f /bin/sleep 88888; exec /bin/sleep 88889"
startsecs=0
"""


def pids(pair: Pair, node: str, pattern: str) -> set[str]:
    """Processes by what they run: an expression that does not match itself."""
    return set(pair.lab.run(node, "pgrep", "-f", pattern, check=False).split())


def both(pair: Pair, pattern: str) -> dict[str, int]:
    return {node: len(pids(pair, node, pattern)) for node in ("node-a", "node-b")}


def notes(pair: Pair, node: str) -> str:
    """Shell words: everything that the agent keeps in /run and that others than it do not need."""
    return "/run/ha-agent/role.json /run/ha-agent/groups /run/ha-agent/supervisords /run/ha-agent/partial-groups.json"


def test_what_has_forked_twice_wiped_its_environment_and_left_its_session_is_ended_by_a_release(pair: Pair) -> None:
    """Hazard 52: a program forks twice, clears its environment and leaves its session.

    Fault: a switchover and back, with such a program; a local one does the same but keeps its environment.
    Answer: it is found in supervisord's control group and ended before the word; the local program is spared.
    Bound: no overlap.
    """

    def prepare(lab: Any) -> None:
        for node in ("node-a", "node-b"):
            path = os.path.join(lab.paths.disk(node, "etc-supervisor"), "local.d", "local-daemon.conf")
            with open(path, "w", encoding="ascii") as file:
                file.write(LOCAL)

    pair.up({**sleepers(1), "escaper.conf": ESCAPER}, prepare=prepare)
    everything = {"p0", "escaper", "escaped"}
    pair.await_runs("node-a", everything)
    local = {node: pids(pair, node, "[s]leep 8888") for node in ("node-a", "node-b")}
    assert [len(found) for found in local.values()] == [2, 2]
    pair.hand_over("node-b")
    pair.await_runs("node-b", everything)
    assert pair.runs("node-a") == frozenset()
    pair.hand_over("node-a")
    pair.await_runs("node-a", everything)
    assert {node: pids(pair, node, "[s]leep 8888") for node in local} == local, "a local program was touched"
    assert {program for program, _ in pair.probe.doubles} <= {"local-daemon"}


def test_what_escaped_from_a_killed_supervisord_is_ended_before_a_second_copy_starts(pair: Pair) -> None:
    """Hazard 52: as above, and supervisord is killed under a unit that leaves its children alone (KillMode=process).

    Fault: supervisord is killed on the active node.
    Answer: what it left in its control group is ended before the new one is loaded.
    Bound: never two copies.
    """
    pair.up({"escaper.conf": ESCAPER})
    pair.await_runs("node-a", {"escaper", "escaped"})
    pair.lab.unit("node-a", "set", "supervisord", restart_s=0.3, ends_group=False)
    before = pids(pair, "node-a", "[p]robe:escaped")
    pair.lab.unit("node-a", "kill", "supervisord", 9)
    wait_for("a new one", lambda: pids(pair, "node-a", "[p]robe:escaped") not in (before, set()), 15)
    pair.await_runs("node-a", {"escaper", "escaped"})
    assert not pair.probe.doubles


def test_a_reload_of_supervisord_leaves_no_second_copy(pair: Pair) -> None:
    """Hazard 40: `supervisorctl reload` begins again within the same process.

    Fault: a reload on the active node; a program's shell has a child, another program has escaped.
    Answer: the listener tells of it before it begins, the active set is emptied; what was left is ended, then all is loaded.
    Bound: no second copy where the listener runs.
    """
    pair.up({"w.conf": WRAPPER, "escaper.conf": ESCAPER})
    pair.await_runs("node-a", {"w", "escaper", "escaped"})
    before = pids(pair, "node-a", "[s]leep 77777$") | pids(pair, "node-a", "[p]robe:escaped")
    pair.shell("node-a", "supervisorctl reload")
    wait_for("a takeover of its own", lambda: pair.history("node-a", "supervisord-replaced"), 15)
    pair.await_role("node-a", "active")
    pair.await_runs("node-a", {"w", "escaper", "escaped"})
    assert not before & (pids(pair, "node-a", "[s]leep 77777$") | pids(pair, "node-a", "[p]robe:escaped"))
    assert not pair.probe.doubles
    assert pair.lab.status("node-a")["epoch"] == 1, "the pair did not change hands"


def test_a_reload_that_nobody_tells_of_is_seen_by_the_new_socket(pair: Pair) -> None:
    """Hazard 40: as above, without an event listener.

    Fault: the listener is stopped; then SIGHUP, which begins supervisord anew, too.
    Answer: the new socket shows another life; what the last one left is ended.
    Bound: second copies for 2 s, the agent's own beat, and the sweep's grace.
    """
    pair.up({"w.conf": WRAPPER})
    pair.await_runs("node-a", {"w"})
    (before,) = pids(pair, "node-a", "[s]leep 77777$")
    pair.shell("node-a", "rm /etc/supervisor/local.d/ha-agent-listener.conf; supervisorctl update ha-agent-listener")
    pair.shell("node-a", "kill -HUP $(cat /run/supervisord.pid)")
    wait_for("a takeover of its own", lambda: pair.history("node-a", "supervisord-replaced"), 15)
    wait_for("its end", lambda: before not in pids(pair, "node-a", "[s]leep 77777$"), 10)
    wait_for("one copy", lambda: len(pids(pair, "node-a", "[s]leep 77777$")) == 1)
    pair.await_role("node-a", "active")


def test_a_role_that_goes_while_supervisord_reloads_is_let_go_of_at_once(pair: Pair) -> None:
    """Hazard 40: `supervisorctl reload`, and the node must release while supervisord waits for its programs to stop.

    Fault: a reload on the active node, one of whose programs needs 3 s to stop; keepalived is stopped at the same moment.
    Answer: what is left is told to end; the release goes on once supervisord has begun again, within the same process.
    Bound: the program's 3 s and a few more, not release.stop_timeout_s.
    """
    slow = "[program:slow]\ncommand=/bin/sh -c 'trap \"sleep 3; exit\" TERM; sleep 77777 & wait'\nstopwaitsecs=20\n"
    pair.up({"slow.conf": slow, **sleepers(2)})
    pair.await_runs("node-a", {"slow", "p0", "p1"})
    pair.shell("node-a", "supervisorctl reload")
    pair.lab.unit("node-a", "stop", "keepalived")
    pair.await_runs("node-b", {"slow", "p0", "p1"}, 20)
    assert not pair.probe.doubles and not pair.runs("node-a")


def test_a_supervisord_that_lost_its_socket_is_no_dead_one(pair: Pair) -> None:
    """Hazard 41: supervisord's socket file is deleted while supervisord lives; then the agent restarts.

    Fault: as said, on the active node, whose agent is killed; then the VIP moves.
    Answer: the process is found; status says that the socket is gone, and what helps; a release ends supervisord itself
    before its word, so that it starts nothing again.
    Bound: supervisor.hung_s; no overlap.
    """
    pair.up(overrides={"supervisor": {"hung_s": 1.0}})
    pair.await_runs("node-a", THREE)
    pair.shell("node-a", "rm /run/supervisor.sock")
    pair.kill_agent("node-a")

    def said() -> str:
        return str(pair.lab.status("node-a")["supervisord"])

    wait_for("what is wrong", lambda: said().startswith("its socket is gone"), 10, 0.1, said)
    screen = pair.ha("node-a", "status").stdout
    assert "systemctl restart supervisor" in screen and "systemctl start supervisor" not in screen
    stays("active", lambda: pair.role("node-a") == "active" and pair.runs("node-a") == THREE, 3.0)
    pair.hand_over("node-b")
    pair.await_runs("node-b", THREE)
    stays("nothing on node-a", lambda: pair.runs("node-a") == frozenset(), 3.0)
    wait_for("a new supervisord", lambda: pair.lab.status("node-a")["supervisord"] == "up", 10, 0.1)


def test_an_agent_that_has_lost_its_notes_releases_what_runs(pair: Pair) -> None:
    """Hazard 42: the agent's files in /run are removed, and it restarts.

    Fault: role and groups are removed on the active node, and its agent is killed.
    Answer: it finds processes of the registry, and releases; its word comes after that.
    Bound: no overlap; one active node with all programs.
    """
    pair.up()
    pair.await_runs("node-a", THREE)
    pair.shell("node-a", f"rm -f {notes(pair, 'node-a')}")
    pair.kill_agent("node-a")
    wait_for("that it says so", lambda: pair.history("node-a", "role-lost"), 10)

    def is_well() -> bool:
        roles = sorted(pair.role(node) for node in ("node-a", "node-b"))
        return roles == ["active", "standby"] and sorted(map(len, map(pair.runs, ("node-a", "node-b")))) == [0, 3]

    wait_for("one active node", is_well, 20, 0.1)


def test_a_node_that_lost_every_note_and_its_agent_gives_no_word_over_what_runs(pair: Pair) -> None:
    """Hazard 42: all of /run/ha-agent is emptied, and the agent restarts: there is no note of anything.

    Fault: the active node's agent is stopped, all of its /run/ha-agent is removed, and it is killed; as soon as its
    successor answers, keepalived is killed and the VIP taken off.
    Answer: the agent finds processes of the registry, and ends them before its word, for which the peer waits.
    Bound: no overlap; the peer is active with all programs.
    """
    pair.up()
    pair.await_runs("node-a", THREE)
    pair.shell("node-a", f"kill -STOP {pair.agent_pid('node-a')}; rm -rf /run/ha-agent/*")
    pair.kill_agent("node-a")
    pair.shell("node-a", f"kill -9 $(cat /run/keepalived.pid); ip addr flush dev eth0 to {VIP}")
    pair.await_runs("node-b", THREE, 30)
    stays("one copy", lambda: pair.runs("node-a") == frozenset() and pair.runs("node-b") == THREE, 3.0)
    pair.await_role("node-b", "active")
    pair.await_role("node-a", "standby")


def test_a_standby_on_which_the_registry_runs_gives_its_word_only_when_that_was_ended(pair: Pair) -> None:
    """Hazard 42: a node's notes say that it is a standby, and its processes do not.

    Fault: supervisord of the standby is given the programs by hand, behind the agent's back, while the VIP comes and goes.
    Answer: the look before the word, or the look every 10 s, finds them; the standby releases, and says so.
    Bound: 10 s and the release.
    """
    pair.up()
    pair.await_runs("node-a", THREE)
    pair.allowed_overlap_s = 15.0
    pair.shell("node-b", "cp /etc/supervisor/conf.d/p*.conf /run/ha-agent/active/; supervisorctl update")
    wait_for("them on node-b", lambda: pair.runs("node-b") == THREE)
    wait_for("the end of them", lambda: pair.runs("node-b") == frozenset(), 15)
    pair.await_role("node-b", "standby")
    assert "p0" in pair.history("node-b", "registry-found")[-1]["text"]
    assert pair.runs("node-a") == THREE and pair.role("node-a") == "active"


STRANGER = """
trap "" TERM HUP
for n in 1 2 3 4 5 6 7 8; do
    while :; do
        SUPERVISOR_SERVER_URL=unix:///run/supervisor.sock SUPERVISOR_GROUP_NAME=p0 SUPERVISOR_PROCESS_NAME=local sleep 99993
    done &
done
wait
"""
"""Has no marks itself, and starts processes with marks that TERM does not end: another one at once for each that ends."""


def test_a_strangers_processes_are_left_alone_whatever_their_numbers_and_marks_say(pair: Pair) -> None:
    """Hazards 48 and 53: a reused number of a session, and marks that any user can set.

    Fault: a session has the number of an ended supervisord; an ordinary user keeps processes with supervisord's marks that
    ignore TERM, and another one at once for each that is ended.
    Answer: a switchover ends none of them, and is not held up by them.
    Bound: none.
    """
    pair.up(sleepers(1))
    pair.await_runs("node-a", {"p0"})
    old = pair.shell("node-a", "cat /run/supervisord.pid").strip()
    pair.lab.unit("node-a", "kill", "supervisord", 9)
    wait_for("a new supervisord", lambda: pair.history("node-a", "supervisord-replaced"), 15)
    pair.await_runs("node-a", {"p0"})
    again = (
        "import os, sys, time\n"
        "def wish(): open('/proc/sys/kernel/ns_last_pid', 'w').write(str(int(sys.argv[1]) - 1))\n"
        "wish(); pid = os.fork()\n"
        "while pid and pid != int(sys.argv[1]): wish(); pid = os.fork()\n"
        "if pid: os._exit(0)\n"
        "if os.getpid() != int(sys.argv[1]): os._exit(0)\n"
        "os.setsid(); os.execv('/bin/sh', ['sh', '-c', 'sleep 99991 & sleep 99992'])\n"
    )
    pair.shell("node-a", f"env -i /usr/bin/python3 -c '{again.replace(chr(39), chr(34))}' {old} >/dev/null 2>&1 &")
    # Before anybody else starts, who might get the number.
    wait_for("the session", lambda: len(pids(pair, "node-a", "^[s]leep 9999")) == 2)
    pair.shell("node-a", f"setpriv --reuid=carol --clear-groups setsid -f /bin/sh -c '{STRANGER}' >/dev/null 2>&1")
    wait_for("the bystanders", lambda: len(pids(pair, "node-a", "^[s]leep 9999")) == 10)
    before = pids(pair, "node-a", "^[s]leep 9999")
    assert pair.shell("node-a", "ps -o sid= -C sleep | sort -u | tr -d ' '").split().count(old) == 1
    pair.hand_over("node-b")
    pair.await_runs("node-b", {"p0"})
    assert pids(pair, "node-a", "^[s]leep 9999") == before


@pytest.mark.parametrize("how", ["the shell dies", "a plain restart"])
def test_what_runs_beside_its_program_is_told_and_ended_by_a_restart_through_the_agent(pair: Pair, how: str) -> None:
    """Hazard 52: a shell wrapper dies, or is restarted past the agent, and its child lives on beside the new one.

    Fault: as said.
    Answer: the active node's look at the processes tells it (program-adrift); `supzcli restart` ends it.
    Bound: told within 15 s.
    """
    pair.up({"w.conf": WRAPPER})
    pair.await_runs("node-a", {"w"})
    (before,) = pids(pair, "node-a", "[s]leep 77777$")
    if how == "the shell dies":
        pair.shell("node-a", "kill -9 $(supervisorctl pid w)")
    else:
        pair.shell("node-a", "supervisorctl restart w")
    wait_for("a second copy", lambda: len(pids(pair, "node-a", "[s]leep 77777$")) == 2)
    told = wait_for("that it is told", lambda: pair.history("node-a", "program-adrift"), 15, 0.1)
    assert f"w (pid {before})" in told[-1]["text"]
    wait_for("the alert", lambda: pair.has_told("node-a", "belongs to no program any more"), 5, 0.2)
    assert pair.sup("node-a", "restart", "w").returncode == 0
    wait_for("one copy", lambda: len(pids(pair, "node-a", "[s]leep 77777$")) == 1)
    assert before not in pids(pair, "node-a", "[s]leep 77777$")


def test_the_fence_script_ends_what_escaped_without_any_note(pair: Pair) -> None:
    """Hazards 42 and 52: the agent cannot be started any more, and its notes are gone.

    Fault: groups and role are removed, and the fence script runs, as after five starts in vain; a program has escaped.
    Answer: it finds what is left in supervisord's control group, which it knows by itself; local programs run again.
    Bound: no overlap.
    """
    pair.up({**sleepers(1), "escaper.conf": ESCAPER})
    pair.await_runs("node-a", {"p0", "escaper", "escaped"})
    pair.lab.unit("node-a", "stop", "ha-agent")
    pair.lab.unit("node-a", "set", "supervisord", ends_group=False)
    pair.shell("node-a", f"rm -f {notes(pair, 'node-a')}")
    said = pair.shell("node-a", f"PATH={INNER}/bin:$PATH sh {find_resource('systemd/ha-agent-fence')}")
    assert "nothing of the registry is running" in said
    assert pair.runs("node-a") == frozenset() and not pids(pair, "node-a", "[p]robe:escaped")
    wait_for("the listener", lambda: pids(pair, "node-a", "[h]a-agent-listener"), 5)
    pair.await_runs("node-b", {"p0", "escaper", "escaped"}, 30)
