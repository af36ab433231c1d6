"""What is done to the active node's registry is on the peer, byte for byte, whatever tool did it."""

from __future__ import annotations

import os

import pytest

from ha_agent.lab.layout import NODES
from tests.lab_support import SLEEPER, Pair, sleepers, stays, wait_for

EDITS = {
    "vi: new file, backup by rename, rename over": (
        "cp p0.conf .p0.swp; mv p0.conf p0.conf~; echo '; vi' >> .p0.swp; mv .p0.swp p0.conf; rm p0.conf~"
    ),
    "sed -i": "sed -i 's/stopwaitsecs=3/stopwaitsecs=4/' p0.conf",
    "in place, in several steps": (
        "exec 3>p0.conf; echo '[program:p0]' >&3; sleep 0.1; echo 'command=/bin/sleep 9' >&3; exec 3>&-"
    ),
    "append": "echo '; more' >> p1.conf",
    "cp of a new one": "sed s/p0/new/ p0.conf > /tmp/new.conf; cp /tmp/new.conf new.conf",
    "mv from elsewhere": "sed s/p1/moved/ p1.conf > /tmp/new.conf; mv /tmp/new.conf new.conf",
    "mv within": "mv p0.conf renamed.conf",
    "mv out": "mv new.conf /tmp/",
    "rm": "rm renamed.conf",
    "park": "mv p2.conf p2.conf.parked",
    "mkdir and cp into it at once": "mkdir sub; cp p1.conf sub/deep.ini",
    "a tree moved in": "mkdir -p /tmp/t/u; cp p1.conf /tmp/t/u/x.conf; cp p1.conf /tmp/t/y.conf; mv /tmp/t tree",
    "chmod": "chmod 600 p1.conf",
    "hard link": "ln p1.conf linked.conf",
    "truncate": ": > p1.conf",
}


@pytest.fixture
def names(pair: Pair) -> Pair:
    pair.up()
    return pair


def test_edits_of_every_kind_arrive_within_the_same_second(names: Pair) -> None:
    """Hazard 30: editors write by rename, leave swap and backup names, write in place in several steps.

    Fault: fifteen ways to change the registry.
    Answer: each arrives byte for byte.
    Bound: 2 ms (p50); a second under test.
    """
    for what, script in EDITS.items():
        before = names.files("node-a")
        names.shell("node-a", f"cd /etc/supervisor/conf.d; {script}")
        assert names.files("node-a") != before, what
        wait_for(what, lambda: names.files("node-a") == names.files("node-b"), 1.0, show=names.difference)
    assert not names.history("node-b", "standby-edit"), "the receiver's own writes were taken for local edits"


def test_odd_names_travel_and_foreign_files_do_not(names: Pair) -> None:
    """Hazard 33: spaces, newlines, leading dashes, unicode; hidden files and backups are not confs.

    Fault: confs with such names, and files that are no confs.
    Answer: the former travel, the latter do not.
    Bound: none needed.
    """
    good = ["a b.conf", "-dash.conf", "new\nline.conf", "größe 中.conf", "bytes-\udcff.conf", "deep/er/x.ini"]
    for name in good:
        path = names.path("node-a", name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="ascii") as file:
            file.write(SLEEPER.format(name=f"odd{good.index(name)}"))
    for name in (".hidden.conf", "notes.txt", "x.conf~", "x.conf.swp"):
        with open(names.path("node-a", name), "w", encoding="ascii") as file:
            file.write("not for the peer\n")
    wanted = {n: v for n, v in names.files("node-a").items() if n in good or n in sleepers(3)}
    wait_for(
        "odd names on the peer", lambda: names.files("node-b") == wanted, 3.0, show=lambda: names.files("node-b").keys()
    )


def test_symbolic_links_are_refused_and_said(names: Pair) -> None:
    """Hazard 33: a link may lead out of the registry.

    Fault: a symbolic link in the registry.
    Answer: it does not travel, and status says so.
    Bound: none needed.
    """
    names.shell("node-a", "ln -s /etc/passwd /etc/supervisor/conf.d/link.conf")
    names.lab.run("node-a", "ha-agent", "sync")
    assert "link.conf" not in names.files("node-b")
    assert "symbolic link" in names.lab.run("node-a", "ha-agent", "status")


def test_a_registry_that_vanishes_is_not_taken_for_deletions(names: Pair) -> None:
    """Hazards 26 and 29: removed, recreated empty, recreated full.

    Fault: the registry is moved away, made again empty, and filled again.
    Answer: nothing is deleted at the peer; it is said; afterwards everything is watched again.
    Bound: nothing is lost.
    """
    names.shell("node-a", "mv /etc/supervisor/conf.d /etc/supervisor/away")
    stays("the peer keeps its confs", lambda: len(names.files("node-b")) == 3, 1.0)
    assert "is not there" in names.lab.run("node-a", "ha-agent", "status")
    names.shell("node-a", "mkdir /etc/supervisor/conf.d")
    stays("the peer keeps its confs", lambda: len(names.files("node-b")) == 3, 1.0)
    assert "held" in names.lab.run("node-a", "ha-agent", "status")
    names.shell(
        "node-a", "cp /etc/supervisor/away/*.conf /etc/supervisor/conf.d/; echo '; back' >> /etc/supervisor/conf.d/p0.conf"
    )
    names.await_equal()
    names.shell("node-a", "echo '; watched again' >> /etc/supervisor/conf.d/p1.conf")
    names.await_equal(1.0)


def test_a_mass_deletion_is_held_until_an_operator_confirms_it(pair: Pair) -> None:
    """Hazard 26: most confs gone without a word is more often an accident than a wish.

    Fault: more than half of the confs are deleted.
    Answer: held, shown, and done after `ha-agent sync --accept-deletes`; kept copies nevertheless.
    Bound: nothing is lost.
    """
    pair.up(sleepers(20))
    pair.shell("node-a", "rm /etc/supervisor/conf.d/p1*.conf")
    stays("deletions are held", lambda: len(pair.files("node-b")) == 20, 1.0)
    assert pair.history("node-a", "registry-held")
    pair.lab.run("node-a", "ha-agent", "sync", "--accept-deletes")
    assert len(pair.files("node-b")) == 9
    kept = os.listdir(os.path.join(pair.lab.paths.disk("node-b", "state"), "kept"))
    assert kept or wait_for(
        "kept copies", lambda: os.listdir(os.path.join(pair.lab.paths.disk("node-b", "state"), "kept")), 5
    )


def test_an_edit_on_the_standby_does_not_travel_and_is_kept_when_it_is_overwritten(names: Pair) -> None:
    """Hazard 32: the same conf edited on both nodes.

    Fault: a conf is edited on the standby, and then on the active node.
    Answer: said at once; the active node's content counts, the other one is a kept copy.
    Bound: nothing is lost.
    """
    names.shell("node-b", "echo '; local' >> /etc/supervisor/conf.d/p0.conf")
    wait_for("the report", lambda: names.history("node-b", "standby-edit"), 3)
    stays("it does not travel", lambda: b"; local" not in names.files("node-a")["p0.conf"][1], 0.5)
    names.shell("node-a", "echo '; right' >> /etc/supervisor/conf.d/p0.conf")
    names.await_equal()
    assert b"; right" in names.files("node-b")["p0.conf"][1]
    # The file is there a moment before the word of it.
    kept = wait_for("the word of it", lambda: names.history("node-b", "divergence-kept"), 5)
    wait_for(
        "the kept copy",
        lambda: (
            b"; local" in names.shell("node-b", f"cat /var/lib/ha-agent/kept/{kept[-1]['kept']}/p0.conf || true").encode()
        ),
        5,
    )


def test_changes_made_while_the_peer_is_gone_arrive_when_it_is_back(names: Pair) -> None:
    """Hazards 25 and 31: the peer is offline for a while.

    Fault: edits and deletions while the peer is off.
    Answer: all of them arrive when it is back.
    Bound: the reconnect: 5 s at most.
    """
    names.lab.power_off("node-b")
    names.shell("node-a", "cd /etc/supervisor/conf.d; echo '; later' >> p0.conf; rm p1.conf; sed s/p0/p9/ p0.conf > p9.conf")
    names.power_on("node-b")
    names.await_equal(15.0)
    names.await_role("node-b", "standby")


def test_ten_thousand_confs_arrive_and_a_single_edit_afterwards_is_quick(pair: Pair) -> None:
    """Hazard 33: thousands of files.

    Fault: 10,000 confs at once, then a single edit.
    Answer: bulk goes by rsync into staging, the single edit within a frame.
    Bound: a second for the edit.
    """
    pair.up({"p0.conf": SLEEPER.format(name="p0")})
    root = pair.path("node-a")
    for number in range(10_000):
        folder = os.path.join(root, f"d{number % 50}")
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, f"c{number}.conf"), "w", encoding="ascii") as file:
            file.write(SLEEPER.format(name=f"c{number}") + "autostart=false\n")
    wait_for(
        "10,001 confs on the peer", lambda: len(pair.files("node-b")) == 10_001, 90, 0.25, lambda: len(pair.files("node-b"))
    )
    pair.lab.run("node-a", "ha-agent", "sync", "--timeout", "60", timeout_s=90)
    target = pair.path("node-b", "d7/c7.conf")

    def edit(seconds: int, limit_s: float) -> None:
        pair.shell("node-a", f"sed -i 's/sleep [0-9a-z]*/sleep {seconds}/' /etc/supervisor/conf.d/d7/c7.conf")

        def arrived() -> bool:
            with open(target, encoding="ascii") as file:
                return f"sleep {seconds}" in file.read()

        wait_for("the single edit", arrived, limit_s, 0.001)

    # The bulk leaves both nodes judging 10,000 confs; the promise is for a pair that has settled.
    def has_judged() -> bool:
        return all(pair.lab.status(node)["readiness"]["loadable"] == 10_001 for node in NODES)

    wait_for("both have judged", has_judged, 90, 0.5)
    edit(77, 15.0)
    edit(78, 1.0)
    assert pair.lab.status("node-b")["registry"]["confs"] == 10_001
