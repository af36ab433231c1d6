"""What there is to know of a node's programs: the registry's confs and supervisord's processes. Looks only."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ha_agent.adapters.ssh import PeerLink
from ha_agent.adapters.supervisord import ProcessInfo, SupervisordDown
from ha_agent.core.account import WaitAccount
from ha_agent.core.account_json import describe_waits
from ha_agent.core.answers import ProgramsAnswer, WhoAmIAnswer
from ha_agent.core.requests import Request
from ha_agent.core.settings import Settings
from ha_agent.core.supervisor_words import EXPLAINED_STATES, LIVE_STATES, PARKED_STATE, WAITING_STATE, State, full_name
from ha_agent.core.targets import Catalogue
from ha_agent.core.wait_texts import say_unmet
from ha_agent.core.words import Outcome
from ha_agent.daemon.operations.call import Call
from ha_agent.daemon.operations.usage import ProgramUsage
from ha_agent.daemon.peer.conversation import Conversation
from ha_agent.daemon.programs.active_set import ActiveSet
from ha_agent.daemon.programs.catalogue import CatalogueReader
from ha_agent.daemon.programs.loaded_groups import LoadedGroups
from ha_agent.daemon.programs.supervised import Supervised
from ha_agent.daemon.standing import Standing


class ProgramViews:
    """Answers for one group."""

    def __init__(
        self,
        settings: Settings,
        standing: Standing,
        supervised: Supervised,
        loaded: LoadedGroups,
        active_set: ActiveSet,
        catalogue: CatalogueReader,
        conversation: Conversation,
        link: PeerLink,
        describe_waits: Callable[[float], Sequence[WaitAccount]],
        say_drifts: Callable[[], Mapping[str, str]],
        usage: ProgramUsage,
        wall: Callable[[], float],
    ) -> None:
        """``describe_waits``: the programs that are started after others and are not yet, at a time of ``wall``.

        ``say_drifts``: by program in what its files differ on the other node.
        """
        self._settings, self._standing = settings, standing
        self._supervised, self._loaded, self._active_set = supervised, loaded, active_set
        self._catalogue, self._conversation, self._link = catalogue, conversation, link
        self._describe_waits, self._say_drifts = describe_waits, say_drifts
        self._usage, self._wall = usage, wall

    async def whoami(self, _request: Request, call: Call) -> WhoAmIAnswer:
        """Where the user is, and what that user may do."""
        peer = self._conversation.peer
        return {
            "node": self._standing.node,
            "role": self._standing.role.value,
            "peer": self._settings.peer.name,
            "peer_role": peer.role.value if peer is not None and self._link.is_up else None,
            "access": call.access.value,
            "socket": self._settings.supervisor.socket,
        }

    async def programs(self, _request: Request, _call: Call) -> ProgramsAnswer:
        """Everything that ``supzcli status`` shows of this node."""
        role, selection = self._standing.role.value, self._active_set.selection
        try:
            infos = await self._supervised.call("getAllProcessInfo", [])
        except SupervisordDown as error:
            return {"outcome": Outcome.DOWN, "reason": str(error), "role": role}
        catalogue = await self._catalogue.read()
        local = [i for i in infos if i["group"] not in self._loaded.names]
        idle = frozenset() if self._settings.takeover.start_all else selection.not_started
        # A member of a group may be parked while supervisord still has it, stopped.
        parked = [
            {"name": p, "group": catalogue.group_of(p), "path": c.path, "since": self._since(c.path)}
            for c in catalogue.confs
            if c.is_parked
            for p in c.programs
        ]
        return {
            "outcome": Outcome.UP,
            "role": role,
            "processes": infos,
            "local": sorted({i["group"] for i in local}),
            "parked": parked,
            "autostart": sorted(set(catalogue.registered) - idle),
            "groups": {g: list(m) for g, m in selection.groups.items()},
            "problems": dict(selection.problems),
            "waits": describe_waits(self._describe_waits(self._wall())),
            "at": round(self._wall(), 3),
        }

    def _since(self, path: str) -> float | None:
        """When a conf got its name: a rename is what changes its inode last."""
        try:
            return round(os.stat(os.path.join(self._settings.registry.path, path)).st_ctime, 3)
        except OSError:
            return None

    async def describe(self, infos: Iterable[ProcessInfo]) -> list[dict[str, Any]]:
        """Every one of supervisord's processes ``infos`` and every parked program, a row each.

        ``kind``: ``registry``, ``local`` (runs on both nodes), ``parked``, or ``waiting``, with ``waits_for``. ``path``: its
        conf in the registry, null where it is not of that; ``usage``: as ``ProgramUsage`` says, null where nothing is known.
        """
        catalogue = await self._catalogue.read()
        parked = {(catalogue.group_of(p), p) for conf in catalogue.confs if conf.is_parked for p in conf.programs}
        rows = []
        for info in infos:
            is_parked = (info.group, info.name) in parked and info.state not in LIVE_STATES
            rows.append(_describe_process(info, is_parked=is_parked, is_registry=info.group in self._loaded.names))
            if is_parked:
                parked.discard((info.group, info.name))
        gone = {"kind": "parked", "state": PARKED_STATE, "pid": None, "since": None, "problem": None}
        rows += [{"name": full_name(group, name), "group": group, **gone} for group, name in parked]
        loaded = {row["name"] for row in rows}
        rows += [
            row for wait in self._describe_waits(self._wall()) for row in _describe_wait(wait) if row["name"] not in loaded
        ]
        _add_drifts(rows, self._say_drifts(), catalogue)
        paths = _list_paths(catalogue)
        used = await self._usage.read({row["pid"] for row in rows if row["pid"]})
        for row in rows:
            row["path"] = paths.get(_split_name(row)) if row["kind"] != "local" else None
            row["usage"] = used.get(row["pid"])
        return sorted(rows, key=lambda row: str(row["name"]))


def _add_drifts(rows: Iterable[dict[str, Any]], said: Mapping[str, str], catalogue: Catalogue) -> None:
    """Adds ``differs`` to the rows of programs whose files are not the same on both nodes."""
    if not said:
        return
    processes = {program: names for conf in catalogue.confs for program, names in conf.processes.items() if program in said}
    programs = {(catalogue.group_of(program), name): program for program, names in processes.items() for name in names}
    for row in rows:
        program = programs.get((row["group"], str(row["name"]).rpartition(":")[2]))
        if row["kind"] != "local" and program is not None:
            row["differs"] = said[program]


def _split_name(row: Mapping[str, Any]) -> tuple[str, str]:
    """Group and process of a row."""
    return row["group"], str(row["name"]).rpartition(":")[2]


def _list_paths(catalogue: Catalogue) -> dict[tuple[str, str], str]:
    """The conf of every process, by its group and name; one that is registered comes before one that is parked."""
    found: dict[tuple[str, str], str] = {}
    for conf in sorted(catalogue.confs, key=lambda conf: conf.is_parked):
        for program in conf.programs:
            for process in (program, *conf.processes.get(program, ())):
                found.setdefault((catalogue.group_of(program), process), conf.path)
    return found


def _describe_wait(wait: WaitAccount) -> Iterator[dict[str, Any]]:
    problem = say_unmet(wait.words) if wait.given_up_wall is not None else None
    for name in wait.processes:
        yield {
            "name": name,
            "group": wait.group,
            "kind": "waiting",
            "state": WAITING_STATE if problem is None else State.STOPPED,
            "pid": None,
            "since": round(wait.since_wall, 3),
            "problem": problem,
            "waits_for": list(wait.words),
        }


def _describe_process(info: ProcessInfo, *, is_parked: bool, is_registry: bool) -> dict[str, Any]:
    problem = info.spawn_error or (f"exit status {info.exit_status}" if info.state in EXPLAINED_STATES else None)
    return {
        "name": info.full_name,
        "group": info.group,
        "kind": "parked" if is_parked else "registry" if is_registry else "local",
        "state": PARKED_STATE if is_parked else info.state,
        "pid": info.pid or None,
        "since": info.started or None,
        "problem": problem,
    }
