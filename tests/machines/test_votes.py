"""A pair with a witness under systemd: set up as docs/votes.md says, on three booted machines, and what that is for."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.machines.machine import CommandFailed, Machine, await_true, two_machines
from tests.machines.pair import PROGRAMS, VIP, MachinePair

TTL_S = 3.0
"""``witness.ttl_s`` by default."""

WITNESS = ("witness", "10.78.0.13")
KEY = "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub"


class Trio:
    """A pair at work, and a third machine that has sshd and python3 alone."""

    def __init__(self, a: Machine, b: Machine, witness: Machine) -> None:
        self.pair, self.a, self.b, self.witness = MachinePair(a, b), a, b, witness
        self.all = (a, b, witness)

    def set_up(self) -> None:
        """As the page says it, from nothing."""
        self.pair.install()
        witness = self.witness
        witness.make_disk()
        witness.boot()
        witness.run("apt-get install -y --no-install-recommends openssh-server 2>&1", 300.0)
        witness.run("mkdir -p -m 700 /root/.ssh; mkdir -p /run/sshd; systemctl enable --now ssh 2>&1")
        witness.write("/root/.ssh/authorized_keys", self.a.read("/root/.ssh/id_ed25519.pub"))
        there, peer = (machine.run(KEY).split()[1] for machine in (witness, self.b))
        words = f"{WITNESS[1]} --fingerprint {there} --peer-fingerprint {peer} --yes"
        said = self.a.run(f"ha-agent witness install {words} 2>&1", 120.0)
        assert said.count("the witness (ssh) answers") == 2, said
        for machine in (self.b, self.a):
            machine.run("systemctl enable --now ha-agent-keeper 2>&1; systemctl restart ha-agent")
            # The active node some seconds later.
            await_true("its vote is known", lambda m=machine: self.pair.status(m).get("votes"))  # type: ignore[misc]
            time.sleep(TTL_S)

    def votes(self, machine: Machine) -> list[str]:
        """Who has promised ``machine`` a vote, by its own word."""
        return list((self.pair.status(machine).get("votes") or {}).get("promised", ()))

    def isolate(self, *machines: Machine, on: bool = True) -> None:
        """Has the bridge forward nothing between these machines, or everything again."""
        for machine in machines:
            words = ["bridge", "link", "set", "dev", f"vb-{machine.name}", "isolated", "on" if on else "off"]
            subprocess.run(words, check=True)

    def runs(self) -> list[set[str]]:
        """What of the registry runs on both nodes; nothing on one that is off. A look that fails is no answer."""
        return [self._runs_on(machine) if machine.leader() else set() for machine in self.pair.both]

    def _runs_on(self, machine: Machine) -> set[str]:
        try:
            # A process that ends under the look is no failure of it.
            text = machine.run("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' || true")
        except CommandFailed:
            if machine.leader():
                raise
            return set()
        found = {"redis"} if f"redis-server {VIP}" in text else set()
        return found | ({"s1", "s2"} if text.count("/bin/sleep infinity") == 2 else set())

    def await_runs(self, wanted: list[set[str]], limit_s: float) -> float:
        """Waits until that runs; no program may be seen on both on the way. Returns the seconds that it took."""
        began = time.monotonic()

        def look() -> bool:
            seen = self.runs()
            assert not seen[0] & seen[1], f"on both: {seen}"
            return seen == wanted

        await_true(f"{wanted} runs", look, limit_s, 0.05)
        return time.monotonic() - began

    def begin(self, active: Machine) -> None:
        """A whole pair whose ``active`` node has all three votes."""
        self.pair.make_active(active)
        await_true("all three votes", lambda: len(self.votes(active)) == 3, 30.0)


@pytest.fixture(scope="module")
def trio() -> Iterator[Trio]:
    with two_machines(WITNESS) as machines:
        made = Trio(*machines)
        made.set_up()
        yield made


def test_a_pair_gets_a_witness_by_the_page_and_no_program_stops(trio: Trio) -> None:
    trio.begin(trio.a)
    pids = trio.pair.pids(trio.a)
    assert {name: pids[name] for name in trio.pair.before} == trio.pair.before, "they run since before there was a pair"
    for machine in trio.pair.both:
        assert "keeps no record" not in machine.run("ha-agent witness test")
        found = machine.run("ha-agent doctor --all || true")
        wrong = ("witness-silent", "keeper-unarmed", "keeper-down", "unit-disabled] ha-agent-keeper")
        assert not [word for word in wrong if f"[{word}" in found], found
    user = trio.witness.run("getent passwd ha-agent-witness; ls -A /usr/local/lib/ha-agent-witness")
    assert "/var/lib/ha-agent-witness:/bin/sh" in user and "witness_entry.py" in user
    assert "ii  ha-agent" not in trio.witness.run("dpkg -l 'ha-agent*' 2>&1 || true"), "nothing of ours is installed there"


def test_when_the_power_of_the_active_node_is_cut_the_other_one_takes_over_with_the_witness(trio: Trio) -> None:
    trio.begin(trio.a)
    trio.a.cut_power()
    took_s = trio.await_runs([set(), PROGRAMS], 30.0)
    assert took_s < 15.0
    await_true("two votes", lambda: set(trio.votes(trio.b)) == {"node-b", "witness"}, 10.0)
    trio.a.boot()
    trio.pair.await_healthy(trio.b)


def test_in_a_full_partition_the_programs_end_and_never_run_twice(trio: Trio) -> None:
    trio.begin(trio.a)
    trio.isolate(*trio.all)
    try:
        trio.await_runs([set(), set()], TTL_S + 2.0)
        until = time.monotonic() + 3 * TTL_S
        while time.monotonic() < until:
            assert trio.runs() == [set(), set()]
    finally:
        trio.isolate(*trio.all, on=False)
    await_true("one node runs everything", lambda: sorted(map(len, trio.runs())) == [0, len(PROGRAMS)], 60.0)


def test_the_keeper_kills_at_the_deadline_where_the_agent_is_stopped(trio: Trio) -> None:
    """supervisor.service is its control group under systemd; the other node starts the programs only after that."""
    await_true("one of them is active", trio.pair.active, 60.0, 0.25)
    trio.begin(trio.a)
    since = trio.a.run("date '+%Y-%m-%d %H:%M:%S'").strip()
    trio.a.run("kill -STOP $(systemctl show -p MainPID --value ha-agent)")
    trio.isolate(trio.a, trio.b)
    try:
        # Its agent feeds no newer deadline; keepalived of the other node hears no adverts.
        trio.await_runs([set(), PROGRAMS], 40.0)
    finally:
        trio.isolate(trio.a, trio.b, on=False)
    said = trio.a.run(f"journalctl -u ha-agent-keeper -o cat --since '{since}'")
    assert "/system.slice/supervisor.service/cgroup.kill killed" in said, said
    trio.a.run("kill -CONT $(systemctl show -p MainPID --value ha-agent) || true")
    trio.pair.await_healthy(trio.b)
