"""Whether a pair is fit for a planned change of roles: judged from the two nodes' own accounts (``status --json``). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ha_agent.core.agreement import find_differences
from ha_agent.core.faults import REPLICATION_FAULTS, Face, former_code
from ha_agent.core.findings import Finding, Severity
from ha_agent.core.node_json import NodeAccountJson, NodeJson
from ha_agent.core.obstacles import error, find_own_obstacles
from ha_agent.core.orders import END_MAINTENANCE
from ha_agent.core.payload_status import STUCK, PayloadState

RISKS: Mapping[str, str] = {
    "keepalived-down": "no client reaches the programs before a keepalived is MASTER again",
    "supervisord-down": "nothing is started on a node whose supervisord does not answer",
    "unfit": "the VIP may go nowhere for some seconds, and then come back with the programs",
    "notes-failing": "the takeover may not be finished: no program runs until this node has taken them back",
    "vrrp-state": "the VIP may not move, or move to where no program starts",
    "standby-edit": "the standby's own edits come into force; what they replace is found among the kept copies alone",
    "replication-lag": "what has not travelled is not in force afterwards, and may be found among the kept copies alone",
    "replication-refused": "what the standby refuses is not in force afterwards, and may be among the kept copies alone",
    "registry-held": "the confs whose deletion is held come into force again",
    "standby-not-ready": "the conf does not run on the standby",
    "not-checked": "what the standby cannot load comes to light when it is needed",
    "preempt": "the VIP comes back at once: the programs are stopped twice",
}
"""By the code of an obstacle to a switchover, what it risks to go on in spite of it. Others cannot be overridden."""


def describe_override(finding: Finding) -> str | None:
    """What ``--force`` risks where it overrides ``finding``; None where nothing overrides that."""
    return RISKS.get(finding.code)


def find_active(nodes: Sequence[NodeJson]) -> NodeAccountJson | None:
    """The one active node that can be reached; None where there is none or two."""
    active = [n for n in nodes if n["reachable"] and n.get("role") == "active"]
    return active[0] if len(active) == 1 else None


def find_standby(nodes: Sequence[NodeJson]) -> NodeAccountJson | None:
    """The one standby that can be reached; None where there is none or two."""
    standby = [n for n in nodes if n["reachable"] and n.get("role") == "standby"]
    return standby[0] if len(standby) == 1 else None


def find_obstacles(nodes: Sequence[NodeJson]) -> list[Finding]:
    """What speaks against a switchover now. Errors refuse it, warnings are for reading.

    ``--force`` overrides those errors that ``RISKS`` names.
    """
    found: list[Finding] = []
    accounts: list[NodeAccountJson] = []
    for node in nodes:
        if node["reachable"]:
            accounts.append(node)
        else:
            why = str(node.get("problem") or "no answer")
            found.append(error("peer-lost", node["name"], f"cannot be reached: {why}", "see ha-agent doctor --peer"))
    if found:
        return found
    active, standby = find_active(nodes), find_standby(nodes)
    if active is None or standby is None:
        for account in accounts:
            if account["role"] not in ("active", "standby"):
                if held := account.get("held"):
                    other = _other(accounts, account)
                    remedy = f"bring {other} or the link to it back; where it is off: ha-agent takeover --peer-is-off"
                    found.append(error("takeover-held", account["name"], f"starts nothing: {held}", remedy))
                    continue
                why = f"is {account['role']}" + (f" ({account['step']})" if account.get("step") else "")
                code = "fenced" if account["role"] == "fenced" else "role-changing"
                found.append(error(code, account["name"], why, "wait until it has settled: ha-agent status --watch"))
        if not found:
            roles = " and ".join(f"{n['name']} {n['role']}" for n in accounts)
            code = "split-brain" if accounts and all(n["role"] == "active" for n in accounts) else "no-active-node"
            found.append(error(code, "", f"there is no active node with a standby: {roles}", "see ha-agent status"))
        return found
    for account in accounts:
        found += _node_obstacles(account)
    for one in find_differences(active.get("agreement", {}), standby.get("agreement", {})):
        if one.is_vital:
            text = f"{one.key} is {one.peer}, and {one.own} on {active['name']}"
            remedy = "make it the same in both agent.toml; ha-agent keepalived write"
            found.append(error("config-differs", standby["name"], text, remedy))
    found += _replication_obstacles(active, standby)
    found += _payload_obstacles(active, standby)
    found += _readiness_obstacles(active, standby)
    if active.get("preempt") and int(active.get("priority", 0)) > int(standby.get("priority", 0)):
        remedy = "set vrrp.nopreempt = true, ha-agent keepalived write, and reload keepalived"
        text = f"preempts: with its higher priority it would take the VIP back from {standby['name']} at once"
        found.append(error("preempt", active["name"], text, remedy))
    return found


def _other(accounts: Sequence[NodeAccountJson], account: NodeAccountJson) -> str:
    return next((a["name"] for a in accounts if a is not account), "the peer")


def _node_obstacles(node: NodeAccountJson) -> list[Finding]:
    if not node.get("maintenance"):
        return find_own_obstacles(node)
    text = "maintenance is on: the VIP would move, and the programs stay"
    return [error("maintenance-on", node["name"], text, END_MAINTENANCE), *find_own_obstacles(node)]


def _replication_obstacles(active: NodeAccountJson, standby: NodeAccountJson) -> list[Finding]:
    """The two hashes are not compared: while somebody edits, two looks at two nodes never show the same."""
    found = []
    local = standby["replication"].get("local_changes") or []
    if local:
        text = f"was changed locally ({', '.join(local[:3])}): that would become the truth"
        remedy = "see ha-agent diff; ha-agent sync on the active node replaces it, and keeps it"
        found.append(error("standby-edit", standby["name"], text, remedy))
    replication = active["replication"]
    if replication["state"] != "in_sync":
        pending = replication.get("pending")
        text = f"replication is {replication['state']}" + (f", {pending} changes are pending" if pending else "")
        if replication.get("reason"):
            text += f" ({replication['reason']})"
        code = REPLICATION_FAULTS.get(replication["state"], "replication-lag")
        found.append(error(code, active["name"], text, "ha-agent sync"))
    return found


def _payload_obstacles(active: NodeAccountJson, standby: NodeAccountJson) -> list[Finding]:
    """Nothing waits for payload: what the standby lacks of it is for reading."""
    payload = active.get("payload_sync")
    if not payload or payload["state"] == PayloadState.IN_SYNC:
        return []
    count = f"{payload['pending']} files" if payload["pending"] else "files"
    text = f"{standby['name']} may lack {count} of the payload ({payload['state']})"
    code = "payload-held" if payload["state"] in STUCK else "payload-lag"
    return [Finding(code, Severity.WARNING, text, "ha-agent payload sync", str(active["name"]))]


def _readiness_obstacles(active: NodeAccountJson, standby: NodeAccountJson) -> list[Finding]:
    found = []
    readiness = standby["readiness"]
    here = set(active["readiness"]["problems"])
    for path, why in sorted(readiness["problems"].items()):
        if path in here:
            # It does not run on the active node either: nothing is lost.
            alias = former_code("conf-not-loadable", Face.PRECHECK) or ""
            text = f"{path}: {why}"
            found.append(Finding("conf-not-loadable", Severity.WARNING, text, "", str(standby["name"]), alias=alias))
        else:
            text = f"cannot load {path}: {why}"
            found.append(error("standby-not-ready", standby["name"], text, f"fix {path}, or park it"))
    warned = set(active["readiness"]["warnings"])
    for path, why in sorted(readiness["warnings"].items()):
        if path not in warned:
            text = f"cannot start {path}: {why}"
            found.append(error("standby-not-ready", standby["name"], text, f"fix {path}, or park it"))
    return found
