"""Says once what "hold" of ``takeover.on_interlock_timeout`` means, where a configuration may rely on what it once meant.

Up to version 0.1 a machine that answered nothing counted as off with "hold", too, where there was no ``fence_command``.
"""

from __future__ import annotations

import contextlib
import logging

from ha_agent.adapters.files import read_note, remove_note, write_atomic
from ha_agent.core.reasons import reason_of
from ha_agent.core.settings import TakeoverSettings
from ha_agent.daemon.events import Events

log = logging.getLogger(__name__)

TEXT = (
    'takeover.on_interlock_timeout is "hold", without a fence_command: nothing is started without the other node\'s word, '
    "also when its machine is off, until it is back or somebody says so (ha-agent takeover --peer-is-off). "
    'Until version 0.1 a machine that answers nothing counted as off; who wants that writes "hold-if-alive"'
)


def tell_what_hold_means(limits: TakeoverSettings, note: str, events: Events) -> None:
    """Has the history, and the journal as a warning, say it where it applies and was not said yet.

    ``note``: the file that remembers that. Where it cannot be written it is said again at the next start. Another policy
    forgets it.
    """
    if limits.on_interlock_timeout != "hold" or limits.fence_command:
        with contextlib.suppress(OSError):
            remove_note(note)
        return
    if read_note(note) is not None:
        return
    events.add("hold-notice", TEXT)
    try:
        write_atomic(note, b"told\n")
    except OSError as error:
        log.error("%s cannot be written: %s", note, reason_of(error, note))
