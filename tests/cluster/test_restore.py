"""The whole registry of another time, on a real pair."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from tests.lab_support import SLEEPER, Pair, wait_for

THREE = {"p0", "p1", "p2"}


def registry_of(pair: Pair, node: str) -> dict[str, str]:
    root = pair.lab.paths.registry(node)
    found = {}
    for name in os.listdir(root):
        with open(os.path.join(root, name), encoding="utf-8") as file:
            found[name] = file.read()
    return found


def at_rest(pair: Pair, node: str) -> dict[str, Any]:
    """Waits until the record has what the registry is; returns its newest row."""

    def look() -> Any:
        times = json.loads(pair.ha(node, "restore", "--list", "--json").stdout)["times"]
        return times[-1] if times and times[-1]["confs"] == len(registry_of(pair, node)) else None

    return dict(wait_for("the record", look, 15, 0.2))


def next_second() -> str:
    """A time as one types it, which has just passed."""
    then = int(time.time()) + 1
    time.sleep(then + 0.1 - time.time())
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(then))


def test_the_registry_is_what_both_nodes_held_at_a_time_and_back_again(pair: Pair) -> None:
    """Somebody has spoilt the registry: confs changed, deleted, and some that should not be there.

    Fault: an hour's edits were wrong, and a takeover came in between.
    Answer: `restore --at` says what it would add, change and delete, and does it on both nodes; no program is touched before
    an update, and a restore to the moment before it leads back.
    Bound: none needed.
    """
    pair.up()
    pair.lab.wait_settled()
    pair.await_runs("node-a", THREE)
    assert pair.ha("node-a", "sync").returncode == 0
    good = registry_of(pair, "node-a")
    at_rest(pair, "node-a")
    when = next_second()
    with open(pair.path("node-a", "p0.conf"), "a", encoding="ascii") as file:
        file.write("stopsignal=INT\n")
    assert pair.ha("node-a", "sync").returncode == 0
    pair.hand_over("node-b")
    with open(pair.path("node-b", "more.conf"), "w", encoding="ascii") as file:
        file.write(SLEEPER.format(name="more"))
    os.unlink(pair.path("node-b", "p1.conf"))
    assert pair.ha("node-b", "sync").returncode == 0
    spoilt = registry_of(pair, "node-b")
    at_rest(pair, "node-b")
    running = pair.runs("node-b")
    refused = pair.ha("node-a", "restore", "--at", when, "--yes")
    assert refused.returncode == 3 and "run it on the active one" in refused.stderr, refused
    shown = pair.ha("node-b", "restore", "--at", when, "--dry-run")
    assert shown.returncode == 0 and "1 added, 1 changed, 1 deleted" in shown.stdout, shown
    assert "  + p1.conf" in shown.stdout and "  ~ p0.conf" in shown.stdout and "  - more.conf" in shown.stdout
    assert pair.ha("node-b", "restore", "--at", when).returncode == 3, "nobody said yes"
    assert registry_of(pair, "node-b") == spoilt
    back = next_second()
    done = pair.ha("node-b", "restore", "--at", when, "--yes", timeout_s=120)
    assert done.returncode == 0 and "done, on both nodes" in done.stdout, done
    assert registry_of(pair, "node-b") == registry_of(pair, "node-a") == good
    assert pair.runs("node-b") == running, "no program is touched before an update"
    assert "is as it was then" in pair.ha("node-b", "restore", "--at", when, "--yes").stdout
    late = pair.ha("node-b", "restore", "--at", "2999-01-01", "--yes")
    assert late.returncode == 2 and "is still to come" in late.stderr
    early = pair.ha("node-b", "restore", "--at", "2020-01-01", "--yes")
    assert early.returncode == 3 and "does not reach so far back: it begins" in early.stderr
    assert pair.sup("node-b", "update").returncode == 0
    pair.await_runs("node-b", THREE)
    at_rest(pair, "node-b")
    undone = pair.ha("node-b", "restore", "--at", back, "--yes", "--json", timeout_s=120)
    document = json.loads(undone.stdout)
    assert undone.returncode == 0 and document["outcome"] == "done" and document["lost"] == [], document
    assert registry_of(pair, "node-b") == registry_of(pair, "node-a") == spoilt
    assert "registry-restored" in [event["code"] for event in pair.history("node-b")]
