"""One group of programs on this node: everything that a role, a registry and their programs need, built from its settings.

A pair has one group today, ``default``. What the groups of a node would share comes in as ``SharedNode``.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from ha_agent.adapters.commit import Committer
from ha_agent.adapters.conf_checker import ConfChecker
from ha_agent.adapters.files import make_dir
from ha_agent.adapters.hook_runner import HookRunner
from ha_agent.adapters.keepalived import Keepalived
from ha_agent.adapters.keeper import KeeperClient
from ha_agent.adapters.machine import Machine
from ha_agent.adapters.procs import ProcessTable, ProcessWatch
from ha_agent.adapters.spool import read_ticks
from ha_agent.adapters.ssh import PeerLink
from ha_agent.adapters.store import Store
from ha_agent.adapters.watch import Watcher
from ha_agent.adapters.witness import Witness
from ha_agent.core.hooks import HookSettings
from ha_agent.core.orders import Orders
from ha_agent.core.peer_summary import PeerSummary
from ha_agent.core.places import RunPlaces, StatePlaces
from ha_agent.core.reasons import reason_of
from ha_agent.core.rules import Cause
from ha_agent.core.settings import (
    LinkSettings,
    OrderSettings,
    PeerSettings,
    ReadinessSettings,
    RegistrySettings,
    ReleaseSettings,
    Settings,
    SupervisorSettings,
    TakeoverSettings,
    VrrpSettings,
)
from ha_agent.core.vip import bare
from ha_agent.core.witness_settings import WitnessSettings
from ha_agent.core.words import Role
from ha_agent.daemon.events import Events
from ha_agent.daemon.peer.conversation import Conversation
from ha_agent.daemon.peer.interlock import Interlock
from ha_agent.daemon.peer.silence_watch import SilenceWatch
from ha_agent.daemon.programs.active_set import ActiveSet
from ha_agent.daemon.programs.loaded_groups import LoadedGroups
from ha_agent.daemon.programs.loader import Loader
from ha_agent.daemon.programs.local_groups import LocalGroups
from ha_agent.daemon.programs.orphan_hunt import OrphanHunt
from ha_agent.daemon.programs.readiness import Readiness
from ha_agent.daemon.programs.supervised import Supervised
from ha_agent.daemon.programs.sweep import Sweeper
from ha_agent.daemon.replication.acknowledgement import Acknowledger
from ha_agent.daemon.replication.editor import RegistryEditor
from ha_agent.daemon.replication.ledger import Ledger
from ha_agent.daemon.replication.receiver import Receiver
from ha_agent.daemon.replication.replicator import Replicator
from ha_agent.daemon.replication.view import RegistryView
from ha_agent.daemon.role.addresses import Addresses
from ha_agent.daemon.role.claims import Claims
from ha_agent.daemon.role.fitness import HOLD_LEAST_S, Fitness
from ha_agent.daemon.role.hand_back import HandBack
from ha_agent.daemon.role.hand_over import HandOver
from ha_agent.daemon.role.hooks import HookSteps
from ha_agent.daemon.role.inquiry import Inquiry
from ha_agent.daemon.role.loop import RoleLoop
from ha_agent.daemon.role.maintenance import Maintenance
from ha_agent.daemon.role.obedience import Obedience
from ha_agent.daemon.role.patrol import Patrol
from ha_agent.daemon.role.peer_off import PeerOffWord
from ha_agent.daemon.role.release import Release
from ha_agent.daemon.role.rival import Rival
from ha_agent.daemon.role.senses import Senses
from ha_agent.daemon.role.standby_order import StandbyOrders
from ha_agent.daemon.role.start_order import Bounds, StartOrder
from ha_agent.daemon.role.stop_order import StopOrders
from ha_agent.daemon.role.takeover import Takeover
from ha_agent.daemon.role.verification import Verifier
from ha_agent.daemon.standing import Standing
from ha_agent.daemon.upkeep import Upkeep
from ha_agent.daemon.votes.building import VotesParts, build_votes
from ha_agent.daemon.votes.votes import NoVotes
from ha_agent.daemon.waker import Waker

log = logging.getLogger(__name__)


REQUIRE_S = 1.0
"""One of takeover.require_any has this long to answer."""


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """What is configured of one group. ``label``: what its events carry in the history; None where there is one group."""

    label: str | None
    registry: RegistrySettings
    vrrp: VrrpSettings
    takeover: TakeoverSettings
    order: OrderSettings
    release: ReleaseSettings
    readiness: ReadinessSettings
    hooks: Mapping[str, HookSettings]
    run_dir: str
    state_dir: str
    keep_generations: int
    witness: WitnessSettings


def default_group(settings: Settings) -> GroupSettings:
    """The one group of a configuration without groups."""
    paths = settings.paths
    return GroupSettings(
        None,
        settings.registry,
        settings.vrrp,
        settings.takeover,
        settings.order,
        settings.release,
        settings.readiness,
        settings.hooks,
        paths.run_dir,
        paths.state_dir,
        paths.keep_generations,
        settings.witness,
    )


@dataclass(frozen=True, slots=True)
class SharedNode:
    """What all groups of a node share.

    ``keepalived`` watches its process, ``keepalived_unit`` asks, stops and starts it. ``clock``: monotonic, ``wall``: wall
    clock seconds, ``boot_clock``: those of CLOCK_BOOTTIME. ``hook_runner`` makes what runs a group's hooks, from the path of
    the file that says which process runs. ``logs``: changes go to the log, because no journal takes events. ``life``: what
    tells this boot from every other.
    """

    name: str
    address: str
    peer: PeerSettings
    link_limits: LinkSettings
    supervisor: SupervisorSettings
    link: PeerLink
    watcher: Watcher
    checker: ConfChecker
    supervised: Supervised
    table: ProcessTable
    local: LocalGroups
    keepalived: ProcessWatch
    keepalived_unit: Keepalived
    upkeep: Upkeep
    machine: Machine
    hook_runner: Callable[[str], HookRunner]
    maintenance: Maintenance
    standby_order: StandbyOrders
    events: Events
    start_task: Callable[[Coroutine[Any, Any, None]], object]
    clock: Callable[[], float]
    wall: Callable[[], float]
    logs: bool
    keeper: KeeperClient
    make_witness: Callable[[WitnessSettings], Witness]
    life: str
    boot_clock: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Group:
    """The parts of one group, for those who wire them to the node's own."""

    settings: GroupSettings
    events: Events
    waker: Waker
    standing: Standing
    store: Store
    committer: Committer
    ledger: Ledger
    view: RegistryView
    receiver: Receiver
    replicator: Replicator
    acknowledger: Acknowledger
    editor: RegistryEditor
    conversation: Conversation
    interlock: Interlock
    silence: SilenceWatch
    active_set: ActiveSet
    loaded: LoadedGroups
    sweeper: Sweeper
    loader: Loader
    readiness: Readiness
    fitness: Fitness
    hand_over: HandOver
    senses: Senses
    takeover: Takeover
    release: Release
    verifier: Verifier
    patrol: Patrol
    loop: RoleLoop
    start_order: StartOrder
    peer_off: PeerOffWord
    votes: NoVotes
    is_peer_machine_up: Callable[[float], Awaitable[bool]]
    """Asks the peer's machine, without its agent, within a limit in seconds."""

    def supervisord_ended(self) -> None:
        """A supervisord that begins again, after its end or a reload, must not start the registry beside what is left of it.

        Under maintenance nothing is touched: the caller looks.
        """
        self.waker.wake()
        if not self.standing.owns:
            return
        try:
            self.active_set.remove()
        except OSError as error:
            log.error("the active set cannot be emptied: %s", reason_of(error))

    def link_changed(self, *, is_up: bool) -> None:
        """The link went up or down."""
        if not is_up:
            self.replicator.learn_peer(None)
        self.replicator.wake()
        self.waker.wake()

    def addresses_changed(self) -> None:
        """An address came to this machine, or went."""
        self.senses.expect_vip_change()
        self.waker.wake()


@dataclass(frozen=True, slots=True)
class _Registry:
    """The registry's side of a group, and what was heard of the peer's."""

    store: Store
    committer: Committer
    ledger: Ledger
    view: RegistryView
    receiver: Receiver
    replicator: Replicator
    acknowledger: Acknowledger
    editor: RegistryEditor
    conversation: Conversation


@dataclass(frozen=True, slots=True)
class _Programs:
    """The programs' side of a group."""

    active_set: ActiveSet
    loaded: LoadedGroups
    sweeper: Sweeper
    loader: Loader
    readiness: Readiness


@dataclass(frozen=True, slots=True)
class _Role:
    """The role's side of a group."""

    claims: Claims
    interlock: Interlock
    silence: SilenceWatch
    fitness: Fitness
    senses: Senses
    takeover: Takeover
    release: Release
    verifier: Verifier
    patrol: Patrol
    loop: RoleLoop
    start_order: StartOrder
    peer_off: PeerOffWord


def build_group(settings: GroupSettings, shared: SharedNode) -> Group:
    """Builds a group and wires its parts to each other. Reads what a run directory holds; changes and starts nothing."""
    events = shared.events if settings.label is None else shared.events.labelled(settings.label)
    waker = Waker()
    standing = Standing(shared.name, RunPlaces(settings.run_dir).role)
    registry = _build_registry(settings, shared, events, waker, standing)
    votes = _build_votes(settings, shared, waker)
    registry.conversation.on_heard.append(votes.hear_peer)
    programs = _build_programs(settings, shared, events, standing, registry.view)
    role = _build_role(settings, shared, events, waker, standing, registry, programs, votes)

    def settled() -> None:
        if standing.role is Role.ACTIVE:
            programs.readiness.wake()
            registry.replicator.wake()

    role.loop.on_settled.append(settled)
    _add_upkeep(settings, shared.upkeep, standing, registry, programs, role)
    registry.view.on_change += [
        registry.replicator.wake,
        programs.readiness.wake,
        registry.receiver.report_local_edits,
    ]
    return Group(
        settings=settings,
        events=events,
        waker=waker,
        standing=standing,
        store=registry.store,
        committer=registry.committer,
        ledger=registry.ledger,
        view=registry.view,
        receiver=registry.receiver,
        replicator=registry.replicator,
        acknowledger=registry.acknowledger,
        editor=registry.editor,
        conversation=registry.conversation,
        interlock=role.interlock,
        silence=role.silence,
        active_set=programs.active_set,
        loaded=programs.loaded,
        sweeper=programs.sweeper,
        loader=programs.loader,
        readiness=programs.readiness,
        fitness=role.fitness,
        hand_over=HandOver(
            shared.peer.name,
            settings.vrrp,
            standing,
            shared.maintenance,
            role.fitness,
            registry.view,
            registry.conversation,
            registry.acknowledger,
            waker,
            shared.clock,
        ),
        senses=role.senses,
        takeover=role.takeover,
        release=role.release,
        verifier=role.verifier,
        patrol=role.patrol,
        loop=role.loop,
        start_order=role.start_order,
        peer_off=role.peer_off,
        votes=votes,
        is_peer_machine_up=functools.partial(shared.machine.answers_anywhere, shared.peer.paths, shared.peer.ssh_port),
    )


def _build_votes(settings: GroupSettings, shared: SharedNode, waker: Waker) -> NoVotes:
    return build_votes(
        settings.witness,
        VotesParts(
            node=shared.name,
            peer=shared.peer.name,
            life=shared.life,
            note=RunPlaces(settings.run_dir).votes,
            link=shared.link,
            keeper=shared.keeper,
            make_witness=shared.make_witness,
            find_kill_path=lambda: shared.table.kill_path,
            clock=shared.boot_clock,
            wake=waker.wake,
            wake_in=lambda seconds: waker.wake_at(shared.clock() + seconds),
        ),
    )


def _add_upkeep(
    settings: GroupSettings, upkeep: Upkeep, standing: Standing, registry: _Registry, programs: _Programs, role: _Role
) -> None:
    run = RunPlaces(settings.run_dir)

    def keep_directories() -> bool:
        made = [make_dir(path, mode) for path, mode in ((run.run_dir, 0o755), (run.spool, 0o755), (run.active_set, 0o700))]
        return any(made)

    # Before everything that lies below.
    upkeep.add("its directories", keep_directories, vital=True)
    upkeep.add("the state directory", registry.store.prepare)
    upkeep.add("the role", standing.keep, vital=True)
    upkeep.add("the list of groups", programs.loaded.keep, vital=True)
    upkeep.add("the active set", programs.readiness.keep, vital=True)
    upkeep.add("the track file", role.fitness.keep)
    upkeep.add("the epoch for programs", role.claims.keep)


def _build_registry(
    settings: GroupSettings, shared: SharedNode, events: Events, waker: Waker, standing: Standing
) -> _Registry:
    state = StatePlaces(settings.state_dir)
    store = Store(state.state_dir)
    committer = Committer(settings.registry.path, state.state_dir)
    ledger = Ledger(store, committer, settings.keep_generations)
    view = RegistryView(settings.registry, shared.watcher)
    view.agreed = lambda: ledger.agreed
    receiver = Receiver(settings.registry, standing, ledger, committer, view, events)
    replicator = Replicator(
        settings.registry, shared.link_limits, state.outgoing, standing, view, ledger, shared.link, events, shared.wall
    )
    acknowledger = Acknowledger(shared.peer.name, standing, shared.link, replicator, shared.clock)
    editor = RegistryEditor(committer, ledger, view, events, acknowledger)
    conversation = Conversation(
        shared.peer,
        shared.link_limits,
        standing,
        ledger,
        view,
        shared.link,
        replicator,
        waker.wake,
        shared.wall,
        on_doubt=lambda text: events.add("epoch-doubted", text),
        orders=lambda: Orders(shared.maintenance.is_on, shared.standby_order.order is not None),
    )
    return _Registry(store, committer, ledger, view, receiver, replicator, acknowledger, editor, conversation)


def _build_programs(
    settings: GroupSettings, shared: SharedNode, events: Events, standing: Standing, view: RegistryView
) -> _Programs:
    run = RunPlaces(settings.run_dir)
    local_names = shared.local.defined
    active_set = ActiveSet(settings.registry.path, run.active_set, shared.checker, view.read_content, local_names)
    loaded = LoadedGroups(run.groups)
    shared.local.join(loaded)
    sweeper = Sweeper(settings.release, shared.table, shared.supervised, loaded, shared.local)
    loader = Loader(shared.supervisor, settings.release, shared.supervised, loaded, shared.local, shared.table)
    readiness = Readiness(settings.readiness, standing, view, active_set, loaded, shared.checker, events, shared.clock)
    return _Programs(active_set, loaded, sweeper, loader, readiness)


@dataclass(frozen=True, slots=True)
class _Procedures:
    """What changes the role, and what says whether it may."""

    claims: Claims
    interlock: Interlock
    silence: SilenceWatch
    fitness: Fitness
    takeover: Takeover
    release: Release
    verifier: Verifier
    start_order: StartOrder
    peer_off: PeerOffWord


@dataclass(frozen=True, slots=True)
class _Watchers:
    """What looks at keepalived, at the addresses and at the processes, between the changes of role."""

    senses: Senses
    obedience: Obedience
    addresses: Addresses
    patrol: Patrol


def _build_role(
    settings: GroupSettings,
    shared: SharedNode,
    events: Events,
    waker: Waker,
    standing: Standing,
    registry: _Registry,
    programs: _Programs,
    votes: NoVotes,
) -> _Role:
    steps = _build_procedures(settings, shared, events, waker, standing, registry, programs, votes)
    watchers = _build_watchers(settings, shared, events, waker, standing, registry, programs, steps.fitness)
    loop = RoleLoop(
        standing,
        watchers.senses,
        steps.takeover,
        steps.release,
        steps.verifier,
        steps.start_order,
        steps.claims,
        watchers.patrol,
        steps.fitness,
        watchers.obedience,
        watchers.addresses,
        shared.maintenance,
        shared.standby_order,
        shared.upkeep,
        registry.conversation,
        votes,
        programs.loaded,
        events,
        waker,
        shared.start_task,
        shared.clock,
        (settings.takeover.retry_s, settings.release.retry_s),
        logs=shared.logs,
    )
    rival = Rival(steps.claims, registry.conversation, events, waker, shared.start_task)
    registry.replicator.on_stale.append(rival.hear)
    loop.on_transition += [steps.peer_off.hear_transition, steps.start_order.hear_transition]
    registry.conversation.on_heard.append(steps.peer_off.hear_peer)
    return _Role(
        steps.claims,
        steps.interlock,
        steps.silence,
        steps.fitness,
        watchers.senses,
        steps.takeover,
        steps.release,
        steps.verifier,
        watchers.patrol,
        loop,
        steps.start_order,
        steps.peer_off,
    )


def _build_interlock(
    limits: TakeoverSettings, shared: SharedNode, events: Events, standing: Standing, registry: _Registry
) -> tuple[SilenceWatch, Interlock]:
    """What knows of the peer's silence before a takeover asks, and what asks then."""
    machine, peer, clock = shared.machine, shared.peer, shared.clock
    silence = SilenceWatch(
        limits.peer_probe_s,
        standing,
        functools.partial(machine.open_adverts, peer.paths, clock),
        functools.partial(machine.open_questions, peer.paths, peer.ssh_port),
        clock,
    )
    shared.link.on_frame.append(silence.note_sign)
    registry.conversation.on_heard.append(silence.note_sign)
    is_machine_up = functools.partial(machine.answers_anywhere, peer.paths, peer.ssh_port, limits.peer_probe_s)
    interlock = Interlock(limits, standing, registry.ledger, shared.link, events, is_machine_up, clock, silence.find_silence)
    return silence, interlock


def _build_waits(
    settings: GroupSettings,
    shared: SharedNode,
    events: Events,
    standing: Standing,
    programs: _Programs,
    hand_back: HandBack,
    giving_way: Callable[[Cause], Callable[[str], None]],
    has_votes: Callable[[], bool],
) -> tuple[HookSteps, StartOrder]:
    """What a takeover waits for besides supervisord: hooks, and programs that come before others."""
    hooks = HookSteps(
        settings.hooks,
        (shared.name, shared.peer.name, settings.label or "default"),
        standing,
        events,
        shared.hook_runner(RunPlaces(settings.run_dir).hook).run,
        hand_back,
        giving_way(Cause.HOOK),
        has_votes,
    )
    start_order = StartOrder(
        settings.order,
        standing,
        programs.active_set,
        shared.supervised,
        programs.loaded,
        events,
        hand_back,
        Bounds(lambda: not shared.maintenance.is_on and has_votes(), giving_way(Cause.WAIT)),
        shared.machine.takes_connection,
        shared.clock,
        start_all=settings.takeover.start_all,
    )
    return hooks, start_order


def _build_procedures(
    settings: GroupSettings,
    shared: SharedNode,
    events: Events,
    waker: Waker,
    standing: Standing,
    registry: _Registry,
    programs: _Programs,
    votes: NoVotes,
) -> _Procedures:
    run, limits, peer = RunPlaces(settings.run_dir), settings.takeover, shared.peer
    silence, interlock = _build_interlock(limits, shared, events, standing, registry)
    fitness = Fitness(run.track_file, events, waker.wake_at, shared.standby_order.find_reason)

    def giving_way(cause: Cause) -> Callable[[str], None]:
        def give_way(reason: str) -> None:
            fitness.give_way(shared.clock(), reason, cause)
            waker.wake()

        return give_way

    def has_votes() -> bool:
        left_s = votes.find_left_s()
        return left_s is None or left_s > 0

    def reachable_peer() -> PeerSummary | None:
        return registry.conversation.peer if shared.link.is_up else None

    hand_back = HandBack(standing, reachable_peer, shared.clock)
    hooks, start_order = _build_waits(settings, shared, events, standing, programs, hand_back, giving_way, has_votes)
    claims = Claims(standing, registry.ledger, events, registry.replicator.retry_now, RunPlaces(settings.run_dir).epoch)
    peer_off = PeerOffWord(peer.name, events)
    takeover = Takeover(
        limits,
        standing,
        claims,
        interlock,
        registry.view,
        programs.active_set,
        shared.supervised,
        programs.loaded,
        programs.loader,
        OrphanHunt(shared.supervised, programs.sweeper, shared.clock),
        hooks,
        start_order,
        events,
        peer=lambda: registry.conversation.peer,
        fence=functools.partial(shared.machine.fence, limits.fence_command, limits.fence_timeout_s),
        is_connected=functools.partial(shared.machine.any_answers, limits.require_any, REQUIRE_S),
        give_way=giving_way(Cause.REFUSED),
        peer_off=peer_off,
        votes=votes,
    )

    stop_orders = StopOrders(
        settings.order.stop_s, standing, fitness, shared.standby_order, start_order, shared.keepalived, reachable_peer
    )
    release = Release(
        standing,
        programs.active_set,
        shared.supervised,
        programs.loader,
        programs.sweeper,
        shared.keepalived,
        hooks,
        events,
        votes,
        stop_orders.find,
        _make_remover(settings, shared),
    )
    verifier = Verifier(standing, programs.active_set, programs.loader, events, shared.clock, start_order.count_open)
    return _Procedures(claims, interlock, silence, fitness, takeover, release, verifier, start_order, peer_off)


def _make_remover(
    settings: GroupSettings, shared: SharedNode
) -> Callable[[Collection[str] | None], Coroutine[Any, Any, bool]]:
    vrrp = settings.vrrp

    async def remove(only: Collection[str] | None) -> bool:
        vips = [vip for vip in vrrp.all_vips if only is None or bare(vip) in only]
        return await shared.machine.remove_addresses(vips, vrrp.interface)

    return remove


def _build_watchers(
    settings: GroupSettings,
    shared: SharedNode,
    events: Events,
    waker: Waker,
    standing: Standing,
    registry: _Registry,
    programs: _Programs,
    fitness: Fitness,
) -> _Watchers:
    run, vrrp = RunPlaces(settings.run_dir), settings.vrrp

    def have_it_report_anew() -> None:
        # FAULT and then fit again makes two reports, whatever the state is.
        if not shared.maintenance.is_on:
            fitness.give_way(shared.clock(), "keepalived's report is lost, and it does not answer", hold_s=HOLD_LEAST_S)
            waker.wake()

    inquiry = Inquiry(
        shared.keepalived_unit,
        vrrp.instance,
        events,
        waker.wake,
        have_it_report_anew,
        shared.start_task,
        shared.clock,
        read_ticks,
    )
    senses = Senses(
        run.spool,
        shared.keepalived,
        inquiry,
        shared.supervised,
        functools.partial(shared.machine.find_addresses, vrrp.all_vips),
        waker.wake_at,
        shared.supervisor.restart_wait_s,
    )
    obedience = Obedience(
        shared.keepalived_unit,
        shared.keepalived,
        settings.run_dir,
        StatePlaces(settings.state_dir).keepalived_stopped,
        events,
        shared.start_task,
        waker.wake_at,
    )
    addresses = Addresses(
        shared.address,
        standing,
        registry.conversation,
        events,
        functools.partial(shared.machine.has_address, shared.address),
        _make_remover(settings, shared),
        shared.start_task,
        waker.wake_at,
    )
    patrol = Patrol(
        standing,
        programs.sweeper,
        registry.ledger,
        shared.maintenance,
        events,
        run.adopt,
        waker.wake,
        shared.start_task,
    )
    return _Watchers(senses, obedience, addresses, patrol)
