"""What of a node is an alert as long as it lasts, judged from its account. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ha_agent.core.account import NodeAccount
from ha_agent.core.agreement import find_differences
from ha_agent.core.alerts import Condition
from ha_agent.core.payload_status import STUCK, say_pending
from ha_agent.core.vip import find_common, find_missing, join
from ha_agent.core.votes_text import say_votes
from ha_agent.core.wait_texts import say_unmet
from ha_agent.core.words import OWNING_ROLES, Role

MAX_PATHS = 200
MAX_DRIFTS = 20


def find_conditions(account: NodeAccount) -> list[Condition]:
    """Everything that holds and that somebody should know.

    ``lag_s``: seconds that a change of the registry may wait for the peer.
    """
    return [
        *_list_of_pair(account),
        *_list_of_paths(account),
        *_list_of_vip(account),
        *_list_of_standby_fitness(account),
        *_list_of_agreement(account),
        *_list_of_node(account),
        *_list_of_votes(account),
        *_list_of_checks(account),
        *_list_of_payload_sync(account),
        *_list_of_drift(account),
        *(_list_of_replication(account) if account.role is Role.ACTIVE else _list_of_standby(account)),
        *_list_of_confs(account),
    ]


def _list_of_pair(account: NodeAccount) -> Iterator[Condition]:
    node, name, peer = account.node, account.peer_name, account.peer
    if not account.link_up:
        why = account.link_problem or "no connection"
        text = f"{name} does not answer: {why}; {node} is {account.role.value}"
        has_votes = account.votes is not None and account.votes.is_used
        if account.role is Role.ACTIVE and peer is not None and peer.role in OWNING_ROLES and not has_votes:
            # One alert: after a power cut that is all there is to it, in a partition it is what must be known.
            text += f"; {name} was {peer.role.value} when it was heard last: unless it is off it may run the same programs"
        yield Condition("peer-lost", name, text)
    elif peer is not None and account.role is Role.ACTIVE and peer.role is Role.ACTIVE:
        epochs = {"own_epoch": account.claim.epoch, "peer_epoch": peer.mark.epoch}
        yield Condition("split-brain", "pair", f"{node} and {name} are both active", epochs)
    elif peer is not None and account.role is Role.STANDBY and peer.role is Role.STANDBY:
        states = f"VRRP {account.vrrp_state.value} here, {peer.vrrp_state.value} there"
        yield Condition("no-active-node", "pair", f"{node} and {name} are both standby ({states})")


def _list_of_paths(account: NodeAccount) -> Iterator[Condition]:
    """While one of them answers; otherwise the link says all."""
    if account.link_up or any(path.is_up for path in account.paths):
        for path in account.paths:
            if path.is_up is False:
                text = f"{account.peer_name} does not answer {account.node} at {path.address}"
                yield Condition("path-down", path.address, f"{text}, one of {len(account.paths)} paths")


def _list_of_vip(account: NodeAccount) -> Iterator[Condition]:
    node, name, peer = account.node, account.peer_name, account.peer
    if account.role is Role.ACTIVE and (missing := find_missing(account.vips)):
        yield Condition("vip-partly", node, f"{node} is active and lacks {join(missing)}, of {len(account.vips)} VIPs")
    if not account.link_up or peer is None:
        return
    states = f"VRRP {account.vrrp_state.value} here, {peer.vrrp_state.value} there"
    if account.role is Role.ACTIVE and peer.role is Role.STANDBY and account.vip_here is False and peer.vip_here is True:
        text = f"the VIP is on {name}, the programs run on {node} ({states})"
        yield Condition("no-service", "pair", text)
    elif account.vip_here is True and peer.vip_here is True:
        both = find_common(account.vips, peer.vips) if account.vips and peer.vips else None
        if both != []:
            which = f"the VIP {join(both)}" if both and len(account.vips) > 1 else "the VIP"
            yield Condition("vip-on-both", "pair", f"{which} is on {node} and on {name} ({states})")
    elif account.vip_here is False and peer.vip_here is False:
        yield Condition("vip-on-neither", "pair", f"the VIP is neither on {node} nor on {name} ({states})")


def _list_of_standby_fitness(account: NodeAccount) -> Iterator[Condition]:
    """By the standby's own word; where it does not answer that is ``peer-lost``."""
    peer = account.peer
    if not account.link_up or account.role is not Role.ACTIVE or peer is None:
        return
    if peer.role is not Role.ACTIVE and peer.obstacles:
        text = f"{account.peer_name} could not take over: {'; '.join(peer.obstacles)}"
        yield Condition("standby-unfit", account.peer_name, text)


def _list_of_agreement(account: NodeAccount) -> Iterator[Condition]:
    """Told by the node whose name comes first, so that a pair tells it once."""
    peer = account.peer
    if not account.link_up or peer is None or account.node > account.peer_name:
        return
    for one in find_differences(account.agreement, peer.agreement):
        code = "config-differs" if one.is_vital else "config-uneven"
        yield Condition(code, one.key, f"{one.key} is {one.own} on {account.node} and {one.peer} on {account.peer_name}")


def _list_of_node(account: NodeAccount) -> Iterator[Condition]:
    node = account.node
    if account.role is Role.FENCED:
        text = f"processes of the registry cannot be ended on {node}: {account.left_running}"
        yield Condition("fenced", node, text, {"left_running": account.left_running})
    if account.notes_problem is not None:
        yield Condition("notes-failing", node, f"{node} cannot keep its notes: {account.notes_problem}")
    elif account.notes_low is not None:
        yield Condition("run-full", node, f"{account.notes_low} on {node}")
    for process in account.adrift[:MAX_PATHS]:
        yield Condition("program-adrift", process, f"{process} belongs to no program any more on {node}")
    if not account.supervisord_alive:
        yield Condition("supervisord-down", node, f"supervisord does not run on {node}")
    elif account.supervisord_silence is not None:
        text = f"supervisord on {node} does not answer: {account.supervisord_silence}"
        yield Condition("supervisord-down", node, text)
    if not account.keepalived_alive:
        state = account.vrrp_state.value
        yield Condition("keepalived-down", node, f"keepalived does not run on {node}, VRRP state {state}")
    if account.held is not None:
        yield Condition("takeover-held", node, f"{node} has taken over and starts nothing: {account.held}")
    elif account.last_failure is not None and account.plan is not None:
        yield Condition("plan-failed", node, f"{account.plan} on {node}: {account.last_failure}")
    for wait in account.waits:
        if wait.given_up_wall is not None:
            yield Condition("order-unmet", wait.group, f"{wait.group} on {node}: {say_unmet(wait.words)}")
    if account.registry_problem:
        yield Condition("registry-unavailable", node, f"{account.registry_path}: {account.registry_problem}")


def _list_of_votes(account: NodeAccount) -> Iterator[Condition]:
    votes, node = account.votes, account.node
    if votes is None:
        return
    if votes.is_witness_silent:
        yield Condition("vote-missing", "witness", f"{node}: {say_votes(votes, node)}")
    elif votes.is_used and account.peer_name not in votes.promised:
        yield Condition("vote-missing", account.peer_name, f"{node}: {say_votes(votes, node)}")
    if votes.keeper_problem is not None:
        yield Condition("keeper-down", node, f"the keeper of the votes' deadline on {node}: {votes.keeper_problem}")


def _list_of_checks(account: NodeAccount) -> Iterator[Condition]:
    for check in account.checks:
        if check.health == "failing":
            what = f"check {check.name}" + (f" of {check.program}" if check.program else "")
            text = f"{what} fails on {account.node}: {check.last}" + (f"; {check.held}" if check.held else "")
            yield Condition("check-failed", check.name, text, {"program": check.program, "on_failure": check.on_failure})


def _list_of_payload_sync(account: NodeAccount) -> Iterator[Condition]:
    payload = account.payload_sync
    if payload is None or account.role is not Role.ACTIVE or not account.link_up:
        return
    if payload.state in STUCK:
        yield Condition("payload-held", "payload", f"payload of {account.node} does not travel: {payload.reason}")
    elif payload.is_late:
        since = payload.pending_since_wall or account.at_wall
        text = say_pending(payload.pending, account.peer_name) + (f": {payload.reason}" if payload.reason else "")
        yield Condition("payload-lag", "payload", text, {"oldest_since": round(since, 3)})


def _list_of_drift(account: NodeAccount) -> Iterator[Condition]:
    """Told by the active node: both know the same."""
    drift = account.drift
    if account.role is not Role.ACTIVE or drift is None or drift.problem is not None:
        return
    for one in drift.drifts[:MAX_DRIFTS]:
        changed = one.changed
        details: dict[str, Any] = {"programs": list(one.programs[:MAX_PATHS])}
        if changed is not None:
            details |= {"changed_on": changed.changed_on, "changed_at": round(changed.changed_at, 3)}
        yield Condition("payload-differs", one.subject, one.say(drift.starter, drift.other), details)


def _list_of_replication(account: NodeAccount) -> Iterator[Condition]:
    push, pair = account.push, "replication"
    if push.held:
        yield Condition("registry-held", pair, push.held)
    elif push.refused:
        yield Condition("replication-refused", pair, f"{account.peer_name}: {push.refused}")
    elif push.is_late and push.pending_since_wall:
        count = "changes" if push.pending is None else f"{push.pending} changes"
        text = f"{count} wait for {account.peer_name}"
        yield Condition("replication-lag", pair, text, {"oldest_since": round(push.pending_since_wall, 3)})


def _list_of_standby(account: NodeAccount) -> Iterator[Condition]:
    if account.owns:
        return
    for path in account.local_edits[:MAX_PATHS]:
        yield Condition("standby-edit", path, f"{path} was changed on the standby {account.node}")


def _list_of_confs(account: NodeAccount) -> Iterator[Condition]:
    selection = account.selection
    if account.role is Role.ACTIVE:
        for path, problem in list(selection.problems.items())[:MAX_PATHS]:
            yield Condition("conf-not-loadable", path, f"{path} on {account.node}: {problem}")
    elif account.role is Role.STANDBY:
        lacking: dict[str, Any] = {**selection.warnings, **selection.problems}
        for path, problem in list(lacking.items())[:MAX_PATHS]:
            text = problem if isinstance(problem, str) else "; ".join(map(str, problem))
            yield Condition("standby-not-ready", path, f"{path} on {account.node}: {text}")
