"""The role loop: gathers facts, asks the rules, carries out what they decide. The one writer of the role and of the plan.

The loop is level-triggered: whatever happens only wakes it. It never blocks; plans run as tasks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from ha_agent.core.plans import RELEASE_STEPS, TAKEOVER_STEPS, outranks, steps_of
from ha_agent.core.reasons import reason_of
from ha_agent.core.rules import Decision, Facts, decide
from ha_agent.core.transitions import Transition
from ha_agent.core.words import Action, Role, Step
from ha_agent.daemon.events import Event, Events
from ha_agent.daemon.peer.conversation import Conversation
from ha_agent.daemon.programs.loaded_groups import LoadedGroups
from ha_agent.daemon.role.addresses import Addresses
from ha_agent.daemon.role.claims import Claims
from ha_agent.daemon.role.fitness import Fitness
from ha_agent.daemon.role.maintenance import Maintenance
from ha_agent.daemon.role.obedience import Obedience
from ha_agent.daemon.role.patrol import Patrol
from ha_agent.daemon.role.plan_run import PlanRun
from ha_agent.daemon.role.release import Release
from ha_agent.daemon.role.senses import Senses
from ha_agent.daemon.role.standby_order import StandbyOrders
from ha_agent.daemon.role.start_order import StartOrder
from ha_agent.daemon.role.takeover import Takeover
from ha_agent.daemon.role.verification import Verifier
from ha_agent.daemon.standing import Standing
from ha_agent.daemon.upkeep import Upkeep
from ha_agent.daemon.votes.votes import NoVotes
from ha_agent.daemon.waker import Waker

log = logging.getLogger(__name__)

LAST_EVENTS = 500
"""A restarted agent looks this far back for the last change of role."""

FAILURES = 5
FAILED_PAUSE_S = 0.5

StartTask = Callable[[Coroutine[Any, Any, None]], object]


class RoleLoop:
    """The role of one group on this node.

    ``retry_s``: the pauses after a takeover and after a release that could not be finished. ``start_task`` has a coroutine
    done beside the loop. ``clock``: the event loop's monotonic clock. ``logs``: whether changes go to the log, because no
    journal takes the events.
    """

    def __init__(
        self,
        standing: Standing,
        senses: Senses,
        takeover: Takeover,
        release: Release,
        verifier: Verifier,
        start_order: StartOrder,
        claims: Claims,
        patrol: Patrol,
        fitness: Fitness,
        obedience: Obedience,
        addresses: Addresses,
        maintenance: Maintenance,
        standby_order: StandbyOrders,
        upkeep: Upkeep,
        conversation: Conversation,
        votes: NoVotes,
        loaded: LoadedGroups,
        events: Events,
        waker: Waker,
        start_task: StartTask,
        clock: Callable[[], float],
        retry_s: tuple[float, float],
        *,
        logs: bool,
    ) -> None:
        self._standing, self._senses = standing, senses
        self._takeover, self._release, self._verifier, self._claims = takeover, release, verifier, claims
        self._patrol, self._start_order = patrol, start_order
        self._fitness, self._obedience, self._addresses = fitness, obedience, addresses
        self._maintenance, self._standby_order = maintenance, standby_order
        self._upkeep, self._conversation, self._votes = upkeep, conversation, votes
        self._loaded, self._events = loaded, events
        self._waker, self._start_task, self._clock = waker, start_task, clock
        self._takeover_retry_s, self._release_retry_s = retry_s
        self._logs = logs
        self._run: PlanRun | None = None
        self._retry_mono = 0.0
        self._stopping = False
        self.on_transition: list[Callable[[Transition], None]] = []
        self.on_settled: list[Callable[[], None]] = []
        """Called when the node has become active and when it has become standby."""

    # ---- life ---------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Has ``run`` return."""
        self._stopping = True
        self._waker.wake()

    async def resume(self) -> None:
        """Takes up the role that an agent of this boot had before. After a reboot that is standby."""
        standing = self._standing
        damage = standing.resume()
        if damage is not None:
            self._events.add("role-damaged", damage)
        await self._patrol.resume()
        self._votes.resume(standing.role)
        standing.note_transition(await asyncio.to_thread(self._find_last_transition))
        self._claims.learn_own()
        self._claims.resuming = standing.owns
        if standing.role in (Role.TAKING_OVER, Role.RELEASING):
            self._note_run(PlanRun("resumed", "the agent was started again", done=False))
        if standing.role is Role.ACTIVE:
            self._start_order.resume()
            self._start_task(self._start_order.run())
            self._start_task(self._verifier.verify(resumed=True))

    def _find_last_transition(self) -> Event:
        try:
            events = self._events.read(LAST_EVENTS)
        except OSError as error:
            log.error("the history cannot be read: %s", reason_of(error))
            return {}
        return next((e for e in reversed(events) if "from" in e and "to" in e), {})

    async def run(self) -> None:
        """Decides until ``stop``. A look that fails is told and tried again; the last of ``FAILURES`` in a row is raised."""
        failures = 0
        while not self._stopping:
            try:
                self._look()
                failures = 0
            except Exception as error:
                failures += 1
                log.exception("the role could not be looked at (%d)", failures)
                self._events.add("look-failed", f"the role could not be looked at: {type(error).__name__}: {error}")
                if failures >= FAILURES:
                    # Another process may do better, and one that cannot be started is fenced.
                    raise
                self._waker.wake_at(self._clock() + FAILED_PAUSE_S)
            await self._waker.wait()

    def _look(self) -> None:
        facts = self._gather_facts()
        if not self._maintenance.update():
            self._decide(facts)
            self._update_fitness()

    # ---- deciding -----------------------------------------------------------------------------------------

    def _decide(self, facts: Facts) -> None:
        for _ in range(len(Role) + 1):
            decision = decide(self._standing.role, facts)
            if decision is None:
                break
            self._carry_out(decision)
            facts = self._gather_facts()

    def _gather_facts(self) -> Facts:
        standing, senses = self._standing, self._senses
        keepalived_alive = senses.sense_keepalived()
        now = self._clock()
        standing.note_vip(senses.sense_vip(now), senses.vips)
        self._note_vrrp(now)
        supervisord_gone = senses.is_supervisord_gone(now)
        self._addresses.tell_peer()
        loaded_into = standing.loaded_into
        return Facts(
            now_mono=now,
            vrrp_state=standing.vrrp_state,
            keepalived_alive=keepalived_alive,
            vip_here=standing.vip_here,
            superseded=self._is_superseded(),
            gives_way=self._fitness.gives_way,
            plan_done=self._run.done if self._run else None,
            left_running=standing.left_running,
            retry_due=now >= self._retry_mono,
            supervisord_replaced=loaded_into is not None and loaded_into.is_other_than(senses.sense_supervisord()),
            supervisord_gone=supervisord_gone,
            vrrp_asked=senses.is_asking,
            stays_standby=self._standby_order.order is not None,
            votes_left_s=self._votes.find_left_s(),
        )

    def _note_vrrp(self, now: float) -> None:
        before, state = self._standing.vrrp_state, self._senses.sense_vrrp(now)
        if state is before:
            return
        if self._logs:
            log.info("VRRP state %s -> %s", before.value, state.value)
        self._events.add("vrrp", f"{before.value} -> {state.value}", vrrp_state=state.value)
        self._standing.note_vrrp(state)

    def _is_superseded(self) -> bool:
        """Whether the peer is active under a newer epoch. While this node takes over, the interlock decides that."""
        peer, standing = self._conversation.peer, self._standing
        return (
            standing.role is Role.ACTIVE
            and peer is not None
            and self._conversation.peer_owns
            and peer.role is Role.ACTIVE
            and outranks(peer.mark, standing.claim)
        )

    def _update_fitness(self) -> None:
        now, standing = self._clock(), self._standing
        self._fitness.update(
            now,
            standing.role,
            standing.vrrp_state,
            standing.vip_here,
            supervisord_gone=self._senses.is_supervisord_gone(now),
            peer_owns=self._conversation.peer_owns,
            notes_problem=self._upkeep.vital_problem,
            isolated=self._addresses.find_isolation(now),
            voteless=self._votes.find_unfitness(),
        )
        self._obedience.update(now, self._fitness.reason, standing.vrrp_state, standing.vip_here)
        self._addresses.remove_stray(now)

    def retry_now(self) -> None:
        """Has a plan that could not be finished tried again at once: what it waits for may be there."""
        self._retry_at(self._clock())
        self._waker.wake()

    def give_way(self, reason: str) -> None:
        """Has keepalived give up MASTER here for a while; the rules then release."""
        self._fitness.give_way(self._clock(), reason)
        self._waker.wake()

    # ---- carrying out -------------------------------------------------------------------------------------

    def _carry_out(self, decision: Decision) -> None:
        if decision.role is not self._standing.role:
            self._change_role(decision)
        if decision.action is Action.TAKE_OVER:
            self._begin("takeover", decision, TAKEOVER_STEPS)
        elif decision.action is Action.RELEASE:
            self._begin("release", decision, RELEASE_STEPS)
        else:
            self._note_run(None)
            self._settle()

    def _change_role(self, decision: Decision) -> None:
        standing, before, run = self._standing, self._standing.role, self._run
        report: dict[str, Any] = {
            "from": before.value,
            "to": decision.role.value,
            "vrrp_state": standing.vrrp_state.value,
        }
        took_s = None
        if run is not None and run.steps:
            took_s = round(self._clock() - run.began_mono, 4)
            report.update(plan=run.name, steps=run.steps, took_s=took_s)
        standing.become(decision.role)
        if self._logs:
            log.info("role %s -> %s: %s", before.value, decision.role.value, decision.reason)
        event = self._events.add(decision.code, decision.reason, **report)
        standing.note_transition(event)
        steps = tuple(run.steps) if run is not None else ()
        told = Transition(before, decision.role, decision.reason, float(event["at"]), took_s, steps, event)
        for listener in self.on_transition:
            listener(told)

    def _note_run(self, run: PlanRun | None) -> None:
        self._run = run
        self._standing.note_plan(run)

    def _begin(self, name: str, decision: Decision, steps: tuple[Step, ...]) -> None:
        previous, run = self._run, PlanRun(name, decision.reason)
        self._note_run(run)
        if previous is not None:
            previous.abandon()
        self._start_task(self._run_plan(previous, run, steps))

    async def _run_plan(self, previous: PlanRun | None, run: PlanRun, steps: tuple[Step, ...]) -> None:
        """Waits for a plan that is being abandoned, then runs this one. Two never overlap."""
        if previous is not None and previous.finished is not None:
            await previous.finished.wait()
        run.finished = asyncio.Event()
        try:
            code = {**self._takeover.steps, **self._release.steps}
            await run.run(steps_of(steps, code), code)
        finally:
            run.finished.set()
        if run.done:
            self._standing.note_failure(None)
        else:
            pause = self._takeover_retry_s if run.name == "takeover" else self._release_retry_s
            self._retry_at(self._clock() + pause)
            if not run.abandoned:
                self._note_failed(run)
        self._waker.wake()

    def _note_failed(self, run: PlanRun) -> None:
        if run.failure != self._standing.last_failure:
            log.error("%s could not be finished: %s", run.name, run.failure)
            self._events.add(f"{run.name}-failed", str(run.failure), steps=run.steps)
        self._standing.note_failure(run.failure)

    def _retry_at(self, moment_mono: float) -> None:
        self._retry_mono = moment_mono
        self._waker.wake_at(moment_mono)

    def _settle(self) -> None:
        if self._standing.role is Role.ACTIVE:
            self._start_task(self._start_order.run())
            self._start_task(self._verifier.verify(resumed=False))
        elif self._standing.role is Role.STANDBY:
            self._claims.resuming = False
            self._standing.note_loaded(None)
            self._loaded.forget()
        elif self._standing.role is Role.FENCED:
            self._retry_at(self._clock() + self._release_retry_s)
            return
        self._patrol.settled()
        for listener in self.on_settled:
            listener()
