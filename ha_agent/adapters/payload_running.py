"""What processes of this machine run from: their file, their directory, the paths of their command lines (proc(5))."""

from __future__ import annotations

import os

from ha_agent.core.payload_plan import Running

MOST_BYTES = 65536


def read_running() -> list[Running]:
    """Every process that can be looked at. One that ends meanwhile is left out."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and (process := _read(name)) is not None:
            found.append(process)
    return found


def _read(pid: str) -> Running | None:
    try:
        exe, cwd = os.readlink(f"/proc/{pid}/exe"), os.readlink(f"/proc/{pid}/cwd")
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = os.fsdecode(file.read(MOST_BYTES)).split("\0")
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as comm:
            name = comm.read().strip()
    except OSError:
        # A kernel thread has no file, a process that ends has nothing.
        return None
    return Running(int(pid), name, exe, cwd, tuple(word for word in words if word.startswith("/")))
