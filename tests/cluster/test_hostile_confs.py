"""Files of a registry with names and bytes that were made to do harm, on a pair."""

from __future__ import annotations

import os

from ha_agent.lab.control import Lab
from ha_agent.lab.layout import NODES
from tests.lab_support import SLEEPER, Pair, wait_for

LONG_NAME = "报" * 80 + ".conf"
"""245 bytes: a name that file systems take, and that percent-encoding makes more than two hundred characters of 80."""

PLACES = ("/run/ha-agent", "/etc/supervisor", "/etc/ha-agent", "/var/lib/ha-agent", "/var/log")
"""Where the pair writes."""


def test_a_conf_with_a_long_name_runs_and_keeps_no_other_one_from_running(pair: Pair) -> None:
    """The rule of `long-name`: a name is no reason not to be loaded.

    Fault: a conf with a name of 245 bytes of Chinese, another with 250 of ASCII, one in deep folders; then a switchover.
    Answer: all of them run on the new active node, and so do all others.
    Bound: 15 s.
    """
    names = {LONG_NAME: "chinese", "a" * 245 + ".conf": "ascii", "/".join(["d" * 200] * 4) + "/deep.ini": "deep"}
    pair.up()
    pair.await_runs("node-a", {"p0", "p1", "p2"})
    for path, program in names.items():
        folder = path.rpartition("/")[0]
        pair.shell("node-a", f"mkdir -p '/etc/supervisor/conf.d/{folder}'")
        with open(pair.path("node-a", path), "w", encoding="utf-8") as file:
            file.write(SLEEPER.format(name=program))
    pair.await_equal()
    wait_for("the standby has judged all", lambda: pair.lab.status("node-b")["readiness"]["loadable"] == 6, 15, 0.05)
    pair.hand_over("node-b")
    pair.await_runs("node-b", {"p0", "p1", "p2", *names.values()})


def test_two_confs_whose_names_look_alike_both_run(pair: Pair) -> None:
    """The rule of `name-collision`: a name of its own for each.

    Fault: x.ini beside x.ini.conf; then a switchover.
    Answer: both programs run, before and after.
    Bound: 15 s.
    """
    pair.up({"x.ini": SLEEPER.format(name="one"), "x.ini.conf": SLEEPER.format(name="two")})
    pair.await_runs("node-a", {"one", "two"})
    pair.await_equal()
    pair.hand_over("node-b")
    pair.await_runs("node-b", {"one", "two"})


def test_a_conf_that_root_alone_reads_is_shown_to_nobody_below_run(pair: Pair) -> None:
    """The rule of `secret-in-run`: what root alone reads in the registry, root alone reads in the active set.

    Fault: a conf of mode 0600, with a password in environment=, runs; then a switchover.
    Answer: a user of no group reads nothing of it on either node, where the active set is and where it was.
    Bound: none needed.
    """

    def prepare(lab: Lab) -> None:
        os.chmod(os.path.join(lab.paths.registry("node-a"), "x.conf"), 0o600)

    pair.up({"x.conf": SLEEPER.format(name="x") + 'environment=PW="correct-horse"\n'}, prepare=prepare)
    for active in ("node-a", "node-b"):
        if active == "node-b":
            pair.hand_over(active)
        pair.await_runs(active, {"x"})
        pair.await_equal()
        assert pair.shell(active, "grep -rl correct-horse /run/ha-agent/active | wc -l").strip() == "1"
        for node in NODES:
            assert pair.files(node)["x.conf"][0] == 0o600
            seen = pair.run_as(node, "carol", "grep", "-rs", "correct-horse", *PLACES)
            assert seen.returncode in (1, 2) and seen.stdout == "", f"carol read {seen.stdout} on {node}"


def test_confs_that_supervisord_would_read_otherwise_change_nothing_for_the_others(pair: Pair) -> None:
    """The rules of `hidden-section` and of a [DEFAULT], and that of a file that others could have written.

    Fault: a conf with a section behind a lone CR, one with [DEFAULT], one that everybody may write; then a switchover.
    Answer: each is named in status on the standby beforehand; all others run as they are on the new active node.
    Bound: 15 s.
    """
    pair.up()
    pair.await_runs("node-a", {"p0", "p1", "p2"})
    hostile = {
        "cr.conf": SLEEPER.format(name="cr") + ";\r[eventlistener:y]\rcommand=/bin/true\revents=TICK_5\r",
        "default.conf": "[DEFAULT]\nuser=nobody\nnumprocs=2\n" + SLEEPER.format(name="default"),
    }
    for name, text in hostile.items():
        with open(pair.path("node-a", name), "w", encoding="utf-8", newline="") as file:
            file.write(text)
    conf_d = "/etc/supervisor/conf.d"
    # Of that mode from the first moment on: before it the file would be one like any other.
    pair.shell("node-a", f"cd {conf_d}; sed s/p0/open/ p0.conf >.open; chmod 666 .open; mv .open open.conf")
    wait_for("node-b names both", lambda: len(pair.lab.status("node-b")["readiness"]["problems"]) == 2, 15, 0.05)
    problems = pair.lab.status("node-b")["readiness"]["problems"]
    assert "[eventlistener:y]" in problems["cr.conf"] and "[DEFAULT]" in problems["default.conf"]
    said = pair.ha("node-a", "status").stdout
    assert "open.conf" in said and "written by everybody" in said
    pair.hand_over("node-b")
    pair.await_runs("node-b", {"p0", "p1", "p2"})
    assert pair.shell("node-b", "ps -o user= -C sleep | sort -u").split() == ["root"]
    assert "open.conf" not in pair.files("node-b")
