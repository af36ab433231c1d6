"""Several virtual addresses, IPv4 and IPv6: they move together, and one that is missing or on both nodes is said by name."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys

from ha_agent.adapters.resources import find_resource
from ha_agent.lab.layout import NODES, other
from ha_agent.lab.sandbox import INNER
from tests.lab_support import Pair, stays, wait_for

THREE = {"p0", "p1", "p2"}
FIRST, SECOND, SIX = "10.77.0.100", "10.77.0.101", "fd77::100"
BARE = {FIRST, SECOND, SIX}
VIPS = [f"{FIRST}/24", f"{SECOND}/24", f"{SIX}/64"]


def vips_of(pair: Pair, node: str) -> set[str]:
    """Which of the VIPs are on the node, as its kernel says."""
    return BARE & set(re.findall(r"inet6? ([^/ ]+)/", pair.shell(node, "ip -o addr show dev eth0")))


def is_whole(pair: Pair, vips: set[str]) -> bool:
    """One node runs the programs and has all of the VIPs, the other one has none."""
    (active, *others) = [node for node in NODES if pair.is_running(node, THREE)] or [""]
    return bool(active) and not others and vips_of(pair, active) == vips and not vips_of(pair, other(active))


def answers(pair: Pair, vip: str) -> bool:
    """Whether a client at the switch reaches the VIP: the node's sshd answers there."""
    connect = f"import socket; socket.create_connection(({vip!r}, 22), 1.0).recv(4)"
    return subprocess.run(pair.lab.words_in_switch(sys.executable, "-c", connect), capture_output=True).returncode == 0


def test_all_of_them_move_and_clients_reach_each(pair: Pair) -> None:
    """Hazard 55: two IPv4 addresses and one of IPv6, of which VRRP's adverts hold one.

    Fault: a switchover; then the active node loses its power.
    Answer: all of them are where the programs are, in IPv6, too, and on the other node none; status, doctor and the metrics
    of both say so. What the node itself connects to sees its own address and never a VIP.
    Bound: as with one VIP.
    """
    pair.up(vips=VIPS)
    pair.await_runs("node-a", THREE)
    assert is_whole(pair, BARE) and all(answers(pair, vip) for vip in BARE)
    assert "src fd77::11 " in pair.shell("node-a", "ip -6 route get fd77::12")
    said = json.loads(pair.ha("node-b", "status", "--json").stdout)
    assert {n["name"]: set(n["vips"].values()) for n in said["nodes"]} == {"node-a": {True}, "node-b": {False}}
    assert "all 3 VIPs are on node-a alone" in pair.ha("node-b", "doctor", "--all").stdout
    assert pair.ha("node-a", "switchover", "--yes").returncode == 0
    pair.await_runs("node-b", THREE)
    assert is_whole(pair, BARE) and all(answers(pair, vip) for vip in BARE)
    pair.lab.power_off("node-b")
    pair.await_runs("node-a", THREE)
    wait_for("all of them are there", lambda: vips_of(pair, "node-a") == BARE, 2)
    assert all(answers(pair, vip) for vip in BARE)


def test_a_pair_of_ipv6_alone_is_as_any_other(pair: Pair) -> None:
    """Hazard 55: the VIP and the nodes' own addresses, between which adverts and ssh go, are of IPv6.

    Fault: a switchover, and keepalived is killed on the active node.
    Answer: the VIP moves each time, and edits reach the peer.
    Bound: as with IPv4.
    """
    pair.up(vips=[VIPS[2]])
    pair.await_runs("node-a", THREE)
    assert is_whole(pair, {SIX}) and answers(pair, SIX)
    assert pair.ha("node-a", "switchover", "--yes").returncode == 0
    pair.await_runs("node-b", THREE)
    assert is_whole(pair, {SIX}) and answers(pair, SIX)
    pair.lab.unit("node-b", "kill", "keepalived", signal.SIGKILL)
    pair.await_runs("node-a", THREE)
    wait_for("whole", lambda: is_whole(pair, {SIX}), 5, 0.1)
    pair.await_equal()


def test_one_that_is_taken_off_is_back_with_all_of_them(pair: Pair) -> None:
    """Hazard 55: somebody deletes one of the VIPs that are in no advert.

    Fault: `ip addr del` of the IPv6 one, then of an IPv4 one, each on the active node.
    Answer: keepalived gives up MASTER, and the programs stop; then one node has all of them and the programs, mostly the
    other one.
    Bound: 5 s.
    """
    pair.up(vips=VIPS)
    pair.await_runs("node-a", THREE)
    stays("the pair is whole, and vrrp.startup_delay_s is over", lambda: is_whole(pair, BARE), 2.0)
    for gone in (f"{SIX}/64", f"{SECOND}/32"):
        node = next(node for node in NODES if pair.runs(node))
        before = len(pair.history(node, "released"))
        pair.shell(node, f"ip addr del {gone} dev eth0")
        wait_for("it is released", lambda n=node, b=before: len(pair.history(n, "released")) > b, 5, 0.05)  # type: ignore[misc]
        wait_for("whole", lambda: is_whole(pair, BARE), 5, 0.1)
        pair.lab.wait_settled()


def test_one_that_cannot_be_put_there_is_said_and_the_others_serve(pair: Pair) -> None:
    """Hazard 56: keepalived says MASTER, and one of several VIPs is not there.

    Fault: the standby's interface has IPv6 switched off, and a switchover moves the VIPs there.
    Answer: it runs the programs, with the IPv4 ones; status, doctor and an alert on both nodes name the missing one and what
    helps. That helps: behind a switchover back nothing is said any more.
    Bound: said at once by status, within 15 s by the alert.
    """
    pair.up(vips=VIPS)
    pair.await_runs("node-a", THREE)
    pair.shell("node-b", "echo 1 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6")
    assert pair.ha("node-a", "switchover", "--yes").returncode == 0
    pair.await_runs("node-b", THREE)
    assert vips_of(pair, "node-b") == {FIRST, SECOND}
    for node in NODES:
        screen = pair.ha(node, "status").stdout
        assert f"node-b is active and lacks {SIX}, of 3 VIPs" in screen and "2 of 3 here" in screen, screen
        assert f"lacks {SIX}" in pair.ha(node, "doctor").stdout
    wait_for("the alert", lambda: pair.has_told("node-b", "vip-partly"), 15, 0.2)
    stays("the programs run", lambda: pair.is_running("node-b", THREE), 3.0)
    assert pair.ha("node-b", "switchover", "--yes").returncode == 0
    pair.await_runs("node-a", THREE)
    wait_for("whole", lambda: is_whole(pair, BARE), 5, 0.1)
    wait_for("nothing is said", lambda: "lacks" not in pair.ha("node-a", "status").stdout, 5, 0.2)


def test_one_on_both_nodes_is_said_by_name_and_taken_off_the_standby(pair: Pair) -> None:
    """Hazard 50: one of several VIPs is put on the standby by hand.

    Fault: `ip addr add` of the IPv6 one on the standby.
    Answer: status says which one; the standby takes that off.
    Bound: said within 15 s, removed within 10 s; the active node's VIPs are left alone.
    """
    pair.up(vips=VIPS)
    pair.await_runs("node-a", THREE)
    pair.shell("node-b", f"ip addr add {SIX}/64 dev eth0 nodad")
    wait_for("the screen", lambda: f"{SIX} is on both nodes" in pair.ha("node-a", "status").stdout, 4, 0.1)
    wait_for("it is taken off", lambda: not vips_of(pair, "node-b"), 10, 0.1)
    assert is_whole(pair, BARE) and pair.history("node-b", "vip-removed")


def test_one_is_added_and_taken_away_by_a_reload_on_one_node_after_the_other(pair: Pair) -> None:
    """Hazard 55: the number of addresses in an advert must not differ between the nodes.

    Fault: a second VIP, and one of IPv6, are added to agent.toml, keepalived reads its configuration again and the agent is
    restarted, on the standby and then on the active node; later the same back to one.
    Answer: no role changes and no program stops; the active node has what agent.toml says.
    Bound: none needed.
    """
    pair.up(vips=VIPS)
    pair.await_runs("node-a", THREE)
    stays("the pair is whole, and vrrp.startup_delay_s is over", lambda: is_whole(pair, BARE), 2.0)
    for vips in ([f"{FIRST}/24"], VIPS):
        for node in ("node-b", "node-a"):
            pair.configure(node, lambda raw, vips=vips: raw["vrrp"].update(vips=vips))  # type: ignore[misc]
        wait_for("whole", lambda v=vips: is_whole(pair, {one.split("/")[0] for one in v}), 5, 0.1)  # type: ignore[misc]
    assert not pair.history("node-a", "released") and not pair.history("node-b", "vrrp-master")


def test_a_node_that_is_fenced_without_its_agent_has_none_of_them(pair: Pair) -> None:
    """Hazard 6: keepalived is gone without a word, and so is the agent.

    Fault: keepalived hangs, and the fence script runs, as after five starts of the agent in vain.
    Answer: it stops keepalived and takes every VIP off; the other node has them and the programs.
    Bound: 10 s; no overlap but the script's time.
    """
    pair.up(vips=VIPS)
    pair.await_runs("node-a", THREE)
    pair.allowed_overlap_s = 15.0
    pair.lab.unit("node-a", "stop", "ha-agent")
    pair.lab.unit("node-a", "kill", "keepalived", signal.SIGSTOP)
    said = pair.shell("node-a", f"PATH={INNER}/bin:$PATH sh {find_resource('systemd/ha-agent-fence')}")
    assert "the VIP is given up" in said and not vips_of(pair, "node-a")
    pair.await_runs("node-b", THREE)
    assert vips_of(pair, "node-b") == BARE and not pair.runs("node-a")
