"""How a node's keepalived.conf comes to have the pair's VRRP instance, with everything else in it kept. Pure.

Three ways: the whole file is ours where there is nothing else in it; an instance of others is adopted, which gets the track
file and the hook; or ours is added, as a file of its own that one line includes.
"""

from __future__ import annotations

import hashlib
import ipaddress
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ha_agent.core.keepalived_text import Block, find_block, parse_keepalived
from ha_agent.core.vip import bare, join

OWN_FILE = "ha-agent.conf"
"""The file of ours beside keepalived.conf."""
HOOKS = {
    "notify_master": "MASTER",
    "notify_backup": "BACKUP",
    "notify_fault": "FAULT",
    "notify_stop": "STOP",
    "notify_deleted": "DELETED",
}
_NOTIFY = (*HOOKS, "notify")
_OWN_BLOCKS = ("global_defs", "track_file", "vrrp_instance", "vrrp_sync_group")
_OWN_WORDS = {
    "state", "interface", "virtual_router_id", "priority", "advert_int", "nopreempt", "unicast_src_ip", "unicast_peer",
    "virtual_ipaddress", "virtual_ipaddress_excluded", "track_file", *HOOKS,
}  # fmt: skip


_PATH_WORDS = _OWN_WORDS - {"track_file", "virtual_ipaddress_excluded", *HOOKS} | {"dont_track_primary"}
MOST_PATHS = 4
"""As many as settings take."""
_ADDRESS_BLOCKS = ("virtual_ipaddress", "virtual_ipaddress_excluded")
_REMARK = "    # VIPs of agent.toml: "
_TRACK = "    track_file {\n        ha_agent\n    }\n"


@dataclass(frozen=True, slots=True)
class Instance:
    """A VRRP instance as keepalived reads it. ``addresses``: as they are written.

    ``notify``: lines that run scripts of others; ``hooks``: those that run ours, without their users; ``tracks``: whether it
    has our track file.
    """

    name: str
    addresses: tuple[str, ...]
    interface: str
    router_id: str
    priority: str
    advert_int: str
    version: str
    auth: tuple[str, ...]
    is_unicast: bool
    nopreempt: bool
    sync_group: str
    notify: tuple[str, ...]
    hooks: tuple[str, ...]
    tracks: bool

    @property
    def has_hook(self) -> bool:
        """Whether it tells the agent of its role changes."""
        return bool(self.hooks)

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able data."""
        return asdict(self)


def instance_from(raw: Mapping[str, Any]) -> Instance:
    """The instance that another node has described. Raises ``TypeError`` for what is none."""
    plain: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in raw.items()}
    return Instance(**plain)


@dataclass(frozen=True, slots=True)
class KeepalivedPlan:
    """New texts by path, what people are told, and what is refused; ``is_added``: ours stands beside what is of others."""

    files: Mapping[str, str] = field(default_factory=dict)
    said: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    is_added: bool = False


def describe_instances(whole: Block) -> dict[str, Instance]:
    """Every VRRP instance of a keepalived.conf that is read whole, by name."""
    groups = {
        member.words[0]: block.words[1]
        for block in whole.find_all("vrrp_sync_group")
        if len(block.words) > 1
        for members in block.find_all("group")
        for member in members.children
        if member.words
    }
    version = next((v for block in whole.find_all("global_defs") if (v := block.value("vrrp_version"))), "2")
    found = {}
    for block in whole.find_all("vrrp_instance"):
        name = block.words[1] if len(block.words) > 1 else ""
        found[name] = _describe(name, block, groups.get(name, ""), version)
    return found


def _describe(name: str, block: Block, group: str, version: str) -> Instance:
    auth = next((a for a in block.find_all("authentication")), Block([]))
    scripts = {keyword: words for keyword in _NOTIFY if (words := block.words_of(keyword))}
    lines = {keyword: f"{keyword} {' '.join(words)}" for keyword, words in scripts.items()}
    ours = [keyword for keyword, words in scripts.items() if _is_hook(words[0])]
    return Instance(
        name,
        tuple(list_addresses(block)),
        block.value("interface") or "",
        block.value("virtual_router_id") or "",
        block.value("priority") or "100",
        block.value("advert_int") or "1",
        block.value("version") or version,
        (auth.value("auth_type") or "", _digest(auth.value("auth_pass") or "")) if auth.children else (),
        bool(block.find_all("unicast_peer")),
        block.value("nopreempt") is not None,
        group,
        tuple(line for keyword, line in lines.items() if keyword not in ours),
        tuple(sorted(f"{keyword} {scripts[keyword][0]}" for keyword in ours)),
        any(c.words[:1] == ["ha_agent"] for b in block.find_all("track_file") for c in b.children),
    )


def _digest(text: str) -> str:
    """Tells one password from another one, and says none."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _is_hook(script: str) -> bool:
    return posixpath.basename(script.split(" ", 1)[0]) == "ha-agent-notify"


def list_addresses(instance: Block) -> list[str]:
    """The virtual addresses of an instance as they are written, those of its adverts first."""
    blocks = [block for keyword in _ADDRESS_BLOCKS for block in instance.find_all(keyword)]
    return [child.words[0] for block in blocks for child in block.children if child.words]


def is_ours_alone(whole: Block, instance: str, text: str = "") -> bool:
    """Whether nothing stands in a keepalived.conf but what ``ha-agent keepalived render`` puts there, or nothing at all.

    ``text``: the file, whose remark says which of several addresses were rendered.
    """
    if not all(block.words[:1] and block.words[0] in _OWN_BLOCKS for block in whole.children):
        return False
    found = [block for block in whole.find_all("vrrp_instance") if not _is_of_path(block, instance)]
    if not found:
        return not whole.children
    if len(found) > 1 or found[0].words[1:] != [instance]:
        return False
    for group in whole.find_all("vrrp_sync_group"):
        if group.words[1:] != [group_name(instance)] or [child.words for child in group.children] != [["group"]]:
            return False
        members = [child.words for block in group.find_all("group") for child in block.children]
        if members != [block.words[1:] for block in whole.find_all("vrrp_instance")]:
            return False
    words = [child.words[0] for child in found[0].children if child.words]
    described = describe_instances(whole)[instance]
    return (
        described.has_hook
        and not described.notify
        and set(words) <= _OWN_WORDS
        and (len(addresses := list_addresses(found[0])) <= 1 or set(addresses) <= _rendered_vips(text))
        and [block.words[1:] for block in whole.find_all("track_file")] == [["ha_agent"]]
        and {child.words[0] for block in whole.find_all("global_defs") for child in block.children if child.words}
        <= {"router_id", "vrrp_version", "vrrp_startup_delay", "enable_script_security", "script_user"}
    )


def remark_vips(lines: Sequence[str]) -> str:
    """What a rendered file says of its addresses: one that it does not name was put there by somebody, and stays."""
    return f"{_REMARK}{join(line.split()[0] for line in lines)}\n" if len(lines) > 1 else ""


def group_name(instance: str) -> str:
    """The sync group of the pair's instance and those of its further paths."""
    return f"{instance}_PATHS"


def path_name(instance: str, number: int) -> str:
    """The instance of the path ``number``, from 2."""
    return f"{instance}_PATH_{number}"


def _is_of_path(block: Block, instance: str) -> bool:
    """Whether ``block`` is an instance as it is rendered for a further path, and nothing more."""
    names = [path_name(instance, number) for number in range(2, MOST_PATHS + 1)]
    return block.words[1:2] in [[name] for name in names] and {c.words[0] for c in block.children if c.words} <= _PATH_WORDS


def _rendered_vips(text: str) -> set[str]:
    return {vip for line in text.splitlines() if line.startswith(_REMARK) for vip in line[len(_REMARK) :].split(", ")}


@dataclass(frozen=True, slots=True)
class Rendered:
    """Our texts. ``whole``: a keepalived.conf; ``added``: the instance for a file of its own.

    ``track``: the track file alone; ``hooks``: the notify lines.
    """

    whole: str
    added: str
    track: str
    hooks: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """The pair's instance, and what an operator has allowed."""

    instance: str
    vips: tuple[str, ...]
    interface: str
    router_id: int
    adopt: bool = False
    replace_notify: bool = False
    replace_all: bool = False
    runs: bool = True
    """Whether keepalived runs: what stands in a conf that is not in use must not come to life."""


def plan_keepalived(path: str, files: Mapping[str, str], whole: Block, wanted: Wanted, ours: Rendered) -> KeepalivedPlan:
    """The plan for the keepalived.conf at ``path``. ``files``: the texts that it is made of, by path, without ours.

    ``whole``: all of it, as keepalived reads it. Idempotent: of what it makes it makes the same again.
    """
    if wanted.replace_all or (is_ours_alone(whole, wanted.instance, files.get(path, "")) and not _includes_any(files)):
        return KeepalivedPlan({path: ours.whole})
    instances = describe_instances(whole)
    own_path = posixpath.join(posixpath.dirname(path), OWN_FILE)
    found = instances.get(wanted.instance)
    added = found is not None and found.has_hook and not any(_has_instance(text, wanted.instance) for text in files.values())
    if not wanted.runs and not (found is not None and found.has_hook):
        text = (
            f"{path} has more than the pair's instance, and keepalived does not run: with it all of that would start; start "
            "keepalived first if that is meant, or --replace-keepalived (what stands there is kept)"
        )
        return KeepalivedPlan(refused=(text,))
    if found is not None and not added and (wanted.adopt or found.has_hook):
        return _adopt(path, own_path, files, found, wanted, ours)
    if wanted.adopt:
        names = ", ".join(sorted(instances)) or "none"
        return KeepalivedPlan(refused=(f"{path} has no vrrp_instance {wanted.instance} (it has {names})",))
    others = {name: one for name, one in instances.items() if not (added and name == wanted.instance)}
    refused = _conflicts(path, whole, others, wanted)
    text = files.get(path, "")
    if not _includes(text, own_path):
        text = f"{text.rstrip()}\n\n{_include_line(own_path)}"
    return KeepalivedPlan({own_path: ours.added, path: text}, (), tuple(refused), is_added=True)


def _include_line(own_path: str) -> str:
    return f"# The VRRP instance of ha-agent.\ninclude {own_path}\n"


def _includes(text: str, own_path: str) -> bool:
    return any(line.split()[:2] == ["include", own_path] for line in text.splitlines())


def _includes_any(files: Mapping[str, str]) -> bool:
    return any(line.split()[:1] == ["include"] for text in files.values() for line in text.splitlines())


def _has_instance(text: str, name: str) -> bool:
    try:
        return find_block(text, "vrrp_instance", name) is not None
    except ValueError:
        return False


def _conflicts(path: str, whole: Block, others: Mapping[str, Instance], wanted: Wanted) -> list[str]:
    """Why ours cannot stand beside what is there."""
    found = []
    if wanted.instance in others:
        found.append(f"{path} has a vrrp_instance {wanted.instance}: --adopt-instance {wanted.instance}, or rename it")
    for word in ("net_namespace", "instance"):
        if any(block.find_all(word) for block in whole.find_all("global_defs")):
            found.append(f"global_defs of {path} has {word}, with which keepalived's pid file is elsewhere: take it out")
    vips = {bare(vip) for vip in wanted.vips}
    for name, one in others.items():
        if taken := sorted(vips & {str(_address(text)) for text in one.addresses}):
            text = f"{join(taken)} is an address of vrrp_instance {name}"
            found.append(f"{text}: --adopt-instance {name}, or choose a free address")
        elif one.router_id == str(wanted.router_id) and one.interface == wanted.interface:
            found.append(
                f"virtual_router_id {wanted.router_id} on {wanted.interface} is vrrp_instance {name}'s: --router-id with a "
                "free number"
            )
    return found


def _address(text: str) -> object:
    try:
        return ipaddress.ip_interface(text).ip
    except ValueError:
        return None


# ---- adopting --------------------------------------------------------------------------------------------------


def _adopt(
    path: str, own_path: str, files: Mapping[str, str], found: Instance, wanted: Wanted, ours: Rendered
) -> KeepalivedPlan:
    refused = []
    if found.sync_group and found.sync_group != group_name(found.name):
        refused.append(
            f"vrrp_instance {found.name} is in vrrp_sync_group {found.sync_group}, whose other instances would move with "
            "the programs: take it out of the group, or leave it and give the pair an address of its own (--vip)"
        )
    if found.notify and not wanted.replace_notify:
        refused.append(
            f"vrrp_instance {found.name} runs scripts at role changes ({'; '.join(found.notify)}), and the agent starts and "
            "stops the programs from now on: --replace-notify takes them out, what stood there is kept; what they do "
            "besides belongs elsewhere"
        )
    file = next((name for name, text in files.items() if _has_instance(text, found.name)), None)
    if file is None:
        refused.append(f"vrrp_instance {found.name} comes of a parameter of {path}: write it out, and again")
    if refused or file is None:
        return KeepalivedPlan(refused=tuple(refused))
    said = tuple(f"{path}: {line} is taken out" for line in found.notify)
    if found.tracks and not found.notify and found.hooks == _hook_words(ours.hooks):
        return KeepalivedPlan()
    changed = {file: adopt_instance(files[file], found.name, ours.hooks, tracks=found.tracks)}
    if any(_defines_track_file(text) for text in files.values()):
        return KeepalivedPlan(changed, said)
    text = changed.get(path, files.get(path, ""))
    if not _includes(text, own_path):
        # Before the instance: keepalived looks for the track file where the instance names it.
        text = f"{_include_line(own_path)}\n{text}"
    return KeepalivedPlan({own_path: ours.track, **changed, path: text}, said)


def _hook_words(hooks: str) -> tuple[str, ...]:
    return tuple(sorted(" ".join(block.words[:2]) for block in parse_keepalived(hooks).children))


def _defines_track_file(text: str) -> bool:
    try:
        return find_block(text, "track_file", "ha_agent") is not None
    except ValueError:
        return False


def adopt_instance(text: str, name: str, hooks: str, *, tracks: bool = False) -> str:
    """``text`` with the track file and the hook in ``vrrp_instance name``, in place of the scripts that it had.

    ``tracks``: it has the track file already. It begins as BACKUP: with state MASTER it would take the addresses before it
    has heard the peer. Everything else stays. Raises ``ValueError`` where there is no such instance.
    """
    span = find_block(text, "vrrp_instance", name)
    if span is None:
        raise ValueError(f"no vrrp_instance {name}")
    lines = text.splitlines(keepends=True)
    begin, end = span
    kept = [line for line in lines[begin:end] if line.split()[:1] not in [[word] for word in _NOTIFY]]
    kept = [line.replace("MASTER", "BACKUP", 1) if line.split()[:2] == ["state", "MASTER"] else line for line in kept]
    last = lines[end]
    closing = last[last.rindex("}") :]
    before = last[: last.rindex("}")]
    if before.strip():
        kept.append(before.rstrip() + "\n")
    own = f"{'' if tracks else _TRACK}{hooks}"
    return "".join([*lines[:begin], *kept, own, closing, *lines[end + 1 :]])


def compare_instances(own: Instance, peer: Instance) -> list[str]:
    """What the two nodes' instances of one name must have alike, and have not."""
    found = []
    for what, mine, theirs in (
        ("virtual_router_id", own.router_id, peer.router_id),
        ("VRRP version", own.version, peer.version),
        ("advert_int", own.advert_int, peer.advert_int),
        ("unicast_peer", own.is_unicast, peer.is_unicast),
        ("addresses", sorted(own.addresses), sorted(peer.addresses)),
    ):
        if mine != theirs:
            found.append(f"{what} of vrrp_instance {own.name} is {_said(mine)} here and {_said(theirs)} on the peer")
    if own.auth != peer.auth:
        found.append(f"authentication of vrrp_instance {own.name} is not the same on both nodes")
    return found


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "there" if value else "missing"
    return ", ".join(value) if isinstance(value, list) else str(value)


def adopted_settings(found: Instance, vip: str | None) -> dict[str, Any]:
    """[vrrp] of agent.toml for an instance that is adopted. Raises ``ValueError`` with what is in the way.

    ``vip``: which of its addresses comes first, with the prefix length of its network; None: the one that does. All of them
    are the pair's: they move together. The others without a prefix length have that which keepalived gives them.
    """
    given = vip or next(iter(found.addresses), "")
    if not given:
        raise ValueError(f"vrrp_instance {found.name} has no address")
    if "/" not in given:
        raise ValueError(f"{given} of vrrp_instance {found.name} has no prefix length: --vip {given}/BITS, of its network")
    if _address(given) not in [_address(text) for text in found.addresses]:
        raise ValueError(f"{given} is no address of vrrp_instance {found.name} (it has {', '.join(found.addresses)})")
    try:
        numbers = int(found.router_id), int(found.priority), float(found.advert_int)
    except ValueError:
        raise ValueError(f"vrrp_instance {found.name} has no number as virtual_router_id, priority or advert_int") from None
    others = [text for text in found.addresses if _address(text) != _address(given)]
    known = [_with_prefix(text) for text in others if _address(text) is not None]
    return {
        **({"vips": [given, *known]} if known else {"vip": given}),
        "interface": found.interface,
        "instance": found.name,
        "router_id": numbers[0],
        "priority": numbers[1],
        "advert_int_s": numbers[2],
        "nopreempt": found.nopreempt,
    }


def _with_prefix(text: str) -> str:
    one = ipaddress.ip_interface(text)
    return text if "/" in text else f"{text}/{one.max_prefixlen}"
