"""Looks at this node without its agent: the kernel, supervisord, and what the last agent left on disk. Changes nothing.

What this user may not see is None, as what cannot be found out. No look takes longer than ``LOOK_S`` and supervisord's own
time-out.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from typing import Any

from ha_agent.adapters.addresses import has_address
from ha_agent.adapters.files import read_or_none
from ha_agent.adapters.machine import Machine
from ha_agent.adapters.procs import find_agent, read_pid_file
from ha_agent.adapters.registry import RegistryUnavailable, scan_registry
from ha_agent.adapters.store import History
from ha_agent.adapters.supervisord import Supervisord, SupervisordDown, SupervisordFinder
from ha_agent.core.glimpse import Glimpse
from ha_agent.core.history import Event
from ha_agent.core.manifest import EMPTY
from ha_agent.core.names import is_loadable_name
from ha_agent.core.places import RunPlaces, StatePlaces
from ha_agent.core.settings import Settings
from ha_agent.core.vip import is_any_here
from ha_agent.core.visible import visible, visible_data

LOOK_S = 0.5
NEWEST = 1000
"""How many events of the history are looked through for the last change of role."""


def glimpse_node(settings: Settings, why: str) -> Glimpse:
    """One look at this node. ``why``: how the agent did not answer."""
    paths, vips = settings.paths, {vip: has_address(vip) for vip in settings.vrrp.all_vips}
    return Glimpse(
        settings.node.name,
        settings.peer.name,
        why,
        agent_pid=find_agent(),
        vip=settings.vrrp.vip,
        vip_here=is_any_here(vips),
        vips=vips,
        keepalived_pid=_alive(read_pid_file(settings.vrrp.pid_file)),
        peer_up=_look_at_peer(settings),
        last_change=_read_last_change(settings),
        standby_ordered=_is_there(StatePlaces(paths.state_dir).standby_order),
        **_read_role(RunPlaces(paths.run_dir).role),
        **_look_at_supervisord(settings),
        **_count_confs(settings.registry.path),
    )


def _is_there(path: str) -> bool | None:
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    return True


def _alive(pid: int | None) -> int | None:
    return pid if pid is not None and os.path.exists(f"/proc/{pid}") else None


def _look_at_peer(settings: Settings) -> bool | None:
    try:
        return asyncio.run(Machine().answers_anywhere(settings.peer.paths, settings.peer.ssh_port, LOOK_S))
    except ValueError:
        # An address that is a name: the agent has it looked up, a command in need does not wait for that.
        return None


def _read_role(path: str) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        raw = read_or_none(path)
        if raw is not None:
            return {"role": visible(str(json.loads(raw)["role"])), "role_at": os.stat(path).st_mtime}
    return {}


def _look_at_supervisord(settings: Settings) -> dict[str, Any]:
    limits = settings.supervisor
    pid = SupervisordFinder(limits.socket, limits.config, 0.0).find()
    if pid is None:
        return {"programs_problem": "not known: supervisord does not run"}
    if not os.access(limits.socket, os.W_OK):
        return {"supervisord_pid": pid, "programs_problem": "not known: supervisord's socket is not for this user"}
    try:
        rows = Supervisord(limits.socket, limits.rpc_timeout_s, limits.config).read_processes()
    except SupervisordDown as error:
        return {"supervisord_pid": pid, "programs_problem": f"not known: supervisord does not answer ({error})"}
    return {"supervisord_pid": pid, "programs": visible_data({row.full_name: str(row.state) for row in rows})}


def _count_confs(path: str) -> dict[str, Any]:
    try:
        scan = scan_registry(path, EMPTY, {})
        # A conf that this user may not read is there all the same.
        return {"confs": sum(map(is_loadable_name, {*(entry.path for entry in scan.manifest), *scan.refused}))}
    except RegistryUnavailable as error:
        return {"registry_problem": f"not known: {error}"}


def _read_last_change(settings: Settings) -> Event | None:
    """The last change of this node's role. None also where the history is not for this user to read."""
    paths = settings.paths
    if not os.access(paths.state_dir, os.R_OK | os.X_OK):
        return None
    events = History(paths.state_dir, settings.node.name, paths.history_max_bytes).read(NEWEST)
    changes = [event for event in events if "from" in event and "to" in event]
    return visible_data({"event": changes[-1]})["event"] if changes else None
