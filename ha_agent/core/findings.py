"""What checks find: data with a stable code, the cause and the remedy. Writers print it; tests compare codes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class Severity(IntEnum):
    """How bad a finding is. The numbers are the exit statuses of Nagios plugins (monitoring-plugins guidelines)."""

    OK = 0
    WARNING = 1
    ERROR = 2
    UNKNOWN = 3
    """The check itself could not be made."""


NAGIOS = {Severity.OK: "OK", Severity.WARNING: "WARNING", Severity.ERROR: "CRITICAL", Severity.UNKNOWN: "UNKNOWN"}
"""The severities in the words of Nagios' plugins (monitoring-plugins guidelines)."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a check found. ``where`` is a node, a file or a conf; ``line`` counts from 1, 0 where there is none.

    ``alias`` is what the check called it before (``core/faults.py``); empty where it is still called so.
    """

    code: str
    severity: Severity
    text: str
    remedy: str = ""
    where: str = ""
    line: int = 0
    alias: str = ""

    @property
    def is_wrong(self) -> bool:
        """Whether it says more than that all is well."""
        return self.severity is not Severity.OK

    def to_dict(self) -> dict[str, Any]:
        """The finding as it stands in JSON."""
        return {
            "code": self.code,
            "alias": self.alias or None,
            "severity": self.severity.name.lower(),
            "where": self.where,
            "line": self.line or None,
            "text": self.text,
            "remedy": self.remedy or None,
        }

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Finding:
        """The inverse of ``to_dict``. Raises ``KeyError`` for anything else."""
        severity = Severity[str(raw["severity"]).upper()]
        where, line = str(raw.get("where") or ""), int(raw.get("line") or 0)
        alias = str(raw.get("alias") or "")
        return cls(str(raw["code"]), severity, str(raw["text"]), str(raw.get("remedy") or ""), where, line, alias)


_ORDER = {Severity.ERROR: 0, Severity.UNKNOWN: 1, Severity.WARNING: 2, Severity.OK: 3}


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Sorted by severity, then by place."""
    return sorted(findings, key=lambda f: (_ORDER[f.severity], f.where, f.line, f.code))


def worst_severity(findings: Iterable[Finding]) -> Severity:
    """The severity that counts for the whole; OK where nothing was found."""
    return min((f.severity for f in findings), key=_ORDER.__getitem__, default=Severity.OK)
