"""``ha-agent explain``: what a word means that a command, an alert or the history has printed."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from itertools import groupby

from ha_agent.adapters.terminal import complain, paint
from ha_agent.cli.options import Commands
from ha_agent.core.glossary import Explanation, all_explanations, explain, plain
from ha_agent.core.nearest import did_you_mean
from ha_agent.core.width import wrap_text
from ha_agent.core.words import Exit

SCHEMA = 1


def add_parser(commands: Commands) -> None:
    """Adds the command's grammar."""
    summary = "say what a word means: a code of a fault or of the history, a role, a state, an outcome, a key of agent.toml"
    parser = commands.add("explain", summary, "ha-agent explain takeover-done", run)
    parser.add_argument("words", nargs="*", metavar="WORD", help="one word or term; without one, all that there are")
    parser.add_argument("--json", action="store_true", help="as JSON (docs/json.md)")


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    wanted = " ".join(options.words)
    found = explain(wanted) if wanted else all_explanations()
    if not found:
        near = did_you_mean(
            plain(wanted), {plain(one.word) for one in all_explanations()}, "ha-agent explain lists all words"
        )
        complain(f"nothing is known of {wanted!r}; {near}")
        return Exit.USAGE
    if options.json:
        print(json.dumps({"schema": SCHEMA, "meanings": [asdict(one) for one in found]}, indent=2))
    elif wanted:
        for one in found:
            print("\n".join(_lines(one, wanted)))
    else:
        for kind, group in groupby(found, key=lambda one: one.kind):
            print(paint(f"{kind}:", "bold"))
            print("\n".join(wrap_text(", ".join(dict.fromkeys(one.word for one in group)), indent="  ")))
    return Exit.DONE


def _lines(one: Explanation, wanted: str) -> list[str]:
    before = f", formerly {wanted}" if plain(one.word) != plain(wanted) else ""
    lines = [f"{paint(one.word, 'bold')}  ({one.kind}{before})", *wrap_text(one.text, indent="    ")]
    if one.remedy is not None:
        lines += wrap_text(one.remedy, indent="       ", first="    -> ")
    return lines
