"""Checks of [payload]: that what is named is there and lies where its name says, and how far the copy is."""

from __future__ import annotations

from collections.abc import Iterator

from ha_agent.adapters.payload_scan import PayloadScanner, ScanFailed
from ha_agent.cli.doctor.context import Check, Context, ok, warning
from ha_agent.core.findings import Finding
from ha_agent.core.payload_rules import Limits, PayloadRules

MOST = 20


def check_payload_paths(context: Context) -> Iterator[Finding]:
    """Looks at everything that [payload] names on this node; what a file must not say is found when it is read."""
    payload = context.settings.payload
    if not payload.paths:
        return
    limits = Limits(payload.max_file_bytes, payload.max_total_bytes, payload.max_entries)
    try:
        scan = PayloadScanner().scan(PayloadRules(payload.paths, payload.exclude, limits))
    except ScanFailed as error:
        yield warning("payload-path", f"payload: {error}", "name less in [payload], exclude something, or raise the limit")
        return
    for problem in scan.problems[:MOST]:
        yield warning("payload-path", f"payload: {problem}", "correct [payload] in agent.toml, or what lies there")
    if not scan.problems:
        yield ok("payload-paths", f"{scan.listing.files} files of {', '.join(payload.paths)} can be replicated")


CHECKS: dict[str, Check] = {"payload-paths": check_payload_paths}
