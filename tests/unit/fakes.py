"""A node without root: the outer things that the daemon's rooms touch, each in memory, with real files below a directory.

``World`` is one machine: supervisord with its programs, keepalived's word, the VIP. A ``Node`` is an agent's group on it,
which may be built again over the same world, as after the agent's end.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import pathlib
import re
import signal
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ha_agent.adapters.conf_checker import ConfChecker
from ha_agent.adapters.hook_runner import HookRunner
from ha_agent.adapters.keepalived import Keepalived
from ha_agent.adapters.keeper import KeeperClient, KeeperFailed, KeeperState
from ha_agent.adapters.local_confs import LocalConfs
from ha_agent.adapters.machine import Machine
from ha_agent.adapters.procs import ProcessTable, ProcessWatch
from ha_agent.adapters.rpc import Disconnected, Progress
from ha_agent.adapters.ssh import PeerLink
from ha_agent.adapters.store import History
from ha_agent.adapters.supervisord import Fault, ProcessInfo, RereadRefused, SocketAge, Supervisord, SupervisordDown
from ha_agent.adapters.watch import HintSink, Watcher
from ha_agent.adapters.witness import NoAnswer
from ha_agent.core.confs import Program, Verdict
from ha_agent.core.frames import Message
from ha_agent.core.hooks import HookEnd, HookSettings
from ha_agent.core.kinship import Found, Kin, Marked
from ha_agent.core.order_keys import Address
from ha_agent.core.settings import (
    LinkSettings,
    OrderSettings,
    PeerSettings,
    ReadinessSettings,
    RegistrySettings,
    ReleaseSettings,
    SupervisorSettings,
    TakeoverSettings,
    VrrpSettings,
)
from ha_agent.core.witness_record import NOTHING_THERE, Record, Sight
from ha_agent.core.witness_settings import WitnessSettings
from ha_agent.core.witness_watch import Outcome
from ha_agent.core.words import Role, VrrpState
from ha_agent.daemon.events import Events
from ha_agent.daemon.group import Group, GroupSettings, SharedNode, build_group
from ha_agent.daemon.programs.local_groups import LocalGroups
from ha_agent.daemon.programs.supervised import Supervised
from ha_agent.daemon.role.maintenance import Maintenance
from ha_agent.daemon.role.standby_order import StandbyOrders
from ha_agent.daemon.upkeep import Upkeep

BOOT_TICKS = 1000
_PROGRAM = re.compile(r"^\[program:([^\]]+)\]", re.MULTILINE)


@dataclass(eq=False)
class FakeProcess:
    """A process that supervisord started.

    ``stubborn``: TERM does not end it; ``endless``: nothing does. ``disowned``: supervisord takes it for ended.
    """

    pid: int
    group: str
    started_ticks: int
    stubborn: bool = False
    endless: bool = False
    disowned: bool = False


@dataclass
class World:
    """One machine. ``log`` holds what was done to programs, in order: (verb, group)."""

    root: pathlib.Path
    processes: dict[int, FakeProcess] = field(default_factory=dict)
    supervisord_pid: int = 100
    supervisord_ticks: int = BOOT_TICKS
    loaded: dict[str, str] = field(default_factory=dict)
    """What supervisord has loaded: group to the text of its conf."""
    config: dict[str, str] = field(default_factory=dict)
    """What supervisord read last."""
    starting: set[str] = field(default_factory=set)
    """Groups whose programs are not up yet."""
    listening: set[Address] = field(default_factory=set)
    """Addresses that take a connection."""
    requests: list[tuple[str, ...]] = field(default_factory=list)
    """The methods of each request to supervisord that was no look."""
    stubborn: set[str] = field(default_factory=set)
    endless: set[str] = field(default_factory=set)
    is_supervisord_up: bool = True
    hangs: bool = False
    refuses_config: str | None = None
    refuses_groups: set[str] = field(default_factory=set)
    vip: bool | None = False
    vip_failure: OSError | None = None
    """What a look at the addresses raises."""
    own_address: bool | None = True
    log: list[tuple[str, str]] = field(default_factory=list)
    pids: Iterable[int] = field(default_factory=lambda: itertools.count(1001))
    includes: list[str] = field(default_factory=list)
    """Directories that supervisord's main conf includes."""
    hooks: list[tuple[str, str, int]] = field(default_factory=list)
    """The hooks that were run: the last word of the command's path, the moment, and how many processes ran then."""
    hook_environments: list[dict[str, str]] = field(default_factory=list)
    hook_codes: dict[str, int | None] = field(default_factory=dict)
    """How commands end, by their first word: None for never, 0 where there is none."""
    witness: FakeWitness = field(default_factory=lambda: FakeWitness())
    keeper_deadline: float = 0.0
    """What the keeper holds; 0 for nothing."""
    is_keeper_there: bool = True

    def running(self) -> list[str]:
        """The groups of what runs, one name a process, sorted."""
        return sorted(p.group for p in self.processes.values())

    def restart_supervisord(self) -> None:
        """A new supervisord, as systemd starts one: it starts what its conf names; the old one's children live on."""
        self.supervisord_pid, self.supervisord_ticks = next(iter(self.pids)), self.supervisord_ticks + 1000
        self.is_supervisord_up, self.hangs = True, False
        self.loaded.clear()
        self.read_config()
        for group in list(self.config):
            self.add(group)

    def read_config(self) -> None:
        self.config = {}
        for directory in self.includes:
            for name in sorted(os.listdir(directory)):
                text = pathlib.Path(directory, name).read_text(encoding="utf-8")
                self.config.update(dict.fromkeys(_PROGRAM.findall(text), text))

    def add(self, group: str) -> None:
        self.loaded[group] = self.config[group]
        self.start(group)

    def start(self, group: str) -> None:
        pid = next(iter(self.pids))
        process = FakeProcess(
            pid, group, self.supervisord_ticks + 1, group in self.stubborn | self.endless, group in self.endless
        )
        self.processes[pid] = process
        self.log.append(("start", group))

    def end(self, pid: int) -> None:
        process = self.processes.pop(pid, None)
        if process is not None:
            self.log.append(("end", process.group))


class FakeSupervisord(Supervisord):
    """supervisord's interface on a world: one process a group. It ends those at once that end on TERM."""

    def __init__(self, world: World) -> None:
        super().__init__("/nowhere", 1.0)
        self.world = world

    def _require(self) -> None:
        if not self.world.is_supervisord_up or self.world.hangs:
            raise SupervisordDown("no answer")

    def is_up(self, timeout_s: float = 2.0) -> bool:
        return self.world.is_supervisord_up and not self.world.hangs

    def read_processes(self) -> list[ProcessInfo]:
        self._require()
        return [self._info(group) for group in sorted(self.world.loaded)]

    def read_some(self, wanted: Sequence[tuple[str, str]]) -> list[ProcessInfo]:
        self._require()
        return [self._info(group) for group, name in wanted if group in self.world.loaded and name == group]

    def own(self, group: str) -> FakeProcess | None:
        """The process of ``group`` that this supervisord has started itself."""
        ticks = self.world.supervisord_ticks
        own = (p for p in self.world.processes.values() if p.group == group and p.started_ticks > ticks)
        return next((p for p in own if not p.disowned), None)

    def _info(self, group: str) -> ProcessInfo:
        process = self.own(group)
        state = "STOPPED" if process is None else "STARTING" if group in self.world.starting else "RUNNING"
        return ProcessInfo(group, group, state, process.pid if process else 0, 1 if process else 0, "", 0)

    def call(self, method: str, params: Sequence[Any]) -> Any:
        self._require()
        return self._do(method, params)

    def reread(self) -> tuple[list[str], list[str], list[str]]:
        self._require()
        answer = self._do("reloadConfig", [])
        if isinstance(answer, Fault):
            raise RereadRefused(answer.text)
        added, changed, removed = answer[0]
        return added, changed, removed

    def batch(self, calls: Sequence[tuple[str, Sequence[Any]]], timeout_s: float | None = None) -> list[Any]:
        self._require()
        if calls:
            self.world.requests.append(tuple(method for method, _ in calls))
        return [self._do(method, params) for method, params in calls]

    def _do(self, method: str, params: Sequence[Any]) -> Any:
        world = self.world
        group = str(params[0]).partition(":")[0] if params else ""
        if method == "reloadConfig":
            if world.refuses_config is not None:
                return Fault(2, world.refuses_config)
            world.read_config()
            added = [g for g in world.config if g not in world.loaded]
            changed = [g for g, text in world.config.items() if world.loaded.get(g, text) != text]
            return [[added, changed, [g for g in world.loaded if g not in world.config]]]
        if method == "addProcessGroup":
            if group in world.refuses_groups:
                return Fault(2, f"BAD_GROUP: {group}")
            if group not in world.config or group in world.loaded:
                return Fault(90 if group in world.loaded else 10, f"cannot add {group}")
            world.add(group)
            return True
        if group not in world.loaded:
            return Fault(10, f"BAD_NAME: {group}")
        process = self.own(group)
        if method in ("stopProcess", "stopProcessGroup"):
            if process is not None and not process.stubborn:
                world.end(process.pid)
            elif process is not None:
                # What it started has left it, and lives on.
                process.disowned = process.endless
            return True
        if method == "startProcess":
            if process is not None:
                return Fault(60, "ALREADY_STARTED")
            world.start(group)
            return True
        assert method == "removeProcessGroup", method
        if process is not None:
            return Fault(91, "STILL_RUNNING")
        del world.loaded[group]
        return True


class FakeTable(ProcessTable):
    """The processes of a world. A signal is obeyed at once; waiting for nothing takes no time, and else a millisecond."""

    def __init__(self, world: World) -> None:
        super().__init__("/nowhere", "/nowhere/sessions")
        self.world = world

    def note_supervisord(self, pid: int, started_ticks: int) -> None:
        pass

    @property
    def kill_path(self) -> str | None:
        return "/sys/fs/cgroup/system.slice/supervisor.service/cgroup.kill"

    def find(self, kin: Kin) -> Found:
        world = self.world
        own = [p for p in world.processes.values() if p.group not in kin.local]
        parent = {p.pid: world.supervisord_pid if p.started_ticks > world.supervisord_ticks else 1 for p in own}
        return Found(tuple(Marked(p.pid, parent[p.pid], p.started_ticks, p.group, p.group) for p in own))

    def find_adrift(self, kin: Kin) -> list[Marked]:
        return [p for p in self.find(kin).ours if p.parent != kin.supervisord]

    def send(self, process: Marked, number: signal.Signals) -> None:
        found = self.world.processes.get(process.pid)
        if found is None or found.endless or number not in (signal.SIGTERM, signal.SIGKILL):
            return
        if number == signal.SIGKILL or not found.stubborn:
            self.world.end(process.pid)

    async def wait_ended(self, pids: Iterable[int], timeout_s: float) -> bool:
        await asyncio.sleep(0.001 if any(pid in self.world.processes for pid in pids) else 0)
        return not any(pid in self.world.processes for pid in pids)


class FakeWatch(ProcessWatch):
    """A watched process that is what the test says."""

    def __init__(self, identity: Callable[[], tuple[int, int] | None]) -> None:
        super().__init__(lambda: None, lambda: None)
        self._identity = identity
        self.sent: list[signal.Signals] = []

    @property
    def is_alive(self) -> bool:
        return self._identity() is not None

    @property
    def identity(self) -> tuple[int, int] | None:
        return self._identity()

    def look(self) -> None:
        found = self._identity()
        self.pid, self.started_ticks = found or (0, 0)

    def send(self, number: signal.Signals) -> None:
        self.sent.append(number)


class FakeWitness:
    """A record in memory. ``is_deaf``: nothing is answered."""

    def __init__(self) -> None:
        self.sight, self.is_deaf, self.problem = NOTHING_THERE, False, ""

    async def read(self, timeout_s: float) -> Sight:
        await asyncio.sleep(0)
        if self.is_deaf:
            raise NoAnswer("refused")
        return self.sight

    async def swap(self, expected: Sight, record: Record, timeout_s: float) -> tuple[Outcome, Sight | None]:
        await asyncio.sleep(0)
        if self.is_deaf:
            return Outcome.UNKNOWN, None
        if expected != self.sight:
            return Outcome.OTHER, self.sight
        self.sight = Sight(self.sight.revision + 1, record)
        return Outcome.DONE, self.sight

    async def run(self) -> None:
        pass

    def close(self) -> None:
        pass


class FakeKeeper(KeeperClient):
    """The keeper of a world: it holds the deadline, and the test lets it act."""

    def __init__(self, world: World) -> None:
        super().__init__("/nowhere")
        self.world = world

    def _require(self) -> None:
        if not self.world.is_keeper_there:
            raise KeeperFailed("nobody is there")

    async def arm(self, deadline: float, kill_path: str) -> None:
        await asyncio.sleep(0)
        self._require()
        if deadline <= asyncio.get_running_loop().time():
            raise KeeperFailed("the deadline had passed")
        self.world.keeper_deadline = deadline
        self.world.log.append(("arm", kill_path))

    async def disarm(self) -> None:
        await asyncio.sleep(0)
        self._require()
        self.world.keeper_deadline = 0.0
        self.world.log.append(("disarm", ""))

    async def read_state(self) -> KeeperState:
        await asyncio.sleep(0)
        self._require()
        deadline = self.world.keeper_deadline
        return KeeperState("armed" if deadline else "idle", deadline, 0, True, True)


class FakeKeepalived(Keepalived):
    """A keepalived that answers ``state``: that it has not begun yet, until the test says otherwise; None is silence.

    ``done`` holds what was done to it.
    """

    def __init__(self) -> None:
        super().__init__(FakeWatch(lambda: None), (), ())
        self.state: VrrpState | None = VrrpState.UNKNOWN
        self.is_hearing: bool | None = True
        self.failure: str | None = None
        self.on_stop: Callable[[], None] = lambda: None
        self.on_start: Callable[[], None] = lambda: None
        self.done: list[str] = []

    async def ask_state(self, instance: str, limit_s: float) -> VrrpState | None:
        self.done.append("ask")
        await asyncio.sleep(0)
        return self.state

    def hears(self, directory: str) -> bool | None:
        return self.is_hearing

    def reload(self) -> None:
        self.done.append("reload")

    async def stop(self) -> str | None:
        self.done.append("stop")
        await asyncio.sleep(0)
        if self.failure is None:
            self.on_stop()
        return self.failure

    async def start(self) -> str | None:
        self.done.append("start")
        await asyncio.sleep(0)
        if self.failure is None:
            self.on_start()
        return self.failure


class FakeLink(PeerLink):
    """A link whose other end is a coroutine. ``asked`` holds what was asked."""

    def __init__(self, peer: PeerSettings) -> None:
        super().__init__(LinkSettings(), peer, "/nowhere", _nothing, lambda: None)
        self.is_up = True
        self.problem = ""
        self.asked: list[Message] = []
        self.answer: Callable[[Message], Awaitable[Message]] | None = None

    async def ask(self, message: Message, timeout_s: float, progress: Progress | None = None) -> Message:
        self.asked.append(message)
        if not self.is_up:
            raise Disconnected("the link is down")
        if progress is not None:
            progress({"heard": True})
        if self.answer is None:
            raise Disconnected("nobody is there")
        async with asyncio.timeout(timeout_s):
            return await self.answer(message)


async def _nothing(_link: PeerLink) -> None:
    pass


class FakeHookRunner(HookRunner):
    """Runs no command: writes down which moment it was for, and ends as the world says."""

    def __init__(self, note: str, world: World) -> None:
        super().__init__(note)
        self.world = world

    async def run(
        self, words: Sequence[str], timeout_s: float, env: Mapping[str, str], tell: Callable[[str], None]
    ) -> HookEnd:
        """Ends with the status that the world has for the command; waits for ever where that is None."""
        running = len(self.world.running())
        self.world.hooks.append((words[0].rpartition("/")[2], env["HA_AGENT_HOOK"], running))
        self.world.hook_environments.append(dict(env))
        code = self.world.hook_codes.get(words[0], 0)
        if code is None:
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        return HookEnd(code, 0.01, last=("no such disk",) if code else ())


class FakeMachine(Machine):
    """The machines of a world: the VIP, and a peer that answers or not."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.peer_answers = False
        self.is_connected = True
        self.fence_exit: int | None = 0
        self.fenced = 0

    def has_address(self, address: str) -> bool | None:
        if "/" not in address:
            return self.world.own_address
        if self.world.vip_failure is not None:
            raise self.world.vip_failure
        return self.world.vip

    async def remove_address(self, vip: str, interface: str, keep: int | None = None) -> bool:
        self.world.vip = False
        return True

    async def answers(self, address: str, port: int, limit_s: float) -> bool:
        return self.peer_answers

    async def any_answers(self, hosts: Sequence[str], limit_s: float) -> bool:
        return self.is_connected

    async def takes_connection(self, address: Address, limit_s: float) -> bool:
        await asyncio.sleep(0)
        return address in self.world.listening

    async def fence(self, command: Sequence[str], limit_s: float) -> int | None:
        self.fenced += 1
        return self.fence_exit


class FakeChecker(ConfChecker):
    """The parser: a conf that says "bad" cannot be loaded."""

    def __init__(self) -> None:
        super().__init__(SupervisorSettings())

    async def judge(
        self, confs: Mapping[str, str], directories: Mapping[str, str], *, for_stranger: bool = False
    ) -> dict[str, Verdict]:
        return {path: _judge(text) for path, text in confs.items()}

    async def close(self) -> None:
        pass


def _judge(text: str) -> Verdict:
    if "bad" in text:
        return Verdict(problem="it says bad")
    return Verdict(programs=tuple(Program(name, (name,)) for name in _PROGRAM.findall(text)))


class FakeWatcher(Watcher):
    """Tells nothing: tests compare when they have changed something."""

    def __init__(self) -> None:
        pass

    def watch(self, root: str, sink: HintSink, *, replaceable: bool = True) -> None:
        pass

    def problem(self, root: str) -> str | None:
        return None

    def has_unread(self) -> bool:
        return False

    def close(self) -> None:
        pass


def conf(name: str) -> str:
    """A conf of one program."""
    return f"[program:{name}]\ncommand=/bin/{name}\n"


class Node:
    """The group of an agent on a world. ``limits`` overrides settings of a takeover.

    ``name``: the node; ``label``: the group, where the node has several.
    """

    def __init__(
        self,
        world: World,
        name: str = "a",
        *,
        label: str | None = None,
        takeover: TakeoverSettings | None = None,
        order: OrderSettings | None = None,
        hooks: Mapping[str, HookSettings] | None = None,
        witness: WitnessSettings | None = None,
        shared: SharedNode | None = None,
    ) -> None:
        self.world = world
        base = world.root / (label or "node")
        self.registry, self.run_dir, self.state_dir = base / "registry", base / "run", base / "state"
        for path in (self.registry, self.run_dir / "notify", self.run_dir / "active"):
            with contextlib.suppress(OSError):
                path.mkdir(parents=True, exist_ok=True)
        if str(self.run_dir / "active") not in world.includes:
            world.includes.append(str(self.run_dir / "active"))
        self.tasks: set[asyncio.Task[None]] = set()
        self.keepalived: tuple[int, int] | None = (50, BOOT_TICKS)
        self.shared = shared or self.make_shared(name)
        link, machine, unit = self.shared.link, self.shared.machine, self.shared.keepalived_unit
        assert isinstance(link, FakeLink) and isinstance(machine, FakeMachine) and isinstance(unit, FakeKeepalived)
        self.link, self.machine, self.unit = link, machine, unit
        settings = GroupSettings(
            label,
            RegistrySettings(path=str(self.registry)),
            VrrpSettings(vip="192.0.2.10/24"),
            takeover or TakeoverSettings(retry_s=0.05, silent_peer_s=1.0),
            order or OrderSettings(),
            ReleaseSettings(stop_timeout_s=0.02, sweep_grace_s=0.02, retry_s=0.05),
            ReadinessSettings(),
            hooks or {},
            str(self.run_dir),
            str(self.state_dir),
            5,
            witness or WitnessSettings(),
        )
        self.group: Group = build_group(settings, self.shared)

    def make_shared(self, name: str) -> SharedNode:
        """What the groups of one node share."""
        world, loop = self.world, asyncio.get_running_loop()
        peer = PeerSettings(name="b" if name == "a" else "a", address="192.0.2.2")
        table = FakeTable(world)
        state = world.root / "history"
        state.mkdir(exist_ok=True)
        events = Events(History(str(state), name, 10**7))
        supervisord = FakeWatch(
            lambda: (world.supervisord_pid, world.supervisord_ticks) if world.is_supervisord_up else None
        )
        supervised = Supervised(
            SupervisorSettings(hung_s=0.2), FakeSupervisord(world), supervisord, table, SocketAge(str(world.root / "socket"))
        )
        return SharedNode(
            name=name,
            address="192.0.2.1",
            peer=peer,
            link_limits=LinkSettings(),
            supervisor=SupervisorSettings(hung_s=0.2),
            link=FakeLink(peer),
            watcher=FakeWatcher(),
            checker=FakeChecker(),
            supervised=supervised,
            table=table,
            local=LocalGroups(LocalConfs("/nowhere", ()), dict),
            keepalived=FakeWatch(lambda: self.keepalived),
            keepalived_unit=FakeKeepalived(),
            upkeep=Upkeep(str(self.run_dir), events),
            machine=FakeMachine(world),
            hook_runner=lambda note: FakeHookRunner(note, world),
            maintenance=Maintenance(str(state / "maintenance.json"), events, lambda: 1000.0, lambda: 0.0),
            standby_order=StandbyOrders(str(state / "standby.json"), events, lambda: 1000.0),
            events=events,
            start_task=self.start_task,
            clock=loop.time,
            wall=lambda: 1000.0,
            logs=True,
            keeper=FakeKeeper(world),
            make_witness=lambda _settings: world.witness,
            life="boot",
            boot_clock=loop.time,
        )

    def start_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    # ---- life ---------------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Loads what is on the disk, reads the registry, and begins to decide."""
        group = self.group
        group.store.prepare()
        group.ledger.resume(group.store.load())
        await group.loop.resume()
        await group.view.start()
        self.shared.upkeep.look()
        group.fitness.begin()
        for work in group.votes.works():
            self.start_task(work)
        self.start_task(group.loop.run())

    async def kill(self) -> None:
        """Ends the agent where it is. Nothing that it would do at an ordinary end is done."""
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def close(self) -> None:
        self.shared.supervised.close()

    # ---- the world ----------------------------------------------------------------------------------------

    def write(self, **confs: str) -> None:
        """Writes confs of these names into the registry."""
        for name, text in confs.items():
            (self.registry / f"{name}.conf").write_text(text, encoding="utf-8")

    def report(self, state: VrrpState) -> None:
        """keepalived says ``state``, and moves the VIP."""
        for old in (self.run_dir / "notify").iterdir():
            old.unlink()
        (self.run_dir / "notify" / f"{BOOT_TICKS + 1}.77.{state.value}").touch()
        self.world.vip = state is VrrpState.MASTER
        self.group.addresses_changed()

    async def await_role(self, role: Role, limit_s: float = 5.0) -> None:
        """Waits until the role is ``role`` and no plan is under way."""
        standing = self.group.standing
        async with asyncio.timeout(limit_s):
            while standing.role is not role or standing.plan is not None:
                await standing.wait_change(0.005)

    async def await_code(self, code: str, limit_s: float = 5.0) -> None:
        """Waits until the history has an event with ``code``."""
        async with asyncio.timeout(limit_s):
            while code not in self.codes():
                await asyncio.sleep(0.002)

    def codes(self) -> list[str]:
        """The codes of all events, oldest first."""
        return [str(event["code"]) for event in self.group.events.read(10_000)]
