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

    # ---- README's install section -----------------------------------------------------------------------------

    def install(self) -> None:
        """From two bare machines to a pair at work."""
        for machine in self.both:
            machine.make_disk()
            machine.boot()
        began = time.monotonic()
        for machine in self.both:
            self.install_package(machine)
        self.seconds["package installed on both"] = time.monotonic() - began
        for machine in self.both:
            self._configure(machine, self.other(machine))
        for machine in self.both:
            self._trust(machine, self.other(machine))
        self.a.write("/etc/supervisor/conf.d/redis.conf", REDIS)
        for name in ("s1", "s2"):
            self.a.write(f"/etc/supervisor/conf.d/{name}.conf", SLEEPER.format(name=name))
        for machine in self.both:
            machine.run("systemctl restart supervisor; systemctl enable --now ha-agent keepalived 2>&1")
        self.await_healthy(self.a, 60.0)
        self.seconds["two bare machines to a working pair"] = time.monotonic() - began

    def install_package(self, machine: Machine, package: str | None = None) -> str:
        """``apt install`` of the package as it was built; nothing is reached but the archive on the machine."""
        built = package or glob.glob(os.path.join(ROOT, "build", "ha-agent_*_all.deb"))[0]
        shutil.copy(built, os.path.join(machine.root, "root"))
        name = os.path.basename(built)
        return machine.run(f"apt-get install -y --no-install-recommends redis-server ./{name} 2>&1", 300.0)

    def _configure(self, machine: Machine, peer: Machine) -> None:
        text = machine.read("/etc/ha-agent/agent.toml")
        values = {
            "node": {"name": machine.name, "address": machine.address},
            "peer": {"name": peer.name, "address": peer.address},
            "vrrp": {"vip": f"{VIP}/24", "interface": "host0", "priority": 110 if machine is self.a else 100},
        }
        for section, keys in values.items():
            for key, value in keys.items():
                shown = value if isinstance(value, int) else f'"{value}"'
                pattern = rf"(\[{section}\].*?\n)#{key} = [^\n]*"
                text, count = re.subn(pattern, rf"\g<1>{key} = {shown}", text, count=1, flags=re.DOTALL)
                assert count == 1, f"{section}.{key} is not in the conffile"
        machine.write("/etc/ha-agent/agent.toml", text)
        machine.run("ha-agent config check")
        machine.run("systemctl disable --now redis-server 2>&1; systemctl restart ssh")
        machine.run("ssh-keygen -q -t ed25519 -N '' -f /etc/ha-agent/ssh/id_ed25519")
        machine.run(
            "sed -i 's|^files = .*|files = /run/ha-agent/active/*.conf /etc/supervisor/local.d/*.conf|' "
            "/etc/supervisor/supervisord.conf; mkdir -p /etc/supervisor/local.d"
        )
        machine.run("ha-agent keepalived render > /etc/keepalived/keepalived.conf")
        machine.run("cp -r /usr/share/ha-agent/systemd/*.service.d /etc/systemd/system/; systemctl daemon-reload")

    def _trust(self, machine: Machine, peer: Machine) -> None:
        key = peer.read("/etc/ha-agent/ssh/id_ed25519.pub").strip()
        machine.run("mkdir -p -m 700 /root/.ssh")
        machine.write("/root/.ssh/authorized_keys", f'restrict,command="/usr/bin/ha-agent-peer" {key}\n')
        host = " ".join(peer.read("/etc/ssh/ssh_host_ed25519_key.pub").split()[:2])
        machine.write("/etc/ha-agent/ssh/known_hosts", f"{peer.name} {host}\n")

    # ---- looking ----------------------------------------------------------------------------------------------

    def other(self, machine: Machine) -> Machine:
        """The peer of ``machine``."""
        return self.b if machine is self.a else self.a

    def status(self, machine: Machine) -> dict[str, Any]:
        """The machine's own account; empty while there is none."""
        try:
            return dict(json.loads(machine.run("ha-agent status --json || true", 30.0))["nodes"][0])
        except (CommandFailed, ValueError):
            return {}

    def runs(self, machine: Machine) -> set[str]:
        """The registry's programs that run on ``machine``, by their processes."""
        text = machine.run("for f in /proc/[0-9]*/cmdline; do tr '\\0' ' ' < $f 2>/dev/null; echo; done")
        found = {"redis"} if f"redis-server {VIP}" in text else set()
        return found | ({"s1", "s2"} if text.count("/bin/sleep infinity") == 2 else set())

    def pids(self, machine: Machine) -> dict[str, int]:
        """supervisord's programs with their process ids."""
        text = machine.run("supervisorctl status || true")
        return {row[0]: int(row[1]) for row in re.findall(r"^(\S+) +RUNNING +pid (\d+)", text, re.M)}

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
        if self.active() is not machine:
            machine.run("ha-agent switchover --yes")
        self.await_healthy(machine)
