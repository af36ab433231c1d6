"""A pair as the dashboard knows it, for tests of what its pages say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ha_agent.core.guard import Access
from ha_agent.web.pairs import LocalPair, Sight
from ha_agent.web.render import Words
from tests.unit.test_status_text import node

NOW = 1_700_000_000.0
VIP = "192.0.2.10/24"


def row(name: str, state: str = "RUNNING", **changes: Any) -> dict[str, Any]:
    """A program as a view has it."""
    pid = 100 if state == "RUNNING" else None
    path = f"{name.partition(':')[0]}.conf"
    base = {
        "name": name,
        "group": name.partition(":")[0],
        "kind": "registry",
        "state": state,
        "pid": pid,
        "since": 1,
        "path": path,
    }
    return {**base, "problem": None, "usage": None, **changes}


def view(name: str, role: str = "standby", programs: Sequence[dict[str, Any]] = (), **changes: Any) -> dict[str, Any]:
    """The view of a node."""
    own = node(
        name,
        role,
        at=NOW,
        version="1",
        vips={VIP: role == "active"},
        programs=[],
        **{"votes": None, "checks": [], **changes},
    )
    alerts = {"node": name, "at": NOW, "lasting": [], "recent": [], "sinks": {}}
    return {"node": own, "programs": list(programs), "alerts": alerts, "figures": {"started": 1.0, "history_events": {}}}


def pair_of(*sights: Sight) -> LocalPair:
    """A pair of which exactly this is known."""
    pair = LocalPair("local", "/nonexistent", 1.0, lambda _: None)
    pair.known.sights = list(sights)
    return pair


def healthy(*programs: dict[str, Any]) -> LocalPair:
    """node-a is active and has ``programs``, node-b is its standby."""
    return pair_of(
        Sight("node-a", view("node-a", "active", programs or [row("web")]), NOW),
        Sight("node-b", view("node-b"), NOW),
    )


def words_of(language: str = "en", access: Access = Access.OPERATE) -> Words:
    """Somebody who looks at a page."""
    return Words(language, "alice", access, "token", NOW)


def text_of(html: str) -> str:
    """What people read of a page."""
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())
