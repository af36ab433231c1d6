"""``ha-agent listener render``: the conf that has supervisord run the event listener on both nodes."""

from __future__ import annotations

import re

from ha_agent.core.host_profile import LOCAL_DIR

LISTENER_CONF = f"{LOCAL_DIR}/ha-agent-listener.conf"
GROUP = "ha-agent-listener"
EVENTS = ("PROCESS_STATE", "SUPERVISOR_STATE_CHANGE")

_CONF = """\
; Hands the changes of state of every program to ha-agent, which raises the alarm. Runs on both nodes, is not part of the
; registry, and no release stops it.
[eventlistener:ha-agent-listener]
command={program}
; SUPERVISOR_STATE_CHANGE tells of a reload before it starts anything.
events={events}
; supervisord drops the oldest events of a full buffer; the agent notices, and looks at every program itself.
buffer_size=10000
priority=1
autorestart=true
startretries=1000000
stdout_logfile=NONE
stderr_logfile=/var/log/supervisor/ha-agent-listener.log
stderr_logfile_maxbytes=1MB
stderr_logfile_backups=1
"""


def render_listener(program: str = "/usr/bin/ha-agent-listener") -> str:
    """The text of the conf; ``program``: the listener's path on this node."""
    return _CONF.format(program=program, events=",".join(EVENTS))


def missing_events(conf: str | None) -> list[str]:
    """Which events an installed conf does not ask for; of one that is not there, or says none, nothing is known."""
    found = re.search(r"^events\s*=\s*(.*)$", conf or "", re.MULTILINE)
    if found is None:
        return []
    asked = {word.strip().partition(" ")[0] for word in found[1].split(",")}
    return [] if "EVENT" in asked else [event for event in EVENTS if event not in asked]
