"""The degraded states of a pair as a table: how each is made and lifted, and what every face must say of it.

``test_degraded.py`` makes each of them on a real pair, asks every face, and writes or compares docs/degraded.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import ha_agent
from ha_agent.adapters.conf_checker import SCRIPT
from ha_agent.adapters.control import ask_daemon
from ha_agent.lab.layout import NODES, VIP, other
from tests.lab_support import Pair, wait_for

THREE = {"p0", "p1", "p2"}
TOML = "/etc/ha-agent/agent.toml"
CONFS = "/etc/supervisor/conf.d"
RESTART = "systemctl restart ha-agent"
BOTH = ("node-a", "node-b")

SLOW = """\
[program:{name}]
command=/bin/bash -c 'trap "while test -e /tmp/slow; do sleep 0.2; done; exit 0" TERM; while :; do sleep 0.2; done'
startsecs=0
stopwaitsecs=60
"""
"""A program that does not end as long as there is /tmp/slow."""

Step = Callable[[Pair], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """One degraded state.

    ``what``: what happened, for the page. ``asked``: the nodes whose faces are looked at; ``word`` is in the first line of
    the first one. ``code``: of the problem, empty where no fault may be said. ``also``: codes that may be said besides.
    ``checks``: exit statuses of `check role`, `check standby` and `check replication` at the first node. ``refuses``: exit
    status of `switchover --dry-run` there. ``alert_at``: where `alert list` has the code, empty where nobody is told.
    ``truth``: what must be so at the machine itself.
    """

    name: str
    what: str
    make: Step
    lift: Step
    word: str
    truth: Step
    code: str
    severity: str = "error"
    also: frozenset[str] = frozenset()
    asked: Sequence[str] = BOTH
    checks: tuple[int, int, int] = (0, 2, 0)
    refuses: int = 3
    alert_at: str = "node-a"
    alert: str = ""
    comes_and_goes: bool = False
    """Whether the pair corrects it and it is made again: then the faces are asked until one spell lasted for all."""

    @property
    def told(self) -> str:
        """The code of the alert."""
        return self.alert or self.code


# ---- ways to make and to lift ------------------------------------------------------------------------------------


def at(node: str, script: str) -> Step:
    """Runs ``script`` on ``node``."""
    return lambda pair: pair.shell(node, script)


def both(*steps: Step) -> Step:
    """One after the other."""

    def run(pair: Pair) -> None:
        for step in steps:
            step(pair)

    return run


def change_setting(expression: str) -> Step:
    return at("node-b", f"cp {TOML} /tmp/good; sed -i '{expression}' {TOML}; {RESTART}")


RESTORE_SETTING = at("node-b", f"cp /tmp/good {TOML}; {RESTART}")


def cover(path: str, content: str) -> Step:
    """Has node-b see ``content`` in the place of ``path``, and its agent started again."""
    return at("node-b", f"printf '%s\\n' '{content}' > /tmp/cover; mount --bind /tmp/cover {path}; {RESTART}")


def uncover(path: str) -> Step:
    return at("node-b", f"umount {path}; {RESTART}")


def wake(pair: Pair) -> None:
    """Ends the standby's sleep, and gives what it slept through its time."""
    pair.lab.thaw("node-b")


def fail_over_back(pair: Pair) -> None:
    """The other node took over meanwhile: makes node-a active again."""
    pair.await_role("node-a", "standby", 30)
    wait_for("a switchover back", lambda: pair.ha("node-a", "switchover", "--yes").returncode == 0, 60, 0.5)


def hand_over_slowly(pair: Pair) -> None:
    pair.shell("node-a", "touch /tmp/slow; echo 1 > /run/ha-agent/track")
    pair.await_role("node-a", "releasing", 10)


def finish_hand_over(pair: Pair) -> None:
    pair.shell("node-a", "rm /tmp/slow")
    pair.await_role("node-b", "active", 60)
    pair.shell("node-a", "echo 0 > /run/ha-agent/track")
    fail_over_back(pair)


def refuse_both(pair: Pair) -> None:
    """Has keepalived FAULT on both nodes, as two failing track scripts would."""
    for node in ("node-b", "node-a"):
        pair.shell(node, "echo 1 > /run/ha-agent/track")
    pair.await_role("node-a", "standby")


def allow_both(pair: Pair) -> None:
    pair.shell("node-a", "echo 0 > /run/ha-agent/track")
    pair.await_role("node-a", "active", 30)
    pair.shell("node-b", "echo 0 > /run/ha-agent/track")


def tell(pair: Pair, node: str, **message: object) -> None:
    ask_daemon(f"/proc/{pair.lab.init_pid(node)}/root/run/ha-agent", dict(message), 10.0)


def begin_drill(pair: Pair) -> None:
    """A failover-test that has not made its fault yet."""
    tell(pair, "node-a", op="drill-begin", drill="x", for_s=120.0)


def end_drill(pair: Pair) -> None:
    tell(pair, "node-a", op="drill-end", drill="x")


def maintain_one(pair: Pair) -> None:
    """Maintenance that its peer did not hear of: the link was down."""
    pair.lab.block("node-b", "tcp")
    # Before the connection is given up the word would wait in the network, and arrive later.
    wait_for("the link is given up", lambda: "silent for" in pair.ha("node-a", "status").stdout, 40, 0.1)
    pair.ha("node-a", "maintenance", "on", "--for", "10min", "--reason", "new disk")
    pair.lab.unblock("node-b", "tcp")


def keep_editing(pair: Pair) -> None:
    """Somebody's cron writes into the standby's registry again and again."""
    loop = f"while [ -e /tmp/editing ]; do echo '; x' >> {CONFS}/p0.conf; sleep 0.5; done"
    pair.shell("node-b", f'touch /tmp/editing; setsid sh -c "{loop}" > /dev/null 2>&1 < /dev/null &')
    # It is put right each time; what lasts is seen when the pauses between have grown to 16 s.
    wait_for("an edit that lasts", lambda: len(pair.history("node-a", "standby-restored")) >= 4, 90, 0.2)


def end_editing(pair: Pair) -> None:
    pair.shell("node-b", "rm -f /tmp/editing")
    wait_for("one registry", lambda: pair.ha("node-a", "sync", "--full").returncode == 0, 60, 0.5)


def fill_and_edit(pair: Pair) -> None:
    with open(os.path.join(pair.lab.paths.node("node-b"), "filler"), "wb") as file:
        try:
            while True:
                file.write(b"\0" * (1 << 20))
                file.flush()
        except OSError:
            pass
    pair.shell("node-a", f"echo '; waits for room' >> {CONFS}/p0.conf")


def make_room(pair: Pair) -> None:
    os.unlink(os.path.join(pair.lab.paths.node("node-b"), "filler"))


def lose_watch(pair: Pair) -> None:
    """The watched directory is replaced by a copy, as some restore does; what is edited next is in no watched directory."""
    pair.shell("node-a", f"cp -a {CONFS} {CONFS}.new; mv {CONFS} {CONFS}.old; mv {CONFS}.new {CONFS}")
    pair.shell("node-a", f"echo '; behind the watch' >> {CONFS}/p1.conf")


# ---- what is so at the machine -------------------------------------------------------------------------------------


def seen_pids(pair: Pair, node: str, pattern: str) -> list[str]:
    """By /proc. The first letter in brackets keeps the asking shell out of it."""
    return pair.shell(node, f"pgrep -f '[{pattern[0]}]{pattern[1:]}' || true").split()


def has_vip(pair: Pair, node: str) -> bool:
    return f"{VIP}/" in pair.shell(node, "ip -4 addr")


def none_of(node: str, pattern: str) -> Step:
    def look(pair: Pair) -> None:
        assert not seen_pids(pair, node, pattern)

    return look


def differ(setting: str) -> Step:
    def look(pair: Pair) -> None:
        own, theirs = (pair.shell(node, f"grep '^{setting} ' {TOML} || true") for node in NODES)
        assert own != theirs

    return look


def is_fault(node: str) -> Step:
    def look(pair: Pair) -> None:
        states = [line for line in pair.shell(node, "cat /var/log/keepalived.log").splitlines() if "STATE" in line]
        assert "FAULT" in states[-1] and not has_vip(pair, node), states[-3:]

    return look


def programs_run_at(node: str) -> Step:
    def look(pair: Pair) -> None:
        assert pair.runs(node) == THREE and not pair.runs(other(node))
        assert has_vip(pair, node) and not has_vip(pair, other(node))

    return look


def nothing_runs(pair: Pair) -> None:
    assert not any(pair.runs(node) for node in NODES) and not any(has_vip(pair, node) for node in NODES)


def link_is_dead(pair: Pair) -> None:
    assert "ok" not in pair.shell("node-a", "timeout 2 bash -c '</dev/tcp/10.77.0.12/22 && echo ok' 2>&1 || true")
    programs_run_at("node-a")(pair)


def has_no_carrier(pair: Pair) -> None:
    assert "NO-CARRIER" in pair.shell("node-b", "ip link show eth0")
    programs_run_at("node-a")(pair)


def is_in_maintenance_alone(pair: Pair) -> None:
    assert pair.lab.status("node-a")["maintenance"] and not pair.lab.status("node-b")["maintenance"]
    programs_run_at("node-a")(pair)


def is_stopped(pair: Pair) -> None:
    with open(f"/proc/{pair.lab.init_pid('node-b')}/stat", encoding="ascii") as file:
        assert file.read().rpartition(")")[2].split()[0] == "T"


def is_off(pair: Pair) -> None:
    assert not pair.lab.is_on("node-b") and pair.runs("node-a") == THREE


def registries_differ(pair: Pair) -> None:
    assert pair.files("node-a") != pair.files("node-b")


def only_p_confs_are_gone(pair: Pair) -> None:
    assert not THREE & {name.removesuffix(".conf") for name in pair.files("node-a")}
    assert {name.removesuffix(".conf") for name in pair.files("node-b")} >= THREE


def is_released(pair: Pair) -> None:
    assert not has_vip(pair, "node-a") and pair.runs("node-a") and not pair.runs("node-b")


def edit_arrives(pair: Pair) -> None:
    pair.await_equal(20)


def versions_differ(pair: Pair) -> None:
    own, theirs = (pair.shell(node, "ha-agent --version") for node in NODES)
    assert own != theirs and "0.0.9" in theirs


AGENT = "ha_agent daemon"
UNFIT = "node-b could not take over"
NO_SUPERVISORD = "supervisord: /run/supervisor.sock: No such file or directory; must not be MASTER: supervisord is gone"
GONE = "node-b does not answer"

BY_STANDBY = (
    State(
        name="VIP differs",
        what="agent.toml of node-b names another VIP, and its agent was started again.",
        make=change_setting(f"s/{VIP}/10.77.0.101/"),
        lift=RESTORE_SETTING,
        code="config-differs",
        word=f"vrrp.vip must be the same on both nodes: {VIP}/24 on node-a, 10.77.0.101/24 on node-b",
        truth=differ("vip"),
    ),
    State(
        name="router id differs",
        what="agent.toml of node-b names another virtual router id, and its agent was started again.",
        make=change_setting("s/^#*router_id = .*/router_id = 99/"),
        lift=RESTORE_SETTING,
        code="config-differs",
        word="vrrp.router_id must be the same on both nodes: 51 on node-a, 99 on node-b",
        truth=differ("router_id"),
    ),
    State(
        name="keepalived FAULT",
        what="keepalived of the standby says FAULT.",
        make=at("node-b", "echo 1 > /run/ha-agent/track"),
        lift=at("node-b", "echo 0 > /run/ha-agent/track"),
        code="standby-unfit",
        word=f"{UNFIT}: is standby, but keepalived says FAULT and not BACKUP",
        truth=is_fault("node-b"),
    ),
    State(
        name="keepalived down",
        what="keepalived of the standby was stopped.",
        make=at("node-b", "systemctl stop keepalived"),
        lift=at("node-b", "systemctl start keepalived"),
        code="standby-unfit",
        word=f"{UNFIT}: keepalived is not running",
        also=frozenset({"keepalived-down"}),
        truth=none_of("node-b", "keepalived -n"),
    ),
    State(
        name="agent down there",
        what="The agent of the standby was stopped.",
        make=at("node-b", "systemctl stop ha-agent"),
        lift=at("node-b", "systemctl start ha-agent"),
        code="peer-lost",
        word="the agent is not running on node-b",
        asked=("node-a",),
        checks=(3, 2, 3),
        refuses=4,
        truth=none_of("node-b", AGENT),
    ),
    State(
        name="supervisord down there",
        what="supervisord of the standby was stopped.",
        make=at("node-b", "systemctl stop supervisord"),
        lift=at("node-b", "systemctl start supervisord"),
        code="standby-unfit",
        word=f"{UNFIT}: {NO_SUPERVISORD}",
        also=frozenset({"supervisord-down"}),
        truth=none_of("node-b", "supervisord -n"),
    ),
    State(
        name="registry gone",
        what="The directory of the standby's registry was moved away.",
        make=at("node-b", f"mv {CONFS} {CONFS}.gone"),
        lift=at("node-b", f"mv {CONFS}.gone {CONFS}"),
        code="standby-unfit",
        word=UNFIT,
        also=frozenset({"registry-unavailable", "standby-edit", "replication-lag", "standby-not-ready"}),
        checks=(0, 2, 2),
        truth=lambda pair: pair.shell("node-b", f"test ! -d {CONFS}"),
    ),
    State(
        name="parser does not answer",
        what="supervisord's parser cannot be asked on the standby about the confs.",
        make=cover(SCRIPT, "import sys; sys.exit(9)"),
        lift=uncover(SCRIPT),
        code="standby-unfit",
        word=f"{UNFIT}: the confs could not be checked",
        also=frozenset({"standby-not-ready"}),
        truth=lambda pair: pair.shell("node-b", f"grep -q 'sys.exit(9)' {SCRIPT}"),
    ),
    State(
        name="standby edited",
        what="Something goes on writing into the standby's registry.",
        make=keep_editing,
        lift=end_editing,
        code="standby-edit",
        severity="warning",
        word="node-b is the standby and was changed locally (p0.conf)",
        checks=(0, 0, 1),
        alert_at="node-b",
        truth=registries_differ,
        comes_and_goes=True,
    ),
    State(
        name="conf not loadable there",
        what="A conf names a user that the active node has and the standby does not have.",
        make=both(
            at("node-a", "echo 'onlyhere:x:4711:4711::/:/bin/sh' >> /etc/passwd"),
            at(
                "node-a",
                f"printf '[program:un]\\ncommand=/bin/sleep 9\\nuser=onlyhere\\nautostart=false\\n' > {CONFS}/un.conf",
            ),
        ),
        lift=at("node-a", f"rm {CONFS}/un.conf; sed -i /onlyhere/d /etc/passwd"),
        code="standby-not-ready",
        severity="warning",
        word="node-b cannot load un.conf",
        checks=(0, 1, 0),
        alert_at="node-b",
        truth=lambda pair: pair.shell("node-b", "! grep onlyhere /etc/passwd"),
    ),
    State(
        name="disk full",
        what="The disk of the standby is full, and a conf was edited on the active node.",
        make=fill_and_edit,
        lift=make_room,
        code="replication-refused",
        word="node-a: replication is refused: NO_SPACE",
        checks=(0, 0, 2),
        truth=registries_differ,
    ),
    State(
        name="version skew",
        what="node-b was given an older ha-agent.",
        make=cover(str(ha_agent.__file__), '__version__ = "0.0.9"'),
        lift=uncover(str(ha_agent.__file__)),
        code="version-differs",
        severity="warning",
        word=f"the nodes run different versions of ha-agent: {ha_agent.__version__} on node-a, 0.0.9 on node-b",
        checks=(0, 1, 0),
        refuses=0,
        alert_at="",
        truth=versions_differ,
    ),
    State(
        name="peer frozen",
        what="Every process of the standby is stopped (SIGSTOP); its kernel answers a ping.",
        make=lambda pair: pair.lab.freeze("node-b"),
        lift=wake,
        code="peer-lost",
        word=GONE,
        asked=("node-a",),
        checks=(3, 2, 3),
        refuses=4,
        truth=is_stopped,
    ),
    State(
        name="peer rebooting",
        what="The standby has lost its power, and boots later.",
        make=lambda pair: pair.lab.power_off("node-b"),
        lift=lambda pair: pair.power_on("node-b"),
        code="peer-lost",
        word=GONE,
        asked=("node-a",),
        checks=(3, 2, 3),
        refuses=4,
        truth=is_off,
    ),
)
"""What is the matter at the standby, or with it; no role changes."""

OF_PAIR = (
    State(
        name="agent down here",
        what="The agent of the active node was stopped; its programs run on.",
        make=at("node-a", "systemctl stop ha-agent"),
        lift=at("node-a", "systemctl start ha-agent"),
        code="agent-down",
        word="node-a has no agent: the VIP is here, 4 programs of supervisord run",
        asked=("node-a",),
        checks=(3, 3, 3),
        refuses=5,
        alert_at="node-b",
        alert="peer-lost",
        truth=both(none_of("node-a", AGENT), programs_run_at("node-a")),
    ),
    State(
        name="supervisord down here",
        what="supervisord of the active node was stopped; the other node has taken over.",
        make=both(at("node-a", "systemctl stop supervisord"), lambda pair: pair.await_runs("node-b", THREE, 30)),
        lift=both(at("node-a", "systemctl start supervisord"), fail_over_back),
        code="standby-unfit",
        word=f"node-a could not take over: {NO_SUPERVISORD}",
        also=frozenset({"supervisord-down"}),
        alert_at="node-b",
        truth=both(none_of("node-a", "supervisord -n"), programs_run_at("node-b")),
    ),
    State(
        name="link down",
        what="TCP between the nodes does not get through; adverts and pings do.",
        make=lambda pair: pair.lab.block("node-b", "tcp"),
        lift=lambda pair: pair.lab.unblock("node-b", "tcp"),
        code="peer-lost",
        word=GONE,
        checks=(3, 2, 3),
        refuses=4,
        truth=link_is_dead,
    ),
    State(
        name="cable cut",
        what="The cable of the standby was pulled out.",
        make=lambda pair: pair.lab.cut("node-b"),
        lift=lambda pair: pair.lab.heal("node-b"),
        code="peer-lost",
        word=GONE,
        checks=(3, 2, 3),
        refuses=4,
        truth=has_no_carrier,
    ),
    State(
        name="maintenance of one node",
        what="Maintenance was begun at node-a while the link was down, so that node-b did not hear of it.",
        make=maintain_one,
        lift=at("node-a", "ha-agent maintenance off"),
        code="maintenance-on",
        severity="warning",
        word="node-a is in maintenance for",
        checks=(0, 0, 0),
        alert_at="",
        truth=is_in_maintenance_alone,
    ),
    State(
        name="maintenance of both nodes",
        what="Maintenance was begun.",
        make=at("node-a", "ha-agent maintenance on --for 10min --reason 'new disk'"),
        lift=at("node-a", "ha-agent maintenance off"),
        code="maintenance-on",
        severity="warning",
        word="both nodes are in maintenance for",
        checks=(0, 0, 0),
        alert_at="",
        truth=programs_run_at("node-a"),
    ),
    State(
        name="held deletions",
        what="Most confs were moved away from the active node's registry.",
        make=at("node-a", f"mkdir -p /tmp/away; mv {CONFS}/p[0-2].conf /tmp/away/"),
        lift=at("node-a", f"mv /tmp/away/*.conf {CONFS}/"),
        code="registry-held",
        word="node-a: replication is held",
        also=frozenset({"program-stopped"}),
        checks=(0, 0, 2),
        truth=only_p_confs_are_gone,
    ),
    State(
        name="conf not loadable here",
        what="A conf has a number that is none.",
        make=at("node-a", f"printf '[program:bad]\\ncommand=/bin/sleep 9\\nnumprocs=x\\n' > {CONFS}/bad.conf"),
        lift=at("node-a", f"rm {CONFS}/bad.conf"),
        code="conf-not-loadable",
        word="node-a cannot load bad.conf",
        also=frozenset({"standby-not-ready"}),
        checks=(0, 1, 0),
        refuses=0,
        truth=lambda pair: pair.shell("node-a", f"grep numprocs=x {CONFS}/bad.conf"),
    ),
    State(
        name="drill running",
        what="A failover-test was begun and has not made its fault yet.",
        make=begin_drill,
        lift=end_drill,
        code="drill",
        severity="warning",
        word="a failover-test by",
        checks=(0, 0, 0),
        refuses=0,
        alert_at="",
        truth=programs_run_at("node-a"),
    ),
    State(
        name="hand-over running",
        what="The active node hands over; a program needs its time to end.",
        make=hand_over_slowly,
        lift=finish_hand_over,
        code="",
        word="the roles are changing",
        checks=(0, 0, 0),
        alert_at="",
        truth=is_released,
    ),
    State(
        name="both standby",
        what="keepalived says FAULT on both nodes.",
        make=refuse_both,
        lift=allow_both,
        code="no-active-node",
        word="no node is active",
        also=frozenset({"vip-on-neither"}),
        checks=(2, 3, 3),
        truth=nothing_runs,
    ),
    State(
        name="watch lost",
        what="The registry of the active node was replaced by a copy, and a conf was edited in it.",
        make=lose_watch,
        lift=at("node-a", f"rm -r {CONFS}.old"),
        code="",
        word="node-a active, node-b ready, in sync",
        checks=(0, 0, 0),
        refuses=0,
        alert_at="",
        truth=edit_arrives,
    ),
)
"""What is the matter with the active node, the link, or the pair."""

ALONE = {
    "no permission": "test_who_may_not_ask_is_told_that_and_no_state",
    "dual master": "test_a_partition_is_told_while_it_lasts_and_afterwards",
}
"""States that are no problem of the pair, or cost a pair of their own, and the tests that make them."""

NAMES = [*(state.name for state in (*BY_STANDBY, *OF_PAIR)), *ALONE]
"""In the order of the page."""
