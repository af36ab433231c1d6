"""What changes on a pair that has been at work for a while: docs/day2.md, on two booted machines."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from tests.machines.machine import CommandFailed, Machine, await_true, two_machines
from tests.machines.pair import PROGRAMS, VIP, MachinePair

OTHER_VIP = "10.78.0.101"
BEGUN_WITH, REPLACED_BY = os.environ.get("HA_AGENT_SUITES", "bookworm bookworm").split()
"""With SUITE=mixed both machines are of Debian 12, and those that replace them of 13: the move from one to the other."""


@pytest.fixture(scope="module")
def pair() -> Iterator[MachinePair]:
    """A pair at work, both of the release that comes first."""
    with two_machines() as machines:
        for machine in machines:
            machine.suite = BEGUN_WITH
        made = MachinePair(*machines)
        made.install()
        yield made


@pytest.fixture(scope="module", autouse=True)
def serving(pair: MachinePair) -> None:
    """redis on every address, so that a client finds it on whichever is the virtual one."""
    pair.make_active(pair.a)
    pair.a.run("sed -i 's/--bind [0-9.]*/--bind 0.0.0.0/' /etc/supervisor/conf.d/redis.conf; supzcli update")
    pair.await_healthy(pair.a)


@pytest.fixture(autouse=True)
def alike(pair: MachinePair) -> Iterator[None]:
    """Nothing has differed between the nodes' registries after a test."""
    yield
    active = pair.active()
    if active is not None:
        assert active.run("ha-agent diff") == "both registries are equal\n"


def agent_of(machine: Machine) -> str:
    return machine.run("systemctl show -p MainPID --value ha-agent").strip()


# ---- the virtual address ----------------------------------------------------------------------------------------


class Client:
    """Asks redis through either virtual address, from the standby, again and again."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._stop = threading.Event()
        self._gaps: list[float] = []
        self._thread = threading.Thread(target=self._ask)

    def _ask(self) -> None:
        answered = time.monotonic()
        while not self._stop.is_set():
            ask = "timeout 0.2 redis-cli -h $a ping 2>/dev/null | grep -q PONG && exit"
            script = f"for a in {VIP} {OTHER_VIP}; do {ask}; done; false"
            with contextlib.suppress(CommandFailed):
                self._machine.run(script)
                self._gaps.append(time.monotonic() - answered)
                answered = time.monotonic()

    def __enter__(self) -> Client:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def longest_s(self) -> float:
        """The longest time between two answers."""
        return max(self._gaps)


def change_vip(pair: MachinePair, active: Machine, old: str, new: str) -> None:
    """As docs/day2.md says."""
    other = pair.other(active)
    active.run(f"ha-agent standby {other.name} --reason 'new address' --yes {active.name}")
    active.run("ha-agent maintenance on --for 15min --reason 'new address'")
    active.run(f"sed -i 's|^vip = \"{old}/|vip = \"{new}/|' /etc/ha-agent/agent.toml; ha-agent config check")
    said = active.run("ha-agent config apply --peer --yes 2>&1")
    assert "vrrp.vip set" in said and "ha-agent keepalived write" in said, said
    active.run("systemctl reload ha-agent; ha-agent keepalived write; systemctl reload keepalived")
    other.run("ha-agent keepalived write; systemctl reload keepalived")
    await_true("the new address is there", lambda: f"inet {new}/" in active.run("ip -4 addr show dev host0"))
    active.run("ha-agent maintenance off")
    active.run(f"ha-agent unstandby {other.name}")


def test_the_virtual_address_is_changed_while_programs_run(pair: MachinePair) -> None:
    pair.make_active(pair.a)
    before, epoch = pair.pids(pair.a), pair.status(pair.a)["epoch"]
    with Client(pair.b) as client:
        change_vip(pair, pair.a, VIP, OTHER_VIP)
        pair.await_healthy(pair.a)
        time.sleep(1.0)
    pair.seconds["change of the virtual address: longest time without an answer through the old or the new one"] = (
        client.longest_s
    )
    assert client.longest_s < 3.0
    assert pair.pids(pair.a) == before and pair.status(pair.a)["epoch"] == epoch, "no role has changed"
    for machine in pair.both:
        assert VIP not in machine.run("ip -4 addr show dev host0; cat /etc/keepalived/*.conf; cat /var/lib/ha-agent/vip")
    assert pair.a.run("ha-agent config diff --peer").endswith("what both nodes must say alike is alike\n")
    # It is a failover's, too; and back from the other node.
    pair.make_active(pair.b)
    assert f"inet {OTHER_VIP}/" in pair.b.run("ip -4 addr show dev host0")
    change_vip(pair, pair.b, OTHER_VIP, VIP)
    pair.await_healthy(pair.b)
    assert f"inet {VIP}/" in pair.b.run("ip -4 addr show dev host0")
    pair.make_active(pair.a)


# ---- keys -------------------------------------------------------------------------------------------------------


class Watch:
    """Asks again and again whether a node's key is let in at the other one."""

    def __init__(self, machine: Machine) -> None:
        self._machine, self._stop = machine, threading.Event()
        self.answers: list[str] = []
        self._thread = threading.Thread(target=self._ask)

    def _ask(self) -> None:
        while not self._stop.is_set():
            self.answers.append(try_key(self._machine))

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def try_key(machine: Machine) -> str:
    answer = machine.run("""echo '{"step": "try", "present": true}' | ha-agent setup-node keys""")
    return "taken" if json.loads(answer).get("taken") else answer


def keys_of(machine: Machine) -> tuple[str, str]:
    return machine.run("ssh-keygen -y -f /etc/ha-agent/ssh/id_ed25519").split()[1], machine.run(
        "grep ha-agent-peer /root/.ssh/authorized_keys"
    )


def rotate(pair: MachinePair, more: str = "--yes") -> subprocess.CompletedProcess[str]:
    shown = pair.b.run("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub").split()[1]
    words = pair.a.words(f"ha-agent pair {pair.b.address} --rotate --fingerprint {shown} {more}")
    return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=180)


def test_both_agents_get_new_keys_and_the_link_is_refused_at_no_moment(pair: MachinePair) -> None:
    pair.make_active(pair.a)
    before, pids = [keys_of(machine) for machine in pair.both], pair.pids(pair.a)
    assert rotate(pair, "").returncode == 3 and [keys_of(m) for m in pair.both] == before, "nobody said yes"
    with Watch(pair.a) as one, Watch(pair.b) as other:
        done = rotate(pair)
    assert done.returncode == 0 and "the old ones are let in nowhere" in done.stdout, done
    assert set(one.answers + other.answers) == {"taken"} and len(one.answers) > 3
    after = [keys_of(machine) for machine in pair.both]
    for (old, _), (new, _), (_, let_in) in zip(before, after, after[::-1], strict=True):
        assert old != new and new in let_in and old not in let_in and len(let_in.splitlines()) == 1
    assert "ha-agent-peer" not in pair.a.run("ls /etc/ha-agent/ssh") and ".new" not in pair.a.run("ls /etc/ha-agent/ssh")
    pair.await_healthy(pair.a)
    assert pair.pids(pair.a) == pids


def test_a_rotation_that_was_killed_leaves_a_link_and_can_be_run_again(pair: MachinePair) -> None:
    pair.make_active(pair.a)
    for after_s in (0.8, 1.6, 2.4, 3.2):
        shown = pair.b.run("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub").split()[1]
        pair.a.run(f"timeout -s KILL {after_s} ha-agent pair {pair.b.address} --rotate --yes --fingerprint {shown} || true")
        assert [try_key(machine) for machine in pair.both] == ["taken", "taken"], f"killed after {after_s} s"
    assert rotate(pair).returncode == 0
    for machine in pair.both:
        assert len(keys_of(machine)[1].splitlines()) == 1 and try_key(machine) == "taken"
    pair.await_healthy(pair.a)


def test_a_host_key_that_has_changed_is_shown_and_pinned_when_somebody_says_so(pair: MachinePair) -> None:
    pair.make_active(pair.a)
    pair.b.run("rm /etc/ssh/ssh_host_*; ssh-keygen -A; systemctl restart ssh; systemctl restart ha-agent")
    pair.a.run("systemctl restart ha-agent")
    await_true("the link is refused", lambda: "pair node-b --host-key" in pair.a.run("ha-agent status || true"), 60.0, 0.5)
    assert "ha-agent pair node-b --host-key" in pair.a.run("ha-agent doctor || true")
    known = pair.a.read("/etc/ha-agent/ssh/known_hosts")
    new = pair.b.run("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub").split()[1]
    asked = "ha-agent pair node-b --host-key {} 2>&1 || true"
    for more, said in (
        ("--yes", f"--fingerprint {new}"),
        ("--fingerprint SHA256:x", "is that the right machine"),
        ("--dry-run", new),
    ):
        shown = pair.a.run(asked.format(more))
        assert said in shown and "nothing was changed" in shown and "pinned for node-b: SHA256:" in shown, shown
        assert pair.a.read("/etc/ha-agent/ssh/known_hosts") == known
    assert "pinned; the agent connects" in pair.a.run(asked.format(f"--fingerprint {new}"))
    pair.await_healthy(pair.a)
    assert "nothing was changed" in pair.a.run(asked.format(""))


# ---- another machine --------------------------------------------------------------------------------------------


def let_root_in(machine: Machine, by: Machine) -> None:
    """Lets root of ``by`` log in to ``machine``, as whoever runs setup can."""
    make = "test -e /root/.ssh/id_ed25519 || ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519"
    by.run(f"mkdir -p -m 700 /root/.ssh; {make}")
    key = by.read("/root/.ssh/id_ed25519.pub").strip()
    machine.run(f"mkdir -p -m 700 /root/.ssh; echo '{key}' >> /root/.ssh/authorized_keys")


def put_in_place(pair: MachinePair, machine: Machine, by: Machine) -> str:
    """A new machine in the place of ``machine``, which has lost its power for good; what setup on ``by`` said."""
    machine.cut_power()
    machine.exchange(REPLACED_BY)
    machine.boot()
    pair.install_package(machine)
    machine.run("systemctl disable --now redis-server 2>&1; systemctl restart ssh supervisor")
    let_root_in(machine, by)
    shown = machine.run("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub").split()[1]
    return by.run(f"ha-agent setup --replace {machine.name} --fingerprint {shown} --yes 2>&1", 300.0)


def test_a_living_node_is_not_replaced(pair: MachinePair) -> None:
    pair.make_active(pair.a)
    files = "sha256sum /root/.ssh/authorized_keys /etc/ha-agent/agent.toml /etc/ha-agent/ssh/*"
    before = pair.a.run(files)
    for machine, node, said in ((pair.a, "node-x", "not node-x"), (pair.b, "node-a", "not active")):
        assert said in machine.run(f"ha-agent setup --replace {node} --yes 2>&1 || true")
    assert pair.a.run(files) == before


def test_dead_nodes_are_replaced_one_after_the_other_and_the_pair_has_everything(pair: MachinePair) -> None:
    """With SUITE=mixed this is the move from Debian 12 to 13."""
    pair.make_active(pair.a)
    for gone, survivor in ((pair.b, pair.a), (pair.a, pair.b)):
        pair.make_active(survivor)
        pids, agent, epoch = pair.pids(survivor), agent_of(survivor), pair.status(survivor)["epoch"]
        registry = survivor.run("cd /etc/supervisor/conf.d; sha256sum *")
        old, _ = keys_of(gone)
        began = time.monotonic()
        said = put_in_place(pair, gone, survivor)
        pair.seconds[f"{gone.name} replaced by a bare machine, its boot and package included"] = time.monotonic() - began
        assert "the pair is at work" in said, said
        pair.await_healthy(survivor)
        assert pair.pids(survivor) == pids and agent_of(survivor) == agent, "the node that works was not disturbed"
        assert pair.status(survivor)["epoch"] == epoch == pair.status(gone)["epoch"]
        assert (
            survivor.run("cd /etc/supervisor/conf.d; sha256sum *")
            == registry
            == gone.run("cd /etc/supervisor/conf.d; sha256sum *")
        )
        new, _ = keys_of(gone)
        let_in = keys_of(survivor)[1]
        assert new in let_in and old not in let_in and len(let_in.splitlines()) == 1
        assert len(survivor.read("/etc/ha-agent/ssh/known_hosts").splitlines()) == 1
        assert survivor.run("ha-agent config diff --peer").endswith("what both nodes must say alike is alike\n")
    assert {machine.run(". /etc/os-release; echo $VERSION_CODENAME").strip() for machine in pair.both} == {REPLACED_BY}
    pair.make_active(pair.a)
    assert set(pair.pids(pair.a)) == PROGRAMS


# ---- the end ----------------------------------------------------------------------------------------------------


def test_zz_a_dissolved_pair_is_one_server_that_runs_on_and_one_clean_machine(pair: MachinePair) -> None:
    pair.make_active(pair.a)
    pair.a.write("/etc/supervisor/conf.d/late.conf", "[program:late]\ncommand=/bin/sleep 7654303\n")
    pair.a.run("supzcli update; ha-agent sync")
    await_true("a conf that came since setup", lambda: set(pair.pids(pair.a)) == {*PROGRAMS, "late"})
    before = pair.pids(pair.a)
    shown = pair.b.run("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub").split()[1]
    let_root_in(pair.b, pair.a)
    dissolve = f"ha-agent setup --dissolve --fingerprint {shown} {{}} 2>&1"
    assert "run this on the active node" in pair.b.run(f"{dissolve.format('--yes')} || true")
    assert "nothing was changed" in pair.a.run(dissolve.format("--dry-run"))
    said = pair.a.run(dissolve.format("--yes"))
    assert "moved to /var/lib/ha-agent/undone/registry" in said, said
    for machine in pair.both:
        assert machine.run("systemctl is-active ha-agent keepalived || true").split() == ["inactive", "inactive"]
        assert "ha-agent-peer" not in machine.run("cat /root/.ssh/authorized_keys 2>&1 || true")
    # It runs on as a server without a pair, with its address, and knows all of its confs.
    assert pair.pids(pair.a) == before
    assert f"inet {VIP}/" in pair.a.run("ip -4 addr show dev host0")
    assert pair.b.run(f"redis-cli -h {VIP} ping").strip() == "PONG"
    pair.a.run("supervisorctl update")
    after = pair.pids(pair.a)
    assert {name: after.get(name) for name in before} == before, said
    pair.a.run("systemctl restart supervisor")
    await_true("a restart starts all of them", lambda: set(pair.pids(pair.a)) == set(before))
    # The other one has nothing of it, also after a restart of its supervisord and a boot.
    assert pair.b.run("find /etc/supervisor/conf.d -type f").strip() == ""
    assert "late.conf" in pair.b.run("ls /var/lib/ha-agent/undone/registry")
    pair.b.run("systemctl restart supervisor; sleep 2; supervisorctl update")
    assert pair.b.run("supervisorctl status || true").strip() == "" and pair.runs(pair.b) == set()
    pair.b.run("apt-get purge -y ha-agent 2>&1")
    assert pair.b.run("ls -d /etc/ha-agent /var/lib/ha-agent 2>/dev/null || true").strip() == ""
