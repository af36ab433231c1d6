"""How commands are added to the command line, each with an example, and the options that all of them have."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping
from typing import Any

from ha_agent.adapters.settings_file import load_settings
from ha_agent.adapters.settings_paths import DEFAULT_PATH
from ha_agent.core.settings import Settings

Run = Callable[[argparse.Namespace], int]

_UNITS = {"s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Commands:
    """Collects the commands of one parser."""

    def __init__(self, parsers: Any, renamed: Mapping[str, tuple[str, str, str]] | None = None) -> None:
        self._parsers = parsers
        self._renamed = renamed or {}
        self._common = argparse.ArgumentParser(add_help=False)
        self._common.add_argument(
            "--config", default=DEFAULT_PATH, metavar="FILE", help=f"configuration (default {DEFAULT_PATH})"
        )

    def add(self, name: str, summary: str, example: str, run: Run | None = None) -> argparse.ArgumentParser:
        """Adds a command with its one-line summary and an example."""
        name, summary, example = self._renamed.get(name, (name, summary, example))
        # argparse formats help texts with %: a literal one is doubled.
        parser: argparse.ArgumentParser = self._parsers.add_parser(
            name,
            parents=[self._common],
            help=summary.replace("%", "%%"),
            description=summary[:1].upper() + summary[1:] + ".",
            epilog=f"example: {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if run is not None:
            parser.set_defaults(run=run)
        return parser

    def under_other_names(self, renamed: Mapping[str, tuple[str, str, str]]) -> Commands:
        """Adds to the same parser, with other names, summaries and examples for some commands."""
        return Commands(self._parsers, renamed)

    def add_group(self, name: str, summary: str, example: str, words: str) -> Commands:
        """Adds a command that has commands of its own."""
        parser = self._parsers.add_parser(
            name, help=summary, description=summary[:1].upper() + summary[1:] + ".", epilog=f"example: {example}"
        )
        return Commands(parser.add_subparsers(dest="part", required=True, metavar=words))


def settings_of(options: argparse.Namespace) -> Settings:
    """The configuration that the command line names. Raises ``SettingsError`` and ``OSError``."""
    return load_settings(options.config)


def duration(text: str) -> float:
    """Seconds of "90", "90s", "15min", "2h" or "1d"; for argparse."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|min|m|h|d)?", text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration; write 90s, 15min, 2h or 1d")
    return float(match[1]) * _UNITS[match[2] or "s"]


def positive_count(text: str) -> int:
    """A whole number of at least 1; for argparse."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: must be 1 or more")
    return int(text)
