"""A pair of booted machines, installed as README says."""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
import time
from typing import Any

from tests.machines.machine import ROOT, CommandFailed, Machine, await_true

VIP = "10.78.0.100"
REDIS = f"""\
[program:redis]
command=/usr/bin/redis-server --port 6379 --bind {VIP} --protected-mode no --save "" --dir /var/lib/redis
user=redis
"""
SLEEPER = "[program:{name}]\ncommand=/bin/sleep infinity\n"
PROGRAMS = {"redis", "s1", "s2"}


class MachinePair:
    """node-a and node-b; ``seconds`` holds what was measured on the way."""

    def __init__(self, a: Machine, b: Machine) -> None:
        self.a, self.b = a, b
        self.both = (a, b)
        self.seconds: dict[str, float] = {}
        self.said = ""
        """What setup printed."""
        self.before: dict[str, int] = {}
        """Process ids of what ran before there was a pair."""
        self.transcript: list[str] = []
        """What README's install section is, with everything that it printed."""

    # ---- README's install section -----------------------------------------------------------------------------

    def install(self) -> None:
        """From two bare machines, of which one runs programs already, to a pair at work."""
        for machine in self.both:
            machine.make_disk()
            machine.boot()
        began = time.monotonic()
        for machine in self.both:
            self.install_package(machine)
        self.seconds["package installed on both"] = time.monotonic() - began
        self.run_programs_without_us()
        began = time.monotonic()
        self.said = self._note(self.a, f"ha-agent setup {self.options()} --yes")
        self.seconds["ha-agent setup, to a working pair"] = time.monotonic() - began
        self.await_healthy(self.a, 30.0)
        for command in ("ha-agent status", "supervisorctl status", "supzcli status --pair"):
            self._note(self.a, command)

    def _note(self, machine: Machine, command: str) -> str:
        """Runs a command as a reader of README would, and notes it with what it printed."""
        said = machine.run(f"{{ {command}; }} 2>&1", 300.0)
        self.transcript.append(f"root@{machine.name}:~# {command}\n{said}")
        return said

    def run_programs_without_us(self) -> None:
        """node-a as a server that has run its programs under supervisord for years; its root may log in to node-b."""
        for machine in self.both:
            machine.run("systemctl disable --now redis-server 2>&1; systemctl restart ssh supervisor")
        self.a.write("/etc/supervisor/conf.d/redis.conf", REDIS)
        self.a.write("/etc/supervisor/conf.d/s1.conf", SLEEPER.format(name="s1"))
        # One from another folder, as grown servers have them.
        self.a.write("/srv/programs/s2.ini", SLEEPER.format(name="s2"))
        files = "/etc/supervisor/conf.d/*.conf /srv/programs/*.ini"
        self.a.run(f"sed -i 's|^files = .*|files = {files}|' /etc/supervisor/supervisord.conf")
        # redis binds the address that it has always served; it becomes the virtual one.
        self.a.run(f"ip addr add {VIP}/24 dev host0")
        self.a.run("supervisorctl update")
        await_true("the old server's programs", lambda: set(self.pids(self.a)) == PROGRAMS)
        self.before = self.pids(self.a)
        self.a.run("ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519")
        self.b.run("mkdir -p -m 700 /root/.ssh")
        self.b.write("/root/.ssh/authorized_keys", self.a.read("/root/.ssh/id_ed25519.pub"))

    def options(self) -> str:
        """What setup must be told where there is nobody to ask."""
        shown = self.b.run("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub").split()[1]
        return f"--peer {self.b.address} --vip {VIP}/24 --fingerprint {shown}"

    def install_package(self, machine: Machine, package: str | None = None) -> str:
        """``apt install`` of the package as it was built; nothing is reached but the archive on the machine."""
        built = package or glob.glob(os.path.join(ROOT, "build", "ha-agent_*_all.deb"))[0]
        shutil.copy(built, os.path.join(machine.root, "root"))
        name = os.path.basename(built)
        machine.run("apt-get install -y --no-install-recommends redis-server 2>&1", 300.0)
        return self._note(machine, f"apt-get install -y --no-install-recommends ./{name}")

    # ---- looking ----------------------------------------------------------------------------------------------

    def other(self, machine: Machine) -> Machine:
        """The peer of ``machine``."""
        return self.b if machine is self.a else self.a

    def status(self, machine: Machine) -> dict[str, Any]:
        """The machine's own account; empty while there is none."""
        try:
            nodes = json.loads(machine.run("ha-agent status --json || true", 30.0))["nodes"]
        except (CommandFailed, ValueError):
            return {}
        return dict(nodes[0]) if nodes else {}

    def runs(self, machine: Machine) -> set[str]:
        """The registry's programs that run on ``machine``, by their processes."""
        text = machine.run("for f in /proc/[0-9]*/cmdline; do { tr '\\0' ' ' < $f || true; } 2>/dev/null; echo; done")
        found = {"redis"} if f"redis-server {VIP}" in text else set()
        return found | ({"s1", "s2"} if text.count("/bin/sleep infinity") == 2 else set())

    def pids(self, machine: Machine) -> dict[str, int]:
        """supervisord's programs with their process ids."""
        text = machine.run("supervisorctl status || true")
        found = {row[0]: int(row[1]) for row in re.findall(r"^(\S+) +RUNNING +pid (\d+)", text, re.M)}
        # The event listener is on both machines, and no program of theirs.
        found.pop("ha-agent-listener", None)
        return found

    def active(self) -> Machine | None:
        """The machine that is active; None where none is, or both are."""
        found = [m for m in self.both if m.leader() and self.status(m).get("role") == "active"]
        return found[0] if len(found) == 1 else None

    def await_healthy(self, active: Machine, limit_s: float = 60.0) -> None:
        """Waits until ``active`` is active with everything running and the other one stands by, in sync."""

        def look() -> bool:
            own, peer = self.status(active), self.status(self.other(active))
            return (
                own.get("role") == "active"
                and peer.get("role") == "standby"
                and own["replication"]["state"] == "in_sync"
                and set(self.pids(active)) == PROGRAMS
            )

        try:
            await_true(f"{active.name} active, {self.other(active).name} standby", look, limit_s, 0.25)
        except AssertionError as error:
            said = [
                m.run("ha-agent status; journalctl -n 15 --no-pager -u ha-agent -u keepalived || true") for m in self.both
            ]
            raise AssertionError(f"{error}\n" + "\n".join(said)) from None
        assert self.runs(self.other(active)) == set()

    def make_active(self, machine: Machine) -> None:
        """Brings the pair into the state in which a test begins."""
        # During a takeover neither is, and a switchover would begin from wherever that ends.
        await_true("one of them is active", self.active, 60.0, 0.25)
        if self.active() is not machine:
            machine.run("ha-agent switchover --yes")
        self.await_healthy(machine)
