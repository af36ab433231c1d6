"""What there is to know of a node's programs: the registry's confs, supervisord's processes, who may do what with them.

Looks only. The commands that change something stand on it.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ha_agent.adapters.conf_checker import CheckerFailed
from ha_agent.adapters.rpc import Disconnected, Handler, Progress, RemoteError
from ha_agent.adapters.supervisord import FAILED_STATES, RUNNING_STATES, Fault, ProcessInfo, SupervisordDown
from ha_agent.core.confs import Verdict
from ha_agent.core.frames import Message
from ha_agent.core.guard import Access, refusal_of
from ha_agent.core.lint import lint_conf
from ha_agent.core.names import PARKED
from ha_agent.core.targets import Catalogue, Conf, read_headers
from ha_agent.core.words import Role
from ha_agent.daemon.operations.node import take
from ha_agent.daemon.replication.acknowledgement import Acknowledgement

if TYPE_CHECKING:
    from ha_agent.daemon.agent import Agent

PEER_JUDGES_S = 5.0
PEER_ROLE_S = 1.0
_LOCAL_CALLS = {
    "startProcess",
    "startProcessGroup",
    "stopProcess",
    "stopProcessGroup",
    "addProcessGroup",
    "removeProcessGroup",
}


class Refused(Exception):
    """A command is refused and nothing has changed; the text says why and what to do instead."""


def take_words(message: Message, name: str = "names") -> list[str]:
    """A list of texts of a request. Raises ``Malformed``."""
    return [str(word)[:300] for word in take(message, name, list)]


class ProgramQueries:
    """Answers for one agent."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._confs: dict[str, tuple[str, Conf]] = {}
        # A dashboard asks every second; ten thousand confs take a tenth of it.
        self._catalogue: Catalogue | None = None
        self._made_of: tuple[object, object] = (None, None)
        self.handlers: dict[str, Handler] = {
            "whoami": self._serve_whoami,
            "programs": self._serve_programs,
            "supervisor": self._serve_supervisor,
        }

    async def _serve_whoami(self, message: Message, _progress: Progress) -> Message:
        agent = self._agent
        peer = agent.peer.role.value if agent.peer is not None and agent.link.is_up else None
        return {
            "node": agent.node,
            "role": agent.standing.role.value,
            "peer": agent.settings.peer.name,
            "peer_role": peer,
            "access": message.get("access", Access.OPERATE.value),
            "socket": agent.settings.supervisor.socket,
        }

    async def _serve_programs(self, _message: Message, _progress: Progress) -> Message:
        """Everything that ``supzcli status`` shows of this node."""
        agent = self._agent
        try:
            infos = await agent.programs.call("getAllProcessInfo", [])
        except SupervisordDown as error:
            return {"outcome": "down", "reason": str(error), "role": agent.standing.role.value}
        catalogue = await self.read_catalogue()
        local = [i for i in infos if i["group"] not in agent.programs.groups]
        starts_all = agent.settings.takeover.start_all
        idle = frozenset() if starts_all else agent.active_set.selection.not_started
        # A member of a group may be parked while supervisord still has it, stopped.
        parked = [
            {"name": p, "group": catalogue.group_of(p), "path": c.path, "since": self._since(c.path)}
            for c in catalogue.confs
            if c.is_parked
            for p in c.programs
        ]
        return {
            "outcome": "up",
            "role": agent.standing.role.value,
            "processes": infos,
            "local": sorted({i["group"] for i in local}),
            "parked": parked,
            "autostart": sorted(set(catalogue.registered) - idle),
            "groups": {g: list(m) for g, m in agent.active_set.selection.groups.items()},
            "problems": dict(agent.active_set.selection.problems),
        }

    async def describe_programs(self, infos: Iterable[ProcessInfo]) -> list[dict[str, Any]]:
        """Every one of supervisord's processes ``infos`` and every parked program, a row each.

        ``kind``: ``registry``, ``local`` (runs on both nodes), or ``parked``.
        """
        agent = self._agent
        parked = {
            (catalogue.group_of(p), p): conf.path
            for catalogue in [await self.read_catalogue()]
            for conf in catalogue.confs
            if conf.is_parked
            for p in conf.programs
        }
        rows = []
        for info in infos:
            key = info.group, info.name
            is_parked = key in parked and info.state not in RUNNING_STATES
            kind = "parked" if is_parked else "registry" if info.group in agent.programs.groups else "local"
            problem = info.spawn_error or (f"exit status {info.exit_status}" if info.state in FAILED_STATES else None)
            rows.append(
                {
                    "name": info.full_name,
                    "group": info.group,
                    "kind": kind,
                    "state": "PARKED" if is_parked else info.state,
                    "pid": info.pid or None,
                    "since": info.started or None,
                    "problem": problem,
                }
            )
            if is_parked:
                del parked[key]
        gone = {"kind": "parked", "state": "PARKED", "pid": None, "since": None, "problem": None}
        rows += [{"name": n if n == g else f"{g}:{n}", "group": g, **gone} for g, n in parked]
        return sorted(rows, key=lambda row: str(row["name"]))

    def _since(self, path: str) -> float | None:
        """When a conf got its name: a rename is what changes its inode last."""
        try:
            return round(os.stat(os.path.join(self._agent.settings.registry.path, path)).st_ctime, 3)
        except OSError:
            return None

    async def _serve_supervisor(self, message: Message, _progress: Progress) -> Message:
        """One call of supervisord's own interface, where the guard lets it pass."""
        agent = self._agent
        method, params = take(message, "method", str), take(message, "params", list)
        access = Access(message.get("access", Access.OPERATE.value))
        name = str(params[0]) if params else ""
        refusal = refusal_of(
            method,
            params,
            access,
            is_registry=method in _LOCAL_CALLS and self._is_registry(name.partition(":")[0]),
            is_active=agent.standing.role is Role.ACTIVE and agent.standing.plan is None,
        )
        if refusal is not None:
            return {"outcome": "refused", "reason": refusal}
        if method == "reloadConfig":
            await agent.view.compare_now()
            await agent.readiness.judge()
        try:
            if method == "addProcessGroup" and self._is_registry(name):
                agent.programs.remember_groups([name])
                async with agent.programs.loading:
                    if agent.standing.role is not Role.ACTIVE:
                        return {"outcome": "refused", "reason": f"{agent.node} is {agent.standing.role.value} now"}
                    result = await agent.programs.call(method, params)
            else:
                result = await agent.programs.call(method, params)
        except SupervisordDown as error:
            return {"outcome": "down", "reason": str(error)}
        if isinstance(result, Fault):
            return {"outcome": "fault", "code": result.code, "text": result.text}
        if access is Access.OPERATE and not method.startswith(("get", "read", "tail", "reload", "sendProcess")):
            text = f"{method} {' '.join(map(str, params))}"[:300]
            agent.history.add("supervisor-call", text, by=str(message.get("by", "?")))
        return {"outcome": "done", "result": result}

    def _is_registry(self, group: str) -> bool:
        return group in self._agent.programs.groups or group in self._agent.active_set.selection.groups

    async def read_catalogue(self) -> Catalogue:
        """Everything that the registry defines, parked or not, as it is known now."""
        agent = self._agent
        manifest, active_set = agent.view.manifest, agent.active_set
        if active_set.judged != manifest:
            await agent.readiness.judge()
        selection = active_set.selection
        if self._catalogue is not None and self._made_of[0] is manifest and self._made_of[1] is selection:
            return self._catalogue
        loadable = frozenset(selection.loadable)
        confs, fresh = [], {}
        for entry in manifest:
            verdict = active_set.verdict_of(entry.path)
            if entry.path in loadable and verdict is not None:
                confs.append(_conf_of(entry.path, verdict))
                continue
            known = self._confs.get(entry.path)
            if known is None or known[0] != entry.sha256:
                content = agent.view.read_content(entry.path, entry.sha256) or b""
                known = (entry.sha256, read_headers(entry.path, content.decode("utf-8", "surrogateescape")))
            fresh[entry.path] = known
            problem = selection.problems.get(entry.path)
            conf = known[1]
            confs.append(Conf(conf.path, conf.programs, conf.groups, problem=problem) if problem else conf)
        self._confs = fresh
        self._catalogue, self._made_of = Catalogue(confs, selection.groups), (manifest, selection)
        return self._catalogue

    async def require_active(self) -> None:
        """Raises ``Refused`` where this node may not start or park anything, naming the one that may."""
        agent = self._agent
        if agent.standing.role is Role.ACTIVE and agent.standing.plan is None:
            return
        peer = agent.settings.peer.name
        # What it last said of itself may be two seconds old: it is asked.
        if await agent.peers.ask_role(PEER_ROLE_S) is Role.ACTIVE:
            raise Refused(f"{agent.node} is {agent.standing.role.value}; {peer} is active: run this there")
        state = "busy" if agent.standing.role is Role.ACTIVE else agent.standing.role.value
        raise Refused(f"{agent.node} is {state}, and no node is known to be active; see ha-agent status")

    def describe(self, acknowledged: Acknowledgement | None, **more: Any) -> Message:
        """The frame of an answer."""
        agent = self._agent
        ack = acknowledged.to_dict() if acknowledged else None
        return {"outcome": "done", "node": agent.node, "peer": agent.settings.peer.name, "ack": ack, **more}

    async def check_texts(self, texts: Mapping[str, str], consequence: str) -> dict[str, Verdict]:
        """The verdicts on ``texts``. Raises ``Refused`` where one could not be loaded, or lacks something, on this node."""
        if not texts:
            return {}
        agent = self._agent
        root = agent.settings.registry.path
        try:
            verdicts = await agent.checker.judge(texts, {p: os.path.dirname(os.path.join(root, p)) for p in texts})
        except CheckerFailed as error:
            raise Refused(f"confs cannot be checked: {error}; {consequence}") from None
        for path, verdict in verdicts.items():
            if verdict.problem is not None:
                raise Refused(f"{path} cannot be loaded here: {verdict.problem}; {consequence}")
            lacking = [f"{p.name}: {m}" for p in verdict.programs for m in p.missing]
            if lacking:
                raise Refused(f"{'; '.join(lacking)}; {consequence}")
        return verdicts

    async def ask_peer_about(self, paths: Collection[str], texts: Mapping[str, str] | None = None) -> list[str]:
        """What would keep the peer from running these confs, as warnings; nothing where it cannot be asked."""
        agent = self._agent
        confs = dict(texts or {})
        for path in paths:
            entry = agent.view.manifest.find(path)
            content = agent.view.read_content(path, entry.sha256) if entry else None
            if content is not None:
                confs[path.removesuffix(PARKED)] = content.decode("utf-8", "surrogateescape")
        if not confs or not agent.link.is_up:
            return []
        peer = agent.settings.peer.name
        try:
            answer = await agent.link.ask({"op": "judge", "confs": confs}, PEER_JUDGES_S)
        except (Disconnected, RemoteError, TimeoutError) as error:
            return [f"{peer} could not be asked whether it could run this: {error or 'no answer'}"]
        if answer.get("failure"):
            return [f"{peer} could not check this: {answer['failure']}"]
        warnings = []
        for path, verdict in answer.get("verdicts", {}).items():
            if verdict["problem"]:
                warnings.append(f"{peer} could not load {path}: {verdict['problem']}")
            warnings += [f"{peer} could not run {p['name']}: {m}" for p in verdict["programs"] for m in p["missing"]]
        return warnings


def lint_remarks(path: str, text: str) -> list[str]:
    """What ``ha-agent lint`` says of a conf that supervisord takes."""
    return [f"{path}: {f.text}" + (f"; {f.remedy}" if f.remedy else "") for f in lint_conf(path, text)]


def _conf_of(path: str, verdict: Verdict) -> Conf:
    names = tuple(program.name for program in verdict.programs)
    processes = {program.name: program.processes for program in verdict.programs}
    return Conf(path, names, dict(verdict.groups), processes)
