"""Process 1 of a lab node: makes the node's file system, brings up its network, runs and restarts its units.

Stands in for systemd with the few rules that matter here, the same as in the shipped units and drop-ins: the agent comes
back at once whatever ended it, is ended when it sends no sign of life, and when it cannot be started any more its OnFailure
unit runs; supervisord comes back after a second and with everything of its control group ended first, sshd after a second;
keepalived starts when the agent is ready. ``stop`` and a unit's own end also end what it left, as systemd's control
groups do: where this machine has control groups to give, each unit has one, named as on a real machine; elsewhere a mark in
the environment stands in for it. ``systemctl`` on a node's PATH speaks with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import IO

from ha_agent.adapters.resources import find_resource
from ha_agent.core.reasons import reason_of
from ha_agent.lab import cgroups
from ha_agent.lab.layout import ADDRESSES, ETCD_PORT, MEMBERS, WITNESS, disk_dirs
from ha_agent.lab.network import LabNetwork, interface_of, list_commands_of_node
from ha_agent.lab.sandbox import INNER, PATH, SandboxFailed, bind, build_file_system, mount_cgroups

SOCKET = f"{INNER}/init.sock"
NOTIFY_SOCKET = f"{INNER}/notify.sock"
UNIT_MARK = "HA_AGENT_LAB_UNIT"
FENCE = find_resource("systemd/ha-agent-fence")

Popen = subprocess.Popen[bytes]

SYSTEMCTL = """\
#!{python} -S
# systemctl of a lab node: start, stop, restart, kill and is-active, for the units that a lab has.
import json, socket, sys
names = {{"supervisor": "supervisord", "ssh": "sshd"}}
words = [w for w in sys.argv[1:] if not w.startswith("-")]
if len(words) != 2:
    sys.exit("a lab node knows: systemctl start|stop|restart|kill|is-active UNIT")
action, unit = words[0], words[1].removesuffix(".service")
unit = names.get(unit, unit)
wire = socket.socket(socket.AF_UNIX)
wire.connect("{socket}")
wire.sendall(json.dumps({{"action": action, "unit": unit, "signal": 15}}).encode())
answer = json.loads(wire.recv(65536))
if "error" in answer:
    sys.exit("systemctl: " + answer["error"])
if action == "is-active":
    print("active" if answer[unit] else "inactive")
    sys.exit(0 if answer[unit] else 3)
"""


@dataclass(frozen=True, slots=True)
class Unit:
    """One service: its command, the pause before it is started again (None: never), how long a stop may take.

    ``watchdog_s``: without a sign of life for so long it gets SIGABRT, and SIGKILL ``abort_s`` later. After ``burst`` starts
    within ``interval_s`` it is not started again, and ``on_failure`` runs.
    """

    name: str
    words: tuple[str, ...]
    restart_s: float | None
    stop_s: float = 10.0
    ready_path: str | None = None
    watchdog_s: float | None = None
    abort_s: float = 2.0
    interval_s: float = 10.0
    burst: int = 1000
    on_failure: tuple[str, ...] = ()
    service: str = ""
    """The unit's name on a real machine, and its control group's."""
    ends_group: bool = True
    """Whether its end ends what it started (KillMode=control-group), or leaves that alone (KillMode=process)."""


SUPERVISORD = os.environ.get("HA_AGENT_LAB_SUPERVISORD", "/usr/bin/supervisord")
"""Another one than the package's, to try the same with its version."""

UNITS = (
    Unit("sshd", ("/usr/sbin/sshd", "-D", "-e", "-f", "/etc/ssh/sshd_config"), 1.0, service="ssh", ends_group=False),
    Unit(
        "supervisord",
        (SUPERVISORD, "-n", "-c", "/etc/supervisor/supervisord.conf"),
        1.0,
        stop_s=30.0,
        ready_path="/run/supervisor.sock",
        service="supervisor",
    ),
    Unit(
        "ha-agent",
        (sys.executable, "-m", "ha_agent", "daemon", "--config", "/etc/ha-agent/agent.toml"),
        0.2,
        ready_path="/run/ha-agent/control.sock",
        watchdog_s=8.0,
        burst=5,
        on_failure=("/bin/sh", FENCE),
        service="ha-agent",
    ),
    Unit(
        "keepalived",
        # Ahead of what else the machine does: adverts that come late would move the VIP, which no test means.
        ("/usr/bin/nice", "-n", "-10", "/usr/sbin/keepalived", "-n", "-l", "-D", "-f", "/etc/keepalived/keepalived.conf"),
        None,
        stop_s=5.0,
        service="keepalived",
    ),
)


KEEPER = Unit(
    "keeper",
    (sys.executable, "-m", "ha_agent.keeper", "--run-dir", "/run/ha-agent"),
    0.1,
    ready_path="/run/ha-agent/keeper.sock",
    service="ha-agent-keeper",
)
"""Of the nodes of a pair with a witness."""

_ETCD_URL = f"http://{ADDRESSES[WITNESS]}:{ETCD_PORT}"

ETCD = Unit(
    "etcd",
    (
        *("/usr/bin/etcd", "--name", WITNESS, "--data-dir", "/var/lib/etcd/data", "--logger", "zap"),
        *("--listen-client-urls", _ETCD_URL, "--advertise-client-urls", _ETCD_URL),
    ),
    1.0,
    service="etcd",
)

WITNESS_UNITS = {"ssh": (UNITS[0],), "etcd": (ETCD,)}
"""What a witness runs, by its kind."""


def units_of(node: str, witness: str) -> tuple[Unit, ...]:
    """The units of ``node`` in a lab with a witness of that kind; "" for none. In the order of their starts."""
    if node == WITNESS:
        return WITNESS_UNITS[witness]
    return (KEEPER, *UNITS) if witness else UNITS


@dataclass(slots=True)
class Running:
    """The state of one unit."""

    unit: Unit
    process: subprocess.Popen[bytes] | None = None
    wanted: bool = False
    failed: bool = False
    """It was started too often; only an explicit start tries again."""
    start_at_mono: float = 0.0
    starts_mono: list[float] = field(default_factory=list)
    beat_mono: float | None = None
    """When it last gave a sign of life; None as long as it has given none."""
    abort_mono: float | None = None
    restart_s: float | None = None
    ends_group: bool = True
    interval_s: float = 10.0
    """The time in which the starts are counted."""


class UnitGroups:
    """The processes of each unit: by control groups (``has_cgroups``), else by a mark in their environment."""

    def __init__(self, units: tuple[Unit, ...], *, has_cgroups: bool) -> None:
        """Makes the groups, and enters that of process 1."""
        self._has_cgroups = has_cgroups
        if has_cgroups:
            for name in ("init.scope", *(f"system.slice/{unit.service}.service" for unit in units)):
                os.makedirs(os.path.join(cgroups.ROOT, name), exist_ok=True)
            _enter(os.path.join(cgroups.ROOT, "init.scope"))

    def _path(self, unit: Unit) -> str:
        return os.path.join(cgroups.ROOT, "system.slice", f"{unit.service}.service")

    def spawn(self, unit: Unit, words: tuple[str, ...], log: IO[bytes], environment: dict[str, str]) -> Popen:
        """Starts a process of ``unit``, as the leader of a session."""
        path = self._path(unit) if self._has_cgroups else None
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env={**environment, UNIT_MARK: unit.name},
            start_new_session=True,
            preexec_fn=(lambda: _enter(path)) if path else None,
        )

    def send(self, unit: Unit, number: int) -> None:
        """Signals every process that is the unit's."""
        if self._has_cgroups:
            cgroups.send(self._path(unit), number)
        else:
            _signal_marked(unit.name, number)


def _enter(path: str) -> None:
    with open(os.path.join(path, "cgroup.procs"), "w", encoding="ascii") as file:
        file.write("0")


class Init:
    """Owns the units; one loop serves commands, reaps children, and restarts what ended."""

    def __init__(self, node: str, units: tuple[Unit, ...], groups: UnitGroups) -> None:
        self.node = node
        self.groups = groups
        self.units = {
            unit.name: Running(unit, restart_s=unit.restart_s, ends_group=unit.ends_group, interval_s=unit.interval_s)
            for unit in units
        }
        self.looked_mono = time.monotonic()
        self.notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notices.bind(NOTIFY_SOCKET)
        self.notices.setblocking(False)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(SOCKET)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(SOCKET)
        self.listener.listen(8)

    def start(self, name: str) -> None:
        """Starts a unit unless it runs, and waits until it is ready (10 s at most)."""
        running = self.units[name]
        running.wanted = True
        if running.process is not None and running.process.poll() is None:
            return
        unit = running.unit
        running.beat_mono = running.abort_mono = None
        running.starts_mono.append(time.monotonic())
        ready = unit.ready_path
        if ready is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(ready)
        with open(f"/var/log/{name}.log", "ab") as log:
            environment = {"PATH": PATH, "LC_ALL": "C.UTF-8", **_watchdog_environment(unit), **_python_environment()}
            running.process = self.groups.spawn(unit, unit.words, log, environment)
        deadline = time.monotonic() + 10.0
        while ready is not None and not os.path.exists(ready) and time.monotonic() < deadline:
            if running.process.poll() is not None:
                return
            time.sleep(0.005)

    def stop(self, name: str) -> None:
        """Stops a unit: TERM, its time, then KILL for it and everything of its control group."""
        running = self.units[name]
        running.wanted = False
        if running.process is not None and running.process.poll() is None:
            if name in ("keepalived", "supervisord") and running.ends_group:
                # KillMode=control-group: hooks that are running, and programs, get TERM with it.
                self.groups.send(running.unit, signal.SIGTERM)
            running.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.process.wait(running.unit.stop_s)
            if running.process.poll() is None:
                running.process.kill()
                running.process.wait()
        if running.unit.ends_group:
            self.groups.send(running.unit, signal.SIGKILL)

    def kill(self, name: str, number: int) -> None:
        """Signals the unit's main process alone."""
        process = self.units[name].process
        if process is not None and process.poll() is None:
            process.send_signal(number)

    def look(self) -> None:
        """Reaps, notices units that ended, and starts again what is due."""
        now = time.monotonic()
        for name, running in self.units.items():
            self._watch_life(running, now)
            if running.process is not None and running.process.poll() is not None:
                running.process = None
                if running.ends_group:
                    self.groups.send(running.unit, signal.SIGKILL)
                if running.restart_s is None:
                    running.wanted = False
                running.start_at_mono = now + (running.restart_s or 0.0)
                self._limit_starts(running, now)
            if running.wanted and running.process is None and now >= running.start_at_mono:
                self.start(name)
        _reap({r.process.pid for r in self.units.values() if r.process is not None})
        self.looked_mono = now

    def _watch_life(self, running: Running, now: float) -> None:
        """Ends a unit that gave no sign of life in time: SIGABRT, then SIGKILL."""
        limit = running.unit.watchdog_s
        if running.process is None or limit is None or running.beat_mono is None:
            return
        if now - self.looked_mono > 2.0:
            # This init itself did nothing for a while (the node was frozen): nobody is judged by that time.
            running.beat_mono = now
        if running.abort_mono is None and now - running.beat_mono > limit:
            running.abort_mono = now
            running.process.send_signal(signal.SIGABRT)
        elif running.abort_mono is not None and now - running.abort_mono > running.unit.abort_s:
            running.process.kill()

    def _limit_starts(self, running: Running, now: float) -> None:
        """Gives a unit up that was started too often, and runs what is to run then."""
        unit = running.unit
        running.starts_mono = [at for at in running.starts_mono if now - at < running.interval_s]
        if not running.wanted or len(running.starts_mono) < unit.burst:
            return
        running.wanted, running.failed = False, True
        if unit.on_failure:
            with open(f"/var/log/{unit.name}.log", "ab") as log:
                env = {"PATH": f"{INNER}/bin:{PATH}", "LC_ALL": "C.UTF-8"}
                subprocess.Popen(unit.on_failure, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env=env)

    def _take_notices(self) -> None:
        """Signs of life (sd_notify(3)). Only one unit sends them, so nobody asks whose they are."""
        now = time.monotonic()
        with contextlib.suppress(BlockingIOError):
            while True:
                text = self.notices.recv(4096).decode("utf-8", "replace")
                for running in self.units.values():
                    if running.unit.watchdog_s is not None and ("WATCHDOG=1" in text or "READY=1" in text):
                        running.beat_mono = now

    def serve(self) -> None:
        """Works for ever."""
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while True:
            ready, _, _ = select.select([self.listener.fileno(), self.notices.fileno(), wake_read], [], [], self._pause())
            if wake_read in ready:
                os.read(wake_read, 4096)
            self._take_notices()
            if self.listener.fileno() in ready:
                connection, _ = self.listener.accept()
                with connection:
                    self._serve_one(connection)
            self.look()

    def _pause(self) -> float:
        """Seconds until the next unit is due."""
        due = [r.start_at_mono for r in self.units.values() if r.wanted and r.process is None]
        return max(0.0, min(1.0, min(due) - time.monotonic())) if due else 1.0

    def _serve_one(self, connection: socket.socket) -> None:
        try:
            command = json.loads(connection.recv(4096))
            action, name = command["action"], command["unit"]
            if action == "start":
                self.units[name].starts_mono.clear()
                self.units[name].failed = False
                self.start(name)
            elif action == "set":
                # Another RestartSec=, KillMode= or StartLimitIntervalSec= than what is shipped has.
                running = self.units[name]
                running.restart_s = command.get("restart_s", running.restart_s)
                running.ends_group = command.get("ends_group", running.ends_group)
                running.interval_s = command.get("interval_s", running.interval_s)
            elif action == "stop":
                self.stop(name)
            elif action == "restart":
                self.stop(name)
                self.start(name)
            elif action == "kill":
                self.kill(name, int(command["signal"]))
            answer = {r.unit.name: r.process.pid if r.process else None for r in self.units.values()}
            connection.sendall(json.dumps(answer).encode())
        except (OSError, ValueError, KeyError) as error:
            with contextlib.suppress(OSError):
                connection.sendall(json.dumps({"error": f"{type(error).__name__}: {reason_of(error)}"}).encode())


def _python_environment() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PYTHONPATH", "HA_AGENT_LAB_SYSROOT") if name in os.environ}


def _watchdog_environment(unit: Unit) -> dict[str, str]:
    if unit.watchdog_s is None:
        return {}
    return {"NOTIFY_SOCKET": NOTIFY_SOCKET, "WATCHDOG_USEC": str(int(unit.watchdog_s * 1e6))}


def _signal_marked(name: str, number: int) -> None:
    """Signals every process that a unit started and that still carries its mark."""
    mark = f"{UNIT_MARK}={name}".encode()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
            if mark in file.read().split(b"\0"):
                os.kill(int(pid), number)


def _reap(own: set[int]) -> None:
    """Reaps orphans; the units' own processes are left to their Popen objects."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        number = int(pid)
        if number in own or number == 1:
            continue
        with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
            if fields[0] == b"Z" and fields[1] == b"1":
                os.waitpid(number, os.WNOHANG)


def _run_ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def _bring_up_network(node: str, network: LabNetwork) -> None:
    _run_ip("link", "set", "lo", "up")
    deadline = time.monotonic() + 10.0
    while not all(os.path.exists(f"/sys/class/net/{interface_of(path)}") for path in network.numbers):
        if time.monotonic() > deadline:
            raise SandboxFailed("no cable was plugged in within 10 s")
        time.sleep(0.005)
    for knob in ("net/ipv6/conf/all/disable_ipv6", "net/ipv6/conf/default/disable_ipv6"):
        with contextlib.suppress(OSError), open(f"/proc/sys/{knob}", "w", encoding="ascii") as file:
            file.write("0" if network.has_ipv6 else "1")
    for words in list_commands_of_node(node, network):
        _run_ip(*words)


def _make_tmpfiles(path: str) -> None:
    """What systemd-tmpfiles makes at boot; of tmpfiles.d(5) the lines ``d`` and ``f``, which are all that is shipped."""
    with open(path, encoding="ascii") as file:
        rows = [line.split() for line in file if line[:1] in ("d", "f")]
    for kind, target, mode, *rest in rows:
        if kind == "d":
            os.makedirs(target, exist_ok=True)
        else:
            with open(target, "w", encoding="ascii") as made:
                made.write(rest[-1])
        os.chmod(target, int(mode, 8))


def _set_up(directory: str, node: str) -> None:
    build_file_system(keep=[directory])
    for folder, target in disk_dirs(node).items():
        os.makedirs(target, exist_ok=True)
        bind(os.path.join(directory, node, folder), target)
    os.makedirs("/var/log/supervisor", exist_ok=True)
    _make_tmpfiles(find_resource("systemd/ha-agent.tmpfiles.conf"))
    os.makedirs(f"{INNER}/bin", exist_ok=True)
    with open(f"{INNER}/bin/systemctl", "w", encoding="ascii") as file:
        file.write(SYSTEMCTL.format(python=sys.executable, socket=SOCKET))
        os.fchmod(file.fileno(), 0o755)
    socket.sethostname(node)
    with open("/etc/hosts", "w", encoding="ascii") as file:
        file.write("127.0.0.1 localhost\n" + "".join(f"{ADDRESSES[n]} {n}\n" for n in MEMBERS))
    _bring_up_network(node, LabNetwork.load(directory))


def main() -> int:
    """Command line: ``python -m ha_agent.lab.node_init LAB-DIRECTORY NODE [--cgroup] [--witness=KIND]``, as process 1 of a
    node's namespaces.

    ``--cgroup``: it is in a control group of its own, too. ``--witness``: the lab has one of that kind.
    """
    directory, node = sys.argv[1:3]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _set_up(directory, node)
        kinds = [word.partition("=")[2] for word in sys.argv[3:] if word.startswith("--witness=")]
        units = units_of(node, kinds[0] if kinds else "")
        init = Init(node, units, UnitGroups(units, has_cgroups="--cgroup" in sys.argv and mount_cgroups()))
        for unit in units:
            init.start(unit.name)
    except (SandboxFailed, OSError, subprocess.CalledProcessError) as error:
        print(f"{node}: {reason_of(error)}", file=sys.stderr, flush=True)
        return 1
    with open(f"{INNER}/booted", "w", encoding="ascii"):
        pass
    init.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
