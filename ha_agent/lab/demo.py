"""``make demo``: the main job of ha-agent on a real pair in namespaces, watched from outside, with a measured summary."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ha_agent.core.width import count_text
from ha_agent.lab.control import Lab, LabFailed
from ha_agent.lab.layout import NODES, VIP, fresh_directory
from ha_agent.lab.probe import Probe

REDIS_PORTS = (6376, 6377, 6378, 6379)
CLIENT_REDIS = 6379
WEB_PORT = 8080
EDITS = 20
STOPPED = "redis_6378"
KILLED = "redis_6377"
ALERT_COMMAND = "/etc/ha-agent/demo-alert"
ALERT_SCRIPT = """\
#!/bin/sh
echo "[$3] $1 $2: $4" >> /var/log/alerts
"""

# Without a process title of its own: the probe, which asks nobody, knows programs by their environment.
REDIS_CONF = """\
[program:redis_{port}]
command=/usr/bin/redis-server --port {port} --bind {vip} --protected-mode no --save "" --dir /var/lib/redis
  --daemonize no --set-proc-title no
user=redis
autostart=true
autorestart=true
stopwaitsecs=10
stdout_logfile=/var/log/redis_{port}.log
redirect_stderr=true
"""

WEB_CONF = """\
[program:web]
command=/usr/sbin/lighttpd -D -f /etc/ha-agent/demo-web.cfg
autostart=true
autorestart=true
stdout_logfile=/var/log/web.log
redirect_stderr=true
"""

WEB_SERVER = f"""\
server.document-root = "/etc/ha-agent/demo-www"
server.bind = "{VIP}"
server.port = {WEB_PORT}
index-file.names = ("index.html")
mimetype.assign = (".html" => "text/html")
"""


MARGIN = " " * 13
"""What stands before lines that belong to an event."""


def break_line(line: str, width: int) -> list[str]:
    """``line`` in pieces of at most ``width`` columns, cut at blanks; later ones are indented. A width of 0 cuts nothing."""
    indent, pieces = f"{MARGIN}    ", []
    while width > 2 * len(indent) and len(line) > width:
        cut = line.rfind(" ", len(indent), width + 1)
        if cut < 0:
            break
        pieces.append(line[:cut].rstrip())
        line = indent + line[cut:].strip()
    return [*pieces, line]


class DemoFailed(Exception):
    """Something that the demo waits for did not come; the text says what, and what was there instead."""


@dataclass(slots=True)
class Narrator:
    """Prints one line an event, with seconds since the start; a waiting line on a terminal only."""

    began: float = field(default_factory=time.monotonic)
    on_terminal: bool = field(default_factory=sys.stdout.isatty)

    def say(self, text: str) -> None:
        """One event."""
        clear = "\r\033[K" if self.on_terminal else ""
        print(f"{clear}[{time.monotonic() - self.began:6.2f} s] {text}", flush=True)

    def show(self, text: str) -> None:
        """Lines that belong to the event before."""
        width = shutil.get_terminal_size().columns if self.on_terminal else 0
        clear = "\r\033[K" if self.on_terminal else ""
        for line in text.splitlines() or [""]:
            print(clear + "\n".join(break_line(f"{MARGIN}{line}".rstrip(), width)), flush=True)

    def wait(self, what: str, probe: Callable[[], Any], limit_s: float, pause_s: float = 0.002) -> Any:
        """Waits for ``probe`` to return something. Raises ``DemoFailed`` after ``limit_s``."""
        deadline = time.monotonic() + limit_s
        shown = time.monotonic() + 0.5
        while True:
            value = probe()
            if value:
                return value
            now = time.monotonic()
            if now > deadline:
                raise DemoFailed(f"{what}: not within {limit_s:g} s")
            if self.on_terminal and now > shown:
                print(f"\r\033[K             waiting: {what} ...", end="", flush=True)
                shown = now + 0.5
            time.sleep(pause_s)


class Client:
    """The client process at the switch and what it saw."""

    def __init__(self, lab: Lab) -> None:
        words = [sys.executable, "-m", "ha_agent.lab.client", VIP, str(CLIENT_REDIS), str(WEB_PORT)]
        self._process = subprocess.Popen(
            lab.words_in_switch(*words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        self.rows: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.rows.append(json.loads(line))

    def is_served(self, after_mono: float) -> bool:
        """Whether both targets answered after a moment."""
        return {r["target"] for r in list(self.rows) if r["ok"] and r["at"] >= after_mono} == {"redis", "web"}

    def outage_s(self, target: str, since_mono: float) -> float:
        """The longest time between two good answers, from the last answer before a moment on, in seconds."""
        done = [r["at"] + r["took"] for r in list(self.rows) if r["target"] == target and r["ok"]]
        first = max([at for at in done if at <= since_mono], default=since_mono)
        later = [first, *(at for at in done if at > first)]
        return max((b - a for a, b in itertools.pairwise(later)), default=0.0)

    def stop(self) -> None:
        """Ends the client."""
        self._process.kill()
        self._process.wait()
        self._thread.join()
        if self._process.stdout:
            self._process.stdout.close()


class Streamed:
    """A command on a node whose lines are shown as they come."""

    def __init__(self, lab: Lab, node: str, words: list[str], talk: Narrator) -> None:
        self._process = subprocess.Popen(
            lab.words_inside(node, ["env", "PYTHONUNBUFFERED=1", "ha-agent", *words]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._talk = talk
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout:
            for line in self._process.stdout:
                self._talk.show(line.rstrip())

    def wait(self, limit_s: float) -> int:
        """Waits for its end; returns the exit status. Raises ``DemoFailed`` after ``limit_s``."""
        try:
            code = self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise DemoFailed(f"the command did not end within {limit_s:g} s") from None
        self._thread.join(5.0)
        return code


@dataclass(slots=True)
class Summary:
    """The measured table and the promises that did not hold."""

    rows: list[tuple[str, str]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def add(self, what: str, value: str) -> None:
        """One line of the table."""
        self.rows.append((what, value))

    def promise(self, holds: bool, text: str) -> None:
        """Notes a promise that does not hold."""
        if not holds:
            self.broken.append(text)

    def render(self) -> str:
        """The table as text."""
        width = max(len(what) for what, _ in self.rows)
        return "\n".join(f"{what.ljust(width)}   {value}" for what, value in self.rows)


class Demo:
    """The run of the demo: every method is a scene."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.talk, self.sum, self.probe = lab, Narrator(), Summary(), Probe()
        self.client: Client | None = None
        self.a, self.b = NODES

    def run(self) -> int:
        """All scenes; returns the exit status."""
        try:
            self.build()
            self.edit()
            self.operate()
            self.raise_alarm()
            self.cut_power()
            self.bring_back()
        finally:
            if self.client is not None:
                self.client.stop()
        self.probe.stop()
        self.count_doubles()
        print()
        print(self.sum.render())
        print()
        if self.sum.broken:
            print("BROKEN PROMISES:\n" + "\n".join(f"  - {text}" for text in self.sum.broken))
            return 1
        print("every promise held")
        return 0

    def build(self) -> None:
        """Scene 1: two nodes, five programs, one client."""
        self.talk.say(f"building two nodes in namespaces: {self.a} and {self.b}, VIP {VIP}")
        confs = {f"redis_{port}.conf": REDIS_CONF.format(port=port, vip=VIP) for port in REDIS_PORTS}
        confs["web.conf"] = WEB_CONF
        sink = {"kind": "command", "command": [ALERT_COMMAND]}
        self.lab.up(confs=confs, overrides={"sinks.demo": sink}, owner_pid=os.getpid(), prepare=write_files)
        self.talk.say("booted: real keepalived, sshd, rsync, supervisord and the agent on each")
        for node in NODES:
            self.probe.watch_node(node, self.lab.init_pid(node))
        self.probe.start()
        self.client = Client(self.lab)
        began = time.monotonic()
        self.talk.wait("the client is served by redis and web on the VIP", lambda: self.client_served(began), 20)
        self.talk.wait("all programs RUNNING", lambda: self.running(self.a) == 5, 20, 0.05)
        self.talk.say(f"4 redis and a web server run on {self.a}; a client outside writes and reads through the VIP")
        self.show_status(self.a)

    def edit(self) -> None:
        """Scene 2: changes on the active node arrive on the other one."""
        took = [self.edit_once(number) for number in range(EDITS)]
        median, worst = statistics.median(took) * 1e3, max(took) * 1e3
        self.talk.say(
            f"edited redis_6377.conf {EDITS} times on {self.a}: each was on {self.b} after {median:.1f} ms (median)"
        )
        self.sum.add("edit to peer", f"{median:.1f} ms median, {worst:.1f} ms worst of {EDITS}")
        self.sum.promise(worst < 1000, f"an edit took {worst:.0f} ms to reach the peer")
        registry_a, registry_b = (self.lab.paths.registry(n) for n in NODES)
        with open(os.path.join(registry_a, "redis_6380.conf"), "w", encoding="ascii") as file:
            file.write(REDIS_CONF.format(port=6380, vip=VIP))
        self.talk.wait("the new conf on the peer", lambda: "redis_6380.conf" in os.listdir(registry_b), 5)
        os.unlink(os.path.join(registry_a, "redis_6376.conf"))
        self.talk.wait("the deletion on the peer", lambda: "redis_6376.conf" not in os.listdir(registry_b), 5)
        self.lab.run(self.a, "supervisorctl", "-c", "/etc/supervisor/supervisord.conf", "update")
        self.talk.say("added redis_6380.conf, deleted redis_6376.conf, ran `supervisorctl update`; the peer's registry:")
        self.talk.show("  ".join(sorted(os.listdir(registry_b))))
        self.talk.wait("redis_6380 RUNNING", lambda: self.running(self.a) == 5, 20, 0.05)

    def edit_once(self, number: int) -> float:
        """One edit as an editor makes it (new file, rename); returns the seconds until the peer has it."""
        source, target = (os.path.join(self.lab.paths.registry(n), "redis_6377.conf") for n in NODES)
        text = REDIS_CONF.format(port=6377, vip=VIP) + f"; edit {number}\n"
        with open(source + ".tmp", "w", encoding="ascii") as file:
            file.write(text)
        began = time.monotonic()
        os.rename(source + ".tmp", source)
        self.talk.wait("the edit on the peer", lambda: read_text(target) == text, 5, 0.0002)
        took = time.monotonic() - began
        time.sleep(0.05)
        return took

    def operate(self) -> None:
        """Scene 3: an ordinary user stops a program; the next failover must know."""
        self.talk.say(f"on {self.a}, as alice, who is not root: supzcli status")
        self.talk.show(self.supzcli(self.a, "status")[1])
        self.talk.say(f"supzcli stop {STOPPED}")
        began = time.monotonic()
        code, said = self.supzcli(self.a, "stop", STOPPED)
        took = time.monotonic() - began
        self.talk.show(said)
        self.sum.promise(code == 0 and "parked on" in said, f"supzcli stop ended with {code}: {said}")
        self.sum.add("supzcli stop, whole command", f"{took * 1e3:.0f} ms, parked on both nodes")

    def supzcli(self, node: str, *words: str) -> tuple[int, str]:
        """``supzcli`` as an ordinary user of ``node``."""
        become = ["setpriv", "--reuid=alice", "--regid=alice", "--init-groups", "supzcli", *words]
        done = subprocess.run(
            self.lab.words_inside(node, become), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )
        return done.returncode, (done.stdout + done.stderr).strip()

    def raise_alarm(self) -> None:
        """Scene 4: a program is killed; supervisord starts it again, and an alert is delivered."""
        log = os.path.join(self.lab.paths.disk(self.a, "log"), "alerts")
        self.talk.say(f"on {self.a}: kill -9 $(supervisorctl pid {KILLED})")
        began = time.monotonic()
        self.lab.run(self.a, "sh", "-c", f"kill -9 $(supervisorctl pid {KILLED})")
        self.talk.wait("the alert", lambda: f"{KILLED} ended" in (read_text(log) or ""), 20, 0.01)
        took = time.monotonic() - began
        told = [line for line in (read_text(log) or "").splitlines() if KILLED in line]
        self.talk.say("the alert command (also: mail, webhook, syslog, journal) was called, once it ran again:")
        self.talk.show("\n".join(told))
        self.sum.add("a killed program to the alert at a command", f"{took:.1f} s (startsecs is 1 s of it)")
        self.sum.promise(len(told) == 1, f"{KILLED} was told {len(told)} times")
        self.talk.wait("all programs RUNNING", lambda: self.running(self.a) == 4, 20, 0.05)

    def cut_power(self) -> None:
        """Scene 5: the active node dies: `ha-agent failover-test` cuts its power, watches, and reports."""
        assert self.client is not None
        words = ["failover-test", "--mode", "power", "--yes"]
        for probe in (f"redis://{VIP}:{CLIENT_REDIS}", f"http://{VIP}:{WEB_PORT}/"):
            words += ["--probe", probe]
        self.talk.say(f"on {self.b}: ha-agent {' '.join(words)}")
        cut_mono = time.monotonic()
        command = Streamed(self.lab, self.b, words, self.talk)
        self.talk.wait(f"{self.a} is off", lambda: not self.lab.is_on(self.a), 20)
        off_mono = time.monotonic()
        self.talk.wait("the client is served again", lambda: self.client_served(off_mono + 0.2), 20)
        served = time.monotonic() - off_mono
        self.talk.wait("all programs RUNNING", lambda: self.running(self.b) == 4, 20, 0.05)
        stayed = STOPPED not in self.probe.running.get(self.b, frozenset())
        self.sum.promise(stayed, f"{STOPPED} was stopped, and the failover started it")
        self.talk.say(f"{STOPPED} stayed stopped on {self.b}: {'yes' if stayed else 'NO'}")
        self.talk.say(f"{self.b} serves the client; switching {self.a} on again")
        self.lab.power_on(self.a)
        self.probe.watch_node(self.a, self.lab.init_pid(self.a))
        code = command.wait(60.0)
        report = self.newest_report(self.b)
        figures = report["figures"]
        self.sum.add("power cut to detection and VIP move", f"{figures['detection_s']:.2f} s")
        self.sum.add("power cut to all programs started", f"{figures['takeover_done_s']:.2f} s")
        self.sum.add("power cut to all programs RUNNING", f"{figures['all_running_s']:.2f} s (startsecs is 1 s of it)")
        for target in ("redis", "web"):
            outage = self.client.outage_s(target, cut_mono)
            self.sum.add(f"outage seen by the client, {target}", f"{outage:.2f} s")
            self.sum.promise(outage < 2.0, f"the client missed {target} for {outage:.2f} s")
        self.sum.promise(code == 0 and bool(report["passed"]), f"the failover-test did not pass: {report['summary']}")
        self.sum.promise(not report["failed"], f"programs failed after the takeover: {report['failed']}")
        self.sum.promise(served < 5, f"the client was served again only after {served:.1f} s")

    def bring_back(self) -> None:
        """Scene 6: the old node is the standby, and becomes active again on purpose."""
        assert self.client is not None
        self.talk.wait(f"{self.a} standby and in sync", lambda: self.ask(self.a, "switchover", "--dry-run")[0] == 0, 30, 0.1)
        runs = self.probe.running.get(self.a, frozenset())
        equal = self.ask(self.b, "diff")[0] == 0
        self.talk.say(f"{self.a} is back as the standby and runs {count_text(len(runs), 'program')} of the registry:")
        self.show_status(self.b)
        self.sum.add("old node after its return", f"standby, {count_text(len(runs), 'program')}, registry equal: {equal}")
        self.sum.promise(not runs, f"{self.a} runs {sorted(runs)} though it is the standby")
        self.sum.promise(equal, "the registries of the two nodes differ (ha-agent diff)")
        code, said = self.supzcli(self.b, "start", STOPPED)
        self.talk.say(f"on {self.b}, as alice: supzcli start {STOPPED}")
        self.talk.show(said)
        self.sum.promise(code == 0 and "registered on" in said, f"supzcli start ended with {code}: {said}")
        self.talk.say(f"on {self.a}: ha-agent switchover --yes")
        began = time.monotonic()
        code, text = self.ask(self.a, "switchover", "--yes")
        self.talk.show(text)
        self.talk.wait("the client is served again", lambda: self.client_served(time.monotonic() - 0.2), 20)
        self.sum.promise(code == 0, "the switchover did not succeed")
        outages = [self.client.outage_s(target, began) for target in ("redis", "web")]
        self.sum.add("outage of a switchover, redis and web", " and ".join(f"{outage:.2f} s" for outage in outages))
        told = [row for row in self.alerts(self.b) if row["code"] == "role-active"]
        self.talk.say(f"what {self.b} told of its takeover:")
        self.talk.show("\n".join(row["text"] for row in told))
        self.sum.promise(len(told) == 1, f"{self.b} told {len(told)} times of one takeover")
        self.talk.say(f"what happened, by `ha-agent history` on {self.a}:")
        self.talk.show(self.ask(self.a, "history", "-n", "12")[1])

    def count_doubles(self) -> None:
        """What the probe saw on both nodes at once."""
        doubled = sorted({overlap.program for overlap in self.probe.overlaps})
        self.sum.add("programs ever seen on both nodes", ", ".join(doubled) or "none")
        self.sum.promise(not doubled, f"seen on both nodes: {', '.join(doubled)}")

    # ---- helpers ------------------------------------------------------------------------------------------

    def client_served(self, after_mono: float) -> bool:
        """Whether the client got answers after a moment."""
        return self.client is not None and self.client.is_served(after_mono)

    def running(self, node: str) -> int:
        """How many programs are RUNNING on ``node``."""
        return sum(1 for p in self.lab.status(node)["programs"] if p["state"] == "RUNNING")

    def ask(self, node: str, *words: str) -> tuple[int, str]:
        """Runs ``ha-agent`` on a node; returns its exit status and what it printed."""
        done = subprocess.run(
            self.lab.words_inside(node, ["ha-agent", *words]), stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        return done.returncode, done.stdout + done.stderr

    def alerts(self, node: str) -> list[dict[str, Any]]:
        """What the node's agent has told recently."""
        nodes = json.loads(self.ask(node, "alert", "list", "--json", "-n", "50")[1])["nodes"]
        return list(nodes[0]["recent"])

    def newest_report(self, node: str) -> dict[str, Any]:
        """The newest report of a failover-test that a node keeps."""
        reports = json.loads(self.ask(node, "failover-test", "--list", "--json")[1])["reports"]
        if not reports:
            raise DemoFailed("the failover-test has left no report")
        return dict(reports[-1])

    def show_status(self, node: str) -> None:
        """``ha-agent status`` of ``node``."""
        self.talk.show(self.ask(node, "status")[1])


def write_files(lab: Lab) -> None:
    """The web server's configuration and page, and the alert command, on both nodes' disks."""
    for node in NODES:
        folder = lab.paths.disk(node, "etc-ha-agent")
        with open(os.path.join(folder, "demo-alert"), "w", encoding="ascii") as file:
            file.write(ALERT_SCRIPT)
            os.fchmod(file.fileno(), 0o755)
        with open(os.path.join(folder, "demo-web.cfg"), "w", encoding="ascii") as file:
            file.write(WEB_SERVER)
        os.makedirs(os.path.join(folder, "demo-www"))
        with open(os.path.join(folder, "demo-www", "index.html"), "w", encoding="ascii") as file:
            file.write(f"{node}\n")


def read_text(path: str) -> str | None:
    """The text of a file, or None where it is not there."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return None


def main() -> int:
    """Runs the demo in a lab of its own and takes it down, also after Ctrl-C."""
    lab = Lab(fresh_directory("demo"))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return Demo(lab).run()
    except (DemoFailed, LabFailed) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: interrupted, clearing away", file=sys.stderr)
        return 130
    finally:
        lab.down()


if __name__ == "__main__":
    sys.exit(main())
