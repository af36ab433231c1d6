"""One node with everything real but the machine: fakes of supervisord, the peer's link, the parser and the processes.

``Node`` wires the daemon's own objects as the agent does, over real files below a directory of the test's.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import pathlib
import signal
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ha_agent.adapters.alert_store import AlertStore
from ha_agent.adapters.conf_checker import CheckerFailed, ConfChecker
from ha_agent.adapters.hook_runner import HookRunner
from ha_agent.adapters.keeper import KeeperClient
from ha_agent.adapters.local_confs import LocalConfs
from ha_agent.adapters.machine import Machine
from ha_agent.adapters.payload_looker import LookFailed, Wanted
from ha_agent.adapters.procs import ProcessTable, ProcessWatch
from ha_agent.adapters.rpc import Progress
from ha_agent.adapters.runner import Ended
from ha_agent.adapters.ssh import PeerLink
from ha_agent.adapters.store import History
from ha_agent.adapters.supervisord import Fault, ProcessInfo, SocketAge, Supervisord, SupervisordDown
from ha_agent.adapters.watch import HintSink, Watcher
from ha_agent.core.alerts import Book, Notification
from ha_agent.core.confs import Program, Run, Verdict
from ha_agent.core.frames import Message
from ha_agent.core.guard import Access
from ha_agent.core.kinship import Found, Kin, Marked
from ha_agent.core.manifest import EMPTY, Entry, Manifest
from ha_agent.core.orders import Orders
from ha_agent.core.payload import Payload
from ha_agent.core.peer_summary import summary_message
from ha_agent.core.places import StatePlaces
from ha_agent.core.settings import (
    AlertSettings,
    DrillSettings,
    LinkSettings,
    NodeSettings,
    PathSettings,
    PeerSettings,
    ProgramSettings,
    RegistrySettings,
    Settings,
    SinkSettings,
    SupervisorSettings,
    VrrpSettings,
)
from ha_agent.core.supervisor_words import LIVE_STATES
from ha_agent.core.targets import read_headers
from ha_agent.core.transaction import Watermark
from ha_agent.core.words import Role, VrrpState
from ha_agent.daemon.account import Accountant
from ha_agent.daemon.alerts.alerting import Alerting
from ha_agent.daemon.alerts.delivery import Delivery
from ha_agent.daemon.alerts.program_watcher import ProgramWatcher
from ha_agent.daemon.alerts.records import AlertRecords
from ha_agent.daemon.alerts.takeover_summary import TakeoverSummary
from ha_agent.daemon.checks.watch import NoChecks
from ha_agent.daemon.drift.watch import DriftWatch
from ha_agent.daemon.drill import Drill, Voters
from ha_agent.daemon.events import Events
from ha_agent.daemon.group import SharedNode, build_group, default_group
from ha_agent.daemon.operations.call import Call
from ha_agent.daemon.operations.figures import Figures
from ha_agent.daemon.payload.payload import NoPayload
from ha_agent.daemon.programs.local_groups import LocalGroups
from ha_agent.daemon.programs.supervised import Supervised
from ha_agent.daemon.role.maintenance import Maintenance
from ha_agent.daemon.role.spells import Spells
from ha_agent.daemon.role.standby_order import StandbyOrders
from ha_agent.daemon.rooms import AlertParts, build_rooms, build_tools
from ha_agent.daemon.upkeep import Upkeep
from tests.unit.fakes import FakeKeepalived, FakeWitness

BAD_NAME, ALREADY_STARTED, NOT_RUNNING, SPAWN_ERROR, ALREADY_ADDED, STILL_RUNNING = 10, 60, 70, 50, 90, 91

PeerAnswer = Message | Exception | Callable[[Message], Message]


class Clock:
    """A clock that goes on only when it is told."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


CONFIG_PATH = "/nonexistent/ha-agent.toml"


class FakeSupervisord(Supervisord):
    """Reads the confs of ``directory`` as supervisord's include does; programs that are started run at once."""

    def __init__(self, directory: str) -> None:
        super().__init__("/nonexistent/supervisor.sock", 1.0)
        self._directory = directory
        self.local: dict[str, str] = {}
        """Groups of one program each that are configured besides, with any text that tells their versions apart."""
        self.loaded: dict[str, str] = {}
        self.processes: dict[tuple[str, str], ProcessInfo] = {}
        self.problem: str | None = None
        """How it does not answer; None where it does."""
        self.refusal: str | None = None
        """Why it refuses its configuration as a whole."""
        self.stubborn: set[str] = set()
        """Names of processes that go on running when they are told to stop."""
        self.broken: set[str] = set()
        """Names of processes that cannot be started."""
        self.logs: dict[str, str] = {}
        self.main_log = ""
        self.calls: list[tuple[str, list[Any]]] = []
        self._next_pid = 100_000_000

    def configured(self) -> dict[str, tuple[str, tuple[str, ...]]]:
        """Each group with its text and its processes."""
        found: dict[str, tuple[str, tuple[str, ...]]] = {group: (text, (group,)) for group, text in self.local.items()}
        members: dict[str, tuple[str, tuple[str, ...]]] = {}
        names = sorted(os.listdir(self._directory)) if os.path.isdir(self._directory) else []
        for name in names:
            text = pathlib.Path(self._directory, name).read_text(encoding="utf-8")
            conf = read_headers(name, text)
            for program in conf.programs:
                found[program] = (text, (program,))
            members.update((group, (text, programs)) for group, programs in conf.groups.items())
        for group, (text, programs) in members.items():
            texts = [found.pop(program)[0] for program in programs if program in found]
            found[group] = (text + "".join(texts), programs)
        return found

    def named(self, method: str) -> list[list[Any]]:
        """The parameters of each call of ``method``."""
        return [params for name, params in self.calls if name == method]

    def add(self, group: str, *names: str, state: str = "RUNNING", text: str = "") -> None:
        """Has it know ``group`` with processes ``names``."""
        self.loaded[group] = text
        for name in names or (group,):
            self._set(group, name, state)

    def _set(self, group: str, name: str, state: str, error: str = "") -> None:
        self._next_pid += 1
        pid = self._next_pid if state in LIVE_STATES else 0
        self.processes[group, name] = ProcessInfo(group, name, state, pid, 1, error, 0)

    def put(self, info: ProcessInfo) -> None:
        """Has it describe a process exactly so."""
        self.loaded.setdefault(info.group, "")
        self.processes[info.group, info.name] = info

    def _require(self) -> None:
        if self.problem is not None:
            raise SupervisordDown(self.problem)

    def is_up(self, timeout_s: float = 2.0) -> bool:
        return self.problem is None

    def read_pid(self) -> int:
        self._require()
        return 1

    def read_processes(self) -> list[ProcessInfo]:
        self._require()
        self.calls.append(("getAllProcessInfo", []))
        return sorted(self.processes.values(), key=lambda i: (i.group, i.name))

    def read_some(self, wanted: Sequence[tuple[str, str]]) -> list[ProcessInfo]:
        self._require()
        return [self.processes[key] for key in wanted if key in self.processes]

    def reread(self) -> tuple[list[str], list[str], list[str]]:
        answer = self.call("reloadConfig", [])
        added, changed, removed = answer[0]
        return added, changed, removed

    def batch(self, calls: Sequence[tuple[str, Sequence[Any]]], timeout_s: float | None = None) -> list[Any]:
        self._require()
        answers = [self._one(method, params) for method, params in calls]
        self._spawn_added()
        return answers

    def call(self, method: str, params: Sequence[Any]) -> Any:
        self._require()
        answer = self._one(method, params)
        self._spawn_added()
        return answer

    def _one(self, method: str, params: Sequence[Any]) -> Any:
        self.calls.append((method, list(params)))
        handler = getattr(self, f"do_{method}", None)
        return True if handler is None else handler(*params)

    def _spawn_added(self) -> None:
        """What was added is spawned when the request was answered, as supervisord does it."""
        for key, info in list(self.processes.items()):
            if info.state == "ADDED":
                self._start(*key)

    def do_reloadConfig(self) -> Any:
        if self.refusal is not None:
            return Fault(2, self.refusal)
        wanted = self.configured()
        added = sorted(wanted.keys() - self.loaded.keys())
        changed = sorted(g for g in wanted.keys() & self.loaded.keys() if wanted[g][0] != self.loaded[g])
        return [[added, changed, sorted(self.loaded.keys() - wanted.keys())]]

    def do_addProcessGroup(self, group: str) -> Any:
        wanted = self.configured()
        if group not in wanted:
            return Fault(BAD_NAME, f"BAD_NAME: {group}")
        if group in self.loaded:
            return Fault(ALREADY_ADDED, f"ALREADY_ADDED: {group}")
        self.loaded[group] = wanted[group][0]
        for name in wanted[group][1]:
            self._set(group, name, "ADDED")
        return True

    def do_removeProcessGroup(self, group: str) -> Any:
        if group not in self.loaded:
            return Fault(BAD_NAME, f"BAD_NAME: {group}")
        own = [key for key in self.processes if key[0] == group]
        if any(self.processes[key].state in LIVE_STATES for key in own):
            return Fault(STILL_RUNNING, f"STILL_RUNNING: {group}")
        del self.loaded[group]
        for key in own:
            del self.processes[key]
        return True

    def _start(self, group: str, name: str) -> None:
        broken = name in self.broken
        self._set(group, name, "FATAL" if broken else "RUNNING", "cannot be spawned" if broken else "")

    def do_startProcess(self, full: str, _wait: bool = True) -> Any:
        group, _, name = full.partition(":")
        info = self.processes.get((group, name or group))
        if info is None:
            return Fault(BAD_NAME, f"BAD_NAME: {full}")
        if info.state in LIVE_STATES:
            return Fault(ALREADY_STARTED, f"ALREADY_STARTED: {full}")
        self._start(info.group, info.name)
        return True

    def do_stopProcess(self, full: str, _wait: bool = True) -> Any:
        group, _, name = full.partition(":")
        info = self.processes.get((group, name or group))
        if info is None or info.state not in LIVE_STATES:
            return Fault(NOT_RUNNING, f"NOT_RUNNING: {full}")
        if info.name not in self.stubborn:
            self._set(info.group, info.name, "STOPPED")
        return True

    def do_getAllProcessInfo(self) -> Any:
        return [{"group": i.group, "name": i.name, "statename": i.state, "pid": i.pid} for i in self.processes.values()]

    def do_readLog(self, _offset: int, _length: int) -> Any:
        return self.main_log

    def do_tailProcessStderrLog(self, full: str, _offset: int, _length: int) -> Any:
        return [self.logs[full], 0, False] if full in self.logs else Fault(BAD_NAME, "NO_FILE")

    def do_tailProcessStdoutLog(self, _full: str, _offset: int, _length: int) -> Any:
        return ["out\n", 0, False]


class FakeTable(ProcessTable):
    """No process is left but those in ``left``."""

    def __init__(self) -> None:
        super().__init__("/nonexistent/supervisor.sock", "/nonexistent/sessions")
        self.left: list[Marked] = []
        self.sent: list[tuple[int, signal.Signals]] = []

    def note_supervisord(self, pid: int, started_ticks: int) -> None:
        pass

    def find(self, kin: Kin) -> Found:
        return Found(tuple(process for process in self.left if process.group not in kin.local))

    def find_adrift(self, kin: Kin) -> list[Marked]:
        return list(self.find(kin).ours)

    def find_strays(self, kin: Kin) -> list[Marked]:
        return list(self.find(kin).ours)

    def send(self, process: Marked, number: signal.Signals) -> None:
        self.sent.append((process.pid, number))

    async def wait_ended(self, pids: Iterable[int], timeout_s: float) -> bool:
        return True


class FakeWatch(ProcessWatch):
    """A process that is alive when ``alive`` says so."""

    def __init__(self) -> None:
        super().__init__(lambda: None, lambda: None)
        self.alive = True
        self.sent: list[signal.Signals] = []

    @property
    def is_alive(self) -> bool:
        return self.alive

    @property
    def identity(self) -> tuple[int, int] | None:
        return (7, 7) if self.alive else None

    def look(self) -> None:
        pass

    def send(self, number: signal.Signals) -> None:
        self.sent.append(number)

    def close(self) -> None:
        pass


class FakeChecker(ConfChecker):
    """Takes every conf but one that says "broken"; one that says "lacks THING" lacks it on this node."""

    def __init__(self) -> None:
        super().__init__(SupervisorSettings())
        self.failure: str | None = None
        self.for_strangers: list[bool] = []

    async def judge(
        self, confs: Mapping[str, str], directories: Mapping[str, str], *, for_stranger: bool = False
    ) -> dict[str, Verdict]:
        self.for_strangers.append(for_stranger)
        if self.failure is not None:
            raise CheckerFailed(self.failure)
        return {path: self._judge(path, text) for path, text in confs.items()}

    def _judge(self, path: str, text: str) -> Verdict:
        if "broken" in text:
            return Verdict(problem="it is broken")
        lacking = tuple(line.removeprefix("; lacks ") for line in text.splitlines() if line.startswith("; lacks "))
        conf = read_headers(path, text)
        starts = "autostart=false" not in text
        commands = [line.removeprefix("command=") for line in text.splitlines() if line.startswith("command=")]
        runs = tuple(Run(command, "/opt", ("/bin",)) for command in commands[:1])
        programs = tuple(Program(p, (p,), starts, lacking, runs) for p in conf.programs)
        return Verdict(None, programs, dict(conf.groups), {})

    async def close(self) -> None:
        pass


class FakeWatcher(Watcher):
    """Nobody tells of a change of the disk."""

    def watch(self, root: str, sink: HintSink, *, replaceable: bool = True) -> None:
        pass

    def problem(self, root: str) -> str | None:
        return None

    def has_unread(self) -> bool:
        return False

    def close(self) -> None:
        pass


class FakeMachine(Machine):
    """Has not got the VIP; the peer's machine does not answer."""

    def has_address(self, address: str) -> bool | None:
        return "/" not in address

    async def answers(self, address: str, port: int, limit_s: float) -> bool:
        return False


class FakeLink(PeerLink):
    """Answers from ``answers`` by operation: a message, an exception that is raised, or a function of the question."""

    def __init__(self, peer: PeerSettings, run_dir: str) -> None:
        async def greet(_link: PeerLink) -> None:
            return None

        super().__init__(LinkSettings(), peer, run_dir, greet, lambda: None)
        self.is_up, self.problem = True, ""
        self.role = Role.STANDBY
        self.orders = Orders()
        self.asked: list[Message] = []
        self.nudges = 0
        self.answers: dict[str, PeerAnswer] = {
            "ping": lambda _: self.summary(),
            "transaction": self.commit,
            "manifest": self.holding,
            "judge": {"failure": None, "verdicts": {}},
        }
        self.held = EMPTY
        """The peer's registry."""

    def summary(self) -> Message:
        """The peer's signs of life."""
        return summary_message("b", self.role, VrrpState.BACKUP, Watermark(1, "a"), 0, self.held.hash, orders=self.orders)

    def commit(self, message: Message) -> Message:
        """The peer takes a change, if it builds on what is there."""
        txn = message["txn"]
        if txn["base"] != self.held.hash:
            return {"answer": "NEED_FULL", "rows": self.held.to_rows()}
        self.held = self.held.changed([Entry(*row) for row in txn["puts"]], txn["deletes"])
        return {"answer": "COMMITTED"}

    def holding(self, message: Message) -> Message:
        """What the peer holds."""
        return {"hash": self.held.hash, "rows": None if message["known"] == self.held.hash else self.held.to_rows()}

    def named(self, operation: str) -> list[Message]:
        """What was asked under that name."""
        return [message for message in self.asked if message.get("op") == operation]

    def go_down(self, problem: str = "unplugged") -> None:
        """Loses the connection."""
        self.is_up, self.problem = False, problem

    async def ask(self, message: Message, timeout_s: float, progress: Progress | None = None) -> Message:
        self.asked.append(message)
        await asyncio.sleep(0)
        answer = self.answers[str(message["op"])]
        if isinstance(answer, Exception):
            raise answer
        return dict(answer) if isinstance(answer, dict) else answer(message)

    def nudge(self) -> None:
        self.nudges += 1

    def give_up(self, reason: str) -> None:
        self.go_down(reason)


class FakeLooker:
    """Looks at no file: says that it has found ``payload``, or raises ``failure``. ``wanted``: what it was asked last."""

    def __init__(self) -> None:
        self.payload = Payload()
        self.failure: LookFailed | None = None
        self.wanted: Mapping[str, Wanted] = {}

    async def look(self, programs: Mapping[str, Wanted], ignore: tuple[str, ...]) -> Payload:
        """What it was given to say."""
        self.wanted = programs
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        return replace(self.payload, ignore=ignore)

    def close(self) -> None:
        """Nothing runs."""


class FakeReceivers:
    """Where notifications arrive: each sink answers with the statuses that it was given, and then with 0."""

    def __init__(self) -> None:
        self.statuses: dict[str, list[int | Exception | None]] = {}
        self.arrived: list[tuple[str, Notification]] = []

    async def send(self, name: str, note: Notification) -> Ended:
        """Takes ``note``, or says that it does not."""
        waiting = self.statuses.get(name, [])
        status = waiting.pop(0) if waiting else 0
        await asyncio.sleep(0)
        if isinstance(status, Exception):
            raise status
        if status == 0:
            self.arrived.append((name, note))
        return Ended(status, "", f"status {status}")


class FakeVoters:
    """A pair with a witness, and what was cut off: addresses, router and seconds of each cut; None of its end."""

    def __init__(self) -> None:
        self.witness_hosts: tuple[str, ...] = ("127.0.0.9",)
        self.promised: tuple[str, ...] = ("a", "b", "witness")
        self.has_nft = True
        self.failure: OSError | None = None
        self.cuts: list[tuple[list[str], int | None, float] | None] = []

    def make(self) -> Voters:
        """As the drill has it."""
        return Voters(
            ("192.0.2.2",),
            51,
            self.witness_hosts,
            lambda: self.promised,
            self.cut_off,
            self.restore,
            lambda: self.has_nft,
        )

    async def cut_off(self, addresses: Collection[str], router_id: int | None, for_s: float) -> None:
        """Notes a cut, or does not take it."""
        if self.failure is not None:
            raise self.failure
        self.cuts.append((list(addresses), router_id, for_s))

    async def restore(self) -> None:
        """Notes its end."""
        self.cuts.append(None)


class Node:
    """Node a of the pair a and b, standby. Needs a running loop; ``close`` ends its threads."""

    def __init__(
        self, base: pathlib.Path, *, confs: Mapping[str, str] | None = None, sinks: Mapping[str, SinkSettings] | None = None
    ) -> None:
        self.base = base
        self.registry, self.run_dir, self.state_dir = base / "registry", base / "run", base / "state"
        for directory in (self.registry, self.run_dir, self.state_dir, self.run_dir / "active"):
            directory.mkdir(parents=True, exist_ok=True)
        for name, text in (confs or {}).items():
            (self.registry / name).write_text(text, encoding="utf-8")
        self.settings = Settings(
            node=NodeSettings(name="a", address="192.0.2.1"),
            peer=PeerSettings(name="b", address="192.0.2.2"),
            vrrp=VrrpSettings(vip="192.0.2.9/24"),
            registry=RegistrySettings(path=str(self.registry)),
            paths=PathSettings(run_dir=str(self.run_dir), state_dir=str(self.state_dir)),
            drill=DrillSettings(
                keepalived_start_command=("/usr/bin/test", "!", "-e", str(base / "keepalived-is-broken")), keep_reports=2
            ),
            alerts=AlertSettings(memory_limits=("big=1KB", "large=100GB")),
            programs=ProgramSettings(log_dir=str(base / "logs")),
            sinks=sinks or {},
        )
        self.clock, self.wall = Clock(), Clock(1_000_000.0)
        self.tasks: set[asyncio.Task[None]] = set()
        self.pauses: list[float] = []
        self.link = FakeLink(self.settings.peer, str(self.run_dir))
        self.checker, self.table, self.keepalived = FakeChecker(), FakeTable(), FakeWatch()
        self.client = FakeSupervisord(str(self.run_dir / "active"))
        self.process = FakeWatch()
        self.supervised = Supervised(
            self.settings.supervisor, self.client, self.process, self.table, SocketAge(str(self.run_dir))
        )
        self.events = Events(History(str(self.state_dir), "a", 10**6))
        self.told: list[Mapping[str, Any]] = []
        self.events.listen(self.told.append)
        self.maintenance = Maintenance(str(self.state_dir / "maintenance.json"), self.events, self.wall, self.wall)
        self.maintenance.load("this life")
        self.standby_order = StandbyOrders(str(self.state_dir / "standby.json"), self.events, self.wall)
        self.voters = FakeVoters()
        self._build_group()
        self._build_alerts()
        self._build_operations()

    def _build_group(self) -> None:
        settings = self.settings
        self.shared = SharedNode(
            name="a",
            address=settings.node.address,
            peer=settings.peer,
            link_limits=settings.link,
            supervisor=settings.supervisor,
            link=self.link,
            watcher=FakeWatcher(),
            checker=self.checker,
            supervised=self.supervised,
            table=self.table,
            local=LocalGroups(LocalConfs("/nonexistent", ()), dict),
            keepalived=self.keepalived,
            keepalived_unit=FakeKeepalived(),
            upkeep=Upkeep(str(self.run_dir), self.events),
            machine=FakeMachine(),
            hook_runner=HookRunner,
            maintenance=self.maintenance,
            standby_order=self.standby_order,
            events=self.events,
            start_task=self.start,
            clock=self.clock,
            wall=self.wall,
            logs=False,
            keeper=KeeperClient(str(self.run_dir)),
            make_witness=lambda _settings: FakeWitness(),
            life="boot",
            boot_clock=self.clock,
        )
        self.group = build_group(default_group(settings), self.shared)
        self.standing = self.group.standing
        self.group.store.prepare()

    def _build_alerts(self) -> None:
        settings, group = self.settings, self.group
        self.drill = Drill(
            settings.drill,
            settings.vrrp.interface,
            (str(self.run_dir / "drill.json"), str(self.run_dir / "drill-samples.jsonl")),
            group.standing,
            self.maintenance,
            self.keepalived,
            self.supervised,
            group.sweeper,
            self.events,
            self.voters.make(),
            self.start,
            self.clock,
            self.wall,
            self.pause,
        )
        self.watcher = ProgramWatcher(
            settings.alerts, group.standing, self.supervised, group.loaded, group.active_set, self.clock, self.wall
        )
        self.spells = Spells(group.standing, self.events, self.clock, self.wall, lambda: len(group.loaded.names))
        self.looker = FakeLooker()
        self.drift = DriftWatch(
            settings.payload,
            "b",
            group.standing,
            group.active_set,
            self.link,
            self.looker,
            self.events,
            self.clock,
            self.wall,
        )
        self.accountant = Accountant(
            settings.peer,
            settings.vrrp,
            settings.registry.path,
            settings.alerts.lag_s,
            group.standing,
            group.ledger,
            group.view,
            group.receiver,
            group.replicator,
            group.active_set,
            group.readiness,
            self.supervised,
            self.keepalived,
            group.fitness,
            self.shared.upkeep,
            self.maintenance,
            self.standby_order,
            self.drill,
            self.link,
            group.conversation,
            silence=lambda: self.watcher.silence,
            patrol=group.patrol,
            spells=self.spells,
            verifier=group.verifier,
            start_order=group.start_order,
            votes=group.votes,
            checks=NoChecks(),
            payload=NoPayload(),
            drift=self.drift,
        )
        self.receivers = FakeReceivers()
        names = {id(sink): name for name, sink in settings.sinks.items()}

        async def send(sink: SinkSettings, note: Notification) -> Ended:
            return await self.receivers.send(names[id(sink)], note)

        book = Book("a", settings.alerts.repeat_s)
        store = AlertStore(settings.paths.state_dir)
        self.records = AlertRecords(store, book, settings.sinks, settings.alerts.queue_max)
        self.delivery = Delivery(settings.sinks, self.records, self.start, self.wall, send)
        self.summary = TakeoverSummary("a", self.clock)
        self.alerting = self.make_alerting(self.accountant)

    def make_alerting(self, accountant: Accountant) -> Alerting:
        """Alerts of this node over another accountant."""
        return Alerting(
            self.settings.alerts,
            self.standing,
            accountant,
            self.watcher,
            self.summary,
            self.records,
            self.delivery,
            self.maintenance,
            self.clock,
            self.wall,
        )

    def _build_operations(self) -> None:
        settings, group = self.settings, self.group
        places = StatePlaces(settings.paths.state_dir)
        self.figures = Figures(places, group.replicator, group.committer, self.watcher, self.wall())
        self.wakes: list[str] = []
        self.begins: list[bool] = []
        """What the listener said of supervisord: whether it was only about to begin again."""
        wake = functools.partial(self.wakes.append, "alerts")
        parts = AlertParts(
            self.accountant,
            self.watcher,
            self.records,
            self.delivery,
            wake,
            self.drill,
            self.begins.append,
            NoPayload(),
            self.drift,
        )
        tools = build_tools(settings, self.shared, group, self.accountant, self.watcher)
        rooms = build_rooms(settings, CONFIG_PATH, self.shared, group, parts, tools, self.figures)
        self.status, self.commands = tools.status, tools.commands
        self.operations, self.pair, self.role, self.kept, self.drills = (
            rooms.node,
            rooms.pair,
            rooms.role,
            rooms.kept,
            rooms.drill,
        )
        self.alerts, self.views, self.supervisor = rooms.alerts, rooms.views, rooms.supervisor
        self.programs, self.update, self.registration = rooms.programs, rooms.update, rooms.registration
        self.from_peer, self.orders, self.restore = rooms.peer, rooms.orders, rooms.restore

    # ---- life ---------------------------------------------------------------------------------------------

    async def pause(self, seconds: float) -> None:
        """Waits a moment, however long it was to be."""
        self.pauses.append(seconds)
        await asyncio.sleep(0.0005)

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Has ``work`` done beside the test."""
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def become_active(self, *, load: bool = True) -> None:
        """Makes it the active node: the registry read and judged, its programs loaded, the peer up to date."""
        await self.group.view.start()
        self.standing.become(Role.ACTIVE)
        self.group.ledger.learn(Watermark(1, "a"))
        await self.group.readiness.judge()
        if load:
            for group in self.group.active_set.selection.order:
                self.client.call("addProcessGroup", [group])
            self.client.calls.clear()
        self.link.held = self.group.view.manifest
        self.group.replicator.learn_peer(self.group.view.manifest)
        self.start(self.group.replicator.run())
        # The peer confirms what it holds under the new epoch.
        while self.group.replicator.pending() is None:
            await asyncio.sleep(0)
        self.link.asked.clear()

    async def close(self) -> None:
        """Ends its tasks and threads."""
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.supervised.close()

    # ---- asking about it ----------------------------------------------------------------------------------

    def codes(self) -> list[str]:
        """The codes of the history."""
        return [str(event["code"]) for event in self.told]

    def conf_names(self) -> list[str]:
        """What the registry holds."""
        return sorted(path.name for path in self.registry.iterdir())

    def running(self) -> list[str]:
        """The programs that run."""
        return sorted(name for (_, name), info in self.client.processes.items() if info.state in LIVE_STATES)

    def peer_holds(self) -> Manifest | None:
        """The registry as the peer is known to hold it."""
        return self.group.replicator.peer_manifest


def no_progress(_message: Message) -> None:
    """Throws away what is said ahead of an answer."""


def operator(by: str = "alice", uid: int | None = 1000) -> Call:
    """The call of somebody who may change things; of root where ``uid`` is 0."""
    return Call(by, uid, Access.OPERATE, no_progress)


def reader() -> Call:
    """The call of somebody who may only look."""
    return Call("bob", 1001, Access.READ, no_progress)


def on_node(
    base: pathlib.Path,
    work: Callable[[Node], Awaitable[None]],
    *,
    confs: Mapping[str, str] | None = None,
    sinks: Mapping[str, SinkSettings] | None = None,
    active: bool = False,
) -> None:
    """Does ``work`` with a node; ``active``: one that has taken over."""

    async def main() -> None:
        node = Node(base, confs=confs, sinks=sinks)
        try:
            if active:
                await node.become_active()
            await work(node)
        finally:
            await node.close()

    asyncio.run(main())


def program_conf(name: str, *more: str) -> str:
    """A conf of one program."""
    return "\n".join([f"[program:{name}]", "command=/bin/sleep 1000", *more, ""])


def history_of(node: Node) -> list[dict[str, Any]]:
    """What the file of the history holds."""
    path = node.state_dir / "history.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
