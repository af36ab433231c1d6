"""What becomes of a failure that no command expected: its traceback goes to the log, the operator gets a reference."""

from __future__ import annotations

import os
import secrets
import syslog
import tempfile
import traceback
from collections.abc import Sequence


def log_traceback(program: str, words: Sequence[str]) -> str:
    """Puts the traceback of the exception being handled into the system's log, or into a file; says where it is."""
    reference = secrets.token_hex(4)
    text = f"reference {reference}, {program} {' '.join(words)}\n{traceback.format_exc()}"
    if os.path.exists("/dev/log"):
        syslog.openlog("ha-agent")
        for line in text.splitlines():
            syslog.syslog(syslog.LOG_ERR, line)
        return f"the log has it under reference {reference} (journalctl -t ha-agent)"
    path = os.path.join(tempfile.gettempdir(), f"ha-agent-{reference}.log")
    with open(path, "x", encoding="utf-8") as file:
        file.write(text)
    return f"what happened is in {path}"
