"""What must be done to a registry to make it what it was at another time, and what of that nobody has any more. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ha_agent.core.manifest import Entry, Manifest, diff_manifests


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """``added`` and ``changed``: entries to write; ``deleted``: paths; ``lost``: entries whose content is nowhere."""

    added: tuple[Entry, ...]
    changed: tuple[Entry, ...]
    deleted: tuple[str, ...]
    lost: tuple[Entry, ...]

    @property
    def writes(self) -> tuple[Entry, ...]:
        """Everything that is to be written."""
        return self.added + self.changed

    @property
    def has_work(self) -> bool:
        """Whether anything would be done."""
        return bool(self.writes or self.deleted)


def plan_restore(present: Manifest, wanted: Manifest, contents: Collection[str]) -> RestorePlan:
    """The way from ``present`` to ``wanted``. ``contents``: digests of the contents that there are.

    A conf whose content is lost is left as it is, and not deleted: what is there may be all that is left of it.
    """
    difference = diff_manifests(present, wanted)
    # Of two that differ in their permission bits alone the content is what it was.
    puts = [entry for entry in difference.puts if not _is_there(present, entry)]
    held = [entry for entry in puts if entry.sha256 in contents]
    return RestorePlan(
        added=tuple(entry for entry in held if entry.path not in present),
        changed=tuple(entry for entry in held if entry.path in present),
        deleted=difference.deletes,
        lost=tuple(entry for entry in puts if entry.sha256 not in contents),
    )


def _is_there(present: Manifest, entry: Entry) -> bool:
    found = present.find(entry.path)
    return found is not None and found.sha256 == entry.sha256
