"""Control groups (cgroups(7), version 2) of a lab: one for each node, and below it one for each unit, as systemd has them.

A node sees its own group as the root of ``/sys/fs/cgroup``. Where this machine's hierarchy is absent or read-only nothing is
made, and the lab works without. A group lives on without processes until somebody removes it: whoever ``make``s one does.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import time

ROOT = "/sys/fs/cgroup"
"""Where a node, and the sandbox, has its hierarchy."""

REMOVE_LIMIT_S = 5.0

ENTER = 'echo $$ >"$0/cgroup.procs" && exec "$@"'
"""A shell's script: enters the group $0 and becomes the command that follows."""

KEEP = """\
read -r _
n=0
while [ -d "$0" ] && [ $n -lt 200 ]; do
    echo 1 >"$0/cgroup.kill"
    find "$0" -depth -type d -exec rmdir {} ';'
    n=$((n + 1))
    sleep 0.05
done
"""
"""A shell's script: waits for the end of its input, then ends what is in the group $0 and removes it."""


def find_hierarchy() -> str | None:
    """Where the hierarchy is mounted here, so that groups can be made in it; None where it is not, or is read-only."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        rows = [line.split() for line in file]
    for row in rows:
        kind = row[row.index("-") + 1]
        if kind == "cgroup2" and row[3] == "/" and "rw" in row[5].split(",") and os.access(row[4], os.W_OK):
            return row[4]
    return None


def make(kind: str) -> str | None:
    """Makes a group at the top of the hierarchy and returns its directory; None where that cannot be.

    Its name begins with ``kind`` and is nobody else's: others may share the hierarchy.
    """
    if (root := find_hierarchy()) is None:
        return None
    path = os.path.join(root, f"{kind}.{secrets.token_hex(4)}")
    try:
        os.mkdir(path)
    except OSError:
        return None
    return path


def enter_words(path: str | None) -> list[str]:
    """The command that becomes the one after it within the group ``path``, which is that one's root; none for None."""
    return ["/bin/sh", "-c", ENTER, path] if path else []


def members(path: str) -> list[int]:
    """Every process of the group and of those below it."""
    found: list[int] = []
    for folder, _, _ in os.walk(path):
        with contextlib.suppress(OSError), open(os.path.join(folder, "cgroup.procs"), encoding="ascii") as file:
            found += map(int, file.read().split())
    return found


def send(path: str, number: int) -> None:
    """Signals every process of the group, SIGKILL in one act where the kernel can (cgroup.kill, Linux 5.14)."""
    if number == signal.SIGKILL:
        with contextlib.suppress(OSError), open(os.path.join(path, "cgroup.kill"), "w", encoding="ascii") as file:
            file.write("1")
            return
    for pid in members(path):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def remove(path: str) -> None:
    """Ends what is in the group, and removes it with those below it. Idempotent."""
    deadline = time.monotonic() + REMOVE_LIMIT_S
    while os.path.isdir(path) and time.monotonic() < deadline:
        send(path, signal.SIGKILL)
        for folder, _, _ in os.walk(path, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
        if os.path.isdir(path):
            time.sleep(0.01)
