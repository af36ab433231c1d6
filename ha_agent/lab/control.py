"""Builds, drives and takes down a lab."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ha_agent.adapters.control import CommandFailed, NoDaemon, ask_daemon
from ha_agent.adapters.keepalived_conf import render_keepalived
from ha_agent.adapters.procs import start_ticks
from ha_agent.adapters.resources import find_resource
from ha_agent.core.listener_conf import render_listener
from ha_agent.core.reasons import reason_of
from ha_agent.core.settings import check_settings
from ha_agent.core.settings_sample import sample_toml
from ha_agent.lab import cgroups
from ha_agent.lab.keys import make_key_pair
from ha_agent.lab.layout import (
    ADDRESSES,
    ETCD_PORT,
    MEMBERS,
    NODES,
    PREFIX,
    PRIORITIES,
    VIP,
    WITNESS,
    LabPaths,
    disk_dirs,
    lab_command,
    other,
)
from ha_agent.lab.network import LabNetwork, address_of, bridge_of, interface_of, port_of
from ha_agent.lab.node_init import SOCKET
from ha_agent.lab.sandbox import INNER, NEEDED, PATH, SYSROOT, missing_programs, mount, unshare_words

BOOT_LIMIT_S = 30.0
ANSWER_S = 10.0
"""Longest wait for an agent's answer."""
SETTLE_PAUSE_S = 0.05

BUILD_OPTIONS = "keepalived.config-opts"
"""Beside keepalived.conf; Debian 13's keepalived (2.3.3) does not start without it."""

SIOCBRDELIF = 0x89A3
"""linux/sockios.h"""
CLONE_NEWNET = 0x40000000
"""linux/sched.h"""

T = TypeVar("T")

SUPERVISORD_CONF = """\
[unix_http_server]
file=/run/supervisor.sock
chmod=0770

[supervisord]
logfile=/var/log/supervisor/supervisord.log
pidfile=/run/supervisord.pid
childlogdir=/var/log/supervisor

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl=unix:///run/supervisor.sock

[include]
files = /run/ha-agent/active/*.conf /etc/supervisor/local.d/*.conf
"""

# The post-quantum key exchange that sshd prefers costs each side of a connection 0.1 s of a core: a lab, whose connections
# are broken all the time, would spend a seventh of its time on it. The two booted machines keep Debian's own.
SSHD_CONF = """\
KexAlgorithms curve25519-sha256
HostKey /etc/ssh/ssh_host_ed25519_key
AuthorizedKeysFile /etc/ssh/ha-agent_authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PermitRootLogin forced-commands-only
UseDNS no
PidFile /run/sshd.pid
"""


class LabFailed(Exception):
    """The lab could not do what was asked; the text says what, and where to look."""


@dataclass(frozen=True, slots=True)
class LabProcess:
    """A process of the lab, with its start time so that a recycled number is never taken for it."""

    pid: int
    started_ticks: int

    @property
    def is_alive(self) -> bool:
        """Whether exactly this process is still there."""
        return start_ticks(self.pid) == self.started_ticks


class Lab:
    """A lab below ``directory``. Every method may be called from any process that is root."""

    def __init__(self, directory: str) -> None:
        self.paths = LabPaths(os.path.abspath(directory))
        self._children: list[subprocess.Popen[bytes]] = []
        """What this process has started itself, and so has to wait for in the end."""

    @property
    def network(self) -> LabNetwork:
        """What its network is made of. Raises ``LabFailed``."""
        try:
            return LabNetwork.load(self.paths.directory)
        except FileNotFoundError:
            raise LabFailed(f"there is no lab {self.paths.name}; make one with: ha-agent lab up") from None

    # ---- state --------------------------------------------------------------------------------------------

    def _load(self) -> dict[str, LabProcess]:
        try:
            with open(self.paths.state_file, encoding="ascii") as file:
                raw = json.load(file)
        except FileNotFoundError:
            raise LabFailed(f"there is no lab {self.paths.name}; make one with: ha-agent lab up") from None
        return {name: LabProcess(*value) for name, value in raw.items()}

    def _save(self, processes: Mapping[str, LabProcess]) -> None:
        temporary = self.paths.state_file + ".new"
        with open(temporary, "w", encoding="ascii") as file:
            json.dump({name: (p.pid, p.started_ticks) for name, p in processes.items()}, file)
        os.rename(temporary, self.paths.state_file)

    def _add(self, name: str, pid: int) -> None:
        known = self._load() if os.path.exists(self.paths.state_file) else {}
        self._save({**known, name: LabProcess(pid, start_ticks(pid) or 0)})

    def init_pid(self, node: str) -> int:
        """Process id (on this machine) of the node's process 1. Raises ``LabFailed`` where its power is off."""
        process = self._load().get(node)
        if process is None or not process.is_alive:
            raise LabFailed(f"{node} is off; switch it on with: ha-agent lab power-on {node}")
        return process.pid

    def is_on(self, node: str) -> bool:
        """Whether the node's power is on."""
        process = self._load().get(node)
        return process is not None and process.is_alive

    def switch_pid(self) -> int:
        """Process id (on this machine) of the switch, which holds the network outside the nodes. Raises ``LabFailed``."""
        process = self._load().get("switch")
        if process is None or not process.is_alive:
            raise LabFailed(f"lab {self.paths.name} is not up; clear it away with: {lab_command(self.paths.name)} down")
        return process.pid

    # ---- up and down --------------------------------------------------------------------------------------

    def up(
        self,
        *,
        confs: Mapping[str, str] | None = None,
        overrides: Mapping[str, Mapping[str, Any]] | None = None,
        owner_pid: int | None = None,
        prepare: Callable[[Lab], None] | None = None,
        wait: bool = True,
        disk_bytes: int | None = None,
        paths: int = 1,
        vips: Sequence[str] = (),
        witness: str = "",
    ) -> None:
        """Builds the pair and boots both nodes, and the ``witness`` of that kind before them.

        ``confs`` fill node-a's registry, ``overrides`` change agent.toml. ``paths``: how many networks there are between the
        nodes. ``vips``: the virtual addresses with their prefix lengths, in place of the lab's one; with one of IPv6 the
        paths have IPv6.
        ``owner_pid``: the lab goes when that process does. ``prepare`` may add to the disks before the boot. ``wait``: until
        the pair has settled. ``disk_bytes``: each node's disk is a tmpfs of that size, which is mounted here and goes with
        ``down``; only in a mount namespace of its own (the sandbox). Raises ``LabFailed``, with nothing left behind.
        """
        if os.geteuid() != 0:
            raise LabFailed("the lab needs root (namespaces with real daemons in them): run it again with sudo")
        if missing_programs() and not os.path.isdir(os.path.join(SYSROOT, "usr")):
            raise LabFailed(f"not installed: {', '.join(missing_programs())} (of {', '.join(NEEDED)}); run: make setup")
        try:
            os.makedirs(self.paths.directory)
        except FileExistsError:
            raise LabFailed(
                f"lab {self.paths.name} exists already; take it down with: {lab_command(self.paths.name)} down"
            ) from None
        try:
            if disk_bytes is not None:
                self._mount_disks(disk_bytes)
            LabNetwork.of_vips(paths, vips).save(self.paths.directory)
            said = {**(overrides or {}), "vrrp": {**_vip_keys(vips), **(overrides or {}).get("vrrp", {})}}
            self._make_disks(confs or {}, said, witness)
            if prepare is not None:
                prepare(self)
            self._start_switch(owner_pid)
            for node in (*((WITNESS,) if witness else ()), *NODES):
                # One after the other, so that it is the first one that becomes MASTER.
                self._boot(node)
                self.wait_booted(node)
            if wait:
                self.wait_settled()
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """Ends every process of the lab and removes its directory. Idempotent; also after a half-finished ``up``."""
        try:
            processes = self._load()
        except (LabFailed, ValueError):
            processes = {}
        own = os.getpid()
        for name in (*MEMBERS, *(f"{n}.unshare" for n in MEMBERS), "switch"):
            process = processes.get(name)
            if process is not None and process.is_alive and process.pid != own:
                _kill(process)
        for process in processes.values():
            deadline = time.monotonic() + 10.0
            while process.pid != own and process.is_alive and time.monotonic() < deadline:
                time.sleep(0.01)
        for child in self._children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(10.0)
        for node in MEMBERS:
            self._remove_cgroup(node)
            if os.path.ismount(self.paths.node(node)):
                subprocess.run(["umount", "--lazy", self.paths.node(node)], check=False)
        shutil.rmtree(self.paths.directory, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(self.paths.directory))

    def _mount_disks(self, disk_bytes: int) -> None:
        for node in NODES:
            os.makedirs(self.paths.node(node))
            mount("tmpfs", self.paths.node(node), "tmpfs", 0, f"mode=755,size={disk_bytes}")

    def _make_disks(self, confs: Mapping[str, str], overrides: Mapping[str, Mapping[str, Any]], witness: str) -> None:
        for node in (*NODES, *((WITNESS,) if witness else ())):
            for folder in disk_dirs(node):
                os.makedirs(self.paths.disk(node, folder))
        for node in NODES:
            os.chmod(self.paths.disk(node, "etc-supervisor"), 0o755)
            os.makedirs(self.paths.registry(node))
            os.makedirs(os.path.join(self.paths.disk(node, "etc-supervisor"), "local.d"))
            os.makedirs(os.path.join(self.paths.disk(node, "etc-ha-agent"), "ssh"), mode=0o700)
            _write(os.path.join(self.paths.disk(node, "etc-supervisor"), "supervisord.conf"), SUPERVISORD_CONF)
            listener = render_listener(os.path.join(sys.prefix, "bin", "ha-agent-listener"))
            _write(os.path.join(self.paths.disk(node, "etc-supervisor"), "local.d", "ha-agent-listener.conf"), listener)
            _write(os.path.join(self.paths.disk(node, "etc-ssh"), "sshd_config"), SSHD_CONF)
            self._write_settings(node, _with_witness(overrides, witness))
        self._exchange_keys(witness)
        for name, text in confs.items():
            path = os.path.join(self.paths.registry(NODES[0]), name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            _write(path, text, 0o644)

    def _write_settings(self, node: str, overrides: Mapping[str, Mapping[str, Any]]) -> None:
        peer = other(node)
        values: dict[tuple[str, str], Any] = {
            ("node", "name"): node,
            **_address_keys("node", node, self.network),
            ("peer", "name"): peer,
            **_address_keys("peer", peer, self.network),
            ("vrrp", "priority"): PRIORITIES[node],
            ("vrrp", "path_interfaces"): [interface_of(path) for path in self.network.numbers[1:]],
            ("vrrp", "startup_delay_s"): 0.5,
            ("drill", "dangerous_modes"): True,
            ("vrrp", "stop_command"): [f"{INNER}/bin/systemctl", "stop", "keepalived"],
            ("drill", "keepalived_start_command"): [f"{INNER}/bin/systemctl", "start", "keepalived"],
        }
        values.update(((s, k), v) for s, keys in overrides.items() for k, v in keys.items())
        folder = self.paths.disk(node, "etc-ha-agent")
        _write(os.path.join(folder, "agent.toml"), sample_toml(values), 0o644)
        tables: dict[str, dict[str, Any]] = {}
        for (section, name), value in values.items():
            outer, _, sink = section.partition(".")
            table = tables.setdefault(outer, {})
            (table.setdefault(sink, {}) if sink else table)[name] = value
        keepalived = self.paths.disk(node, "etc-keepalived")
        hook = os.path.join(keepalived, "ha-agent-notify")
        shutil.copyfile(find_resource("keepalived/ha-agent-notify"), hook)
        os.chmod(hook, 0o755)
        text = render_keepalived(check_settings(tables), "/etc/keepalived/ha-agent-notify")
        _write(os.path.join(keepalived, "keepalived.conf"), text)
        for folder in ("/etc/keepalived", os.path.join(SYSROOT, "etc", "keepalived")):
            options = os.path.join(folder, BUILD_OPTIONS)
            if os.path.exists(options):
                shutil.copyfile(options, os.path.join(keepalived, BUILD_OPTIONS))

    @property
    def witness_kind(self) -> str:
        """Of which kind this lab's witness is; "" where it has none."""
        try:
            with open(os.path.join(self.paths.node(WITNESS), "kind"), encoding="ascii") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def _exchange_keys(self, witness: str) -> None:
        keys = self._exchange_peer_keys()
        if not witness:
            return
        _write(os.path.join(self.paths.node(WITNESS), "kind"), witness)
        program = os.path.join(sys.prefix, "bin", "ha-agent-witness")
        host_private, host_public = make_key_pair(WITNESS)
        folder = self.paths.disk(WITNESS, "etc-ssh")
        _write(os.path.join(folder, "sshd_config"), SSHD_CONF)
        _write(os.path.join(folder, "ssh_host_ed25519_key"), host_private)
        lines = [f'restrict,command="{program} --record pair" {public}\n' for public in keys]
        _write(os.path.join(folder, "ha-agent_authorized_keys"), "".join(lines))
        for node in NODES:
            path = os.path.join(self.paths.disk(node, "etc-ha-agent"), "ssh", "known_hosts")
            with open(path, "a", encoding="ascii") as file:
                file.write(f"{ADDRESSES[WITNESS]} {host_public}\n")

    def _exchange_peer_keys(self) -> list[str]:
        """Returns both agents' public keys."""
        keys = []
        peer_program = os.path.join(sys.prefix, "bin", "ha-agent-peer")
        for node in NODES:
            ssh_dir = os.path.join(self.paths.disk(node, "etc-ha-agent"), "ssh")
            host_private, host_public = make_key_pair(node)
            private, public = make_key_pair(f"ha-agent@{node}")
            keys.append(public)
            _write(os.path.join(self.paths.disk(node, "etc-ssh"), "ssh_host_ed25519_key"), host_private)
            _write(os.path.join(ssh_dir, "id_ed25519"), private)
            peer = other(node)
            line = f'restrict,command="{peer_program}" {public}\n'
            _write(os.path.join(self.paths.disk(peer, "etc-ssh"), "ha-agent_authorized_keys"), line)
            known = os.path.join(self.paths.disk(peer, "etc-ha-agent"), "ssh", "known_hosts")
            _write(known, f"{node} {host_public}\n")
        return keys

    def _start_switch(self, owner_pid: int | None) -> None:
        words = [
            "unshare",
            "--net",
            "--mount",
            "--propagation",
            "private",
            sys.executable,
            "-m",
            "ha_agent.lab.switch",
            self.paths.directory,
        ]
        words += [str(owner_pid)] if owner_pid is not None else []
        with open(os.path.join(self.paths.directory, "switch.log"), "ab") as log:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                env=_inner_environment(),
            )
        self._children.append(process)
        self._add("switch", process.pid)
        assert process.stdout is not None
        with process.stdout:
            if process.stdout.readline() != b"ready\n":
                raise LabFailed(f"the switch did not start: {_tail(os.path.join(self.paths.directory, 'switch.log'))}")

    def _boot(self, node: str) -> None:
        cgroup = self._make_cgroup(node)
        words = [*unshare_words(cgroup), sys.executable, "-m", "ha_agent.lab.node_init", self.paths.directory, node]
        words += ["--cgroup"] if cgroup else []
        words += [f"--witness={self.witness_kind}"] if self.witness_kind else []
        with open(self.paths.log(node, "init"), "ab") as log:
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=_inner_environment()
            )
        self._children.append(process)
        self._add(f"{node}.unshare", process.pid)
        pid = _wait_for(lambda: _only_child(process.pid), 10.0)
        if pid is None:
            raise LabFailed(f"{node} did not start: {_tail(self.paths.log(node, 'init'))}")
        self._add(node, pid)
        for path in self.network.numbers:
            port, interface = port_of(node, path), interface_of(path)
            self._in_switch("ip", "link", "add", port, "type", "veth", "peer", "name", interface, "netns", str(pid))
            self._in_switch("ip", "link", "set", port, "master", bridge_of(path), "up")

    def _make_cgroup(self, node: str) -> str | None:
        """A fresh control group for a node that boots: its directory, None where this machine has none to give."""
        self._remove_cgroup(node)
        path = cgroups.make(f"ha-agent-lab.{self.paths.name}.{node}")
        if path is not None:
            _write(os.path.join(self.paths.node(node), "cgroup"), path)
        return path

    def _remove_cgroup(self, node: str) -> None:
        """Removes the node's control group. Idempotent; nothing of the node may be needed any more."""
        note = os.path.join(self.paths.node(node), "cgroup")
        with contextlib.suppress(FileNotFoundError), open(note, encoding="utf-8") as file:
            cgroups.remove(file.read())

    def wait_booted(self, node: str) -> None:
        """Waits until every unit of the node was started. Raises ``LabFailed`` with the end of its log."""
        booted = _wait_for(lambda: os.path.exists(f"/proc/{self.init_pid(node)}/root/run/lab/booted"), BOOT_LIMIT_S)
        if not booted:
            raise LabFailed(f"{node} did not boot: {_tail(self.paths.log(node, 'init'))}")

    def wait_settled(self, limit_s: float = BOOT_LIMIT_S) -> None:
        """Waits until one node is active with its peer in sync. Raises ``LabFailed`` with what both say."""

        def settled() -> bool:
            try:
                own = {node: self.status(node) for node in NODES}
            except LabFailed:
                return False
            active = [entry for entry in own.values() if entry["role"] == "active"]
            standby = [entry for entry in own.values() if entry["role"] == "standby"]
            return len(active) == len(standby) == 1 and active[0]["replication"]["state"] == "in_sync"

        if not _wait_for(settled, limit_s, SETTLE_PAUSE_S):
            raise LabFailed(f"the pair did not settle within {limit_s:g} s\n{self._last_words()}")

    def _last_words(self) -> str:
        """The ends of the logs by which somebody can tell why a pair does not come up."""
        said = []
        for node in NODES:
            for unit in ("keepalived", "supervisord", "ha-agent"):
                lines = _tail(self.paths.log(node, unit)).splitlines()
                said += [f"{node} {unit}: {line}" for line in lines or ["(nothing)"]]
        return "\n".join(said)

    # ---- power and cables ---------------------------------------------------------------------------------

    def power_off(self, node: str) -> None:
        """Cuts the power: SIGKILL to everything. The switch drops the port first: a dead machine says no goodbye.

        The node itself cannot notice that, its cable stays live until it is gone. Nothing of it runs from the beginning on:
        that the port is gone takes the kernel of a busy machine longer than the peer needs to take over.
        """
        process = LabProcess(pid := self.init_pid(node), start_ticks(pid) or 0)
        _stop_all(pid, entered=False)
        for path in self.network.numbers:
            _leave_bridge(self.switch_pid(), port_of(node, path), bridge_of(path))
        _kill(process)
        _wait_for(lambda: not process.is_alive, 10.0)
        self._remove_cgroup(node)
        # The ports go with the node's network namespace, but the kernel takes its time over that.
        self._remove_ports(node)

    def _remove_ports(self, node: str) -> None:
        for path in self.network.numbers:
            with contextlib.suppress(LabFailed):
                self._in_switch("ip", "link", "del", port_of(node, path))

    def power_on(self, node: str, *, wait: bool = True) -> None:
        """Boots a node that is off, with its disk as it was and an empty /run."""
        if self.is_on(node):
            raise LabFailed(f"{node} is on already")
        # Of a node that cut its own power the kernel may still be taking the network namespace down.
        self._remove_ports(node)
        self._boot(node)
        if wait:
            self.wait_booted(node)

    def cut(self, node: str, path: int | None = None) -> None:
        """Pulls the node's network cable of one path, or all of them."""
        self._set_ports(node, path, "down")

    def heal(self, node: str, path: int | None = None) -> None:
        """Plugs it in again."""
        self._set_ports(node, path, "up")

    def isolate(self, node: str, path: int | None = None) -> None:
        """Has the switch forward nothing from or to the node; unlike with ``cut`` the node keeps its carrier."""
        self._set_ports(node, path, "nomaster")

    def rejoin(self, node: str, path: int | None = None) -> None:
        """Lifts ``isolate``."""
        for number in self._pick(path):
            self._set_ports(node, number, "master", bridge_of(number), "up")

    def _set_ports(self, node: str, path: int | None, *words: str) -> None:
        for number in self._pick(path):
            self._in_switch("ip", "link", "set", port_of(node, number), *words)

    def _pick(self, path: int | None) -> list[int]:
        try:
            return self.network.pick(path)
        except ValueError as error:
            raise LabFailed(str(error)) from None

    def sever(self, source: str, target: str) -> None:
        """Has the switch forward nothing from ``source`` to ``target``, which may be the witness. Idempotent."""
        self.join(source, target)
        name = f"lab-cut-{source}-{target}"
        ports = [(port_of(source, path), port_of(target, path)) for path in self.network.numbers]
        rules = "\n ".join(f"iifname {one} oifname {other} drop" for one, other in ports)
        chain = f"chain forward {{\n type filter hook forward priority 0\n {rules}\n }}"
        self._in_switch("nft", f"table bridge {name} {{\n {chain}\n }}")

    def join(self, source: str, target: str) -> None:
        """Lifts ``sever``. Idempotent."""
        with contextlib.suppress(LabFailed):
            self._in_switch("nft", f"delete table bridge lab-cut-{source}-{target}")

    def block(self, node: str, what: str, percent: int = 50, path: int | None = None) -> None:
        """Has the node's firewall drop ``vrrp`` (adverts), ``tcp``, ``ip`` (all but adverts) or ``all`` with the peer.

        ``loss`` has the switch drop ``percent`` of the IP packets with the peer at random, in either direction; a node that
        drops what it sends itself would be told so. Unlike with ``cut`` the node keeps its carrier, so keepalived does not
        notice at its interface. ``path``: on that one alone; None: on all.
        """
        if what == "loss":
            self._lose(node, percent, path)
            return
        rule = {
            "vrrp": "ip protocol 112 drop",
            "tcp": "ip protocol tcp drop",
            "ip": "ip protocol != 112 drop",
            "all": "drop",
        }[what]
        peer = ", ".join(address_of(other(node), number) for number in self._pick(path))
        chains = "\n".join(
            f"chain {name} {{\n type filter hook {name} priority 0\n ip {side} {{ {peer} }} {rule}\n }}"
            for name, side in (("input", "saddr"), ("output", "daddr"))
        )
        self.run(node, "nft", f"table ip lab-{what} {{\n {chains}\n }}")

    def unblock(self, node: str, what: str) -> None:
        """Lifts ``block``. Idempotent."""
        if what == "loss":
            with contextlib.suppress(LabFailed):
                self._in_switch("nft", f"delete table bridge lab-loss-{node}")
        else:
            self.run(node, "nft", f"delete table ip lab-{what}", check=False)

    def _lose(self, node: str, percent: int, path: int | None) -> None:
        rules = "\n".join(
            f"{side} {port_of(node, number)} ether type ip numgen random mod 100 < {percent} drop"
            for side in ("iifname", "oifname")
            for number in self._pick(path)
        )
        chain = f"chain forward {{\n type filter hook forward priority 0\n {rules}\n }}"
        self._in_switch("nft", f"table bridge lab-loss-{node} {{\n {chain}\n }}")

    def freeze(self, node: str) -> None:
        """Stops every process of the node (SIGSTOP), its process 1 first; the kernel still answers for it."""
        stopped = _stop_all(self.init_pid(node))
        with open(os.path.join(self.paths.node(node), "frozen"), "w", encoding="ascii") as file:
            json.dump(stopped, file)

    def thaw(self, node: str) -> None:
        """Continues what ``freeze`` stopped, and nothing else. Does nothing for a node that is not frozen."""
        path = os.path.join(self.paths.node(node), "frozen")
        with contextlib.suppress(FileNotFoundError), open(path, encoding="ascii") as file:
            members = set(_processes_of(self.init_pid(node)))
            for pid in reversed(json.load(file)):
                if pid in members:
                    os.kill(pid, signal.SIGCONT)
            os.unlink(path)

    # ---- inside -------------------------------------------------------------------------------------------

    def words_inside(self, node: str, command: list[str]) -> list[str]:
        """The command line that runs ``command`` on ``node``, with ha-agent on its PATH."""
        path = f"PATH={INNER}/bin:{os.path.join(sys.prefix, 'bin')}:{PATH}"
        pid = str(self.init_pid(node))
        words = ["nsenter", "-t", pid, "-m", "-u", "-i", "-n", "-p", "-C", "--root", "--wdns=/", "--"]
        # Where this process keeps its byte code there is none of what the nodes run: they would compile all of it each time.
        return [*words, "env", "-u", "PYTHONPYCACHEPREFIX", path, *command]

    def run(self, node: str, *command: str, check: bool = True, timeout_s: float = 60.0) -> str:
        """Runs ``command`` on ``node`` and returns what it printed. Raises ``LabFailed`` where it fails (``check``)."""
        done = subprocess.run(
            self.words_inside(node, list(command)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=timeout_s,
            env=_inner_environment(),
        )
        if check and done.returncode != 0:
            raise LabFailed(
                f"{node}: {' '.join(command)} ended with {done.returncode}: {(done.stderr or done.stdout)[-500:]}"
            )
        return done.stdout

    def unit(self, node: str, action: str, unit: str, signal_number: int = 0, **more: Any) -> dict[str, Any]:
        """Has the node's init ``start``, ``stop``, ``restart``, ``kill``, ``set`` or ``show`` units; returns all pids.

        Raises ``LabFailed``.
        """
        message = json.dumps({"action": action, "unit": unit, "signal": signal_number, **more})
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
                sock.settimeout(60.0)
                sock.connect(self._inside(node, SOCKET))
                sock.sendall(message.encode())
                answer: dict[str, Any] = json.loads(sock.recv(65536))
        except (OSError, ValueError) as error:
            raise LabFailed(f"{node}: {action} {unit}: its process 1 does not answer: {reason_of(error)}") from None
        if "error" in answer:
            raise LabFailed(f"{node}: {action} {unit}: {answer['error']}")
        return answer

    def status(self, node: str) -> dict[str, Any]:
        """The agent's own account of ``node`` (its entry of ``ha-agent status --json``). Raises ``LabFailed``.

        It asks the agent's socket itself: whoever waits for a state asks often, and a command each time loads the machine.
        """
        entry: dict[str, Any] = self.ask(node, {"op": "status"})["nodes"][0]
        return entry

    def ask(self, node: str, message: dict[str, Any]) -> dict[str, Any]:
        """What the agent of ``node`` answers to an operation. Raises ``LabFailed``."""
        try:
            return ask_daemon(self._inside(node, "/run/ha-agent"), message, ANSWER_S)
        except (NoDaemon, CommandFailed, TimeoutError):
            raise LabFailed(f"{node}: the agent does not answer; see {self.paths.log(node, 'ha-agent')}") from None

    def _inside(self, node: str, path: str) -> str:
        """A path of ``node`` as this machine sees it. Raises ``LabFailed`` where the node is off."""
        return f"/proc/{self.init_pid(node)}/root{path}"

    def words_in_switch(self, *command: str) -> list[str]:
        """The command line that runs ``command`` as the client outside the two nodes, at the switch."""
        return ["nsenter", "-t", str(self.switch_pid()), "-m", "-n", "--root", "--", *command]

    def _in_switch(self, *command: str) -> None:
        done = subprocess.run(self.words_in_switch(*command), capture_output=True, text=True, env=_inner_environment())
        if done.returncode != 0:
            raise LabFailed(f"{' '.join(command)}: {done.stderr.strip()}")


def _address_keys(section: str, node: str, network: LabNetwork) -> dict[tuple[str, str], Any]:
    """The addresses of ``node`` in ``section`` of agent.toml."""
    addresses = [network.own_address(node, path) for path in network.numbers]
    return {(section, "addresses"): addresses} if len(addresses) > 1 else {(section, "address"): addresses[0]}


def _vip_keys(vips: Sequence[str]) -> dict[str, Any]:
    """[vrrp] for these virtual addresses; none: the lab's one."""
    if len(vips) > 1:
        return {"vips": list(vips)}
    return {"vip": vips[0] if vips else f"{VIP}/{PREFIX}"}


def _with_witness(overrides: Mapping[str, Mapping[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    """``overrides`` with what agent.toml says of the witness; what they say of it themselves counts."""
    made = {section: dict(keys) for section, keys in overrides.items()}
    own: dict[str, Any] = {"kind": kind}
    if kind == "etcd":
        own["endpoints"] = [f"http://{ADDRESSES[WITNESS]}:{ETCD_PORT}"]
    elif kind == "ssh":
        own.update(host=ADDRESSES[WITNESS], ssh_user="root")
    if kind:
        made["witness"] = {**own, **made.get("witness", {})}
    return made


def _leave_bridge(switch_pid: int, port: str, bridge: str) -> None:
    """Takes ``port`` off its bridge. Raises ``OSError``.

    Not by a command: on a busy machine its end comes late, and until then the node's programs would run on unseen.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    with contextlib.ExitStack() as stack:
        own, theirs = (
            stack.enter_context(open(path, "rb")) for path in ("/proc/thread-self/ns/net", f"/proc/{switch_pid}/ns/net")
        )
        if libc.setns(theirs.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                request = struct.pack("16si20x", bridge.encode(), socket.if_nametoindex(port))
                try:
                    fcntl.ioctl(sock, SIOCBRDELIF, request)
                except OSError as error:
                    if error.errno != errno.EINVAL:  # it is on no bridge
                        raise
        finally:
            libc.setns(own.fileno(), CLONE_NEWNET)


def _inner_environment() -> dict[str, str]:
    """The environment for what runs in the lab: without this process's own Python settings, which slow others down."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON") or k == "PYTHONPATH"}
    return {**kept, "PATH": PATH}


def _kill(process: LabProcess) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        _wait_for(lambda: os.waitpid(process.pid, os.WNOHANG)[0], 5.0)


def _wait_for(probe: Callable[[], T], limit_s: float, pause_s: float = 0.005) -> T | None:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        value = probe()
        if value:
            return value
        time.sleep(pause_s)
    return None


def _only_child(pid: int) -> int | None:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        children = file.read().split()
        return int(children[0]) if children else None
    return None


def _processes_of(init_pid: int) -> list[int]:
    """Every process (as this machine numbers them) in the process namespace of ``init_pid``."""
    wanted = os.stat(f"/proc/{init_pid}/ns/pid").st_ino
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{pid}/ns/pid").st_ino == wanted:
                found.append(int(pid))
    return found


def _stop_all(init: int, *, entered: bool = True) -> list[int]:
    """Stops every process in the process namespace of ``init`` that runs, that one first; returns which.

    ``entered``: also what was started from outside, by nsenter(1), which stops with it.
    """
    stopped: list[int] = []
    while True:
        members = _processes_of(init)
        own = {init, *members} if entered else {init, *(pid for pid in members if _parent(pid) in members)}
        fresh = [pid for pid in own if pid not in stopped and not _is_stopped(pid)]
        if not fresh:
            return stopped
        for pid in sorted(fresh, key=lambda p: p != init):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        stopped += fresh


def _parent(pid: int) -> int | None:
    """The parent of ``pid``, 0 included; None where it has ended."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[1])
    return None


def _is_stopped(pid: int) -> bool:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()[0] == b"T"
    return True


def _tail(path: str) -> str:
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        return file.read()[-600:].strip() or "no message"
    return "no log"


def _write(path: str, text: str, mode: int = 0o600) -> None:
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
