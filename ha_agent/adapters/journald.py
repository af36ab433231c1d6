"""Lines for systemd's journal with fields of their own, by its native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL)."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Mapping

from ha_agent.core.visible import visible

SOCKET = "/run/systemd/journal/socket"


def encode_entry(fields: Mapping[str, str]) -> bytes:
    """One entry as the journal takes it: values with newlines go with their length."""
    parts = []
    for name, value in fields.items():
        data = value.encode("utf-8", "surrogateescape")
        if b"\n" in data:
            parts.append(name.encode("ascii") + b"\n" + struct.pack("<Q", len(data)) + data + b"\n")
        else:
            parts.append(name.encode("ascii") + b"=" + data + b"\n")
    return b"".join(parts)


def runs_under_journal() -> bool:
    """Whether standard error goes to the journal (systemd.exec(5), JOURNAL_STREAM), so that entries belong beside it."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        info = os.fstat(2)
    except OSError:
        return False
    return (str(info.st_dev), str(info.st_ino)) == (device, inode)


class JournalSink:
    """Sends entries while there is a journal; what it does not take at once is dropped: nobody waits for a log."""

    def __init__(self, path: str = SOCKET) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)

    def send(self, message: str, priority: int, **fields: str) -> bool:
        """Sends one entry; says whether it was taken. ``priority`` as in syslog(3)."""
        texts = {name: visible(text, "\n") for name, text in {"MESSAGE": message, **fields}.items()}
        entry = {**texts, "PRIORITY": str(priority), "SYSLOG_IDENTIFIER": "ha-agent"}
        try:
            self._socket.sendto(encode_entry(entry), self._path)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Closes the socket. Nothing can be sent afterwards."""
        self._socket.close()
