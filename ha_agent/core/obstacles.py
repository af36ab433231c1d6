"""Why a node could not take over now, judged from its own account. Pure.

The one answer for every face: a switchover's checks, ``standby-unfit`` on the screen, in doctor, in the alerts and in what a
node tells its peer of itself.
"""

from __future__ import annotations

from ha_agent.core.faults import Face, former_code
from ha_agent.core.findings import Finding, Severity
from ha_agent.core.node_json import NodeAccountJson
from ha_agent.core.orders import describe_order
from ha_agent.core.supervisor_words import remedy_for
from ha_agent.core.words import Role, VrrpState


def find_own_obstacles(node: NodeAccountJson) -> list[Finding]:
    """What keeps ``node`` from taking over, or from being what its role says. Errors keep it, warnings are for reading."""
    name, found = node["name"], []
    if node["role"] == Role.FENCED:
        text = f"processes of the registry cannot be ended ({node['left_running']})"
        found.append(error("fenced", name, text, "end them by hand, or reboot this node"))
    if node["keepalived"] != "up":
        found.append(error("keepalived-down", name, "keepalived is not running", "systemctl start keepalived"))
    if node["supervisord"] != "up":
        said = node["supervisord"]
        found.append(error("supervisord-down", name, f"supervisord: {said}", remedy_for(said)))
    if order := node.get("standby_order"):
        why = describe_order(order["by"], order["reason"])
        found.append(error("standby-ordered", name, why, f"first: ha-agent unstandby {name}"))
    if node.get("unfit") and node["role"] != Role.FENCED and not is_unfit_by_order(node):
        found.append(error("unfit", name, f"must not be MASTER: {node['unfit']}", "see ha-agent history"))
    # A node that is to give up needs nothing there: that speaks for a switchover, and not against it.
    if node["role"] != Role.ACTIVE and (failing := node.get("notes_problem")):
        text = f"could not take over, because it cannot keep its notes: {failing}"
        found.append(error("notes-failing", name, text, "make room, or put away what is in the place"))
    elif node["role"] != Role.ACTIVE and (low := node.get("notes_low")):
        found.append(Finding("run-full", Severity.WARNING, str(low), "find out with du -x /run what fills it", name))
    if node["role"] != Role.ACTIVE and node["registry"]["problem"]:
        text = f"registry: {node['registry']['problem']}"
        found.append(error("registry-unavailable", name, text, f"bring {node['registry'].get('path', 'it')} back"))
    wanted = VrrpState.MASTER if node["role"] == Role.ACTIVE else VrrpState.BACKUP
    if node["keepalived"] == "up" and node["vrrp_state"] != wanted and not node.get("unfit"):
        text = f"is {node['role']}, but keepalived says {node['vrrp_state']} and not {wanted.value}"
        found.append(error("vrrp-state", name, text, "see journalctl -u keepalived"))
    if node["role"] != Role.ACTIVE and (failure := node["readiness"].get("failure")):
        found.append(error("not-checked", name, f"the confs could not be checked: {failure}", "see ha-agent doctor"))
    return found


def find_faults(node: NodeAccountJson) -> list[Finding]:
    """The errors among a node's obstacles that nobody wants so: an operator's order is none."""
    obstacles = find_own_obstacles(node)
    return [f for f in obstacles if f.severity is Severity.ERROR and f.code != "standby-ordered"]


def is_unfit_by_order(node: NodeAccountJson) -> bool:
    """Whether an operator's order is all that keeps ``node`` from being MASTER: that is said for itself."""
    order = node.get("standby_order")
    return order is not None and node["unfit"] == describe_order(order["by"], order["reason"])


def error(code: str, where: str, text: str, remedy: str) -> Finding:
    """An obstacle that refuses."""
    return Finding(code, Severity.ERROR, text, remedy, where, alias=former_code(code, Face.PRECHECK) or "")
