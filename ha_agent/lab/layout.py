"""Names, addresses and paths of a lab. Pure."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from dataclasses import dataclass

NODES = ("node-a", "node-b")
WITNESS = "witness"
"""The third node, of a lab that has one."""
MEMBERS = (*NODES, WITNESS)
WITNESS_KINDS = ("etcd", "ssh")
ETCD_PORT = 2379
CLIENT_ADDRESS = "10.77.0.1"
ADDRESSES = {"node-a": "10.77.0.11", "node-b": "10.77.0.12", WITNESS: "10.77.0.13"}
PRIORITIES = {"node-a": 110, "node-b": 100}
VIP = "10.77.0.100"
PREFIX = 24

BLOCKS = ("vrrp", "tcp", "ip", "all", "loss")
"""What a lab can have dropped between its nodes."""

DISK_DIRS = {
    "etc-supervisor": "/etc/supervisor",
    "etc-ha-agent": "/etc/ha-agent",
    "etc-keepalived": "/etc/keepalived",
    "etc-ssh": "/etc/ssh",
    "state": "/var/lib/ha-agent",
    "log": "/var/log",
}
"""What a node keeps when its power is cut: folder in the lab's directory, and where the node sees it."""

WITNESS_DIRS = {
    "etc-ssh": "/etc/ssh",
    "records": "/var/lib/ha-agent-witness",
    "etcd": "/var/lib/etcd",
    "log": "/var/log",
}
"""The same of the witness."""


def disk_dirs(node: str) -> dict[str, str]:
    """What ``node`` keeps: folder and place."""
    return WITNESS_DIRS if node == WITNESS else DISK_DIRS


REGISTRY = "/etc/supervisor/conf.d"


def other(node: str) -> str:
    """The peer of ``node``."""
    return NODES[1 - NODES.index(node)]


def default_root() -> str:
    """Where labs live unless told otherwise: the build folder of a source tree, else a folder of this user."""
    project = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    if os.path.isfile(os.path.join(project, "pyproject.toml")):
        return os.path.join(project, "build", "labs")
    return "/var/tmp/ha-agent-labs"


def fresh_directory(kind: str) -> str:
    """A path for a new lab. Process ids say nothing: in the sandbox every run has the same ones."""
    return os.path.join(default_root(), f"{kind}-{secrets.token_hex(4)}")


DEFAULT_NAME = "lab"
"""The lab that is meant where none is named."""


@dataclass(frozen=True, slots=True)
class LabPaths:
    """Paths of one lab on the machine that runs it."""

    directory: str

    @property
    def name(self) -> str:
        """The lab's name: the last part of its directory."""
        return os.path.basename(self.directory)

    @property
    def state_file(self) -> str:
        """Process ids of the lab's parts."""
        return os.path.join(self.directory, "lab.json")

    def node(self, node: str) -> str:
        """The disk of ``node``."""
        return os.path.join(self.directory, node)

    def disk(self, node: str, folder: str) -> str:
        """One of the folders (``disk_dirs``) of ``node``."""
        return os.path.join(self.directory, node, folder)

    def registry(self, node: str) -> str:
        """The registry of ``node`` as this machine sees it; works while the node's power is off, too."""
        return os.path.join(self.disk(node, "etc-supervisor"), "conf.d")

    def log(self, node: str, unit: str) -> str:
        """The log file of one unit of ``node``."""
        return os.path.join(self.disk(node, "log"), f"{unit}.log")


def lab_command(name: str) -> str:
    """How the lab called ``name`` is spoken to: as this program was called, so that the words can be typed as they are."""
    program = sys.argv[0] if sys.argv[0].endswith("ha-agent") else "ha-agent"
    shown = os.path.basename(program) if shutil.which("ha-agent") == os.path.abspath(program) else program
    return f"{shown} lab" + ("" if name == DEFAULT_NAME else f" --name {name}")
