"""A Debian machine booted by systemd in a container: its own files over a shared base, a cable, a power switch."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator

from ha_agent.lab import cgroups

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, "build", "machines")
BRIDGE = "br-ha"
BOOT_LIMIT_S = 60.0
REBOOTS = 133
"""systemd-nspawn's exit status with --keep-unit when the machine is to be started again (systemd-nspawn@.service)."""

NETWORK = """\
[Match]
Name=host0
[Network]
Address={address}/24
LinkLocalAddressing=no
"""


class CommandFailed(AssertionError):
    """A command on a machine ended with another status than 0; the text is what it said."""


def await_true(what: str, look: Callable[[], object], limit_s: float = 30.0, pause_s: float = 0.1) -> None:
    """Waits until ``look`` returns something true; raises with the last it gave."""
    deadline = time.monotonic() + limit_s
    seen: object = None
    while time.monotonic() < deadline:
        seen = look()
        if seen:
            return
        time.sleep(pause_s)
    raise AssertionError(f"{what}: not within {limit_s:g} s; last seen: {seen!r}")


class Machine:
    """One machine. ``boot`` before anything else; everything ends with the process that booted it."""

    def __init__(self, name: str, address: str, directory: str, suite: str) -> None:
        """``directory``: where the disk lies; ``suite``: which Debian, by its name."""
        self.name, self.address, self.suite = name, address, suite
        self._disk = os.path.join(directory, name)
        self.root = os.path.join(self._disk, "root")
        self._container: subprocess.Popen[bytes] | None = None
        self._on = threading.Event()
        threading.Thread(target=self._power_button, name=f"power-{name}", daemon=True).start()

    def make_disk(self) -> None:
        """A fresh disk over the base."""
        upper, work = (os.path.join(self._disk, part) for part in ("upper", "work"))
        for path in (upper, work, self.root):
            os.makedirs(path)
        base = os.path.join(BUILD, self.suite, "base")
        options = f"lowerdir={base},upperdir={upper},workdir={work}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, self.root], check=True)
        self.write("/etc/hostname", f"{self.name}\n")
        self.write("/etc/systemd/network/20-host0.network", NETWORK.format(address=self.address))

    def write(self, path: str, text: str) -> None:
        """Puts a file on the disk, whether or not the machine is on."""
        target = os.path.join(self.root, path.lstrip("/"))
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "w", encoding="utf-8") as file:
            file.write(text)

    def read(self, path: str) -> str:
        """A file of the disk."""
        with open(os.path.join(self.root, path.lstrip("/")), encoding="utf-8") as file:
            return file.read()

    # ---- power ----------------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Switches the power on and waits until systemd has started everything."""
        self.switch_on()
        self.await_up()

    def switch_on(self) -> None:
        """Switches the power on."""
        self._start()
        self._on.set()

    def _power_button(self) -> None:
        """Switches a machine that reboots on again: systemd-nspawn leaves that to the one that runs it."""
        while True:
            self._on.wait()
            assert self._container is not None
            if self._container.wait() == REBOOTS:
                self._start()
            else:
                self._on.clear()

    def _start(self) -> None:
        group = os.path.join(os.environ["HA_AGENT_CGROUP"], self.name) if os.environ.get("HA_AGENT_CGROUP") else None
        if group is not None:
            os.makedirs(group, exist_ok=True)
        words = [
            *cgroups.enter_words(group),
            "systemd-nspawn",
            "--quiet",
            "--directory",
            self.root,
            "--boot",
            f"--machine={self.name}",
        ]
        words += ["--register=no", "--keep-unit", f"--network-bridge={BRIDGE}", "--link-journal=no", "--console=pipe"]
        words += [
            "--resolv-conf=off",
            "--timezone=off",
            f"--bind-ro={os.path.join(BUILD, self.suite, 'debs')}:/var/local/debs",
        ]
        with open(os.path.join(self._disk, "console"), "ab") as console:
            # Control groups as real machines of these releases have them. Each machine has its own at the top: in a common
            # one the units of both are the same groups, which never become empty.
            env = {**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}
            self._container = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True, env=env
            )

    def await_up(self, other_than: int | None = None) -> None:
        """Waits until the machine has booted; ``other_than``: its process 1 before the reboot that is waited through."""
        await_true(f"{self.name}'s process 1", lambda: self.leader() not in (None, other_than), BOOT_LIMIT_S, 0.02)
        await_true(f"{self.name} is up", self._is_up, BOOT_LIMIT_S)

    def _is_up(self) -> bool:
        with contextlib.suppress(CommandFailed, OSError):
            return self.run("systemctl is-system-running || true").strip() in ("running", "degraded")
        return False

    def leader(self) -> int | None:
        """Process id of the machine's process 1, as it is numbered here; None while there is none."""
        if self._container is None or self._container.poll() is not None:
            return None
        path = f"/proc/{self._container.pid}/task/{self._container.pid}/children"
        with contextlib.suppress(OSError, IndexError), open(path, encoding="ascii") as file:
            return int(file.read().split()[0])
        return None

    def cut_power(self) -> None:
        """The power goes: no process of the machine does anything any more, and its cable is dead before that."""
        leader = self.leader()
        self._on.clear()
        subprocess.run(["ip", "link", "set", f"vb-{self.name}", "nomaster"], check=True)
        assert self._container is not None
        if leader is not None:
            os.kill(leader, signal.SIGKILL)
        self._container.kill()
        self._container.wait()
        subprocess.run(["ip", "link", "del", f"vb-{self.name}"], check=False, stderr=subprocess.DEVNULL)

    def reboot(self) -> float:
        """An orderly reboot; returns the seconds until everything is up again."""
        before, began = self.leader(), time.monotonic()
        self.run("systemctl reboot || true")
        self.await_up(before)
        return time.monotonic() - began

    # ---- commands -------------------------------------------------------------------------------------------

    def words(self, script: str) -> list[str]:
        """The command line that runs a shell script on the machine as root."""
        enter = ["nsenter", "-t", str(self.leader()), "-m", "-u", "-i", "-n", "-p", "-C", "--root", "--wdns=/root"]
        env = [
            "env",
            "-i",
            "HOME=/root",
            "LC_ALL=C.UTF-8",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ]
        return [*enter, "--", *env, "DEBIAN_FRONTEND=noninteractive", "sh", "-euc", script]

    def run(self, script: str, timeout_s: float = 120.0) -> str:
        """What a shell script prints on the machine. Raises ``CommandFailed``."""
        done = subprocess.run(
            self.words(script), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s
        )
        if done.returncode != 0:
            raise CommandFailed(f"{self.name}: {script}\nended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def exchange(self, suite: str) -> None:
        """Puts another machine in the place of this one: same name and address, an empty disk, ``suite``; it is off."""
        self.discard()
        self.suite = suite
        self.make_disk()

    def discard(self) -> None:
        """Switches the machine off and removes its disk."""
        if self._container is not None and self._container.poll() is None:
            self.cut_power()
        subprocess.run(["umount", "--lazy", self.root], check=False)
        shutil.rmtree(self._disk, ignore_errors=True)


@contextlib.contextmanager
def two_machines(*others: tuple[str, str]) -> Iterator[list[Machine]]:
    """The two machines of a pair, of the releases that HA_AGENT_SUITES names, and ``others`` (names and addresses), of the
    first's; off, and without their disks, at the end."""
    directory = tempfile.mkdtemp(prefix="disks-", dir=BUILD)
    # In memory: an overlay cannot lie on one, and what the machines write goes with the namespace.
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", directory], check=True)
    suites = os.environ.get("HA_AGENT_SUITES", "bookworm bookworm").split()
    nodes = (("node-a", "10.78.0.11"), ("node-b", "10.78.0.12"), *others)
    suites += suites[:1] * len(others)
    machines = [Machine(name, address, directory, suite) for (name, address), suite in zip(nodes, suites, strict=True)]
    try:
        yield machines
    finally:
        for machine in machines:
            machine.discard()
        subprocess.run(["umount", "--lazy", directory], check=False)
        os.rmdir(directory)
