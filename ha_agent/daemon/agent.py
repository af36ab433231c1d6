"""The agent of one node: wires its parts, starts them, and ends them. Nothing imports it but ``main``, which runs it."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Coroutine
from typing import Any

import ha_agent
from ha_agent import __version__
from ha_agent.adapters import addresses
from ha_agent.adapters.agent_lock import AgentLock
from ha_agent.adapters.alert_store import AlertStore
from ha_agent.adapters.check_probes import Asker
from ha_agent.adapters.conf_checker import ConfChecker
from ha_agent.adapters.files import keep_note, make_dir, remove_note
from ha_agent.adapters.hook_runner import HookRunner
from ha_agent.adapters.journald import JournalSink, runs_under_journal
from ha_agent.adapters.keepalived import Keepalived
from ha_agent.adapters.keeper import KeeperClient, KeeperFailed
from ha_agent.adapters.local_confs import LocalConfs
from ha_agent.adapters.machine import Machine
from ha_agent.adapters.payload_commit import PayloadCommitter
from ha_agent.adapters.payload_looker import PayloadLooker
from ha_agent.adapters.payload_scan import PayloadScanner
from ha_agent.adapters.procs import ProcessTable, ProcessWatch, read_pid_file
from ha_agent.adapters.rpc import RpcServer
from ha_agent.adapters.sd_notify import notify_manager, watchdog_interval_s
from ha_agent.adapters.spool import read_uptime_s
from ha_agent.adapters.ssh import PeerLink
from ha_agent.adapters.store import History
from ha_agent.adapters.supervisord import SocketAge, Supervisord, SupervisordFinder, environment_of
from ha_agent.adapters.watch import Watcher, WatchError
from ha_agent.adapters.witness_kinds import make_witness
from ha_agent.core.account_json import describe_obstacles
from ha_agent.core.agreement import describe_agreement
from ha_agent.core.alerts import Book
from ha_agent.core.guard import Access
from ha_agent.core.payload_plan import DeleteLimits
from ha_agent.core.places import RunPlaces, StatePlaces
from ha_agent.core.settings import Settings
from ha_agent.core.vip import bare
from ha_agent.core.witness_settings import witness_hosts
from ha_agent.daemon.account import Accountant
from ha_agent.daemon.alerts.alerting import Alerting
from ha_agent.daemon.alerts.delivery import Delivery
from ha_agent.daemon.alerts.program_watcher import ProgramWatcher
from ha_agent.daemon.alerts.records import AlertRecords
from ha_agent.daemon.alerts.takeover_summary import TakeoverSummary
from ha_agent.daemon.checks.acting import CheckActs
from ha_agent.daemon.checks.record import CheckRecord
from ha_agent.daemon.checks.states import ProgramState, ProgramStates
from ha_agent.daemon.checks.watch import CheckWatch, NoChecks
from ha_agent.daemon.drift.watch import DriftWatch, NoDrift
from ha_agent.daemon.drill import Drill, Voters
from ha_agent.daemon.events import Events, JournalTeller
from ha_agent.daemon.group import Group, SharedNode, build_group, default_group
from ha_agent.daemon.operations.figures import Figures
from ha_agent.daemon.operations.table import Dispatcher
from ha_agent.daemon.parts import keep_running
from ha_agent.daemon.payload.holding import PayloadHolding
from ha_agent.daemon.payload.payload import NoPayload, Payload
from ha_agent.daemon.payload.receiver import PayloadReceiver
from ha_agent.daemon.payload.sender import PayloadSender
from ha_agent.daemon.peer.path_watch import PathWatch
from ha_agent.daemon.programs.catalogue import CatalogueReader
from ha_agent.daemon.programs.local_groups import LocalGroups
from ha_agent.daemon.programs.supervised import Supervised
from ha_agent.daemon.role.hold_notice import tell_what_hold_means
from ha_agent.daemon.role.maintenance import Maintenance, keep_life, read_life
from ha_agent.daemon.role.spells import Spells
from ha_agent.daemon.role.standby_order import StandbyOrders
from ha_agent.daemon.rooms import AlertParts, build_rooms, build_tools
from ha_agent.daemon.upkeep import Upkeep

log = logging.getLogger(__name__)

TICK_S = 2.0
MAX_PEER_STREAMS = 8

STALL_S = 1.0
"""A loop that comes back this much later than it meant to was frozen, or starved: the peer may have taken over since."""

CODE = os.path.dirname(ha_agent.__file__)
"""Where the agent's own code lies: never payload."""

GROUP = "ha-agent"
"""Unix group whose members may use the control socket."""

READ_GROUP = "ha-agent-read"
"""Unix group whose members may look, through a socket of their own."""


class Agent:
    """Wires everything of one node. ``run`` works until ``stop`` is called."""

    def __init__(self, settings: Settings, config_path: str, lock: AgentLock) -> None:
        self._settings, self._lock = settings, lock
        self._config_path = config_path
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._run, self._state = RunPlaces(settings.paths.run_dir), StatePlaces(settings.paths.state_dir)
        self.failed = False
        """Whether a part of the agent has failed, so that it must be started again."""
        self.begins_anew = False
        """Whether the process goes on with another agent when this one has ended."""
        self._life = read_life(self._run.life)
        self._watched = (0, 0)
        """Device and inode of the spool that is watched."""
        self._shared = self._build_shared()
        self._group = build_group(default_group(settings), self._shared)
        self._build_alerts()
        self._build_operations()
        self._wire()

    # ---- wiring -------------------------------------------------------------------------------------------

    def _build_shared(self) -> SharedNode:
        settings, paths, socket = self._settings, self._settings.paths, self._settings.supervisor.socket
        self._journal = JournalSink() if runs_under_journal() else None
        events = Events(History(paths.state_dir, settings.node.name, paths.history_max_bytes))
        table = ProcessTable(socket, self._run.sessions)
        self._finder = SupervisordFinder(socket, settings.supervisor.config, settings.supervisor.hung_s)
        keepalived = ProcessWatch(lambda: read_pid_file(settings.vrrp.pid_file), self._keepalived_ended)
        unit = Keepalived(keepalived, settings.drill.keepalived_start_command, settings.vrrp.stop_command)
        upkeep = Upkeep(paths.run_dir, events)
        supervised = Supervised(
            settings.supervisor,
            Supervisord(socket, settings.supervisor.rpc_timeout_s, settings.supervisor.config),
            ProcessWatch(self._finder.find, self._supervisord_ended),
            table,
            SocketAge(socket),
        )
        confs = LocalConfs(settings.supervisor.config, (self._run.active_set, settings.registry.path))
        return SharedNode(
            name=settings.node.name,
            address=settings.node.address,
            peer=settings.peer,
            link_limits=settings.link,
            supervisor=settings.supervisor,
            link=PeerLink(settings.link, settings.peer, paths.run_dir, self._greet, self._link_changed),
            watcher=Watcher(),
            checker=ConfChecker(settings.supervisor),
            supervised=supervised,
            table=table,
            local=LocalGroups(confs, lambda: environment_of(supervised.process.pid)),
            keepalived=keepalived,
            keepalived_unit=unit,
            upkeep=upkeep,
            machine=Machine(),
            hook_runner=HookRunner,
            maintenance=Maintenance(self._state.maintenance, events, time.time, read_uptime_s),
            standby_order=StandbyOrders(self._state.standby_order, events, time.time),
            events=events,
            start_task=self._start,
            clock=self._loop.time,
            wall=time.time,
            logs=self._journal is None,
            keeper=KeeperClient(paths.run_dir, settings.witness.watchdog_s),
            make_witness=lambda witness: make_witness(witness, settings.node.name, settings.peer.name, paths.run_dir),
            life=self._life,
            boot_clock=read_uptime_s,
        )

    def _build_alerts(self) -> None:
        settings, shared, group = self._settings, self._shared, self._group
        self._drill = Drill(
            settings.drill,
            settings.vrrp.interface,
            (self._run.drill, self._run.drill_samples),
            group.standing,
            shared.maintenance,
            shared.keepalived,
            shared.supervised,
            group.sweeper,
            group.events,
            Voters(
                settings.peer.paths,
                settings.vrrp.router_id,
                witness_hosts(settings.witness),
                lambda: group.votes.promised,
            ),
            self._start,
        )
        self._watcher = ProgramWatcher(
            settings.alerts, group.standing, shared.supervised, group.loaded, group.active_set, shared.clock, shared.wall
        )
        self._checks = self._build_checks()
        self._payload = self._build_payload()
        self._drift = self._build_drift()
        self._spells = Spells(group.standing, group.events, shared.clock, shared.wall, lambda: len(group.loaded.names))
        self._accountant = Accountant(
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
            shared.supervised,
            shared.keepalived,
            group.fitness,
            shared.upkeep,
            shared.maintenance,
            shared.standby_order,
            self._drill,
            shared.link,
            group.conversation,
            silence=lambda: self._watcher.silence,
            patrol=group.patrol,
            spells=self._spells,
            verifier=group.verifier,
            start_order=group.start_order,
            votes=group.votes,
            checks=self._checks,
            payload=self._payload,
            drift=self._drift,
        )
        book = Book(shared.name, settings.alerts.repeat_s)
        self._records = AlertRecords(AlertStore(settings.paths.state_dir), book, settings.sinks, settings.alerts.queue_max)
        self._delivery = Delivery(settings.sinks, self._records, self._start, shared.wall)
        self._alerting = Alerting(
            settings.alerts,
            group.standing,
            self._accountant,
            self._watcher,
            TakeoverSummary(shared.name, shared.clock),
            self._records,
            self._delivery,
            shared.maintenance,
            shared.clock,
            shared.wall,
        )

    def _build_checks(self) -> NoChecks:
        settings, shared, group = self._settings, self._shared, self._group
        if not settings.checks:
            return NoChecks()

        def find_life(key: tuple[str, str]) -> ProgramState | None:
            life = self._watcher.find_life(*key)
            return None if life is None else ProgramState(*life)

        record = CheckRecord(self._state.checks, group.events, shared.wall)
        acts = CheckActs(
            shared.peer.name,
            group.standing,
            record,
            group.conversation,
            group.hand_over,
            lambda program, by: self._rooms.programs.restart_named(program, by),
            lambda: self._tools.status.describe(),
            group.events,
            shared.wall,
        )
        catalogue = CatalogueReader(group.view, group.active_set, group.readiness)
        programs = {check.program for check in settings.checks.values() if check.program}
        watch = CheckWatch(
            settings.checks,
            Asker(),
            group.standing,
            shared.maintenance,
            ProgramStates(programs, catalogue, shared.supervised, find_life, shared.clock),
            record,
            acts,
            group.events,
            self._start,
            shared.clock,
            shared.wall,
        )
        group.conversation.find_moves = lambda: record.moves
        group.conversation.hear_moves = record.hear
        group.loop.on_transition.append(watch.hear_transition)
        return watch

    def _build_payload(self) -> NoPayload:
        settings, shared, group = self._settings, self._shared, self._group
        if not settings.payload.paths and not settings.payload.conf_files_below:
            return NoPayload()
        paths, registry = settings.paths, settings.registry
        own = (
            paths.run_dir,
            paths.state_dir,
            registry.path,
            settings.supervisor.config,
            settings.link.key_file,
            self._config_path,
            CODE,
        )
        holding = PayloadHolding(settings.payload, registry.path, group.view, PayloadScanner(own), own)
        committer = PayloadCommitter(paths.state_dir)
        sender = PayloadSender(
            settings.peer.name,
            settings.payload,
            self._state.outgoing,
            group.standing,
            group.ledger,
            holding,
            committer,
            shared.link,
            group.events,
            shared.clock,
            shared.wall,
        )
        receiver = PayloadReceiver(
            DeleteLimits(registry.mass_delete_fraction, registry.mass_delete_minimum),
            group.standing,
            group.ledger,
            holding,
            committer,
            group.committer.spared,
            group.events,
            shared.wall,
        )
        return Payload(
            settings.payload.lag_s, group.standing, holding, sender, receiver, group.events, lambda: shared.link.is_up
        )

    def _build_drift(self) -> NoDrift:
        settings, shared, group = self._settings, self._shared, self._group
        if not settings.payload.compare:
            return NoDrift()
        return DriftWatch(
            settings.payload,
            shared.peer.name,
            group.standing,
            group.active_set,
            shared.link,
            PayloadLooker(shared.clock),
            group.events,
            shared.clock,
            shared.wall,
        )

    def _build_operations(self) -> None:
        settings, shared, group = self._settings, self._shared, self._group
        self._figures = Figures(self._state, group.replicator, group.committer, self._watcher, shared.wall())

        def wake() -> None:
            self._alerting.wake()
            group.start_order.wake()

        parts = AlertParts(
            self._accountant,
            self._watcher,
            self._records,
            self._delivery,
            wake,
            self._drill,
            self._supervisord_begins,
            self._payload,
            self._drift,
        )
        self._tools = build_tools(settings, shared, group, self._accountant, self._watcher)
        self._rooms = build_rooms(settings, self._config_path, shared, group, parts, self._tools, self._figures)
        dispatcher = Dispatcher(self._rooms)
        self._server = RpcServer(dispatcher.answer)
        self._peer_server = RpcServer(dispatcher.answer, MAX_PEER_STREAMS)

    def _wire(self) -> None:
        """Who hears of what."""
        shared = self._shared
        self._path_watch = PathWatch(shared.link, shared.machine.answers_ping, shared.events, shared.wall)
        shared.link.on_doubt.append(self._path_watch.look_now)
        group, events, wall = self._group, self._shared.events, self._shared.wall
        conversation = group.conversation
        conversation.agreement = describe_agreement(self._settings)
        conversation.find_spell = self._spells.describe
        conversation.find_obstacles = lambda: describe_obstacles(self._accountant.gather(wall()))
        conversation.on_answered.append(self._spells.hear_peer)
        if self._journal is not None:
            teller = JournalTeller(self._journal, self._shared.name, lambda: (group.standing.role, group.ledger.known.epoch))
            events.listen(teller.tell)
        events.listen(self._figures.hear_event)
        events.listen(self._alerting.hear_event)
        group.loop.on_transition += [
            self._figures.hear_transition,
            self._alerting.hear_transition,
            self._spells.hear_transition,
            self._payload.hear_transition,
            # The peer knows what this node was when it is cut off.
            lambda _told: conversation.ask_now(),
        ]
        group.verifier.listeners.append(self._alerting.hear_verification)
        group.view.on_change.append(self._drift.wake)
        group.loop.on_transition.append(lambda _told: self._drift.wake())

    # ---- life ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Starts, works until ``stop``, and ends without touching a program. Raises what makes a start impossible."""
        group, shared = self._group, self._shared
        await self._load(group)
        if not group.votes.is_needed:
            await self._end_votes()
        await group.view.start()
        monitor = addresses.open_monitor()
        self._loop.add_reader(monitor.fileno(), self._addresses_changed, monitor)
        # A socket that cannot be opened now is opened when that is possible again: upkeep sees to it.
        self._server.listen(self._run.read_socket, 0o660, READ_GROUP, handed_over=False, access=Access.READ)
        self._server.listen(self._run.control_socket, 0o660, GROUP, handed_over=False)
        self._peer_server.listen(self._run.peer_socket, 0o600, None, handed_over=True)
        for work in (
            shared.link.run(shared.wall),
            keep_running("looking at the paths", self._path_watch.run, group.events),
            keep_running("replication", group.replicator.run, group.events),
            self._tick(),
            group.conversation.heartbeat(),
            keep_running("looking at the peer's silence", group.silence.run, group.events),
            keep_running("judging confs", group.readiness.run, group.events),
            group.patrol.run(),
            self._alerting.run(),
            *group.votes.works(),
            *self._checks.works(),
            *self._payload.works(),
            *self._drift.works(),
        ):
            self._start(work)
        self._drill.resume()
        self._add_upkeep()
        shared.upkeep.look()
        group.fitness.begin(in_maintenance=shared.maintenance.is_on)
        role = group.standing.role.value
        shared.events.add("agent-started", f"version {__version__}, role {role}", role=role)
        tell_what_hold_means(self._settings.takeover, self._state.hold_told, shared.events)
        notify_manager("READY=1")
        try:
            await group.loop.run()
        finally:
            if not self.begins_anew:
                notify_manager("STOPPING=1")
            self._loop.remove_reader(monitor.fileno())
            monitor.close()
            await self._close()

    async def _load(self, group: Group) -> None:
        """Takes up what an agent before this one left on the disk and in /run."""
        for path in (self._run.run_dir, self._run.spool):
            make_dir(path, 0o755)
        make_dir(self._run.active_set, 0o700)
        group.store.prepare()
        loaded = group.store.load()
        group.ledger.resume(loaded)
        for remark in loaded.remarks:
            log.error("%s", remark)
            group.events.add("state-damaged", remark)
        await group.receiver.recover()
        await self._payload.recover()
        self._alerting.load()
        self._checks.load()
        self._shared.maintenance.load(self._life)
        self._shared.standby_order.load()
        await group.loop.resume()
        if group.standing.loaded_into is not None:
            self._finder.hint = group.standing.loaded_into[:2]

    async def _end_votes(self) -> None:
        """Ends what an agent of this boot with a witness has left: its deadline would end what needs no votes now."""
        if os.path.exists(self._run.votes):
            try:
                await self._shared.keeper.disarm()
            except KeeperFailed:
                # One that is started again must not take it up.
                remove_note(self._run.keeper_state)
            remove_note(self._run.votes)

    def stop(self, *, begins_anew: bool = False) -> None:
        """Ends ``run`` soon. Programs, active set and role stay as they are.

        ``begins_anew``: the process goes on with another agent; a service manager that was told of an end would see to it
        that the process ends, too.
        """
        self.begins_anew = begins_anew
        self._group.loop.stop()

    async def _close(self) -> None:
        await self._alerting.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.close()
        await self._peer_server.close()
        await self._group.ledger.close()
        shared = self._shared
        self._checks.close()
        self._drift.close()
        self._group.votes.close()
        await shared.checker.close()
        shared.keepalived.close()
        shared.supervised.close()
        shared.watcher.close()

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Has ``work`` done beside the loop; where it raises, the agent ends and is started again."""
        task: asyncio.Task[None] = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.critical("a part of the agent failed; the agent stops and is started again", exc_info=task.exception())
            self.failed = True
            self.stop()

    # ---- what lies below the run directory and the state directory ----------------------------------------

    def _add_upkeep(self) -> None:
        """What belongs to the node and not to its group."""
        upkeep, run = self._shared.upkeep, self._run
        vips = "".join(f"{bare(vip)}\n" for vip in self._settings.vrrp.all_vips).encode()
        upkeep.add("the agent's lock", self._lock.keep)
        upkeep.add("the spool's watch", self._keep_spool_watch)
        upkeep.add("the link's directory", lambda: make_dir(run.ssh_dir, 0o700))
        upkeep.add("the sessions of supervisord", self._shared.table.keep)
        upkeep.add("the token of this boot", lambda: keep_life(run.life, self._life))
        upkeep.add("the failover-test", self._drill.keep)
        upkeep.add("the operators' sockets", self._server.keep)
        upkeep.add("the peer's socket", self._peer_server.keep)
        upkeep.add("the VIP for ha-agent-fence", lambda: keep_note(self._state.vip, vips, 0o600))

    def _keep_spool_watch(self) -> bool:
        """A watch holds the directory that was there when it began. Watching another one makes nothing."""
        seen = os.stat(self._run.spool)
        if self._watched != (seen.st_dev, seen.st_ino):
            self._watch_spool(self._run.spool)
            self._watched = seen.st_dev, seen.st_ino
            self._group.waker.wake()
        return False

    # ---- what comes from outside --------------------------------------------------------------------------

    def _watch_spool(self, spool: str) -> None:
        try:
            wake = self._group.waker.wake_from_thread
            self._shared.watcher.watch(spool, lambda _: wake(), replaceable=False)
        except WatchError as error:
            log.error("%s; role changes are noticed with the next tick", error)

    def _keepalived_ended(self) -> None:
        log.warning("keepalived ended")
        self._group.waker.wake()

    def _supervisord_ended(self) -> None:
        log.warning("supervisord ended")
        if self._shared.maintenance.is_on:
            self._group.waker.wake()
        else:
            self._group.supervisord_ended()

    def _supervisord_begins(self, stopping: bool) -> None:
        """supervisord begins again within its process (a reload), or is about to: then it must find an empty active set."""
        if stopping and not self._shared.maintenance.is_on:
            log.warning("supervisord stops all programs: it ends, or begins again")
            self._group.supervisord_ended()
        else:
            self._group.waker.wake()

    def _addresses_changed(self, monitor: Any) -> None:
        addresses.drain_monitor(monitor)
        self._group.addresses_changed()

    async def _greet(self, link: PeerLink) -> None:
        await self._group.conversation.greet(link)

    def _link_changed(self) -> None:
        self._group.link_changed(is_up=self._shared.link.is_up)
        self._payload.link_changed()
        self._drift.wake()

    async def _tick(self) -> None:
        """What has no event of its own: now and then everything is looked at again."""
        group, clock = self._group, self._loop.time
        beat = watchdog_interval_s()
        next_beat, next_compare = clock(), clock() + self._settings.registry.compare_interval_s
        pause = min(TICK_S, beat or TICK_S)
        while True:
            due = clock() + pause
            await asyncio.sleep(pause)
            now = clock()
            if now - due > STALL_S:
                text = f"this agent did nothing for {now - due:.1f} s (frozen, or starved): asks the peer what has happened"
                group.events.add("stalled", text)
                group.conversation.ask_now()
                group.view.cast_doubt()
            if beat is not None and now >= next_beat:
                notify_manager("WATCHDOG=1")
                next_beat = now + beat
            self._shared.upkeep.look()
            group.view.check_identity()
            if now >= next_compare:
                next_compare = now + self._settings.registry.compare_interval_s
                group.view.request_compare()
            group.waker.wake()
