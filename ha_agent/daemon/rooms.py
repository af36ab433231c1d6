"""Builds the handlers of all operations for one group, and what they share. Wiring alone, as ``group``."""

from __future__ import annotations

from dataclasses import dataclass

from ha_agent.core.places import RunPlaces
from ha_agent.core.settings import Settings
from ha_agent.daemon.account import Accountant
from ha_agent.daemon.alerts.alerting import Alerting
from ha_agent.daemon.alerts.delivery import Delivery
from ha_agent.daemon.alerts.program_watcher import ProgramWatcher
from ha_agent.daemon.alerts.records import AlertRecords
from ha_agent.daemon.drill import Drill
from ha_agent.daemon.group import Group, SharedNode
from ha_agent.daemon.operations.alerts import AlertOperations
from ha_agent.daemon.operations.commands import Commands
from ha_agent.daemon.operations.drill import DrillOperations
from ha_agent.daemon.operations.figures import Figures
from ha_agent.daemon.operations.from_peer import PeerOperations
from ha_agent.daemon.operations.kept import KeptOperations
from ha_agent.daemon.operations.node import NodeOperations
from ha_agent.daemon.operations.pair import PairOperations
from ha_agent.daemon.operations.program_views import ProgramViews
from ha_agent.daemon.operations.programs import ProgramCommands
from ha_agent.daemon.operations.registration import Registration
from ha_agent.daemon.operations.role import RoleOperations
from ha_agent.daemon.operations.status import StatusReporter
from ha_agent.daemon.operations.supervisor_calls import SupervisorCalls
from ha_agent.daemon.operations.table import Rooms
from ha_agent.daemon.operations.update import UpdateCommand
from ha_agent.daemon.programs.catalogue import CatalogueReader
from ha_agent.daemon.programs.judgement import Judgement
from ha_agent.daemon.programs.partial_groups import PartialGroups
from ha_agent.daemon.programs.runs import ProgramRuns


@dataclass(frozen=True, slots=True)
class AlertParts:
    """The parts of alerts that operations ask."""

    accountant: Accountant
    watcher: ProgramWatcher
    records: AlertRecords
    delivery: Delivery
    alerting: Alerting
    drill: Drill


def build_rooms(
    settings: Settings, config_path: str, shared: SharedNode, group: Group, parts: AlertParts, figures: Figures
) -> Rooms:
    """Builds every handler. Starts nothing."""
    state_dir, peer = settings.paths.state_dir, settings.peer.name
    catalogue = CatalogueReader(group.view, group.active_set, group.readiness)
    judgement = Judgement(settings.registry.path, peer, group.view, shared.checker, shared.link)
    partial = PartialGroups(RunPlaces(settings.paths.run_dir).partial_groups, group.active_set)
    runs = ProgramRuns(group.standing, shared.supervised, group.loaded, group.loader, group.sweeper, partial, shared.clock)
    status = StatusReporter(
        parts.accountant,
        group.loader,
        group.loaded,
        group.active_set,
        shared.wall,
        start_all=settings.takeover.start_all,
    )
    commands = Commands(peer, group.standing, group.conversation, group.editor)
    programs = ProgramCommands(
        commands,
        catalogue,
        judgement,
        group.readiness,
        runs,
        partial,
        shared.supervised,
        group.editor,
        group.events,
        shared.start_task,
    )
    views = ProgramViews(
        settings,
        group.standing,
        shared.supervised,
        group.loaded,
        group.active_set,
        catalogue,
        group.conversation,
        shared.link,
    )
    alerts = AlertOperations(
        shared.name,
        config_path,
        parts.records,
        parts.delivery,
        parts.watcher,
        parts.alerting.wake,
        shared.wall,
    )
    return Rooms(
        node=NodeOperations(
            config_path,
            group.events,
            group.view,
            judgement,
            group.readiness,
            parts.watcher,
            status,
            views,
            alerts,
            figures,
            shared.wall,
        ),
        pair=PairOperations(
            peer,
            group.standing,
            group.view,
            group.receiver,
            group.replicator,
            group.acknowledger,
            group.conversation,
            shared.link,
            status,
            group.events,
        ),
        role=RoleOperations(
            peer,
            settings.vrrp,
            group.standing,
            shared.maintenance,
            group.fitness,
            group.view,
            group.conversation,
            group.acknowledger,
            group.events,
            group.waker,
            shared.clock,
            shared.wall,
        ),
        kept=KeptOperations(
            state_dir,
            group.standing,
            group.ledger,
            group.view,
            group.editor,
            group.acknowledger,
            shared.link,
            group.events,
            shared.wall,
        ),
        drill=DrillOperations(parts.drill, state_dir, settings.drill.keep_reports, group.events, shared.wall),
        alerts=alerts,
        views=views,
        supervisor=SupervisorCalls(
            group.standing,
            group.view,
            group.active_set,
            group.loaded,
            group.readiness,
            runs,
            shared.supervised,
            group.events,
        ),
        programs=programs,
        update=UpdateCommand(
            commands,
            group.view,
            group.readiness,
            group.active_set,
            runs,
            partial,
            shared.supervised,
            group.editor,
            group.events,
        ),
        registration=Registration(
            settings.programs,
            commands,
            programs,
            catalogue,
            judgement,
            group.readiness,
            runs,
            group.editor,
            shared.start_task,
        ),
        peer=PeerOperations(
            group.conversation,
            group.interlock,
            group.receiver,
            status,
            shared.maintenance,
            shared.link,
            group.waker,
            group.loop.give_way,
        ),
    )
