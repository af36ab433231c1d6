"""Tells the service manager how the daemon is (sd_notify(3)); does nothing where there is none."""

from __future__ import annotations

import os
import socket


def notify_manager(message: str) -> None:
    """Sends ``message`` ("READY=1", ...) to $NOTIFY_SOCKET. Never raises: a manager that is gone is not an error."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.sendto(message.encode(), address)
        except OSError:
            return


def watchdog_interval_s() -> float | None:
    """Half of the time after which the manager takes the daemon for hung; None where it does not watch."""
    usec = os.environ.get("WATCHDOG_USEC", "")
    pid = os.environ.get("WATCHDOG_PID", "")
    if not usec.isdigit() or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 1e6 / 2
