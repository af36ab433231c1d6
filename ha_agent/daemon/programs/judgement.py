"""Judging texts of confs before they are loaded or written: here, by lint, and by the peer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Mapping
from typing import Any

from ha_agent.adapters.conf_checker import CheckerFailed, ConfChecker
from ha_agent.adapters.rpc import Disconnected, RemoteError
from ha_agent.adapters.ssh import PeerLink
from ha_agent.core.confs import Verdict, refuse_local
from ha_agent.core.lint import lint_conf
from ha_agent.core.names import PARKED
from ha_agent.core.surroundings import TEXT_ALONE, Surroundings
from ha_agent.core.words import Refused
from ha_agent.daemon.replication.view import RegistryView

PEER_JUDGES_S = 5.0


class Judgement:
    """For the registry at ``registry``; ``peer``: the other node's name; ``local_names``: see ``LocalGroups``.

    ``around``: the pair's settings that remarks depend on; it reads no files.
    """

    def __init__(
        self,
        registry: str,
        peer: str,
        view: RegistryView,
        checker: ConfChecker,
        link: PeerLink,
        local_names: Callable[[], frozenset[str]],
        around: Surroundings = TEXT_ALONE,
    ) -> None:
        self._registry, self._peer = registry, peer
        self._view, self._checker, self._link = view, checker, link
        self._local_names, self._around = local_names, around

    def read_text(self, path: str) -> str | None:
        """The conf at ``path`` as it is known now; None where there is none, or it has just changed."""
        entry = self._view.manifest.find(path)
        content = self._view.read_content(path, entry.sha256) if entry else None
        return None if content is None else content.decode("utf-8", "surrogateescape")

    async def judge_texts(self, texts: Mapping[str, str], *, for_stranger: bool = False) -> dict[str, Verdict]:
        """What supervisord's own parser says of ``texts``, by the path that each would have. Raises ``CheckerFailed``.

        ``for_stranger``: of directories that are not open to everybody nothing is said.
        """
        directories = {path: os.path.dirname(os.path.join(self._registry, path)) for path in texts}
        verdicts = await self._checker.judge(texts, directories, for_stranger=for_stranger)
        return refuse_local(verdicts, await asyncio.to_thread(self._local_names))

    async def require_loadable(self, texts: Mapping[str, str], consequence: str) -> None:
        """Raises ``Refused`` where one of ``texts`` could not be loaded, or lacks something, on this node.

        ``consequence``: what that means for the registry, for the end of the message.
        """
        if not texts:
            return
        try:
            verdicts = await self.judge_texts(texts)
        except CheckerFailed as error:
            raise Refused(f"confs cannot be checked: {error}; {consequence}") from None
        for path, verdict in verdicts.items():
            if verdict.problem is not None:
                raise Refused(f"{path} cannot be loaded here: {verdict.problem}; {consequence}")
            lacking = [f"{p.name}: {m}" for p in verdict.programs for m in p.missing]
            if lacking:
                raise Refused(f"{'; '.join(lacking)}; {consequence}")

    async def ask_peer(self, paths: Collection[str], texts: Mapping[str, str] | None = None) -> list[str]:
        """What would keep the peer from running these confs, as warnings; nothing where it cannot be asked.

        ``paths``: of the registry; ``texts``: of confs that are not there yet.
        """
        confs = dict(texts or {})
        for path in paths:
            if (text := self.read_text(path)) is not None:
                confs[path.removesuffix(PARKED)] = text
        try:
            answer = await self._ask_peer(confs)
        except (Disconnected, RemoteError, TimeoutError) as error:
            return [f"{self._peer} could not be asked whether it could run this: {str(error) or 'no answer'}"]
        if answer.get("failure"):
            return [f"{self._peer} could not check this: {answer['failure']}"]
        warnings = []
        for path, verdict in answer.get("verdicts", {}).items():
            if verdict["problem"]:
                warnings.append(f"{self._peer} could not load {path}: {verdict['problem']}")
            warnings += [f"{self._peer} could not run {p['name']}: {m}" for p in verdict["programs"] for m in p["missing"]]
        return warnings

    async def require_free_at_peer(self, texts: Mapping[str, str]) -> None:
        """Raises ``Refused`` where the peer has a local program or group of a name in ``texts``; a silent one has none."""
        try:
            answer = await self._ask_peer(texts)
        except (Disconnected, RemoteError, TimeoutError):
            return
        for path, verdict in answer.get("verdicts", {}).items():
            if verdict.get("taken"):
                raise Refused(f"{path} could not be loaded at {self._peer}: {verdict['problem']}; the registry is as it was")

    async def _ask_peer(self, confs: Mapping[str, str]) -> dict[str, Any]:
        if not confs or not self._link.is_up:
            return {}
        return await self._link.ask({"op": "judge", "confs": dict(confs)}, PEER_JUDGES_S)

    def remarks_on(self, path: str, text: str) -> list[str]:
        """What ``ha-agent lint`` finds wrong with a conf that supervisord takes, by its text alone.

        No file that it names is read: the agent is root, and whoever asked may not be.
        """
        found = [finding for finding in lint_conf(path, text, self._around) if finding.is_wrong]
        return [f"{path}: {f.text}" + (f"; {f.remedy}" if f.remedy else "") for f in found]
