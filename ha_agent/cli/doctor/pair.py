"""What is wrong with the pair now: the one judgement of both nodes (``core/problems.py``), as status shows it."""

from __future__ import annotations

import time
from collections.abc import Iterator

from ha_agent.cli.doctor.context import Check, Context, ok
from ha_agent.core.findings import Finding
from ha_agent.core.problems import find_problems

OF_BOTH = frozenset({"conf-not-loadable", "conf-not-startable", "conf-refused", "maintenance-on", "peer-lost"}) | {
    "standby-not-ready",
    "takeover-held",
    "vip-on-both",
    "vip-on-neither",
    "vip-partly",
    "path-down",
}
OF_THIS_NODE = frozenset({"keepalived-down", "supervisord-down"})
"""What checks of their own find, with more to say: of both nodes, and of this one."""


def check_pair(context: Context) -> Iterator[Finding]:
    """Every problem that status shows, unless a check of its own finds it."""
    nodes, problem = context.status()
    if problem:
        # The check of the link says so.
        return
    own = context.settings.node.name
    problems = find_problems(nodes, time.time())
    found = [p for p in problems if p.code not in OF_BOTH and (p.code not in OF_THIS_NODE or p.node != own)]
    yield from (p.to_finding() for p in found)
    if not found:
        yield ok("pair", "both nodes' own accounts show nothing wrong, and the standby could take over")


CHECKS: dict[str, Check] = {"pair": check_pair}
"""By name, in the order in which they are made."""
