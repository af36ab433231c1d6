"""What a node can be asked by its own operators and by its peer's: operations that look at, or act on, this node alone.

A command that needs both nodes asks each of them: its own daemon directly, the other one through it (``at-peer``).
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ha_agent.adapters.conf_checker import CheckerFailed
from ha_agent.adapters.kept import list_kept, prune_kept, read_kept
from ha_agent.adapters.rpc import Handler, Malformed, Progress
from ha_agent.adapters.runner import ProgramMissing, run_program
from ha_agent.core.confs import Verdict
from ha_agent.core.frames import Message
from ha_agent.core.words import Role
from ha_agent.daemon.drill import DrillRefused
from ha_agent.daemon.operations.status import describe_node

if TYPE_CHECKING:
    from ha_agent.daemon.agent import Agent

MAX_EVENTS = 10_000
MAX_CONTENT_BYTES = 4 * 1024 * 1024
"""So much content an answer carries at most; who wants more asks again for the rest."""

MAX_KEPT_ROWS = 20_000
DRAIN_S = 5.0
PEER_ROLE_S = 2.0
HAND_OVER_LIMIT_S = 5.0
DOCTOR_LIMIT_S = 30.0

HANDED_ON = ("supervisor", "program-stop", "program-start", "program-restart")
"""Operations on programs that an operator may ask of the peer by way of the own node, as if it were done there."""


def take(message: Message, name: str, kind: type | tuple[type, ...], default: Any = None) -> Any:
    """The field ``name`` of a request. Raises ``Malformed`` where it has another type."""
    value = message.get(name, default)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise Malformed(f"{name} is {value!r:.60}")
    return value


class NodeService:
    """Serves one agent's node. Nothing here waits for the peer."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self.handlers: dict[str, Handler] = {
            "history": self._serve_history,
            "view": self._serve_view,
            "contents": self._serve_contents,
            "kept-list": self._serve_kept_list,
            "kept-read": self._serve_kept_read,
            "kept-prune": self._serve_kept_prune,
            "judge": self._serve_judge,
            "doctor": self._serve_doctor,
            "maintenance": self._serve_maintenance,
            "hand-over": self._serve_hand_over,
            "drill-begin": self._serve_drill_begin,
            "drill-fault": self._serve_drill_fault,
            "drill-end": self._serve_drill_end,
            **agent.alerting.handlers,
            "programs": agent.program_queries.handlers["programs"],
        }

    async def _serve_history(self, message: Message, _progress: Progress) -> Message:
        count = min(take(message, "count", int, 100), MAX_EVENTS)
        since = float(take(message, "since", (int, float), 0.0))
        return {"events": await asyncio.to_thread(self._agent.history.read, count, since), "at": time.time()}

    async def _serve_view(self, message: Message, progress: Progress) -> Message:
        """Everything that a screen or a scrape shows of this node, from one look at supervisord at most."""
        agent = self._agent
        infos = await agent.program_alerts.glimpse()
        programs = await agent.program_queries.describe_programs(infos or ())
        node = await describe_node(agent, infos)
        alerts = await agent.alerting.handlers["alert-list"]({"count": 20}, progress)
        return {"node": node, "programs": programs, "alerts": alerts, "figures": agent.figures.describe()}

    async def _serve_contents(self, message: Message, _progress: Progress) -> Message:
        """The contents of registry files by path, as many as fit; the others are asked for again."""
        view = self._agent.view
        found: dict[str, str | None] = {}
        total = 0
        for path in take(message, "paths", list):
            entry = view.manifest.find(path) if isinstance(path, str) else None
            content = view.read_content(path, entry.sha256) if entry is not None else None
            total += len(content or b"")
            if found and total > MAX_CONTENT_BYTES:
                break
            found[str(path)] = None if content is None else base64.b64encode(content).decode("ascii")
        return {"contents": found}

    async def _serve_kept_list(self, _message: Message, _progress: Progress) -> Message:
        # What the journal still holds becomes a file with the checkpoint.
        await self._agent.ledger.checkpoint()
        entries = await asyncio.to_thread(list_kept, self._agent.settings.paths.state_dir)
        return {"kept": [asdict(entry) for entry in entries[-MAX_KEPT_ROWS:]], "total": len(entries)}

    async def _serve_kept_read(self, message: Message, _progress: Progress) -> Message:
        words = [take(message, name, str) for name in ("generation", "path", "sha256")]
        content = await asyncio.to_thread(read_kept, self._agent.settings.paths.state_dir, *words)
        return {"content": None if content is None else base64.b64encode(content).decode("ascii")}

    async def _serve_kept_prune(self, message: Message, _progress: Progress) -> Message:
        keep = take(message, "generations", int, 0)
        older = take(message, "older_s", (int, float, type(None)))
        divergences = take(message, "divergences", bool, False)
        before = None if older is None else time.time() - float(older)
        state_dir = self._agent.settings.paths.state_dir

        def prune() -> int:
            return prune_kept(state_dir, keep, before_wall=before, divergences=divergences)

        removed = await asyncio.to_thread(prune)
        if removed:
            text = f"{removed} generations of kept copies were removed" + (" (divergences, too)" if divergences else "")
            self._agent.history.add("kept-pruned", text, by=str(message.get("by", "?")))
        return {"removed": removed}

    async def _serve_judge(self, message: Message, _progress: Progress) -> Message:
        """What supervisord's own parser says of texts that need not be in the registry, on this node."""
        confs = take(message, "confs", dict)
        if not all(isinstance(text, str) for text in confs.values()) or sum(map(len, confs.values())) > MAX_CONTENT_BYTES:
            raise Malformed("confs is no object of texts, or too long")
        root = self._agent.settings.registry.path
        directories = {path: os.path.dirname(os.path.join(root, path)) for path in confs}
        try:
            verdicts = await self._agent.checker.judge(confs, directories)
        except CheckerFailed as error:
            return {"failure": str(error), "verdicts": {}}
        finally:
            self._agent.readiness.wake()
        return {"failure": None, "verdicts": {path: describe_verdict(v) for path, v in verdicts.items()}}

    async def _serve_doctor(self, _message: Message, _progress: Progress) -> Message:
        """Runs this node's own ``ha-agent doctor``: as a process, so that the daemon carries nothing of it."""
        words = [sys.executable, "-m", "ha_agent", "doctor", "--json", "--config", self._agent.config_path]
        env = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
        try:
            outcome = await run_program(words, DOCTOR_LIMIT_S, env=env)
            report = json.loads(outcome.output)
        except (ProgramMissing, ValueError) as error:
            return {"failure": f"doctor could not be run: {error}"}
        return {"failure": None, "report": report}

    async def _serve_maintenance(self, message: Message, _progress: Progress) -> Message:
        agent = self._agent
        by = str(message.get("by", "?"))[:64]
        if not take(message, "on", bool):
            agent.maintenance.end(by)
            agent.wake()
            return {"outcome": "off"}
        if agent.standing.role in (Role.TAKING_OVER, Role.RELEASING):
            return {
                "outcome": "refused",
                "reason": f"{agent.node} is {agent.standing.role.value} just now; try again in a moment",
            }
        for_s = float(take(message, "for_s", (int, float)))
        reason = take(message, "reason", str, "")[:500]
        window = agent.maintenance.begin(for_s, reason, by)
        return {"outcome": "on", "until": window.until}

    async def _serve_hand_over(self, message: Message, _progress: Progress) -> Message:
        """Begins a switchover: keepalived gives MASTER up here, and everything follows from that.

        Refuses unless this node is active and the peer ready to be; ``force`` overrides all but the role.
        """
        agent = self._agent
        by = str(message.get("by", "?"))[:64]
        reason = await self._find_obstacle(force=take(message, "force", bool, False))
        if reason is not None:
            return {"outcome": "refused", "reason": reason}
        agent.history.add("switchover", f"hands over to {agent.settings.peer.name}", by=by)
        # A peer that is not MASTER by then will not be: this node may compete for it again.
        limit_s = HAND_OVER_LIMIT_S + 5 * agent.settings.vrrp.advert_int_s
        agent.fitness.hand_over(agent.loop.time(), f"switchover, asked for by {by}", limit_s)
        agent.wake()
        return {"outcome": "begun", "at": time.time()}

    async def _serve_drill_begin(self, message: Message, _progress: Progress) -> Message:
        for_s = float(take(message, "for_s", (int, float)))
        try:
            self._agent.drill.begin(take(message, "drill", str)[:64], for_s, str(message.get("by", "?"))[:64])
        except DrillRefused as error:
            return {"outcome": "refused", "reason": str(error)}
        return {"outcome": "begun", "at": time.time()}

    async def _serve_drill_fault(self, message: Message, _progress: Progress) -> Message:
        identifier, mode = take(message, "drill", str), take(message, "mode", str)
        hold_s = float(take(message, "hold_s", (int, float)))
        try:
            at = await self._agent.drill.make_fault(identifier, mode, hold_s, really=take(message, "really", bool, False))
        except DrillRefused as error:
            return {"outcome": "refused", "reason": str(error)}
        return {"outcome": "begun", "at": at}

    async def _serve_drill_end(self, message: Message, _progress: Progress) -> Message:
        return {"samples": await self._agent.drill.end(take(message, "drill", str))}

    async def _find_obstacle(self, *, force: bool) -> str | None:
        agent = self._agent
        if agent.standing.role is not Role.ACTIVE:
            return f"{agent.node} is {agent.standing.role.value}, not active"
        if force:
            return None
        if agent.maintenance.is_on:
            return "maintenance is on"
        peer_role = await agent.peers.ask_role(PEER_ROLE_S)
        if peer_role is not Role.STANDBY:
            how = "cannot be reached" if peer_role is None else f"is {peer_role.value}, not standby"
            return f"{agent.settings.peer.name} {how}"
        await agent.view.compare_now()
        if not (await agent.acknowledger.wait(limit_s=DRAIN_S)).on_peer:
            return f"{agent.settings.peer.name} does not have every change yet"
        return None


def describe_verdict(verdict: Verdict) -> dict[str, Any]:
    """A verdict as JSON-able data."""
    programs: list[Mapping[str, Any]] = [asdict(program) for program in verdict.programs]
    return {"problem": verdict.problem, "programs": programs, "groups": dict(verdict.groups)}
