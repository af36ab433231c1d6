"""Members of group ha-agent ask the agent's socket itself for what no command of ours asks: nothing comes of it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from ha_agent.lab.layout import NODES, fresh_directory
from tests.lab_support import Pair, sleepers, stays

pytestmark = pytest.mark.xdist_group("members")
"""One worker has the pair that all of them look at."""

THREE = {"p0", "p1", "p2"}
PWN = "/bin/sleep 77001"
AS_ROOT = f"[program:pwn]\ncommand={PWN}\nstartsecs=0\nuser=root\n"

ASK = """
import json, socket, struct, sys
with socket.socket(socket.AF_UNIX) as agent:
    agent.settimeout(30.0)
    agent.connect("/run/ha-agent/control.sock")
    body = sys.argv[1].encode()
    agent.sendall(struct.pack(">I", len(body)) + body)
    answers = agent.makefile("rb")
    while len(head := answers.read(4)) == 4:
        said = answers.read(*struct.unpack(">I", head)).decode()
        if "progress" not in json.loads(said):
            sys.exit(said)
sys.exit("{}")
"""


def ask(pair: Pair, node: str, message: dict[str, Any]) -> dict[str, Any]:
    """What the agent of ``node`` answers alice; nothing where it ends the connection."""
    said = pair.run_as(node, "alice", "/usr/bin/python3", "-c", ASK, json.dumps({**message, "id": 1})).stderr
    answer: dict[str, Any] = json.loads(said)
    return answer


def ask_both(pair: Pair, message: dict[str, Any]) -> list[dict[str, Any]]:
    """What both nodes answer her: the active one, and its peer through it."""
    there = ask(pair, "node-a", {"op": "at-peer", "ask": message})
    return [ask(pair, "node-a", message), there.get("answer", there)]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """A pair on which the dangerous modes of a failover-test are off, as they are by default."""
    made = Pair(fresh_directory("members"))
    try:
        made.up(sleepers(3), overrides={"drill": {"dangerous_modes": False}})
        made.await_runs("node-a", THREE)
        made.await_in_sync("node-a")
        yield made
    finally:
        made.down()
    made.check_invariant()


def register_and_deregister(pair: Pair, name: str) -> bytes:
    """Makes a kept copy of a conf that was hers on both nodes; returns what was in it."""
    for words in (["new", name, "--command", PWN], ["register", name]):
        done = pair.sup("node-a", *words)
        assert done.returncode == 0, done
    content = pair.files("node-a")[f"{name}.conf"][1]
    done = pair.sup("node-a", "deregister", name)
    assert done.returncode == 0 and f"{name}.conf" not in pair.files("node-a"), done
    return content


def kept(pair: Pair, name: str) -> list[dict[str, str]]:
    """The copies of both nodes, by what names them."""
    rows = [row for answer in ask_both(pair, {"op": "kept-list"}) for row in answer["kept"]]
    return [{key: row[key] for key in ("generation", "path", "sha256")} for row in rows if row["path"] == f"{name}.conf"]


def test_a_kept_copy_makes_nobody_root(pair: Pair) -> None:
    """The rule of `root-by-restore`: what was kept comes back as it was, and by root's hand.

    Fault: a member has the kept copy of her own conf restored with a mode of 0666, writes user=root into it, and updates.
    Answer: the restore is refused; no file of hers is in a registry, and nothing of it runs.
    Bound: at once.
    """
    content = register_and_deregister(pair, "pwn")
    copy = kept(pair, "pwn")[0]
    wanted = {"mode": 0o666, "content": base64.b64encode(content).decode()}
    answer = ask(pair, "node-a", {"op": "restore", **copy, **wanted})
    conf = "/etc/supervisor/conf.d/pwn.conf"
    pair.run_as("node-a", "alice", "sh", "-c", f"printf '%s' '{AS_ROOT}' >{conf}")
    pair.sup("node-a", "update")
    running = [pair.lab.run(node, "ps", "-eo", "user=,args=") for node in NODES]
    assert not [line for text in running for line in text.splitlines() if line.endswith(PWN)]
    assert answer.get("outcome") not in ("in-sync", "timeout") and "only root" in answer["error"], answer
    assert all(mode & 0o022 == 0 for node in NODES for mode, _ in pair.files(node).values())
    assert "pwn.conf" not in {**pair.files("node-a"), **pair.files("node-b")}


def test_a_member_destroys_no_kept_copy_here_or_there(pair: Pair) -> None:
    """The rule of `kept-destroyed`: kept copies are what helps against whoever may change the registry.

    Fault: a member takes a conf out, and asks both nodes to remove all kept copies, however young.
    Answer: all of them stay, on both nodes.
    Bound: none needed.
    """
    register_and_deregister(pair, "mine")
    before = kept(pair, "mine")
    assert len(before) == 2
    for more in ({}, {"older_s": 0.0}, {"older_s": -1e9}):
        ask_both(pair, {"op": "kept-prune", "generations": 0, "divergences": True, **more})
    assert kept(pair, "mine") == before


@pytest.mark.parametrize("hold_s", [float("nan"), float("inf"), 1e300])
def test_every_fault_has_an_end_from_the_beginning(pair: Pair, hold_s: float) -> None:
    """The rule of `endless-fault`: a time that is none begins nothing.

    Fault: a member begins a failover-test, and has keepalived killed for a time that never ends.
    Answer: the request is refused; keepalived runs on, and so does the pair.
    Bound: at once.
    """
    before = pair.lab.unit("node-a", "show", "keepalived")["keepalived"]
    assert ask(pair, "node-a", {"op": "drill-begin", "drill": "x", "for_s": 60.0})["outcome"] == "begun"
    try:
        answer = ask(pair, "node-a", {"op": "drill-fault", "drill": "x", "mode": "keepalived-kill", "hold_s": hold_s})
        stays(
            "keepalived is as it was",
            lambda: pair.lab.unit("node-a", "show", "keepalived")["keepalived"] == before,
            1.0,
        )
        assert answer.get("outcome") != "begun", answer
        assert pair.role("node-a") == "active" and pair.is_running("node-a", THREE)
    finally:
        ask(pair, "node-a", {"op": "drill-end", "drill": "x"})


def test_no_member_overrides_what_the_settings_forbid(pair: Pair) -> None:
    """The other rule of `endless-fault`: a mode that is dangerous takes root, or a setting that allows it.

    Fault: a member says "really" of a fault that dangerous_modes forbids, at the active node and through the standby.
    Answer: refused; the link stays up.
    Bound: at once.
    """
    fault = {"op": "drill-fault", "drill": "x", "mode": "link-down", "hold_s": 0.5, "really": True}
    assert ask(pair, "node-a", {"op": "drill-begin", "drill": "x", "for_s": 60.0})["outcome"] == "begun"
    try:
        answers = [ask(pair, "node-a", fault), ask(pair, "node-b", {"op": "at-peer", "ask": fault})]
        assert not [a for a in answers if "begun" in (a.get("outcome"), a.get("answer", {}).get("outcome"))], answers
        assert pair.role("node-a") == "active" and not pair.history("node-a", "drill-fault")
    finally:
        ask(pair, "node-a", {"op": "drill-end", "drill": "x"})
