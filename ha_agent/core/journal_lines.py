"""What the journal has of a unit, as values: the words for journalctl, its JSON, both nodes' lines in order. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

UNITS = ("ha-agent", "keepalived", "supervisor")
MOST_LINES = 2000
MOST_BYTES = 1 << 20
"""Of the texts in one answer; the newest lines count. journalctl leaves out texts above 4 KiB (journalctl(1), --all)."""

TOO_LONG = "(a line of more than 4 KiB, or not text: journalctl --all shows it)"

Line = Mapping[str, Any]
"""``at`` (wall clock seconds), ``priority`` (as syslog's, 0 to 7), ``text``, ``cursor`` (the journal's name of it)."""


def journal_words(program: str, unit: str, count: int, since: float) -> list[str]:
    """The command line that prints the newest ``count`` lines of ``unit`` that are not older than ``since``."""
    newest = max(1, min(count, MOST_LINES))
    words = [program, "--unit", unit, "--output=json", "--output-fields=MESSAGE,PRIORITY", f"--lines={newest}", "--no-pager"]
    return [*words, "--quiet", *([f"--since=@{int(since)}"] if since > 0 else [])]


def read_lines(output: str) -> list[Line]:
    """The lines in journalctl's JSON, oldest first; what is not such a line is left out."""
    lines: list[Line] = []
    for row in output.splitlines():
        try:
            raw = json.loads(row)
            at = int(raw["__REALTIME_TIMESTAMP"]) / 1e6
            priority = int(raw.get("PRIORITY", 6))
        except (ValueError, TypeError, KeyError, OverflowError):
            continue
        lines.append(
            {"at": at, "priority": priority, "text": _text(raw.get("MESSAGE")), "cursor": str(raw.get("__CURSOR", ""))}
        )
    return lines


def _text(message: Any) -> str:
    if isinstance(message, str):
        return message
    if isinstance(message, list) and all(isinstance(byte, int) and 0 <= byte < 256 for byte in message):
        return bytes(message).decode("utf-8", "replace")
    return TOO_LONG


def newest_that_fit(lines: Sequence[Line], most_bytes: int = MOST_BYTES) -> list[Line]:
    """The newest of ``lines`` whose texts have ``most_bytes`` together, oldest first."""
    total, kept = 0, []
    for line in reversed(lines):
        total += len(str(line["text"]).encode("utf-8", "replace")) + 200
        if total > most_bytes:
            break
        kept.append(line)
    return kept[::-1]


def merge_lines(of_nodes: Mapping[str, Iterable[Line]]) -> list[dict[str, Any]]:
    """The lines of both nodes in the order of their clocks, each with its ``node``; one node's stay in their order."""
    rows = [{"node": node, **line} for node, lines in of_nodes.items() for line in lines]
    return sorted(rows, key=lambda row: float(row["at"]))
