"""Health checks on a real pair: what moves, what is restarted, what is only told, and an agent that is killed in between."""

from __future__ import annotations

import itertools
import json
import os
import re
import time
from collections.abc import Callable
from typing import Any

from ha_agent.lab.control import Lab
from ha_agent.lab.layout import NODES
from tests.lab_support import DISK, Pair, empty, fill, stays, wait_for

WEB = """\
import http.server, itertools, time
flaps = itertools.count()
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            mode = open("/etc/ha-agent/web-mode").read().strip()
        except FileNotFoundError:
            mode = "good"
        if mode == "hang":
            time.sleep(30)
        bad = mode == "bad" or (mode == "flap" and next(flaps) % 2)
        self.send_response(503 if bad else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *words):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", 8080), Answer).serve_forever()
"""

CONF = """\
[program:web]
command=/usr/bin/python3 /etc/ha-agent/web.py
startsecs=0
stopasgroup=true
killasgroup=true
"""


def prepare(lab: Lab) -> None:
    """Puts the server where both nodes have it."""
    for node in NODES:
        with open(os.path.join(lab.paths.disk(node, "etc-ha-agent"), "web.py"), "w", encoding="ascii") as file:
            file.write(WEB)


def set_mode(pair: Pair, mode: str, *nodes: str) -> None:
    """What the server answers on ``nodes``: good, bad, hang, flap."""
    for node in nodes:
        path = os.path.join(pair.lab.paths.disk(node, "etc-ha-agent"), "web-mode")
        with open(path + ".new", "w", encoding="ascii") as file:
            file.write(mode)
        os.replace(path + ".new", path)


def web(on_failure: str, **more: Any) -> dict[str, Any]:
    """A quick check of the server's answer."""
    check = {"kind": "http", "url": "http://127.0.0.1:8080/", "program": "web", "on_failure": on_failure}
    return {"checks.web": {**check, "interval_s": 0.5, "timeout_s": 0.4, "after_s": 0.5, "fall": 2, "rise": 1, **more}}


def begin(pair: Pair, checks: dict[str, Any], mode: str = "good", *bad: str) -> None:
    """A pair with node-a active, whose check has passed where its server is good."""
    pair.up({"web.conf": CONF}, overrides=checks, prepare=prepare)
    set_mode(pair, mode, *bad)
    pair.await_role("node-a", "active")
    pair.await_in_sync("node-a")


def health(pair: Pair, node: str, name: str = "web") -> str:
    """What a node says of a check."""
    return str(next(check["health"] for check in pair.lab.status(node)["checks"] if check["name"] == name))


def await_health(pair: Pair, node: str, wanted: str, limit_s: float = 15.0, name: str = "web") -> None:
    """Waits until the check is ``wanted``."""
    wait_for(f"{name} is {wanted}", lambda: health(pair, node, name) == wanted, limit_s, 0.05, lambda: see(pair, node))


def see(pair: Pair, node: str) -> str:
    """What a node knows of its checks, and the end of its history, for a message."""
    events = [f"{e['code']}: {e['text']}" for e in pair.history(node)[-12:]]
    return json.dumps(pair.lab.status(node)["checks"]) + "\n" + "\n".join(events)


def codes(pair: Pair, node: str, code: str) -> Callable[[], list[dict[str, Any]]]:
    """The events with ``code`` of a node."""
    return lambda: pair.history(node, code)


def await_code(pair: Pair, node: str, code: str, limit_s: float = 15.0) -> dict[str, Any]:
    """Waits for an event; returns the last one."""
    return wait_for(code, codes(pair, node, code), limit_s, 0.05, lambda: see(pair, node))[-1]


def test_a_service_that_fails_is_moved_to_the_standby_once(pair: Pair) -> None:
    """A server whose answers are bad on node-a alone, with on_failure = "hand-over".

    Fault: it answers 503.
    Answer: node-a hands over as by a switchover, the history says why, and the check passes on node-b; it stays there.
    Bound: 15 s.
    """
    begin(pair, web("hand-over"))
    await_health(pair, "node-a", "passing")
    assert pair.ha("node-a", "checks").returncode == 0
    set_mode(pair, "bad", "node-a")
    pair.await_role("node-b", "active")
    await_health(pair, "node-b", "passing")
    event = await_code(pair, "node-a", "check-moves")
    assert event["text"] == "check web: answers 503 Service Unavailable: hands over to node-b"
    moved = next(e for e in pair.history("node-a") if e.get("to") == "releasing")
    assert (moved["code"], moved["text"]) == (
        "check-hand-over",
        "a health check fails here, and the peer is fit to take over",
    )
    stays("it stays there", lambda: pair.role("node-b") == "active", 3.0)
    shown = pair.ha("node-a", "checks").stdout
    assert re.search(r"on node-b:\n.*\nweb +passing", shown), shown


def test_a_fault_that_both_nodes_have_moves_the_service_once_and_not_twice(pair: Pair) -> None:
    """The server's answers are bad on both nodes.

    Fault: it answers 503 on node-a and on node-b; the agent of the new active node is killed as well.
    Answer: one hand-over; then the alert alone, also by an agent that is started again, and for as long as it lasts. When it
    passes that is over.
    Bound: 15 s; 8 s without a second one.
    """
    begin(pair, web("hand-over"), "good", "node-a")
    await_health(pair, "node-a", "passing")
    set_mode(pair, "bad", *NODES)
    pair.await_role("node-b", "active")
    held = await_code(pair, "node-b", "check-held-back")
    assert held["text"] == "check web: not handed over again: it has not passed since node-a handed over for it"
    pair.kill_agent("node-b")
    await_health(pair, "node-b", "failing")
    stays("it stays there", lambda: pair.role("node-b") == "active", 5.0, lambda: see(pair, "node-b"))
    assert len(pair.history("node-a", "check-moves")) == 1 and not pair.history("node-b", "check-moves")
    status = pair.ha("node-b", "status")
    assert "! node-b: check web fails: answers 503 Service Unavailable; not handed over again" in status.stdout.replace(
        "\n  ", " "
    ), status.stdout
    assert pair.ha("node-b", "checks").returncode == 1
    set_mode(pair, "good", "node-b")
    await_code(pair, "node-b", "check-recovered")
    assert pair.ha("node-b", "status").stdout.startswith("OK")


def test_restarts_are_counted_and_damped(pair: Pair) -> None:
    """A server whose answers stay bad, with on_failure = "restart" and two of them within a minute.

    Fault: it answers 503, then hangs, then is well again.
    Answer: it is restarted twice, and no more; both are in the history and in status; the node stays active; the check
    recovers when the server does.
    Bound: 20 s.
    """
    begin(pair, web("restart", at_most=2, within_s=60.0))
    await_health(pair, "node-a", "passing")
    pids = {pair.shell("node-a", "supervisorctl pid web").strip()}
    set_mode(pair, "bad", "node-a")
    await_code(pair, "node-a", "check-restart")
    set_mode(pair, "hang", "node-a")
    held = await_code(pair, "node-a", "check-held-back", 20.0)
    assert held["text"] == "check web: web is not restarted again: 2 within 60 s already (at_most = 2)"
    restarts = pair.history("node-a", "check-restart")
    assert [e["text"].partition(": restarts")[0] for e in restarts] == [
        "check web: answers 503 Service Unavailable", "check web: no answer within 0.4 s",
    ]  # fmt: skip
    pids.add(pair.shell("node-a", "supervisorctl pid web").strip())
    assert len(pids) == 2 and pair.role("node-a") == "active"
    assert pair.lab.status("node-a")["checks"][0]["restarts"] == 2
    set_mode(pair, "good", "node-a")
    await_code(pair, "node-a", "check-recovered")
    assert len(pair.history("node-a", "check-restart")) == 2


def test_nothing_moves_while_the_standby_could_not_take_over(pair: Pair) -> None:
    """The standby is not to take over, and then may.

    Fault: node-b is ordered to stay standby; the server of node-a answers 503; the order is lifted.
    Answer: node-a stays active, says why nothing is done, and hands over as soon as that is possible.
    Bound: 15 s.
    """
    begin(pair, web("hand-over"))
    await_health(pair, "node-a", "passing")
    done = pair.ha("node-a", "standby", "node-b", "--reason", "its disk", "--yes", "node-a")
    assert done.returncode == 0, done.stdout + done.stderr
    set_mode(pair, "bad", "node-a")
    held = await_code(pair, "node-a", "check-held-back")
    assert held["text"].startswith("check web: not handed over: node-b is to stay standby"), held
    stays("nothing moves", lambda: pair.role("node-a") == "active", 2.0)
    assert pair.ha("node-a", "unstandby", "node-b").returncode == 0
    pair.await_role("node-b", "active")
    await_health(pair, "node-b", "passing")


def test_a_check_that_flaps_below_its_limit_does_nothing_and_maintenance_suspends_all(pair: Pair) -> None:
    """A server whose every second answer is bad; then one that is bad in a maintenance.

    Fault: 503 and 200 in turns; then 503 while maintenance is on.
    Answer: with fall = 2 that is no fault; in maintenance nothing is looked at or done, and afterwards it is.
    Bound: 5 s without an event; 15 s.
    """
    begin(pair, web("hand-over"))
    await_health(pair, "node-a", "passing")
    set_mode(pair, "flap", "node-a")
    stays("no fault", lambda: health(pair, "node-a") == "passing", 5.0)
    assert pair.ha("node-a", "maintenance", "on", "--for", "5min", "--reason", "try").returncode == 0
    set_mode(pair, "bad", "node-a")
    time.sleep(3.0)
    assert not pair.history("node-a", "check-failed") and pair.role("node-a") == "active"
    assert pair.lab.status("node-a")["checks"][0]["waits"] == "maintenance is on"
    assert pair.ha("node-a", "maintenance", "off").returncode == 0
    pair.await_role("node-b", "active")


def test_a_role_change_breaks_a_look_off(pair: Pair) -> None:
    """A command that takes long, and a switchover in its middle; and a program that supervisord has given up.

    Fault: node-a hands over while the command of a check runs; then a program of kind running cannot be started.
    Answer: the command is gone at once, the release does not wait for it, and what it would have said counts nowhere. The
    program that was declared critical is FATAL, and the pair hands over.
    Bound: 15 s.
    """
    command = {"kind": "command", "command": ["/bin/sleep", "77.7"], "interval_s": 40.0, "timeout_s": 30.0, "after_s": 0.0}
    critical = {
        "kind": "running",
        "program": "web",
        "on_failure": "hand-over",
        "fall": 1,
        "interval_s": 0.5,
        "timeout_s": 0.4,
    }
    begin(pair, {"checks.slow": {**command, "fall": 1}, "checks.critical": {**critical, "after_s": 0.5}})

    def runs(node: str) -> bool:
        return pair.shell(node, "pgrep -xf '/bin/sleep 77.7' || true").strip() != ""

    wait_for("the command runs", lambda: runs("node-a"), 15.0, 0.1)
    began = time.monotonic()
    done = pair.ha("node-a", "switchover", "--yes")
    assert done.returncode == 0 and time.monotonic() - began < 10.0, done.stdout + done.stderr
    assert not runs("node-a") and not pair.history("node-a", "check-failed")
    await_health(pair, "node-b", "passing", name="critical")
    # It cannot be started again on node-b, where its script is gone.
    pair.shell("node-b", "mv /etc/ha-agent/web.py /etc/ha-agent/gone; supervisorctl signal KILL web")
    pair.await_role("node-a", "active", 30.0)
    event = await_code(pair, "node-b", "check-moves")
    assert event["text"].startswith("check critical: web is "), event


def test_an_agent_killed_at_any_moment_of_a_hand_over_moves_the_service_once(pair: Pair) -> None:
    """The agent of the active node is killed at several moments after a check has failed.

    Fault: kill -9 of the agent 0 to 300 ms after its word that the check fails; the fault is on both nodes.
    Answer: the service moves once, by this agent or by the one after it, and no second time.
    Bound: 20 s each; 3 s without a second one.
    """
    begin(pair, web("hand-over", at_most=50))
    await_health(pair, "node-a", "passing")
    for delay_s, source in zip((0.0, 0.02, 0.06, 0.3), itertools.cycle(NODES), strict=False):
        other = NODES[1 - NODES.index(source)]
        before, epoch = len(pair.history(source, "check-failed")), pair.lab.status(source)["epoch"]
        set_mode(pair, "bad", *NODES)
        wait_for("it fails", lambda: len(pair.history(source, "check-failed")) > before, 15.0, 0.005)  # noqa: B023
        time.sleep(delay_s)
        pair.kill_agent(source)
        pair.await_role(other, "active", 20.0)
        await_health(pair, other, "failing")
        stays("once", lambda: pair.role(other) == "active", 3.0, lambda: see(pair, other))  # noqa: B023
        assert pair.lab.status(other)["epoch"] == epoch + 1
        set_mode(pair, "good", *NODES)
        await_health(pair, other, "passing")
        pair.await_in_sync(other)


SHOW = "supervisorctl status web || true"

SLOW_TO_STOP = """\
[program:web]
command=/bin/sh -c 'trap "sleep 1; kill $!; exit 0" TERM; /usr/bin/python3 /etc/ha-agent/web.py & wait; wait'
startsecs=0
killasgroup=true
"""


def test_an_agent_killed_in_the_middle_of_a_restart_leaves_one_copy_that_runs(pair: Pair) -> None:
    """The agent is killed at several moments of a restart that it makes for a check, of a program that takes 1 s to stop.

    Fault: kill -9 of the agent 0 to 1.5 s after its word that it restarts the program.
    Answer: the next agent finishes it where the program has been told to stop; it is counted once, one copy runs, and the
    check passes when the server does.
    Bound: 20 s each.
    """
    pair.up({"web.conf": SLOW_TO_STOP}, overrides=web("restart", at_most=50), prepare=prepare)
    pair.await_role("node-a", "active")
    await_health(pair, "node-a", "passing")
    for number, delay_s in enumerate((0.0, 0.1, 0.3, 0.9, 1.1, 1.5), 1):
        set_mode(pair, "bad", "node-a")
        wait_for("a restart", lambda: len(pair.history("node-a", "check-restart")) == number, 15.0, 0.005)  # noqa: B023
        set_mode(pair, "good", "node-a")
        time.sleep(delay_s)
        pair.kill_agent("node-a")
        time.sleep(1.5)
        wait_for("it runs", lambda: "RUNNING" in pair.shell("node-a", SHOW), 15.0, 0.1, lambda: see(pair, "node-a"))
        stays("it runs", lambda: "RUNNING" in pair.shell("node-a", SHOW), 2.0, lambda: f"{delay_s}: {see(pair, 'node-a')}")  # noqa: B023
        await_health(pair, "node-a", "passing", 20.0)
        assert pair.role("node-a") == "active"
        assert len(pair.history("node-a", "check-restart")) == number
    assert not pair.probe.doubles


def test_on_a_full_disk_a_hook_runs_and_a_check_restarts_nothing_that_it_cannot_count(pair: Pair) -> None:
    """A hook and a check on a node whose disk is full.

    Fault: the disk of node-a is full when its service fails, and when the pair is moved away and back.
    Answer: the check fails and says that a restart cannot be noted, so none is made that nobody would count; the hook runs
    at each move. When there is room again the restart is made.
    Bound: 20 s each.
    """
    mark = {"at": ["before_start", "after_stop"], "command": ["/bin/sh", "-c", 'echo "$HA_AGENT_HOOK" >>/run/hooked']}
    overrides = {**web("restart"), "hooks.mark": mark}
    pair.up({"web.conf": CONF}, overrides=overrides, prepare=prepare, disk_bytes=DISK)
    pair.await_role("node-a", "active")
    await_health(pair, "node-a", "passing")
    # To give a file another name takes no room.
    folder = os.path.join(pair.lab.paths.disk("node-a", "etc-ha-agent"))
    with open(os.path.join(folder, "bad"), "w", encoding="ascii") as file:
        file.write("bad")
    fill(pair, "node-a")
    os.rename(os.path.join(folder, "bad"), os.path.join(folder, "web-mode"))
    await_health(pair, "node-a", "failing")
    wait_for("it is held", lambda: "cannot be noted" in str(pair.lab.status("node-a")["checks"][0]["held"]), 15.0, 0.1)
    pid = pair.shell("node-a", "supervisorctl pid web").strip()
    stays("nothing is restarted", lambda: pair.shell("node-a", "supervisorctl pid web").strip() == pid, 3.0)
    pair.hand_over("node-b")
    pair.hand_over("node-a")
    assert pair.shell("node-a", "cat /run/hooked").split() == ["before_start", "after_stop", "before_start"]
    empty(pair, "node-a")
    await_code(pair, "node-a", "check-restart", 20.0)
