"""What a lab is like from outside, for who wants to know whether a test has left it as it was.

A picture has what outlasts a test: files, accounts, processes, networks, mounts. What the agents say of themselves is asked
beside it (``find_faults``). It looks at /proc and the disks, changes nothing, and starts one command a node and one at the
switch.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import os
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from ha_agent.lab.control import Lab, LabFailed
from ha_agent.lab.layout import NODES
from tests.lab_support import Pair

TREES = ("/etc", "/tmp", "/root", "/var/tmp", "/var/lib/redis", "/run/lab", "/mnt/opt/new", "/mnt/srv/new", "/mnt/home/new")
"""What a node can be changed in; of what lies over the machine's own folders, what was written there."""

NAMES_ONLY = ("/var/log", "/run")
"""Where it counts only what is there: the daemons write into their files all the time."""

OWN = ("/run/ha-agent", "/run/lab/home/.cache", "/var/log/supervisor")
"""What the agent itself keeps, and says; the logs of programs, which have another name at each start."""

WORLD = "ip -o addr; ip -o link; nft list tables; cat /proc/mounts"
AT_SWITCH = "switch"
SWITCH = "ip -o link; nft list tables"


@dataclass(frozen=True, slots=True)
class Picture:
    """What was seen, by place: each a name and what it is."""

    seen: dict[str, str]

    def list_differences(self, other: Picture) -> list[str]:
        """What is otherwise in ``other``."""
        return sorted(name for name in self.seen.keys() | other.seen.keys() if self.seen.get(name) != other.seen.get(name))


def take_picture(lab: Lab) -> Picture:
    """Looks at both nodes and the switch. Raises ``LabFailed`` where one of them is not up."""
    seen: dict[str, str] = {AT_SWITCH: read_switch(lab)}
    for node in NODES:
        pid = lab.init_pid(node)
        seen[f"{node}: world"] = lab.run(node, "sh", "-c", WORLD)
        seen |= {f"{node}:{name}": text for tree in TREES for name, text in _files(pid, tree, names_only=False)}
        seen |= {f"{node}:{name}": text for tree in NAMES_ONLY for name, text in _files(pid, tree, names_only=True)}
        count = collections.Counter(_processes(f"/proc/{pid}/root", lab.unit(node, "show", "ha-agent")))
        seen |= {f"{node} runs {line}": str(number) for line, number in count.items()}
    return Picture(seen)


def read_switch(lab: Lab) -> str:
    """The ports of the switch and its rules. Raises ``LabFailed`` and ``subprocess.CalledProcessError``."""
    return subprocess.run(lab.words_in_switch("sh", "-c", SWITCH), capture_output=True, text=True, check=True).stdout


def _files(pid: int, tree: str, *, names_only: bool) -> Iterator[tuple[str, str]]:
    """What lies below ``tree`` for process ``pid``; of what the agent keeps, and of the machine itself, the place alone."""
    root, closed = f"/proc/{pid}/root", {*OWN, *_mounts_of_the_machine(pid)}
    for folder, folders, names in os.walk(root + tree):
        inside = folder.removeprefix(root)
        for name in (*folders, *names):
            with contextlib.suppress(FileNotFoundError):
                yield f"{inside}/{name}", "" if names_only else _look_at(os.path.join(folder, name))
        folders[:] = [name for name in folders if f"{inside}/{name}" not in closed]


def _mounts_of_the_machine(pid: int) -> set[str]:
    """Where a node sees this project, its lab and its Python, which may lie below /tmp or /root."""
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        places = {line.split()[4] for line in file}
    return {place for place in places if place.startswith(("/tmp/", "/root/", "/var/tmp/"))}


def _look_at(path: str) -> str:
    """A file's kind, mode, owner and content."""
    status = os.lstat(path)
    said = f"{status.st_mode:o} {status.st_uid}:{status.st_gid}"
    if stat.S_ISLNK(status.st_mode):
        return f"{said} {os.readlink(path)}"
    if not stat.S_ISREG(status.st_mode):
        return said
    with open(path, "rb") as file:
        return f"{said} {hashlib.sha256(file.read()).hexdigest()}"


def _processes(root: str, units: dict[str, int | None]) -> Iterator[str]:
    """The command lines of a node's processes, but for those that sshd and the agent started; units that are down."""
    yield from (f"{name} is down" for name, pid in units.items() if not pid)
    parents: dict[int, int] = {}
    for pid in map(int, filter(str.isdigit, os.listdir(f"{root}/proc"))):
        with contextlib.suppress(OSError), open(f"{root}/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
            parents[pid] = int(fields[1])
            if fields[0] == b"T":
                yield f"{pid} is stopped"
    own = {units.get("ha-agent"), units.get("sshd")}
    for pid in parents:
        if not own & set(_line_of(parents, pid)):
            with contextlib.suppress(OSError), open(f"{root}/proc/{pid}/cmdline", "rb") as file:
                yield file.read().replace(b"\0", b" ").decode("utf-8", "replace")


def _line_of(parents: dict[int, int], pid: int) -> Iterator[int]:
    """``pid``, its parent, and so on."""
    while pid:
        yield pid
        pid = parents.get(pid, 0)


def find_faults(pair: Pair) -> list[str]:
    """What is not as with a pair that is well and whose node-a is active, by the word of both agents; none: it is well."""
    faults = []
    for node, role in zip(NODES, ("active", "standby"), strict=True):
        try:
            own = pair.lab.status(node)
            lasting = pair.lab.ask(node, {"op": "alert-list", "count": 0})["lasting"]
        except LabFailed as error:
            return [str(error)]
        document = pair.document(node)
        faults += [f"{node} is {own['role']}"] if own["role"] != role else []
        faults += [f"{node}: {row['code']}" for row in (document or {"problems": [{"code": "no status"}]})["problems"]]
        faults += [f"{node}: alert {row['code']}" for row in lasting]
        for name in ("maintenance", "standby_order", "drill", "step", "held"):
            faults += [f"{node}: {name}"] if own.get(name) else []
        wanted = ("MASTER", True) if role == "active" else ("BACKUP", False)
        faults += [f"{node}: {own['vrrp_state']}"] if (own["vrrp_state"], own["vip"]) != wanted else []
        faults += [f"{node}: parked confs"] if own["registry"]["parked"] else []
    return faults
