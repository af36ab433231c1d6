"""The way to the peer: key, host key, the forced command at the other end, and that nothing else is possible there."""

from __future__ import annotations

import os
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace

from ha_agent.adapters.ssh import ssh_options
from ha_agent.cli.doctor.context import Check, Context, error, ok, unknown, warning
from ha_agent.core.findings import Finding, Severity
from ha_agent.core.link_causes import find_cause
from ha_agent.core.problems import find_problems
from ha_agent.core.settings import POLICIES
from ha_agent.core.width import count_text
from ha_agent.core.words import Exit

FORBIDDEN = "ha-agent-doctor-asks-for-what-is-forbidden"
"""What is asked for at the peer: a restricted key answers that it may not."""


def check_files(context: Context) -> Iterator[Finding]:
    """Private key and pinned host key, and who may read them."""
    link, peer = context.settings.link, context.settings.peer
    try:
        info = os.stat(link.key_file)
    except PermissionError:
        yield unknown("ssh-key", f"{link.key_file} cannot be seen", "run doctor as root")
        return
    except OSError as problem:
        text = f"{link.key_file}: {problem.strerror}"
        yield error("ssh-key", text, f"ssh-keygen -t ed25519 -N '' -f {link.key_file}")
        return
    if info.st_uid != 0 or stat.S_IMODE(info.st_mode) & 0o077:
        text = f"{link.key_file} can be read by others than root: ssh refuses it"
        yield error("ssh-key-mode", text, f"chown root: {link.key_file} && chmod 600 {link.key_file}")
    known = context.read(link.known_hosts)
    names = {name for line in (known or "").splitlines() if line[:1] not in ("#", "") for name in line.split()[0].split(",")}
    if peer.name not in names:
        text = f"{link.known_hosts} has no host key under the name {peer.name}"
        yield error("host-key", text, f"ha-agent pair {peer.name} --host-key shows it, and pins it if you say so")
        return
    yield ok("ssh-files", f"{link.key_file}, and the host key of {peer.name}")


def check_forced_command(context: Context) -> Iterator[Finding]:
    """Connects as the agent does, asks for what is forbidden, and looks how that is refused."""
    if not context.is_root:
        yield unknown("ssh-forced", "only root can connect with the agent's key", "run doctor as root")
        return
    found = [finding for address in context.settings.peer.paths for finding in _try_path(context, address)]
    works = any(finding.severity is Severity.OK for finding in found)
    for finding in found:
        # A path that is cut is no broken link while another one is there.
        yield replace(finding, severity=Severity.WARNING) if works and finding.code == "ssh-failed" else finding


def _try_path(context: Context, address: str) -> Iterator[Finding]:
    link, peer = context.settings.link, context.settings.peer
    with tempfile.TemporaryDirectory(prefix="ha-agent-doctor.") as folder:
        options = ssh_options(link, peer, os.path.join(folder, "control"))
        ran = context.run("ssh", *options, f"{peer.ssh_user}@{address}", FORBIDDEN)
    over = f" over {address}" if len(peer.paths) > 1 else ""
    said = (ran.errors.strip().splitlines() or ["no message"])[-1]
    if ran.code == Exit.REFUSED and "rpc and rsync" in ran.errors:
        yield ok("ssh-forced", f"{peer.name} takes this node's key{over}, for the forced command alone")
        if ran.output:
            text = f"{peer.name} prints {ran.output[:40]!r} before the forced command: that breaks the frames"
            yield error("shell-noise", text, f"silence ~/.bashrc of {peer.ssh_user} at {peer.name}")
    elif ran.code == Exit.USAGE or (ran.code == Exit.FAILED and "ha-agent-peer" in ran.errors):
        yield error("peer-config", f"ha-agent-peer at {peer.name}: {said}", f"run ha-agent doctor at {peer.name}")
    elif ran.code == 127 and FORBIDDEN in ran.errors:
        text = f"{peer.name} gives this node's key a shell"
        remedy = f'begin its line in authorized_keys at {peer.name} with: restrict,command="/usr/bin/ha-agent-peer"'
        yield error("ssh-unrestricted", text, remedy)
    elif "Host key verification failed" in ran.errors or "REMOTE HOST IDENTIFICATION" in ran.errors:
        text = f"the host key of {peer.name} is not the pinned one"
        remedy = f"ha-agent pair {peer.name} --host-key shows both fingerprints, and pins the new one if you say so"
        yield error("host-key", text, remedy)
    elif "Permission denied" in ran.errors:
        remedy = (
            "put the key into authorized_keys there; sshd needs PermitRootLogin forced-commands-only or prohibit-password"
        )
        yield error("ssh-denied", f"{peer.name} does not take this node's key: {said}", remedy)
    else:
        remedy = f"is sshd running at {peer.name}, and TCP port {peer.ssh_port} open?"
        yield error("ssh-failed", f"no ssh to {peer.name} ({address}): {said}", remedy)


def check_paths(context: Context) -> Iterator[Finding]:
    """Where there are several: whether this node has its end of each, where agent.toml says, and what the agents see."""
    node, peer, vrrp = context.settings.node, context.settings.peer, context.settings.vrrp
    if len(peer.paths) < 2:
        return
    found = False
    for address, interface in zip(node.paths, (vrrp.interface, *vrrp.path_interfaces), strict=True):
        names = context.interfaces_of(address)
        if names is not None and interface not in names:
            found = True
            where = f"on {', '.join(names)}" if names else "on no interface of this machine"
            text = f"{address}, this node's end of a path, is {where}, and not on {interface}"
            yield error("path-end", text, "correct node.addresses and vrrp.path_interfaces, or the network of this node")
    nodes, _ = context.status()
    for problem in (p for p in find_problems(nodes, time.time()) if p.code == "path-down"):
        found = True
        yield warning("path-down", problem.text, problem.remedy)
    if not found:
        yield ok("paths", f"{count_text(len(peer.paths), 'path')} to {peer.name}: {', '.join(peer.paths)}")


def check_sshd(context: Context) -> Iterator[Finding]:
    """Whether this node's sshd lets the peer in."""
    if not context.is_root:
        return
    ran = context.run("sshd", "-T")
    values = dict(line.split(" ", 1) for line in ran.output.lower().splitlines() if " " in line)
    if ran.code != 0 or not values:
        yield unknown(
            "sshd", f"sshd -T: {(ran.errors.strip().splitlines() or ['no answer'])[-1]}", "apt install openssh-server"
        )
        return
    login = values.get("permitrootlogin", "")
    if login == "no":
        yield error(
            "sshd-root", "sshd: PermitRootLogin no keeps the peer's agent out", "PermitRootLogin forced-commands-only"
        )
    elif login == "yes" and values.get("passwordauthentication") == "yes":
        text = "sshd: root may log in with a password"
        yield warning("sshd-root", text, "PermitRootLogin forced-commands-only (or prohibit-password)")
    else:
        yield ok("sshd", f"sshd: PermitRootLogin {login}")


def check_link(context: Context) -> Iterator[Finding]:
    """What the agents themselves say of the link."""
    nodes, problem = context.status()
    if problem and context.is_refused:
        yield unknown("agent-down", f"whether the agent answers is not known: {problem}", "run doctor as root")
        return
    if problem:
        yield error("agent-down", f"the agent does not answer: {problem}", "systemctl start ha-agent")
        return
    own, peer = nodes[0], nodes[1]
    if not peer["reachable"]:
        why = peer.get("problem") or "no answer"
        remedy = find_cause(why).remedy.format(node=peer["name"])
        yield error("peer-lost", f"{peer['name']} cannot be reached: {why}", remedy)
        return
    yield ok("link", f"both agents answer ({own['name']}: {own['role']}, {peer['name']}: {peer['role']})")


def check_takeover(context: Context) -> Iterator[Finding]:
    """What would be done at a takeover without the peer's word, and whether one is waiting for it."""
    limits = context.settings.takeover
    fenced = "fence_command is run; where it fails, " if limits.fence_command else ""
    chosen = limits.on_interlock_timeout
    policy = f'{fenced}{POLICIES[chosen]} (takeover.on_interlock_timeout = "{chosen}")'
    held = [p for p in find_problems(context.status()[0], time.time()) if p.code == "takeover-held"]
    for problem in held:
        yield error("takeover-held", problem.text, problem.remedy)
    if not held:
        yield ok("takeover-policy", f"without the peer's word: {policy}")


def check_require_any(context: Context) -> Iterator[Finding]:
    """Whether the addresses that must answer before a start without the peer's word do so now."""
    hosts = context.settings.takeover.require_any
    if not hosts:
        return
    if not context.is_root:
        yield unknown("cut-off", "whether takeover.require_any answers is asked by root alone", "run doctor as root")
        return
    silent = [host for host in hosts if not context.is_there(host)]
    remedy = "look at the network of this node; or correct takeover.require_any"
    if len(silent) == len(hosts):
        text = f"none of takeover.require_any answers ({', '.join(hosts)}): without the peer's word nothing would be started"
        yield error("cut-off", text, remedy)
    elif silent:
        yield warning("cut-off", f"of takeover.require_any {', '.join(silent)} does not answer", remedy)
    else:
        yield ok("require-any", f"{', '.join(hosts)} of takeover.require_any answer")


CHECKS: dict[str, Check] = {
    "ssh-files": check_files,
    "ssh-forced-command": check_forced_command,
    "paths": check_paths,
    "sshd": check_sshd,
    "link": check_link,
    "takeover": check_takeover,
    "require-any": check_require_any,
}
