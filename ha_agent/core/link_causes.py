"""What a link's problem tells of its cause, and what to do about it where it is read. Pure.

The texts are those of ssh (OpenSSH 9.2 and 10.0), of ``ha-agent-peer`` and of the agent's own link.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cause:
    """``marks``: what in a problem's text tells this cause. ``{node}`` in the texts is the silent node's name."""

    key: str
    marks: tuple[str, ...]
    remedy: str


_CAUSES: tuple[Cause, ...] = (
    Cause("agent-down", ("agent is not running", "peer.sock"), "at {node}: systemctl start ha-agent"),
    Cause("key-refused", ("Permission denied",), "ha-agent doctor says which key {node} does not take"),
    Cause(
        "host-key",
        ("Host key verification failed", "REMOTE HOST IDENTIFICATION"),
        "is that {node}? ha-agent pair {node} --host-key shows both fingerprints, and pins the new one",
    ),
    Cause("version", ("protocol version",), "install the same ha-agent on both nodes"),
    Cause("sshd-down", ("Connection refused",), "at {node}: systemctl start ssh"),
    Cause(
        "off",
        ("No route to host", "Network is unreachable", "timed out", "no answer", "silent for"),
        "is {node} up, and the network to it?",
    ),
)
UNKNOWN = Cause("unknown", (), "is {node} up, and its agent? ha-agent doctor tells the faults apart")


def find_cause(problem: str) -> Cause:
    """The cause that ``problem`` names."""
    return next((cause for cause in _CAUSES if any(mark in problem for mark in cause.marks)), UNKNOWN)
