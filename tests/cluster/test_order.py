"""Programs that start after others, on a real pair: late, never, by hand, and a move and a kill in the middle of a wait."""

from __future__ import annotations

import re

from tests.lab_support import Pair, stays, wait_for

SLOW = """\
[program:{name}]
command=/bin/sh -c 'while [ ! -e go-{name} ]; do sleep 0.05; done; exec /usr/bin/python3 -m http.server {port}'
directory=/var/log/supervisor
startsecs=0
stopasgroup=true
killasgroup=true
stopwaitsecs=3
"""
"""Listens on its port once a file is there."""

WAITS = """\
[program:{name}]
{keys}command=/bin/sleep infinity
startsecs=0
stopwaitsecs=3
"""

LOGGER = """\
[program:{name}]
{keys}command=/bin/sh -c 'trap "sleep {slow}; date +%%s.%%N >>ended-{name}; exit 0" TERM; while :; do sleep 0.05; done'
directory=/var/log/supervisor
startsecs=0
stopwaitsecs=5
"""
"""Notes when it was told to stop."""


def waits(name: str, text: str = WAITS, slow: float = 0.0, **keys: object) -> dict[str, str]:
    """A conf of a program with keys of the order; ``slow``: seconds that it takes to stop."""
    lines = "".join(f"; ha-agent: {key} = {value}\n" for key, value in keys.items())
    return {f"{name}.conf": text.format(name=name, keys=lines, slow=slow)}


def loaded(pair: Pair, node: str) -> set[str]:
    """The programs that supervisord of a node has running or starting."""
    said = pair.lab.run(node, "sh", "-c", "supervisorctl status || true")
    rows = [line.split() for line in said.splitlines()]
    return {row[0] for row in rows if row[1] in ("RUNNING", "STARTING")} - {"ha-agent-listener"}


def let_go(pair: Pair, node: str, name: str = "a") -> None:
    """Has a slow program come up."""
    pair.shell(node, f"touch /var/log/supervisor/go-{name}")


def begun(pair: Pair, node: str) -> bool:
    """Whether an order has been begun on a node."""
    return bool(pair.history(node, "order-begun"))


def test_one_starts_when_the_other_answers_and_stops_before_it(pair: Pair) -> None:
    """Hazard 60: a program waits for an address that another one serves, a third for the second; then the pair is moved.

    Fault: the first program needs its time.
    Answer: what waits for nothing runs at once; each other starts when its turn comes, on either node; status, supzcli and
    history say who waits for what; a move stops them in the reverse order.
    Bound: 1 s after it answers.
    """
    confs = {
        "a.conf": SLOW.format(name="a", port=8001),
        **waits("b", LOGGER, after="a, tcp://127.0.0.1:8001"),
        **waits("c", LOGGER, slow=1.0, after="b"),
        **waits("d"),
    }
    pair.up(confs)
    pair.await_role("node-a", "active")
    wait_for("those that wait for nothing", lambda: loaded(pair, "node-a") == {"a", "d"})
    stays("the others wait", lambda: loaded(pair, "node-a") == {"a", "d"}, 2.0)
    shown = pair.ha("node-a", "status").stdout
    assert re.search(r"node-a: b waits for tcp://127.0.0.1:8001 since \d+ s", shown), shown
    assert "WAITING   waits for tcp" in pair.sup("node-a", "status").stdout
    let_go(pair, "node-a")
    wait_for("all of them", lambda: loaded(pair, "node-a") == {"a", "b", "c", "d"}, 10.0)
    (done,) = wait_for("the report", lambda: pair.history("node-a", "order-done"))
    assert [step["name"] for step in done["path"]] == ["tcp://127.0.0.1:8001", "b", "c"]
    assert "longest chain" in pair.ha("node-a", "history", "-n", "20").stdout

    let_go(pair, "node-b")
    drilled = pair.ha("node-a", "failover-test", "--mode", "switchover", "--yes", timeout_s=120.0)
    assert re.search(r"programs that wait for others +\d.* -> b .* -> c ", drilled.stdout), drilled.stdout + drilled.stderr
    wait_for("all of them there", lambda: loaded(pair, "node-b") == {"a", "b", "c", "d"}, 20.0)
    ended = {name: float(pair.shell("node-a", f"tail -n1 /var/log/supervisor/ended-{name}")) for name in "bc"}
    assert ended["c"] < ended["b"], "b was told when c had ended"


def test_what_never_comes_is_answered_as_each_conf_says(pair: Pair) -> None:
    """Hazard 60: three programs wait for one that never answers: started late, skipped, and failed where a standby is fit.

    Fault: a program does not come up on node-a.
    Answer: one is started without it, one is not and an alert says so, and the third one moves the pair to node-b, where the
    program comes up. There all of them run.
    Bound: the time of the wait and 5 s.
    """
    address = "tcp://127.0.0.1:8001"
    confs = {
        "a.conf": SLOW.format(name="a", port=8001),
        **waits("late", after=address, wait_s=1.5, on_timeout="start"),
        **waits("skipped", after=address, wait_s=1.5, on_timeout="skip"),
        **waits("failed", after=address, wait_s=8, on_timeout="fail"),
    }
    pair.up(confs)
    pair.await_role("node-a", "active")
    wait_for("one is late", lambda: loaded(pair, "node-a") == {"a", "late"}, 10.0)
    wait_for("both are told", lambda: len(pair.history("node-a", "wait-timed-out")) == 2)
    told = pair.history("node-a", "wait-timed-out")
    assert {e["group_name"]: e["how"] for e in told} == {"late": "late", "skipped": "skipped"}
    assert "skipped was not started: tcp://127.0.0.1:8001 did not come" in pair.ha("node-a", "status").stdout
    let_go(pair, "node-b")
    pair.await_role("node-b", "active", 30.0)
    pair.await_role("node-a", "standby", 30.0)
    assert pair.history("node-a", "wait-failed")
    wait_for("all of them there", lambda: loaded(pair, "node-b") == {"a", "late", "skipped", "failed"}, 20.0)


def test_by_hand_nothing_waits(pair: Pair) -> None:
    """Hazard 60: an operator starts a program that waits, with supzcli, and another one with supervisorctl.

    Fault: what they wait for does not come.
    Answer: both start at once and once; the order goes on without them.
    Bound: 3 s.
    """
    confs = {"a.conf": SLOW.format(name="a", port=8001), **waits("b", after="tcp://127.0.0.1:8001", wait_s=60)}
    confs |= waits("c", after="tcp://127.0.0.1:8001", wait_s=60)
    pair.up(confs)
    pair.await_role("node-a", "active")
    wait_for("the first one", lambda: loaded(pair, "node-a") == {"a"})
    done = pair.sup("node-a", "start", "b")
    assert done.returncode == 0, done.stdout + done.stderr
    wait_for("b", lambda: loaded(pair, "node-a") == {"a", "b"}, 3.0)
    pair.shell("node-a", "supervisorctl add c")
    wait_for("c", lambda: loaded(pair, "node-a") == {"a", "b", "c"}, 3.0)
    (ended,) = wait_for("the end", lambda: pair.history("node-a", "order-done"), 10.0)
    assert {w["how"] for w in ended["waits"]} == {"by-hand"}
    restarted = pair.sup("node-a", "restart", "b")
    assert restarted.returncode == 0, restarted.stdout + restarted.stderr


def test_a_kill_and_a_move_in_the_middle_of_a_wait(pair: Pair) -> None:
    """Hazard 60: the agent is killed while a program waits, and the pair is moved while it waits again.

    Fault: kill -9 of the agent in a wait; a switchover in a wait.
    Answer: the next agent goes on with the wait and starts the program once; the move ends the wait at once, and the program
    starts on the other node in its turn.
    Bound: 15 s.
    """
    confs = {"a.conf": SLOW.format(name="a", port=8001), **waits("b", after="tcp://127.0.0.1:8001", wait_s=120)}
    pair.up(confs)
    pair.await_role("node-a", "active")
    wait_for("the first one", lambda: loaded(pair, "node-a") == {"a"} and begun(pair, "node-a"))
    pair.kill_agent("node-a")
    stays("it waits", lambda: loaded(pair, "node-a") == {"a"}, 2.0)
    assert pair.ha("node-a", "switchover", "--yes", timeout_s=90.0).returncode in (0, 7)
    pair.await_role("node-b", "active", 30.0)
    assert pair.history("node-a", "order-broken-off") and loaded(pair, "node-a") == set()
    stays("it waits there", lambda: loaded(pair, "node-b") == {"a"}, 1.0)
    pair.kill_agent("node-b")
    let_go(pair, "node-b")
    wait_for("all of it", lambda: loaded(pair, "node-b") == {"a", "b"}, 15.0)
    starts = pair.shell("node-b", "grep -c \"spawned: 'b'\" /var/log/supervisor/supervisord.log || true").strip()
    assert starts == "1"
