"""What of a node is an alert as long as it lasts, read from the agent's own state. Looks only, asks nobody."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ha_agent.core.alerts import Condition
from ha_agent.core.words import Role

if TYPE_CHECKING:
    from ha_agent.daemon.agent import Agent

MAX_PATHS = 200


def gather_conditions(agent: Agent, now_wall: float) -> list[Condition]:
    """Everything that holds now and that somebody should know. ``now_wall``: wall clock seconds."""
    return [
        *_of_the_pair(agent),
        *_of_this_node(agent),
        *(_of_replication(agent, now_wall) if agent.standing.role is Role.ACTIVE else _of_a_standby(agent)),
        *_of_confs(agent),
    ]


def _of_the_pair(agent: Agent) -> Iterator[Condition]:
    peer, name = agent.peer, agent.settings.peer.name
    if not agent.link.is_up:
        why = agent.link.problem or "no connection"
        yield Condition("peer-lost", name, f"{name} does not answer: {why}; {agent.node} is {agent.standing.role.value}")
    elif peer is not None and agent.standing.role is Role.ACTIVE and peer.role is Role.ACTIVE:
        epochs = {"own_epoch": agent.standing.claim.epoch, "peer_epoch": peer.mark.epoch}
        yield Condition("split-brain", "pair", f"{agent.node} and {name} are both active", epochs)
    elif peer is not None and agent.standing.role is Role.STANDBY and peer.role is Role.STANDBY:
        states = f"VRRP {agent.standing.vrrp_state.value} here, {peer.vrrp_state.value} there"
        yield Condition("no-active-node", "pair", f"{agent.node} and {name} are both standby ({states})")


def _of_this_node(agent: Agent) -> Iterator[Condition]:
    node = agent.node
    if agent.standing.role is Role.FENCED:
        left = agent.standing.left_running
        text = f"{left} processes of the registry cannot be ended on {node}"
        yield Condition("fenced", node, text, {"left_running": left})
    if not agent.programs.process.is_alive:
        yield Condition("supervisord-down", node, f"supervisord does not run on {node}")
    elif agent.program_alerts.unanswered is not None:
        yield Condition(
            "supervisord-down", node, f"supervisord on {node} does not answer: {agent.program_alerts.unanswered}"
        )
    if not agent.keepalived.is_alive:
        yield Condition(
            "keepalived-down", node, f"keepalived does not run on {node}, VRRP state {agent.standing.vrrp_state.value}"
        )
    if agent.standing.last_failure is not None and agent.standing.plan is not None:
        yield Condition("plan-failed", node, f"{agent.standing.plan.name} on {node}: {agent.standing.last_failure}")
    if agent.view.unavailable:
        yield Condition("registry-unavailable", node, f"{agent.settings.registry.path}: {agent.view.unavailable}")


def _of_replication(agent: Agent, now_wall: float) -> Iterator[Condition]:
    state, pair = agent.replicator.state, "replication"
    if state.held:
        yield Condition("registry-held", pair, state.held)
    elif state.refused:
        yield Condition("replication-refused", pair, f"{agent.settings.peer.name}: {state.refused}")
    elif state.pending_since_wall and now_wall - state.pending_since_wall >= agent.settings.alerts.lag_s:
        pending = agent.replicator.pending()
        count = "changes" if pending is None else f"{len(pending)} changes"
        text = f"{count} wait for {agent.settings.peer.name}"
        yield Condition("replication-lag", pair, text, {"oldest_since": round(state.pending_since_wall, 3)})


def _of_a_standby(agent: Agent) -> Iterator[Condition]:
    if agent.standing.owns:
        return
    for path in agent.ledger.local_edits(agent.view.manifest)[:MAX_PATHS]:
        yield Condition("standby-edit", path, f"{path} was changed on the standby {agent.node}")


def _of_confs(agent: Agent) -> Iterator[Condition]:
    selection = agent.active_set.selection
    if agent.standing.role is Role.ACTIVE:
        for path, problem in list(selection.problems.items())[:MAX_PATHS]:
            yield Condition("conf-not-loadable", path, f"{path} on {agent.node}: {problem}")
    elif agent.standing.role is Role.STANDBY:
        lacking: dict[str, Any] = {**selection.warnings, **selection.problems}
        for path, problem in list(lacking.items())[:MAX_PATHS]:
            text = problem if isinstance(problem, str) else "; ".join(map(str, problem))
            yield Condition("standby-not-ready", path, f"{path} on {agent.node}: {text}")
