"""Which of supervisord's groups are the registry's.

They are remembered before supervisord knows them, so that a release finds them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from ha_agent.adapters.files import keep_note, read_note, remove_note, write_note


class LoadedGroups:
    """The names, in memory and in the file ``path``: one a line, because ha-agent-fence, a shell script, reads it too."""

    def __init__(self, path: str) -> None:
        self._path = path
        raw = read_note(path)
        self.names: frozenset[str] = frozenset(os.fsdecode(raw).splitlines()) if raw else frozenset()

    def remember(self, groups: Iterable[str]) -> None:
        """Notes that ``groups`` belong to the registry. Raises ``OSError``; nothing has changed then."""
        merged = self.names | frozenset(groups)
        if merged != self.names:
            write_note(self._path, _to_note(merged), 0o600)
            self.names = merged

    def adopt(self, groups: Iterable[str]) -> None:
        """Takes groups for the registry's that supervisord has and that are not local: the notes were lost. Never raises."""
        names = self.names | frozenset(groups)
        with contextlib.suppress(OSError):
            self.remember(names)
        self.names = names

    def forget(self) -> None:
        """Notes that nothing of the registry is loaded any more."""
        self.names = frozenset()
        with contextlib.suppress(OSError):
            remove_note(self._path)

    def keep(self) -> bool:
        """Writes the file again where it does not hold the names; says whether it did. Raises ``OSError``."""
        if self.names:
            return keep_note(self._path, _to_note(self.names), 0o600)
        if not os.path.lexists(self._path):
            return False
        remove_note(self._path)
        return True


def _to_note(names: frozenset[str]) -> bytes:
    return os.fsencode("".join(f"{name}\n" for name in sorted(names)))
