"""The machine around the agent: disk, clocks, limits, versions, units, and what both nodes must agree on."""

from __future__ import annotations

import contextlib
import os
import stat
import time
import urllib.parse
from collections.abc import Iterator

from ha_agent import __version__
from ha_agent.adapters.control import CommandFailed, NoDaemon
from ha_agent.adapters.files import free_bytes
from ha_agent.adapters.program_path import SAFE_PATH
from ha_agent.cli.doctor.context import Check, Context, error, ok, unknown, warning
from ha_agent.cli.doctor.supervisor import supervisor_unit
from ha_agent.cli.nodes import Nodes, PeerUnreachable
from ha_agent.core.findings import Finding
from ha_agent.core.orders import describe_order

FREE_LEAST = 16 * 1024 * 1024
FREE_WARN = 128 * 1024 * 1024
CLOCK_WARN_S = 1.0
CLOCK_ERROR_S = 30.0
WATCHES_SPARE = 1000
INSTANCES_LEAST = 16
TOKEN_LENGTH = 16
UNITS = ("ha-agent", "keepalived", "ssh")


def check_programs(context: Context) -> Iterator[Finding]:
    """Outer programs that the agent runs."""
    missing = [name for name in ("ssh", "rsync", "ip") if context.find(name) is None]
    packages = {"ssh": "openssh-client", "rsync": "rsync", "ip": "iproute2"}
    for name in missing:
        yield error("program-missing", f"{name} is not installed (looked in {SAFE_PATH})", f"apt install {packages[name]}")
    if not missing:
        yield ok("programs", "ssh, rsync and ip are installed")


def check_disk(context: Context) -> Iterator[Finding]:
    """Room for the state, the registry and the run directory, bytes and inodes."""
    settings = context.settings
    low = False
    for path in (settings.paths.state_dir, settings.registry.path, settings.paths.run_dir):
        if not os.path.isdir(path):
            yield error(
                "directory-missing", f"{path} is not there", "start the agent, which makes its own; or check [paths]"
            )
            low = True
            continue
        free, inodes = free_bytes(path), os.statvfs(path)
        if inodes.f_files and inodes.f_favail < 100:
            low = True
            yield error("disk-inodes", f"{path}: {inodes.f_favail} inodes left", "remove files on that file system")
        if free < FREE_WARN:
            low = True
            text = f"{path}: {free / 1048576:.0f} MiB left"
            make = error if free < FREE_LEAST else warning
            yield make("disk-space", text, "make room on that file system; changes are refused where it is full")
    if not low:
        yield ok("disk", f"{free_bytes(settings.paths.state_dir) / 1048576:.0f} MiB for the state")


def check_permissions(context: Context) -> Iterator[Finding]:
    """Nobody but root may read the state or write the configuration."""
    state, config = context.settings.paths.state_dir, context.config_path
    clean = True
    with contextlib.suppress(OSError):
        if stat.S_IMODE(os.stat(state).st_mode) & 0o077:
            clean = False
            yield error("state-mode", f"{state} can be read by others than root", f"chmod 700 {state}")
    with contextlib.suppress(OSError):
        info = os.stat(config)
        if info.st_uid != 0 or info.st_mode & 0o022:
            clean = False
            text = f"{config} can be changed by others than root: fence_command runs as root"
            yield error("config-mode", text, f"chown root: {config} && chmod go-w {config}")
    if clean:
        yield ok("permissions", "state and configuration belong to root")


def check_sinks(context: Context) -> Iterator[Finding]:
    """Nobody but root may read what alerts are sent with, on the disk or on the network."""
    sinks, clean = context.settings.sinks, True
    for name, sink in sinks.items():
        for path in filter(None, (sink.url_file, sink.secret_file)):
            with contextlib.suppress(OSError):
                if os.stat(path).st_mode & 0o077:
                    clean = False
                    yield error("secret-mode", f"sinks.{name}: {path} can be read by others than root", f"chmod 600 {path}")
        with contextlib.suppress(OSError):
            if has_secret(sink.url) and os.stat(context.config_path).st_mode & 0o077:
                clean = False
                text = f"sinks.{name}.url looks like a secret, and {context.config_path} can be read by others than root"
                yield warning("secret-mode", text, "put it into a file of mode 0600 and name that in url_file")
        if sink.kind == "smtp" and sink.user and sink.port != 465 and not (sink.starttls or sink.plain_login):
            clean = False
            text = f"sinks.{name}: the password is not sent to {sink.host} without TLS, so no mail is sent"
            yield error("sink-login", text, "set starttls = true, port = 465, or plain_login = true")
    if sinks and clean:
        yield ok("sinks", "what alerts are sent with is root's alone")


def has_secret(url: str) -> bool:
    """Whether a webhook's URL looks as if knowing it were enough to send something there."""
    parts = urllib.parse.urlsplit(url)
    return bool(parts.username or parts.query) or any(len(word) >= TOKEN_LENGTH for word in parts.path.split("/"))


def check_inotify(context: Context) -> Iterator[Finding]:
    """The kernel's limits on watches (inotify(7)); one a directory of the registry is needed, and one for the spool."""
    wanted = sum(1 for _ in os.walk(context.settings.registry.path)) + 2
    watches = context.read("/proc/sys/fs/inotify/max_user_watches")
    instances = context.read("/proc/sys/fs/inotify/max_user_instances")
    if watches is None or instances is None:
        yield unknown("inotify", "the kernel's limits on inotify cannot be read")
        return
    if int(watches) < wanted + WATCHES_SPARE:
        text = f"fs.inotify.max_user_watches is {int(watches)}, the registry needs {wanted} of them"
        yield error("inotify", text, f"sysctl fs.inotify.max_user_watches={max(65536, 2 * wanted)}, and in /etc/sysctl.d")
    elif int(instances) < INSTANCES_LEAST:
        text = f"fs.inotify.max_user_instances is {int(instances)}: other programs of root may use them up"
        yield warning("inotify", text, "sysctl fs.inotify.max_user_instances=128, and in /etc/sysctl.d")
    else:
        yield ok("inotify", f"{wanted} watches needed, {int(watches)} allowed")


def check_clock(context: Context) -> Iterator[Finding]:
    """Whether the clocks agree: the history of both nodes is put in order by them, nothing is decided by them."""
    if context.has_systemd:
        shown = context.run("timedatectl", "show", "-p", "NTPSynchronized").output.strip()
        if shown == "NTPSynchronized=no":
            text = "this node's clock is not synchronised"
            yield warning("clock-sync", text, "apt install systemd-timesyncd (or chrony); look at timedatectl")
    nodes, problem = context.status()
    if problem or not nodes[1]["reachable"]:
        yield unknown("clock-offset", "the peer's clock cannot be asked")
        return
    try:
        began = time.time()
        at = float(Nodes(context.settings).ask_peer({"op": "history", "count": 1})["at"])
        took = time.time() - began
    except (PeerUnreachable, CommandFailed, NoDaemon, TimeoutError) as trouble:
        yield unknown("clock-offset", f"the peer's clock cannot be asked: {trouble}")
        return
    offset = at - (began + took / 2)
    text = f"the clock of {nodes[1]['name']} is {offset:+.3f} s off this node's (known to {took / 2:.3f} s)"
    if abs(offset) > CLOCK_WARN_S + took:
        make = error if abs(offset) > CLOCK_ERROR_S else warning
        yield make("clock-offset", text, "synchronise both with NTP: the history's order is by these clocks")
    else:
        yield ok("clock-offset", text)


def check_versions(context: Context) -> Iterator[Finding]:
    """Whether the version that is installed runs; that the peer's is another one is the pair's one judgement."""
    nodes, problem = context.status()
    if problem:
        return
    versions = {str(n["name"]): str(n["version"]) for n in nodes if n["reachable"]}
    if versions.get(context.settings.node.name) != __version__:
        text = f"the agent that runs is {versions.get(context.settings.node.name)}, installed is {__version__}"
        yield warning("version-running", text, "systemctl restart ha-agent: no program notices")
    if len(versions) == 2 and len(set(versions.values())) == 1:
        yield ok("versions", f"ha-agent {__version__} on both nodes")


def check_agreement(context: Context) -> Iterator[Finding]:
    """The one setting that must differ; what must be the same is the pair's one judgement (``core/agreement.py``)."""
    nodes, problem = context.status()
    if problem:
        return
    own, peer = nodes[0], nodes[1]
    if not own["reachable"] or not peer["reachable"]:
        return
    if own.get("priority") == peer.get("priority"):
        text = f"both nodes have VRRP priority {own.get('priority')}"
        yield warning("priority-equal", text, "give them different ones; ha-agent keepalived write, reload keepalived")
    else:
        yield ok("agreement", "the nodes have different VRRP priorities")


def check_maintenance(context: Context) -> Iterator[Finding]:
    """A maintenance that was forgotten: nothing fails over meanwhile."""
    nodes, _ = context.status()
    for node in nodes:
        if node["reachable"] and (window := node.get("maintenance")):
            until = time.strftime("%H:%M", time.localtime(float(window["until"])))
            text = f"{node['name']} is in maintenance until {until}: nothing fails over meanwhile"
            yield warning("maintenance-on", text, "ha-agent maintenance off")


def check_standby_order(context: Context) -> Iterator[Finding]:
    """An order to stay standby that was forgotten: that node takes over nothing."""
    nodes, _ = context.status()
    for node in nodes:
        if node["reachable"] and (order := node.get("standby_order")):
            since = time.strftime("%Y-%m-%d %H:%M", time.localtime(float(order["since"])))
            text = f"{describe_order(order['by'], order['reason'])} since {since}: {node['name']} takes over nothing"
            yield warning("standby-ordered", text, f"ha-agent unstandby {node['name']}")


def check_notes(context: Context) -> Iterator[Finding]:
    """What the agent keeps in its run directory, which a takeover cannot do without."""
    nodes, problem = context.status()
    if problem or not nodes[0]["reachable"]:
        return
    node = nodes[0]
    if failing := node.get("notes_problem"):
        text = f"the agent cannot keep its notes: {failing}"
        yield error("notes-failing", text, "make room there, or put away what is in the place of the file")
    elif low := node.get("notes_low"):
        yield warning("run-full", str(low), "find out with du -x /run what fills it")
    else:
        yield ok("notes", f"the agent keeps its notes in {context.settings.paths.run_dir}")


def check_units(context: Context) -> Iterator[Finding]:
    """What systemd starts at boot, and the agent's own unit."""
    if not context.has_systemd:
        return
    clean = True
    for unit in (*UNITS, supervisor_unit(context)):
        state = context.run("systemctl", "is-enabled", unit).output.strip()
        if state in ("disabled", ""):
            clean = False
            make = warning if unit == "ssh" else error
            yield make(
                "unit-disabled", f"{unit} is not started at boot ({state or 'not known'})", f"systemctl enable {unit}"
            )
    shown = context.run("systemctl", "show", "ha-agent", "-p", "OnFailure,WatchdogUSec,KillMode").output
    if "ha-agent-fence.service" not in shown:
        clean = False
        text = "an agent that cannot be started any more would not fence this node"
        yield error("unit-fence", text, "install systemd/ha-agent.service and ha-agent-fence.service of this version")
    if clean:
        yield ok("units", f"{', '.join(UNITS)} are started at boot, and ha-agent is fenced when it fails")


CHECKS: dict[str, Check] = {
    "programs": check_programs,
    "disk": check_disk,
    "permissions": check_permissions,
    "sinks": check_sinks,
    "inotify": check_inotify,
    "clock": check_clock,
    "versions": check_versions,
    "agreement": check_agreement,
    "maintenance": check_maintenance,
    "standby-order": check_standby_order,
    "notes": check_notes,
    "units": check_units,
}
