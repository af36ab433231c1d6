"""The lines that a process writes to its log: nobody else's text can forge one, and nobody can fill the log with them."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable

from ha_agent.core.visible import visible

BURST = 20
"""So many lines of one kind are written in ``WINDOW_S``; the others are counted."""

WINDOW_S = 60.0
MOST_KINDS = 1000


class LineFormatter(logging.Formatter):
    """One line an entry, with what others have written made visible; the lines of a traceback are set in."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line itself."""
        record.message = visible(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: object) -> str:
        """The traceback that follows it."""
        return "\n".join(f"  {visible(line)}" for line in super().formatException(ei).splitlines())  # type: ignore[arg-type]


class SparingFilter(logging.Filter):
    """Lets ``BURST`` lines of one kind through in ``WINDOW_S``; the first line after that says how many were left out.

    A kind is what one place of the code says, whatever the words in it. ``clock``: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._seen: dict[tuple[str, int], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether ``record`` is written."""
        kind, now = (record.pathname, record.lineno), self._clock()
        began, count = self._seen.get(kind, (now, 0))
        if now - began >= WINDOW_S:
            if count > BURST:
                record.msg, record.args = f"{record.getMessage()} ({count - BURST} more like this were left out)", ()
            began, count = now, 0
        if kind not in self._seen and len(self._seen) >= MOST_KINDS:
            self._seen.clear()
        self._seen[kind] = began, count + 1
        return count < BURST


def set_up_log(level: str) -> None:
    """Has everything from ``level`` on written to standard error; at "debug" nothing is left out."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter("%(levelname)s %(name)s: %(message)s"))
    if level != "debug":
        handler.addFilter(SparingFilter())
    logging.basicConfig(handlers=[handler], level=level.upper())
