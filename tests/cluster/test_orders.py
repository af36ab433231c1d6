"""A node that an operator ordered to stay standby: the order outlives everything but another order."""

from __future__ import annotations

import time

from tests.lab_support import Pair, stays, wait_for

THREE = {"p0", "p1", "p2"}


def up(pair: Pair) -> None:
    pair.up()
    pair.lab.wait_settled()
    pair.await_runs("node-a", THREE)


def is_ordered(pair: Pair, node: str) -> bool:
    return pair.lab.status(node)["standby_order"] is not None


def test_a_node_that_is_to_stay_standby_takes_over_nothing_whatever_happens_to_it(pair: Pair) -> None:
    """The order outlives the agent and a power cut, and ends with another order alone.

    Fault: node-b is ordered to stay standby; its agent is killed, its power is cut; then the active node's power is cut.
    Answer: every face says so once; nothing starts on node-b, not even for a moment; with unstandby it takes over.
    Bound: none needed.
    """
    up(pair)
    done = pair.ha("node-a", "standby", "node-b", "--yes", "node-a", "--reason", "new disks")
    assert done.returncode == 0 and "ha-agent unstandby node-b" in done.stdout, done
    (event,) = pair.history("node-b", "standby-ordered")
    assert (event["by"], event["reason"]) == ("root", "new disks")
    wait_for("the alert", lambda: pair.ha("node-b", "alert", "list").stdout.count("standby-ordered") == 1, 15, 0.3)
    wait_for("FAULT", lambda: pair.lab.status("node-b")["vrrp_state"] == "FAULT", 10, 0.1)
    for node in ("node-a", "node-b"):
        lines = [line for line in pair.ha(node, "status").stdout.splitlines() if line.startswith("! ")]
        assert len(lines) == 1 and "node-b is to stay standby (new disks), by order of root" in lines[0], lines
    doctor = pair.ha("node-a", "doctor")
    assert doctor.returncode == 1 and "ha-agent unstandby node-b" in doctor.stdout
    forced = pair.ha("node-a", "switchover", "--yes", "--force")
    assert forced.returncode == 3 and "ha-agent unstandby node-b" in forced.stdout + forced.stderr
    pair.kill_agent("node-b")
    assert is_ordered(pair, "node-b")
    stays("it says FAULT", lambda: pair.shell("node-b", "cat /run/ha-agent/track").strip() == "1", 0.5)
    pair.lab.power_off("node-b")
    pair.power_on("node-b")
    wait_for("the order after the boot", lambda: is_ordered(pair, "node-b"), 15, 0.2)
    pair.lab.power_off("node-a")
    wait_for("node-b says that node-a is away", lambda: pair.is_alone("node-b"), 15, 0.2)
    stays("nothing starts", lambda: not pair.runs("node-b"), 4.0)
    boots = [e["vrrp_state"] for e in pair.history("node-b", "vrrp")]
    assert "MASTER" not in boots, boots
    refused = pair.ha("node-b", "takeover", "--peer-is-off", "--yes", "node-a")
    assert refused.returncode == 3 and "ha-agent unstandby node-b" in refused.stderr
    told = pair.ha("node-b", "alert", "list").stdout
    assert told.count("standby-ordered") <= 1, told
    assert pair.ha("node-b", "unstandby", "node-b", "--reason", "done").returncode == 0
    pair.await_runs("node-b", THREE, 15)
    assert pair.history("node-b", "standby-lifted")[-1]["reason"] == "done"
    assert not is_ordered(pair, "node-b")


def test_the_active_node_hands_over_before_it_stays_standby(pair: Pair) -> None:
    """From either node, through the other one.

    Fault: the active node is ordered to stay standby, asked for on the other node.
    Answer: a switchover, then the order; nothing runs twice, and unstandby moves nothing.
    Bound: no overlap.
    """
    up(pair)
    wrong = pair.ha("node-b", "standby", "node-a", "--yes", "node-a")
    assert wrong.returncode == 2 and "the other node is called node-b" in wrong.stderr
    assert pair.ha("node-b", "standby", "node-x", "--yes", "node-b").returncode == 2
    unasked = pair.ha("node-b", "standby", "node-a")
    assert unasked.returncode == 3 and "node-b is alone" in unasked.stdout and pair.runs("node-a") == THREE
    typed = "TERM=xterm script -qec 'ha-agent standby node-a; echo ended with $?' /dev/null"
    assert "ended with 3" in pair.shell("node-b", f"printf 'yes\\n' | {typed}") and pair.runs("node-a") == THREE
    said = pair.shell("node-b", f"printf 'node-b\\n' | {typed}")
    assert "ended with 0" in said and "Type node-b to go on" in said, said
    assert pair.runs("node-b") == THREE and is_ordered(pair, "node-a")
    stays("it stays so", lambda: pair.runs("node-b") == THREE and not pair.runs("node-a"), 1.0)
    both = pair.ha("node-a", "standby", "node-b", "--yes", "node-a")
    assert both.returncode == 3 and "not fit to take over" in both.stderr, both
    assert pair.ha("node-b", "unstandby", "node-a").returncode == 0
    wait_for("BACKUP", lambda: pair.lab.status("node-a")["vrrp_state"] == "BACKUP", 10, 0.1)
    stays("nothing moves", lambda: pair.runs("node-b") == THREE and not pair.runs("node-a"), 1.0)
    wait_for("the standby is fit", lambda: pair.ha("node-a", "switchover", "--dry-run").returncode == 0, 10, 0.3)


def test_an_order_after_which_nothing_runs_is_refused_and_what_is_forced_is_named(pair: Pair) -> None:
    """Both nodes in standby, and a standby that nobody stands beside.

    Fault: the active node is ordered to stay standby while the other one is, too; with maintenance on, as well.
    Answer: refused; with --force it is said that nothing will run, and nothing does until unstandby.
    Bound: none needed.
    """
    up(pair)
    assert pair.ha("node-a", "maintenance", "on").returncode == 0
    maintained = pair.ha("node-a", "standby", "node-b", "--yes", "node-a", "--force")
    assert maintained.returncode == 3 and "ha-agent maintenance off" in maintained.stderr
    assert pair.ha("node-a", "maintenance", "off").returncode == 0
    assert pair.ha("node-a", "standby", "node-b", "--yes", "node-a").returncode == 0
    pair.lab.power_off("node-b")
    wait_for("the link is seen down", lambda: pair.is_alone("node-a"), 15, 0.2)
    refused = pair.ha("node-a", "standby", "node-a", "--yes", "node-b")
    assert refused.returncode == 3 and "no standby" in refused.stderr and pair.runs("node-a") == THREE
    forced = pair.ha("node-a", "standby", "node-a", "--yes", "node-b", "--force")
    assert forced.returncode == 0 and "nothing runs" in forced.stdout, forced
    wait_for("nothing runs", lambda: not pair.runs("node-a"), 10)
    assert pair.ha("node-a", "standby", "node-b", "--yes", "node-a").returncode == 4, "a node is told itself"
    began = time.monotonic()
    assert pair.ha("node-a", "unstandby", "node-a").returncode == 0
    pair.await_runs("node-a", THREE, 15)
    assert time.monotonic() - began < 15
