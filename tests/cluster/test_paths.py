"""Two networks between the nodes: one cut cable costs nothing, two are as one is where there is but one."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from ha_agent.lab.layout import NODES, other
from ha_agent.lab.network import address_of
from tests.lab_support import SLEEPER, Pair, stays, wait_for

THREE = {"p0", "p1", "p2"}
MOVED_S = 4.0
"""The look at a path every second, its half second, and a connection; with time for a busy machine."""


class Edits:
    """Writes one small conf after the other, each followed by the command that waits for the peer, and keeps count."""

    def __init__(self, pair: Pair, node: str) -> None:
        self.pair, self.node = pair, node
        self.acknowledged: dict[str, float] = {}
        self.failed: list[str] = []
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        number = 0
        while not self._ends.is_set():
            name, number = f"e{number}", number + 1
            with open(self.pair.path(self.node, f"{name}.conf"), "w", encoding="ascii") as file:
                file.write(SLEEPER.format(name=name))
            began = time.monotonic()
            done = self.pair.ha(self.node, "sync")
            if done.returncode == 0:
                self.acknowledged[name] = time.monotonic() - began
            else:
                self.failed.append(f"{name}: {done.returncode} {done.stderr or done.stdout}")

    def end(self) -> None:
        self._ends.set()
        self._thread.join(60)


def link_paths(pair: Pair) -> dict[str, str | None]:
    """By node the address that its link goes to."""
    return {n: next((p["address"] for p in pair.lab.status(n)["paths"] if p["link"]), None) for n in NODES}


@pytest.mark.parametrize("path", [1, 2])
@pytest.mark.parametrize("how", ["isolate", "cut"])
def test_one_cut_path_costs_nothing(pair: Pair, path: int, how: str) -> None:
    """Hazard 57: a cable, or a switch, between the nodes is lost, while programs run and confs are edited.

    Fault: the standby's cable of one of two paths is pulled, or its switch forwards nothing; later it is plugged in again.
    Answer: no role changes, no program stops; both links are over the other path. No edit fails, and each that is
    acknowledged is on the peer. Status and doctor say which path is cut until it is back.
    Bound: 4 s until the links are over the other path, where pings are answered; an edit waits no longer.
    """
    pair.up(paths=2)
    pair.await_runs("node-a", THREE)
    wait_for("both links", lambda: all(link_paths(pair).values()), 5)
    pair.allowed_overlap_s = 0.0
    epoch = pair.lab.status("node-a")["epoch"]
    edits = Edits(pair, "node-a")
    wait_for("edits", lambda: len(edits.acknowledged) >= 2, 20)
    getattr(pair.lab, how)("node-b", path)
    left = {node: address_of(other(node), path) for node in NODES}
    wait_for("the links moved", lambda: all(to not in (None, left[n]) for n, to in link_paths(pair).items()), MOVED_S)
    count = len(edits.acknowledged)
    wait_for("more edits", lambda: len(edits.acknowledged) >= count + 3, 20)
    said = f"at {left['node-a']}, one of 2 paths"
    wait_for("it is said", lambda: said in pair.ha("node-a", "status").stdout, 8, 0.2)
    assert "[path-down]" in pair.ha("node-a", "doctor").stdout
    stays("node-a runs all", lambda: pair.runs("node-a") >= THREE and not pair.runs("node-b"), 3.0)
    getattr(pair.lab, {"isolate": "rejoin", "cut": "heal"}[how])("node-b", path)
    wait_for("nothing is said", lambda: "path-down" not in pair.ha("node-a", "status", "--json").stdout, 8, 0.2)
    edits.end()
    assert not edits.failed and max(edits.acknowledged.values()) < MOVED_S + 2.0, (edits.failed, edits.acknowledged)
    pair.await_equal()
    assert {f"{name}.conf" for name in edits.acknowledged} <= pair.files("node-b").keys()
    assert pair.lab.status("node-a")["epoch"] == epoch and pair.role("node-a") == "active"
    assert not pair.history("node-b", "vrrp-master")


def test_a_cut_path_of_the_active_node_moves_nothing_unless_it_carries_the_vip(pair: Pair) -> None:
    """Hazard 57: the active node's own cables.

    Fault: its cable of the path without the VIP is pulled; then, with that plugged in again, the one with the VIP.
    Answer: nothing moves at the first. At the second keepalived says FAULT, because no client reaches the VIP there: the
    peer takes over with the node's word, which comes over the other path.
    Bound: none; 8 s for the word, without a program on both nodes.
    """
    pair.up(paths=2)
    pair.await_runs("node-a", THREE)
    pair.lab.cut("node-a", 2)
    stays("node-a runs all", lambda: pair.is_running("node-a", THREE), 5.0)
    pair.lab.heal("node-a", 2)
    wait_for("all paths", lambda: all(p["up"] for n in NODES for p in pair.lab.status(n)["paths"]), 8, 0.1)
    pair.lab.cut("node-a", 1)
    pair.await_runs("node-b", THREE, 8)
    done = pair.history("node-b", "takeover-done")[-1]
    assert [s.get("interlock") for s in done["steps"] if s["step"] == "interlock"] == ["released"], done
    pair.lab.heal("node-a", 1)
    pair.lab.wait_settled()


def test_both_paths_cut_are_a_partition_and_heal_as_one(pair: Pair) -> None:
    """Hazard 57: both paths are cut at once, with carriers.

    Fault: the switches forward nothing to the standby on either path; later on one of them again.
    Answer: as with one path that is cut: both nodes are active and say so; with the first path that is back one of them
    releases.
    Bound: 15 s after that; overlap: the partition.
    """
    pair.up(paths=2)
    pair.await_runs("node-a", THREE)
    pair.allowed_overlap_s = 40.0
    pair.lab.isolate("node-b")
    pair.await_runs("node-b", THREE)
    assert "CRITICAL" in pair.ha("node-b", "status").stdout
    stays("both are active", lambda: all(pair.runs(node) for node in NODES), 2.0)
    pair.lab.rejoin("node-b", 2)
    wait_for("one of them releases", lambda: sum(bool(pair.runs(n)) for n in NODES) == 1, 15, 0.05)
    pair.lab.wait_settled()
    wait_for("it is told", lambda: any(pair.history(n, "ran-twice") for n in NODES), 10, 0.1)
    pair.lab.rejoin("node-b", 1)


@pytest.mark.parametrize("cut", [None, 1, 2])
def test_a_power_cut_is_noticed_as_with_one_path(pair: Pair, cut: int | None) -> None:
    """Hazard 57: the active node loses its power, with all paths there or one of them cut before.

    Fault: as said.
    Answer: adverts come over no path any more: the peer takes over.
    Bound: 3 s.
    """
    pair.up(paths=2)
    pair.await_runs("node-a", THREE)
    if cut is not None:
        pair.lab.isolate("node-a", cut)
        stays("nothing moves", lambda: pair.is_running("node-a", THREE), 3.0)
    pair.lab.power_off("node-a")
    pair.await_runs("node-b", THREE, 3.0)


def test_a_second_path_comes_in_without_an_outage_but_a_switchover(pair: Pair) -> None:
    """Hazard 57: an instance that joins a group begins as BACKUP.

    Fault: a second path is added to both configurations: on the standby, then a switchover, then on the other node, which is
    the standby now; later it is taken out again.
    Answer: no role changes but by the switchover, at no time do both nodes or none run the programs for longer than that
    takes; afterwards one cut path costs nothing.
    Bound: none needed.
    """
    pair.up(paths=2)
    pair.await_runs("node-a", THREE)
    for node in ("node-b", "node-a"):
        pair.configure(node, lambda raw, n=node: leave_one_path(raw, n))  # type: ignore[misc]
    assert pair.is_running("node-a", THREE) and pair.lab.status("node-a")["paths"] == []
    pair.configure("node-b", lambda raw: take_two_paths(raw, "node-b"))
    assert pair.ha("node-a", "switchover", "--yes").returncode == 0
    pair.await_runs("node-b", THREE)
    pair.configure("node-a", lambda raw: take_two_paths(raw, "node-a"))
    stays("node-b runs all", lambda: pair.is_running("node-b", THREE), 2.0)
    pair.lab.wait_settled()
    pair.lab.isolate("node-a", 1)
    stays("node-b runs all", lambda: pair.is_running("node-b", THREE), 4.0)


def leave_one_path(raw: dict[str, Any], node: str) -> None:
    raw["node"]["address"], raw["peer"]["address"] = address_of(node), address_of(other(node))
    for section in ("node", "peer"):
        del raw[section]["addresses"]
    del raw["vrrp"]["path_interfaces"]


def take_two_paths(raw: dict[str, Any], node: str) -> None:
    for section, name in (("node", node), ("peer", other(node))):
        del raw[section]["address"]
        raw[section]["addresses"] = [address_of(name, 1), address_of(name, 2)]
    raw["vrrp"]["path_interfaces"] = ["eth1"]


def test_two_paths_of_ipv6_are_as_others(pair: Pair) -> None:
    """Hazard 57: all addresses are of IPv6.

    Fault: one path is cut, then the active node loses its power.
    Answer: nothing at the first; the peer takes over at the second.
    Bound: 3 s.
    """
    pair.up(paths=2, vips=["fd77::100/64"])
    pair.await_runs("node-a", THREE)
    pair.lab.isolate("node-b", 1)
    wait_for("the links moved", lambda: all((to or "").startswith("fd78:") for to in link_paths(pair).values()), MOVED_S + 2)
    stays("nothing moves", lambda: pair.is_running("node-a", THREE), 3.0)
    pair.lab.power_off("node-a")
    pair.await_runs("node-b", THREE, 3.0)
