"""The nodes' own addresses and the VIP, put on interfaces and taken off by hand."""

from __future__ import annotations

import json
import os

import pytest

from ha_agent.lab.control import Lab
from ha_agent.lab.layout import ADDRESSES, NODES, PREFIX, VIP, other
from tests.lab_support import Pair, stays, wait_for

THREE = {"p0", "p1", "p2"}


def has(pair: Pair, node: str, address: str) -> bool:
    return f" {address}/" in pair.shell(node, "ip -4 -o addr show dev eth0")


def is_whole(pair: Pair) -> bool:
    """Exactly one node runs the programs, with the VIP, and both have their own addresses."""
    runs = [node for node in NODES if pair.runs(node)]
    vips = [node for node in NODES if has(pair, node, VIP)]
    return len(runs) == 1 and runs == vips and all(has(pair, node, ADDRESSES[node]) for node in NODES)


def with_its_network(lab: Lab) -> None:
    """keepalived.conf as it was rendered up to 0.1: the VIP with the prefix length of its network."""
    for node in NODES:
        path = os.path.join(lab.paths.disk(node, "etc-keepalived"), "keepalived.conf")
        with open(path, encoding="utf-8") as file:
            text = file.read()
        assert f"{VIP}/32 dev" in text
        with open(path, "w", encoding="utf-8") as file:
            file.write(text.replace(f"{VIP}/32 dev", f"{VIP}/{PREFIX} dev"))


@pytest.mark.parametrize("prepare", [None, with_its_network], ids=["alone", "with-its-network"])
@pytest.mark.parametrize("node", NODES)
def test_a_nodes_own_address_goes_and_comes_back(pair: Pair, node: str, prepare: object) -> None:
    """Hazard 44: ifdown and ifup by hand, while VRRP moves.

    Fault: the own address of the active node, or of the standby, is taken off for 4 s and put back.
    Answer: a node without its own address reaches nobody and says FAULT; the other one is active. Every role change
    afterwards leaves the own address where it is, with the VIP alone (/32) and as keepalived.conf had it before.
    Bound: 15 s after it is back; overlap: the time that the programs of the active node need to stop.
    """
    pair.up(prepare=prepare)
    pair.await_runs("node-a", THREE)
    pair.allowed_overlap_s = 1.0
    pair.shell(node, f"ip addr del {ADDRESSES[node]}/{PREFIX} dev eth0")
    wait_for("it is unfit", lambda: "not on this machine" in str(pair.lab.status(node)["unfit"]), 3, 0.05)
    pair.await_runs(other(node), THREE, 5)
    stays("one node is active", lambda: pair.is_running(other(node), THREE) and not pair.runs(node), 3.0)
    pair.shell(node, f"ip addr add {ADDRESSES[node]}/{PREFIX} dev eth0")
    wait_for("the pair is whole", lambda: is_whole(pair), 15, 0.1)
    pair.lab.wait_settled()
    for target in (node, other(node), node):
        pair.hand_over(target)
        pair.await_runs(target, THREE)
        assert is_whole(pair)


def test_the_vip_on_both_nodes_is_said_and_taken_off_the_standby(pair: Pair) -> None:
    """Hazard 50: the VIP is put on the standby by hand.

    Fault: `ip addr add` of the VIP on the standby, with another prefix length than keepalived's.
    Answer: status and doctor say so, and an alert. The standby takes it off again: its keepalived says that it is not to
    have it, and the other node is MASTER and has it. In maintenance it stays.
    Bound: said within 15 s, removed within 10 s; programs and the active node's VIP are left alone.
    """
    pair.up()
    pair.await_runs("node-a", THREE)
    pair.shell("node-b", "ha-agent maintenance on --for 10m")
    pair.shell("node-b", f"ip addr add {VIP}/{PREFIX} dev eth0")
    wait_for("the screen", lambda: "VIP is on both" in pair.ha("node-a", "status").stdout, 15, 0.2)
    assert "VIP is on both" in pair.ha("node-b", "doctor").stdout
    wait_for("the alert", lambda: pair.has_told("node-a", "vip-on-both"), 15, 0.2)
    assert has(pair, "node-b", VIP)
    pair.shell("node-b", "ha-agent maintenance off")
    wait_for("it is taken off", lambda: not has(pair, "node-b", VIP), 10, 0.1)
    assert pair.history("node-b", "vip-removed") and is_whole(pair)
    wait_for("nothing is said any more", lambda: "VIP is on both" not in pair.ha("node-a", "status").stdout, 5, 0.2)


def test_a_second_vip_beside_keepalived_s_is_said_by_doctor(pair: Pair) -> None:
    """Hazard 50: the system's network configuration puts the VIP on the active node, too.

    Fault: `ip addr add` of the VIP with another prefix length than keepalived's.
    Answer: doctor warns, and says how it goes without an outage; behind a switchover the agent takes it off.
    Bound: said at once, removed within 10 s of the switchover.
    """
    pair.up()
    pair.await_runs("node-a", THREE)
    pair.shell("node-a", f"ip addr add {VIP}/{PREFIX} dev eth0")
    said = json.loads(pair.ha("node-a", "doctor", "--json").stdout)["nodes"][0]["findings"]
    (finding,) = [one for one in said if one["code"] == "vip-copy"]
    assert finding["severity"] == "warning" and "ha-agent switchover" in finding["remedy"]
    assert pair.ha("node-a", "switchover", "--yes").returncode == 0
    wait_for("it is taken off", lambda: not has(pair, "node-a", VIP), 10, 0.1)
    assert "vip-copy" not in pair.ha("node-a", "doctor", "--json").stdout
    pair.await_runs("node-b", THREE)
    assert has(pair, "node-b", VIP) and is_whole(pair)


def test_the_vip_on_neither_node_is_said(pair: Pair) -> None:
    """Hazard 50: nobody has the VIP.

    Fault: keepalived is stopped on both nodes.
    Answer: status and doctor say so on both nodes, and an alert, until one of them has it again.
    Bound: said within 20 s.
    """
    pair.up()
    for node in NODES:
        pair.lab.unit(node, "stop", "keepalived")
    wait_for("the screen", lambda: "VIP is on neither" in pair.ha("node-a", "status").stdout, 20, 0.2)
    assert "VIP is on neither" in pair.ha("node-b", "doctor").stdout
    wait_for("the alert", lambda: pair.has_told("node-b", "vip-on-neither"), 20, 0.2)
    for node in NODES:
        pair.lab.unit(node, "start", "keepalived")
    pair.lab.wait_settled()
    assert "VIP is on neither" not in pair.ha("node-a", "status").stdout
