"""The standby has another build, configuration or user of a program: named within a minute, on every face, until it ends."""

from __future__ import annotations

import json
from typing import Any

from tests.lab_support import Pair, stays, wait_for

NODES = ("node-a", "node-b")
MINUTE_S = 60.0

GATEWAY = """\
[program:gateway]
; ha-agent: files = /etc/gateway/rules
command=/etc/gateway/current/run --config=/etc/gateway/app.toml
directory=/etc/gateway
user=nobody
startsecs=0
stopwaitsecs=3
"""

INSTALL = """
mkdir -p /etc/gateway/v1 /etc/gateway/v2 /etc/gateway/rules
for v in v1 v2; do
    printf '#!/bin/sh\\n# %s\\nexec sleep infinity\\n' $v >/etc/gateway/$v/run
    chmod 755 /etc/gateway/$v/run
done
ln -sfn v2 /etc/gateway/current
echo 'port = 80' >/etc/gateway/app.toml
echo one >/etc/gateway/rules/one
"""


def start(pair: Pair) -> None:
    """A pair with a program whose files are the same on both nodes, and compared."""
    pair.up({})
    for node in NODES:
        pair.shell(node, INSTALL)
    pair.await_role("node-a", "active")
    with open(pair.path("node-a", "gateway.conf"), "w", encoding="utf-8") as file:
        file.write(GATEWAY)
    pair.await_equal()
    for node in NODES:
        await_state(pair, node, "equal")


def payload(pair: Pair, node: str = "node-a") -> dict[str, Any]:
    """What the agent of ``node`` knows."""
    return dict(pair.lab.status(node)["payload"])


def state(pair: Pair, node: str = "node-a") -> str:
    return str(payload(pair, node)["state"])


def await_state(pair: Pair, node: str, expected: str) -> None:
    wait_for(f"{expected} on {node}", lambda: state(pair, node) == expected, MINUTE_S, 0.2, lambda: payload(pair, node))


def whys(pair: Pair, node: str = "node-a") -> list[str]:
    """In what the programs differ, as ``node`` tells it."""
    return [drift["why"] for drift in payload(pair, node)["drifts"]]


def alerts(pair: Pair, node: str = "node-a") -> list[str]:
    """The alerts of drift that last."""
    said = pair.lab.ask(node, {"op": "alert-list", "count": 20})
    return [row["text"] for row in said["lasting"] if row["code"] == "payload-differs" and row["told"]]


def await_whys(pair: Pair, expected: list[str]) -> None:
    """Waits until both nodes tell the same."""

    def told() -> list[list[str]]:
        return [whys(pair, node) for node in NODES]

    wait_for(f"{expected} on both", lambda: told() == [expected, expected], MINUTE_S, 0.2, told)


def test_a_changed_binary_on_one_node_is_named_within_a_minute_until_it_is_equal(pair: Pair) -> None:
    """Hazard 61: another build is installed on the standby alone.

    Fault: the file that a program's command names has another content on node-b.
    Answer: status of both nodes, doctor, lint --peer, an alert and the history name the program, the file and the node on
    which it changed; the program runs on, and the standby stays ready. All of it ends when the contents are the same.
    Bound: a minute, and a minute after it is equal.
    """
    start(pair)
    assert payload(pair)["programs"] == 1 and payload(pair)["files"] >= 6
    shown = pair.ha("node-a", "doctor", "--all").stdout
    assert "the same on both nodes: " in shown and " of 1 program" in shown, shown

    pair.shell("node-b", "echo '# other' >>/etc/gateway/v2/run")
    run = "/etc/gateway/current/run"
    wait_for("the alert", lambda: alerts(pair), MINUTE_S, 0.2, lambda: (payload(pair), payload(pair, "node-b")))
    text = f"node-b would start another build of gateway: {run} differs"
    assert alerts(pair) == [text] and alerts(pair, "node-b") == []
    await_whys(pair, [f"{run} differs"])
    for node in NODES:
        shown = pair.ha(node, "status").stdout
        assert f"{text} (changed on node-b " in " ".join(shown.split()), shown
        assert "1 of 1 confs loadable, files of 1 program differ" in shown
    assert pair.ha("node-a", "status", "--check").returncode == 1
    document = json.loads(pair.ha("node-a", "doctor", "--json").stdout)
    found = [f for node in document["nodes"] for f in node["findings"] if f["code"] == "payload-differs"]
    assert len(found) == 1 and found[0]["text"].startswith(text) and found[0]["severity"] == "warning"
    assert (
        f"node-b would not start it as node-a does: {run} differs"
        in pair.ha("node-a", "lint", "--registry", "--peer").stdout
    )
    (event,) = pair.history("node-a", "payload-differs")
    assert event["text"] == text and event["programs"] == ["gateway"] and pair.history("node-b", "payload-differs") == []
    assert pair.lab.status("node-b")["readiness"]["warnings"] == {}

    pair.shell("node-b", "sed -i '$d' /etc/gateway/v2/run")
    wait_for("the end of the alert", lambda: not alerts(pair), 2 * MINUTE_S, 0.2, lambda: payload(pair))
    assert state(pair) == "equal" and len(pair.history("node-a", "payload-equal")) == 1
    assert pair.ha("node-a", "status", "--check").returncode == 0


def test_a_version_link_a_configuration_and_a_user_are_compared_as_well(pair: Pair) -> None:
    """Hazard 61: version, configuration, a listed file and the user's groups differ.

    Fault: node-b has the link of another version, lacks a configuration, and a rule more.
    Answer: each is named; of what lies behind the link the link alone. A move of the programs keeps the judgement.
    Bound: a minute.
    """
    start(pair)
    pair.shell("node-b", "ln -sfn v1 /etc/gateway/current; rm /etc/gateway/app.toml; echo two >/etc/gateway/rules/two")
    expected = [
        "/etc/gateway/current points to v2 on node-a and v1 on node-b; /etc/gateway/app.toml is missing on node-b; "
        "/etc/gateway/rules/two is missing on node-a"
    ]
    await_whys(pair, expected)
    wait_for("the alert", lambda: alerts(pair), MINUTE_S, 0.2)
    pair.hand_over("node-b")
    wait_for("the alert of the other node", lambda: alerts(pair, "node-b"), MINUTE_S, 0.2, lambda: payload(pair, "node-b"))
    assert alerts(pair, "node-b") == [f"node-a would start another build of gateway: {expected[0]}"]
    wait_for("the end of the first one", lambda: not alerts(pair), MINUTE_S, 0.2)


def test_an_agent_that_is_killed_and_a_link_that_breaks_do_not_end_the_alert(pair: Pair) -> None:
    """Hazard 61: the agent is killed, and the link is cut, while a difference lasts.

    Fault: SIGKILL of the active node's agent; then the link is down for some seconds.
    Answer: the alert lasts all the time, and is told once; afterwards the difference is known again.
    Bound: a minute.
    """
    start(pair)
    pair.shell("node-b", "echo 'port = 81' >/etc/gateway/app.toml")
    wait_for("the alert", lambda: alerts(pair), MINUTE_S, 0.2)
    pair.kill_agent("node-a")
    stays("the alert", lambda: alerts(pair), 8.0)
    await_state(pair, "node-a", "differs")
    pair.lab.unit("node-b", "stop", "ha-agent")
    stays("the alert", lambda: alerts(pair), 12.0)
    assert state(pair) != "differs"
    pair.lab.unit("node-b", "start", "ha-agent")
    await_state(pair, "node-a", "differs")
    assert len(alerts(pair)) == 1
