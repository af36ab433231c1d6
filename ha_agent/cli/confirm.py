"""How a command that decides over both machines is confirmed: by the name of the other node, typed or given to ``--yes``.

A name is typed where "y" would come too easily: whoever types it has thought of which machine is meant.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from ha_agent.adapters.terminal import complain, read_line
from ha_agent.core.words import Exit


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds ``--yes NAME`` and ``--reason TEXT``."""
    parser.add_argument("--yes", metavar="NAME", help="do not ask: the name of the other node, as it would be typed")
    parser.add_argument("--reason", default="", metavar="TEXT", help="why, for the history and wherever it is shown")


def refuse_unconfirmed(
    options: argparse.Namespace, name: str, question: str, complain: Callable[[str], None] = complain
) -> Exit | None:
    """Asks ``question``, which only ``name`` answers with yes; None where it was, else the exit status to end with."""
    if options.yes is not None:
        if options.yes == name:
            return None
        complain(f"--yes {options.yes}: the other node is called {name}; nothing was done")
        return Exit.USAGE
    # The document of --json stands on standard output alone.
    print(question, file=sys.stderr if getattr(options, "json", False) else sys.stdout)
    if read_line(f"Type {name} to go on: ").strip() == name:
        return None
    complain(f"nothing was done; --yes {name} does it without asking")
    return Exit.REFUSED
