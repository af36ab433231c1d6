"""The replication of payload in words, for the screen and for its command. Pure."""

from __future__ import annotations

import time

from ha_agent.core.node_json import PayloadSyncJson
from ha_agent.core.payload_status import STUCK, PayloadState
from ha_agent.core.width import count_text

UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def say_payload(payload: PayloadSyncJson) -> str:
    """One node's payload in a few words: in sync, how much is missing, and when it was equal for the last time."""
    state, at = payload["state"], payload["at"]
    last = f", last {time.strftime('%H:%M', time.localtime(at))}" if at else ""
    if state == PayloadState.IN_SYNC:
        return f"in sync, {count_text(payload['files'], 'file')}{last}"
    if state == PayloadState.RECEIVING:
        return f"receives{last}"
    if state == PayloadState.UNREACHABLE:
        return f"not sent: no link{last}"
    if state == PayloadState.COPYING:
        return f"copying, {say_bytes(payload['bytes_done'])} of {say_bytes(payload['bytes_all'])}"
    word = state if state in STUCK else "pending"
    count = f"{count_text(payload['pending'], 'file')} " if payload["pending"] else ""
    return f"{count}{word}{last}"


def say_bytes(count: float) -> str:
    """A size as people read it."""
    for unit in UNITS[:-1]:
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} {UNITS[-1]}"
