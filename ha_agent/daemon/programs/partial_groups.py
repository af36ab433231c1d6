"""Groups of which a member is parked while the others run on: supervisord has more of them than the registry says."""

from __future__ import annotations

import contextlib
import hashlib
import json

from ha_agent.adapters.files import read_note, write_note
from ha_agent.daemon.programs.active_set import ActiveSet


class PartialGroups:
    """Notes in the file ``path`` what such a group looked like, so that no update restarts its members without need."""

    def __init__(self, path: str, active_set: ActiveSet) -> None:
        self._path, self._active_set = path, active_set

    def note(self, group: str) -> None:
        """Notes that supervisord runs ``group`` with a stopped member that is parked: no update need restart the others."""
        self._save({**self._load(), group: self._digest(group)})

    def forget(self, group: str) -> None:
        """Forgets that: ``group`` was loaded again."""
        known = self._load()
        if known.pop(group, None) is not None:
            self._save(known)

    def is_partial(self, group: str) -> bool:
        """Whether all that makes ``group`` another one than supervisord has is a parked member."""
        return self._load().get(group) == self._digest(group)

    def _digest(self, group: str) -> str:
        """What the members of ``group`` that are not parked say now."""
        active_set = self._active_set
        members = active_set.selection.groups.get(group, ())
        shas = []
        for path in active_set.selection.loadable:
            verdict, entry = active_set.verdict_of(path), active_set.judged.find(path)
            if verdict and entry and (group in verdict.groups or {p.name for p in verdict.programs} & set(members)):
                shas.append(f"{path} {entry.sha256}")
        return hashlib.sha256("\n".join([*members, *shas]).encode()).hexdigest()

    def _load(self) -> dict[str, str]:
        with contextlib.suppress(ValueError):
            raw = json.loads(read_note(self._path) or b"{}")
            return {str(k): str(v) for k, v in raw.items()} if isinstance(raw, dict) else {}
        return {}

    def _save(self, known: dict[str, str]) -> None:
        write_note(self._path, json.dumps(known).encode(), 0o600)
