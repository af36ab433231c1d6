"""Makers of what lint finds in a conf. Pure."""

from __future__ import annotations

from ha_agent.core.faults import Face, former_code
from ha_agent.core.findings import Finding, Severity


def error(code: str, path: str, line: int, text: str, fix: str) -> Finding:
    """Something that supervisord refuses, or with which a program cannot run as it is meant."""
    return Finding(code, Severity.ERROR, text, fix, path, line, former_code(code, Face.LINT) or "")


def warning(code: str, path: str, line: int, text: str, fix: str) -> Finding:
    """Something that supervisord takes, and that is hardly meant."""
    return Finding(code, Severity.WARNING, text, fix, path, line)


def note(code: str, path: str, line: int, text: str, fix: str) -> Finding:
    """A decision that may well be meant, and is said aloud."""
    return Finding(code, Severity.OK, text, fix, path, line)
