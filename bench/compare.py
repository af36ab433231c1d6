"""``make bench-compare REF=...``: this tree beside another commit, in turns on the same machine, with ratios and spreads.

Times vary from hour to hour by more than most changes make: only what was measured in turns can be compared.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys

from bench.__main__ import say, show

ROOT = pathlib.Path(__file__).parents[1]
OURS = ROOT / "bench" / "ours.py"


def git(*words: str) -> str:
    """What git says in this tree. Raises ``CalledProcessError``."""
    return subprocess.run(["git", "-C", str(ROOT), *words], check=True, capture_output=True, text=True).stdout.strip()


def prepare(ref: str) -> pathlib.Path:
    """A tree of ``ref`` below build/, with an environment of its own, kept for later. Raises ``CalledProcessError``."""
    sha = git("rev-parse", "--short", f"{ref}^{{commit}}")
    tree = ROOT / "build" / "compare" / sha
    if not tree.exists():
        say(f"making {tree.relative_to(ROOT)}")
        git("clone", "--quiet", "--shared", "--no-checkout", str(ROOT), str(tree))
        subprocess.run(["git", "-C", str(tree), "checkout", "--quiet", "--detach", sha], check=True)
    subprocess.run(["make", "--silent", "-C", str(tree), "setup"], check=True, stdout=sys.stderr)
    return tree


def measure(tree: pathlib.Path) -> dict[str, float]:
    """One round in ``tree``. Raises ``CalledProcessError``."""
    script = tree / "build" / "ours.py"
    shutil.copyfile(OURS, script)
    python = str(tree / ".venv" / "bin" / "python")
    words = [python, "-m", "ha_agent.lab.sandbox", "--", python, str(script)]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONPYCACHEPREFIX": str(tree / "build" / "pycache")}
    done = subprocess.run(words, cwd=tree, env=environment, check=True, stdout=subprocess.PIPE)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def spread(values: list[float]) -> str:
    """Median, least and most."""
    return f"{statistics.median(values):.1f} ms ({min(values):.1f} to {max(values):.1f})"


def main() -> int:
    """Command line: ``python -m bench.compare REF [--rounds N]``."""
    parser = argparse.ArgumentParser(prog="bench.compare")
    parser.add_argument("ref", help="a commit, tag or branch")
    parser.add_argument("--rounds", type=int, default=5, help="of each tree (default 5)")
    options = parser.parse_args()
    try:
        trees = {options.ref: prepare(options.ref), "here": ROOT}
        found: dict[str, list[dict[str, float]]] = {name: [] for name in trees}
        for number in range(options.rounds):
            for name in list(trees)[:: 1 if number % 2 else -1]:
                say(f"round {number + 1} of {options.rounds}: {name}")
                found[name].append(measure(trees[name]))
    except subprocess.CalledProcessError as error:
        print(f"bench-compare: {error}\n{error.stderr or ''}".rstrip(), file=sys.stderr)
        return 1
    rows = []
    for figure in found["here"][0]:
        before, here = ([r[figure] for r in found[name]] for name in trees)
        ratios = [b / a for a, b in zip(before, here, strict=True)]
        said = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        rows.append((figure, spread(before), spread(here), said))
    title = f"This tree beside {options.ref}, {options.rounds} rounds in turns, each a median: median (least to most)"
    show(title, ("", options.ref, "here", "here / there, by rounds"), rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
