"""Writes docs/faults.md from the docstrings of the tests: ``make docs``. A unit test compares the two.

A fault's test says in its docstring what is broken (Fault), what the pair does (Answer) and how long that takes or what it
may cost (Bound), and begins with the numbers of the hazards that it covers.
"""

from __future__ import annotations

import ast
import pathlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass

ROOT = pathlib.Path(__file__).parents[1]

HAZARDS = {
    1: "`systemctl stop keepalived` runs only `notify_stop`",
    2: "the hook is killed about a second after a stop begins",
    3: "notify scripts run concurrently and finish in any order",
    4: "every start of keepalived or of its VRRP child says BACKUP and then MASTER",
    5: "MASTER and BACKUP come within 10 ms, programs need seconds to stop",
    6: "SIGKILL of keepalived: no notify, and the VIP stays",
    7: "a reload of keepalived says nothing",
    8: "the hook runs with umask 0177 and no standard streams",
    9: "script security silently disables hooks",
    10: "weights do not move the VIP under `nopreempt`",
    11: "a spurious MASTER for a moment",
    12: "FAULT to MASTER, DELETED, GROUP events, the same event twice",
    13: "sub-second adverts need VRRP version 3",
    14: "supervisord starts every autostart program by itself",
    15: "one invalid conf blocks all",
    16: "duplicate names, foreign sections, groups with absent members",
    17: "`stop all` stops event listeners, `start all` starts autostart=false",
    18: "groups are stopped one after the other",
    19: "a killed supervisord leaves its children, the next one starts second copies",
    20: "grandchildren and sessions of their own survive a stop",
    21: "exit codes do not say that something runs",
    22: "`shutdown` gets typed for `stop`",
    23: "the event protocol counts characters and drops the oldest events",
    24: "`%(here)s` is the directory of the included path",
    25: "two-way rsync deletes what was made and brings back what was deleted",
    26: "an empty or unreadable source wipes the peer",
    27: "a watcher that reacts to its own work",
    28: "clock skew, same size and time stamp",
    29: "inotify overflows, directories get replaced",
    30: "editors write in many ways",
    31: "peer offline, disk full, transfer cut, host key changed, rsync missing, read-only",
    32: "failover in a transfer; edits on both nodes; edit against deletion",
    33: "odd names, links, thousands of files",
    34: "VRRP or the link or both dead; both boot at once",
    35: "the peer is frozen, not dead, and wakes up",
    36: "the old node comes back with an older epoch and unsent edits",
    37: "the agent is killed at any point; its state is damaged or newer",
    38: "the agent is down when the notify comes",
    39: "a failover test on a broken pair, or interrupted",
    40: "supervisord is reloaded within its process",
    41: "supervisord's socket is deleted while supervisord lives",
    42: "files below the run directory are removed, emptied or replaced, or it is full",
    43: "the newest report of keepalived is lost",
    48: "the number of a process or session that ended is a stranger's by now",
    49: "keepalived cannot be told to give up",
    52: "a program forks twice, clears its environment and leaves its session; a shell dies and its child lives on",
    53: "any user sets supervisord's marks in the environment of his own processes",
    44: "the node's own address goes, and comes back behind the VIP",
    45: "packets are lost at random",
    50: "the VIP is on both nodes, or on neither",
    46: "the link breaks at any await of a push, a sync, an interlock, a forwarded command",
    47: "the standby's registry changes under an acknowledgement",
    51: "an operator's word is still in force when the reason for it is gone",
    55: "a VIP of several, or of IPv6, is left behind when the others move",
    56: "one of several VIPs cannot be put where the others are",
    57: "one of several paths between the nodes is cut",
    58: "links between the two nodes and the witness are cut, in any combination and direction",
    59: "agent, keeper or witness is stopped or killed while programs run on votes",
    60: "a program is started before what it needs is up, or waits for what never comes",
    61: "the standby has another build, configuration or user of a program",
    54: "inotify overflows, its reader starves, a watch is lost, with each watchdog that is in use",
}

WITHOUT_TEST: dict[int, str] = {}


@dataclass(frozen=True, slots=True)
class FaultTest:
    """One test of a fault, as its docstring describes it."""

    hazards: tuple[int, ...]
    fault: str
    answer: str
    bound: str
    place: str


def read_tests(root: pathlib.Path = ROOT) -> Iterator[FaultTest]:
    """Every test whose docstring has a Fault, an Answer and a Bound. Raises ``ValueError`` where one of them is missing."""
    for path, function, text in read_docstrings("Fault:", root):
        if function.startswith("test_"):
            yield _parse(text, f"{path.relative_to(root)}::{function}")


def read_docstrings(word: str, root: pathlib.Path = ROOT) -> Iterator[tuple[pathlib.Path, str, str]]:
    """Each function of the test files whose docstring has ``word``: file, name and docstring. No other file is parsed."""
    for path in sorted((root / "tests").glob("*/test_*.py")):
        source = path.read_text(encoding="utf-8")
        for node in ast.parse(source).body if word in source else ():
            if isinstance(node, ast.FunctionDef) and word in (text := ast.get_docstring(node) or ""):
                yield path, node.name, text


def _parse(text: str, place: str) -> FaultTest:
    title, _, body = text.partition("\n\n")
    parts = dict(re.findall(r"^(Fault|Answer|Bound): (.*?)(?=^(?:Fault|Answer|Bound): |\Z)", body, re.S | re.M))
    if set(parts) != {"Fault", "Answer", "Bound"}:
        raise ValueError(f"{place}: its docstring needs Fault, Answer and Bound, it has {', '.join(parts) or 'none'}")
    named = re.match(r"Hazards? ((?:\d+(?:, | and )?)+)", title)
    hazards = tuple(map(int, re.findall(r"\d+", named[1]))) if named else ()
    fault, answer, bound = (_sentence(parts[key]) for key in ("Fault", "Answer", "Bound"))
    return FaultTest(hazards, fault, answer, bound, place)


def _sentence(text: str) -> str:
    words = " ".join(text.split())
    return words[0].upper() + words[1:]


def render(tests: list[FaultTest]) -> str:
    """The page."""
    lines = [
        "# Faults",
        "",
        "What can go wrong in a pair, what the pair does about it, and the test that does it to a real one. Written by",
        "`make docs` from the tests' own words; [guarantees.md](guarantees.md) says what follows from it, and",
        "`make chaos` does many of these at once.",
        "",
    ]
    for number, title in HAZARDS.items():
        lines += [f"## {number}. {title}", ""]
        rows = [t for t in tests if number in t.hazards]
        if not rows:
            lines += [f"No test: {WITHOUT_TEST[number]}.", ""]
            continue
        lines += _table(rows)
    lines += ["## Self-fencing, interlock, and the peer's key", ""]
    return "\n".join(lines + _table([t for t in tests if not t.hazards]))


def _table(rows: list[FaultTest]) -> list[str]:
    head = ["| fault | what the pair does | bound | test |", "| --- | --- | --- | --- |"]
    cells = ((t.fault, t.answer, t.bound, f"`{t.place.removeprefix('tests/')}`") for t in rows)
    return [*head, *("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells), ""]


def main() -> int:
    """Writes docs/faults.md."""
    (ROOT / "docs" / "faults.md").write_text(render(list(read_tests())), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
