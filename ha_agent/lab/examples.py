"""What `ha-agent lab up --with` adds to a pair: the shipped examples as they are, with the lab's addresses.

The files are those of examples/, which the package installs, too. On a node they lie in /etc/ha-agent/examples, as
docs/examples.md has it for a real one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ha_agent.adapters.resources import find_resource
from ha_agent.core.reasons import reason_of
from ha_agent.lab import cloud
from ha_agent.lab.control import Lab, LabFailed
from ha_agent.lab.layout import ADDRESSES, NODES, other

ALL = "examples"
"""The word for all of them."""

REDIS_PORT = 6379
DISK_MIB = 16
DEVICE = "/dev/disk/by-label/data"
"""What the shipped settings call the disk that both nodes reach."""

PAGES_NETWORK, LAB_NETWORK = "192.0.2.", "10.77.0."
"""The addresses of the shipped settings, and the lab's in their place. Node-a's ends with .11 in both, the VIP with .100."""


@dataclass(frozen=True, slots=True)
class Example:
    """What belongs to one of them: sections of agent.toml, confs of the registry, confs of supervisord on both nodes."""

    hooks: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    confs: tuple[str, ...] = ()
    local: tuple[str, ...] = ()


EXAMPLES: Mapping[str, Example] = {
    "redis": Example(hooks=("redis",), checks=("redis-copied",), local=("local-redis.conf",)),
    "disk": Example(hooks=("data",), confs=("writer.conf",)),
    "announce": Example(hooks=("announce",)),
    "order": Example(confs=("a.conf", "b.conf")),
    "health": Example(checks=("shop",), confs=("shop.conf",)),
}


@dataclass(frozen=True, slots=True)
class Additions:
    """What ``Lab.up`` takes for the sake of some examples. ``words``: what a person should know of this lab's."""

    confs: dict[str, str]
    overrides: dict[str, dict[str, Any]]
    prepare: Callable[[Lab], None]
    words: tuple[str, ...]


def choose(names: Collection[str]) -> tuple[str, ...]:
    """The examples that are meant by words of ``--with``, in their order."""
    return tuple(name for name in EXAMPLES if ALL in names or name in names)


def folder() -> str:
    """Where the shipped examples lie. Raises ``LabFailed`` where they are not installed."""
    try:
        return os.path.dirname(find_resource("examples/agent.toml"))
    except FileNotFoundError as error:
        raise LabFailed(reason_of(error)) from None


def add_examples(lab: Lab, names: Collection[str]) -> Additions:
    """What makes ``lab`` one with these examples. Raises ``LabFailed``.

    Nothing is written before ``prepare`` is called, which is handed the lab when its disks are there.
    """
    chosen = [EXAMPLES[name] for name in choose(names)]
    disk = os.path.join(lab.paths.directory, "shared-disk")
    has_disk = any("data" in one.hooks for one in chosen)
    has_loop = can_loop()

    def prepare(lab: Lab) -> None:
        if has_disk:
            _make_disk(disk, has_loop)
        if any("announce" in one.hooks for one in chosen):
            os.makedirs(os.path.join(lab.paths.directory, cloud.FOLDER))
        for node in NODES if chosen else ():
            _fill_node(lab, node, [name for one in chosen for name in one.local])

    words = []
    if has_disk and not has_loop:
        words.append("no loop devices or no mkfs.ext4 here: a directory stands in for the disk, and refuses no second mount")
    return Additions(
        {name: _read("conf.d", name) for one in chosen for name in one.confs},
        _sections(_read("agent.toml"), chosen, disk),
        prepare,
        tuple(words),
    )


def can_loop() -> bool:
    """Whether this machine can make a file system in a file and mount it."""
    return os.path.exists("/dev/loop-control") and shutil.which("mkfs.ext4", path="/usr/sbin:/sbin:/usr/bin") is not None


def _sections(text: str, chosen: Collection[Example], disk: str) -> dict[str, dict[str, Any]]:
    """The sections of the shipped agent.toml that belong to ``chosen``, for this lab."""
    raw = tomllib.loads(text.replace(PAGES_NETWORK, LAB_NETWORK).replace(DEVICE, disk))
    found: dict[str, dict[str, Any]] = {}
    for kind in ("hooks", "checks"):
        wanted = {name for one in chosen for name in getattr(one, kind)}
        found.update({f"{kind}.{name}": keys for name, keys in raw[kind].items() if name in wanted})
    return found


def _read(*parts: str) -> str:
    with open(os.path.join(folder(), *parts), encoding="utf-8") as file:
        return file.read()


def _make_disk(path: str, has_loop: bool) -> None:
    """Raises ``LabFailed``."""
    if not has_loop:
        os.makedirs(path)
        return
    with open(path, "wb") as file:
        file.truncate(DISK_MIB << 20)
    words = ["/usr/sbin/mkfs.ext4", "-q", "-O", "mmp", "-E", "mmp_update_interval=1", path]
    made = subprocess.run(words, capture_output=True, text=True)
    if made.returncode != 0:
        raise LabFailed(f"mkfs.ext4 ended with {made.returncode}: {made.stderr.strip()[-300:]}")


def _fill_node(lab: Lab, node: str, local: Collection[str]) -> None:
    etc = lab.paths.disk(node, "etc-ha-agent")
    shutil.copytree(folder(), os.path.join(etc, "examples"))
    with open(os.path.join(etc, "redis-peer"), "w", encoding="ascii") as file:
        file.write(ADDRESSES[other(node)] + "\n")
    for name in local:
        target = os.path.join(lab.paths.disk(node, "etc-supervisor"), "local.d", name)
        shutil.copyfile(os.path.join(folder(), "local.d", name), target)
