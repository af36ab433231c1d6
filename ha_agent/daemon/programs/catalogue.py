"""What the registry defines, parked or not, as a catalogue that is asked by the names that operators use."""

from __future__ import annotations

from ha_agent.core.confs import Verdict
from ha_agent.core.targets import Catalogue, Conf, read_headers
from ha_agent.daemon.programs.active_set import ActiveSet
from ha_agent.daemon.programs.readiness import Readiness
from ha_agent.daemon.replication.view import RegistryView


class CatalogueReader:
    """Keeps the last catalogue: a dashboard asks every second, and ten thousand confs take a tenth of it."""

    def __init__(self, view: RegistryView, active_set: ActiveSet, readiness: Readiness) -> None:
        self._view, self._active_set, self._readiness = view, active_set, readiness
        self._headers: dict[str, tuple[str, Conf]] = {}
        self._catalogue: Catalogue | None = None
        self._made_of: tuple[object, object] = (None, None)

    async def read(self) -> Catalogue:
        """Everything that the registry defines, as it is known now."""
        manifest, active_set = self._view.manifest, self._active_set
        if active_set.judged != manifest:
            await self._readiness.judge()
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
            known = self._headers.get(entry.path)
            if known is None or known[0] != entry.sha256:
                content = self._view.read_content(entry.path, entry.sha256) or b""
                known = (entry.sha256, read_headers(entry.path, content.decode("utf-8", "surrogateescape")))
            fresh[entry.path] = known
            problem = selection.problems.get(entry.path)
            conf = known[1]
            confs.append(Conf(conf.path, conf.programs, conf.groups, problem=problem) if problem else conf)
        self._headers = fresh
        self._catalogue, self._made_of = Catalogue(confs, selection.groups), (manifest, selection)
        return self._catalogue


def _conf_of(path: str, verdict: Verdict) -> Conf:
    names = tuple(program.name for program in verdict.programs)
    processes = {program.name: program.processes for program in verdict.programs}
    return Conf(path, names, dict(verdict.groups), processes)
