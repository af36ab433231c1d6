"""Gathers a node's account of itself: the only reader of everything. Changes nothing, and waits for nobody."""

from __future__ import annotations

from collections.abc import Callable

from ha_agent.adapters.procs import ProcessWatch
from ha_agent.adapters.ssh import PeerLink
from ha_agent.core.account import DrillAccount, NodeAccount, PushAccount
from ha_agent.core.settings import PeerSettings, VrrpSettings
from ha_agent.daemon.checks.watch import NoChecks
from ha_agent.daemon.drift.watch import NoDrift
from ha_agent.daemon.drill import Drill
from ha_agent.daemon.payload.payload import NoPayload
from ha_agent.daemon.peer.conversation import Conversation
from ha_agent.daemon.programs.active_set import ActiveSet
from ha_agent.daemon.programs.readiness import Readiness
from ha_agent.daemon.programs.supervised import Supervised
from ha_agent.daemon.replication.ledger import Ledger
from ha_agent.daemon.replication.receiver import Receiver
from ha_agent.daemon.replication.replicator import Replicator
from ha_agent.daemon.replication.view import RegistryView
from ha_agent.daemon.role.fitness import Fitness
from ha_agent.daemon.role.maintenance import Maintenance
from ha_agent.daemon.role.patrol import Patrol, describe
from ha_agent.daemon.role.spells import Spells
from ha_agent.daemon.role.standby_order import StandbyOrders
from ha_agent.daemon.role.start_order import StartOrder
from ha_agent.daemon.role.verification import Verifier
from ha_agent.daemon.standing import Standing
from ha_agent.daemon.upkeep import Upkeep
from ha_agent.daemon.votes.votes import NoVotes


class Accountant:
    """For one group on this node. ``lag_s``: how long a change may wait for the peer.

    ``silence``: how supervisord does not answer, None where it does.
    """

    def __init__(
        self,
        peer: PeerSettings,
        vrrp: VrrpSettings,
        registry_path: str,
        lag_s: float,
        standing: Standing,
        ledger: Ledger,
        view: RegistryView,
        receiver: Receiver,
        replicator: Replicator,
        active_set: ActiveSet,
        readiness: Readiness,
        supervised: Supervised,
        keepalived: ProcessWatch,
        fitness: Fitness,
        upkeep: Upkeep,
        maintenance: Maintenance,
        standby_order: StandbyOrders,
        drill: Drill,
        link: PeerLink,
        conversation: Conversation,
        silence: Callable[[], str | None],
        patrol: Patrol,
        spells: Spells,
        verifier: Verifier,
        start_order: StartOrder,
        votes: NoVotes,
        checks: NoChecks,
        payload: NoPayload,
        drift: NoDrift,
    ) -> None:
        self._peer, self._vrrp, self._registry_path, self._lag_s = peer, vrrp, registry_path, lag_s
        self._standing, self._ledger, self._view = standing, ledger, view
        self._receiver, self._replicator = receiver, replicator
        self._active_set, self._readiness, self._supervised = active_set, readiness, supervised
        self._keepalived, self._fitness, self._maintenance = keepalived, fitness, maintenance
        self._upkeep, self._standby_order = upkeep, standby_order
        self._drill, self._link, self._conversation = drill, link, conversation
        self._silence, self._patrol = silence, patrol
        self._spells, self._verifier, self._votes = spells, verifier, votes
        self._start_order = start_order
        self._checks, self._payload, self._drift = checks, payload, drift

    def gather(self, at_wall: float) -> NodeAccount:
        """The account as of now, which is ``at_wall`` by the wall clock."""
        standing, view, refusal = self._standing, self._view, self._receiver.last_refusal
        record = self._drill.record
        return NodeAccount(
            node=standing.node,
            peer_name=self._peer.name,
            at_wall=at_wall,
            role=standing.role,
            vrrp_state=standing.vrrp_state,
            vip_here=standing.vip_here,
            vips=standing.vips,
            claim=standing.claim,
            known=self._ledger.known,
            generation=self._ledger.generation,
            plan=standing.plan.name if standing.plan else None,
            step=standing.plan.current_step if standing.plan else None,
            last_failure=standing.last_failure,
            held=standing.held,
            left_running=standing.left_running,
            adrift=tuple(map(describe, self._patrol.adrift)),
            last_transition=standing.last_transition,
            verifying=self._verifier.is_under_way,
            waits=self._start_order.describe(at_wall),
            ran_twice=self._spells.ran_twice,
            votes=self._votes.describe(),
            checks=self._checks.describe(),
            payload_sync=self._payload.describe(at_wall),
            drift=self._drift.describe(),
            agreement=self._conversation.agreement,
            unfit=self._fitness.reason,
            notes_problem=self._upkeep.problem,
            notes_low=self._upkeep.low,
            maintenance=self._maintenance.window if self._maintenance.is_on else None,
            standby_order=self._standby_order.order,
            drill=DrillAccount(record.id, record.by, record.mode) if record else None,
            preempt=not self._vrrp.nopreempt,
            priority=self._vrrp.priority,
            keepalived_alive=self._keepalived.is_alive,
            supervisord_alive=self._supervised.process.is_alive,
            supervisord_silence=self._silence(),
            link_up=self._link.is_up,
            link_problem=self._link.problem,
            link_path=self._link.path,
            paths=self._link.paths.all if self._link.paths.are_several else (),
            peer=self._conversation.peer,
            registry_path=self._registry_path,
            manifest=view.manifest,
            refused_files=view.refused,
            registry_problem=view.unavailable,
            push=self._gather_push(at_wall),
            local_edits=() if standing.owns else self._ledger.local_edits(view.manifest),
            last_refusal=f"{refusal[0].value}: {refusal[1]}" if refusal else None,
            selection=self._active_set.selection,
            judged_is_current=self._readiness.is_current,
            checker_failure=self._active_set.failure,
        )

    def _gather_push(self, at_wall: float) -> PushAccount:
        if not self._standing.owns:
            return PushAccount()
        state, pending = self._replicator.state, self._replicator.pending()
        doubt = self._view.doubt
        count = None if pending is None or doubt else len(pending)
        since = state.pending_since_wall
        is_late = bool(since) and at_wall - (since or at_wall) >= self._lag_s
        return PushAccount(state.held, state.refused, state.pushed, count, since, doubt, is_late)
