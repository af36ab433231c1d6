"""What is seen of a node whose agent does not run, and how it is told: the hour in which ``status`` is needed most. Pure.

Without the agent there is no account of the node, and nobody asks the peer: what is told here is what the kernel,
supervisord and the files of the last agent say, each with its age where it has one. What cannot be found out stays unknown.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ha_agent.core.findings import Severity
from ha_agent.core.history import Event
from ha_agent.core.problems import age_text
from ha_agent.core.vip import Presence, find_missing, join
from ha_agent.core.width import count_text
from ha_agent.core.words import Role

START_AGENT = "systemctl start ha-agent"


@dataclass(frozen=True, slots=True)
class Glimpse:
    """One moment of a node without its agent. None: it could not be found out, or is not for this user."""

    node: str
    peer: str
    why: str
    """Why the agent gives no account; the text names what was tried, and what to do."""
    agent_pid: int | None = None
    """Of an agent that runs and is not to be reached."""
    role: str | None = None
    """What the agent of this boot noted last."""
    role_at: float | None = None
    """When it noted that, wall clock seconds."""
    vip: str = ""
    vip_here: bool | None = None
    """Whether one of the VIPs is here; ``vip`` is the first of them."""
    vips: Presence = field(default_factory=dict)
    """Each of them."""
    keepalived_pid: int | None = None
    supervisord_pid: int | None = None
    programs: Mapping[str, str] | None = None
    """The state of each of supervisord's programs, those that are not the registry's too."""
    programs_problem: str | None = None
    confs: int | None = None
    registry_problem: str | None = None
    peer_up: bool | None = None
    """Whether the peer's machine gives a sign of life; what its agent does is not known here."""
    last_change: Event | None = None
    standby_ordered: bool | None = None

    def to_dict(self) -> dict[str, Any]:
        """The glimpse as it stands in JSON."""
        found = dataclasses.asdict(self)
        found["vips"] = dict(self.vips)
        return {**found, "programs": None if self.programs is None else dict(self.programs)}


def find_severity(seen: Glimpse) -> Severity:
    """How bad it is that this node has no agent: nothing replicates, and no role is changed."""
    return Severity.UNKNOWN if seen.agent_pid is not None else Severity.ERROR


def say_verdict(seen: Glimpse) -> str:
    """The first line: what is known of the service, then that nobody looks after it."""
    state = "has no agent" if seen.agent_pid is None else "has an agent that cannot be asked"
    return f"{seen.node} {state}: {_say_service(seen)}"


def _say_service(seen: Glimpse) -> str:
    running = None if seen.programs is None else sum(state == "RUNNING" for state in seen.programs.values())
    if seen.supervisord_pid is None:
        runs = "supervisord does not run"
    elif running is None:
        runs = "what its programs do is not known"
    else:
        runs = f"{count_text(running, 'program')} of supervisord run" + ("s" if running == 1 else "")
    where = {True: "the VIP is here", False: "the VIP is not here", None: "where the VIP is, is not known"}[seen.vip_here]
    if missing := find_missing(seen.vips):
        where = f"the VIPs are here but for {join(missing)}"
    return f"{where}, {runs}"


def say_why(seen: Glimpse) -> str:
    """How the agent did not answer, without what to do about it."""
    return seen.why.removesuffix(f"; {START_AGENT}")


def list_remedies(seen: Glimpse) -> list[str]:
    """What is to be done here, the first thing first."""
    if seen.agent_pid is not None:
        return ["journalctl -u ha-agent -n 50"]
    found = [START_AGENT, "journalctl -u ha-agent -n 50 says why it ended"]
    if seen.keepalived_pid is None:
        found.append("systemctl start keepalived")
    if seen.supervisord_pid is None:
        found.append("systemctl start supervisor")
    return found


def list_rows(seen: Glimpse, now: float) -> list[tuple[str, str]]:
    """Label and text of each row. ``now``: wall clock seconds."""
    return [
        ("role", _say_role(seen, now)),
        *(("VIP", f"{vip}: {_WHERE[here]}") for vip, here in (seen.vips or {seen.vip: seen.vip_here}).items()),
        ("keepalived", "does not run" if seen.keepalived_pid is None else f"runs (pid {seen.keepalived_pid})"),
        ("supervisord", "does not run" if seen.supervisord_pid is None else f"runs (pid {seen.supervisord_pid})"),
        ("programs", _say_programs(seen)),
        ("registry", seen.registry_problem or f"{count_text(seen.confs or 0, 'conf')}; nothing is replicated"),
        (seen.peer, f"not asked, the agent alone has the link; {_say_peer(seen)}"),
        ("last change", _say_change(seen, now)),
    ]


_WHERE = {True: "here", False: "not here", None: "not known"}


def _say_role(seen: Glimpse, now: float) -> str:
    if seen.role is None:
        return "not known: no agent of this boot has noted one that you may read"
    order = {
        True: "; it is ordered to stay standby",
        False: "",
        None: "; whether it is ordered to stay standby is not known",
    }[seen.standby_ordered]
    age = f" as its agent noted {age_text(max(0.0, now - seen.role_at))} ago" if seen.role_at is not None else ""
    duty = ": its programs run on without a guard" if seen.role == Role.ACTIVE and seen.supervisord_pid is not None else ""
    return f"{seen.role}{age}{duty}{order}"


def _say_programs(seen: Glimpse) -> str:
    if seen.programs is None:
        return seen.programs_problem or "not known"
    states = Counter(seen.programs.values())
    return ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "none"


def _say_peer(seen: Glimpse) -> str:
    return {
        True: "its machine answers",
        False: "its machine gives no sign of life",
        None: "whether its machine is up is not known",
    }[seen.peer_up]


def _say_change(seen: Glimpse, now: float) -> str:
    change = seen.last_change
    if change is None:
        return "none that is noted here"
    age = age_text(max(0.0, now - float(change["at"])))
    return f"{change['node']} became {change['to']} {age} ago: {change['text']} [{change['code']}]"
