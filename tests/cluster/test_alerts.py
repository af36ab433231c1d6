"""Alerts of a real pair at a real webhook receiver, a real mail server and a real command: each once, and no storm."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from ha_agent.lab.control import Lab
from ha_agent.lab.layout import CLIENT_ADDRESS, NODES
from tests.lab_support import SLEEPER, Pair, sleepers, stays, wait_for
from tests.receivers import MailServer, WebhookServer, network_of

MAIL_PORT = 2525
HOOK_PORT = 8099
LOG = "/var/log/alerts.jsonl"
COMMAND = f"#!/bin/sh\ncat >> {LOG}\n"


class Receivers:
    """Where the pair's alerts go: both servers stand in the network outside the two nodes."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.hook: WebhookServer
        self.mail: MailServer

    def up(self, confs: dict[str, str], *, alerts: dict[str, Any] | None = None, **options: Any) -> None:
        self.pair.up(
            confs,
            overrides={
                "alerts": {"memory_interval_s": 1.0, **(alerts or {})},
                "sinks.hook": {"kind": "webhook", "url": f"http://{CLIENT_ADDRESS}:{HOOK_PORT}/hook"},
                "sinks.mail": {
                    "kind": "smtp",
                    "host": CLIENT_ADDRESS,
                    "port": MAIL_PORT,
                    "sender": "ha@example.org",
                    "recipients": ["ops@example.org"],
                },
                "sinks.cmd": {"kind": "command", "command": ["/etc/ha-agent/alert-command"]},
            },
            prepare=self._prepare,
            **options,
        )

    def _prepare(self, lab: Lab) -> None:
        for node in NODES:
            path = os.path.join(lab.paths.disk(node, "etc-ha-agent"), "alert-command")
            with open(path, "w", encoding="ascii") as file:
                file.write(COMMAND)
                os.fchmod(file.fileno(), 0o755)

    def open(self) -> None:
        """Opens the servers; before that nobody is there to take anything."""
        with network_of(self.pair.lab):
            self.hook = WebhookServer(CLIENT_ADDRESS, HOOK_PORT)
            self.mail = MailServer(CLIENT_ADDRESS, MAIL_PORT)
            self.mail.start()

    def close(self) -> None:
        if hasattr(self, "hook"):
            self.hook.shutdown()
            self.hook.server_close()
        if hasattr(self, "mail"):
            with network_of(self.pair.lab):
                self.mail.stop()

    def commanded(self) -> list[dict[str, Any]]:
        """What the commands of both nodes were given."""
        found = []
        for node in NODES:
            path = os.path.join(self.pair.lab.paths.disk(node, "log"), "alerts.jsonl")
            if os.path.exists(path):
                with open(path, encoding="utf-8") as file:
                    found += [json.loads(line) for line in file]
        return found

    def at_all(self, code: str) -> list[list[dict[str, Any]]]:
        """The alerts of ``code`` at each of the three, webhook first. Mails carry them as JSON at their end."""
        mailed = []
        for mail in list(self.mail.mails):
            text = str(mail.get_content())
            mailed.append(json.loads(text[text.index("\n{") :]))
        return [[note for note in got if note["code"] == code] for got in (list(self.hook.bodies), mailed, self.commanded())]

    def await_at_all(self, code: str, count: int = 1, limit_s: float = 25.0) -> dict[str, Any]:
        """Waits until each of the three has ``count`` of ``code``, all the same ones; returns the newest."""
        wait_for(
            f"{count} {code} at all three",
            lambda: [len(got) for got in self.at_all(code)] == [count] * 3,
            limit_s,
            0.1,
            lambda: str([[n["text"] for n in got] for got in self.at_all(code)]) + str(self.hook.codes()),
        )
        ids = [{note["id"] for note in got} for got in self.at_all(code)]
        assert ids[0] == ids[1] == ids[2]
        return self.at_all(code)[0][-1]

    def await_noted(self, node: str) -> None:
        """Waits until the agent of ``node`` has written that every sink has everything. One killed earlier sends again."""
        path = os.path.join(self.pair.lab.paths.disk(node, "state"), "alerts.json")

        def is_noted() -> bool:
            with open(path, encoding="utf-8") as file:
                stored = json.load(file)
            return all(sink["cursor"] == stored["book"]["number"] for sink in stored["sinks"].values())

        wait_for(f"all is noted on {node}", is_noted, 15, 0.05)


@pytest.fixture
def receivers(pair: Pair) -> Iterator[Receivers]:
    made = Receivers(pair)
    yield made
    made.close()


def kill(pair: Pair, node: str, name: str) -> None:
    pair.shell(node, f"kill -9 $(supervisorctl pid {name})")


GROWER = (
    "[program:grower]\nstopwaitsecs=2\n"
    "command=/usr/bin/python3 -c 'import time; time.sleep(4); b=bytearray(90<<20); time.sleep(999)'\n"
)
LOOPER = (
    "[program:looper]\nstartsecs=0\nstopwaitsecs=2\nredirect_stderr=true\ncommand=/bin/sh -c 'echo round; sleep 1; exit 4'\n"
)
DYING = (
    "[program:dying]\nstartsecs=0\nautorestart=false\nstopwaitsecs=2\nredirect_stderr=true\n"
    "command=/bin/sh -c 'echo my last words; sleep 8; exit 9'\n"
)


def test_a_program_killed_looping_growing_or_gone_is_one_alert_each_at_every_sink(receivers: Receivers) -> None:
    """Design, alerts: what happens to a program is told once, with what somebody needs to know.

    Fault: one program is killed, one ends every second, one grows over its limit, one ends and is not started again.
    Answer: webhook, mail server and command each get each of them once, with exit status and log; its end, too.
    Bound: none is missing, none comes twice, until all has been quiet for a while.
    """
    pair = receivers.pair
    confs = {**sleepers(2), "grower.conf": GROWER, "looper.conf": LOOPER, "dying.conf": DYING}
    receivers.up(confs, alerts={"memory_limits": ["grower=60MB"], "loop_window_s": 10.0})
    receivers.open()
    wait_for("p0 runs", lambda: "p0" in pair.runs("node-a"))
    receivers.await_at_all("role-active")
    looping = receivers.await_at_all("program-looping")
    assert looping["subjects"] == ["looper"] and "exit status 4" in looping["text"] and "round" in looping["details"]["log"]
    growing = receivers.await_at_all("program-memory")
    assert growing["kind"] == "begin" and growing["details"]["used_bytes"] > 60 << 20
    gone = receivers.await_at_all("program-exited")
    assert "exit status 9" in gone["text"] and gone["details"]["log"] == ["my last words"]
    assert (gone["node"], gone["details"]["before"], gone["details"]["after"]) == ("node-a", "RUNNING", "EXITED")
    # An agent that is killed and started again tells nothing of this once more, and of nothing that it is over.

    def told() -> list[tuple[str, str, str]]:
        codes = ("program-looping", "program-exited", "program-memory", "role-active")
        return [(n["id"], n["kind"], n["text"]) for n in receivers.hook.bodies if n["code"] in codes]

    before = told()
    receivers.await_noted("node-a")
    pair.kill_agent("node-a")
    stays("nothing of it is told again", lambda: told() == before, 3.0, lambda: f"{told()}, after {before}")
    kill(pair, "node-a", "p0")

    def about_p0() -> list[list[dict[str, Any]]]:
        return [[n for n in got if "p0" in n["subjects"]] for got in receivers.at_all("program-restarted")]

    wait_for("p0 at all three", lambda: [len(got) for got in about_p0()] == [1] * 3, 25, 0.1, lambda: str(about_p0()))
    killed = about_p0()[0][0]
    assert "p0 ended unexpectedly (terminated by SIGKILL) and runs again" in killed["text"] and killed["remedy"]
    # Repaired: each of them is over, which is told once as well.
    assert pair.sup("node-a", "stop", "looper").returncode == 0
    assert pair.sup("node-a", "restart", "grower").returncode == 0
    assert pair.sup("node-a", "start", "dying").returncode == 0
    assert receivers.await_at_all("program-looping", 2)["kind"] == "end"
    assert receivers.await_at_all("program-exited", 2)["kind"] == "end"
    shown = pair.ha("node-b", "alert", "list")
    assert shown.returncode == 0 and "sink mail (smtp): works" in shown.stdout and "looper ended" in shown.stdout


def test_a_failover_of_a_hundred_programs_is_one_summary_and_no_storm(receivers: Receivers) -> None:
    """Design, alerts: what a takeover does to programs is one summary.

    Fault: the active node of 100 programs, two of which cannot be started, loses its power; it comes back later.
    Answer: one summary of the takeover with the failed ones named, one alert for those two, one about the peer, and its end.
    Bound: six notifications.
    """
    pair = receivers.pair
    confs = sleepers(98)
    for name in ("bad1", "bad2"):
        confs[f"{name}.conf"] = f"[program:{name}]\ncommand=/bin/false\nstartretries=0\n"
    receivers.up(confs)
    receivers.open()
    wait_for("all run", lambda: len(pair.runs("node-a")) == 98)
    before = receivers.await_at_all("program-fatal")
    assert before["node"] == "node-a" and sorted(before["subjects"]) == ["bad1", "bad2"]
    pair.lab.power_off("node-a")
    pair.await_role("node-b", "active", 25)
    wait_for("both are told", lambda: "node-b" in {n["node"] for n in receivers.at_all("program-fatal")[0]}, 30)
    receivers.await_at_all("peer-lost")
    pair.power_on("node-a")
    receivers.await_at_all("peer-lost", 2)
    told = [(n["kind"], n["code"], len(n["subjects"])) for n in receivers.hook.bodies if n["node"] == "node-b"]
    summary = next(n for n in receivers.hook.bodies if n["node"] == "node-b" and n["code"] == "role-active")
    assert "98 programs running, 2 failed; bad1: " in summary["text"] and summary["details"]["report"]["steps"]
    assert sorted(told) == [
        ("begin", "peer-lost", 1),
        ("begin", "program-fatal", 2),
        ("end", "peer-lost", 1),
        ("moment", "role-active", 1),
    ]


def test_a_slow_and_a_dead_sink_delay_nobody_and_get_everything_in_the_end(receivers: Receivers) -> None:
    """Design, alerts: one slow sink never delays another or the daemon, and a restart tells nothing twice.

    Fault: nobody listens at the mail server, the webhook thinks for 4 s about each, the agent is killed and started again.
    Answer: the command has each alert at once; the others get each of them when they can, in order, and once.
    Bound: the command 5 s; the status answers within 1 s all the while.
    """
    pair = receivers.pair
    receivers.up(sleepers(3))
    with network_of(pair.lab):
        receivers.hook = WebhookServer(CLIENT_ADDRESS, HOOK_PORT)
    receivers.hook.takes_s = 4.0
    wait_for("the takeover is told", lambda: [n["code"] for n in receivers.commanded()] == ["role-active"], 5)

    def restarts() -> int:
        return [note["code"] for note in receivers.commanded()].count("program-restarted")

    for number in (1, 2):
        kill(pair, "node-a", f"p{number}")
        wait_for("the next", lambda: restarts() == number, 16, 0.1, lambda: str(receivers.commanded()))  # noqa: B023
    assert "sink mail (smtp): fails: Connection refused" in pair.ha("node-a", "alert", "list").stdout
    wait_for("the webhook has had time", lambda: len(receivers.hook.bodies) == 3, 20)
    # What an agent had no time to write down would be told again.
    saved = os.path.join(pair.lab.paths.disk("node-a", "state"), "alerts.json")

    def is_written_down() -> bool:
        with open(saved, encoding="utf-8") as file:
            return bool(json.load(file)["sinks"]["hook"]["delivered"] == 3)

    wait_for("its delivery is written down", is_written_down, 10, 0.05)
    pair.kill_agent("node-a")
    with network_of(pair.lab):
        receivers.mail = MailServer(CLIENT_ADDRESS, MAIL_PORT)
        receivers.mail.start()
    wait_for("the mails", lambda: len(receivers.mail.mails) == 3, 40)
    stays("nothing twice", lambda: (len(receivers.mail.mails), len(receivers.hook.bodies)) == (3, 3), 3.0)
    for code in ("role-active", "program-restarted"):
        got = receivers.at_all(code)
        assert [n["id"] for n in got[0]] == [n["id"] for n in got[1]] == [n["id"] for n in got[2]]


def test_maintenance_silences_by_rule_and_what_lasts_is_told_after_it(receivers: Receivers) -> None:
    """Design, alerts: maintenance silences by rule.

    Fault: in maintenance a program dies for good, keepalived is stopped, and the registry is edited on the standby.
    Answer: nothing of it is told while it lasts, but listed; what is still so is told when it is over.
    Bound: none needed.
    """
    pair = receivers.pair
    receivers.up({**sleepers(2), "once.conf": SLEEPER.format(name="once") + "autorestart=false\n"})
    receivers.open()
    receivers.await_at_all("role-active")
    assert pair.ha("node-a", "maintenance", "on", "--for", "5min", "--reason", "new kernel").returncode == 0
    receivers.await_at_all("maintenance-on", 2)
    kill(pair, "node-a", "once")
    pair.lab.unit("node-b", "stop", "keepalived")

    def listed() -> str:
        return pair.ha("node-a", "alert", "list").stdout

    wait_for("the one is listed", lambda: "keepalived does not run on node-b" in listed(), 20, 0.3)
    wait_for("and the other", lambda: "once ended unexpectedly" in listed(), 20, 0.3, listed)
    assert "(silenced by maintenance)" in listed()
    assert {code for _, code in receivers.hook.codes()} == {"role-active", "maintenance-on"}
    assert pair.ha("node-a", "maintenance", "off").returncode == 0
    assert receivers.await_at_all("program-exited")["subjects"] == ["once"]
    assert receivers.await_at_all("keepalived-down")["node"] == "node-b"
    pair.lab.unit("node-b", "start", "keepalived")
    assert receivers.await_at_all("keepalived-down", 2)["kind"] == "end"


def test_what_the_agent_itself_sees_is_told(receivers: Receivers) -> None:
    """Design, alerts: peer lost and back, divergence kept, edits of a standby, confs that cannot be loaded.

    Fault: the link is cut, a conf is changed on the standby, a bad one on the active node, and the change overwritten;
    most confs are deleted; a drill.
    Answer: each has its alert, with a start and an end.
    Bound: none needed.
    """
    pair = receivers.pair
    receivers.up(sleepers(6), alerts={"lag_s": 3.0})
    receivers.open()
    receivers.await_at_all("role-active")
    pair.shell("node-a", "printf '[program:p0]\\ncommand=/bin/true\\nnumprocs=many\\n' > /etc/supervisor/conf.d/p0.conf")
    assert "is not a whole number" in receivers.await_at_all("conf-not-loadable")["text"]
    pair.lab.block("node-b", "tcp")
    # While the link is up the active node puts an edit of the standby right before anybody is told of it.
    pair.shell("node-b", "echo '; local' >> /etc/supervisor/conf.d/p1.conf")
    lost = receivers.at_all("peer-lost")
    pair.shell("node-a", "echo '; waits' >> /etc/supervisor/conf.d/p2.conf")
    assert receivers.await_at_all("replication-lag")["text"] == "1 changes wait for node-b"
    seen = json.loads(pair.ha("node-a", "status", "--json").stdout)
    assert "replication-lag" in {problem["code"] for problem in seen["problems"]}
    assert "have been waiting for node-b for" in pair.ha("node-a", "check", "replication").stdout
    wait_for("both nodes tell of it", lambda: [len(got) for got in receivers.at_all("peer-lost")] == [2] * 3, 40, 0.2)
    pair.lab.unblock("node-b", "tcp")
    assert lost == [[], [], []] and receivers.await_at_all("peer-lost", 4)["kind"] == "end"
    pair.await_equal(10)
    assert receivers.await_at_all("divergence-kept")["node"] == "node-b"
    ended = receivers.await_at_all("standby-edit", 2)
    assert ended["kind"] == "end" and ended["subjects"] == ["p1.conf"]
    pair.shell("node-a", "rm /etc/supervisor/conf.d/p[1-5].conf")
    assert "confs are gone from the registry" in receivers.await_at_all("registry-held")["text"]
    wait_for("they are confirmed", lambda: pair.ha("node-a", "sync", "--accept-deletes").returncode == 0, 30, 0.5)
    assert receivers.await_at_all("registry-held", 2)["kind"] == "end"
    pair.shell(
        "node-a", "printf '[program:p0]\\ncommand=/bin/sleep infinity\\n' > /etc/supervisor/conf.d/p0.conf; supzcli update"
    )
    assert receivers.await_at_all("conf-not-loadable", 2)["kind"] == "end"
    wait_for("it runs", lambda: "p0" in pair.runs("node-a"))
    drill = pair.ha("node-a", "failover-test", "--mode", "switchover", "--yes", timeout_s=120)
    assert drill.returncode == 0, drill
    assert receivers.await_at_all("drill-report")["details"]["drill"]


def test_a_test_says_of_every_sink_whether_it_works(receivers: Receivers) -> None:
    pair = receivers.pair
    receivers.up(sleepers(1))
    with network_of(pair.lab):
        receivers.hook = WebhookServer(CLIENT_ADDRESS, HOOK_PORT)
    done = pair.ha("node-b", "alert", "test")
    assert done.returncode == 1 and "hook (webhook): delivered: HTTP status 200" in done.stdout
    assert "mail (smtp): FAILED: Connection refused" in done.stdout
    assert receivers.hook.bodies[-1]["text"] == "a test, asked for by root"
    assert pair.ha("node-b", "alert", "test", "--sink", "cmd").returncode == 0
    missing = pair.ha("node-b", "alert", "test", "--sink", "pigeon")
    assert missing.returncode == 3 and "there is no [sinks.pigeon] in /etc/ha-agent/agent.toml" in missing.stderr


def test_the_listener_survives_every_release_and_comes_back_when_it_is_killed(pair: Pair) -> None:
    """Hazard 17, design, alerts: the listener is never stopped by a release.

    Fault: the VIP goes to and fro, `supzcli stop all`, and the listener is killed.
    Answer: it keeps its process through all of that; killed, supervisord starts it again and nothing is missed.
    Bound: none needed.
    """
    pair.up()
    pair.await_runs("node-a", {"p0", "p1", "p2"})
    before = [pair.shell(node, "supervisorctl pid ha-agent-listener") for node in NODES]
    pair.hand_over("node-b")
    pair.hand_over("node-a")
    assert pair.sup("node-a", "stop", "--yes", "all").returncode == 0
    assert [pair.shell(node, "supervisorctl pid ha-agent-listener") for node in NODES] == before
    assert pair.sup("node-a", "start", "p0", "p1", "p2").returncode == 0
    pair.await_runs("node-a", {"p0", "p1", "p2"})
    pair.shell("node-a", "kill -STOP $(supervisorctl pid ha-agent-listener)")
    kill(pair, "node-a", "p1")
    pair.shell("node-a", "kill -9 $(supervisorctl pid ha-agent-listener)")
    wait_for("it is told", lambda: pair.has_told("node-a", "p1 ended unexpectedly"), 20, 0.3)


def test_a_full_disk_keeps_no_alert_back_and_nothing_comes_twice_after_it(receivers: Receivers) -> None:
    """Hazard 31, design, alerts: a bounded queue on disk.

    Fault: the disk of the active node is full when a program dies; there is room again, and the agent is started again.
    Answer: sinks that can be reached get it nevertheless, once; the sink that needs the disk gets it when there is room.
    Bound: none needed.
    """
    pair = receivers.pair
    receivers.up(sleepers(2), disk_bytes=48 << 20)
    receivers.open()
    receivers.await_at_all("role-active")
    pair.shell(
        "node-a",
        "cat /dev/zero > /var/log/fill 2>/dev/null || true; cat /dev/zero > /var/lib/ha-agent/fill 2>/dev/null || true",
    )
    kill(pair, "node-a", "p0")

    def told() -> list[int]:
        return [len(got) for got in receivers.at_all("program-restarted")]

    wait_for("webhook and mail", lambda: told()[:2] == [1, 1], 20, 0.1, lambda: str(told()))
    assert os.statvfs(pair.lab.paths.disk("node-a", "state")).f_bavail == 0, "the disk is full all the while"
    pair.shell("node-a", "rm /var/log/fill /var/lib/ha-agent/fill")
    wait_for("the command", lambda: told() == [1, 1, 1], 40, 0.2, lambda: str(told()))
    kill(pair, "node-a", "p1")
    wait_for("the next one is saved again", lambda: told() == [2, 2, 2], 30, 0.2, lambda: str(told()))
    pair.lab.unit("node-a", "restart", "ha-agent")
    wait_for("a new agent", lambda: pair.is_whole("node-a"), 10, 0.2)
    stays("nothing twice", lambda: told() == [2, 2, 2], 4.0)


LAST_WORDS = r"gone\342\200\250\302\2332K\342\200\256"
"""What XML can hold of what steers: a log with other control characters supervisord itself cannot hand over."""

WORDY = (
    "[program:wordy]\nstartsecs=0\nautorestart=false\nstopwaitsecs=2\nredirect_stderr=true\n"
    f"command=/bin/sh -c 'printf \"{LAST_WORDS}\\n\"; sleep 8; exit 9'\n"
)
FORGE = """
import json, socket, struct, sys
with socket.socket(socket.AF_UNIX) as agent:
    agent.connect("/run/ha-agent/control.sock")
    ask = {"op": "maintenance", "on": True, "for_s": 1.0, "reason": json.loads(sys.argv[1]), "id": 1}
    body = json.dumps(ask).encode()
    agent.sendall(struct.pack(">I", len(body)) + body)
    print(agent.recv(65536)[4:].decode())
"""


def test_what_a_member_or_a_program_says_stops_no_alert_and_forges_no_line(receivers: Receivers) -> None:
    """Texts of others are data.

    Fault: a member gives reasons for a maintenance that hold NUL, a newline, an escape sequence, a line separator and half a
    character; a program ends with last words that steer a terminal; then another one is killed.
    Answer: the reasons are refused, both ends are told once to each sink, and no command shows what steers a terminal.
    Bound: none is missing, none comes twice.
    """
    pair = receivers.pair
    receivers.up({**sleepers(1), "wordy.conf": WORDY})
    receivers.open()
    wait_for("p0 runs", lambda: "p0" in pair.runs("node-a"))
    receivers.await_at_all("role-active")
    for reason in ("a\0b", "x\n2026-01-01 00:00:00  node-a  role-active (by root)", "\x1b[2J", "\u2028", "\ud800", "\u202e"):
        said = pair.run_as("node-a", "alice", "/usr/bin/python3", "-c", FORGE, json.dumps(reason))
        assert "not for reading" in said.stdout, said
    assert pair.history("node-a", "maintenance-on") == []
    told = receivers.await_at_all("program-exited")
    assert told["subjects"] == ["wordy"] and r"\x9b2K\u202e" in told["details"]["log"][-1], told
    kill(pair, "node-a", "p0")
    assert receivers.await_at_all("program-restarted")["subjects"] == ["p0"]
    for words in (("history", "-n", "100"), ("alert", "list"), ("status",)):
        shown = pair.ha("node-a", *words).stdout
        assert all(letter == "\n" or letter.isprintable() for letter in shown), shown
