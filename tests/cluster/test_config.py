"""agent.toml of both nodes, on a real pair: what must agree is set at the peer, and nothing else can be."""

from __future__ import annotations

import json
import os
import re
import signal

from ha_agent.lab.layout import VIP
from tests.lab_support import Pair, wait_for

THREE = {"p0", "p1", "p2"}
FILE = "/etc/ha-agent/agent.toml"


def up(pair: Pair) -> None:
    pair.up()
    pair.lab.wait_settled()
    pair.await_runs("node-a", THREE)


def edit(pair: Pair, node: str, script: str) -> None:
    pair.shell(node, f"sed -i '{script}' {FILE}; ha-agent config check")


def test_what_must_agree_is_set_at_the_peer_and_its_own_lines_stay(pair: Pair) -> None:
    """An operator has changed values on one node that both must have alike.

    Fault: agent.toml says other things on the two nodes.
    Answer: `config diff --peer` says what; `config apply --peer` sets it there, keeps the former file, and that agent begins
    again; no program notices.
    Bound: none needed.
    """
    up(pair)
    assert pair.ha("node-a", "config", "diff").stdout == "the agent works with what it says\n"
    assert pair.ha("node-a", "config", "diff", "--peer").returncode == 0
    edit(pair, "node-b", 's/^name = "node-b"/name = "node-b"  # by hand/; s/^#level = .*/level = "warning"/')
    edit(pair, "node-a", 's/^#on_interlock_timeout = .*/on_interlock_timeout = "hold"/')
    edit(pair, "node-a", "s/^#mass_delete_minimum.*/mass_delete_minimum = 9/")
    assert "takeover.on_interlock_timeout" in pair.ha("node-a", "config", "diff").stdout
    found = pair.ha("node-a", "config", "diff", "--peer")
    assert found.returncode == 1 and '"hold" on node-a, "start" on node-b: must be the same' in found.stdout, found
    before = pair.shell("node-b", f"cat {FILE}"), pair.agent_pid("node-b")
    shown = pair.ha("node-a", "config", "apply", "--peer", "--dry-run")
    assert (
        shown.returncode == 0
        and "nothing was changed" in shown.stdout
        and "registry.mass_delete_minimum = 9" in shown.stdout
    )
    assert pair.ha("node-a", "config", "apply", "--peer").returncode == 3, "nobody said yes"
    assert pair.shell("node-b", f"cat {FILE}") == before[0]
    done = pair.ha("node-a", "config", "apply", "--peer", "--yes")
    assert done.returncode == 0 and "systemctl reload ha-agent" in done.stderr, done
    assert pair.shell("node-b", f"cat {FILE}.former") == before[0]
    text = pair.shell("node-b", f"cat {FILE}")
    assert "  # by hand\n" in text and 'level = "warning"' in text and '\non_interlock_timeout = "hold"\n' in text
    wait_for("node-b works with it", lambda: not differs(pair, "node-b"), 20, 0.2)
    pair.lab.unit("node-a", "kill", "ha-agent", 1)
    wait_for("both agree", lambda: pair.ha("node-a", "config", "diff", "--peer").returncode == 0, 20, 0.3)
    pair.lab.wait_settled()
    assert pair.runs("node-a") == THREE and pair.agent_pid("node-b") == before[1]
    assert "settings-applied" in [event["code"] for event in pair.history("node-b")]
    again = pair.ha("node-a", "config", "apply", "--peer", "--yes")
    assert again.returncode == 0 and "is alike on node-b" in again.stdout


def differs(pair: Pair, node: str) -> bool:
    done = pair.ha(node, "config", "diff", "--json")
    return not done.stdout or json.loads(done.stdout)["differences"] != []


def test_what_would_take_the_service_down_or_name_a_place_is_refused(pair: Pair) -> None:
    """The same from the standby: the active node would lose its VIP.

    Fault: another VIP for an active node; another registry; a VIP that is an address of the machine.
    Answer: refused with the reason, and nothing has changed.
    Bound: none needed.
    """
    up(pair)
    before = pair.shell("node-a", f"cat {FILE}")
    edit(pair, "node-b", f"s|{VIP}/|10.77.0.101/|")
    done = pair.ha("node-b", "config", "apply", "--peer", "--yes")
    assert done.returncode == 3 and "ha-agent maintenance on" in done.stderr, done
    edit(pair, "node-b", f's|10.77.0.101/|{VIP}/|; s|^#path = .*|path = "/etc/supervisor/other"|')
    shown = pair.ha("node-b", "config", "apply", "--peer", "--yes")
    assert shown.returncode == 0 and "is alike" in shown.stdout, shown
    assert "set by root of each node" in pair.ha("node-b", "config", "diff", "--peer").stdout
    assert pair.shell("node-a", f"cat {FILE}") == before
    assert not os.path.exists(os.path.join(pair.lab.paths.disk("node-a", "etc-ha-agent"), "agent.toml.former"))
    assert pair.runs("node-a") == THREE


def test_an_address_is_added_and_taken_away_while_the_programs_run(pair: Pair) -> None:
    """The steps of docs/day2.md for a further virtual address, and back.

    Fault: `vip` becomes `vips` on one node, and later the other way round.
    Answer: `config apply --peer` sets it at the other one, whose former line stays as a comment; after `keepalived write`
    both addresses are where the programs are, and after the way back the first alone; no program is touched.
    Bound: none needed.
    """
    up(pair)
    pids = pair.sup("node-a", "status", "all").stdout
    both, one = f'vips = ["{VIP}/24", "10.77.0.101/24"]', f'vip = "{VIP}/24"'
    for line, wanted in ((both, {VIP, "10.77.0.101"}), (one, {VIP})):
        assert pair.ha("node-a", "maintenance", "on", "--for", "10min", "--reason", "addresses").returncode == 0
        pair.shell("node-a", f"sed -i '/^vips\\? = /d; s|^\\[vrrp\\].*|&\\n{line}|' {FILE}; ha-agent config check")
        done = pair.ha("node-a", "config", "apply", "--peer", "--yes")
        assert done.returncode == 0 and "ha-agent keepalived write" in done.stdout, done
        pair.lab.unit("node-a", "kill", "ha-agent", signal.SIGHUP)
        wait_for("both agree", lambda: pair.ha("node-b", "config", "diff", "--peer").returncode == 0, 20, 0.3)
        for node in ("node-a", "node-b"):
            assert pair.ha(node, "keepalived", "write").returncode == 0
            # The lab's nodes have the hook where it may differ from node to node.
            pair.shell(node, "sed -i s,/usr/lib/ha-agent/,/etc/keepalived/, /etc/keepalived/keepalived.conf")
            pair.lab.unit(node, "kill", "keepalived", signal.SIGHUP)
        wait_for("the addresses", lambda w=wanted: addresses(pair, "node-a") == w, 10, 0.2)  # type: ignore[misc]
        assert pair.ha("node-a", "maintenance", "off").returncode == 0
        pair.lab.wait_settled()
        assert not addresses(pair, "node-b") and pair.runs("node-a") == THREE
        assert re.findall(r"pid \d+", pair.sup("node-a", "status", "all").stdout) == re.findall(r"pid \d+", pids)
        assert pair.ha("node-a", "doctor", "--peer").returncode == 0
    text = pair.shell("node-b", f"cat {FILE}")
    assert f"\n{one}" in text and "\n#vips = [" in text
    assert pair.ha("node-a", "switchover", "--yes").returncode == 0
    pair.await_runs("node-b", THREE)


def addresses(pair: Pair, node: str) -> set[str]:
    """Which virtual addresses are on the node, as its kernel says."""
    return {VIP, "10.77.0.101"} & set(re.findall(r"inet ([^/ ]+)/", pair.shell(node, "ip -o addr show dev eth0")))
