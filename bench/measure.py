"""What the benchmarks share: a lab without a restricted key, timing of an edit's arrival, and figures for people."""

from __future__ import annotations

import ctypes
import os
import select
import statistics
import subprocess
import time
from collections.abc import Sequence

from ha_agent.lab.control import Lab
from ha_agent.lab.keys import make_key_pair
from ha_agent.lab.layout import ADDRESSES, NODES, fresh_directory

IN_CLOSE_WRITE, IN_MOVED_TO = 0x8, 0x80

CONF = """\
[program:b{number}]
command=/bin/sleep infinity
startsecs=0
autostart={autostart}
; {stamp}
"""

SSH_CONFIG = f"""\
Host peer
    HostName {ADDRESSES["node-b"]}
    User root
    IdentityFile /etc/ha-agent/bench_key
    HostKeyAlias node-b
    UserKnownHostsFile /etc/ha-agent/ssh/known_hosts
    ControlMaster auto
    ControlPersist yes
    ControlPath /run/bench-ssh
    LogLevel ERROR
"""


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` of ``values`` lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def p50(values: Sequence[float]) -> float:
    """The median."""
    return statistics.median(values)


class BenchLab(Lab):
    """A lab in which node-a may also log in to node-b freely, for the other contestants."""

    def __init__(self, name: str) -> None:
        super().__init__(fresh_directory(f"bench-{name}"))

    def open_up(self) -> None:
        """Gives node-a a second key to node-b without a forced command."""
        private, public = make_key_pair("bench")
        folder = self.paths.disk("node-a", "etc-ha-agent")
        for name, text in (("bench_key", private), ("bench_ssh_config", SSH_CONFIG)):
            with open(os.path.join(folder, name), "w", encoding="ascii") as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(text)
        with open(
            os.path.join(self.paths.disk("node-b", "etc-ssh"), "ha-agent_authorized_keys"), "a", encoding="ascii"
        ) as file:
            file.write(public + "\n")
        config = os.path.join(self.paths.disk("node-b", "etc-ssh"), "sshd_config")
        with open(config, encoding="ascii") as file:
            text = file.read().replace("PermitRootLogin forced-commands-only", "PermitRootLogin prohibit-password")
        with open(config, "w", encoding="ascii") as file:
            file.write(text)
        self.unit("node-b", "restart", "sshd")

    def stop_agents(self) -> None:
        """Stops keepalived and the agent on both nodes, so that only a contestant works."""
        for node in NODES:
            self.unit(node, "stop", "keepalived")
            self.unit(node, "stop", "ha-agent")

    def spawn(self, node: str, *words: str) -> subprocess.Popen[bytes]:
        """Starts a command on ``node`` and leaves it running."""
        return subprocess.Popen(
            self.words_inside(node, list(words)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


class Arrivals:
    """Times edits of one registry until another one has them whole."""

    def __init__(self, source: str, target: str) -> None:
        self.source, self.target = source, target
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(0)
        libc.inotify_add_watch(self._fd, os.fsencode(target), IN_CLOSE_WRITE | IN_MOVED_TO)

    def edit(self, name: str, text: str, limit_s: float = 10.0) -> float:
        """Replaces ``name`` as an editor does (new file, rename); returns the seconds until the target has it."""
        fresh, old = os.path.join(self.source, ".edit"), os.path.join(self.source, name)
        with open(fresh, "w", encoding="ascii") as file:
            file.write(text)
        began = time.monotonic()
        os.rename(fresh, old)
        arrived = os.path.join(self.target, name)
        while time.monotonic() - began < limit_s:
            select.select([self._fd], [], [], 0.2)
            seen = time.monotonic()
            if select.select([self._fd], [], [], 0)[0]:
                os.read(self._fd, 65536)
            try:
                with open(arrived, encoding="ascii") as file:
                    if file.read() == text:
                        return seen - began
            except FileNotFoundError:
                continue
        raise RuntimeError(f"{name} did not arrive within {limit_s:g} s")

    def close(self) -> None:
        """Lets go of inotify."""
        os.close(self._fd)
