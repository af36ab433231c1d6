"""What is known of the peer's silence before keepalived takes over; a peer that lives is never taken for dead by it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from ha_agent.lab.layout import ADDRESSES, NODES
from tests.lab_support import Pair, stays, wait_for

THREE = {"p0", "p1", "p2"}

PEER = ADDRESSES["node-b"]
MUTE = f"""\
table ip mute {{
  set moment {{ type ipv4_addr; flags timeout; elements = {{ {PEER} timeout %dms }} }}
  chain i {{ type filter hook input priority 0; ip saddr @moment drop; ip saddr {PEER} ip protocol 112 drop; }}
  chain o {{ type filter hook output priority 0; ip daddr @moment drop; ip daddr {PEER} ip protocol 112 drop; }}
}}
"""
"""Nothing gets through between the nodes for so many milliseconds, by the kernel's own clock, and no advert after that."""


def interlock_of(pair: Pair, node: str) -> dict[str, Any]:
    """The interlock's step of the last takeover that ``node`` finished."""
    done = pair.history(node, "takeover-done")[-1]
    step: dict[str, Any] = next(s for s in done["steps"] if s["step"] == "interlock")
    return step


def test_a_machine_that_lost_its_power_is_known_to_be_silent_when_keepalived_takes_over(pair: Pair) -> None:
    """A power cut, and the time that it costs.

    Fault: the active node loses its power.
    Answer: its peer began to ask the machine when the first advert was missing, and has the programs started at once.
    Bound: the interlock takes less than takeover.peer_probe_s.
    """
    pair.up()
    pair.await_runs("node-a", THREE)
    pair.lab.wait_settled()
    # Its agent may have begun a moment ago, and must have heard an advert.
    time.sleep(1.0)
    pair.lab.power_off("node-a")
    pair.await_runs("node-b", THREE, 5)
    step = interlock_of(pair, "node-b")
    assert step["interlock"] in ("dead", "link-down") and step["took_s"] < 0.25, step


@pytest.mark.parametrize("pause_ms", [100, 200])
def test_a_machine_that_is_silent_for_a_moment_and_then_answers_is_asked_for_its_word(pair: Pair, pause_ms: int) -> None:
    """Hazard 35: the machine, or the network, stands still for a moment.

    Fault: nothing gets through between the nodes for up to 0.2 s, and no advert after it, so that both are MASTER.
    Answer: the machine answers again, so its silence counts for nothing: it is asked, and stays active.
    Bound: nothing starts on the other node.
    """
    pair.up()
    pair.await_runs("node-a", THREE)
    pair.lab.run("node-a", "nft", MUTE % pause_ms)
    wait_for("node-b asks", lambda: [e for e in pair.history("node-b") if e.get("to") == "taking_over"], 3)
    stays("nothing starts on node-b", lambda: pair.runs("node-a") == THREE and not pair.runs("node-b"), 3.0)
    assert not pair.history("node-b", "interlock-settled")
    pair.shell("node-a", "nft delete table ip mute")
    pair.lab.wait_settled()
    assert pair.runs("node-a") == THREE


def test_a_machine_that_is_busy_is_not_taken_for_dead(pair: Pair) -> None:
    """Hazard 35: everything is late on both machines.

    Fault: eight endless loops on each node, and adverts that do not get through for a while, three times.
    Answer: the machine answers its peer's pings, late or not, and is asked for its word.
    Bound: nothing starts on the other node while the first one runs its programs.
    """
    pair.up()
    pair.await_runs("node-a", THREE)
    for node in NODES:
        loop = "timeout 40 sh -c 'while :; do :; done' > /dev/null 2>&1 < /dev/null &"
        pair.shell(node, f"for n in 1 2 3 4 5 6 7 8; do {loop} done")
    for _ in range(3):
        pair.lab.block("node-a", "vrrp")
        stays("nothing starts on node-b", lambda: not pair.runs("node-b") or not pair.runs("node-a"), 3.0)
        pair.lab.unblock("node-a", "vrrp")
        pair.lab.wait_settled(60.0)
    assert not [e for e in pair.history("node-b", "interlock-settled") if e["interlock"] in ("dead", "link-down")]
