"""How commands write: colour and live updates on a terminal, plain text anywhere else."""

from __future__ import annotations

import os
import shutil
import sys

from ha_agent.core.findings import Finding, Severity
from ha_agent.core.schema import SettingsError
from ha_agent.core.visible import visible
from ha_agent.core.width import wrap_text
from ha_agent.core.words import Exit

NARROWEST = 40
"""Columns below which a text is not broken further."""

_COLOURS = {"red": "31", "green": "32", "yellow": "33", "bold": "1", "dim": "2"}
_SEVERITY = {Severity.OK: "green", Severity.WARNING: "yellow", Severity.ERROR: "red", Severity.UNKNOWN: "yellow"}


def is_terminal() -> bool:
    """Whether standard output is a terminal that understands escape sequences."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def paint(text: str, colour: str) -> str:
    """``text`` in a colour where standard output is a terminal and NO_COLOR (no-color.org) is not set."""
    if not is_terminal() or os.environ.get("NO_COLOR"):
        return text
    return f"\033[{_COLOURS[colour]}m{text}\033[0m"


def fit(text: str, indent: str = "", first: str = "") -> list[str]:
    """``text`` behind ``first``, broken at blanks to the width of the terminal, later lines behind ``indent``.

    Without a terminal it is one line, for grep and scripts.
    """
    if not is_terminal():
        return [first + text]
    return wrap_text(text, indent, first, max(NARROWEST, shutil.get_terminal_size().columns))


def redraw(text: str) -> None:
    """Shows ``text`` in place of the whole screen. For terminals."""
    lines = text.splitlines()[: max(1, shutil.get_terminal_size().lines - 1)]
    sys.stdout.write("\033[H" + "".join(f"{line}\033[K\n" for line in lines) + "\033[J")
    sys.stdout.flush()


def complain(text: str) -> None:
    """One line on standard error."""
    print(f"ha-agent: {visible(text)}", file=sys.stderr)


def refuse_settings(program: str, path: str, error: SettingsError) -> Exit:
    """One line on standard error for everything that is wrong with a configuration; the exit status to end with."""
    for problem in error.problems:
        print(visible(f"{program}: {path}: {problem}"), file=sys.stderr)
    return Exit.USAGE


def finding_lines(finding: Finding, margin: str = "") -> list[str]:
    """A finding for people: what is wrong where, and what to do. Every line begins with ``margin``."""
    label = paint(finding.severity.name, _SEVERITY[finding.severity])
    # A problem of the pair names its node by itself.
    where = f"{finding.where}: " if finding.where and not finding.text.startswith(finding.where) else ""
    begin = f"{finding.severity.name}  "
    lines = fit(f"{visible(f'{where}{finding.text}')}  [{finding.code}]", margin + " " * len(begin), margin + begin)
    lines[0] = lines[0].replace(finding.severity.name, label, 1)
    if finding.remedy:
        lines += fit(visible(finding.remedy), f"{margin}            ", f"{margin}         -> ")
    return lines


def read_line(question: str) -> str:
    """What is typed on the terminal; nothing where there is none."""
    if not sys.stdin.isatty():
        return ""
    try:
        return input(question)
    except EOFError:
        return ""


def is_yes(question: str) -> bool:
    """Asks on the terminal. Without one the answer is no."""
    return read_line(f"{question} [y/N] ").strip().lower() in ("y", "yes")
