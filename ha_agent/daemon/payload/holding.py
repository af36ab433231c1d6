"""What this node holds of the payload, and which rules say what that is. Both ends of its replication ask here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

from ha_agent.adapters.payload_scan import PayloadScanner, Scan
from ha_agent.core.file_keys import read_files
from ha_agent.core.payload_rules import Limits, PayloadRules, find_fault
from ha_agent.core.settings import PayloadSettings
from ha_agent.daemon.replication.view import RegistryView

log = logging.getLogger(__name__)


class PayloadHolding:
    """``own``: places of which nothing is payload on this node, besides those that no node has any of."""

    def __init__(
        self, settings: PayloadSettings, registry: str, view: RegistryView, scanner: PayloadScanner, own: tuple[str, ...]
    ) -> None:
        self._settings, self._registry, self._view, self._scanner, self._own = settings, registry, view, scanner, own
        self._lock = asyncio.Lock()
        self._in_force: tuple[str, PayloadRules] | None = None

    def find_rules(self) -> PayloadRules:
        """The rules in force: those of agent.toml, with what the confs of the registry name by now."""
        manifest, settings = self._view.manifest, self._settings
        if self._in_force is None or self._in_force[0] != manifest.hash:
            named = sorted(set(self._named_by_confs())) if settings.conf_files_below else []
            limits = Limits(settings.max_file_bytes, settings.max_total_bytes, settings.max_entries)
            self._in_force = manifest.hash, PayloadRules((*settings.paths, *named), (*settings.exclude, *self._own), limits)
        return self._in_force[1]

    def _named_by_confs(self) -> Iterator[str]:
        below = PayloadRules(self._settings.conf_files_below)
        for entry in self._view.manifest:
            content = self._view.read_content(entry.path, entry.sha256)
            if content is None:
                continue
            for keys in read_files(content.decode("utf-8", "surrogateescape"), self._registry)[0].values():
                for path in keys.files:
                    if below.find_root(path) is not None and find_fault(path, (self._registry,)) is None:
                        yield path

    async def look(self, rules: PayloadRules) -> Scan:
        """What is there now, by ``rules``. One look at a time, in a thread. Raises ``ScanFailed``."""
        async with self._lock:
            return await asyncio.to_thread(self._scan, rules)

    def _scan(self, rules: PayloadRules) -> Scan:
        scan = self._scanner.scan(rules)
        # Of a large payload this takes longer than the loop may.
        _ = scan.listing.hash
        return scan
