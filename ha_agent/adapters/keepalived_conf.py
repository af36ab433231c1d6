"""keepalived's side of the pair: texts from the agent's own configuration, and what stands in keepalived.conf already."""

from __future__ import annotations

import glob
import os
from string import Template

from ha_agent.adapters.files import read_or_none
from ha_agent.adapters.procs import read_pid_file
from ha_agent.adapters.resources import find_resource
from ha_agent.core.keepalived_plan import (
    OWN_FILE,
    KeepalivedPlan,
    Rendered,
    Wanted,
    group_name,
    path_name,
    plan_keepalived,
    remark_vips,
)
from ha_agent.core.keepalived_text import Block, parse_keepalived, read_whole
from ha_agent.core.places import RunPlaces
from ha_agent.core.settings import Settings
from ha_agent.core.vip import find_mark, list_lines

HOOK_PATH = "/usr/lib/ha-agent/ha-agent-notify"
KEEPALIVED_CONF = "/etc/keepalived/keepalived.conf"
HOOKED = ("master", "backup", "fault", "stop", "deleted")


def render_keepalived(settings: Settings, hook: str = HOOK_PATH) -> str:
    """The text of keepalived.conf for this node. Raises ``FileNotFoundError`` where a template is not installed."""
    return render_parts(settings, hook).whole


def render_parts(settings: Settings, hook: str = HOOK_PATH, *, is_strict: bool = False) -> Rendered:
    """All texts of ours; ``is_strict``: others have set vrrp_strict, which knows no unicast peers.

    Beside what is of others nothing may depend on global settings: the version stands in the instance, and each script has
    its user (keepalived.conf(5)). Raises ``FileNotFoundError`` where a template is not installed.
    """
    vrrp = settings.vrrp
    track = _template("track").substitute(track_file=RunPlaces(settings.paths.run_dir).track_file)
    alone = "    version 3\n" + ("    strict_mode off\n" if is_strict else "")
    hooks = _hooks(settings, hook, " root")
    whole = _template("keepalived").substitute(
        node=settings.node.name,
        startup_delay=f"{vrrp.startup_delay_s:g}",
        track=track,
        own=_instance(settings, _hooks(settings, hook, ""), "") + _paths(settings, ""),
    )
    added = f"# Of ha-agent, from /etc/ha-agent/agent.toml: change that, then ha-agent keepalived write.\n\n{track}"
    return Rendered(whole, f"{added}\n{_instance(settings, hooks, alone)}{_paths(settings, alone)}", added, hooks)


def _template(name: str) -> Template:
    with open(find_resource(f"keepalived/{name}.conf.template"), encoding="utf-8") as file:
        return Template(file.read())


def _hooks(settings: Settings, hook: str, user: str) -> str:
    vrrp = settings.vrrp
    return "".join(
        f'    notify_{state} "{hook} INSTANCE {vrrp.instance} {state.upper()} {vrrp.priority}"{user}\n' for state in HOOKED
    )


def _instance(settings: Settings, hooks: str, extra: str) -> str:
    vrrp = settings.vrrp
    advertised, others = list_lines(vrrp.all_vips, settings.node.address, vrrp.interface)
    return _template("instance").substitute(
        address=settings.node.address,
        peer_address=settings.peer.address,
        instance=vrrp.instance,
        interface=vrrp.interface,
        router_id=vrrp.router_id,
        priority=vrrp.priority,
        advert_int=f"{vrrp.advert_int_s:g}",
        nopreempt="    nopreempt" if vrrp.nopreempt else "    # preempt: the higher priority always gets the VIP back",
        nopreempt_remark=", which nopreempt requires" if vrrp.nopreempt else "; the priorities decide",
        vips=remark_vips(advertised + others)
        + _block("virtual_ipaddress", advertised)
        + _block("virtual_ipaddress_excluded", others),
        hooks=hooks,
        extra=extra,
    )


def _paths(settings: Settings, extra: str) -> str:
    """The instances of the further paths, and the group that has all of them agree; empty where there is one path."""
    vrrp, ends = settings.vrrp, list(zip(settings.node.paths, settings.peer.paths, strict=True))
    if len(ends) == 1:
        return ""
    names = [vrrp.instance, *(path_name(vrrp.instance, number) for number in range(2, len(ends) + 1))]
    instances = [
        _template("path").substitute(
            address=own,
            peer_address=peer,
            instance=path_name(vrrp.instance, number),
            interface=vrrp.path_interfaces[number - 2],
            router_id=vrrp.router_id,
            priority=vrrp.priority,
            advert_int=f"{vrrp.advert_int_s:g}",
            nopreempt="    nopreempt\n" if vrrp.nopreempt else "",
            mark=find_mark(own, vrrp.router_id, number),
            extra=extra,
        )
        for number, (own, peer) in enumerate(ends, 1)
        if number > 1
    ]
    members = "".join(f"        {name}\n" for name in names)
    group = _template("paths").substitute(group=group_name(vrrp.instance), members=members)
    return "\n" + group + "".join(f"\n{one}" for one in instances)


def _block(keyword: str, lines: list[str]) -> str:
    inner = "".join(f"        {line}\n" for line in lines)
    return f"    {keyword} {{\n{inner}    }}\n" if lines else ""


# ---- what is there ---------------------------------------------------------------------------------------------


def read_conf(path: str = KEEPALIVED_CONF, pid_file: str = "/run/keepalived.pid") -> tuple[Block, dict[str, str]]:
    """keepalived.conf as keepalived reads it, and the texts of the files that it is made of, by path.

    Empty where there is none. Raises ``OSError``, and ``ValueError`` where braces or quotes do not match.
    """

    def read(name: str) -> str | None:
        raw = read_or_none(name) if not os.path.isdir(name) else None
        return None if raw is None else raw.decode("utf-8", "surrogateescape")

    text, files = read_whole(path, read, lambda pattern: sorted(glob.glob(pattern)), config_id(pid_file))
    return parse_keepalived(text), {name: read(name) or "" for name in files}


def config_id(pid_file: str) -> str:
    """What conditional lines are compared with: of the running keepalived's command line, or the first part of the name."""
    pid = read_pid_file(pid_file)
    if pid is not None:
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = [os.fsdecode(word) for word in file.read().split(b"\0")]
        except OSError:
            words = []
        for index, word in enumerate(words[:-1]):
            if word in ("-i", "--config-id"):
                return words[index + 1]
            if word.startswith("--config-id="):
                return word.partition("=")[2]
    return os.uname().nodename.split(".")[0]


def plan_conf(
    settings: Settings, path: str = KEEPALIVED_CONF, hook: str = HOOK_PATH, *, runs: bool = True, **allowed: bool
) -> KeepalivedPlan:
    """The plan for this node's keepalived.conf. ``allowed``: ``adopt``, ``replace_notify``, ``replace_all``.

    Raises ``OSError``, and ``ValueError`` where the file cannot be read as keepalived's.
    """
    whole, files = read_conf(path, settings.vrrp.pid_file)
    files.pop(os.path.join(os.path.dirname(path), OWN_FILE), None)
    is_strict = any(block.find_all("vrrp_strict") for block in whole.find_all("global_defs"))
    vrrp = settings.vrrp
    wanted = Wanted(vrrp.instance, vrrp.all_vips, vrrp.interface, vrrp.router_id, runs=runs, **allowed)
    return plan_keepalived(path, files, whole, wanted, render_parts(settings, hook, is_strict=is_strict))
