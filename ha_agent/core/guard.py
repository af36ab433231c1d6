"""Which calls of supervisord's XML-RPC interface pass through the agent, and for whom. Pure.

Everything that is not named here is refused: ``shutdown`` and ``restart`` would end all programs behind the pair's back,
``startAllProcesses`` and ``stopAllProcesses`` would leave the registry saying something else than what runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

MAX_LOG_BYTES = 1024 * 1024
"""Largest part of a log that one call reads."""


class Access(StrEnum):
    """What somebody may do."""

    READ = "read"
    OPERATE = "operate"


READ_ONLY = "read-only access: changes need membership of group ha-agent"
"""The answer to everybody who may only look and asks for more."""

READING = frozenset(
    {
        "getAPIVersion",
        "getVersion",
        "getSupervisorVersion",
        "getIdentification",
        "getState",
        "getPID",
        "getProcessInfo",
        "getAllProcessInfo",
        "getAllConfigInfo",
        "readLog",
        "readMainLog",
        "readProcessLog",
        "readProcessStdoutLog",
        "readProcessStderrLog",
        "tailProcessLog",
        "tailProcessStdoutLog",
        "tailProcessStderrLog",
    }
)
OPERATING = frozenset(
    {
        "reloadConfig",
        "clearProcessLog",
        "clearProcessLogs",
        "clearAllProcessLogs",
        "sendProcessStdin",
        "signalProcess",
        "signalProcessGroup",
        "signalAllProcesses",
    }
)
"""Harmless to what the registry says, anywhere."""

LOCAL_ONLY = frozenset({"startProcess", "startProcessGroup", "stopProcess", "stopProcessGroup"})
"""For programs that are not of the registry; for the registry's there are commands that keep it true."""

LOADING = frozenset({"addProcessGroup", "removeProcessGroup"})

FOR_ALL = frozenset({"signalAllProcesses"})
"""Calls that reach the alert listener, too."""

_REASONS = {
    "shutdown": "it would end every program, and supervisord with them",
    "restart": "it would restart every program",
}
_INSTEAD = {
    "shutdown": "to stop a program: supzcli stop NAME; to move all to the other node: ha-agent switchover",
    "restart": "to load changed confs: supzcli update; to restart a program: supzcli restart NAME",
}


def refusal_of(
    method: str,
    params: Sequence[Any],
    access: Access,
    *,
    is_root: bool,
    is_registry: bool,
    is_active: bool,
    is_listener: bool,
    is_own: bool,
) -> str | None:
    """Why ``method`` is refused, or None where it passes.

    ``is_registry``: its first parameter names something of the registry, or would take in something of it. ``is_listener``:
    it names the alert listener, whose word counts as supervisord's. ``is_own``: it names a process that runs as the user
    who asks.
    """
    if method in READING:
        sizes = [p for p in params if isinstance(p, int) and not isinstance(p, bool)]
        if method.startswith("tail") and len(sizes) == 2:
            sizes = sizes[1:]
        elif len(sizes) == 2 and sizes[0] >= 0:
            sizes = sizes[1:] if sizes[1] else [MAX_LOG_BYTES + 1]
        too_long = method.startswith(("read", "tail")) and any(abs(size) > MAX_LOG_BYTES for size in sizes)
        return f"at most {MAX_LOG_BYTES} bytes of a log at once" if too_long else None
    if method not in OPERATING | LOCAL_ONLY | LOADING:
        why = _REASONS.get(method, "not a call that the guard lets through")
        return f"{method} is refused: {why}" + (f"; {_INSTEAD[method]}" if method in _INSTEAD else "")
    if access is not Access.OPERATE:
        return READ_ONLY
    if not is_root and (is_listener or method in FOR_ALL):
        return f"{method} is refused: the alert listener is root's"
    if not is_root and method == "sendProcessStdin" and not is_own:
        return f"{method} is refused: what a program reads may be written by root and by the user that it runs as"
    if method in LOCAL_ONLY and is_registry:
        return f"{method} is refused: the program is of the registry; supzcli start, stop and restart keep that true"
    if method == "addProcessGroup" and is_registry and not is_active:
        return "this node is not active: nothing of the registry is loaded here"
    return None
