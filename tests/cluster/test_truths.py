"""What the commands say on an ordinary pair: the same on each face, once, true, and in words that can be followed."""

from __future__ import annotations

import json
from collections import Counter

from tests.lab_support import Pair, sleepers, wait_for

GROUP = "[group:g1]\nprograms=p0,zz\n"


def test_a_conf_that_lacks_something_is_counted_once_and_named_by_every_face(pair: Pair) -> None:
    """Design, truth: a group names a program that no conf defines; all confs can be loaded.

    Fault: the group's member is missing, on both nodes.
    Answer: status counts up, lint has the file, the line and the fix, doctor says each node's once; nothing lies in /tmp.
    Bound: none needed.
    """
    pair.up({**sleepers(3), "group.conf": GROUP})
    pair.await_runs("node-a", {"p0", "p1", "p2"})
    pair.await_in_sync("node-a")
    wait_for(
        "both have judged", lambda: pair.ha("node-a", "status").stdout.count("4 of 4 confs loadable, 1 incomplete") == 2, 10
    )
    document = json.loads(pair.ha("node-a", "status", "--json").stdout)
    takeovers = {(node["epoch"], node["claimed_by"], node["generation"]) for node in document["nodes"]}
    assert len(takeovers) == 1, "no node seems ahead of the other in a healthy pair"
    linted = pair.ha("node-a", "lint", "--registry", "--peer").stdout
    assert "/group.conf, line 2: warning: group g1 has zz" in linted and "4 confs, 0 errors, 1 warning" in linted
    findings = json.loads(pair.ha("node-a", "doctor", "--json").stdout)["nodes"][0]["findings"]
    wrong = Counter(f["code"] for f in findings if f["severity"] != "ok")
    assert wrong == {"conf-not-startable": 1, "standby-not-ready": 1}
    assert "node-a: node-a" not in pair.ha("node-a", "doctor", "--all").stdout
    pair.shell("node-b", "pkill -9 -f ha_agent[.]conf_check || true")
    pair.shell("node-a", "echo '; edited' >> /etc/supervisor/conf.d/p0.conf")
    pair.await_in_sync("node-a")
    assert [pair.shell(node, "find /tmp /var/tmp -name '*ha-agent*'") for node in ("node-a", "node-b")] == ["", ""]


def test_who_may_not_see_everything_is_told_so_and_what_he_could_do_himself(pair: Pair) -> None:
    """Design, truth: members of the agent's group use the commands.

    Fault: supervisord.conf is for root alone; deletions are confirmed where none is held; a deleted conf is brought back.
    Answer: a member's doctor is UNKNOWN about what he may not see and not CRITICAL; what was not done is not in the
    history; each next step is a command that he may use, or says who may.
    Bound: none needed.
    """
    pair.up(sleepers(3))
    pair.await_runs("node-a", {"p0", "p1", "p2"})
    pair.await_in_sync("node-a")
    pair.shell("node-a", "chmod 600 /etc/supervisor/supervisord.conf")
    seen = pair.run_as("node-a", "alice", "ha-agent", "doctor", "--nagios")
    assert seen.returncode == 3 and seen.stdout.startswith("HA-AGENT UNKNOWN - ") and "errors=0 warnings=0" in seen.stdout
    before = len(pair.history("node-a"))
    assert "in sync: 3 confs" in pair.ha("node-a", "sync", "--accept-deletes").stdout
    assert len(pair.history("node-a")) == before, "nothing was held, nothing was confirmed"
    pair.shell("node-a", "rm /etc/supervisor/conf.d/p2.conf")
    pair.await_in_sync("node-a")
    kept = json.loads(pair.ha("node-b", "kept", "list", "--json").stdout)
    copy = next(row["name"] for row in kept["kept"] if row["path"] == "p2.conf")
    refused = pair.run_as("node-a", "alice", "ha-agent", "kept", "restore", copy)
    assert refused.returncode == 3 and "only root may ask for this" in refused.stderr
    restored = pair.ha("node-a", "kept", "restore", copy)
    assert restored.returncode == 0 and "`supzcli update` loads it" in restored.stdout
    assert pair.sup("node-a", "update").returncode == 0
    pair.await_runs("node-a", {"p0", "p1", "p2"})
