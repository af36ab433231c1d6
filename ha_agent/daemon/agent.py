"""The agent of one node: gathers facts, asks the rules, carries out what they decide. Everything else hangs on it.

The loop is level-triggered: whatever happens only wakes it. It never blocks; slow work runs as tasks and in threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from typing import Any

from ha_agent import __version__
from ha_agent.adapters import addresses
from ha_agent.adapters.commit import Committer
from ha_agent.adapters.conf_checker import ConfChecker
from ha_agent.adapters.control import READ_SOCKET_NAME, SOCKET_NAME
from ha_agent.adapters.files import make_dir
from ha_agent.adapters.journald import JournalSink, runs_under_journal
from ha_agent.adapters.procs import ProcessWatch, read_pid_file
from ha_agent.adapters.rpc import RpcServer
from ha_agent.adapters.sd_notify import notify_manager, watchdog_interval_s
from ha_agent.adapters.spool import forget_older, read_pid_max, read_spool
from ha_agent.adapters.ssh import PeerLink
from ha_agent.adapters.store import History, Store
from ha_agent.adapters.watch import Watcher, WatchError
from ha_agent.core.frames import Message
from ha_agent.core.peer_summary import PeerSummary
from ha_agent.core.plans import RELEASE_STEPS, TAKEOVER_STEPS, outranks
from ha_agent.core.rules import Decision, Facts, decide
from ha_agent.core.settings import Settings
from ha_agent.core.transaction import Watermark
from ha_agent.core.words import OWNING_ROLES, Action, Role, Step, VrrpState
from ha_agent.daemon.alerts.alerting import Alerting
from ha_agent.daemon.alerts.program_watcher import ProgramAlerts
from ha_agent.daemon.drill import Drill
from ha_agent.daemon.operations.figures import Figures
from ha_agent.daemon.operations.node import NodeService
from ha_agent.daemon.operations.pair import READABLE, OperatorService
from ha_agent.daemon.operations.program_views import ProgramQueries
from ha_agent.daemon.operations.programs import ProgramService
from ha_agent.daemon.operations.registration import Registration
from ha_agent.daemon.peer.conversation import PeerService
from ha_agent.daemon.programs.active_set import ActiveSet
from ha_agent.daemon.programs.readiness import Readiness
from ha_agent.daemon.programs.supervised import Programs
from ha_agent.daemon.replication.acknowledgement import Acknowledger
from ha_agent.daemon.replication.ledger import Ledger
from ha_agent.daemon.replication.receiver import Receiver
from ha_agent.daemon.replication.replicator import Replicator
from ha_agent.daemon.replication.view import RegistryView
from ha_agent.daemon.role.fitness import Fitness
from ha_agent.daemon.role.maintenance import Maintenance, read_life
from ha_agent.daemon.role.plan_run import PlanRun
from ha_agent.daemon.role.release import Release
from ha_agent.daemon.role.takeover import Takeover
from ha_agent.daemon.standing import Standing

log = logging.getLogger(__name__)

TICK_S = 2.0
VIP_LOOK_S = 10.0
"""The kernel tells of every address that comes or goes; it is asked again so often all the same."""

MAX_PEER_STREAMS = 8

STALL_S = 1.0
"""A loop that comes back so much later than it meant to was frozen, or starved: the peer may have taken over since."""

NOTICE, WARNING = 5, 4
"""Severities of syslog(3)."""

ALARMING = frozenset(
    {
        "split-brain",
        "left-running",
        "peer-silent",
        "registry-held",
        "push-refused",
        "state-damaged",
        "role-damaged",
        "standby-edit",
        "conf-not-loadable",
        "supervisord-down",
        "supervisord-ended",
        "supervisord-gone",
        "keepalived-gone",
        "vip-gone",
        "interlock-refused",
        "takeover-failed",
        "release-failed",
        "reread-refused",
        "stalled",
    }
)
"""Codes of events that somebody should look at."""

LAST_EVENTS = 500
"""So far back a restarted agent looks for the last change of role."""

GROUP = "ha-agent"
"""Unix group whose members may use the control socket."""

READ_GROUP = "ha-agent-read"
"""Unix group whose members may look, through a socket of their own."""


class Agent:
    """Wires everything of one node. ``run`` works until ``stop`` is called."""

    def __init__(self, settings: Settings, config_path: str) -> None:
        self.settings = settings
        self.config_path = config_path
        self.node = settings.node.name
        self.loop = asyncio.get_running_loop()
        self.standing = Standing(self.node, os.path.join(settings.paths.run_dir, "role.json"))
        self.peer: PeerSummary | None = None
        self._run: PlanRun | None = None
        self.failed = False
        self._retry_mono = 0.0
        self._look_vip_mono = 0.0
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self.begins_anew = False
        """Whether the process goes on with another agent when this one has ended."""
        self.link_changed = asyncio.Event()
        """Set (and replaced) whenever the link goes up or down."""
        self._supervisord_lost_mono: float | None = None
        self._split_with = Watermark()
        self._tasks: set[asyncio.Task[None]] = set()
        self._pid_max = read_pid_max()
        paths = settings.paths
        self._spool = os.path.join(paths.run_dir, "notify")
        self.store = Store(paths.state_dir)
        self._journal = JournalSink() if runs_under_journal() else None
        self.history = History(paths.state_dir, self.node, paths.history_max_bytes, self._event_added)
        self.fitness = Fitness(os.path.join(paths.run_dir, "track"), self.history, self._wake_at)
        self.watcher = Watcher()
        self.maintenance = Maintenance(paths.state_dir, self.history, time.time)
        self.committer = Committer(settings.registry.path, paths.state_dir)
        self.ledger = Ledger(self.store, self.committer, paths.keep_generations)
        self.view = RegistryView(settings.registry, self.watcher, self._registry_changed)
        self.checker = ConfChecker(settings.supervisor)
        self.active_set = ActiveSet(settings, self.checker, self.view.read_content)
        self.programs = Programs(settings, self._supervisord_ended)
        self.receiver = Receiver(settings, self.ledger, self.committer, self.view, self.history, lambda: self.standing.role)
        self.drill = Drill(self, self._start)
        self.program_alerts = ProgramAlerts(self)
        self.alerting = Alerting(self)
        self.figures = Figures(self)
        self.program_queries = ProgramQueries(self)
        self.program_service = ProgramService(self, self.program_queries)
        self.registration = Registration(self, self.program_queries, self.program_service)
        node_service = NodeService(self)
        self.peers = PeerService(self, node_service)
        self.readiness = Readiness(self)
        self.link = PeerLink(settings.link, settings.peer, paths.run_dir, self.peers.greet, self._link_changed)
        self.replicator = Replicator(
            settings, self.view, self.ledger, self.link, self.history, self._may_push, self._push_was_stale, time.time
        )
        self.acknowledger = Acknowledger(settings.peer.name, self.standing, self.link, self.replicator, self.loop.time)
        self.keepalived = ProcessWatch(lambda: read_pid_file(settings.vrrp.pid_file), self._keepalived_ended)
        self._reported_edits: frozenset[str] = frozenset()
        self.takeover, self.release = Takeover(self), Release(self)
        self.server = RpcServer(OperatorService(self, node_service).handlers)
        self.peer_server = RpcServer(self.peers.handlers, MAX_PEER_STREAMS)

    # ---- life ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Starts, works until ``stop``, and ends without touching a program. Raises what makes a start impossible."""
        self._prepare_dirs()
        loaded = self.store.load()
        self.ledger.resume(loaded)
        for remark in loaded.remarks:
            log.error("%s", remark)
            self.history.add("state-damaged", remark)
        await self.receiver.recover()
        self.alerting.load()
        self.maintenance.load(read_life(self.settings.paths.run_dir))
        self.standing.note_transition(await asyncio.to_thread(self._find_last_transition))
        self._resume_role()
        self._watch_spool()
        await self.view.start()
        monitor = addresses.open_monitor()
        self.loop.add_reader(monitor.fileno(), self._addresses_changed, monitor)
        run_dir = self.settings.paths.run_dir
        self.server.listen(os.path.join(run_dir, READ_SOCKET_NAME), 0o660, READ_GROUP, handed_over=False, readable=READABLE)
        self.server.listen(os.path.join(run_dir, SOCKET_NAME), 0o660, GROUP, handed_over=False)
        self.peer_server.listen(os.path.join(run_dir, "peer.sock"), 0o600, None, handed_over=True)
        for work in (
            self.link.run(time.time),
            self.replicator.run(),
            self._tick(),
            self.peers.heartbeat(),
            self.readiness.run(),
            self.alerting.run(),
        ):
            self._start(work)
        self.drill.resume()
        self.fitness.begin()
        self.history.add(
            "agent-started", f"version {__version__}, role {self.standing.role.value}", role=self.standing.role.value
        )
        notify_manager("READY=1")
        try:
            await self._decide_loop()
        finally:
            if not self.begins_anew:
                notify_manager("STOPPING=1")
            self.loop.remove_reader(monitor.fileno())
            monitor.close()
            await self._close()

    def _prepare_dirs(self) -> None:
        paths = self.settings.paths
        make_dir(paths.run_dir, 0o755)
        make_dir(self._spool, 0o755)
        make_dir(os.path.join(paths.run_dir, "active"), 0o755)
        self.store.prepare()

    def _event_added(self, event: dict[str, Any]) -> None:
        self._tell_journal(event)
        self.figures.take_event(event)
        self.alerting.take_event(event)

    def _tell_journal(self, event: dict[str, Any]) -> None:
        """Puts an event of the history into systemd's journal, with its code, the role and the epoch as fields."""
        if self._journal is None:
            return
        fields = {"HA_AGENT_CODE": str(event["code"]), "HA_AGENT_NODE": self.node, "HA_AGENT_ROLE": self.standing.role.value}
        fields["HA_AGENT_EPOCH"] = str(self.ledger.known.epoch)
        if "by" in event:
            fields["HA_AGENT_BY"] = str(event["by"])
        text = f"{event['from']} -> {event['to']}: {event['text']}" if "from" in event and "to" in event else event["text"]
        self._journal.send(f"{text} [{event['code']}]", WARNING if event["code"] in ALARMING else NOTICE, **fields)

    def wake(self) -> None:
        """Has the rules asked again soon."""
        self._wake.set()

    def _wake_at(self, moment_mono: float) -> None:
        self.loop.call_at(moment_mono, self._wake.set)

    def stop(self, *, begins_anew: bool = False) -> None:
        """Ends ``run`` soon. Programs, active set and role stay as they are.

        ``begins_anew``: the process goes on with another agent; a service manager that was told of an end would see to it
        that the process ends, too.
        """
        self.begins_anew = begins_anew
        self._stopping.set()
        self._wake.set()

    async def _close(self) -> None:
        await self.alerting.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.server.close()
        await self.peer_server.close()
        await self.ledger.close()
        await self.checker.close()
        self.keepalived.close()
        self.programs.close()
        self.watcher.close()

    def _start(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def start_task(self, work: Any) -> None:
        """Has ``work`` done beside the loop; it must not raise."""
        self._start(work)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.critical("a part of the agent failed; the agent stops and is started again", exc_info=task.exception())
            self.failed = True
            self.stop()

    def _resume_role(self) -> None:
        """The role that an agent of this boot had before. /run is empty after a reboot: then it is standby."""
        standing = self.standing
        damage = standing.resume()
        if damage is not None:
            self.history.add("role-damaged", damage)
        self.ledger.learn(standing.claim)
        self.takeover.resuming = standing.owns
        if standing.role in (Role.TAKING_OVER, Role.RELEASING):
            self._run = PlanRun("resumed", "the agent was started again", done=False)
            standing.note_plan(self._run)
        if standing.role is Role.ACTIVE:
            self._start(self.takeover.verify("agent-resumed"))

    def _find_last_transition(self) -> dict[str, Any]:
        events = self.history.read(LAST_EVENTS)
        return next((e for e in reversed(events) if "from" in e and "to" in e), {})

    # ---- what wakes it ------------------------------------------------------------------------------------

    def _watch_spool(self) -> None:
        try:
            self.watcher.watch(self._spool, lambda _: self._wake_from_thread(), replaceable=False)
        except WatchError as error:
            log.error("%s; role changes are noticed with the next tick", error)

    def _wake_from_thread(self) -> None:
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._wake.set)

    def _keepalived_ended(self) -> None:
        log.warning("keepalived ended")
        self._wake.set()

    def _supervisord_ended(self) -> None:
        """A supervisord that is started again must not start the registry beside what the old one left running."""
        log.warning("supervisord ended")
        if self.standing.role in OWNING_ROLES and not self.maintenance.is_on:
            self.active_set.remove()
        self._wake.set()

    def _addresses_changed(self, monitor: Any) -> None:
        addresses.drain_monitor(monitor)
        self._look_vip_mono = 0.0
        self._wake.set()

    def _link_changed(self) -> None:
        if not self.link.is_up:
            self.replicator.learn_peer(None)
        self.replicator.wake()
        self.link_changed.set()
        self.link_changed = asyncio.Event()
        self._wake.set()

    def _registry_changed(self) -> None:
        self.replicator.wake()
        self.readiness.wake()
        if self.standing.role not in OWNING_ROLES:
            self._report_local_edits()

    def _report_local_edits(self) -> None:
        """On a standby a change that the peer did not send does not travel: say so once."""
        edits = frozenset(self.ledger.local_edits(self.view.manifest))
        fresh = edits - self._reported_edits
        self._reported_edits = edits
        if fresh and self.receiver.last_refusal is None:
            names = ", ".join(sorted(fresh)[:5])
            self.history.add("standby-edit", f"changed on the standby, does not travel: {names}", paths=sorted(fresh)[:20])

    async def _tick(self) -> None:
        """What has no event of its own: now and then everything is looked at again."""
        beat = watchdog_interval_s()
        next_beat = next_compare = self.loop.time()
        next_compare += self.settings.registry.compare_interval_s
        pause = min(TICK_S, beat or TICK_S)
        while True:
            due = self.loop.time() + pause
            await asyncio.sleep(pause)
            now = self.loop.time()
            if now - due > STALL_S:
                text = f"this agent did nothing for {now - due:.1f} s (frozen, or starved): asks the peer what has happened"
                self.history.add("stalled", text)
                self.peers.ask_now()
            if beat is not None and now >= next_beat:
                notify_manager("WATCHDOG=1")
                next_beat = now + beat
            self.view.check_identity()
            if now >= next_compare:
                next_compare = now + self.settings.registry.compare_interval_s
                self.view.request_compare()
            self._wake.set()

    # ---- deciding -----------------------------------------------------------------------------------------

    async def _decide_loop(self) -> None:
        while not self._stopping.is_set():
            facts = self._gather_facts()
            if not self.maintenance.look():
                self._decide(facts)
                self._look_at_fitness()
            await self._wake.wait()
            self._wake.clear()

    def _decide(self, facts: Facts) -> None:
        for _ in range(len(Role) + 1):
            decision = decide(self.standing.role, facts)
            if decision is None:
                break
            self._carry_out(decision)
            facts = self._gather_facts()

    def _gather_facts(self) -> Facts:
        self.keepalived.look()
        self._read_vrrp_state()
        now = self.loop.time()
        supervisord_gone = self._is_supervisord_gone(now)
        if now >= self._look_vip_mono:
            self._look_vip_mono = now + VIP_LOOK_S
            self.standing.note_vip(addresses.has_address(self.settings.vrrp.vip))
        return Facts(
            now_mono=now,
            vrrp_state=self.standing.vrrp_state,
            keepalived_alive=self.keepalived.is_alive,
            vip_here=self.standing.vip_here,
            superseded=self._is_superseded(),
            refused=self.fitness.gives_way and not self.fitness.hands_over,
            handing_over=self.fitness.hands_over,
            plan_done=self._run.done if self._run else None,
            left_running=self.standing.left_running,
            retry_due=now >= self._retry_mono,
            supervisord_replaced=self.standing.loaded_into is not None
            and self.programs.process.identity != self.standing.loaded_into,
            supervisord_gone=supervisord_gone,
        )

    def _is_supervisord_gone(self, now: float) -> bool:
        """Whether there has been no supervisord for longer than its unit needs to start it again."""
        self.programs.look()
        if self.programs.process.is_alive:
            self._supervisord_lost_mono = None
            return False
        patience = self.settings.supervisor.restart_wait_s
        if self._supervisord_lost_mono is None:
            self._supervisord_lost_mono = now
            self._wake_at(now + patience)
        return now - self._supervisord_lost_mono >= patience

    def _read_vrrp_state(self) -> None:
        """The newest report of this life of keepalived; older reports say nothing about the one that runs now."""
        events = read_spool(self._spool, self._pid_max)
        forget_older(self._spool, events)
        last = events[-1] if events else None
        state = VrrpState.UNKNOWN
        if last is not None and self.keepalived.is_alive and last.started_ticks >= self.keepalived.started_ticks:
            state = last.state
        elif last is not None and not self.keepalived.is_alive and last.state is VrrpState.STOP:
            state = VrrpState.STOP
        if state is not self.standing.vrrp_state:
            if self._journal is None:
                log.info("VRRP state %s -> %s", self.standing.vrrp_state.value, state.value)
            self.history.add("vrrp", f"{self.standing.vrrp_state.value} -> {state.value}", vrrp_state=state.value)
            self.standing.note_vrrp(state)

    def _is_superseded(self) -> bool:
        """Whether the peer is active under a newer epoch. While this node takes over, the interlock decides that."""
        peer = self.peer
        return (
            self.standing.role is Role.ACTIVE
            and peer is not None
            and self.link.is_up
            and peer.role is Role.ACTIVE
            and outranks(peer.mark, self.standing.claim)
        )

    def _carry_out(self, decision: Decision) -> None:
        before, plan = self.standing.role, self._run
        report: dict[str, Any] = {
            "from": before.value,
            "to": decision.role.value,
            "vrrp_state": self.standing.vrrp_state.value,
        }
        if plan is not None and plan.steps:
            report.update(plan=plan.name, steps=plan.steps, took_s=round(self.loop.time() - plan.began_mono, 4))
        if decision.role is not before:
            self.standing.become(decision.role)
            if self._journal is None:
                log.info("role %s -> %s: %s", before.value, decision.role.value, decision.reason)
            self.standing.note_transition(self.history.add(decision.code, decision.reason, **report))
        if decision.action is Action.TAKE_OVER:
            self._begin("takeover", decision, TAKEOVER_STEPS)
        elif decision.action is Action.RELEASE:
            self._begin("release", decision, RELEASE_STEPS)
        else:
            self._run = None
            self.standing.note_plan(None)
            self._settled()

    def _begin(self, name: str, decision: Decision, steps: tuple[Step, ...]) -> None:
        previous, self._run = self._run, PlanRun(name, decision.reason)
        self.standing.note_plan(self._run)
        if previous is not None:
            previous.abandon()
        self._start(self._run_plan(previous, self._run, steps))

    async def _run_plan(self, previous: PlanRun | None, plan: PlanRun, steps: tuple[Step, ...]) -> None:
        """Waits for a plan that is being abandoned, then runs this one. Two never overlap."""
        if previous is not None and previous.finished is not None:
            await previous.finished.wait()
        plan.finished = asyncio.Event()
        try:
            await plan.run(steps, {**self.takeover.steps, **self.release.steps})
        finally:
            plan.finished.set()
        if plan.done:
            self.standing.note_failure(None)
        else:
            pause = self.settings.takeover.retry_s if plan.name == "takeover" else self.settings.release.retry_s
            self._retry_at(self.loop.time() + pause)
            if not plan.abandoned:
                log.error("%s could not be finished: %s", plan.name, plan.failure)
                if plan.failure != self.standing.last_failure:
                    self.history.add(f"{plan.name}-failed", str(plan.failure), steps=plan.steps)
                self.standing.note_failure(plan.failure)
        self._wake.set()

    def _retry_at(self, moment_mono: float) -> None:
        self._retry_mono = moment_mono
        self._wake_at(moment_mono)

    def _settled(self) -> None:
        if self.standing.role is Role.ACTIVE:
            self._start(self.takeover.verify("takeover-verified"))
            self.readiness.wake()
            self.replicator.wake()
        elif self.standing.role is Role.STANDBY:
            self.takeover.resuming = False
            self.standing.note_loaded(None)
            self.programs.forget_groups()
        elif self.standing.role is Role.FENCED:
            self._retry_at(self.loop.time() + self.settings.release.retry_s)

    def _look_at_fitness(self) -> None:
        now = self.loop.time()
        self.fitness.look(
            now,
            self.standing.role,
            self.standing.vrrp_state,
            self.standing.vip_here,
            supervisord_gone=self._is_supervisord_gone(now),
            peer_owns=self.link.is_up and self.peer is not None and self.peer.role in OWNING_ROLES,
        )

    # ---- replication --------------------------------------------------------------------------------------

    def _may_push(self) -> bool:
        return self.standing.role is Role.ACTIVE

    def _push_was_stale(self, answer: Message) -> None:
        """The peer knows a newer epoch, or is active. If it is not, this node raises its own and goes on."""
        peer_mark = Watermark(int(answer.get("epoch", 0)), str(answer.get("claimed_by", "")))
        if answer.get("role") in {role.value for role in OWNING_ROLES}:
            # One that is only taking over is about to ask, or to be refused.
            if answer.get("role") == Role.ACTIVE.value and peer_mark != self._split_with:
                self._split_with = peer_mark
                self.history.add("split-brain", "both nodes are active; the one with the older epoch releases")
            self.peers.ask_now()
            self._wake.set()
            return
        if peer_mark.epoch >= self.standing.claim.epoch and peer_mark != self.standing.claim:
            self._start(self._raise_epoch(peer_mark))

    async def _raise_epoch(self, over: Watermark) -> None:
        if self.standing.role is not Role.ACTIVE:
            return
        raised = Watermark(over.epoch + 1, self.node)
        try:
            await self.ledger.claim(raised)
        except OSError as error:
            log.error("the epoch cannot be raised above the peer's, it is tried again with the next push: %s", error)
            return
        self.standing.claim_epoch(raised)
        text = f"epoch raised to {self.standing.claim.epoch}: the standby knew {over.epoch} of {over.claimed_by}"
        self.history.add("epoch-raised", text)
        self.replicator.retry_now()

    def give_way(self, reason: str) -> None:
        """Has keepalived give up MASTER here for a while; the rules then release."""
        self.fitness.give_way(self.loop.time(), reason)
        self._wake.set()
