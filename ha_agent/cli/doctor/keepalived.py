"""What ``keepalived -t`` does not tell: it says 0 for scripts that will never run and for options that do nothing.

Facts by keepalived.conf(5) 2.2.7, and by trying: adverts below a second exist in VRRP version 3 only; nopreempt is ignored
unless the instance begins as BACKUP; under nopreempt a weight never moves the VIP (issues 2599, 2552, 2483).
"""

from __future__ import annotations

import glob
import ipaddress
import os
import stat
import time
from collections.abc import Iterator

from ha_agent.adapters.addresses import find_address
from ha_agent.adapters.keepalived_conf import config_id
from ha_agent.adapters.resources import find_resource
from ha_agent.cli.doctor.context import Check, Context, Ran, error, ok, unknown, warning
from ha_agent.core.faults import FAULTS
from ha_agent.core.findings import Finding
from ha_agent.core.keepalived_plan import HOOKS, OWN_FILE, is_ours_alone, list_addresses, path_name
from ha_agent.core.keepalived_text import Block, find_block, parse_keepalived, read_whole
from ha_agent.core.places import RunPlaces
from ha_agent.core.problems import find_problems
from ha_agent.core.vip import bare, find_prefix, is_same_address, join, takes_along

UNSECURED = "scripts are being executed but script_security not enabled"
WRITE = "ha-agent keepalived write, then systemctl reload keepalived"


def _load(context: Context) -> tuple[Block | None, Finding | None]:
    path = context.keepalived_conf
    if context.read(path) is None:
        if os.path.exists(path):
            return None, unknown("keepalived-conf", f"{path} cannot be read", "run doctor as root")
        return None, error("keepalived-conf", f"{path} is not there", WRITE)
    config = config_id(context.settings.vrrp.pid_file)
    text, _ = read_whole(path, context.read, lambda pattern: sorted(glob.glob(pattern)), config)
    try:
        return parse_keepalived(text), None
    except ValueError as problem:
        return None, error("keepalived-conf", f"{path}: {problem}", WRITE)


def _fix(context: Context, conf: Block) -> str:
    """What to do about an instance that is not as it must be: by hand where it is one that others wrote."""
    path, name = context.keepalived_conf, context.settings.vrrp.instance
    own = os.path.join(os.path.dirname(path), OWN_FILE)
    if (
        is_ours_alone(conf, name, context.read(path) or "")
        or find_block(context.read(own) or "", "vrrp_instance", name) is not None
    ):
        return WRITE
    return f"correct vrrp_instance {name} in {path} by hand, or agent.toml; then systemctl reload keepalived"


def _instance(context: Context, conf: Block) -> Block | None:
    return _find_instance(conf, context.settings.vrrp.instance)


def _find_instance(conf: Block, name: str) -> Block | None:
    return next((b for b in conf.find_all("vrrp_instance") if b.words[1:] == [name]), None)


def check_conf(context: Context) -> Iterator[Finding]:
    """Whether keepalived's own check passes, and whether the instance is the one that agent.toml describes."""
    conf, problem = _load(context)
    if conf is None:
        assert problem is not None
        yield problem
        return
    path, vrrp = context.keepalived_conf, context.settings.vrrp
    if context.is_root:
        ran = context.run("keepalived", "-t", "-f", path)
        if ran.code is None:
            yield error("keepalived-missing", f"keepalived: {ran.errors}", "apt install keepalived")
        elif ran.code != 0:
            yield from _refused(context, conf, ran)
    instance = _instance(context, conf)
    if instance is None:
        text = f"{path} has no vrrp_instance {vrrp.instance}"
        yield error("keepalived-instance", text, WRITE)
        return
    wanted = {
        "interface": vrrp.interface,
        "virtual_router_id": str(vrrp.router_id),
        "priority": str(vrrp.priority),
        "advert_int": f"{vrrp.advert_int_s:g}",
        "state": "BACKUP",
    }
    differing = [f"{k} is {instance.value(k)}, not {v}" for k, v in wanted.items() if not _same(instance.value(k), v)]
    if (instance.value("nopreempt") is not None) is not vrrp.nopreempt:
        differing.append("nopreempt is " + ("missing" if vrrp.nopreempt else "there") + ", against vrrp.nopreempt")
    addresses = list_addresses(instance)
    present = [address for address in addresses if any(is_same_address(address, vip) for vip in vrrp.all_vips)]
    for vip in vrrp.all_vips:
        if not any(is_same_address(address, vip) for address in present):
            differing.append(f"{vip} is not among its virtual addresses")
    for text in differing:
        yield error("keepalived-differs", f"{path}: {text}", _fix(context, conf))
    if others := [address for address in addresses if address not in present]:
        text = f"{path} has {join(others)}, which {context.config_path} does not name: nobody looks after what is not named"
        yield warning("vip-unnamed", text, "name all of them in vrrp.vips, or take them out")
    own = context.settings.node.address
    if any(takes_along(address, own) for address in addresses) and not _is_promoting(context):
        text = f"{path} has {join(addresses)}: {own} goes with it at a role change once it is behind it on {vrrp.interface}"
        # Where the VIP is at that moment, keepalived takes it off and puts it on again, and the agent releases.
        yield warning("vip-prefix", text, f"while it is the standby: {_fix(context, conf)}")
    for number, peer in enumerate(context.settings.peer.paths, 1):
        if number > 1 and _find_instance(conf, path_name(vrrp.instance, number)) is None:
            text = f"no adverts go to {peer}: {path} has no vrrp_instance {path_name(vrrp.instance, number)}"
            differing.append(text)
            # The agent refuses what a standby that hears no advert wants, for as long as another path is there.
            yield warning("path-adverts", text, _fix(context, conf))
    if not differing:
        yield ok("keepalived-conf", f"{path} is as {context.config_path} describes it")


def _refused(context: Context, conf: Block, ran: Ran) -> Iterator[Finding]:
    """What keepalived's check complains of; not that scripts run without script security, which others may have chosen."""
    said = [line for line in (ran.errors or ran.output).strip().splitlines() if UNSECURED not in line]
    if said or not (ran.errors or ran.output).strip():
        text = f"keepalived refuses {context.keepalived_conf}: {said[0] if said else ran.code}"
        yield error("keepalived-conf", text, _fix(context, conf))


def _is_promoting(context: Context) -> bool:
    """Whether the kernel keeps the other addresses of a network when its first one goes: either of two values says so."""
    folder = "/proc/sys/net/ipv4/conf"
    names = ("all", context.settings.vrrp.interface)
    return any((context.read(f"{folder}/{name}/promote_secondaries") or "").strip() == "1" for name in names)


def _same(found: str | None, wanted: str) -> bool:
    try:
        return float(found or "") == float(wanted)
    except ValueError:
        return found == wanted


def check_protocol(context: Context) -> Iterator[Finding]:
    """Options that keepalived takes and that do nothing, or not what they say."""
    conf, _ = _load(context)
    instance = _instance(context, conf) if conf else None
    if conf is None or instance is None:
        return
    version = instance.value("version") or next(
        (v for b in conf.find_all("global_defs") if (v := b.value("vrrp_version"))), "2"
    )
    advert = instance.value("advert_int") or "1"
    if version != "3" and _as_float(advert) % 1 != 0:
        text = f"advert_int {advert} with VRRP version {version}: it is silently a whole second"
        yield error("advert-int", text, "vrrp_version 3 in global_defs")
    if instance.value("nopreempt") is not None and (instance.value("state") or "BACKUP") != "BACKUP":
        yield error("nopreempt-state", "nopreempt is ignored unless the instance begins with state BACKUP", "state BACKUP")
    weighted = list(_weighted_trackers(conf, instance))
    if instance.value("nopreempt") is not None and weighted:
        text = f"under nopreempt a weight never moves the VIP, but {', '.join(weighted)} has one"
        yield error("nopreempt-weight", text, "weight 0: the tracker then says FAULT")
    if version == "3" and not weighted:
        yield ok("vrrp-options", f"VRRP version {version}, adverts every {advert} s, no weighted tracker")


def _as_float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _weighted_trackers(conf: Block, instance: Block) -> Iterator[str]:
    used = {
        c.words[0]: c.words for kind in ("track_script", "track_file") for b in instance.find_all(kind) for c in b.children
    }
    for kind in ("vrrp_script", "track_file", "vrrp_track_file"):
        for block in conf.find_all(kind):
            name = block.words[1] if len(block.words) > 1 else "?"
            if name in used:
                words = used[name]
                inline = words[words.index("weight") + 1] if "weight" in words[:-1] else None
                # A track_file's weight defaults to 1, a script's to 0.
                default = "1" if kind != "vrrp_script" else "0"
                if _as_float(inline or block.value("weight") or default) != 0:
                    yield f"{kind} {name}"
    for block in instance.find_all("track_interface"):
        for child in block.children:
            if "weight" in child.words:
                yield f"track_interface {child.words[0]}"


def check_hooks(context: Context) -> Iterator[Finding]:
    """Whether every role change reaches the agent: each hook wired, and allowed to run by keepalived's script security."""
    conf, _ = _load(context)
    instance = _instance(context, conf) if conf else None
    if conf is None or instance is None:
        return
    fix = WRITE
    scripts: set[str] = set()
    wired, users = True, [u for b in conf.find_all("global_defs") if (u := b.value("script_user"))]
    # A line may name its own user (keepalived.conf(5)).
    named = {keyword: instance.words_of(keyword)[1:2] or users[-1:] for keyword in HOOKS}
    for keyword, state in HOOKS.items():
        words = (instance.value(keyword) or "").split()
        if len(words) != 5 or words[3] != state or words[2] != context.settings.vrrp.instance:
            wired = False
            yield error("hook-not-wired", f"{keyword} does not tell the agent: {instance.value(keyword) or 'missing'}", fix)
        else:
            scripts.add(words[0])
    for script in sorted(scripts):
        problems = list(_script_problems(script))
        yield from (error("hook-unsafe", f"{script}: {text}", remedy) for text, remedy in problems)
        wired = wired and not problems
        if not problems and not _is_shipped(context, script):
            yield warning("hook-differs", f"{script} is not the hook of this version", "install it from this version")
    security = [b for b in conf.find_all("global_defs") if b.value("enable_script_security") is not None]
    unsaid = [keyword for keyword, user in named.items() if not user]
    others = sorted({user[0] for user in named.values() if user and user[0] != "root"})
    if security and unsaid:
        text = "enable_script_security without script_user: no script runs where there is no user keepalived_script"
        yield error("script-user", text, "script_user root in global_defs")
    elif others:
        text = f"script_user {others[0]}: the hook writes into the agent's spool, which belongs to root"
        yield error("script-user", text, "script_user root in global_defs, or root behind each line of the hook")
    if wired:
        yield ok("hooks", f"every role change runs {', '.join(sorted(scripts))}")


def _script_problems(path: str) -> Iterator[tuple[str, str]]:
    """Why keepalived would silently not run a script (hazard 9)."""
    try:
        info = os.stat(path)
    except OSError as problem:
        yield f"{problem.strerror}", "install it: see README"
        return
    if not info.st_mode & stat.S_IXUSR:
        yield "is not executable", f"chmod 755 {path}"
    try:
        with open(path, "rb") as file:
            if file.read(2) != b"#!":
                yield "has no shebang: it cannot be executed", "its first line must be #!/bin/sh"
    except OSError as problem:
        yield f"cannot be read: {problem.strerror}", "run doctor as root"
    current = os.path.realpath(path)
    while True:
        info = os.stat(current)
        if info.st_uid != 0 or (info.st_mode & 0o022 and not info.st_mode & stat.S_ISVTX):
            yield f"{current} can be changed by others than root", f"chown root: {current} && chmod go-w {current}"
        if current == "/":
            return
        current = os.path.dirname(current)


def _is_shipped(context: Context, script: str) -> bool:
    try:
        return context.read(find_resource("keepalived/ha-agent-notify")) == context.read(script)
    except FileNotFoundError:
        return True


def check_track_file(context: Context) -> Iterator[Finding]:
    """Whether the agent can tell keepalived that this node must not be MASTER."""
    conf, _ = _load(context)
    instance = _instance(context, conf) if conf else None
    if conf is None or instance is None:
        return
    fix = WRITE
    path = RunPlaces(context.settings.paths.run_dir).track_file
    defined = {
        b.words[1]: b.value("file")
        for kind in ("track_file", "vrrp_track_file")
        for b in conf.find_all(kind)
        if len(b.words) > 1
    }
    used = [c.words[0] for b in instance.find_all("track_file") for c in b.children if c.words]
    if path not in [defined.get(name) for name in used]:
        text = f"the instance does not track {path}: a node whose programs cannot be ended would stay MASTER"
        yield error("track-file", text, fix)
    else:
        yield ok("track-file", f"keepalived tracks {path}")


def check_running(context: Context) -> Iterator[Finding]:
    """Whether keepalived runs, of which version."""
    text = context.read(context.settings.vrrp.pid_file)
    pid = (text or "").strip()
    if not pid.isdigit() or not os.path.isdir(f"/proc/{pid}"):
        yield error("keepalived-down", "keepalived is not running", "systemctl start keepalived")
        return
    version = context.run("keepalived", "--version")
    said = (version.errors or version.output).splitlines()
    yield ok("keepalived-running", f"keepalived runs (pid {pid}): {said[0] if said else 'unknown version'}")


def check_vip(context: Context) -> Iterator[Finding]:
    """Whether the VIPs are on one node of the two, all of them."""
    nodes, _ = context.status()
    codes = ("vip-on-both", "vip-on-neither", "vip-partly")
    found = [p for p in find_problems(nodes, time.time()) if p.code in codes]
    for problem in found:
        yield error(problem.code, problem.text, FAULTS[problem.code].remedy)
    where = [n["name"] for n in nodes if n["reachable"] and n["vip"]]
    if not found and len(where) == 1:
        count = len(context.settings.vrrp.all_vips)
        yield ok("vip", f"the VIP is on {where[0]} alone" if count == 1 else f"all {count} VIPs are on {where[0]} alone")
    for vip in context.settings.vrrp.all_vips:
        yield from _check_copies(context, vip)


def _check_copies(context: Context, vip: str) -> Iterator[Finding]:
    """The VIP as somebody else put it here beside keepalived's."""
    held = find_prefix(vip, context.settings.node.address)
    try:
        present = {one.prefix_length for one in find_address(vip)}
    except OSError:
        return
    if len(present) < 2:
        return
    for prefix_length in sorted(present - {ipaddress.ip_interface(held).network.prefixlen}):
        copy = f"{bare(vip)}/{prefix_length}"
        text = f"{copy} is on this machine beside {held}: keepalived leaves it here at a role change"
        # keepalived takes the removal of any of them for the loss of its own, and the agent releases.
        remedy = "take it out of /etc/network/interfaces; then ha-agent switchover, behind which the agent takes it off here"
        yield warning("vip-copy", text, remedy)


CHECKS: dict[str, Check] = {
    "keepalived-conf": check_conf,
    "keepalived-protocol": check_protocol,
    "keepalived-hooks": check_hooks,
    "keepalived-track-file": check_track_file,
    "keepalived-running": check_running,
    "vip": check_vip,
}
