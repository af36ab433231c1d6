"""Runs the benchmarks named on the command line (all by default) and prints one table a subject."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from bench import alerts, checks, commands, costs, edit, hostile, parking, programs, witness

SUBJECTS = ("edit", "programs", "commands", "parking", "alerts", "hostile", "checks", "costs", "witness")


def say(text: str) -> None:
    """A line of progress, on standard error, so that the tables can be kept alone."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def show(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """One table."""
    print(f"\n{title}")
    widths = [max(len(str(row[i])) for row in [heads, *rows]) for i in range(len(heads))]
    for row in [heads, *rows]:
        print("  " + "   ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    sys.stdout.flush()


def main() -> int:
    """Command line: ``python -m bench [SUBJECT ...]``, all of ``SUBJECTS`` where none is named."""
    wanted = sys.argv[1:] or list(SUBJECTS)
    unknown = set(wanted) - set(SUBJECTS)
    if unknown:
        print(f"bench: no such subject: {', '.join(sorted(unknown))}; there are {', '.join(SUBJECTS)}", file=sys.stderr)
        return 2
    if "edit" in wanted:
        show("Single edit to complete on the peer, 1,000 confs", ("", "p50", "p95", "to the limit"), edit.run(say))
    if "programs" in wanted:
        rows = [row for count in programs.COUNTS for row in programs.run_count(count, say)]
        show("Takeover and release, from the hook or the script's start", ("", "first", "last", "last to the limit's"), rows)
    if "commands" in wanted:
        title = f"Commands, {commands.CONFS} confs and programs"
        show(title, ("", "p50", "p95", "to supervisorctl"), commands.run(say))
    if "parking" in wanted:
        title = f"Stop and start of one of {parking.CONFS} programs, which reacts at once"
        show(title, ("", "p50", "p95", "the pair's share"), parking.run(say))
    if "alerts" in wanted:
        show(f"Watching, {alerts.CONFS} programs", ("", "p50", "p95", ""), alerts.run(say))
    if "hostile" in wanted:
        title = f"Beside somebody who may only look, {hostile.CONFS} programs"
        show(title, ("", "p50", "p10 to p90", "to nobody's"), hostile.run(say))
    if "checks" in wanted:
        show(f"Health checks, of the agent's processor time, {checks.COUNT} of each kind", ("", "", "", ""), checks.run(say))
    if "costs" in wanted:
        show("Costs", ("", "", "", ""), costs.run(say))
    if "witness" in wanted:
        show("What a pair costs a witness, with renew_s = 1", ("", "p50", "spread", ""), witness.run(say))
    return 0


if __name__ == "__main__":
    sys.exit(main())
