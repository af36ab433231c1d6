"""Builds the handlers of all operations for one group, and what they share. Wiring alone, as ``group``."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from dataclasses import dataclass

from ha_agent.adapters.addresses import has_address
from ha_agent.adapters.procs import owner_of
from ha_agent.core.places import RunPlaces
from ha_agent.core.settings import Settings
from ha_agent.core.surroundings import read_nothing, surroundings_of
from ha_agent.daemon.account import Accountant
from ha_agent.daemon.alerts.delivery import Delivery
from ha_agent.daemon.alerts.program_watcher import ProgramWatcher
from ha_agent.daemon.alerts.records import AlertRecords
from ha_agent.daemon.drift.watch import NoDrift
from ha_agent.daemon.drill import Drill
from ha_agent.daemon.group import Group, SharedNode
from ha_agent.daemon.operations.alerts import AlertOperations
from ha_agent.daemon.operations.commands import Commands
from ha_agent.daemon.operations.drill import DrillOperations
from ha_agent.daemon.operations.figures import Figures
from ha_agent.daemon.operations.from_peer import PeerOperations
from ha_agent.daemon.operations.kept import KeptOperations
from ha_agent.daemon.operations.known_programs import KnownPrograms
from ha_agent.daemon.operations.looking import Looking
from ha_agent.daemon.operations.node import NodeOperations
from ha_agent.daemon.operations.orders import OrderOperations
from ha_agent.daemon.operations.pair import PairOperations
from ha_agent.daemon.operations.payload import PayloadOperations
from ha_agent.daemon.operations.program_views import ProgramViews
from ha_agent.daemon.operations.programs import ProgramCommands
from ha_agent.daemon.operations.registration import Registration
from ha_agent.daemon.operations.restore import RestoreOperations
from ha_agent.daemon.operations.role import RoleOperations
from ha_agent.daemon.operations.settings import SettingsOperations
from ha_agent.daemon.operations.status import StatusReporter
from ha_agent.daemon.operations.supervisor_calls import SupervisorCalls
from ha_agent.daemon.operations.table import Rooms
from ha_agent.daemon.operations.update import UpdateCommand
from ha_agent.daemon.operations.usage import ProgramUsage
from ha_agent.daemon.payload.payload import NoPayload
from ha_agent.daemon.programs.catalogue import CatalogueReader
from ha_agent.daemon.programs.judgement import Judgement
from ha_agent.daemon.programs.partial_groups import PartialGroups
from ha_agent.daemon.programs.runs import ProgramRuns

ANSWERED_S = 0.3
"""After this an answer has left the node, and has reached an operator at the peer."""


@dataclass(frozen=True, slots=True)
class AlertParts:
    """The parts of alerts, the drill, the payload and the comparison of files that operations ask.

    ``wake`` has alerts looked at soon.

    ``supervisord_begins``: the listener says that supervisord begins again; ``True`` where it is only about to.
    """

    accountant: Accountant
    watcher: ProgramWatcher
    records: AlertRecords
    delivery: Delivery
    wake: Callable[[], None]
    drill: Drill
    supervisord_begins: Callable[[bool], None]
    payload: NoPayload
    drift: NoDrift


@dataclass(frozen=True, slots=True)
class Tools:
    """What several handlers stand on."""

    catalogue: CatalogueReader
    judgement: Judgement
    partial: PartialGroups
    runs: ProgramRuns
    status: StatusReporter
    commands: Commands


def build_tools(
    settings: Settings, shared: SharedNode, group: Group, accountant: Accountant, watcher: ProgramWatcher
) -> Tools:
    """Builds what the handlers of ``build_rooms`` share. Starts nothing."""
    known = KnownPrograms(group.standing, shared.supervised, group.loaded, shared.clock, shared.wall)
    watcher.on_feed.append(known.hear)
    partial = PartialGroups(RunPlaces(settings.paths.run_dir).partial_groups, group.active_set)
    return Tools(
        catalogue=CatalogueReader(group.view, group.active_set, group.readiness),
        judgement=Judgement(
            settings.registry.path,
            settings.peer.name,
            group.view,
            shared.checker,
            shared.link,
            shared.local.defined,
            surroundings_of(settings, read_nothing, settings.registry.path),
        ),
        partial=partial,
        runs=ProgramRuns(
            group.standing, shared.supervised, group.loaded, group.loader, group.sweeper, partial, shared.clock
        ),
        status=StatusReporter(
            accountant,
            known,
            group.loaded,
            group.active_set,
            shared.wall,
            start_all=settings.takeover.start_all,
        ),
        commands=Commands(settings.peer.name, group.standing, group.conversation, group.editor),
    )


def build_rooms(
    settings: Settings,
    config_path: str,
    shared: SharedNode,
    group: Group,
    parts: AlertParts,
    tools: Tools,
    figures: Figures,
) -> Rooms:
    """Builds every handler. Starts nothing."""
    views = _build_views(settings, shared, group, tools, parts.drift)
    alerts = AlertOperations(
        shared.name,
        config_path,
        parts.records,
        parts.delivery,
        parts.watcher,
        parts.wake,
        parts.supervisord_begins,
        shared.wall,
    )
    programs = _build_programs(shared, group, tools)
    state_dir, looking = settings.paths.state_dir, Looking()
    return Rooms(
        node=NodeOperations(
            config_path,
            group.events,
            group.view,
            tools.judgement,
            group.readiness,
            parts.watcher,
            tools.status,
            views,
            alerts,
            figures,
            looking,
            shared.wall,
        ),
        pair=_build_pair(settings, shared, group, tools),
        role=_build_role(settings, shared, group),
        orders=_build_orders(settings, shared, group),
        kept=_build_kept(settings, shared, group, looking),
        restore=_build_restore(settings, shared, group, looking),
        settings=SettingsOperations(
            config_path, settings, group.standing, shared.maintenance, group.events, has_address, _begin_anew_soon
        ),
        drill=DrillOperations(parts.drill, state_dir, settings.drill.keep_reports, group.events, looking, shared.wall),
        alerts=alerts,
        views=views,
        supervisor=_build_supervisor(shared, group, tools),
        programs=programs,
        update=_build_update(shared, group, tools),
        registration=_build_registration(settings, shared, group, tools, programs),
        peer=_build_peer(shared, group, tools, parts.drift),
        payload=PayloadOperations(parts.payload),
    )


def _begin_anew_soon() -> None:
    """Has this process read its configuration again as by a reload, once the answer under way is out."""
    asyncio.get_running_loop().call_later(ANSWERED_S, signal.raise_signal, signal.SIGHUP)


def _build_views(settings: Settings, shared: SharedNode, group: Group, tools: Tools, drift: NoDrift) -> ProgramViews:
    return ProgramViews(
        settings,
        group.standing,
        shared.supervised,
        group.loaded,
        group.active_set,
        tools.catalogue,
        group.conversation,
        shared.link,
        group.start_order.describe,
        drift.say_by_program,
        ProgramUsage(shared.clock, shared.wall),
        shared.wall,
    )


def _build_pair(settings: Settings, shared: SharedNode, group: Group, tools: Tools) -> PairOperations:
    return PairOperations(
        settings.peer.name,
        group.standing,
        group.view,
        group.receiver,
        group.replicator,
        group.acknowledger,
        group.conversation,
        shared.link,
        tools.status,
        group.events,
    )


def _build_role(settings: Settings, shared: SharedNode, group: Group) -> RoleOperations:
    return RoleOperations(
        settings.peer.name,
        group.standing,
        shared.maintenance,
        group.fitness,
        group.hand_over,
        group.events,
        group.waker,
        shared.wall,
    )


def _build_orders(settings: Settings, shared: SharedNode, group: Group) -> OrderOperations:
    return OrderOperations(
        settings.peer.name,
        group.standing,
        shared.maintenance,
        shared.standby_order,
        group.fitness,
        group.peer_off,
        group.conversation,
        shared.link,
        group.is_peer_machine_up,
        group.loop.retry_now,
        group.waker.wake,
        shared.wall,
        needs_votes=group.votes.is_needed,
    )


def _build_kept(settings: Settings, shared: SharedNode, group: Group, looking: Looking) -> KeptOperations:
    return KeptOperations(
        settings.paths.state_dir,
        group.standing,
        group.committer.unkept,
        group.view,
        group.editor,
        group.acknowledger,
        shared.link,
        group.events,
        looking,
        shared.wall,
    )


def _build_restore(settings: Settings, shared: SharedNode, group: Group, looking: Looking) -> RestoreOperations:
    return RestoreOperations(
        settings.paths.state_dir,
        group.standing,
        group.committer.unkept,
        group.view,
        group.editor,
        group.acknowledger,
        shared.link,
        group.events,
        looking,
    )


def _build_supervisor(shared: SharedNode, group: Group, tools: Tools) -> SupervisorCalls:
    return SupervisorCalls(
        group.standing,
        group.view,
        group.active_set,
        group.loaded,
        group.readiness,
        tools.runs,
        shared.supervised,
        group.events,
        owner_of,
    )


def _build_programs(shared: SharedNode, group: Group, tools: Tools) -> ProgramCommands:
    return ProgramCommands(
        tools.commands,
        tools.catalogue,
        tools.judgement,
        group.readiness,
        tools.runs,
        tools.partial,
        shared.supervised,
        group.editor,
        group.events,
        shared.start_task,
    )


def _build_update(shared: SharedNode, group: Group, tools: Tools) -> UpdateCommand:
    return UpdateCommand(
        tools.commands,
        group.view,
        group.readiness,
        group.active_set,
        tools.runs,
        tools.partial,
        shared.supervised,
        group.editor,
        group.events,
    )


def _build_registration(
    settings: Settings, shared: SharedNode, group: Group, tools: Tools, programs: ProgramCommands
) -> Registration:
    return Registration(
        settings.programs,
        tools.commands,
        programs,
        tools.catalogue,
        tools.judgement,
        group.readiness,
        tools.runs,
        group.editor,
        shared.start_task,
    )


def _build_peer(shared: SharedNode, group: Group, tools: Tools, drift: NoDrift) -> PeerOperations:
    return PeerOperations(
        group.conversation,
        group.interlock,
        group.receiver,
        group.patrol,
        tools.status,
        shared.maintenance,
        shared.link,
        group.waker,
        group.loop.give_way,
        group.votes,
        shared.peer.name,
        drift,
    )
