"""docs/degraded.md: what every face said of each degraded state. The test on a pair writes its sections, or compares them.

``HA_AGENT_DEGRADED=write make test TESTS=tests/cluster/test_degraded.py`` writes them again after a change that is meant.
"""

from __future__ import annotations

import fcntl
import os
import pathlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "degraded.md"
IS_WRITTEN = os.environ.get("HA_AGENT_DEGRADED") == "write"

HEAD = """\
# Degraded states

What each face of ha-agent says of a pair in which something is wrong. `tests/cluster/test_degraded.py` makes every state
on a real pair, looks at the machine itself for what is so, asks every face, and compares with this page. node-a is active
and node-b standby before each. Durations, process ids, and how many more problems there are, were taken out.

Numbers are exit statuses. That of `status` is 0, 4 where the peer does not answer, 5 without the agent; `status --check`,
`doctor` and `check` have those of a Nagios plugin (0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN); `switchover --dry-run` refuses
with 3 or 4, and has 5 without the agent.
"""

COLUMNS = (
    "asked at", "`status`", "`status --check`", "`doctor`", "`check role`", "`check standby`", "`check replication`",
    "`switchover --dry-run`",
)  # fmt: skip

_VARYING = (
    (re.compile(r" \(and \d+ more\)"), ""),
    (re.compile(r"\bpid \d+"), "pid N"),
    (re.compile(r"\b\d+ needed"), "N needed"),
    (re.compile(r"\b\d+(?:\.\d+)? (s|min|h|d)\b"), r"N \1"),
    (re.compile(r"\bN (?:s|min|h|d)\b"), "some time"),
    # Which of these it is, is a matter of moments.
    (re.compile(r"no answer within some time|silent for some time|ssh: connect to host \S+ port 22: [\w ]+"), "no answer"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """What one node's faces said: the first line of status, and the exit statuses in the order of ``COLUMNS``."""

    node: str
    first: str
    statuses: Sequence[int]


def steady(text: str) -> str:
    """``text`` without what differs from run to run."""
    for pattern, instead in _VARYING:
        text = pattern.sub(instead, text)
    return text


def render(name: str, what: str, rows: Sequence[Row], code: str, severity: str, text: str, remedy: str, alert: str) -> str:
    """The section of one state."""
    lines = [f"## {name[0].upper() + name[1:]}", "", what, ""]
    lines += [f"    {row.node}: {steady(row.first)}" for row in rows]
    if code:
        lines += ["", f"- `{code}` ({severity}): {_plain(text)}", f"- Do: {_plain(remedy)}", f"- Alert: {alert}"]
    else:
        lines += ["", f"- No problem. Alert: {alert}"]
    lines += ["", f"| {' | '.join(COLUMNS)} |", "| --- |" + " --- |" * (len(COLUMNS) - 1)]
    lines += [f"| {row.node} | {' | '.join(map(str, row.statuses))} |" for row in rows]
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    return steady(text).replace("<", "&lt;").replace("*", "\\*")


def read_sections() -> dict[str, str]:
    """Heading to section, as the page has them."""
    parts = re.split(r"^(?=## )", PAGE.read_text(encoding="utf-8") if PAGE.exists() else "", flags=re.M)[1:]
    return {part.splitlines()[0][3:].lower(): part.rstrip("\n") + "\n" for part in parts}


def keep(name: str, section: str, order: Iterable[str]) -> None:
    """Writes one section into the page, in the order of the table. Several workers may do so at once."""
    with open(PAGE.parents[1] / "build" / "degraded.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        sections = {**read_sections(), name.lower(): section}
        wanted = [sections[key.lower()] for key in order if key.lower() in sections]
        PAGE.write_text("\n".join([HEAD, *wanted]), encoding="utf-8")
