"""Payload on a real pair: a version with its link, agents killed in the middle of a copy, and what waits for a word."""

from __future__ import annotations

import subprocess
import time
from typing import Any

from tests.lab_support import Pair, wait_for

APP = "/var/lib/app"
PAYLOAD: dict[str, Any] = {"payload": {"paths": [APP], "exclude": ["*.log"], "interval_s": 1.0}}

RELEASE = """\
mkdir -p {app}/{version}/lib
for n in $(seq {count}); do echo "{version} $n" >{app}/{version}/lib/$n; done
printf '#!/bin/sh\\nsleep 600\\nexit\\n' >{app}/{version}/run
chmod 755 {app}/{version}/run
chown -R daemon:daemon {app}/{version}
ln -sfn {version} {app}/current
"""

LOOKER = """\
import os, sys, time
bad, seen, end = 0, set(), time.time() + 60
while time.time() < end and not os.path.exists("/tmp/enough"):
    try:
        version = os.readlink("{app}/current")
        count = len(os.listdir(os.path.join("{app}", version, "lib")))
    except OSError as error:
        version, count = str(error), 0
    seen.add(version)
    bad += bool(seen - {{version}}) and count != {count}
print(bad, *sorted(seen))
"""


STOPPER = """\
import os, signal, sys, time
end = time.time() + 20
while time.time() < end:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if open(f"/proc/{pid}/comm").read().strip() == "rsync":
                os.kill(int(pid), signal.SIGSTOP)
                sys.exit(0)
        except OSError:
            pass
sys.exit(1)
"""


def release(pair: Pair, node: str, version: str, count: int = 100) -> None:
    """Puts a version there as a deployment does, its link at the end."""
    pair.shell(node, RELEASE.format(app=APP, version=version, count=count))


def tree(pair: Pair, node: str) -> str:
    """Everything that the payload is: kinds, modes, owners, targets, contents."""
    return pair.shell(
        node, f"cd {APP} && find . -printf '%p %y %m %u %g %l\\n' | sort && find . -type f -exec sha256sum {{}} + | sort"
    )


def says_yes(pair: Pair, node: str, script: str) -> bool:
    """Whether a shell script on a node says so."""
    return pair.shell(node, script).strip() == "yes"


def payload(pair: Pair, node: str) -> dict[str, Any]:
    """What a node says of it."""
    return dict(pair.lab.status(node)["payload_sync"])


def await_equal(pair: Pair, limit_s: float = 30.0) -> None:
    wait_for(
        "the payload is equal",
        lambda: tree(pair, "node-a") == tree(pair, "node-b"),
        limit_s,
        0.2,
        lambda: str(payload(pair, "node-a")),
    )


def up(pair: Pair, **more: Any) -> None:
    pair.up(overrides={"payload": {**PAYLOAD["payload"], **more}})
    pair.await_role("node-a", "active")
    pair.await_in_sync("node-a")


def push(pair: Pair, node: str = "node-a") -> None:
    done = pair.run_as(node, "root", "supzcli", "push", APP)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_deployed_version_arrives_whole_before_its_link_moves(pair: Pair) -> None:
    """A release of 100 files with a link that says which version counts, pushed, and then a second one.

    Fault: none; somebody on the standby looks all the time at what the link leads to.
    Answer: owners, modes and targets are those of the active node; whenever the link has moved, all of the new version is
    there.
    What a conf names below conf_files_below comes, too.
    Bound: 15 s each.
    """
    up(pair, conf_files_below=["/var/lib/other"])
    release(pair, "node-a", "v1")
    push(pair)
    assert tree(pair, "node-a") == tree(pair, "node-b")
    looker = subprocess.Popen(
        pair.lab.words_inside("node-b", ["python3", "-c", LOOKER.format(app=APP, count=100)]),
        stdout=subprocess.PIPE,
        text=True,
    )
    time.sleep(0.5)
    release(pair, "node-a", "v2")
    began = time.monotonic()
    push(pair)
    assert time.monotonic() - began < 15.0
    pair.shell("node-b", "sleep 0.3; touch /tmp/enough")
    said, _ = looker.communicate(timeout=60)
    assert said.split() == ["0", "v1", "v2"], said
    assert tree(pair, "node-a") == tree(pair, "node-b")
    shown = pair.ha("node-a", "payload")
    assert shown.returncode == 0 and "in sync, 203 files" in shown.stdout, shown.stdout
    assert "payload      in sync, 203 files" in pair.ha("node-a", "status").stdout
    refused = pair.run_as("node-a", "root", "supzcli", "push", "/etc")
    assert refused.returncode == 3 and "not below [payload] paths" in refused.stderr + refused.stdout
    for node in ("node-a", "node-b"):
        pair.shell(node, "mkdir /var/lib/other")
    pair.shell("node-a", "echo named >/var/lib/other/rules")
    pair.shell("node-a", "sed -i '1a ; ha-agent: files = /var/lib/other/rules' /etc/supervisor/conf.d/p0.conf")
    named = "test -f /var/lib/other/rules && echo yes || echo no"
    wait_for("it comes", lambda: says_yes(pair, "node-b", named), 15.0, 0.2)
    # Without a push it comes by itself, and after a switchover the other way round.
    pair.hand_over("node-b")
    pair.shell("node-b", f"echo new >{APP}/v2/lib/1; rm -r {APP}/v1")
    await_equal(pair)


def test_agents_killed_in_the_middle_of_a_copy_leave_old_or_new(pair: Pair) -> None:
    """A large version is copied while the agents of both nodes are killed again and again, and the pair changes its roles.

    Fault: kill -9 of the agent of node-a and of node-b in turn, at growing times after the copy began.
    Answer: the link on the standby leads to a whole version all the time; in the end both have the same and nothing hidden
    is left.
    Bound: 60 s after the last kill.
    """
    up(pair)
    release(pair, "node-a", "v1", 50)
    push(pair)
    pair.shell(
        "node-a",
        f"mkdir {APP}/v2 && for n in $(seq 40); do head -c 1M /dev/urandom >{APP}/v2/$n; done; ln -sfn v2 {APP}/current",
    )
    for number in range(6):
        time.sleep(0.15 * number)
        pair.kill_agent(("node-a", "node-b")[number % 2])
        whole = "[ $(ls current/ | wc -l) = 40 ] || [ $(ls current/lib | wc -l) = 50 ]"
        pair.shell("node-b", f"cd {APP} && {whole}")
    await_equal(pair, 60.0)
    assert pair.shell("node-b", f"find {APP} -name '.ha-agent-payload-*'") == ""
    assert pair.shell("node-b", "find /var/lib/ha-agent/staging -type f") == ""
    wait_for("it says so", lambda: payload(pair, "node-a")["state"] == "in_sync", 20.0, 0.2)


def test_what_may_be_a_mistake_waits_for_a_word(pair: Pair) -> None:
    """Most files are deleted, the directory is gone, a process of the standby runs from a file, and its disk is full.

    Fault: as said, one after the other.
    Answer: the standby keeps what it has, and status says why; a word of an operator lets deletions and replacements pass;
    what was deleted is among the kept copies; a full disk changes nothing.
    Bound: 15 s each.
    """
    up(pair)
    release(pair, "node-a", "v1", 20)
    push(pair)
    pair.shell("node-a", f"mv {APP}/v1/lib /tmp/lib; rm {APP}/v1/run")
    wait_for("it is held", lambda: payload(pair, "node-a")["state"] == "held", 15.0, 0.2)
    assert "21 of 22 files" in pair.ha("node-a", "status").stdout
    assert pair.shell("node-b", f"ls {APP}/v1/lib | wc -l").strip() == "20"
    assert pair.ha("node-a", "payload", "sync").returncode == 3
    done = pair.ha("node-a", "payload", "sync", "--accept-deletes")
    assert done.returncode == 0, done.stderr
    assert tree(pair, "node-a") == tree(pair, "node-b")
    kept = pair.shell("node-b", "find /var/lib/ha-agent/payload/kept -path '*/v1/lib/*' -type f | wc -l")
    assert kept.strip() == "20"

    release(pair, "node-a", "v1", 20)
    push(pair)
    pair.shell("node-a", f"mv {APP} {APP}.away")
    assert pair.ha("node-a", "payload", "sync").returncode == 0
    assert "is not there" in pair.ha("node-a", "payload").stdout
    assert pair.shell("node-b", f"ls {APP}/v1/lib | wc -l").strip() == "20"
    pair.shell("node-a", f"mv {APP}.away {APP}")

    runner = subprocess.Popen(pair.lab.words_inside("node-b", ["sh", f"{APP}/v1/run"]))
    try:
        wait_for("it runs", lambda: says_yes(pair, "node-b", "pgrep -f '[v]1/run' >/dev/null && echo yes || echo no"))
        pair.shell("node-a", f"echo '# changed' >>{APP}/v1/run")
        held = pair.ha("node-a", "payload", "sync")
        assert held.returncode == 3 and f"runs from {APP}/v1/run" in held.stderr, held.stderr
        assert "changed" not in pair.shell("node-b", f"cat {APP}/v1/run")
        assert pair.ha("node-a", "payload", "sync", "--accept-running").returncode == 0
        assert "changed" in pair.shell("node-b", f"cat {APP}/v1/run")
    finally:
        runner.kill()
        runner.wait()

    before = tree(pair, "node-b")
    pair.shell("node-b", "mount -t tmpfs -o size=2m small /var/lib/ha-agent/staging")
    pair.shell("node-a", f"head -c 4M /dev/urandom >{APP}/large")
    full = pair.ha("node-a", "payload", "sync")
    assert full.returncode == 7 and "bytes free" in full.stderr, full.stderr
    assert tree(pair, "node-b") == before
    assert "payload-held" in pair.ha("node-a", "status", "--json").stdout
    pair.shell("node-b", "umount /var/lib/ha-agent/staging")
    await_equal(pair, 15.0)


def test_a_long_copy_holds_up_neither_a_conf_nor_a_switchover(pair: Pair) -> None:
    """A release is on its way when a conf is edited and the pair hands over; the standby's rsync stands still meanwhile.

    Fault: as said.
    Answer: the conf is acknowledged and the role moves as without a copy; the checks say what the standby may lack; the new
    active node has the old version whole, and its link is the pair's; the version that did not arrive stays where it is.
    Bound: 5 s each.
    """
    up(pair)
    release(pair, "node-a", "v1", 10)
    push(pair)
    pair.shell("node-a", "mkdir /var/lib/v2 && for n in $(seq 12); do head -c 10M /dev/urandom >/var/lib/v2/$n; done")
    stopper = subprocess.Popen(pair.lab.words_inside("node-b", ["python3", "-c", STOPPER]))
    time.sleep(0.5)
    pair.shell("node-a", f"mv /var/lib/v2 {APP}/ && ln -sfn v2 {APP}/current")
    assert stopper.wait(20.0) == 0
    wait_for("it says so", lambda: payload(pair, "node-a")["state"] == "copying", 5.0, 0.1)
    began = time.monotonic()
    pair.shell("node-a", "sed -i '1i ; edited' /etc/supervisor/conf.d/p1.conf && ha-agent sync")
    assert time.monotonic() - began < 5.0
    assert "of the payload (copying)" in pair.ha("node-a", "switchover", "--dry-run").stdout
    began = time.monotonic()
    pair.hand_over("node-b")
    assert time.monotonic() - began < 5.0
    assert pair.shell("node-b", f"readlink {APP}/current && ls {APP}/current/lib | wc -l").split() == ["v1", "10"]
    wait_for("node-a is told", lambda: pair.shell("node-a", f"readlink {APP}/current").strip() == "v1", 30.0, 0.2)
    assert pair.shell("node-a", f"ls {APP}/v2 | wc -l").strip() == "12"
    wait_for("it says so", lambda: payload(pair, "node-a")["foreign"] == 13, 15.0, 0.2)
    # And back: what was left over is the active node's own again, and travels.
    pair.hand_over("node-a")
    await_equal(pair, 40.0)
