"""``ha-agent keepalived write``: this node's keepalived.conf as agent.toml says, with what others have put there."""

from __future__ import annotations

import os

from ha_agent.adapters.files import read_or_none, write_atomic
from ha_agent.adapters.keepalived_conf import HOOK_PATH, KEEPALIVED_CONF, plan_conf
from ha_agent.adapters.setup_changes import SAVED
from ha_agent.adapters.terminal import complain
from ha_agent.core.reasons import reason_of
from ha_agent.core.settings import Settings
from ha_agent.core.words import Exit


def write_conf(settings: Settings, hook: str | None, path: str = KEEPALIVED_CONF) -> int:
    """Writes what is due; what a file held before is kept beside it. Returns the exit status."""
    if os.geteuid() != 0:
        complain("this must run as root: it writes keepalived's configuration")
        return Exit.USAGE
    try:
        plan = plan_conf(settings, path, hook or HOOK_PATH)
        if plan.refused:
            for text in plan.refused:
                complain(text)
            return Exit.REFUSED
        written = [name for name, text in plan.files.items() if _write(name, text)]
    except (OSError, ValueError) as error:
        complain(f"{path}: {reason_of(error, path)}")
        return Exit.FAILED
    print(f"written: {', '.join(written)}; systemctl reload keepalived" if written else f"{path} is as it must be")
    return Exit.DONE


def _write(path: str, text: str) -> bool:
    content, before = text.encode("utf-8", "surrogateescape"), read_or_none(path)
    if content == before:
        return False
    mode = 0o644
    if before is not None:
        mode = os.stat(path).st_mode & 0o777
        saved = path + SAVED
        # The oldest one is what an undo puts back.
        write_atomic(saved if not os.path.exists(saved) else f"{path}.before-write", before, mode)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    write_atomic(path, content, mode)
    return True
