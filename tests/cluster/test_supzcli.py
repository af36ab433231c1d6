"""supzcli on a real pair, as the people use it who run programs: ordinary users."""

from __future__ import annotations

import functools
import json
import os
import pathlib
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ha_agent.lab.layout import VIP, fresh_directory, other
from tests.lab_support import SLEEPER, Pair, stays, wait_for

THREE = {"p0", "p1", "p2"}
WORKERS = {"worker_00", "worker_01", "worker_02"}
BILL = {"bill_00", "bill_01"}
REDIS = f"""\
[program:redis]
command=/usr/bin/redis-server --port 6379 --bind {VIP} --protected-mode no --save "" --dir /var/lib/redis --set-proc-title no
user=redis
"""
WEB = """\
[program:web]
command=/usr/bin/python3 -u -m http.server 8080
user=alice
directory=/usr/share/doc
"""
BOTH = "node-a and node-b"

one_worker = pytest.mark.xdist_group("guarded")
"""For the tests that look at one pair: a single worker has it."""


def up(pair: Pair, confs: dict[str, str] | None = None, runs: set[str] | None = None, **options: Any) -> None:
    pair.up(confs, **options)
    pair.lab.wait_settled()
    pair.await_runs("node-a", THREE if runs is None else runs)


def states(pair: Pair, node: str) -> dict[str, str]:
    """What supzcli's status says of each program; the event listener is there everywhere."""
    found = dict(line.split()[:2] for line in pair.sup(node, "status").stdout.splitlines())
    assert found.pop("ha-agent-listener") in ("RUNNING", "STARTING")
    return found


def good(done: subprocess.CompletedProcess[str], *said: str) -> str:
    assert done.returncode == 0, f"{done.returncode}: {done.stdout}{done.stderr}"
    for text in said:
        assert text in done.stdout, done.stdout
    return done.stdout


def refused(done: subprocess.CompletedProcess[str], *said: str, code: int = 3) -> None:
    assert done.returncode == code, f"{done.returncode}: {done.stdout}{done.stderr}"
    for text in said:
        assert text in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and "error:" not in done.stdout


def pids(pair: Pair, node: str) -> dict[str, int]:
    """Process ids by name, from supervisord itself."""
    text = pair.lab.run(node, "supervisorctl", "-c", "/etc/supervisor/supervisord.conf", "status", check=False)
    found = {row[1]: int(row[2]) for row in re.findall(r"^((\S+) +RUNNING +pid (\d+))", text, re.M)}
    found.pop("ha-agent-listener", None)
    return found


# ---- the whole way -------------------------------------------------------------------------------------------


def test_the_session_of_an_ordinary_user_and_what_a_failover_makes_of_it(pair: Pair) -> None:
    """Design, parking: a failover starts what the registry says, and nothing that was stopped.

    Fault: the power of the active node is cut after a program was stopped.
    Answer: what was stopped stays stopped on the other node, is started there by its user, and stays right on the way back.
    Bound: no overlap.
    """
    up(pair, {"redis.conf": REDIS, "web.conf": WEB, "p0.conf": SLEEPER.format(name="p0")}, {"redis", "web", "p0"})
    typed = "help\navail\nstatus\nstop web\nstatus web\nstart web\nstop redis\nstatus\nexit\n"
    said = good(pair.sup("node-a", typed=typed))
    assert said.count("New_supervisor [node-a active]> ") == 9
    assert "shutdown" in said and re.search(r"^web +in use +auto +999:999", said, re.M)
    assert f"web: stopped, parked on {BOTH}" in said and f"web: started, registered on {BOTH}" in said
    assert f"redis: stopped, parked on {BOTH}" in said and re.search(r"redis +PARKED +since", said)
    assert pair.runs("node-a") == {"web", "p0"}

    pair.lab.power_off("node-a")
    pair.await_runs("node-b", {"web", "p0"})
    stays("redis is not started", lambda: "redis" not in pair.runs("node-b"), 1.0)
    assert states(pair, "node-b")["redis"] == "PARKED"
    alone = pair.sup("node-b", "start", "redis")
    assert alone.returncode == 7 and "registered on node-b only" in alone.stdout
    assert "node-a cannot be reached" in alone.stderr and "does not start redis" in alone.stderr
    pair.await_runs("node-b", {"web", "p0", "redis"})

    pair.power_on("node-a")
    pair.await_role("node-a", "standby", 30.0)
    pair.await_equal(15.0)
    assert pair.ha("node-b", "switchover", "--yes").returncode == 0
    pair.await_runs("node-a", {"web", "p0", "redis"})
    by = {e["by"] for e in pair.history("node-a", "parked") + pair.history("node-b", "unparked")}
    assert by == {"alice"}


@pytest.mark.parametrize("verb", ["stop", "start"])
def test_what_was_acknowledged_holds_on_the_survivor_whenever_the_power_is_cut(pair: Pair, verb: str) -> None:
    """Design, acknowledged means on both nodes: a race with the node's death.

    Fault: the power of the active node is cut at each step of a stop, and of a start.
    Answer: what was acknowledged is true on the other node; what was not is the old state or the new one, whole.
    Bound: no overlap.
    """
    up(pair)
    before, after = ("p0.conf", "p0.conf.parked") if verb == "stop" else ("p0.conf.parked", "p0.conf")
    active = "node-a"
    acknowledged = 0

    def await_moment(moment: str, active: str, command: subprocess.Popen[str]) -> None:
        looks: dict[str, Callable[[], bool]] = {
            "asked": lambda: True,
            "renamed here": lambda: after in pair.files(active),
            "there": lambda: after in pair.files(other(active)),
            "stopped or started": lambda: ("p0" in pair.runs(active)) is (verb == "start"),
            "answered": lambda: command.poll() is not None,
        }
        wait_for(moment, looks[moment], 10.0, 0.0002)

    for moment in ("asked", "renamed here", "there", "stopped or started", "answered"):
        standby = other(active)
        if verb == "start":
            good(pair.sup(active, "stop", "p0"))
        command = subprocess.Popen(
            pair.words_as(active, "alice", "supzcli", verb, "p0"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        await_moment(moment, active, command)
        pair.lab.power_off(active)
        said = command.communicate(timeout=20)[0]
        is_acknowledged = command.returncode == 0 and BOTH in said
        acknowledged += is_acknowledged
        pair.await_role(standby, "active")
        found = {n for n in pair.files(standby) if n.startswith("p0")}
        assert found in ({before}, {after}), found
        if is_acknowledged:
            assert found == {after}, f"{moment}: {said}"
        runs = THREE if "p0.conf" in found else THREE - {"p0"}
        pair.await_runs(standby, runs)
        stays("what the registry says is what runs", functools.partial(pair.is_running, standby, runs), 0.5)
        pair.power_on(active)
        pair.await_role(active, "standby", 30.0)
        pair.await_equal(15.0)
        pair.await_in_sync(standby)
        if "p0.conf" not in found:
            good(pair.sup(standby, "start", "p0"))
        pair.await_runs(standby, THREE)
        active = standby
    assert acknowledged >= 1, "the answer came before the cut at the last moment at least"


@pytest.mark.shared_lab
def test_a_stop_that_the_peer_can_not_hear_of_says_what_that_means(pair: Pair) -> None:
    """Design, acknowledged means on both nodes, or says plainly that it is not.

    Fault: the standby's agent is down during a stop and a start.
    Answer: done here, exit status 7, with what a failover would do now; the peer has it as soon as it is back.
    Bound: none.
    """
    up(pair)
    pair.lab.unit("node-b", "stop", "ha-agent")
    wait_for("no link", lambda: pair.lab.status("node-a")["replication"]["state"] == "unreachable")
    done = pair.sup("node-a", "stop", "p0", "p1")
    assert done.returncode == 7 and "p0: stopped, parked on node-a only" in done.stdout
    assert "node-b cannot be reached" in done.stderr and "it starts p0 and p1" in done.stderr
    assert pair.runs("node-a") == {"p2"}
    pair.lab.unit("node-b", "start", "ha-agent")
    pair.await_equal(15.0)
    assert "p0.conf.parked" in pair.files("node-b")


# ---- who may do what, and where ------------------------------------------------------------------------------


@pytest.mark.shared_lab
def test_a_standby_starts_and_parks_nothing_and_names_the_node_that_does(pair: Pair) -> None:
    up(pair)
    local = pair.lab.paths.disk("node-b", "etc-supervisor") + "/local.d/local1.conf"
    with open(local, "w", encoding="ascii") as file:
        file.write(SLEEPER.format(name="local1"))
    pair.shell("node-b", "supervisorctl -c /etc/supervisor/supervisord.conf update")
    for words in (["start", "p0"], ["stop", "p0"], ["restart", "p0"], ["update"], ["start", "all"], ["deregister", "p0"]):
        refused(pair.sup("node-b", *words), "node-b is standby; node-a is active: run this there")
    assert pair.sup("node-b", "add", "p0").returncode in (1, 3)
    # What belongs to this node alone is managed on this node.
    assert good(pair.sup("node-b", "restart", "local1")) == "local1: stopped\nlocal1: started\n"
    assert states(pair, "node-b") == {"local1": "RUNNING"}
    assert pair.runs("node-b") == set() and pair.runs("node-a") == THREE
    # What is at the active node can be looked at from here, also by who may only look.
    for user in ("alice", "bob"):
        shown = good(pair.sup("node-b", "status", "p0", "local1", user=user))
        assert "local1" in shown.partition("at node-a, which is active:\n")[0] and "  p0  " in shown, shown
    pair.shell("node-a", "echo 'said by p0' >> $(ls -t /var/log/supervisor/p0-stdout* | head -n 1)")
    assert "said by p0" in good(pair.sup("node-b", "tail", "p0", user="bob"))
    assert "said by p0" in pair.shell("node-b", "timeout -s INT 3 supzcli tail -f p0 || true")
    assert pair.sup("node-b", "tail", "nobody").returncode != 0
    unknown = pair.sup("node-b", "status", "nobody")
    assert unknown.returncode == 4 and "nobody: ERROR (no such process)" in unknown.stdout
    shown = good(pair.sup("node-b", "status", "--pair"))
    assert shown.index("node-b  standby") < shown.index("local1") < shown.index("node-a  active") < shown.index("p0")


def test_groups_decide_who_changes_who_looks_and_who_does_neither(pair: Pair) -> None:
    up(pair)
    good(pair.sup("node-a", "status", user="bob"), "p0")
    good(pair.sup("node-a", "tail", "p0", user="bob"))
    good(pair.sup("node-a", "avail", user="bob"), "p0")
    assert pair.run_as("node-a", "bob", "ha-agent", "status").returncode == 0
    for words in (
        ["stop", "p0"],
        ["start", "p0"],
        ["restart", "p0"],
        ["update"],
        ["reread"],
        ["signal", "KILL", "p0"],
        ["clear", "p0"],
        ["remove", "p0"],
        ["deregister", "p0"],
    ):
        done = pair.sup("node-a", *words, user="bob")
        assert done.returncode == 3 and "changes need membership of group ha-agent" in done.stderr, f"{words}: {done}"
    assert pair.run_as("node-a", "bob", "ha-agent", "switchover", "--yes").returncode == 3
    assert pair.run_as("node-a", "bob", "ha-agent", "maintenance", "on", "--for", "1h").returncode == 3
    assert "read only" in pair.sup("node-a", typed="exit\n", user="bob").stdout
    nobody = pair.sup("node-a", "status", user="carol")
    assert nobody.returncode == 3 and "member of group ha-agent" in nobody.stderr
    assert pair.runs("node-a") == THREE


def test_the_history_names_the_user_also_behind_sudo(pair: Pair) -> None:
    up(pair)
    good(pair.sup("node-a", "stop", "p0"))
    good(pair.run_as("node-a", "root", "env", "SUDO_USER=dora", "supzcli", "start", "p0"))
    # An ordinary user's word on who he is does not count.
    good(pair.run_as("node-a", "alice", "env", "SUDO_USER=root", "supzcli", "restart", "p0"))
    assert [e["by"] for code in ("parked", "unparked", "program-restarted") for e in pair.history("node-a", code)] == [
        "alice",
        "dora (sudo)",
        "alice",
    ]


ASK = """\
import json, sys
from ha_agent.adapters.control import ask_daemon, CommandFailed, NoDaemon
try:
    print(json.dumps(ask_daemon("/run/ha-agent", json.loads(sys.argv[1]), 10)))
except (CommandFailed, NoDaemon) as error:
    print(json.dumps({"error": str(error)}))
"""


@one_worker
@pytest.mark.parametrize(
    "words",
    [
        ("shutdown",),
        ("reload",),
        ("shut",),
        ("stop p1; shutdown",),
        ("status\nshutdown",),
        ("shutdown ",),
        ("Shutdown",),
        ("-c", "/run/lab/alice/my.conf", "shutdown"),
        ("-s", "unix:///run/supervisor.sock", "shutdown"),
        ("--serverurl=unix:///run/supervisor.sock", "shutdown"),
        ("-i", "shutdown"),
        ("open", "unix:///run/other.sock"),
        ("open", "http://localhost:9001"),
        ("!supervisorctl", "shutdown"),
        ("_refuse",),
        ("__class__",),
    ],
)
def test_no_word_of_a_command_line_gets_around_the_guard(guarded: Pair, words: tuple[str, ...]) -> None:
    before = pids(guarded, "node-a")
    done = guarded.sup("node-a", *words)
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert pids(guarded, "node-a") == before and len(before) == 3


@one_worker
@pytest.mark.parametrize(
    "message",
    [
        {"op": "supervisor", "method": "shutdown", "params": []},
        {"op": "supervisor", "method": "restart", "params": []},
        {"op": "supervisor", "method": "stopAllProcesses", "params": []},
        {"op": "supervisor", "method": "stopProcess", "params": ["p0"]},
        {"op": "supervisor", "method": "stopProcessGroup", "params": ["p0"]},
        {
            "op": "supervisor",
            "method": "system.multicall",
            "params": [[{"methodName": "supervisor.shutdown", "params": []}]],
        },
        {"op": "supervisor", "method": "shutdown", "params": [], "uid": 0, "by": "root", "access": "operate"},
        {"op": "at-peer", "ask": {"op": "supervisor", "method": "shutdown", "params": []}},
        {"op": "at-peer", "ask": {"op": "program-start", "names": ["p0"]}},
        {"op": "at-peer", "ask": {"op": "release", "epoch": 10**6, "claimed_by": "node-b"}},
        {
            "op": "restore",
            "generation": "1.1",
            "path": "x.conf",
            "sha256": "0" * 64,
            "mode": 438,
            "content": "W3Byb2dyYW06eF0=",
        },
        {"op": "supervisor", "method": "sendProcessStdin", "params": ["ha-agent-listener", "RESULT 2\nOK"]},
        {"op": "supervisor", "method": "sendProcessStdin", "params": ["p0", "text"]},
        {"op": "supervisor", "method": "stopProcess", "params": ["ha-agent-listener"]},
        {"op": "supervisor", "method": "signalProcess", "params": ["ha-agent-listener", "STOP"]},
        {"op": "supervisor", "method": "removeProcessGroup", "params": ["ha-agent-listener"]},
        {"op": "supervisor", "method": "signalAllProcesses", "params": ["STOP"]},
        {"op": "drill-fault", "drill": "x", "mode": "power", "hold_s": 1.0, "really": True},
        {"op": "drill-fault", "drill": "x", "mode": "keepalived-kill", "hold_s": 1e300},
        {"op": "at-peer", "ask": {"op": "drill-fault", "drill": "x", "mode": "power", "hold_s": 1.0, "really": True}},
        {"op": "at-peer", "ask": {"op": "restore", "generation": "1.1", "path": "x.conf", "sha256": ""}, "root": True},
        {
            "op": "program-register",
            "name": "evil",
            "directory": "/tmp",
            "owner": "root",
            "uid": 0,
            "text": "[program]\ncommand=/bin/sh -c 'id > /run/evil'\nuser=root\n",
        },
    ],
)
def test_no_message_to_the_agent_gets_around_the_guard(guarded: Pair, message: dict[str, Any]) -> None:
    before, files = pids(guarded, "node-a"), guarded.files("node-a")
    done = guarded.run_as("node-a", "alice", sys.executable, "-c", ASK, json.dumps(message))
    answer = json.loads(done.stdout)
    # What the peer was asked for, the peer refuses.
    answer = answer["answer"] if answer.get("outcome") == "answered" else answer
    assert answer.get("outcome") in ("refused", None) and (answer.get("reason") or answer.get("error")), answer
    assert pids(guarded, "node-a") == before and len(before) == 3
    assert guarded.files("node-a") == files and guarded.runs("node-b") == set()


@one_worker
def test_what_root_has_withdrawn_is_brought_back_by_root_alone_and_as_it_was(guarded: Pair) -> None:
    conf = guarded.path("node-a", "withdrawn.conf")
    guarded.shell(
        "node-a", "printf '[program:withdrawn]\\ncommand=/bin/sleep infinity\\n' > /etc/supervisor/conf.d/withdrawn.conf"
    )
    guarded.shell("node-a", "chmod 0600 /etc/supervisor/conf.d/withdrawn.conf; ha-agent sync")
    guarded.shell("node-a", "rm /etc/supervisor/conf.d/withdrawn.conf; ha-agent sync")
    rows = json.loads(guarded.ha("node-a", "kept", "list", "--json", "withdrawn.conf").stdout)["kept"]
    # The file was replicated as it was made, too, where that was quicker than the chmod behind it.
    (row,) = [r for r in rows if r["node"] == "node-b" and r["mode"] & 0o777 == 0o600]
    for words in (("restore", row["name"]), ("show", row["name"])):
        refused_ = guarded.run_as("node-a", "alice", "ha-agent", "kept", *words)
        assert refused_.returncode != 0 and "root" in refused_.stderr, refused_
    assert not os.path.exists(conf)
    assert guarded.ha("node-a", "kept", "prune", "--yes", "--older", "0").returncode == 7, "node-b leaves young copies alone"
    good(guarded.run_as("node-a", "root", "ha-agent", "kept", "restore", row["name"]))
    assert os.stat(conf).st_mode & 0o777 == 0o600
    guarded.await_equal()
    good(guarded.run_as("node-a", "root", "supzcli", "deregister", "withdrawn"))


@one_worker
@pytest.mark.parametrize(
    "ask",
    [
        {"op": "program-stop", "names": ["p0"]},
        {"op": "program-restart", "names": ["p0"], "access": "operate"},
        {"op": "hand-over", "force": True},
        {"op": "supervisor", "method": "signalProcess", "params": ["p0", "KILL"], "access": "operate"},
    ],
)
def test_who_may_look_only_gets_no_further_by_way_of_the_peer(guarded: Pair, ask: dict[str, Any]) -> None:
    before = pids(guarded, "node-a")
    message = {"op": "at-peer", "ask": ask, "access": "operate", "by": "root", "on_behalf": "root"}
    done = guarded.run_as("node-b", "bob", sys.executable, "-c", ASK, json.dumps(message))
    answer = json.loads(done.stdout)
    answer = answer["answer"] if answer.get("outcome") == "answered" else answer
    assert "read-only access" in str(answer.get("reason") or answer.get("error")), answer
    assert pids(guarded, "node-a") == before and guarded.role("node-a") == "active"


@one_worker
def test_an_operator_at_the_standby_acts_at_the_active_node_under_the_own_name(guarded: Pair) -> None:
    ask = {"op": "program-restart", "names": ["p0"], "by": "root", "on_behalf": "root"}
    message = {"op": "at-peer", "ask": ask, "on_behalf": "root", "by": "root"}
    done = guarded.run_as("node-b", "alice", sys.executable, "-c", ASK, json.dumps(message))
    assert json.loads(done.stdout)["answer"]["outcome"] == "done", done
    assert guarded.history("node-a", "program-restarted")[-1]["by"] == "alice"


@one_worker
def test_a_session_has_no_way_around_the_guard_either(guarded: Pair) -> None:
    before = pids(guarded, "node-a")
    typed = "shutdown\nreload\n!sh\n?shutdown\nhelp shutdown\nopen http://localhost:9001\nshutdown\nexit\n"
    done = guarded.sup("node-a", typed=typed)
    assert done.stderr.count("is refused") == 4 and pids(guarded, "node-a") == before


@one_worker
def test_an_ordinary_user_can_not_reach_supervisord_but_its_own_tool_works_for_root(guarded: Pair) -> None:
    direct = guarded.run_as("node-a", "alice", "supervisorctl", "-s", "unix:///run/supervisor.sock", "shutdown")
    assert direct.returncode != 0
    shown = guarded.lab.run("node-a", "supervisorctl", "-c", "/etc/supervisor/supervisord.conf", "status")
    ours = guarded.sup("node-a", "status").stdout
    assert [line.split()[:4] for line in shown.splitlines()] == [line.split()[:4] for line in ours.splitlines()]


@pytest.fixture(scope="module")
def guarded() -> Iterator[Pair]:
    """One pair for all tricks: none of them may change anything."""
    made = Pair(fresh_directory("guard"))
    try:
        up(made)
        yield made
    finally:
        made.down()
    made.check_invariant()


# ---- what is stopped, and with what ----------------------------------------------------------------------------

WORKER = """\
[program:worker]
command=/bin/sleep infinity
process_name=%(program_name)s_%(process_num)02d
numprocs=3
startsecs=0
"""
TALKERS = """\
[program:echo]
command=/bin/cat
user=alice
[program:tick]
command=/bin/sh -c 'i=0; while :; do i=$((i+1)); echo tick $i; sleep 0.05; done'
"""


def test_a_conf_of_several_programs_is_parked_as_a_whole_or_not_at_all(pair: Pair) -> None:
    two = SLEEPER.format(name="left") + SLEEPER.format(name="right")
    up(pair, {"two.conf": two, "w.conf": WORKER}, {"left", "right"} | WORKERS)
    refused(pair.sup("node-a", "stop", "left"), "two.conf", "stop left right", "--file", "--keep")
    refused(pair.sup("node-a", "stop", "worker:worker_01"), "stop --keep worker:worker_01")
    assert pair.runs("node-a") == {"left", "right"} | WORKERS
    kept = pair.sup("node-a", "stop", "--keep", "worker:worker_01")
    assert kept.returncode == 0 and "this does not last" in kept.stderr
    assert states(pair, "node-a")["worker:worker_01"] == "STOPPED"
    good(pair.sup("node-a", "start", "worker:worker_01"), "worker:worker_01: started")
    good(pair.sup("node-a", "stop", "worker"), "worker: stopped, parked")
    good(pair.sup("node-a", "stop", "--file", "left"), "left: stopped, parked", "right: stopped, parked")
    pair.await_runs("node-a", set())
    refused(pair.sup("node-a", "start", "left"), "start left right")
    good(pair.sup("node-a", "start", "left", "right", "worker"), "worker:worker_02: started", f"registered on {BOTH}")
    pair.await_runs("node-a", {"left", "right"} | WORKERS)
    refused(pair.sup("node-a", "stop", "all"), "--yes")
    good(pair.sup("node-a", "stop", "--yes", "all"))
    assert set(pair.files("node-b")) == {"two.conf.parked", "w.conf.parked"} and pair.runs("node-a") == set()


def test_a_group_runs_on_without_its_parked_member_and_takes_it_in_again(pair: Pair) -> None:
    """Hazard 16: a [group:] whose member is not there.

    Fault: one member of a group is stopped, an update and a failover follow.
    Answer: the others run on, untouched by the update; the other node loads the group without it.
    Bound: none.
    """
    confs = {"g.conf": "[group:g]\nprograms=a,b\n", "a.conf": SLEEPER.format(name="a"), "b.conf": SLEEPER.format(name="b")}
    up(pair, confs, {"a", "b"})
    before = pids(pair, "node-a")
    good(pair.sup("node-a", "stop", "g:a"), f"g:a: stopped, parked on {BOTH}")
    assert states(pair, "node-a") == {"g:a": "PARKED", "g:b": "RUNNING"}
    assert "not touched" in good(pair.sup("node-a", "update"))
    assert pids(pair, "node-a") == {"g:b": before["g:b"]}
    good(pair.sup("node-a", "start", "a"), "g:a: started")
    assert pids(pair, "node-a")["g:b"] == before["g:b"]

    good(pair.sup("node-a", "stop", "a"))
    assert pair.ha("node-a", "switchover", "--yes").returncode == 0
    pair.await_runs("node-b", {"b"})
    refused(pair.sup("node-b", "start", "a"), "restarts b", "--regroup")
    assert pair.runs("node-b") == {"b"} and "a.conf.parked" in pair.files("node-b")
    good(pair.sup("node-b", "start", "--regroup", "a"), "g:a: started")
    pair.await_runs("node-b", {"a", "b"})


def test_nothing_of_a_stopped_program_is_left_whatever_it_does(pair: Pair) -> None:
    """Hazard 20: grandchildren, and processes of another session.

    Fault: a program that ignores TERM and has a child which left its session.
    Answer: the stop returns when neither is left.
    Bound: the program's own stopwaitsecs and the sweep's grace.
    """
    stubborn = (
        "[program:stubborn]\nstartsecs=0\nstopwaitsecs=1\n"
        "command=/bin/sh -c \"trap '' TERM; setsid sleep infinity & while :; do sleep 0.1; done\"\n"
    )
    up(pair, {"s.conf": stubborn}, {"stubborn"})
    good(pair.sup("node-a", "stop", "stubborn"), "stubborn: stopped, parked")
    assert pair.runs("node-a") == set()
    assert pair.shell("node-a", "pgrep -f '[s]leep infinity' || true") == ""


def test_who_stops_or_kills_behind_the_back_is_noticed(pair: Pair) -> None:
    """Hazard 21: what supervisord is told directly, the registry does not know.

    Fault: one program is stopped by plain supervisorctl, another one killed.
    Answer: status says of both that the next failover would start them, and supzcli stop parks them.
    Bound: none.
    """
    up(
        pair,
        {"p0.conf": SLEEPER.format(name="p0"), "p1.conf": SLEEPER.format(name="p1") + "autorestart=false\n"},
        {"p0", "p1"},
    )
    pair.shell("node-a", "supervisorctl -c /etc/supervisor/supervisord.conf stop p0; pkill -o -f 'sleep infinity'")
    wait_for("p1's end", lambda: states(pair, "node-a")["p1"] == "EXITED")
    shown = pair.sup("node-a", "status")
    assert shown.returncode == 3
    assert shown.stdout.count("the next failover would start it") == 2, shown.stdout
    assert "p0 is stopped but registered" in pair.ha("node-a", "status").stdout
    good(pair.sup("node-a", "stop", "p0"), f"p0: was not running, parked on {BOTH}")
    good(pair.sup("node-a", "stop", "p0"), "p0: is parked already")
    refused(pair.sup("node-a", "restart", "p0"), "parked", "supzcli start p0")


def test_a_start_is_checked_on_both_nodes_before_anything_changes(pair: Pair) -> None:
    """Hazard 15: a conf that one of the nodes cannot load or run.

    Fault: parked confs with an unknown user, a missing executable, an executable that only this node has.
    Answer: what cannot run here stays parked, with the reason; what the peer could not run is a warning.
    Bound: none.
    """
    only_a = "[program:only-a]\ncommand=/etc/ha-agent/only-a infinity\nstartsecs=0\n"
    bad = "[program:bad]\ncommand=/bin/sleep 1\nuser=nobody-of-that-name\n"
    gone = "[program:gone]\ncommand=/nonexistent/x\n"
    shell = "[program:shell]\ncommand=/bin/sh -c 'sleep 1000; true'\nstartsecs=0\n"
    flop = "[program:flop]\ncommand=/bin/false\nstartretries=0\n"
    confs = {
        f"{n}.conf.parked": t
        for n, t in (("only-a", only_a), ("bad", bad), ("gone", gone), ("flop", flop), ("shell", shell))
    }
    up(pair, {**confs, "p0.conf": SLEEPER.format(name="p0")}, {"p0"}, prepare=None)
    pair.shell("node-a", "cp /bin/sleep /etc/ha-agent/only-a")
    refused(pair.sup("node-a", "start", "bad"), "bad.conf cannot be loaded here", "nobody-of-that-name", "stays parked")
    refused(pair.sup("node-a", "start", "gone"), "/nonexistent/x is missing", "stays parked")
    assert {"bad.conf.parked", "gone.conf.parked"} <= set(pair.files("node-a"))
    done = pair.sup("node-a", "start", "only-a")
    good(done, "only-a: started")
    remarked = pair.sup("node-a", "start", "shell")
    good(remarked, "shell: started")
    assert "warning: shell.conf:" in remarked.stderr and "stopasgroup" in remarked.stderr
    assert "node-b could not run only-a: executable /etc/ha-agent/only-a is missing" in done.stderr
    failed = pair.sup("node-a", "start", "flop")
    assert failed.returncode == 7 and "flop: ERROR (spawn error)" in failed.stdout
    assert "registered nevertheless; stop flop parks it again" in failed.stderr
    good(pair.sup("node-a", "stop", "flop"))


@pytest.mark.shared_lab
def test_an_update_checks_first_and_touches_only_what_changed(pair: Pair) -> None:
    up(pair)
    before = pids(pair, "node-a")
    with open(pair.path("node-a", "p1.conf"), "w", encoding="ascii") as file:
        file.write("[program:p1]\ncommand=/bin/sleep 1000\nstartsecs=0\n")
    with open(pair.path("node-a", "p2.conf"), "w", encoding="ascii") as file:
        file.write("[program:p2]\ncommand=/bin/sleep infinity\nnumprocs=l\n")
    with open(pair.path("node-a", "p3.conf"), "w", encoding="ascii") as file:
        file.write(SLEEPER.format(name="p3"))
    done = pair.sup("node-a", "update")
    assert done.returncode == 1 and "p2.conf cannot be loaded" in done.stderr and "stays" in done.stderr
    assert done.stdout.splitlines() == ["p1: stopped", "p1: updated process group", "p3: added process group"]
    after = pids(pair, "node-a")
    assert after["p0"] == before["p0"] and after["p2"] == before["p2"] and after["p1"] != before["p1"]
    assert pair.sup("node-a", "update", "nonesuch").stdout == "ERROR: no such group: nonesuch\n"
    good(pair.sup("node-a", "reread"), "No config updates to processes")


def test_a_conf_that_changed_meanwhile_does_not_keep_a_process_from_being_stopped(pair: Pair) -> None:
    up(pair, {"w.conf": WORKER}, WORKERS)
    pair.shell(
        "node-a",
        "sed -i -e 's/=3/=1/' -e s/worker_/other_/ -e 's/(program_name)s_/(program_name)s-/' /etc/supervisor/conf.d/w.conf",
    )
    good(pair.sup("node-a", "stop", "worker"), "worker: stopped, parked")
    assert pair.runs("node-a") == set()


# ---- the other verbs ---------------------------------------------------------------------------------------------


def test_logs_are_followed_and_a_program_is_typed_to(pair: Pair, tmp_path: pathlib.Path) -> None:
    up(pair, {"e.conf": TALKERS}, {"echo", "tick"})
    wait_for("echo runs", lambda: states(pair, "node-a")["echo"] == "RUNNING")
    said = good(pair.sup("node-a", "fg", "echo", typed="hello there\n"))
    assert "hello there" in said and said.rstrip().endswith("Exiting foreground")
    refused(pair.sup("node-a", "fg", "echo", user="bob", typed="x\n"), "read-only access")
    # It runs as root: what it reads is not for others to write.
    assert "sendProcessStdin is refused" in pair.sup("node-a", "fg", "tick", typed="x\n").stderr
    followed = tmp_path / "followed"
    with open(followed, "wb") as out:
        following = subprocess.Popen(
            pair.words_as("node-a", "bob", "supzcli", "tail", "-f", "tick"),
            stdin=subprocess.DEVNULL,
            stdout=out,
            start_new_session=True,
        )
    wait_for("twenty lines", lambda: followed.read_text(encoding="utf-8").count("\ntick ") > 20, 20)
    os.killpg(following.pid, signal.SIGINT)
    following.wait(10)
    # The end of the last line may be missing.
    lines = followed.read_text(encoding="utf-8").splitlines()[:-1]
    numbers = [int(line.split()[1]) for line in lines if line.startswith("tick ")]
    assert numbers[1:] == list(range(numbers[1], numbers[1] + len(numbers) - 1)), "no line twice or lost"
    assert "tick" in good(pair.sup("node-a", "tail", "-200", "tick"))
    assert "supervisord" in good(pair.sup("node-a", "maintail"))
    good(pair.sup("node-a", "clear", "tick"), "tick: cleared")
    good(pair.sup("node-a", "signal", "HUP", "echo"), "echo: signalled")
    good(pair.sup("node-a", "pid", "tick"))
    assert re.fullmatch(r"4\.\d+\.\d+\n", good(pair.sup("node-a", "version")))
    good(pair.sup("node-a", "stop", "--keep", "echo", "tick"))
    removed = pair.sup("node-a", "remove", "echo")
    assert removed.stdout == "echo: removed process group\n" and "still registered" in removed.stderr
    good(pair.sup("node-a", "add", "echo"), "echo: added process group")


def test_supervisord_of_the_distribution_and_the_newest_are_the_same_to_supzcli(pair: Pair) -> None:
    up(pair)
    seen = {}
    for _ in range(2):
        version = good(pair.sup("node-a", "version")).strip()
        out = [good(pair.sup("node-a", *words)) for words in (["stop", "p0"], ["start", "p0"], ["restart", "p0"], ["avail"])]
        seen[version] = [re.sub(r"\d", "#", text) for text in out]
        own = os.path.join(sys.prefix, "bin", "supervisord")
        pair.shell("node-a", f"mount --bind {own} /usr/bin/supervisord && systemctl restart supervisor")
        pair.await_runs("node-a", THREE)
        wait_for("all RUNNING", lambda: set(states(pair, "node-a").values()) == {"RUNNING"})
    assert len(seen) == 2 and "4.2.5" in seen, seen.keys()
    first, second = seen.values()
    assert first == second


@pytest.mark.shared_lab
def test_supzcli_itself_works_with_the_classes_of_the_distribution(pair: Pair) -> None:
    up(pair)
    old = ["env", "PYTHONPATH=/usr/lib/python3/dist-packages"]
    version = "import supervisor.options as o; print(o.VERSION)"
    assert good(pair.run_as("node-a", "alice", *old, sys.executable, "-c", version)).strip() == "4.2.5"
    for words, said in (
        (["stop", "p0"], f"p0: stopped, parked on {BOTH}"),
        (["start", "p0"], f"p0: started, registered on {BOTH}"),
        (["restart", "p1"], "p1: started"),
        (["avail"], "in use"),
        (["tail", "p1"], ""),
        (["status"], "RUNNING"),
    ):
        good(pair.run_as("node-a", "alice", *old, "supzcli", *words), said)
    refused(pair.run_as("node-a", "alice", *old, "supzcli", "shutdown"), "is refused")


def test_on_a_terminal_words_are_completed_and_the_prompt_follows_the_role(pair: Pair) -> None:
    up(pair)
    good(pair.sup("node-a", "stop", "p2"))
    ours, theirs = pty.openpty()
    session = subprocess.Popen(
        pair.words_as("node-a", "alice", "env", "TERM=xterm", "supzcli"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown = ""

    def type_and_await(typed: str, wanted: str) -> None:
        nonlocal shown
        os.write(ours, typed.encode())
        deadline = time.monotonic() + 20
        shown = ""
        while wanted not in shown:
            assert time.monotonic() < deadline, f"{wanted!r} did not come after {typed!r}: {shown!r}"
            if select.select([ours], [], [], 0.2)[0]:
                shown += os.read(ours, 65536).decode()

    try:
        type_and_await("", "New_supervisor [node-a active]> ")
        type_and_await("avai\t", "avail ")
        type_and_await("\n", "New_supervisor [node-a active]> ")
        type_and_await("start p\t\t", "p2")
        type_and_await("2\n", f"p2: started, registered on {BOTH}")
        assert pair.ha("node-a", "switchover", "--yes").returncode == 0
        type_and_await("version\n", "New_supervisor [node-a standby]> ")
        type_and_await("start p2\n", "node-b is active: run this there")
        os.write(ours, b"exit\n")
        assert session.wait(10) == 0
    finally:
        session.kill()
        session.wait()
        os.close(ours)
    assert "start p2" in pair.shell("node-a", "cat /run/lab/alice/.supzcli_history")


def test_neighbours_that_are_down_or_hang_are_one_clear_line(pair: Pair) -> None:
    """Design, operators: neighbours that are down.

    Fault: supervisord hangs, then is gone; the agent is gone.
    Answer: one line with what and where, and supervisorctl's exit status.
    Bound: supervisor.rpc_timeout_s.
    """
    up(pair, overrides={"supervisor": {"rpc_timeout_s": 2.0, "restart_wait_s": 60.0}})
    pair.shell("node-a", "pkill -STOP supervisord")
    for words in (["status"], ["stop", "p0"], ["pid"]):
        done = pair.sup("node-a", *words)
        assert done.returncode in (1, 4) and "supervisord" in done.stderr and len(done.stderr.splitlines()) <= 3, done
        assert "Traceback" not in done.stderr
    pair.shell("node-a", "pkill -CONT supervisord")
    wait_for("it answers", lambda: pair.sup("node-a", "status").returncode == 0)
    good(pair.sup("node-a", "start", "p0"))
    pair.lab.unit("node-a", "stop", "ha-agent")
    gone = pair.sup("node-a", "status")
    assert gone.returncode == 5 and "systemctl start ha-agent" in gone.stderr and "supervisorctl" in gone.stderr


def test_a_full_disk_keeps_a_registration_out_and_the_program_as_it_was(pair: Pair) -> None:
    """Hazard 31: no space left.

    Fault: the disk of the active node is full.
    Answer: a registration fails with the reason and changes nothing.
    Bound: none.
    """
    up(pair, disk_bytes=24 * 1024 * 1024)
    good(pair.run_as("node-a", "alice", "supzcli", "new", "more", "--command", "/bin/sleep infinity"))
    pair.shell("node-a", "dd if=/dev/zero of=/etc/supervisor/fill bs=64k 2>/dev/null || true")
    done = pair.sup("node-a", "register", "more")
    assert done.returncode == 1 and "No space left on device" in done.stderr
    assert "more.conf" not in pair.files("node-a") and pair.runs("node-a") == THREE
    pair.shell("node-a", "rm /etc/supervisor/fill")
    good(pair.sup("node-a", "stop", "p0"))


# ---- programs in folders of their own ------------------------------------------------------------------------------


def sup_run(pair: Pair, *words: str, user: str = "alice", folder: str = "bill") -> subprocess.CompletedProcess[str]:
    return pair.run_as("node-a", user, f"./{folder}/sup_run.sh", *words)


def make_folder(pair: Pair, *more: str) -> None:
    """A program with two releases, on both nodes."""
    script = (
        "mkdir -p bill; cd bill; for v in 1 2; do mkdir -p v$v;"
        " printf '#!/bin/sh\\necho release %s number $1\\nexec sleep infinity\\n' $v > v$v/run; chmod +x v$v/run; done;"
        " ln -sfn v1 current"
    )
    for node in ("node-a", "node-b"):
        pair.run_as(node, "alice", "sh", "-euc", script)
    words = ["new", "bill", "--command", "current/run %(process_num)d", "--workdir", "current", *more]
    good(pair.sup("node-a", *words), "program.ini and sup_run.sh are written")


def test_a_program_lives_in_its_folder_from_the_first_start_to_the_next_release(pair: Pair) -> None:
    up(pair)
    make_folder(pair, "--numprocs", "2")
    unknown = sup_run(pair, "status")
    assert "bill: ERROR (no such process)" in unknown.stdout and unknown.returncode == 4
    started = sup_run(pair, "start")
    good(started, f"bill: registered as bill.conf on {BOTH}", "bill:bill_00: started", "bill:bill_01: started")
    assert started.stderr == "", "nothing to warn of: the other node has the folder, too"
    good(sup_run(pair, "status"), "bill:bill_00", "RUNNING")
    assert "release 1 number 1" in good(pair.sup("node-a", "tail", "bill:bill_01"))
    assert pair.shell("node-a", "ps -o user= -p $(pgrep -of 'sleep infinity' -u alice)").strip() == "alice"
    assert pair.shell("node-a", "ls /var/log/supervisor/bill_0*.log").split() == [
        "/var/log/supervisor/bill_00.log",
        "/var/log/supervisor/bill_01.log",
    ]
    pair.run_as("node-a", "alice", "ln", "-sfn", "v2", "bill/current")
    good(sup_run(pair, "restart"), "bill:bill_00: stopped", "bill:bill_01: started")
    assert "release 2 number 0" in good(pair.sup("node-a", "tail", "bill:bill_00"))

    before = pids(pair, "node-a")
    assert "nothing has changed" in good(sup_run(pair, "update")) and pids(pair, "node-a") == before
    assert "runs already" in good(sup_run(pair, "start"))
    pair.run_as("node-a", "alice", "sed", "-i", "s/^numprocs = 2/numprocs = 3/", "bill/program.ini")
    good(sup_run(pair, "update"), f"bill: updated as bill.conf on {BOTH}", "bill:bill_02: started")
    pair.run_as("node-a", "alice", "sed", "-i", "s/^numprocs = 3/numprocs = l/", "bill/program.ini")
    refused(sup_run(pair, "update"), "bill.conf cannot be loaded here", "the registry is as it was")
    assert len([n for n in pids(pair, "node-a") if n.startswith("bill")]) == 3
    good(sup_run(pair, "stop"), f"bill: stopped, parked on {BOTH}")
    refused(sup_run(pair, "restart"), "parked")
    pair.run_as("node-a", "alice", "sed", "-i", "s/^numprocs = l/numprocs = 2/", "bill/program.ini")
    good(sup_run(pair, "start"), "bill.conf", "bill:bill_01: started")

    assert pair.ha("node-a", "switchover", "--yes").returncode == 0
    pair.await_runs("node-b", THREE | BILL)
    assert pair.ha("node-b", "switchover", "--yes").returncode == 0
    pair.await_runs("node-a", THREE | BILL)
    good(pair.sup("node-a", "deregister", "bill"), f"bill.conf removed on {BOTH}")
    assert pair.runs("node-a") == THREE and "bill.conf" not in {*pair.files("node-a"), *pair.files("node-b")}
    assert "bill.conf" in pair.ha("node-a", "kept", "list").stdout


def test_a_folder_can_not_take_over_what_is_not_its_own(pair: Pair) -> None:
    up(pair)
    make_folder(pair)
    pair.run_as("node-a", "alice", "sh", "-c", "mkdir -p p0 x/bill; cp bill/program.ini p0; cp bill/program.ini x/bill")
    refused(pair.sup("node-a", "register", "p0"), "p0.conf", "written by hand")
    good(pair.sup("node-a", "register", "--no-start", "bill"), "bill.conf.parked, parked")
    assert pair.runs("node-a") == THREE
    refused(pair.sup("node-a", "register", "x/bill"), "registered from /run/lab/alice/bill already")
    refused(pair.sup("node-a", "register", "--update", "nonesuch"), "no such folder", code=2)
    refused(pair.sup("node-a", "register", "x"), "program.ini: no such file", code=2)
    refused(pair.sup("node-a", "new", "bill"), "is there already", code=2)
    refused(pair.sup("node-a", "new", "fresh"), "--command is missing", code=2)
    refused(pair.sup("node-a", "register", "--wrong", "bill"), "--wrong", code=2)
    pair.run_as("node-a", "alice", "sh", "-c", "echo user=root >> bill/program.ini; sed -i '/^user = /d' bill/program.ini")
    refused(pair.sup("node-a", "register", "bill"), "not as root")
    by_root = ("supzcli", "register", "/run/lab/alice/bill")
    refused(pair.run_as("node-a", "root", *by_root), "alice wrote it; if it is right: --user NAME")
    good(pair.run_as("node-a", "root", *by_root, "--user", "root"), "bill: started")
    assert sup_run(pair, "help").returncode == 0 and sup_run(pair).returncode == 2 and sup_run(pair, "fly").returncode == 2


@pytest.mark.shared_lab
def test_a_start_beside_a_switchover_never_runs_twice(pair: Pair) -> None:
    """Design, stop before start: an operator's start beside a release.

    Fault: programs are stopped and started all the time while the roles change.
    Answer: a start is refused by, or ended with, the release; the registry and what runs agree in the end.
    Bound: no overlap.
    """
    up(pair)
    loop = "i=0; while [ $i -lt 60 ]; do i=$((i+1)); supzcli stop p0; supzcli start p0; supzcli restart p1; done; true"
    loops = [
        subprocess.Popen(
            pair.words_as(node, "alice", "sh", "-c", loop),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for node in ("node-a", "node-b")
    ]
    try:
        for node in ("node-a", "node-b", "node-a", "node-b"):
            time.sleep(1.0)
            pair.ha(node, "switchover", "--yes", "--force")
            wait_for(
                "one active", lambda: sorted(pair.role(n) for n in ("node-a", "node-b")) == ["active", "standby"], 20.0, 0.1
            )
    finally:
        for running in loops:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
        for node in ("node-a", "node-b"):
            pair.shell(node, "pkill -f '[b]in/supzcli' || true")
    active = next(n for n in ("node-a", "node-b") if pair.role(n) == "active")
    pair.await_equal(10.0)
    assert pair.sup(active, "start", "p0", "p1").returncode == 0
    pair.await_runs(active, THREE)
    assert pair.runs(other(active)) == set()
