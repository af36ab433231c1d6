"""The agent of one node: gathers facts, asks the rules, carries out what they decide. Everything else hangs on it.

The loop is level-triggered: whatever happens only wakes it. It never blocks; slow work runs as tasks and in threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import time
from typing import Any

from ha_agent import __version__
from ha_agent.adapters import addresses
from ha_agent.adapters.commit import Committer
from ha_agent.adapters.conf_checker import ConfChecker
from ha_agent.adapters.control import SOCKET_NAME
from ha_agent.adapters.files import make_dir, read_or_none, write_atomic
from ha_agent.adapters.procs import ProcessWatch
from ha_agent.adapters.rpc import Disconnected, Progress, RemoteError, RpcServer
from ha_agent.adapters.runner import ProgramMissing, find_program, run_program
from ha_agent.adapters.sd_notify import notify_manager, watchdog_interval_s
from ha_agent.adapters.spool import forget_older, read_pid_max, read_spool
from ha_agent.adapters.ssh import PeerLink
from ha_agent.adapters.store import History, Store
from ha_agent.adapters.supervisord import RereadRefused, SupervisordDown
from ha_agent.adapters.watch import Watcher, WatchError
from ha_agent.core.frames import Message
from ha_agent.core.manifest import Manifest, diff_manifests
from ha_agent.core.plans import RELEASE_STEPS, TAKEOVER_STEPS, claim_epoch, outranks
from ha_agent.core.rules import Decision, Facts, decide
from ha_agent.core.settings import Settings
from ha_agent.core.transaction import Watermark
from ha_agent.core.words import OWNING_ROLES, Action, Role, Step, VrrpState
from ha_agent.daemon.active_set import ActiveSet
from ha_agent.daemon.peer_state import PeerSummary, WrongPeer, summary_message
from ha_agent.daemon.programs import Programs, culprit_of
from ha_agent.daemon.receiver import Ledger, Receiver
from ha_agent.daemon.registry_view import RegistryView
from ha_agent.daemon.replicator import Replicator
from ha_agent.daemon.status import describe_node
from ha_agent.daemon.transition import PlanRun, StepCode, StepFailed

log = logging.getLogger(__name__)

TICK_S = 1.0
VERIFY_POLL_S = 0.2
VERIFY_LIMIT_S = 120.0
HOLD_S = 60.0
STATUS_WAIT_S = 0.6
JUDGE_PAUSE_ACTIVE_S = 0.004
JUDGE_PAUSE_STANDBY_S = 0.1
GROUP = "ha-agent"
"""Unix group whose members may use the control socket."""


class Agent:
    """Wires everything of one node. ``run`` works until ``stop`` is called."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.node = settings.node.name
        self.loop = asyncio.get_running_loop()
        self.role = Role.STANDBY
        self.vrrp_state = VrrpState.UNKNOWN
        self.vip_here: bool | None = None
        self.claim = Watermark()
        self.peer: PeerSummary | None = None
        self.plan: PlanRun | None = None
        self.last_transition: dict[str, Any] = {}
        self.left_running = 0
        self.failed = False
        self.refused_mono: float | None = None
        self._retry_mono = 0.0
        self._resuming = False
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._role_changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._pid_max = read_pid_max()
        paths = settings.paths
        self._role_path = os.path.join(paths.run_dir, "role.json")
        self._spool = os.path.join(paths.run_dir, "notify")
        self._track_path = os.path.join(paths.run_dir, "track")
        self.store = Store(paths.state_dir)
        self.history = History(paths.state_dir, self.node, paths.history_max_bytes)
        self.watcher = Watcher()
        committer = Committer(settings.registry.path, paths.state_dir)
        self.ledger = Ledger(self.store, committer, paths.keep_generations)
        self.view = RegistryView(settings.registry, self.watcher, self._registry_changed)
        self.checker = ConfChecker(settings.supervisor)
        self.active_set = ActiveSet(settings, self.checker, self.view.read_content)
        self.programs = Programs(settings)
        self.receiver = Receiver(settings, self.ledger, committer, self.view, self.history, lambda: self.role)
        self.link = PeerLink(settings.link, settings.peer, paths.run_dir, self._greet_peer, self._link_changed)
        self.replicator = Replicator(
            settings, self.view, self.ledger, self.link, self.history, self._may_push, self._push_was_stale, time.time
        )
        self.keepalived = ProcessWatch(settings.vrrp.pid_file, self._keepalived_ended)
        self._judge_wanted = asyncio.Event()
        self._reported_edits: frozenset[str] = frozenset()
        self.server = RpcServer({"status": self._serve_status, "sync": self._serve_sync, "ping": self._serve_ping})
        self.peer_server = RpcServer(
            {
                "hello": self._serve_hello,
                "ping": self._serve_ping,
                "status": self._serve_peer_status,
                "manifest": self._serve_manifest,
                "transaction": self._serve_transaction,
                "release": self._serve_release,
            }
        )

    # ---- life ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Starts, works until ``stop``, and ends without touching a program. Raises what makes a start impossible."""
        self._prepare_dirs()
        loaded = self.store.load()
        self.ledger.known, self.ledger.generation, self.ledger.agreed = loaded.known, loaded.generation, loaded.agreed
        for remark in loaded.remarks:
            log.error("%s", remark)
            self.history.add("state-damaged", remark)
        await self.receiver.recover()
        self._resume_role()
        self._watch_spool()
        await self.view.start()
        monitor = addresses.open_monitor()
        self.loop.add_reader(monitor.fileno(), self._addresses_changed, monitor)
        self.server.listen(os.path.join(self.settings.paths.run_dir, SOCKET_NAME), 0o660, GROUP, handed_over=False)
        self.peer_server.listen(os.path.join(self.settings.paths.run_dir, "peer.sock"), 0o600, None, handed_over=True)
        for work in (self.link.run(time.time), self.replicator.run(), self._tick(), self._heartbeat(), self._judge_loop()):
            self._start(work)
        self.history.add("agent-started", f"version {__version__}, role {self.role.value}", role=self.role.value)
        notify_manager("READY=1")
        try:
            await self._decide_loop()
        finally:
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
        self._set_track(0)

    def stop(self) -> None:
        """Ends ``run`` soon. Programs, active set and role stay as they are."""
        self._stopping.set()
        self._wake.set()

    async def _close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.server.close()
        await self.peer_server.close()
        await self.ledger.close()
        await self.checker.close()
        self.keepalived.close()
        self.watcher.close()

    def _start(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.critical("a part of the agent failed; the agent stops and is started again", exc_info=task.exception())
            self.failed = True
            self.stop()

    def _resume_role(self) -> None:
        """The role that a previous agent of this boot had. /run is empty after a reboot: then nothing runs and it is standby."""
        raw = read_or_none(self._role_path)
        if raw is None:
            return
        try:
            saved = json.loads(raw)
            self.role = Role(saved["role"])
            self.claim = Watermark(int(saved["epoch"]), str(saved["claimed_by"]))
        except (ValueError, KeyError, TypeError):
            self.history.add("role-damaged", f"{self._role_path} can not be read: releasing, to be sure")
            self.role = Role.RELEASING
        if outranks(self.claim, self.ledger.known):
            self.ledger.known = self.claim
        self._resuming = self.role is Role.TAKING_OVER
        if self.role is Role.ACTIVE:
            self._start(self._verify_programs("agent-resumed"))

    def _save_role(self) -> None:
        saved = {"role": self.role.value, "epoch": self.claim.epoch, "claimed_by": self.claim.claimed_by}
        write_atomic(self._role_path, json.dumps(saved).encode(), 0o644, durable=False)

    # ---- what wakes it ------------------------------------------------------------------------------------

    def _watch_spool(self) -> None:
        try:
            self.watcher.watch(self._spool, lambda _: self._wake_from_thread(), replaceable=False)
        except WatchError as error:
            log.error("%s; role changes are noticed once a second", error)

    def _wake_from_thread(self) -> None:
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._wake.set)

    def _keepalived_ended(self) -> None:
        log.warning("keepalived ended")
        self._wake.set()

    def _addresses_changed(self, monitor: Any) -> None:
        addresses.drain_monitor(monitor)
        self._wake.set()

    def _link_changed(self) -> None:
        if not self.link.is_up:
            self.replicator.learn_peer(None)
        self.replicator.wake()
        self._wake.set()

    def _registry_changed(self) -> None:
        self.replicator.wake()
        self._judge_wanted.set()
        if self.role not in OWNING_ROLES:
            self._report_local_edits()

    def _report_local_edits(self) -> None:
        """On a standby a change that the peer did not send does not travel: say so once."""
        if self.ledger.lock.locked():
            # A commit is under way: inotify tells of its files before the ledger knows them.
            return
        local = diff_manifests(self.ledger.agreed, self.view.manifest)
        edits = frozenset(e.path for e in local.puts) | frozenset(local.deletes)
        fresh = edits - self._reported_edits
        self._reported_edits = edits
        if fresh and self.ledger.known.epoch and self.receiver.last_refusal is None:
            names = ", ".join(sorted(fresh)[:5])
            self.history.add("standby-edit", f"changed on the standby, does not travel: {names}", paths=sorted(fresh)[:20])

    async def _tick(self) -> None:
        """What has no event of its own: once a second everything is looked at again."""
        beat = watchdog_interval_s()
        next_beat = next_compare = self.loop.time()
        next_compare += self.settings.registry.compare_interval_s
        while True:
            await asyncio.sleep(min(TICK_S, beat or TICK_S))
            now = self.loop.time()
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
            for _ in range(len(Role) + 1):
                decision = decide(self.role, self._gather_facts())
                if decision is None:
                    break
                self._carry_out(decision)
            self._keep_track_file()
            await self._wake.wait()
            self._wake.clear()

    def _gather_facts(self) -> Facts:
        self.keepalived.look()
        self._read_vrrp_state()
        self.vip_here = addresses.has_address(self.settings.vrrp.vip)
        now = self.loop.time()
        return Facts(
            now_mono=now,
            vrrp_state=self.vrrp_state,
            keepalived_alive=self.keepalived.is_alive,
            vip_here=self.vip_here,
            superseded=self._is_superseded(),
            refused=self.refused_mono is not None,
            plan_done=self.plan.done if self.plan else None,
            left_running=self.left_running,
            retry_due=now >= self._retry_mono,
        )

    def _read_vrrp_state(self) -> None:
        """The newest report of this life of keepalived; older reports say nothing about the one that runs now."""
        events = read_spool(self._spool, self._pid_max)
        forget_older(self._spool, events)
        state = VrrpState.UNKNOWN
        if events and not (self.keepalived.is_alive and events[-1].started_ticks < self.keepalived.started_ticks):
            state = events[-1].state
        if state is not self.vrrp_state:
            log.info("VRRP state %s -> %s", self.vrrp_state.value, state.value)
            self.history.add("vrrp", f"{self.vrrp_state.value} -> {state.value}", vrrp_state=state.value)
            self.vrrp_state = state

    def _is_superseded(self) -> bool:
        """Whether the peer is active under a newer epoch. While this node takes over, the interlock decides that."""
        peer = self.peer
        return (
            self.role is Role.ACTIVE
            and peer is not None
            and self.link.is_up
            and peer.role is Role.ACTIVE
            and outranks(peer.mark, self.claim)
        )

    def _carry_out(self, decision: Decision) -> None:
        before, plan = self.role, self.plan
        report: dict[str, Any] = {"from": before.value, "to": decision.role.value, "vrrp_state": self.vrrp_state.value}
        if plan is not None and plan.steps:
            report.update(plan=plan.name, steps=plan.steps, took_s=round(self.loop.time() - plan.began_mono, 4))
        if decision.role is not before:
            self.role = decision.role
            self._save_role()
            log.info("role %s -> %s: %s", before.value, decision.role.value, decision.reason)
            self.last_transition = self.history.add(decision.code, decision.reason, **report)
            self._role_changed.set()
            self._role_changed = asyncio.Event()
        if decision.action is Action.TAKE_OVER:
            self._begin("takeover", decision, TAKEOVER_STEPS)
        elif decision.action is Action.RELEASE:
            self._begin("release", decision, RELEASE_STEPS)
        else:
            self.plan = None
            self._settled()

    def _begin(self, name: str, decision: Decision, steps: tuple[Step, ...]) -> None:
        previous, self.plan = self.plan, PlanRun(name, decision.reason)
        if previous is not None:
            previous.abandoned = True
        self._start(self._run_plan(previous, self.plan, steps))

    async def _run_plan(self, previous: PlanRun | None, plan: PlanRun, steps: tuple[Step, ...]) -> None:
        """Waits for a plan that is being abandoned, then runs this one. Two never overlap."""
        if previous is not None and previous.finished is not None:
            await previous.finished.wait()
        plan.finished = asyncio.Event()
        code: dict[Step, StepCode] = {
            Step.CLAIM: self._step_claim,
            Step.INTERLOCK: self._step_interlock,
            Step.ACTIVATE: self._step_activate,
            Step.LOAD: self._step_load,
            Step.DISARM: self._step_disarm,
            Step.STOP: self._step_stop,
            Step.SWEEP: self._step_sweep,
            Step.UNLOAD: self._step_unload,
        }
        try:
            await plan.run(steps, code)
        finally:
            plan.finished.set()
        if plan.done is False:
            pause = self.settings.takeover.retry_s if plan.name == "takeover" else self.settings.release.retry_s
            self._retry_mono = self.loop.time() + pause
            if not plan.abandoned:
                log.error("%s could not be finished: %s", plan.name, plan.failure)
                self.history.add(f"{plan.name}-failed", str(plan.failure), steps=plan.steps)
        self._wake.set()

    def _settled(self) -> None:
        if self.role is Role.ACTIVE:
            self._start(self._verify_programs("takeover-verified"))
            self._judge_wanted.set()
            self.replicator.wake()
        elif self.role is Role.STANDBY:
            self.programs.forget_groups()
        elif self.role is Role.FENCED:
            self._retry_mono = self.loop.time() + self.settings.release.retry_s

    def _keep_track_file(self) -> None:
        """Has keepalived give up MASTER (weight-0 track file) while the peer is the rightful active node."""
        if self.refused_mono is None:
            return
        over = self.loop.time() - self.refused_mono > HOLD_S
        peer_active = self.link.is_up and self.peer is not None and self.peer.role in OWNING_ROLES
        if self.vrrp_state is not VrrpState.MASTER and (over or not peer_active):
            self.refused_mono = None
            self._set_track(0)

    def _set_track(self, value: int) -> None:
        write_atomic(self._track_path, b"%d\n" % value, 0o644, durable=False)

    # ---- taking over --------------------------------------------------------------------------------------

    async def _step_claim(self) -> dict[str, Any]:
        known = self.ledger.known
        if self.peer is not None and outranks(self.peer.mark, known):
            known = self.peer.mark
        self.claim = claim_epoch(known, self.node, resuming=self._resuming)
        await self.ledger.claim(self.claim)
        self._save_role()
        self._resuming = True
        return {"epoch": self.claim.epoch}

    async def _step_interlock(self) -> dict[str, Any]:
        outcome = await self._ask_release()
        limits = self.settings.takeover
        if outcome["interlock"] == "refused":
            self._give_way()
            raise StepFailed("the peer is active and MASTER itself")
        if outcome["interlock"] in ("dead", "link-down") and limits.fence_command:
            outcome.update(await self._fence())
        if outcome["interlock"] in ("timeout", "left-running"):
            self.history.add("interlock-timeout", f"{outcome['interlock']}: policy is {limits.on_interlock_timeout}")
            if limits.on_interlock_timeout == "hold":
                raise StepFailed(f"the peer still has programs running ({outcome['interlock']}); policy is hold")
        return outcome

    async def _ask_release(self) -> dict[str, Any]:
        """Asks the peer to release and waits for its word. A peer that does not even say that it heard counts as dead."""
        if not self.link.is_up:
            return {"interlock": "link-down", "because": self.link.problem}
        limits = self.settings.takeover
        heard = asyncio.Event()
        message = {"op": "release", "epoch": self.claim.epoch, "claimed_by": self.claim.claimed_by}
        asking = asyncio.ensure_future(self.link.ask(message, limits.interlock_timeout_s, lambda _: heard.set()))
        hearing = asyncio.ensure_future(heard.wait())
        try:
            await asyncio.wait({asking, hearing}, timeout=limits.peer_probe_s, return_when=asyncio.FIRST_COMPLETED)
            if not heard.is_set() and not asking.done():
                self.link.give_up("no answer to the interlock")
                return {"interlock": "dead", "because": f"no sign of life within {limits.peer_probe_s:g} s"}
            answer = await asking
        except TimeoutError:
            return {"interlock": "timeout", "because": f"not released after {limits.interlock_timeout_s:g} s"}
        except (Disconnected, RemoteError) as error:
            return {"interlock": "dead", "because": str(error)}
        finally:
            hearing.cancel()
            asking.cancel()
            await asyncio.gather(asking, hearing, return_exceptions=True)
        return {"interlock": str(answer.get("outcome", "released"))}

    async def _fence(self) -> dict[str, Any]:
        limits = self.settings.takeover
        try:
            outcome = await run_program(limits.fence_command, limits.fence_timeout_s)
            result = {"fence_exit": outcome.code}
        except ProgramMissing as error:
            result = {"fence_exit": None}
            log.error("fence_command: %s", error)
        if result["fence_exit"] != 0 and limits.on_interlock_timeout == "hold":
            raise StepFailed("fence_command did not succeed; policy is hold")
        return result

    async def _step_activate(self) -> dict[str, Any]:
        manifest = self.view.manifest
        selection = await self.active_set.judge(manifest)
        await self.active_set.write(manifest, selection, keep_last_good=False)
        self.programs.remember_groups(selection.groups)
        for path, problem in selection.problems.items():
            log.error("%s can not be loaded on this node: %s", path, problem)
        return {"confs": len(selection.loadable), "not_loadable": dict(selection.problems)}

    async def _step_load(self) -> dict[str, Any]:
        """Loads the active set. What supervisord refuses all the same is taken out, one conf after the other."""
        start_all = self.settings.takeover.start_all
        for attempt in range(30):
            try:
                refused = await self.programs.load(start_all)
            except SupervisordDown as error:
                raise StepFailed(f"supervisord: {error}") from None
            except RereadRefused as error:
                await self._drop_culprit(str(error), attempt)
            else:
                return {"refused": refused} if refused else {}
        raise StepFailed("supervisord refuses the confs again and again")

    async def _drop_culprit(self, message: str, attempt: int) -> None:
        manifest = self.view.manifest
        name = culprit_of(message)
        if attempt == 0 or name is None or self.active_set.drop(name, message) is None:
            await self.active_set.judge(manifest, afresh=True)
            if attempt > 0:
                raise StepFailed(f"supervisord refuses its configuration: {message}")
        await self.active_set.write(manifest, self.active_set.selection, keep_last_good=False)
        self.history.add("reread-refused", message)

    async def _verify_programs(self, code: str) -> None:
        """Looks until every program runs or has failed, and puts the outcome into the history."""
        until = self.loop.time() + VERIFY_LIMIT_S
        began = self.loop.time()
        while self.role is Role.ACTIVE:
            try:
                seen = await self.programs.verify(self.active_set.selection.not_started)
            except SupervisordDown as error:
                self.history.add("supervisord-down", str(error))
                return
            if not seen.waiting or self.loop.time() > until:
                text = f"{seen.running} programs running, {len(seen.failed)} failed, {seen.waiting} still starting"
                took = round(self.loop.time() - began, 3)
                self.history.add(code, text, failed=seen.failed, running=seen.running, took_s=took)
                return
            await asyncio.sleep(VERIFY_POLL_S)

    # ---- releasing ----------------------------------------------------------------------------------------

    async def _step_disarm(self) -> dict[str, Any]:
        """Makes sure that neither a restarted supervisord nor a VIP left behind goes on with what ends here."""
        self._resuming = False
        self.active_set.remove()
        if not self.keepalived.is_alive and self.vip_here:
            vrrp = self.settings.vrrp
            outcome = await run_program([find_program("ip"), "addr", "del", vrrp.vip, "dev", vrrp.interface], 5.0)
            return {"vip_removed": outcome.code == 0}
        return {}

    async def _step_stop(self) -> dict[str, Any]:
        try:
            await self.programs.stop()
        except SupervisordDown as error:
            return {"supervisord": str(error)}
        return {}

    async def _step_sweep(self) -> dict[str, Any]:
        left = await self.programs.sweep()
        self.left_running = len(left)
        return {"left": [f"{p.process} (pid {p.pid})" for p in left[:20]]} if left else {}

    async def _step_unload(self) -> dict[str, Any]:
        """Unloads, and looks at the processes once more: this is the word that the peer waits for."""
        try:
            await self.programs.unload()
        except SupervisordDown as error:
            if await self.programs.is_up():
                raise StepFailed(str(error)) from None
        self.left_running = len(await self.programs.find_left())
        return {}

    # ---- confs: readiness of a standby, last good content of an active node --------------------------------

    async def _judge_loop(self) -> None:
        """Keeps the verdicts current, and on the active node the active set."""
        interval, idle = self.settings.readiness.interval_s, self.settings.readiness.idle_s
        next_full = self.loop.time() + interval
        self._judge_wanted.set()
        while True:
            wait = max(0.0, min(next_full - self.loop.time(), idle or interval))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._judge_wanted.wait(), wait)
            if self._judge_wanted.is_set():
                # The change travels first; several changes are judged together.
                await asyncio.sleep(JUDGE_PAUSE_ACTIVE_S if self.role is Role.ACTIVE else JUDGE_PAUSE_STANDBY_S)
            self._judge_wanted.clear()
            now = self.loop.time()
            full = now >= next_full
            if full:
                next_full = now + interval
            if full or self.view.manifest != self.active_set.judged:
                await self._judge(afresh=full)
            elif self.role not in OWNING_ROLES and now - self.checker.last_used_mono >= idle:
                await self.checker.close()

    async def _judge(self, *, afresh: bool) -> None:
        manifest = self.view.manifest
        before = dict(self.active_set.selection.problems)
        selection = await self.active_set.judge(manifest, afresh=afresh)
        if self.role is Role.ACTIVE and self.plan is None and self.active_set.is_current:
            try:
                await self.active_set.write(manifest, selection, keep_last_good=True)
                self.programs.remember_groups(selection.groups)
            except OSError as error:
                log.error("active set can not be written: %s", error)
        if selection.problems != before:
            for path in selection.problems.keys() - before.keys():
                self.history.add("conf-not-loadable", f"{path}: {selection.problems[path]}", path=path)

    # ---- the peer -----------------------------------------------------------------------------------------

    def _summary(self) -> dict[str, Any]:
        known = self.ledger.known
        return summary_message(
            self.node, self.role, self.vrrp_state, known, self.ledger.generation, self.view.manifest.hash
        )

    def _learn_peer(self, raw: Message) -> None:
        summary = PeerSummary.parse(raw, time.time())
        if summary.node != self.settings.peer.name:
            raise WrongPeer(f"the node at {self.settings.peer.address} calls itself {summary.node!r}, not {self.settings.peer.name!r}")
        changed = self.peer is None or self.peer.role is not summary.role
        self.peer = summary
        if self.role not in OWNING_ROLES and outranks(summary.mark, self.ledger.known):
            self.ledger.known = summary.mark
        if changed:
            self._wake.set()

    async def _greet_peer(self, link: PeerLink) -> None:
        """First exchange on a new connection: who are you, what do you hold."""
        try:
            answer = await link.ask({"op": "hello", **self._summary()}, self.settings.link.connect_timeout_s)
            self._learn_peer(answer)
        except WrongPeer as error:
            raise RemoteError(str(error)) from None
        self.replicator.learn_peer(await self._peer_manifest(link, str(answer["manifest"])))
        self.ledger.generation = max(self.ledger.generation, int(answer["generation"]))
        self.replicator.retry_now()

    async def _peer_manifest(self, link: PeerLink, manifest_hash: str) -> Manifest:
        for candidate in (self.view.manifest, self.ledger.agreed):
            if candidate.hash == manifest_hash:
                if self.role in OWNING_ROLES and candidate is self.view.manifest:
                    self.ledger.agree(candidate, self.ledger.known, self.ledger.generation)
                return candidate
        return Manifest.from_rows((await link.ask({"op": "manifest"}, 30.0))["rows"])

    async def _heartbeat(self) -> None:
        """Signs of life, so that a silent peer is noticed before it is needed."""
        every = self.settings.link.heartbeat_s
        while True:
            await asyncio.sleep(every)
            if not self.link.is_up:
                continue
            try:
                self._learn_peer(await self.link.ask({"op": "ping", **self._summary()}, 3 * every))
            except TimeoutError:
                self.link.give_up(f"silent for {3 * every:g} s")
            except (Disconnected, RemoteError, WrongPeer) as error:
                self.link.give_up(str(error))

    def _may_push(self) -> bool:
        return self.role is Role.ACTIVE

    def _push_was_stale(self, answer: Message) -> None:
        """The peer knows a newer epoch, or is active. If it is not, this node raises its own and goes on."""
        peer_mark = Watermark(int(answer.get("epoch", 0)), str(answer.get("claimed_by", "")))
        if answer.get("role") in {role.value for role in OWNING_ROLES}:
            self.history.add("split-brain", "both nodes are active; the one with the older epoch releases")
            self._wake.set()
            return
        if outranks(peer_mark, self.claim) or peer_mark.epoch == self.claim.epoch:
            self._start(self._raise_epoch(peer_mark))

    async def _raise_epoch(self, over: Watermark) -> None:
        if self.role is not Role.ACTIVE:
            return
        self.claim = Watermark(over.epoch + 1, self.node)
        await self.ledger.claim(self.claim)
        self._save_role()
        text = f"epoch raised to {self.claim.epoch}: the standby knew {over.epoch} of {over.claimed_by}"
        self.history.add("epoch-raised", text)
        self.replicator.retry_now()

    async def _serve_hello(self, message: Message, _progress: Progress) -> Message:
        self.link.nudge()
        return await self._serve_ping(message, _progress)

    async def _serve_ping(self, message: Message, _progress: Progress) -> Message:
        if message.get("node") == self.settings.peer.name:
            with contextlib.suppress(WrongPeer):
                self._learn_peer(message)
        return self._summary()

    async def _serve_manifest(self, _message: Message, _progress: Progress) -> Message:
        return await self.receiver.answer_manifest()

    async def _serve_transaction(self, message: Message, _progress: Progress) -> Message:
        return await self.receiver.receive(message.get("txn"))

    async def _serve_release(self, message: Message, progress: Progress) -> Message:
        """The interlock: answers when nothing of the registry is left running here, or why that will not be.

        A node that is active and that its own keepalived goes on to call MASTER refuses: in a dual master with a working
        link the node that is active already stays it, because that moves no program.
        """
        progress({"heard": True, "role": self.role.value})
        self._wake.set()
        asking = Watermark(int(message.get("epoch", 0)), str(message.get("claimed_by", "")))
        patience = self.loop.time() + self.settings.takeover.dual_master_s
        limit = self.loop.time() + self.settings.takeover.interlock_timeout_s
        while self.loop.time() < limit:
            if self.role is Role.STANDBY:
                if outranks(asking, self.ledger.known):
                    self.ledger.known = asking
                return {"outcome": "released"}
            if self.role is Role.FENCED:
                return {"outcome": "left-running", "left": self.left_running}
            owning_master = self.role in OWNING_ROLES and self.vrrp_state is VrrpState.MASTER
            if owning_master and self.loop.time() >= patience:
                if self.role is Role.ACTIVE or not outranks(asking, self.claim):
                    return {"outcome": "refused"}
                self._give_way()
            wait = (patience if owning_master else limit) - self.loop.time()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._role_changed.wait(), max(0.01, wait))
        return {"outcome": "timeout"}

    def _give_way(self) -> None:
        """Lets keepalived give up MASTER here; the rules then release."""
        self.refused_mono = self.loop.time()
        self._set_track(1)
        self._wake.set()

    # ---- operators ----------------------------------------------------------------------------------------

    async def _serve_peer_status(self, _message: Message, _progress: Progress) -> Message:
        return {"node": await describe_node(self)}

    async def _serve_status(self, _message: Message, _progress: Progress) -> Message:
        own, peer = await asyncio.gather(describe_node(self), self._query_peer())
        return {"nodes": [own, peer]}

    async def _query_peer(self) -> dict[str, Any]:
        problem = self.link.problem
        if self.link.is_up:
            try:
                answer = await self.link.ask({"op": "status"}, STATUS_WAIT_S)
                return {**answer["node"], "reachable": True}
            except (Disconnected, RemoteError, TimeoutError) as error:
                problem = str(error) or f"no answer within {STATUS_WAIT_S:g} s"
        last: dict[str, Any] = {"name": self.settings.peer.name, "reachable": False, "problem": problem}
        last["since"] = round(self.link.since_wall, 3)
        if self.peer is not None:
            last.update(
                role=self.peer.role.value,
                vrrp_state=self.peer.vrrp_state.value,
                epoch=self.peer.mark.epoch,
                generation=self.peer.generation,
                heard_at=round(self.peer.heard_wall, 3),
            )
        return last

    async def _serve_sync(self, message: Message, _progress: Progress) -> Message:
        """Compares everything, pushes, and answers when the peer has it, or why not."""
        if self.role is not Role.ACTIVE:
            return {"outcome": "refused", "reason": f"this node is {self.role.value}; run it on the active one"}
        self.view.request_compare()
        await asyncio.sleep(0)
        await self.view.settled()
        if message.get("accept_deletes") is True:
            self.history.add("deletes-accepted", "an operator confirmed the deletions")
            self.replicator.accept_deletes()
        self.replicator.retry_now()
        return await self._await_sync(float(message.get("timeout_s", 30.0)))

    async def _await_sync(self, timeout_s: float) -> Message:
        until = self.loop.time() + timeout_s
        while self.loop.time() < until:
            if not self.link.is_up:
                return {"outcome": "unreachable", "reason": self.link.problem}
            pending = self.replicator.pending()
            if pending is not None and not pending:
                return {"outcome": "in-sync", "confs": len(self.view.manifest)}
            if self.replicator.state.held:
                return {"outcome": "held", "reason": self.replicator.state.held}
            if self.replicator.state.refused:
                return {"outcome": "refused-by-peer", "reason": self.replicator.state.refused}
            progress = self.replicator.progress
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(progress.wait(), 0.2)
        return {"outcome": "timeout", "reason": f"not in sync after {timeout_s:g} s"}
